//! One consistent picture of the cluster by lists: version, namespaces, nodes, pods.
//!
//! With rights on the whole cluster this is one request a kind. Where only Roles exist, or where a few namespaces are
//! named, each namespace is read by itself. Which of both applies is found out by the server's answers. A namespace that
//! could not be read is left out and named; when the namespaces or all pods could not be read there is no snapshot.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;

use super::connect::Connection;
use super::intake::Tables;
use super::list::{self, Intake, ListStyle, Mark, Patience};
use super::progress::Progress;
use super::request::{Accept, Api, RequestError};
use super::snapshot::{ClusterSnapshot, Namespace, Node, NodeAccess, Pod, Unreadable};
use super::wire::{self, Wire};
use crate::config::kubernetes::KubernetesConfig;
use crate::config::metadata::MetadataCollection;
use crate::config::selectors::NamespaceSelectors;

/// Up to this many included namespaces are always read one by one: less to read than the whole cluster.
const MOST_BY_NAME: usize = 20;

/// Requests at the same time when namespaces are read one by one. More gain nothing: each costs the API server its
/// share of a list of everything.
const MOST_AT_ONCE: usize = 8;

/// Longest wait for `/version`, which a report can do without.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// After so many namespaces in a row that could not be reached, the rest is not tried.
const MOST_UNREACHABLE: u32 = 5;

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

/// The namespaces to read, and what is known of those that are not.
#[derive(Debug, Default)]
struct Selection {
    namespaces: Vec<Namespace>,
    missing: Vec<String>,
    unreadable: Vec<Unreadable>,
    complete_list: bool,
    /// Pods are read one namespace at a time.
    by_name: bool,
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
    let ((nodes, node_access), pods) = tokio::join!(collector.nodes(), collector.pods(&selection));
    let (pods, unreadable) = pods?;
    selection.unreadable.extend(unreadable);
    let tables = collector.tables.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Collection {
        missing: selection.missing,
        complete_list: selection.complete_list,
        snapshot: assemble(ClusterSnapshot {
            taken_at,
            server_version,
            strings: tables.strings,
            images: tables.images,
            namespaces: selection.namespaces,
            nodes,
            pods,
            unreadable: selection.unreadable,
            node_access,
        }),
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
        Ok(()) => intake.objects,
        Err(_) => Vec::new(),
    }
}

struct Collector<'a> {
    api: Api<'a>,
    settings: CollectSettings<'a>,
    style: ListStyle,
    tables: Mutex<Tables>,
}

impl Collector<'_> {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn select(&self) -> Result<Selection, CollectError> {
        let selectors = self.settings.selectors;
        let excluded = |name: &str| selectors.exclude.iter().any(|pattern| pattern.matches(name));
        let mut seen = HashSet::new();
        let included = selectors.include.iter().filter(|name| !excluded(name) && seen.insert(name.as_str()));
        let included: Vec<&str> = included.map(String::as_str).collect();
        if !selectors.include.is_empty() && included.len() <= MOST_BY_NAME {
            return self.select_by_name(&included).await;
        }
        let listed = self.namespaces().await;
        match listed {
            Ok(namespaces) if selectors.include.is_empty() => {
                let namespaces = self.keep(namespaces, |name| !excluded(name));
                Ok(Selection { namespaces, complete_list: true, ..Selection::default() })
            }
            Ok(namespaces) => {
                let wanted: HashSet<&str> = included.iter().copied().collect();
                let namespaces = self.keep(namespaces, |name| wanted.contains(name));
                let tables = self.tables();
                let found: HashSet<&str> =
                    namespaces.iter().map(|namespace| tables.strings.get(namespace.name)).collect();
                let missing: Vec<String> =
                    included.iter().filter(|name| !found.contains(*name)).map(|name| (*name).to_owned()).collect();
                if namespaces.is_empty() {
                    return Err(CollectError::NoneExists(missing));
                }
                Ok(Selection { namespaces: namespaces.clone(), missing, complete_list: true, ..Selection::default() })
            }
            Err(error) if !selectors.include.is_empty() && concerns_one_request(&error) => {
                self.select_by_name(&included).await
            }
            Err(error) => Err(CollectError::Namespaces(error.into())),
        }
    }

    /// Marks the namespaces that are read and drops the others.
    fn keep(&self, mut namespaces: Vec<Namespace>, wanted: impl Fn(&str) -> bool) -> Vec<Namespace> {
        let mut tables = self.tables();
        namespaces.retain(|namespace| wanted(tables.strings.get(namespace.name)));
        for namespace in &namespaces {
            tables.select(namespace.name);
        }
        namespaces
    }

    async fn select_by_name(&self, names: &[&str]) -> Result<Selection, CollectError> {
        let mut selection = Selection { by_name: true, ..Selection::default() };
        let asked = futures_util::stream::iter(names.iter().copied())
            .map(|name| async move { (name, self.namespace(name).await) });
        let mut answers = asked.buffered(self.concurrency());
        while let Some((name, answer)) = answers.next().await {
            match answer {
                Ok(namespace) => selection.namespaces.push(namespace),
                Err(RequestError::NotFound(_)) => selection.missing.push(name.to_owned()),
                Err(error) => selection.unreadable.push(unreadable(name, "`get` on namespaces", &error)),
            }
        }
        drop(answers);
        if selection.namespaces.is_empty() && selection.unreadable.is_empty() && !names.is_empty() {
            return Err(CollectError::NoneExists(selection.missing));
        }
        selection.namespaces = self.keep(selection.namespaces, |_| true);
        Ok(selection)
    }

    async fn namespace(&self, name: &str) -> Result<Namespace, RequestError> {
        if !is_dns_label(name) {
            return Err(RequestError::NotFound("it is not a possible name of a namespace".to_owned()));
        }
        let path = format!("/api/v1/namespaces/{name}");
        let mut patience = Patience::new(3);
        loop {
            match self.api.get_object::<wire::Namespace>(&path).await {
                Ok(object) => return Ok(self.tables().namespace(&object)),
                Err(error) => patience.wait_after(error, &path).await?,
            }
        }
    }

    async fn namespaces(&self) -> Result<Vec<Namespace>, RequestError> {
        let mut intake = Kept::new(|object: wire::Namespace| Some(self.tables().namespace(&object)));
        list::list(&self.api, "/api/v1/namespaces", self.style, &mut intake).await?;
        Ok(intake.objects)
    }

    async fn nodes(&self) -> (Vec<Node>, NodeAccess) {
        let mut intake = Kept::new(|object: wire::Node| Some(self.tables().node(object)));
        match list::list(&self.api, "/api/v1/nodes", self.style, &mut intake).await {
            Ok(()) => (intake.objects, NodeAccess::Read),
            Err(RequestError::Forbidden(_)) => (Vec::new(), NodeAccess::Forbidden),
            Err(error) => (Vec::new(), NodeAccess::Failed(error.to_string())),
        }
    }

    async fn pods(&self, selection: &Selection) -> Result<(Vec<Pod>, Vec<Unreadable>), CollectError> {
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

    async fn pods_by_namespace(&self, namespaces: &[Namespace]) -> (Vec<Pod>, Vec<Unreadable>) {
        let names: Vec<String> = {
            let tables = self.tables();
            namespaces.iter().map(|namespace| tables.strings.get(namespace.name).to_owned()).collect()
        };
        let unreachable_in_a_row = AtomicU32::new(0);
        let (mut pods, mut unreadable_ones) = (Vec::new(), Vec::new());
        let reads = futures_util::stream::iter(names).map(|name| {
            let unreachable_in_a_row = &unreachable_in_a_row;
            async move {
                let read = if unreachable_in_a_row.load(Relaxed) >= MOST_UNREACHABLE {
                    Err(RequestError::Unreachable("not tried, others before it were not reached".to_owned()))
                } else {
                    self.pods_at(&format!("/api/v1/namespaces/{name}/pods")).await
                };
                match &read {
                    Err(error) if !concerns_one_request(error) => unreachable_in_a_row.fetch_add(1, Relaxed),
                    _ => unreachable_in_a_row.swap(0, Relaxed),
                };
                (name, read)
            }
        });
        let mut reads = reads.buffer_unordered(self.concurrency());
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

    async fn pods_at(&self, path: &str) -> Result<(Vec<Pod>, Vec<Unreadable>), RequestError> {
        let mut intake = Kept::new(|object: wire::Pod| {
            self.api.progress.pod();
            self.tables().pod(object)
        });
        list::list(&self.api, path, self.style, &mut intake).await?;
        Ok((intake.objects, intake.undecodable))
    }

    fn concurrency(&self) -> usize {
        self.settings.kubernetes.max_concurrent_requests.clamp(1, MOST_AT_ONCE)
    }
}

/// Takes objects of one kind as `reduce` leaves them.
struct Kept<O, K, F: FnMut(O) -> Option<K>> {
    objects: Vec<K>,
    undecodable: Vec<Unreadable>,
    reduce: F,
    object: std::marker::PhantomData<O>,
}

impl<O, K, F: FnMut(O) -> Option<K>> Kept<O, K, F> {
    fn new(reduce: F) -> Self {
        Self { objects: Vec::new(), undecodable: Vec::new(), reduce, object: std::marker::PhantomData }
    }
}

impl<O: Wire, K, F: FnMut(O) -> Option<K>> Intake for Kept<O, K, F> {
    type Object = O;

    fn take(&mut self, object: O) {
        self.objects.extend((self.reduce)(object));
    }

    fn undecodable(&mut self, namespace: &str, reason: String) -> Result<(), RequestError> {
        if namespace.is_empty() {
            return Err(RequestError::Malformed(reason));
        }
        self.undecodable.push(Unreadable { namespace: namespace.to_owned(), reason });
        Ok(())
    }

    fn mark(&self) -> Mark {
        Mark { objects: self.objects.len(), undecodable: self.undecodable.len() }
    }

    fn take_back(&mut self, mark: Mark) {
        self.objects.truncate(mark.objects);
        self.undecodable.truncate(mark.undecodable);
    }
}

impl From<RequestError> for Unread {
    fn from(error: RequestError) -> Self {
        Self { reason: error.to_string(), forbidden: matches!(error, RequestError::Forbidden(_)) }
    }
}

/// The server's version, or nothing: a report can do without, so it is asked for once and not for long.
async fn version(api: &Api<'_>) -> Option<serde_json::Map<String, serde_json::Value>> {
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
fn streams_lists(version: Option<&serde_json::Map<String, serde_json::Value>>) -> bool {
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
fn concerns_one_request(error: &RequestError) -> bool {
    !matches!(
        error,
        RequestError::Unreachable(_)
            | RequestError::TimedOut(_)
            | RequestError::Unauthorized(_)
            | RequestError::NotKubernetes(_)
    )
}

/// `right` is what would have allowed it, as a Role says it.
fn unreadable(namespace: &str, right: &str, error: &RequestError) -> Unreadable {
    let hint = match error {
        RequestError::Forbidden(_) => format!("; grant {right} in this namespace"),
        _ => String::new(),
    };
    Unreadable { namespace: namespace.to_owned(), reason: format!("{error}{hint}") }
}

/// RFC 1123 label, at most 63 characters: what a namespace may be called.
fn is_dns_label(name: &str) -> bool {
    let inside = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(inside) && !name.starts_with('-') && !name.ends_with('-')
}

/// Puts everything in its fixed order, each object once, and takes out what belongs to unreadable namespaces.
fn assemble(mut snapshot: ClusterSnapshot) -> ClusterSnapshot {
    let strings = &snapshot.strings;
    let mut reasons = BTreeMap::new();
    for one in std::mem::take(&mut snapshot.unreadable) {
        reasons.entry(one.namespace).or_insert(one.reason);
    }
    let is_unreadable: HashSet<_> = reasons.keys().filter_map(|name| strings.find(name)).collect();
    sort_unique(&mut snapshot.namespaces, |namespace| (strings.get(namespace.name), ""));
    snapshot.namespaces.retain(|namespace| !is_unreadable.contains(&namespace.name));
    sort_unique(&mut snapshot.nodes, |node| (strings.get(node.name), ""));
    sort_unique(&mut snapshot.pods, |pod| (strings.get(pod.namespace), strings.get(pod.name)));
    snapshot.pods.retain(|pod| !is_unreadable.contains(&pod.namespace));
    snapshot.unreadable = reasons.into_iter().map(|(namespace, reason)| Unreadable { namespace, reason }).collect();
    snapshot
}

/// Sorts by key and keeps the first of equals. Servers send lists in order, so this mostly only looks.
fn sort_unique<'s, T>(items: &mut Vec<T>, key: impl Fn(&T) -> (&'s str, &'s str)) {
    if !items.is_sorted_by(|a, b| key(a) <= key(b)) {
        items.sort_by(|a, b| key(a).cmp(&key(b)));
    }
    items.dedup_by(|b, a| key(a) == key(b));
    items.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn names_that_cannot_be_namespaces_are_never_asked_for() {
        for (name, possible) in [("shop", true), ("a", true), ("0-9", true), ("", false), ("a/b", false)] {
            assert_eq!(is_dns_label(name), possible, "{name}");
        }
        for impossible in ["-a", "a-", "A", "a.b", "..", &"x".repeat(64)] {
            assert!(!is_dns_label(impossible), "{impossible}");
        }
    }
}
