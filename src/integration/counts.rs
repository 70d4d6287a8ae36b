//! What came of the requests of registration and health, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::anchore::integrations::{Call, IntegrationError};

/// By call.
#[derive(Debug, Default)]
pub struct IntegrationCounts {
    /// Questions for the version.
    pub version: CallCounts,
    /// Registrations.
    pub registration: CallCounts,
    /// Health reports.
    pub health: CallCounts,
}

/// By outcome, since the start.
#[derive(Debug, Default)]
pub struct CallCounts {
    accepted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl CallCounts {
    /// Answered as they should be.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Answered otherwise.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Not answered.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

impl IntegrationCounts {
    pub(super) fn count(&self, call: Call, error: Option<&IntegrationError>) {
        let counts = match call {
            Call::Version => &self.version,
            Call::Registration => &self.registration,
            Call::HealthReport => &self.health,
        };
        let count = match error {
            None => &counts.accepted,
            Some(error) if error.is_answer() => &counts.refused,
            Some(_) => &counts.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
