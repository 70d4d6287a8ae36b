//! What is known of each source of the state: whether it is complete, since when it is not confirmed, and why.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cluster::request::RequestError;

/// A watch that was just opened first brings what had happened before, or that this cannot be known any more: before it
/// had so much time for that, opening it confirms nothing.
const CATCHING_UP: Duration = Duration::from_secs(1);

/// What a source gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// Pods, of the cluster or of one namespace.
    Pods,
    /// Namespaces, or one of them.
    Namespaces,
}

/// Whether the state is what the source would say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceState {
    /// It was never complete; why the last attempt failed, if one did.
    Syncing(Option<String>),
    /// It is.
    Synced,
    /// It was, before the connection was lost or the server failed.
    Stale {
        /// Since when.
        since: Timestamp,
        /// Why.
        reason: String,
    },
    /// It was, before the server refused to say more (401, 403).
    Blind {
        /// Since when.
        since: Timestamp,
        /// Why.
        reason: String,
    },
}

/// A source at one moment.
#[derive(Debug, Clone)]
pub struct SourceStatus {
    /// What it is called in the log: `pods`, `pods of shop`.
    pub name: String,
    /// What it gives.
    pub kind: SourceKind,
    /// The namespace that it is of, if not of the cluster.
    pub namespace: Option<String>,
    /// Whether the state is what it would say.
    pub state: SourceState,
    /// Until when the state is confirmed; `None` before it was complete.
    pub confirmed: Option<Instant>,
    /// Whether a watch is open.
    pub is_watched: bool,
}

/// A source, told by who reads it and asked by who reports.
#[derive(Debug)]
pub(crate) struct Source {
    name: String,
    kind: SourceKind,
    namespace: Option<String>,
    /// A watch that was silent for so long confirms nothing.
    silence: Duration,
    facts: Mutex<Facts>,
    /// Changes whenever an attempt has ended or a list was asked for.
    news: watch::Sender<()>,
}

#[derive(Debug)]
struct Facts {
    state: SourceState,
    /// When the last complete list began.
    listed: Option<Instant>,
    /// When the last bytes of a watch came that were not a failure.
    heard: Option<Instant>,
    /// When the watch was opened that is open.
    opened: Option<Instant>,
    /// It cannot be watched, so it is listed when asked for.
    on_demand: bool,
    /// That was said.
    is_told: bool,
    demanded: u64,
    served: u64,
}

impl Source {
    pub(crate) fn new(kind: SourceKind, namespace: Option<&str>, silence: Duration) -> Self {
        let name = match (kind, namespace) {
            (SourceKind::Pods, None) => "pods".to_owned(),
            (SourceKind::Namespaces, None) => "namespaces".to_owned(),
            (SourceKind::Pods, Some(namespace)) => format!("pods of {namespace}"),
            (SourceKind::Namespaces, Some(namespace)) => format!("namespace {namespace}"),
        };
        let facts = Facts {
            state: SourceState::Syncing(None),
            listed: None,
            heard: None,
            opened: None,
            on_demand: false,
            is_told: false,
            demanded: 0,
            served: 0,
        };
        let namespace = namespace.map(str::to_owned);
        Self { name, kind, namespace, silence, facts: Mutex::new(facts), news: watch::channel(()).0 }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A list that began at `began` is complete.
    pub(crate) fn listed(&self, began: Instant) {
        self.change(|facts| {
            facts.listed = Some(began);
            facts.state = SourceState::Synced;
        });
    }

    /// A watch is open.
    pub(crate) fn opened(&self) {
        self.change(|facts| {
            facts.opened = Some(Instant::now());
            (facts.on_demand, facts.is_told) = (false, false);
            if facts.listed.is_some() {
                facts.state = SourceState::Synced;
            }
        });
    }

    /// Something came over the watch.
    pub(crate) fn heard(&self) {
        self.facts().heard = Some(Instant::now());
    }

    /// The watch ended.
    pub(crate) fn closed(&self) {
        self.facts().opened = None;
    }

    /// An attempt to read it failed. It is not listed on demand until that works: it is tried again anyway.
    pub(crate) fn failed(&self, error: &RequestError) {
        let is_refusal = matches!(error, RequestError::Unauthorized(_) | RequestError::Forbidden(_));
        self.failed_because(error.to_string(), is_refusal);
    }

    /// An attempt to read it failed for this reason, which is or is not that the server refused to say more.
    pub(crate) fn failed_because(&self, reason: String, is_refusal: bool) {
        self.change(|facts| {
            facts.on_demand = false;
            let since = match &facts.state {
                SourceState::Stale { since, .. } | SourceState::Blind { since, .. } => *since,
                _ => Timestamp::now(),
            };
            facts.state = match &facts.state {
                SourceState::Syncing(_) => SourceState::Syncing(Some(reason)),
                _ if is_refusal => SourceState::Blind { since, reason },
                _ => SourceState::Stale { since, reason },
            };
        });
    }

    /// It is listed when asked for from now on. Gives whether that is new, since a watch was open.
    pub(crate) fn goes_on_demand(&self) -> bool {
        let mut facts = self.facts();
        facts.on_demand = true;
        !std::mem::replace(&mut facts.is_told, true)
    }

    /// A list that was asked for has ended, either way.
    pub(crate) fn served(&self, demand: u64) {
        self.change(|facts| facts.served = demand);
    }

    /// Waits until a list is asked for, and gives the number of the demand.
    pub(crate) async fn demanded(&self) -> u64 {
        self.when(|facts| (facts.demanded > facts.served).then_some(facts.demanded)).await
    }

    /// Has it listed anew if it is not watched, and waits until that was tried.
    pub(crate) async fn refresh(&self) {
        let demand = {
            let mut facts = self.facts();
            if !facts.on_demand {
                return;
            }
            facts.demanded += 1;
            facts.demanded
        };
        self.news.send_replace(());
        self.when(|facts| (facts.served >= demand || !facts.on_demand).then_some(())).await;
    }

    /// Waits until it was complete once.
    pub(crate) async fn complete(&self) {
        self.when(|facts| facts.listed.map(|_| ())).await;
    }

    /// Waits until it was complete once, or could not be read once.
    pub(crate) async fn tried(&self) {
        self.when(|facts| (!matches!(facts.state, SourceState::Syncing(None))).then_some(())).await;
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.facts().listed.is_some()
    }

    pub(crate) fn status(&self) -> SourceStatus {
        let facts = self.facts();
        let is_heard = facts.opened.is_some_and(|opened| {
            let is_caught_up = opened.elapsed() >= CATCHING_UP;
            let heard = facts.heard.filter(|heard| *heard >= opened).or(is_caught_up.then_some(opened));
            heard.is_some_and(|heard| heard.elapsed() <= self.silence)
        });
        let confirmed = match facts.listed {
            None => None,
            Some(_) if is_heard => Some(Instant::now()),
            listed => listed.max(facts.heard),
        };
        SourceStatus {
            name: self.name.clone(),
            kind: self.kind,
            namespace: self.namespace.clone(),
            state: facts.state.clone(),
            confirmed,
            is_watched: facts.opened.is_some(),
        }
    }

    /// Changes what is known, says what that means when it means something else, and wakes who waits.
    fn change(&self, change: impl FnOnce(&mut Facts)) {
        let (before, after) = {
            let mut facts = self.facts();
            let before = facts.state.clone();
            change(&mut facts);
            (before, facts.state.clone())
        };
        self.news.send_replace(());
        if std::mem::discriminant(&before) == std::mem::discriminant(&after) && !is_first_failure(&before, &after) {
            return;
        }
        let source = self.name.as_str();
        match after {
            SourceState::Syncing(None) => {}
            SourceState::Syncing(Some(reason)) => {
                tracing::warn!(source, "not read yet, so nothing is reported; trying on: {reason}");
            }
            SourceState::Synced => tracing::info!(source, "complete and up to date"),
            SourceState::Stale { reason, .. } => {
                tracing::warn!(source, "not up to date any more, what was known is kept; trying on: {reason}");
            }
            SourceState::Blind { reason, .. } => {
                tracing::error!(source, "may not be read any more, what was known is kept; trying on: {reason}");
            }
        }
    }

    async fn when<T>(&self, ready: impl Fn(&Facts) -> Option<T>) -> T {
        let mut news = self.news.subscribe();
        loop {
            if let Some(value) = ready(&self.facts()) {
                return value;
            }
            if news.changed().await.is_err() {
                // The sender lives as long as this does.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The values behind this lock are whole at any time, so a panic elsewhere does not spoil them.
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_first_failure(before: &SourceState, after: &SourceState) -> bool {
    matches!((before, after), (SourceState::Syncing(None), SourceState::Syncing(Some(_))))
}
