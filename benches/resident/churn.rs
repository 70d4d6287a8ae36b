//! Pods that are replaced by others, straight in etcd: a thousand changes a second, where the API would allow a hundred.

use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::{TryStreamExt, stream};
use k8s_pb::api::core::v1::{Pod, PodStatus};
use k8s_pb::apimachinery::pkg::apis::meta::v1::Time;
use prost::Message;
use serde_json::json;
use testbed::objects::{Kind, Object, Objects};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Changes in the lives of the two pods that a replacement takes.
pub(crate) const CHANGES: usize = 8;

/// Replacements at the same time, where speed matters.
const IN_FLIGHT: usize = 8;

/// Writes to etcd's JSON gateway.
pub(crate) struct Churn<'a> {
    client: reqwest::Client,
    url: String,
    objects: &'a Objects,
    /// How many were replaced.
    next: usize,
}

/// One change in etcd: a key, and its new value if it is not deleted.
type Change = (String, Option<Vec<u8>>);

impl<'a> Churn<'a> {
    pub(crate) fn new(etcd_url: &str, objects: &'a Objects) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { client, url: format!("{etcd_url}/v3/kv/txn"), objects, next: 0 })
    }

    /// Replaces pods for so long, so many a second; how many.
    pub(crate) async fn run(&mut self, time: Duration, per_second: f64) -> anyhow::Result<usize> {
        let mut beats = interval(Duration::from_secs_f64(1.0 / per_second));
        beats.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let end = Instant::now() + time;
        let mut replaced = 0;
        while Instant::now() < end {
            beats.tick().await;
            self.replace_one().await?;
            replaced += 1;
        }
        Ok(replaced)
    }

    /// Replaces so many pods as fast as it goes.
    pub(crate) async fn replace(&mut self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            self.replace_one().await?;
        }
        Ok(())
    }

    async fn replace_one(&mut self) -> anyhow::Result<()> {
        let changes = lives(self.next_pod()?)?;
        for change in changes {
            self.write(&change).await?;
        }
        Ok(())
    }

    /// Replaces so many pods as fast as it goes; of their lives only the first and the last change is to be seen.
    pub(crate) async fn replace_fast(&mut self, count: usize) -> anyhow::Result<()> {
        let pods: Vec<&Object> = (0..count).map(|_| self.next_pod()).collect::<anyhow::Result<_>>()?;
        let this = &*self;
        let replacements = stream::iter(pods.into_iter().map(Ok)).map_ok(|pod| async move {
            let [.., running, _, deleted] = lives(pod)?;
            this.write(&running).await?;
            this.write(&deleted).await
        });
        replacements.try_buffer_unordered(IN_FLIGHT).try_collect().await
    }

    /// Deletes a pod that none takes the place of.
    pub(crate) async fn delete_one(&mut self) -> anyhow::Result<()> {
        let [.., deleted] = lives(self.next_pod()?)?;
        self.write(&deleted).await
    }

    fn next_pod(&mut self) -> anyhow::Result<&'a Object> {
        let pods = self.objects.of(Kind::Pods);
        // Spread over the whole cluster, each pod once.
        let at = self.next.wrapping_mul(7919).checked_rem(pods.len());
        self.next += 1;
        at.and_then(|at| pods.get(at)).context("there are no pods")
    }

    /// A transaction of its own for each change, as the API server does it: no two have the same version.
    async fn write(&self, (key, value): &Change) -> anyhow::Result<()> {
        let key = BASE64_STANDARD.encode(key);
        let operation = match value {
            Some(value) => json!({"requestPut": {"key": key, "value": BASE64_STANDARD.encode(value)}}),
            None => json!({"requestDeleteRange": {"key": key}}),
        };
        let body = json!({"success": [operation]}).to_string();
        let request = self.client.post(&self.url).header("content-type", "application/json").body(body);
        let answer = request.send().await?;
        if !answer.status().is_success() {
            bail!("etcd refused a change: {} {}", answer.status(), answer.text().await?);
        }
        Ok(())
    }
}

/// The end of a pod and the beginning of the one that takes its place, in the order in which they happen.
fn lives(object: &Object) -> anyhow::Result<[Change; CHANGES]> {
    let ran = Pod::decode(object.to_bytes())?;
    let (namespace, name) = (&*object.namespace, &*object.name);
    let pending = || Some(PodStatus { phase: Some("Pending".to_owned()), ..PodStatus::default() });

    let mut terminating = ran.clone();
    if let Some(meta) = &mut terminating.metadata {
        meta.deletion_timestamp = Some(Time { seconds: Some(1_772_600_767), ..Time::default() });
        meta.deletion_grace_period_seconds = Some(30);
    }
    let mut stopping = terminating.clone();
    if let Some(status) = &mut stopping.status {
        status.reason = Some("Stopping".to_owned());
    }
    let mut stopped = stopping.clone();
    if let Some(status) = &mut stopped.status {
        status.message = Some("all containers have ended".to_owned());
    }

    let new_name = format!("{name}-again");
    let mut running = ran;
    if let Some(meta) = &mut running.metadata {
        meta.name = Some(new_name.clone());
        meta.uid = Some(uuid::Uuid::new_v4().to_string());
        // As the pods of each run of a job have.
        let owner = uuid::Uuid::new_v4().to_string();
        meta.labels.insert("batch.kubernetes.io/controller-uid".to_owned(), owner);
    }
    for status in running.status.iter_mut().flat_map(|status| &mut status.container_statuses) {
        let (one, other) = (uuid::Uuid::new_v4().simple().to_string(), uuid::Uuid::new_v4().simple().to_string());
        status.container_id = Some(format!("containerd://{one}{other}"));
    }
    let mut scheduled = running.clone();
    scheduled.status = pending();
    let mut pulling = scheduled.clone();
    if let Some(status) = &mut pulling.status {
        status.message = Some("pulling".to_owned());
    }
    let mut created = scheduled.clone();
    if let Some(spec) = &mut created.spec {
        spec.node_name = Some(String::new());
    }
    Ok([
        put(namespace, &new_name, &created)?,
        put(namespace, &new_name, &scheduled)?,
        put(namespace, name, &terminating)?,
        put(namespace, &new_name, &pulling)?,
        put(namespace, name, &stopping)?,
        put(namespace, &new_name, &running)?,
        put(namespace, name, &stopped)?,
        (put(namespace, name, &stopped)?.0, None),
    ])
}

fn put(namespace: &str, name: &str, pod: &Pod) -> anyhow::Result<Change> {
    let objects = Objects::new([(Kind::Pods, Object::new(namespace, name, pod))]);
    let (key, value) = objects.etcd().next().context("there is one object")?;
    Ok((key, Some(value)))
}
