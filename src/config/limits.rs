//! `inventory-report-limits.*`.

use std::num::NonZeroUsize;

use super::key::{Integer, Key, Section};
use super::reader::Reader;

const NAMESPACES: Key<Integer> = Key::new(
    "inventory-report-limits.namespaces",
    Integer { default: 0, min: 0, max: u64::MAX },
    "Most namespaces in one batch; 0 is no limit.",
);

const PAYLOAD: Key<Integer> = Key::new(
    "inventory-report-limits.payload-threshold-bytes",
    Integer { default: 0, min: 0, max: u64::MAX },
    "Most bytes of one batch; 0 is no limit. A namespace is never split: one above the limit goes alone, whole, with \
     a warning.",
);

/// When a report is split into batches; with neither set, each account gets one report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReportLimits {
    /// Most namespaces in one batch.
    pub namespaces: Option<NonZeroUsize>,
    /// Most bytes of one batch as JSON. A single namespace above it goes alone, whole.
    pub payload_bytes: Option<NonZeroUsize>,
}

pub(super) fn section() -> Section {
    Section {
        title: "Batches",
        intro: "With a limit, a report is sent as several batches, split between namespaces.",
        rows: vec![NAMESPACES.into(), PAYLOAD.into()],
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> ReportLimits {
    let mut limit = |key| NonZeroUsize::new(usize::try_from(reader.integer(key)).unwrap_or(usize::MAX));
    ReportLimits { namespaces: limit(&NAMESPACES), payload_bytes: limit(&PAYLOAD) }
}
