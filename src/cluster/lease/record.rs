//! A Lease object: who holds it, for how long, and the object that a claim puts in its place.
//!
//! It is kept as the JSON it came in, so that a claim loses nothing that others have put into it: labels, owners, and
//! fields of `spec` that newer servers know.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// How long a holder counts as alive where its record does not say.
const USUAL_DURATION: Duration = Duration::from_secs(15);

/// A Lease as the API server has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record(Map<String, Value>);

/// Who claims, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claimant<'a> {
    pub(super) identity: &'a str,
    pub(super) duration: Duration,
}

impl Record {
    /// Takes an object from the server. Without a resource version it is none: a claim on it could not be told from
    /// one made at the same time, and would end another's term.
    pub(super) fn from_object(object: Value) -> Option<Self> {
        let Value::Object(object) = object else { return None };
        let version = object.get("metadata").and_then(|metadata| metadata.get("resourceVersion"));
        version.and_then(Value::as_str).is_some_and(|version| !version.is_empty()).then_some(Self(object))
    }

    /// Who holds it; empty when nobody does.
    pub(super) fn holder(&self) -> &str {
        self.spec("holderIdentity").and_then(Value::as_str).unwrap_or_default()
    }

    /// How long the holder counts as alive after the last change.
    pub(super) fn duration(&self) -> Duration {
        let seconds = self.spec("leaseDurationSeconds").and_then(Value::as_u64).filter(|&seconds| seconds > 0);
        seconds.map_or(USUAL_DURATION, Duration::from_secs)
    }

    /// Whether nothing of the election differs; labels and the like may.
    pub(super) fn is_unchanged_since(&self, earlier: &Self) -> bool {
        self.0.get("spec") == earlier.0.get("spec")
    }

    /// The first object of that name, held by `claimant`.
    pub(super) fn first(namespace: &str, name: &str, claimant: Claimant<'_>, now: Timestamp) -> Value {
        let mut lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "namespace": namespace, "name": name },
        });
        if let Value::Object(lease) = &mut lease {
            lease.insert("spec".to_owned(), Value::Object(spec(claimant, now, &time(now), 0)));
        }
        lease
    }

    /// This object, held by `claimant`: renewed, or taken over.
    pub(super) fn claimed(&self, claimant: Claimant<'_>, now: Timestamp) -> Value {
        let transitions = self.spec("leaseTransitions").and_then(Value::as_i64).unwrap_or_default().max(0);
        if self.holder() != claimant.identity {
            let transitions = transitions.saturating_add(1).min(i64::from(i32::MAX));
            return self.with_spec(spec(claimant, now, &time(now), transitions));
        }
        let acquired = self.spec("acquireTime").and_then(Value::as_str).map_or_else(|| time(now), str::to_owned);
        self.with_spec(spec(claimant, now, &acquired, transitions))
    }

    /// This object, held by nobody, so that the next one need not wait.
    pub(super) fn released(&self, now: Timestamp) -> Value {
        let nobody = Claimant { identity: "", duration: Duration::from_secs(1) };
        let transitions = self.spec("leaseTransitions").and_then(Value::as_i64).unwrap_or_default();
        self.with_spec(spec(nobody, now, &time(now), transitions))
    }

    fn spec(&self, field: &str) -> Option<&Value> {
        self.0.get("spec").and_then(|spec| spec.get(field))
    }

    fn with_spec(&self, fields: Map<String, Value>) -> Value {
        let mut lease = self.0.clone();
        match lease.get_mut("spec") {
            Some(Value::Object(spec)) => spec.extend(fields),
            _ => {
                lease.insert("spec".to_owned(), Value::Object(fields));
            }
        }
        Value::Object(lease)
    }
}

fn spec(claimant: Claimant<'_>, now: Timestamp, acquired: &str, transitions: i64) -> Map<String, Value> {
    let fields = [
        ("holderIdentity", json!(claimant.identity)),
        ("leaseDurationSeconds", json!(claimant.duration.as_secs())),
        ("acquireTime", json!(acquired)),
        ("renewTime", json!(time(now))),
        ("leaseTransitions", json!(transitions)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// As `meta/v1.MicroTime`: always six digits after the point.
fn time(at: Timestamp) -> String {
    format!("{at:.6}")
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;

    const ME: Claimant<'static> = Claimant { identity: "me", duration: Duration::from_secs(15) };

    fn at(time: &str) -> Timestamp {
        time.parse().expect("a time")
    }

    fn record(spec: Value) -> Record {
        let mut object = json!({"metadata": {"name": "agent", "resourceVersion": "7", "labels": {"team": "a"}}});
        object["spec"] = spec;
        Record::from_object(object).expect("complete")
    }

    #[test]
    fn the_first_record_is_that_of_an_empty_election() {
        let lease = Record::first("anchore", "agent", ME, at("2026-01-02T03:04:05Z"));
        assert_eq!(
            lease,
            json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"namespace": "anchore", "name": "agent"},
                "spec": {
                    "holderIdentity": "me",
                    "leaseDurationSeconds": 15,
                    "acquireTime": "2026-01-02T03:04:05.000000Z",
                    "renewTime": "2026-01-02T03:04:05.000000Z",
                    "leaseTransitions": 0,
                },
            })
        );
    }

    #[test]
    fn a_renewal_changes_its_time_alone() {
        let old = json!({
            "holderIdentity": "me",
            "leaseDurationSeconds": 15,
            "acquireTime": "2026-01-01T00:00:00.000000Z",
            "renewTime": "2026-01-02T03:04:03.000000Z",
            "leaseTransitions": 4,
            "strategy": "OldestEmulationVersion",
        });
        let mut expected = old.clone();
        expected["renewTime"] = json!("2026-01-02T03:04:05.123456Z");
        let renewed = record(old).claimed(ME, at("2026-01-02T03:04:05.1234567Z"));
        assert_eq!(renewed["spec"], expected);
        assert_eq!(renewed["metadata"]["resourceVersion"], "7");
        assert_eq!(renewed["metadata"]["labels"], json!({"team": "a"}));
    }

    #[test]
    fn a_take_over_is_counted_and_dated() {
        let old =
            json!({"holderIdentity": "other", "acquireTime": "2026-01-01T00:00:00.000000Z", "leaseTransitions": 4});
        let taken = record(old).claimed(ME, at("2026-01-02T03:04:05Z"));
        assert_eq!(taken["spec"]["holderIdentity"], "me");
        assert_eq!(taken["spec"]["acquireTime"], "2026-01-02T03:04:05.000000Z");
        assert_eq!(taken["spec"]["leaseTransitions"], 5);
    }

    #[test]
    fn a_released_record_is_held_by_nobody() {
        let held = record(json!({"holderIdentity": "me", "leaseDurationSeconds": 15, "leaseTransitions": 4}));
        let released = Record::from_object(held.released(at("2026-01-02T03:04:05Z"))).expect("complete");
        assert_eq!((released.holder(), released.duration()), ("", Duration::from_secs(1)));
        assert_eq!(released.spec("leaseTransitions"), Some(&json!(4)));
    }

    #[rstest]
    #[case(json!(null))]
    #[case(json!("text"))]
    #[case(json!({"holderIdentity": 7, "leaseDurationSeconds": -1, "leaseTransitions": "x", "acquireTime": []}))]
    #[case(json!({"holderIdentity": null, "leaseDurationSeconds": 0, "leaseTransitions": i64::MAX}))]
    fn a_record_that_makes_no_sense_can_be_claimed(#[case] spec: Value) {
        let senseless = record(spec);
        assert_eq!((senseless.holder(), senseless.duration()), ("", USUAL_DURATION));
        let claimed = Record::from_object(senseless.claimed(ME, at("2026-01-02T03:04:05Z"))).expect("complete");
        assert_eq!(claimed.holder(), "me");
        let transitions = claimed.spec("leaseTransitions").and_then(Value::as_i64).expect("a number");
        assert!((1..=i64::from(i32::MAX)).contains(&transitions), "{transitions}");
    }

    #[rstest]
    #[case(json!(null))]
    #[case(json!({}))]
    #[case(json!({"metadata": {}}))]
    #[case(json!({"metadata": {"resourceVersion": ""}}))]
    #[case(json!({"metadata": {"resourceVersion": 7}}))]
    fn an_object_without_a_version_is_no_record(#[case] object: Value) {
        assert_eq!(Record::from_object(object), None);
    }

    #[test]
    fn a_label_is_no_sign_of_life() {
        let one = record(json!({"holderIdentity": "other", "renewTime": "2026-01-02T03:04:05.000000Z"}));
        let mut other = one.clone();
        other.0.insert("metadata".to_owned(), json!({"resourceVersion": "8", "labels": {"team": "b"}}));
        assert!(other.is_unchanged_since(&one));
        let renewed = record(json!({"holderIdentity": "other", "renewTime": "2026-01-02T03:04:07.000000Z"}));
        assert!(!renewed.is_unchanged_since(&one));
    }
}
