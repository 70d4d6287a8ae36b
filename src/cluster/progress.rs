//! How far collecting is, for the progress line and the summary.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::request::RequestError;

/// Counters that collecting moves and anybody may read.
#[derive(Debug, Default)]
pub struct Progress {
    namespaces: AtomicU64,
    pods: AtomicU64,
    pages: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
    outcomes: [AtomicU64; RequestOutcome::ALL.len()],
}

/// How a request to the API server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    /// It was answered.
    Answered,
    /// 401 or 403.
    Denied,
    /// 429 or 503.
    Busy,
    /// 410.
    Expired,
    /// Another status that is no success, or an answer that makes no sense.
    Failed,
    /// No answer.
    Unreachable,
}

impl RequestOutcome {
    /// All outcomes.
    pub const ALL: [Self; 6] =
        [Self::Answered, Self::Denied, Self::Busy, Self::Expired, Self::Failed, Self::Unreachable];

    /// The name of the outcome, as metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Denied => "denied",
            Self::Busy => "busy",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
        }
    }
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Namespaces selected.
    pub namespaces: u64,
    /// Pods read, selected or not.
    pub pods: u64,
    /// Answers to list requests, complete ones and pages.
    pub pages: u64,
    /// Requests sent, repeated ones included.
    pub requests: u64,
    /// Bytes of answers received, compressed where they were.
    pub bytes: u64,
}

impl Progress {
    /// The counters now.
    pub fn counts(&self) -> Counts {
        Counts {
            namespaces: self.namespaces.load(Relaxed),
            pods: self.pods.load(Relaxed),
            pages: self.pages.load(Relaxed),
            requests: self.requests.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }

    pub(crate) fn selected(&self, namespaces: usize) {
        self.namespaces.store(namespaces as u64, Relaxed);
    }

    pub(crate) fn pod(&self) {
        self.pods.fetch_add(1, Relaxed);
    }

    pub(crate) fn page(&self) {
        self.pages.fetch_add(1, Relaxed);
    }

    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// How many requests ended in each way, in the order of [`RequestOutcome::ALL`].
    pub fn outcomes(&self) -> impl Iterator<Item = (RequestOutcome, u64)> {
        RequestOutcome::ALL.into_iter().zip(&self.outcomes).map(|(outcome, count)| (outcome, count.load(Relaxed)))
    }

    /// A request ended.
    pub(crate) fn answered(&self, error: Option<&RequestError>) {
        let outcome = match error {
            None => RequestOutcome::Answered,
            Some(RequestError::Unauthorized(_) | RequestError::Forbidden(_)) => RequestOutcome::Denied,
            Some(RequestError::Busy { .. }) => RequestOutcome::Busy,
            Some(RequestError::Expired(_)) => RequestOutcome::Expired,
            Some(RequestError::Unreachable { .. } | RequestError::TimedOut(_)) => RequestOutcome::Unreachable,
            Some(_) => RequestOutcome::Failed,
        };
        if let Some(counter) = self.outcomes.get(outcome as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }
}
