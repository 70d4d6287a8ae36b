//! One consistent picture of the cluster by lists: version, namespaces, nodes, pods.
//!
//! With rights on the whole cluster this is one request a kind. Where only Roles exist, or where a few namespaces are
//! named, each namespace is read by itself. Which of both applies is found out by the server's answers. A namespace that
//! could not be read is left out and named; when the namespaces or all pods could not be read there is no snapshot.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;

use super::connect::Connection;
use super::intake::{Kept, Tables};
use super::list::{self, ListStyle};
use super::progress::Progress;
use super::request::{Accept, Api, RequestError};
use super::select::Selection;
use super::snapshot::{ClusterSnapshot, Namespace, Node, NodeAccess, Pod, Unreadable};
use super::wire;
use crate::config::kubernetes::KubernetesConfig;
use crate::config::metadata::MetadataCollection;
use crate::config::selectors::NamespaceSelectors;

/// Requests at the same time when namespaces are read one by one. More gain nothing: each costs the API server its
/// share of a list of everything.
pub(crate) const MOST_AT_ONCE: usize = 8;

/// Longest wait for `/version`, which a report can do without.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// After so many namespaces in a row that failed for a reason that all have in common, the rest is not tried.
const MOST_IN_A_ROW: u32 = 5;

/// What is collected, and how.
#[derive(Debug, Clone, Copy)]
pub struct CollectSettings<'a> {
    /// How the API is read.
    pub kubernetes: &'a KubernetesConfig,
    /// Which namespaces.
    pub selectors: &'a NamespaceSelectors,
    /// Which labels and annotations.
    pub metadata: &'a MetadataCollection,
    /// Key of the label that routes namespaces to accounts.
    pub account_label_key: Option<&'a str>,
}

/// What was collected.
#[derive(Debug)]
pub struct Collection {
    /// The cluster at one instant.
    pub snapshot: ClusterSnapshot,
    /// Names in `namespace-selectors.include` that do not exist.
    pub missing: Vec<String>,
    /// Whether all namespaces of the cluster were listed, so that none left means that none is there.
    pub complete_list: bool,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The namespaces are unknown.
    #[error(
        "the namespaces could not be listed, so nothing is reported: {0}{hint}",
        hint = if matches!(.0, Unread { forbidden: true, .. }) {
            ". Grant `list` on namespaces, or name those you may read in namespace-selectors.include"
        } else {
            ""
        }
    )]
    Namespaces(Unread),
    /// The pods are unknown.
    #[error("the pods could not be listed, so nothing is reported: {0}")]
    Pods(Unread),
    /// None of the named namespaces exists.
    #[error("none of the namespaces in namespace-selectors.include exists, so nothing is reported: {}", .0.join(", "))]
    NoneExists(Vec<String>),
}

/// Why something was not read.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Unread {
    reason: String,
    forbidden: bool,
}

impl CollectError {
    /// Whether rights are missing.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Namespaces(unread) | Self::Pods(unread) => unread.forbidden,
            Self::NoneExists(_) => false,
        }
    }
}

/// Collects one snapshot.
pub async fn collect(
    connection: &Connection,
    settings: CollectSettings<'_>,
    progress: &Progress,
) -> Result<Collection, CollectError> {
    let api = Api { connection, timeout: settings.kubernetes.request_timeout, progress };
    let server_version = version(&api).await;
    let collector = Collector {
        style: ListStyle { whole: streams_lists(server_version.as_ref()), page_size: settings.kubernetes.page_size },
        tables: Mutex::new(Tables::new(settings.metadata, settings.account_label_key)),
        api,
        settings,
    };
    let mut selection = collector.select().await?;
    progress.selected(selection.namespaces.len());
    let taken_at = Timestamp::now();
    let ((nodes, node_access), pods) = if collector.concurrency() == 1 {
        (collector.nodes().await, collector.pods(&selection).await)
    } else {
        tokio::join!(collector.nodes(), collector.pods(&selection))
    };
    let (pods, unreadable) = pods?;
    selection.unreadable.extend(unreadable);
    let tables = collector.tables.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Collection {
        missing: selection.missing,
        complete_list: selection.complete_list,
        snapshot: ClusterSnapshot {
            taken_at,
            server_version,
            strings: tables.strings.texts().clone(),
            images: tables.images,
            namespaces: selection.namespaces,
            nodes,
            pods,
            unreadable: selection.unreadable,
            node_access,
        }
        .in_order(),
    })
}

/// The names of all namespaces, for completion.
pub async fn namespace_names(connection: &Connection, timeout: Duration) -> Vec<String> {
    let progress = Progress::default();
    let api = Api { connection, timeout, progress: &progress };
    let name = |object: wire::Namespace| Some(wire::as_text(&object.metadata?.name).into_owned());
    let mut intake = Kept::new(name);
    let style = ListStyle { whole: false, page_size: 500 };
    match list::list(&api, "/api/v1/namespaces", style, &mut intake).await {
        Ok(_) => intake.objects,
        Err(_) => Vec::new(),
    }
}

pub(crate) struct Collector<'a> {
    pub(crate) api: Api<'a>,
    pub(crate) settings: CollectSettings<'a>,
    pub(crate) style: ListStyle,
    tables: Mutex<Tables>,
}

impl Collector<'_> {
    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn nodes(&self) -> (Vec<Node>, NodeAccess) {
        let mut intake = Kept::new(|object: wire::Node| Some(self.tables().node(object)));
        match list::list(&self.api, "/api/v1/nodes", self.style, &mut intake).await {
            Ok(_) => (intake.objects, NodeAccess::Read),
            Err(RequestError::Forbidden(_)) => (Vec::new(), NodeAccess::Forbidden),
            Err(error) => (Vec::new(), NodeAccess::Failed(error.to_string())),
        }
    }

    async fn pods(&self, selection: &Selection) -> Result<(Vec<Arc<Pod>>, Vec<Unreadable>), CollectError> {
        if !selection.by_name {
            match self.pods_at("/api/v1/pods").await {
                Ok(pods) => return Ok(pods),
                Err(RequestError::Forbidden(reason)) => {
                    tracing::debug!(reason, "pods of all namespaces may not be listed, reading one by one");
                }
                Err(error) => return Err(CollectError::Pods(error.into())),
            }
        }
        Ok(self.pods_by_namespace(&selection.namespaces).await)
    }

    async fn pods_by_namespace(&self, namespaces: &[Namespace]) -> (Vec<Arc<Pod>>, Vec<Unreadable>) {
        let names: Vec<String> = {
            let tables = self.tables();
            namespaces.iter().map(|namespace| tables.strings.get(namespace.name).to_owned()).collect()
        };
        let streak = Streak::default();
        let (mut pods, mut unreadable_ones) = (Vec::new(), Vec::new());
        let reads = futures_util::stream::iter(names).map(|name| {
            let streak = &streak;
            async move {
                let path = format!("/api/v1/namespaces/{name}/pods");
                (name, streak.unless_hopeless(self.pods_at(&path)).await)
            }
        });
        // One of the requests that may be sent at the same time is that for nodes.
        let mut reads = reads.buffer_unordered(self.concurrency().saturating_sub(1).max(1));
        while let Some((name, read)) = reads.next().await {
            match read {
                Ok((read, undecodable)) => {
                    pods.extend(read);
                    unreadable_ones.extend(undecodable);
                }
                Err(error) => unreadable_ones.push(unreadable(&name, "`list` on pods", &error)),
            }
        }
        (pods, unreadable_ones)
    }

    async fn pods_at(&self, path: &str) -> Result<(Vec<Arc<Pod>>, Vec<Unreadable>), RequestError> {
        let mut intake = Kept::new(|object: wire::Pod| {
            self.api.progress.pod();
            self.tables().pod(object).map(Arc::new)
        });
        list::list(&self.api, path, self.style, &mut intake).await?;
        let (pods, mut undecodable) = (intake.objects, intake.undecodable);
        undecodable.retain(|one| self.tables().has_selected(&one.namespace));
        Ok((pods, undecodable))
    }

    pub(crate) fn concurrency(&self) -> usize {
        self.settings.kubernetes.max_concurrent_requests.clamp(1, MOST_AT_ONCE)
    }
}

/// How many namespaces in a row failed for a reason that all have in common.
#[derive(Default)]
pub(crate) struct Streak {
    failures: AtomicU32,
}

impl Streak {
    /// Reads one of many namespaces, unless those before it failed in a row in a way that this one would too: each
    /// waits for its own timeouts and retries, and a cluster has thousands.
    pub(crate) async fn unless_hopeless<T>(
        &self,
        read: impl Future<Output = Result<T, RequestError>>,
    ) -> Result<T, RequestError> {
        if self.failures.load(Relaxed) >= MOST_IN_A_ROW {
            return Err(RequestError::NotTried);
        }
        let read = read.await;
        match &read {
            Err(error) if !concerns_one_request(error) || matches!(error, RequestError::Busy { .. }) => {
                self.failures.fetch_add(1, Relaxed)
            }
            _ => self.failures.swap(0, Relaxed),
        };
        read
    }
}

impl From<RequestError> for Unread {
    fn from(error: RequestError) -> Self {
        Self { reason: error.to_string(), forbidden: matches!(error, RequestError::Forbidden(_)) }
    }
}

/// The server's version, or nothing: a report can do without, so it is asked for once and not for long.
pub(crate) async fn version(api: &Api<'_>) -> Option<serde_json::Map<String, serde_json::Value>> {
    let read = async {
        let body = api.get("/version", Accept::Json).await?.whole().await?;
        serde_json::from_slice(&body).map_err(|error| RequestError::Malformed(error.to_string()))
    };
    match tokio::time::timeout(VERSION_TIMEOUT.min(api.timeout), read).await {
        Ok(Ok(version)) => Some(version),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the API server's version is unknown");
            None
        }
        Err(_) => None,
    }
}

/// Servers from 1.34 answer a whole list as a stream, from their cache (KEP-5116, KEP-2340); older ones, and those whose
/// version is unknown, would hold it in memory as one piece.
pub(crate) fn streams_lists(version: Option<&serde_json::Map<String, serde_json::Value>>) -> bool {
    let number = |key: &str| -> Option<u32> {
        let text = version?.get(key)?.as_str()?;
        // Some distributions write the minor version as `34+`.
        text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
    };
    match (number("major"), number("minor")) {
        (Some(major), Some(minor)) => (major, minor) >= (1, 34),
        _ => false,
    }
}

/// Whether another request may succeed although this one did not.
pub(crate) fn concerns_one_request(error: &RequestError) -> bool {
    !matches!(
        error,
        RequestError::Unreachable { .. }
            | RequestError::NotTried
            | RequestError::TimedOut(_)
            | RequestError::Unauthorized(_)
            | RequestError::NotKubernetes { .. }
    )
}

/// `right` is what would have allowed it, as a Role says it.
pub(crate) fn unreadable(namespace: &str, right: &str, error: &RequestError) -> Unreadable {
    let hint = match error {
        RequestError::Forbidden(_) => format!("; grant {right} in this namespace"),
        _ => String::new(),
    };
    Unreadable { namespace: namespace.to_owned(), reason: format!("{error}{hint}") }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use pretty_assertions::assert_eq;
    use testbed::cluster::Cluster;
    use testbed::cluster::pod::Pod as TestPod;
    use testbed::kubernetes::KubernetesApi;
    use testbed::kubernetes::access::User;
    use testbed::objects::{Kind, Object};
    use testbed::server::fault::{Answer, Requests};

    use super::*;
    use crate::config::{Environment, Overrides};

    /// Collects from `api` with one setting from the environment.
    async fn collected(api: &KubernetesApi, variable: &str, value: &str) -> Result<Collection, CollectError> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("kubeconfig"), api.kubeconfig(&User::named("reader"))).expect("written");
        let environment = Environment {
            variables: [(format!("ANCHORE_K8S_INVENTORY_{variable}"), value.to_owned())].into(),
            working_directory: folder.path().to_owned(),
            ..Environment::default()
        };
        let overrides = Overrides { kubeconfig: Some("kubeconfig".to_owned()), ..Overrides::default() };
        let config = crate::config::load(&overrides, &environment).expect("settings").config;
        let connection = Connection::open(&config.kubeconfig, &environment).await.expect("a client");
        let settings = CollectSettings {
            kubernetes: &config.kubernetes,
            selectors: &config.selectors,
            metadata: &config.metadata,
            account_label_key: None,
        };
        collect(&connection, settings, &Progress::default()).await
    }

    fn names(snapshot: &ClusterSnapshot) -> Vec<&str> {
        snapshot.namespaces.iter().map(|namespace| snapshot.strings.get(namespace.name)).collect()
    }

    #[tokio::test]
    async fn a_pod_that_does_not_decode_costs_nothing_where_its_namespace_is_not_wanted() {
        // Its metadata decodes, and its spec is a number.
        let mut damaged = vec![0x0a, 6];
        damaged.extend(b"\x1a\x04test");
        damaged.extend([0x10, 1]);
        let cluster = Cluster::new().namespace("shop").pod(TestPod::running("web")).namespace("test");
        let cluster = cluster.encoded(Kind::Pods, Object::from_bytes("test", "broken", damaged));
        let api = KubernetesApi::serving(&cluster).await.expect("a server");

        let without = collected(&api, "NAMESPACE_SELECTORS_EXCLUDE", "test").await.expect("a snapshot").snapshot;
        let with = collected(&api, "NAMESPACE_SELECTORS_EXCLUDE", "").await.expect("a snapshot").snapshot;

        assert_eq!((names(&without), without.unreadable.len()), (vec!["shop"], 0));
        assert_eq!((names(&with), with.unreadable[0].namespace.as_str()), (vec!["shop"], "test"));
    }

    #[tokio::test]
    async fn a_page_that_is_not_there_is_not_a_namespace_that_does_not_exist() {
        let api = KubernetesApi::serving(&Cluster::new().namespace("shop").namespace("test")).await.expect("a server");
        let page = Answer::status(404).html("404 page not found");
        api.inject(Requests::to("/api/v1/namespaces/test"), page);

        let collection = collected(&api, "NAMESPACE_SELECTORS_INCLUDE", "shop,test,no-such").await.expect("a snapshot");

        assert_eq!((names(&collection.snapshot), collection.missing), (vec!["shop"], vec!["no-such".to_owned()]));
        let [unreadable] = collection.snapshot.unreadable.as_slice() else { panic!("one namespace is unreadable") };
        assert!(unreadable.reason.contains("status 404, content type text/html"), "{}", unreadable.reason);
    }

    #[tokio::test]
    async fn what_fails_for_all_is_not_tried_for_each() {
        let busy = || RequestError::Busy { status: 429, message: String::new(), retry_after: None };
        let streak = Streak::default();
        for failure in [busy(), busy(), RequestError::Forbidden(String::new())] {
            let read = streak.unless_hopeless(ready(Err::<(), _>(failure.clone()))).await;
            assert_eq!(read, Err(failure));
        }
        for _ in 0..MOST_IN_A_ROW {
            assert_eq!(streak.unless_hopeless(ready(Err::<(), _>(busy()))).await, Err(busy()));
        }
        let not_tried = streak.unless_hopeless(async { panic!("it is tried") });
        assert_eq!(not_tried.await, Err::<(), _>(RequestError::NotTried));
    }

    fn version_of(major: &str, minor: &str) -> serde_json::Map<String, serde_json::Value> {
        let text = format!(r#"{{"major":"{major}","minor":"{minor}"}}"#);
        serde_json::from_str(&text).expect("valid")
    }

    #[test]
    fn lists_are_read_whole_from_servers_that_stream_them() {
        for (major, minor, whole) in
            [("1", "33", false), ("1", "34", true), ("1", "34+", true), ("2", "0", true), ("1", "", false)]
        {
            assert_eq!(streams_lists(Some(&version_of(major, minor))), whole, "{major}.{minor}");
        }
        assert!(!streams_lists(None));
    }
}
