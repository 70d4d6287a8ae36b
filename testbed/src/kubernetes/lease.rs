//! Leases: `coordination.k8s.io/v1`, in JSON alone, with the optimistic concurrency of the real server.

use std::collections::BTreeMap;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::status::Failure;
use crate::cluster::identity;
use crate::objects::Kind;

const NAME_MISSING: &str = "metadata.name: Required value: name or generateName is required";

const VERSION_MISSING: &str = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";

/// What a lease says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lease {
    /// Who holds it; `None`, or empty, when nobody does.
    pub holder: Option<String>,
    /// How long it is held without being renewed.
    pub duration_seconds: Option<i64>,
    /// When its holder got it.
    pub acquire_time: Option<Timestamp>,
    /// When its holder last renewed it.
    pub renew_time: Option<Timestamp>,
    /// How often its holder has changed.
    pub transitions: Option<i64>,
    /// Its resource version; not heeded where a lease is written.
    pub resource_version: u64,
}

/// The leases of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// By namespace and name.
    documents: BTreeMap<(String, String), Value>,
}

impl Lease {
    /// Held by someone since now, for 15 seconds.
    pub fn held_by(holder: &str) -> Self {
        let now = Some(Timestamp::now());
        Self {
            holder: Some(holder.to_owned()),
            duration_seconds: Some(15),
            acquire_time: now,
            renew_time: now,
            transitions: Some(0),
            resource_version: 0,
        }
    }

    fn spec(&self) -> Value {
        let mut spec = json!({
            "holderIdentity": self.holder, "leaseDurationSeconds": self.duration_seconds,
            "acquireTime": self.acquire_time.map(micro_time), "renewTime": self.renew_time.map(micro_time),
            "leaseTransitions": self.transitions,
        });
        if let Some(fields) = spec.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        spec
    }

    fn of(document: &Value) -> Self {
        let spec = &document["spec"];
        let time = |name: &str| spec[name].as_str()?.parse().ok();
        Self {
            holder: spec["holderIdentity"].as_str().map(str::to_owned),
            duration_seconds: spec["leaseDurationSeconds"].as_i64(),
            acquire_time: time("acquireTime"),
            renew_time: time("renewTime"),
            transitions: spec["leaseTransitions"].as_i64(),
            resource_version: version_of(document).and_then(|version| version.parse().ok()).unwrap_or_default(),
        }
    }
}

impl Leases {
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Result<Value, Failure> {
        self.find(namespace, name).cloned().ok_or_else(|| Failure::not_found(Kind::Leases, name))
    }

    pub(crate) fn lease(&self, namespace: &str, name: &str) -> Option<Lease> {
        self.find(namespace, name).map(Lease::of)
    }

    /// Makes a lease as a request says, with this resource version.
    pub(crate) fn create(&mut self, namespace: &str, body: &[u8], version: u64) -> Result<Value, Failure> {
        let body = checked(namespace, body)?;
        let Some(name) = body["metadata"]["name"].as_str().filter(|name| !name.is_empty()) else {
            return Err(invalid("Lease.coordination.k8s.io", "", NAME_MISSING));
        };
        if version_of(&body).is_some() {
            return Err(Failure::unexpected("resourceVersion should not be set on objects to be created"));
        }
        if self.find(namespace, name).is_some() {
            return Err(Failure::already_exists(Kind::Leases, name));
        }
        Ok(self.store(namespace, name, &body["spec"], version))
    }

    /// Changes a lease as a request says that was made from its present state. As the real server does, it makes the lease
    /// when there is none.
    pub(crate) fn update(
        &mut self,
        (namespace, name): (&str, &str),
        body: &[u8],
        version: u64,
    ) -> Result<Value, Failure> {
        let body = checked(namespace, body)?;
        let named = body["metadata"]["name"].as_str().unwrap_or_default();
        if named != name {
            let message = format!("the name of the object ({named}) does not match the name on the URL ({name})");
            return Err(Failure::bad_request(&message));
        }
        let Some(known) = version_of(&body) else {
            return Err(invalid("leases.coordination.k8s.io", name, VERSION_MISSING));
        };
        if self.find(namespace, name).is_some_and(|present| Some(known) != version_of(present)) {
            return Err(Failure::conflict(Kind::Leases, name));
        }
        Ok(self.store(namespace, name, &body["spec"], version))
    }

    /// Makes or changes a lease, whatever it was.
    pub(crate) fn put(&mut self, namespace: &str, name: &str, lease: &Lease, version: u64) {
        self.store(namespace, name, &lease.spec(), version);
    }

    pub(crate) fn remove(&mut self, namespace: &str, name: &str) -> bool {
        self.documents.remove(&(namespace.to_owned(), name.to_owned())).is_some()
    }

    fn find(&self, namespace: &str, name: &str) -> Option<&Value> {
        self.documents.get(&(namespace.to_owned(), name.to_owned()))
    }

    fn store(&mut self, namespace: &str, name: &str, spec: &Value, version: u64) -> Value {
        let created = self.find(namespace, name).map(|known| known["metadata"]["creationTimestamp"].clone());
        let now = || format!("{:.0}", Timestamp::now()).into();
        let document = json!({
            "kind": "Lease", "apiVersion": Kind::Leases.api_version(),
            "metadata": {
                "name": name, "namespace": namespace, "uid": identity::uid(Kind::Leases.resource(), namespace, name),
                "resourceVersion": version.to_string(), "creationTimestamp": created.unwrap_or_else(now),
            },
            "spec": spec,
        });
        self.documents.insert((namespace.to_owned(), name.to_owned()), document.clone());
        document
    }
}

/// A lease in a request, as far as the server checks it.
fn checked(namespace: &str, body: &[u8]) -> Result<Value, Failure> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(&format!("the object provided is unrecognized: {error}")))?;
    // Where they are missing, the path says what the object is.
    let other = |name: &str, expected: &str| body[name].as_str().is_some_and(|it| !it.is_empty() && it != expected);
    if other("kind", "Lease") || other("apiVersion", &Kind::Leases.api_version()) {
        return Err(Failure::bad_request("the object provided cannot be handled as a Lease"));
    }
    if body["metadata"]["namespace"].as_str().is_some_and(|named| named != namespace) {
        return Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let (name, spec) = (body["metadata"]["name"].as_str().unwrap_or_default(), &body["spec"]);
    for field in ["acquireTime", "renewTime"] {
        let time = &spec[field];
        if !time.is_null() && !time.as_str().is_some_and(is_micro_time) {
            return Err(Failure::bad_request(&format!("cannot parse {time} of {field} as a time with microseconds")));
        }
    }
    if !spec["leaseDurationSeconds"].is_null() && spec["leaseDurationSeconds"].as_i64().is_none_or(|it| it <= 0) {
        return Err(invalid("Lease.coordination.k8s.io", name, "spec.leaseDurationSeconds: must be greater than 0"));
    }
    if !spec["leaseTransitions"].is_null() && spec["leaseTransitions"].as_i64().is_none_or(|it| it < 0) {
        return Err(invalid("Lease.coordination.k8s.io", name, "spec.leaseTransitions: must not be negative"));
    }
    Ok(body)
}

fn version_of(document: &Value) -> Option<&str> {
    document["metadata"]["resourceVersion"].as_str().filter(|version| !version.is_empty())
}

fn invalid(kind: &str, name: &str, cause: &str) -> Failure {
    let message = format!("{kind} \"{name}\" is invalid: {cause}");
    Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
}

/// RFC 3339 with six digits of the second's fraction, as the server writes it.
fn micro_time(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// Whether a time is one for the server, which insists on exactly six digits.
fn is_micro_time(text: &str) -> bool {
    let fraction = text.split_once('.').map(|(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
    fraction == Some(6) && text.parse::<Timestamp>().is_ok()
}
