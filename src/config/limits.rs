//! `inventory-report-limits.*`.

use std::num::NonZeroUsize;

/// When a report is split into batches; with neither set, each account gets one report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReportLimits {
    /// Most namespaces in one batch.
    pub namespaces: Option<NonZeroUsize>,
    /// Most bytes of one batch as JSON. A single namespace above it goes alone, whole.
    pub payload_bytes: Option<NonZeroUsize>,
}
