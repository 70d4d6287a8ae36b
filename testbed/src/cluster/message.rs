//! Parts of Kubernetes' messages, with the empty fields that its own encoder always writes.

#![expect(clippy::unnecessary_wraps, reason = "all fields of these messages are optional")]

use std::collections::BTreeMap;

use k8s_pb::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

/// When everything in a testbed's clusters came to be: 2026-03-01T00:00:00Z.
pub(crate) const EPOCH: i64 = 1_772_323_200;

pub(crate) fn text(value: impl Into<String>) -> Option<String> {
    Some(value.into())
}

pub(crate) fn empty() -> Option<String> {
    Some(String::new())
}

/// An instant, in seconds after [`EPOCH`].
pub(crate) fn time(seconds: i64) -> Option<Time> {
    Some(Time { seconds: Some(EPOCH + seconds), nanos: Some(0) })
}

pub(crate) fn meta(namespace: &str, name: &str, uid: &str) -> ObjectMeta {
    ObjectMeta {
        name: text(name),
        generate_name: empty(),
        namespace: text(namespace),
        self_link: empty(),
        uid: text(uid),
        resource_version: text("1"),
        generation: Some(0),
        creation_timestamp: time(0),
        ..ObjectMeta::default()
    }
}

/// Labels or annotations, from pairs.
pub(crate) fn metadata(pairs: &[(String, String)]) -> BTreeMap<String, String> {
    pairs.iter().cloned().collect()
}
