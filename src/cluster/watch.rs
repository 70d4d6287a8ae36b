//! The cluster's state in memory: a complete list, then every change as it happens.
//!
//! Each source (the pods, the namespaces, or those of single namespaces where rights or settings say so) is followed by
//! itself. A picture of the state is given only while its sources are confirmed: an old state under a new time would
//! bring back what is gone. What ran between two pictures is in the next one, also when it is gone by then.

mod carried;
mod compact;
mod delays;
mod departure;
mod engine;
mod follow;
mod former;
mod frames;
mod listing;
mod nodes;
mod picture;
mod sources;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use self::engine::Engine;
use self::nodes::NodeList;
pub use self::picture::Picture;
use self::picture::ServerVersion;
pub use self::sources::{SourceKind, SourceState, SourceStatus};
use self::store::{Store, StoreRules};
use super::collect::{CollectError, streams_lists, version};
use super::connect::Connection;
use super::list::ListStyle;
use super::progress::{Progress, RequestOutcome};
use super::request::Api;
use crate::config::kubernetes::KubernetesConfig;
use crate::config::metadata::MetadataCollection;
use crate::config::periodic::CollectionMethod;
use crate::config::selectors::NamespaceSelectors;

/// What is observed, and how.
#[derive(Debug, Clone)]
pub struct ObserveSettings {
    /// Watch, or list for each report.
    pub method: CollectionMethod,
    /// How the API is read.
    pub kubernetes: KubernetesConfig,
    /// Which namespaces.
    pub selectors: NamespaceSelectors,
    /// Which labels and annotations.
    pub metadata: MetadataCollection,
    /// Key of the label that routes namespaces to accounts.
    pub account_label_key: Option<String>,
    /// `ignore-not-running` is off, so that containers of finished pods are reported.
    pub reports_finished: bool,
}

/// Bounds on time. Tests have others.
#[derive(Debug, Clone, Copy)]
pub struct WatchLimits {
    /// A watch without a byte for so long is given up: it is opened again where it was.
    pub silence: Duration,
    /// Nodes are listed no more often than this.
    pub nodes: Duration,
    /// The first wait after a failure, which doubles to thirty times that.
    pub first_wait: Duration,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self { silence: Duration::from_secs(90), nodes: Duration::from_mins(5), first_wait: Duration::from_secs(1) }
    }
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum NoPicture {
    /// A needed source was never complete.
    #[error("{source_name} could not be read yet{}", reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    NeverComplete {
        /// The source.
        source_name: String,
        /// Why the last attempt failed, if one did.
        reason: Option<String>,
    },
    /// A needed source was not confirmed for longer than one polling interval.
    #[error("{source_name} could not be confirmed for {} s: {reason}", age.as_secs())]
    Unconfirmed {
        /// The source.
        source_name: String,
        /// For how long.
        age: Duration,
        /// Why.
        reason: String,
    },
    /// None of the selected namespaces could be read.
    #[error("no namespace could be read; the first reason, of {namespace}: {reason}")]
    NothingReadable {
        /// One of them.
        namespace: String,
        /// Why.
        reason: String,
    },
    /// None of the named namespaces exists, or the lists that the picture is made of failed.
    #[error(transparent)]
    Collect(#[from] CollectError),
}

/// Counters of what was done.
#[derive(Debug, Default)]
pub struct ObserverStats {
    lists: AtomicU64,
    relists: AtomicU64,
    watches: AtomicU64,
    events: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObserverCounts {
    /// Lists of pods and namespaces that were begun.
    pub lists: u64,
    /// Of those, how many because a watch could not go on.
    pub relists: u64,
    /// Watches opened.
    pub watches: u64,
    /// Events received, bookmarks included.
    pub events: u64,
    /// Bytes received from the API server.
    pub bytes: u64,
    /// Namespaces, pods, containers and nodes held.
    pub held: [usize; 4],
    /// Pods carried because they ran since the last accepted report.
    pub carried: usize,
    /// Carried pods given up for want of room.
    pub carried_dropped: u64,
}

/// What all that read have in common.
pub(crate) struct Shared {
    connection: Arc<Connection>,
    settings: ObserveSettings,
    limits: WatchLimits,
    progress: Progress,
    stats: ObserverStats,
    store: Mutex<Store>,
    server_version: Mutex<Option<ServerVersion>>,
}

/// Observes a cluster.
pub struct Observer {
    shared: Arc<Shared>,
    engine: watch::Sender<Engine>,
    nodes: tokio::sync::Mutex<NodeList>,
}

impl Shared {
    fn api(&self) -> Api<'_> {
        let timeout = self.settings.kubernetes.request_timeout;
        Api { connection: &self.connection, timeout, progress: &self.progress }
    }

    /// The values behind these locks are whole at any time, so a panic elsewhere does not spoil them.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn server_version(&self) -> Option<ServerVersion> {
        self.server_version.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for the server's version while that is not known.
    async fn learn_version(&self, api: &Api<'_>) {
        if self.server_version().is_none() {
            self.renew_version(api).await;
        }
    }

    /// Asks for the server's version; the last known one stays when there is no answer.
    async fn renew_version(&self, api: &Api<'_>) {
        if let Some(version) = version(api).await {
            *self.server_version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
        }
    }

    fn style(&self) -> ListStyle {
        ListStyle {
            whole: streams_lists(self.server_version().as_ref()),
            page_size: self.settings.kubernetes.page_size,
        }
    }
}

impl Observer {
    /// Observes the cluster of `connection` from [`Observer::run`] on.
    pub fn new(connection: Arc<Connection>, settings: ObserveSettings, limits: WatchLimits) -> Self {
        let store = Store::new(StoreRules {
            metadata: settings.metadata.clone(),
            account_label_key: settings.account_label_key.clone(),
            selectors: settings.selectors.clone(),
            reports_finished: settings.reports_finished,
        });
        let engine = Engine::of(&settings, limits.silence);
        let shared = Shared {
            connection,
            settings,
            limits,
            progress: Progress::default(),
            stats: ObserverStats::default(),
            store: Mutex::new(store),
            server_version: Mutex::new(None),
        };
        let nodes = tokio::sync::Mutex::new(NodeList::default());
        Self { shared: Arc::new(shared), engine: watch::channel(engine).0, nodes }
    }

    /// Observes. Never ends.
    pub async fn run(&self) {
        loop {
            let engine = self.engine.borrow().clone();
            match engine.run(&self.shared).await {
                Some(next) => {
                    self.engine.send_replace(next);
                }
                None => self.engine_changed(&engine).await,
            }
        }
    }

    /// Waits until the first state is complete, as far as rights go.
    pub async fn first_state(&self) {
        loop {
            let engine = self.engine.borrow().clone();
            tokio::select! {
                () = engine.first_state() => return,
                () = self.engine_changed(&engine) => {}
            }
        }
    }

    /// The cluster now. Sources that are not watched are listed first. Those that have not been confirmed for longer
    /// than `longest_unconfirmed` fail the picture, or cost it their own namespace where each is read by itself.
    pub async fn picture(&self, taken_at: Timestamp, longest_unconfirmed: Duration) -> Result<Picture, NoPicture> {
        let (engine, (facts, next)) = loop {
            let engine = self.engine.borrow().clone();
            tokio::select! {
                biased;
                facts = engine.facts(&self.shared, taken_at, longest_unconfirmed) => break (engine, facts),
                // Nobody follows the sources any more that were asked.
                () = self.engine_changed(&engine) => {}
            }
        };
        if let Some(next) = next {
            self.engine.send_replace(next);
        }
        let mut facts = facts?;
        if engine.lists_nodes() {
            self.nodes.lock().await.refresh(&self.shared, longest_unconfirmed).await;
            facts.server_version = self.shared.server_version();
        }
        Ok(self.shared.store().picture(facts))
    }

    /// The sources now.
    pub fn statuses(&self) -> Vec<SourceStatus> {
        self.engine.borrow().statuses()
    }

    /// Whether each namespace is a source by itself, and left out by itself when it cannot be read.
    pub fn reads_by_namespace(&self) -> bool {
        matches!(*self.engine.borrow(), Engine::Named { .. })
    }

    /// Notes which accounts get a carried pod.
    pub fn route(&self, id: u64, accounts: &BTreeSet<Arc<str>>) {
        self.shared.store().carried().route(id, accounts);
    }

    /// `account` has accepted a report with these carried pods, or never will.
    pub fn settle(&self, account: &str, ids: &[u64]) {
        self.shared.store().carried().settle(account, ids);
    }

    /// The counters now.
    pub fn counts(&self) -> ObserverCounts {
        let stats = &self.shared.stats;
        let mut store = self.shared.store();
        ObserverCounts {
            lists: stats.lists.load(Relaxed),
            relists: stats.relists.load(Relaxed),
            watches: stats.watches.load(Relaxed),
            events: stats.events.load(Relaxed),
            bytes: self.shared.progress.counts().bytes,
            held: store.counts(),
            carried: store.carried().len(),
            carried_dropped: store.carried().dropped(),
        }
    }

    /// How many requests to the API server ended in each way.
    pub fn outcomes(&self) -> Vec<(RequestOutcome, u64)> {
        self.shared.progress.outcomes().collect()
    }

    async fn engine_changed(&self, engine: &Engine) {
        let mut changes = self.engine.subscribe();
        // The sender lives as long as this does.
        let _ = changes.wait_for(|now| !now.is(engine)).await;
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("connection", &self.shared.connection).finish_non_exhaustive()
    }
}
