//! Errors of the API server: `Status` documents with the texts of the real one.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use k8s_pb::apimachinery::pkg::apis::meta::v1::{ListMeta, Status, StatusCause, StatusDetails};
use prost::Message;
use serde_json::json;

use super::access::{Identity, Verb};
use super::encoding::{Encoding, protobuf_document};
use crate::objects::Kind;
use crate::server::body::{self, Body};

/// An error.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    code: StatusCode,
    reason: &'static str,
    message: String,
    details: Box<Details>,
    /// A token to go on with, from the present state.
    continuation: String,
}

#[derive(Debug, Clone, Default)]
struct Details {
    kind: Option<Kind>,
    /// Empty for lists.
    name: String,
    retry_after_seconds: Option<i32>,
    /// Reason and message.
    cause: Option<(&'static str, &'static str)>,
}

impl Failure {
    pub(crate) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Box::default(), continuation: String::new() }
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn forbidden(who: &Identity, verb: Verb, kind: Kind, namespace: &str, name: &str) -> Self {
        let (resource, group, qualified) = (kind.resource(), kind.group(), qualified(kind));
        let object = if name.is_empty() { qualified } else { format!("{qualified} \"{name}\"") };
        let scope = if namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{namespace}\"")
        };
        let message = format!(
            "{object} is forbidden: User \"{who}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {scope}"
        );
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(kind, name)
    }

    pub(crate) fn not_found(kind: Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", qualified(kind));
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(kind, name)
    }

    /// The state that a continue token belongs to is gone; `continuation` goes on in the present one.
    pub(crate) fn expired(continuation: String) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a new \
                       list without the continue parameter, or use the continue token in this response to retrieve the \
                       remainder of the results. Continuing with the provided token results in an inconsistent list - \
                       objects that were created, modified, or deleted between the time the first chunk was returned and \
                       now may show up in the list.";
        Self { continuation, ..Self::new(StatusCode::GONE, "Expired", message) }
    }

    /// An error that has no reason, as the server answers what its code did not expect.
    pub(crate) fn unexpected(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
    }

    /// A watch begins before all that is still known.
    pub(crate) fn too_old(since: u64, oldest: u64) -> Self {
        Self::new(StatusCode::GONE, "Expired", format!("too old resource version: {since} ({oldest})"))
    }

    /// A list is to be newer than the present.
    pub(crate) fn too_large(asked: u64, present: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {present}");
        let mut failure = Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message).retry_after(1);
        failure.details.cause = Some(("ResourceVersionTooLarge", "Too large resource version"));
        failure
    }

    pub(crate) fn already_exists(kind: Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", qualified(kind));
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(kind, name)
    }

    /// An update was made from a state that is no longer the present one.
    pub(crate) fn conflict(kind: Kind, name: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; please apply your changes to \
             the latest version and try again",
            qualified(kind)
        );
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(kind, name)
    }

    pub(crate) fn retry_after(mut self, seconds: i32) -> Self {
        self.details.retry_after_seconds = Some(seconds);
        self
    }

    pub(crate) fn response(&self, headers: &HeaderMap) -> Response<Body> {
        let (content_type, bytes) = self.document(headers);
        let mut response = Response::new(body::full(bytes));
        *response.status_mut() = self.code;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }

    /// Content type and document, in the encoding that the request takes.
    pub(crate) fn document(&self, headers: &HeaderMap) -> (&'static str, Bytes) {
        let encoding = Encoding::negotiate(headers).unwrap_or(Encoding::Json);
        let bytes = match encoding {
            Encoding::Protobuf => protobuf_document(("v1", "Status"), &self.message().encode_to_vec()),
            Encoding::Json => self.json().to_string().into(),
        };
        (encoding.content_type(), bytes)
    }

    fn about(mut self, kind: Kind, name: &str) -> Self {
        self.details.kind = Some(kind);
        name.clone_into(&mut self.details.name);
        self
    }

    pub(super) fn message(&self) -> Status {
        let details = StatusDetails {
            name: Some(self.details.name.clone()),
            group: Some(self.details.kind.map(|kind| kind.group().to_owned()).unwrap_or_default()),
            kind: Some(self.details.kind.map(|kind| kind.resource().to_owned()).unwrap_or_default()),
            uid: Some(String::new()),
            causes: self.details.cause.iter().map(cause).collect(),
            retry_after_seconds: Some(self.details.retry_after_seconds.unwrap_or_default()),
        };
        let metadata = ListMeta {
            self_link: Some(String::new()),
            resource_version: Some(String::new()),
            r#continue: Some(self.continuation.clone()),
            remaining_item_count: None,
        };
        Status {
            metadata: Some(metadata),
            status: Some("Failure".to_owned()),
            message: Some(self.message.clone()),
            reason: Some(self.reason.to_owned()),
            details: (!self.details.is_empty()).then_some(details),
            code: Some(self.code.as_u16().into()),
        }
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let mut metadata = serde_json::Map::new();
        if !self.continuation.is_empty() {
            metadata.insert("continue".to_owned(), self.continuation.as_str().into());
        }
        let mut details = serde_json::Map::new();
        if !self.details.name.is_empty() {
            details.insert("name".to_owned(), self.details.name.as_str().into());
        }
        if let Some(kind) = self.details.kind {
            if !kind.group().is_empty() {
                details.insert("group".to_owned(), kind.group().into());
            }
            details.insert("kind".to_owned(), kind.resource().into());
        }
        if let Some((reason, message)) = self.details.cause {
            details.insert("causes".to_owned(), json!([{"reason": reason, "message": message}]));
        }
        if let Some(seconds) = self.details.retry_after_seconds {
            details.insert("retryAfterSeconds".to_owned(), seconds.into());
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure", "message": self.message,
            "code": self.code.as_u16(),
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if !self.details.is_empty() {
            status["details"] = details.into();
        }
        status
    }
}

fn cause((reason, message): &(&str, &str)) -> StatusCause {
    let (reason, message) = (Some((*reason).to_owned()), Some((*message).to_owned()));
    StatusCause { reason, message, field: Some(String::new()) }
}

/// The name of a kind in messages, `leases.coordination.k8s.io`.
fn qualified(kind: Kind) -> String {
    let (resource, group) = (kind.resource(), kind.group());
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl Details {
    fn is_empty(&self) -> bool {
        self.kind.is_none() && self.retry_after_seconds.is_none()
    }
}
