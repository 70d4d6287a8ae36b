//! Error answers in the shapes that the service gives them.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::server::body::{self, Body};

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// Raised by the service's own code: a document with `message` and `httpcode`.
    Service(StatusCode, String),
    /// Raised by routing and validation: a problem document (RFC 9457).
    Controller(StatusCode, String),
    /// Missing or wrong credentials: plain text.
    Unauthorized,
}

impl Problem {
    /// No such endpoint in this version, or none at all.
    pub(crate) fn not_found() -> Self {
        let detail = "The requested URL was not found on the server. If you entered the URL manually please check your \
                      spelling and try again.";
        Self::Controller(StatusCode::NOT_FOUND, detail.to_owned())
    }

    /// The user may not do this in that account, or the account does not exist.
    pub(crate) fn forbidden(account: &str, action: &str) -> Self {
        let message = format!("Not authorized. Requires permissions: domain={account} action={action} target=");
        Self::Service(StatusCode::FORBIDDEN, message)
    }

    pub(crate) fn response(&self) -> Response<Body> {
        match self {
            Self::Service(status, message) => {
                let document = json!({"message": message, "httpcode": status.as_u16(), "detail": {"error_codes": []}});
                json_answer(*status, &document)
            }
            Self::Controller(status, detail) => {
                let title = status.canonical_reason().unwrap_or_default();
                let document =
                    json!({"type": "about:blank", "title": title, "detail": detail, "status": status.as_u16()});
                answer(*status, "application/problem+json", document.to_string())
            }
            Self::Unauthorized => {
                let mut response =
                    answer(StatusCode::UNAUTHORIZED, "text/plain; charset=utf-8", "Unauthorized".to_owned());
                let challenge = HeaderValue::from_static("basic realm=\"Authentication required\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                response
            }
        }
    }
}

/// An answer with a JSON body.
pub(crate) fn json_answer(status: StatusCode, body: &Value) -> Response<Body> {
    answer(status, "application/json", body.to_string())
}

/// An answer without a body.
pub(crate) fn empty_answer(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::full(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn answer(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(body::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
