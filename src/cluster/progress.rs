//! How far collecting is, for the progress line and the summary.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters that collecting moves and anybody may read.
#[derive(Debug, Default)]
pub struct Progress {
    namespaces: AtomicU64,
    pods: AtomicU64,
    pages: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
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

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }
}
