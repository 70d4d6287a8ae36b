//! Which sources a state is made of: the cluster's own, those of single namespaces, or lists for each report.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::time::Instant;

use super::follow::Follower;
use super::picture::PictureFacts;
use super::sources::{Source, SourceKind, SourceState, SourceStatus};
use super::{NoPicture, ObserveSettings, Shared};
use crate::cluster::collect::{CollectError, CollectSettings, MOST_AT_ONCE, collect};
use crate::cluster::request::{Accept, RequestError};
use crate::cluster::select::{MOST_BY_NAME, is_dns_label};
use crate::cluster::snapshot::Unreadable;
use crate::cluster::wire;
use crate::config::periodic::CollectionMethod;

/// How a state is kept.
#[derive(Debug, Clone)]
pub(crate) enum Engine {
    /// All pods and all namespaces are watched.
    Cluster { pods: Arc<Source>, namespaces: Arc<Source> },
    /// The pods of each of a few namespaces are watched; the namespaces are asked for by name.
    Named { namespaces: Arc<[Named]> },
    /// Lists are read for each report: because that was asked for, or because rights leave nothing else.
    Lists { source: Arc<Source>, is_forced: bool },
}

/// One namespace that is read by itself.
#[derive(Debug)]
pub(crate) struct Named {
    name: String,
    pods: Source,
    object: Source,
}

type Facts = (Result<PictureFacts, NoPicture>, Option<Engine>);

impl Engine {
    pub(crate) fn of(settings: &ObserveSettings, silence: Duration) -> Self {
        let selectors = &settings.selectors;
        let included = selectors.include.iter().filter(|name| selectors.allow(name));
        let included: Vec<&String> = included.collect();
        if settings.method == CollectionMethod::Poll {
            return Self::lists(silence, false);
        }
        if !selectors.include.is_empty() && included.len() <= MOST_BY_NAME {
            let named = included.into_iter().map(|name| Named {
                pods: Source::new(SourceKind::Pods, Some(name), silence),
                object: Source::new(SourceKind::Namespaces, Some(name), silence),
                name: name.clone(),
            });
            return Self::Named { namespaces: named.collect() };
        }
        Self::cluster(silence)
    }

    fn cluster(silence: Duration) -> Self {
        Self::Cluster {
            pods: Arc::new(Source::new(SourceKind::Pods, None, silence)),
            namespaces: Arc::new(Source::new(SourceKind::Namespaces, None, silence)),
        }
    }

    fn lists(silence: Duration, is_forced: bool) -> Self {
        Self::Lists { source: Arc::new(Source::new(SourceKind::Pods, None, silence)), is_forced }
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cluster { pods: a, .. }, Self::Cluster { pods: b, .. })
            | (Self::Lists { source: a, .. }, Self::Lists { source: b, .. }) => Arc::ptr_eq(a, b),
            (Self::Named { namespaces: a }, Self::Named { namespaces: b }) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Follows the sources for ever, or gives what has to take the place of this. `None`: there is nothing to follow.
    pub(crate) async fn run(&self, shared: &Shared) -> Option<Self> {
        match self {
            Self::Cluster { pods, namespaces } => {
                let follower =
                    |source, kind, may_give_up| Follower { shared, source, kind, namespace: None, may_give_up };
                // Without the list of namespaces, pods can still be listed for those that are named.
                let is_named = !shared.settings.selectors.include.is_empty();
                let (pods, namespaces) =
                    (follower(pods, SourceKind::Pods, true), follower(namespaces, SourceKind::Namespaces, is_named));
                tokio::select! {
                    _ = pods.follow() => {}
                    _ = namespaces.follow() => {}
                }
                tracing::warn!(
                    "pods or namespaces of the whole cluster may not be listed, so each namespace is listed for each \
                     report, and what runs only between two reports is not seen; grant `list` and `watch` on pods and \
                     namespaces, or name up to {MOST_BY_NAME} namespaces in namespace-selectors.include"
                );
                Some(Self::lists(shared.limits.silence, true))
            }
            Self::Named { namespaces } => {
                // A name that no namespace can have is not asked for.
                let possible = namespaces.iter().filter(|named| is_dns_label(&named.name));
                join_all(possible.map(|named| follow_pods(shared, named))).await;
                None
            }
            Self::Lists { .. } => None,
        }
    }

    /// Waits until the state is complete, as far as rights go.
    pub(crate) async fn first_state(&self) {
        match self {
            Self::Cluster { pods, namespaces } => {
                pods.complete().await;
                namespaces.complete().await;
            }
            Self::Named { namespaces } => {
                let possible = namespaces.iter().filter(|named| is_dns_label(&named.name));
                join_all(possible.map(|named| named.pods.tried())).await;
            }
            Self::Lists { .. } => {}
        }
    }

    /// What a picture needs to know, with the state brought up to date where it is not watched.
    pub(crate) async fn facts(&self, shared: &Shared, taken_at: Timestamp, longest: Duration) -> Facts {
        match self {
            Self::Cluster { pods, namespaces } => {
                tokio::join!(pods.refresh(), namespaces.refresh());
                let confirmed =
                    [pods, namespaces].into_iter().try_for_each(|source| confirm(&source.status(), longest));
                (confirmed.and_then(|()| cluster_facts(shared, taken_at)), None)
            }
            Self::Named { namespaces } => (named_facts(shared, namespaces, taken_at, longest).await, None),
            Self::Lists { source, is_forced } => {
                if *is_forced && may_list_all(shared).await {
                    tracing::info!("the whole cluster may be listed now, so it is watched");
                    let next = Self::cluster(shared.limits.silence);
                    return (list_facts(shared, source, taken_at).await, Some(next));
                }
                (list_facts(shared, source, taken_at).await, None)
            }
        }
    }

    /// Whether nodes have to be listed beside the sources.
    pub(crate) fn lists_nodes(&self) -> bool {
        !matches!(self, Self::Lists { .. })
    }

    pub(crate) fn statuses(&self) -> Vec<SourceStatus> {
        match self {
            Self::Cluster { pods, namespaces } => vec![pods.status(), namespaces.status()],
            Self::Named { namespaces } => {
                namespaces.iter().flat_map(|named| [named.pods.status(), named.object.status()]).collect()
            }
            Self::Lists { source, .. } => vec![source.status()],
        }
    }
}

async fn follow_pods(shared: &Shared, named: &Named) {
    let (source, namespace) = (&named.pods, Some(named.name.as_str()));
    Follower { shared, source, kind: SourceKind::Pods, namespace, may_give_up: false }.follow().await;
}

fn cluster_facts(shared: &Shared, taken_at: Timestamp) -> Result<PictureFacts, NoPicture> {
    let include = &shared.settings.selectors.include;
    let allowed = include.iter().filter(|name| shared.settings.selectors.allow(name));
    let missing: Vec<String> = {
        let store = shared.store();
        allowed.filter(|name| !store.has_namespace(name)).cloned().collect()
    };
    if !include.is_empty() && shared.store().counts()[0] == 0 {
        return Err(CollectError::NoneExists(missing).into());
    }
    Ok(PictureFacts { taken_at, server_version: None, unreadable: Vec::new(), missing, complete_list: true })
}

async fn named_facts(
    shared: &Shared,
    namespaces: &[Named],
    taken_at: Timestamp,
    longest: Duration,
) -> Result<PictureFacts, NoPicture> {
    // Futures, not a closure that makes them: only these can be told to be `Send`.
    let looks: Vec<_> = namespaces.iter().map(|named| async move { (named, look_at(shared, named).await) }).collect();
    let looks: Vec<_> = futures_util::stream::iter(looks).buffered(MOST_AT_ONCE).collect().await;
    join_all(namespaces.iter().map(|named| named.pods.refresh())).await;
    let (mut missing, mut unreadable_ones) = (Vec::new(), Vec::new());
    for (named, exists) in looks {
        if !exists {
            missing.push(named.name.clone());
            continue;
        }
        for source in [&named.object, &named.pods] {
            if let Err(error) = confirm(&source.status(), longest) {
                unreadable_ones.push(Unreadable { namespace: named.name.clone(), reason: error.to_string() });
                break;
            }
        }
    }
    if missing.len() == namespaces.len() && !namespaces.is_empty() {
        return Err(CollectError::NoneExists(missing).into());
    }
    if let Some(first) = unreadable_ones.first()
        && missing.len() + unreadable_ones.len() == namespaces.len()
    {
        let Unreadable { namespace, reason } = first.clone();
        return Err(NoPicture::NothingReadable { namespace, reason });
    }
    Ok(PictureFacts { taken_at, server_version: None, unreadable: unreadable_ones, missing, complete_list: false })
}

/// Looks at a namespace by its name. `false`: it does not exist.
async fn look_at(shared: &Shared, named: &Named) -> bool {
    if !is_dns_label(&named.name) {
        return false;
    }
    let began = Instant::now();
    let api = shared.api();
    match api.get_object::<wire::Namespace>(&format!("/api/v1/namespaces/{}", named.name)).await {
        Ok(namespace) => {
            shared.store().namespace_is(&namespace, None);
            named.object.listed(began);
            true
        }
        Err(RequestError::NotFound(_)) => {
            shared.store().namespace_is_missing(&named.name);
            false
        }
        Err(error) => {
            let told = match error {
                RequestError::Forbidden(message) => {
                    RequestError::Forbidden(format!("{message}; grant `get` on namespaces in this namespace"))
                }
                error => error,
            };
            named.object.failed(&told);
            true
        }
    }
}

async fn list_facts(shared: &Shared, source: &Source, taken_at: Timestamp) -> Result<PictureFacts, NoPicture> {
    let settings = CollectSettings {
        kubernetes: &shared.settings.kubernetes,
        selectors: &shared.settings.selectors,
        metadata: &shared.settings.metadata,
        account_label_key: shared.settings.account_label_key.as_deref(),
    };
    let began = Instant::now();
    let collection = match collect(&shared.connection, settings, &shared.progress).await {
        Ok(collection) => collection,
        Err(error) => {
            source.failed_because(error.to_string(), error.is_refusal());
            return Err(error.into());
        }
    };
    shared.store().absorb(&collection);
    let snapshot = collection.snapshot;
    if let (true, Some(first)) = (snapshot.namespaces.is_empty(), snapshot.unreadable.first()) {
        let Unreadable { namespace, reason } = first.clone();
        return Err(NoPicture::NothingReadable { namespace, reason });
    }
    source.listed(began);
    Ok(PictureFacts {
        taken_at,
        server_version: snapshot.server_version,
        unreadable: snapshot.unreadable,
        missing: collection.missing,
        complete_list: collection.complete_list,
    })
}

/// Whether the rights are there that were missing.
async fn may_list_all(shared: &Shared) -> bool {
    let api = shared.api();
    for path in ["/api/v1/pods?limit=1", "/api/v1/namespaces?limit=1"] {
        if api.get(path, Accept::Protobuf).await.is_err() {
            return false;
        }
    }
    true
}

/// Whether a source was confirmed lately.
fn confirm(status: &SourceStatus, longest: Duration) -> Result<(), NoPicture> {
    let reason = match &status.state {
        SourceState::Syncing(reason) => reason.clone(),
        SourceState::Synced => None,
        SourceState::Stale { reason, .. } | SourceState::Blind { reason, .. } => Some(reason.clone()),
    };
    let source_name = status.name.clone();
    let Some(confirmed) = status.confirmed else { return Err(NoPicture::NeverComplete { source_name, reason }) };
    let age = confirmed.elapsed();
    if age <= longest {
        return Ok(());
    }
    let reason = reason.unwrap_or_else(|| "the API server is silent".to_owned());
    Err(NoPicture::Unconfirmed { source_name, age, reason })
}
