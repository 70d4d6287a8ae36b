//! What lives in the cluster, and changes all the time: pods that come, run, are updated, finish and go, some within a
//! millisecond, and namespaces that come, go, and come again under their old names.

use std::sync::Arc;
use std::time::Duration;

use testbed::cluster::container::Container;
use testbed::cluster::namespace::Namespace;
use testbed::cluster::pod::Pod;
use testbed::fleet::random::Random;
use testbed::kubernetes::KubernetesApi;
use testbed::objects::Kind;
use tokio_util::sync::CancellationToken;

use crate::ledger::{Ledger, Place};
use crate::{Shared, lock};

/// The first ones stay, one of each account; the others come and go.
const NAMESPACES: [&str; 11] =
    ["a-shop", "b-web", "default", "a-pay", "b-api", "shared-infra", "shared-logs", "a-try", "b-try", "jobs", "tools"];
const LASTING: usize = 3;

/// Above so many pods, one goes for each that comes.
const MOST_PODS: usize = 150;

/// Longest pause between two changes.
const PAUSE_MS: usize = 60;

/// The cluster as it is at the moment.
pub(crate) struct Population {
    api: Arc<KubernetesApi>,
    ledger: Shared<Ledger>,
    random: Random,
    namespaces: Vec<LiveNamespace>,
    /// Numbers names.
    made: usize,
}

struct LiveNamespace {
    name: &'static str,
    uid: String,
    pods: Vec<LivePod>,
}

struct LivePod {
    place: Place,
    phase: Phase,
    node: &'static str,
    containers: Vec<LiveContainer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

struct LiveContainer {
    name: String,
    /// `repository:tag`.
    tag: String,
    digest: String,
    id: String,
    /// What the spec names already, and the kubelet has not started.
    wanted: Option<String>,
    /// Number of its life, while it runs.
    life: Option<usize>,
}

impl Population {
    pub(crate) fn new(api: Arc<KubernetesApi>, ledger: Shared<Ledger>, seed: u64) -> Self {
        let random = Random::new(seed, "population", 0);
        let mut population = Self { api, ledger, random, namespaces: Vec::new(), made: 0 };
        for name in NAMESPACES {
            population.make_namespace(name);
        }
        for _ in 0..MOST_PODS / 3 {
            let at = population.a_namespace();
            population.create(at, Phase::Running);
        }
        population
    }

    /// Changes until told to stop.
    pub(crate) async fn live(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.change().await;
            let pause = 5 + self.random.below(PAUSE_MS - 5) as u64;
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn change(&mut self) {
        let at = self.a_namespace();
        if self.namespaces.iter().map(|namespace| namespace.pods.len()).sum::<usize>() > MOST_PODS {
            self.delete(at);
        }
        match self.random.below(100) {
            0..20 => self.create(at, Phase::Running),
            20..30 => self.create(at, Phase::Pending),
            30..38 => self.start_pending(at),
            38..50 => self.flash(at).await,
            50..58 => self.update(at).await,
            58..62 => self.restart(at),
            62..66 => self.pull_anew(at),
            66..74 => self.finish(at),
            74..86 => self.delete(at),
            86..91 => self.replace_under_its_name(at),
            91..95 => self.recreate_namespace(at).await,
            95..98 => self.flash_namespace(at),
            _ => {
                for _ in 0..30 {
                    self.flash(at).await;
                }
            }
        }
    }

    fn a_namespace(&mut self) -> usize {
        self.random.below(self.namespaces.len())
    }

    /// A pod of a namespace that is in this phase.
    fn a_pod(&mut self, namespace: usize, phase: Phase) -> Option<usize> {
        let pods = &self.namespaces[namespace].pods;
        let fitting: Vec<usize> = (0..pods.len()).filter(|at| pods[*at].phase == phase).collect();
        fitting.get(self.random.below(fitting.len())).copied()
    }

    fn make_namespace(&mut self, name: &'static str) {
        let uid = self.random.uid();
        self.api.apply_namespace(Namespace::named(name).uid(&uid).label("made-by", "soak"));
        self.namespaces.push(LiveNamespace { name, uid, pods: Vec::new() });
    }

    fn create(&mut self, namespace: usize, phase: Phase) {
        self.made += 1;
        let name = format!("pod-{}", self.made);
        let pod = self.new_pod(namespace, name);
        self.namespaces[namespace].pods.push(pod);
        let at = self.namespaces[namespace].pods.len() - 1;
        if phase == Phase::Running {
            self.start(namespace, at);
        } else {
            self.apply(namespace, at);
        }
    }

    fn new_pod(&mut self, namespace: usize, name: String) -> LivePod {
        let count = 1 + self.random.below(3);
        let containers = (0..count).map(|index| self.new_container(format!("c{index}"))).collect();
        let LiveNamespace { name: namespace, uid, .. } = &self.namespaces[namespace];
        let (namespace, namespace_uid) = ((*namespace).to_owned(), uid.clone());
        let place = Place { namespace, namespace_uid, pod: name, pod_uid: self.random.uid() };
        LivePod { place, phase: Phase::Pending, node: self.random.pick(&["n1", "n2", "n3"]), containers }
    }

    fn new_container(&mut self, name: String) -> LiveContainer {
        self.made += 1;
        let tag = format!("registry.example/soak/app-{}:v{}", self.made, 1 + self.random.below(9));
        LiveContainer { name, tag, digest: self.a_digest(), id: self.a_container_id(), wanted: None, life: None }
    }

    fn a_digest(&mut self) -> String {
        format!("sha256:{}", self.random.hex64())
    }

    fn a_container_id(&mut self) -> String {
        format!("containerd://{}", self.random.hex64())
    }

    fn start_pending(&mut self, namespace: usize) {
        if let Some(at) = self.a_pod(namespace, Phase::Pending) {
            self.start(namespace, at);
        }
    }

    fn start(&mut self, namespace: usize, at: usize) {
        let pod = &mut self.namespaces[namespace].pods[at];
        pod.phase = Phase::Running;
        let mut ledger = lock(&self.ledger);
        for container in &mut pod.containers {
            container.life = Some(ledger.begins(&container.image(), &container.id, &pod.place));
        }
        drop(ledger);
        self.apply(namespace, at);
    }

    /// A pod that lives no longer than its news travel.
    async fn flash(&mut self, namespace: usize) {
        self.create(namespace, Phase::Running);
        if self.random.per_mille(500) {
            tokio::time::sleep(Duration::from_millis(1 + self.random.below(20) as u64)).await;
        }
        let last = self.namespaces[namespace].pods.len() - 1;
        self.remove(namespace, last);
    }

    /// Another image in a pod that goes on; half of the time the kubelet takes a while to pull it.
    async fn update(&mut self, namespace: usize) {
        let Some(at) = self.a_pod(namespace, Phase::Running) else { return };
        let index = self.random.below(self.namespaces[namespace].pods[at].containers.len());
        let name = self.namespaces[namespace].pods[at].containers[index].name.clone();
        let container = self.new_container(name);
        if self.random.per_mille(500) {
            let before = &mut self.namespaces[namespace].pods[at].containers[index];
            before.wanted = Some(container.tag.clone());
            lock(&self.ledger).mixes(&container.tag, &before.digest);
            let life = before.life.take();
            self.apply(namespace, at);
            if let Some(life) = life {
                lock(&self.ledger).has_ended(life, "the spec names another image");
            }
            tokio::time::sleep(Duration::from_millis(self.random.below(800) as u64)).await;
        }
        self.exchange((namespace, at, index), container, "another image took its place");
    }

    /// Another image under the same tag, in a pod that goes on.
    fn pull_anew(&mut self, namespace: usize) {
        let Some(at) = self.a_pod(namespace, Phase::Running) else { return };
        let index = self.random.below(self.namespaces[namespace].pods[at].containers.len());
        let (digest, id) = (self.a_digest(), self.a_container_id());
        let LiveContainer { name, tag, .. } = &self.namespaces[namespace].pods[at].containers[index];
        let container = LiveContainer { name: name.clone(), tag: tag.clone(), digest, id, wanted: None, life: None };
        self.exchange((namespace, at, index), container, "another image of its tag took its place");
    }

    fn exchange(&mut self, (namespace, at, index): (usize, usize, usize), mut container: LiveContainer, why: &str) {
        let pod = &mut self.namespaces[namespace].pods[at];
        container.life = Some(lock(&self.ledger).begins(&container.image(), &container.id, &pod.place));
        let before = std::mem::replace(&mut pod.containers[index], container);
        self.apply(namespace, at);
        if let Some(life) = before.life {
            lock(&self.ledger).has_ended(life, why);
        }
    }

    /// The same image in another container.
    fn restart(&mut self, namespace: usize) {
        let Some(at) = self.a_pod(namespace, Phase::Running) else { return };
        let id = self.a_container_id();
        let index = self.random.below(self.namespaces[namespace].pods[at].containers.len());
        let container = &mut self.namespaces[namespace].pods[at].containers[index];
        container.id = id;
        if let Some(life) = container.life {
            lock(&self.ledger).goes_on(life, &container.id);
        }
        self.apply(namespace, at);
    }

    fn finish(&mut self, namespace: usize) {
        let Some(at) = self.a_pod(namespace, Phase::Running) else { return };
        let phase = if self.random.per_mille(500) { Phase::Succeeded } else { Phase::Failed };
        self.namespaces[namespace].pods[at].phase = phase;
        self.apply(namespace, at);
        self.end(namespace, at, "finished");
    }

    fn delete(&mut self, namespace: usize) {
        let count = self.namespaces[namespace].pods.len();
        if count > 0 {
            let at = self.random.below(count);
            self.remove(namespace, at);
        }
    }

    fn remove(&mut self, namespace: usize, at: usize) {
        let place = &self.namespaces[namespace].pods[at].place;
        self.api.delete(Kind::Pods, &place.namespace, &place.pod);
        self.end(namespace, at, "deleted");
        self.namespaces[namespace].pods.swap_remove(at);
    }

    /// As a stateful set does.
    fn replace_under_its_name(&mut self, namespace: usize) {
        let Some(at) = self.a_pod(namespace, Phase::Running) else { return };
        let name = self.namespaces[namespace].pods[at].place.pod.clone();
        self.remove(namespace, at);
        let pod = self.new_pod(namespace, name);
        self.namespaces[namespace].pods.push(pod);
        let last = self.namespaces[namespace].pods.len() - 1;
        self.start(namespace, last);
    }

    /// Deletes a namespace and what is in it, and makes one of its name, at once or a little later.
    async fn recreate_namespace(&mut self, namespace: usize) {
        if namespace < LASTING {
            return;
        }
        let name = self.delete_namespace(namespace);
        if self.random.per_mille(500) {
            tokio::time::sleep(Duration::from_millis(self.random.below(300) as u64)).await;
        }
        self.make_namespace(name);
        let last = self.namespaces.len() - 1;
        self.create(last, Phase::Running);
    }

    /// A namespace that is gone as soon as something has run in it, and is there again.
    fn flash_namespace(&mut self, namespace: usize) {
        if namespace < LASTING {
            return;
        }
        let name = self.delete_namespace(namespace);
        for _ in 0..2 {
            self.make_namespace(name);
            let last = self.namespaces.len() - 1;
            self.create(last, Phase::Running);
            self.delete_namespace(last);
        }
        self.make_namespace(name);
    }

    fn delete_namespace(&mut self, namespace: usize) -> &'static str {
        while !self.namespaces[namespace].pods.is_empty() {
            self.remove(namespace, 0);
        }
        // The order matters for those that stay.
        let LiveNamespace { name, uid, .. } = self.namespaces.remove(namespace);
        self.api.delete(Kind::Namespaces, "", name);
        lock(&self.ledger).namespace_is_gone(name, &uid);
        name
    }

    fn apply(&self, namespace: usize, at: usize) {
        let pod = &self.namespaces[namespace].pods[at];
        self.api.apply_pod(&pod.place.namespace, &pod.as_in_the_cluster());
    }

    fn end(&mut self, namespace: usize, at: usize, why: &str) {
        let mut ledger = lock(&self.ledger);
        for container in &mut self.namespaces[namespace].pods[at].containers {
            if let Some(life) = container.life.take() {
                ledger.has_ended(life, why);
            }
        }
    }
}

impl LivePod {
    fn as_in_the_cluster(&self) -> Pod {
        let name = &self.place.pod;
        let pod = match self.phase {
            Phase::Pending => Pod::pending(name),
            Phase::Running => Pod::running(name),
            Phase::Succeeded => Pod::succeeded(name),
            Phase::Failed => Pod::failed(name),
        };
        let pod = pod.uid(&self.place.pod_uid).on(self.node).label("app", "soak");
        self.containers.iter().fold(pod, |pod, container| pod.container(container.as_in_the_cluster(self.phase)))
    }
}

impl LiveContainer {
    fn image(&self) -> String {
        format!("{}@{}", self.tag, self.digest)
    }

    fn as_in_the_cluster(&self, phase: Phase) -> Container {
        let container = Container::named(&self.name).image(self.wanted.as_ref().unwrap_or(&self.tag));
        if phase == Phase::Pending {
            return container;
        }
        let repository = self.tag.rsplit_once(':').map_or(self.tag.as_str(), |(repository, _)| repository);
        let container = container.status_image(&self.tag).image_id(&format!("{repository}@{}", self.digest));
        let container = container.container_id(&self.id);
        if phase == Phase::Running { container } else { container.terminated() }
    }
}
