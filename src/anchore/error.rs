//! Why a report was not accepted, in words an operator can act on. What is to be done about it by the program is decided
//! elsewhere, in [`crate::delivery::retry`].

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::StatusCode;
use thiserror::Error;

use hyper_util::client::legacy;

use super::answer::Words;
use super::connect::ConnectTimeout;
use super::payload::PayloadError;

pub(super) const PROXY_ADVICE: &str = "give the proxy's user and password in its address";

/// How the error of a tunnel says that the proxy answered 407; its type is not public.
const TUNNEL_UNAUTHORIZED: &str = "proxy authorization required";

/// A report was not accepted.
#[derive(Debug, Error)]
pub enum SendError {
    /// No answer came that could be used.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Anchore, or something in front of it, answered with an error.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The answer points elsewhere, and following it would lose the report or leak the credentials.
    #[error(
        "{from} answered {status}, a redirect to {to}, which is not followed: set anchore.url to the address that takes \
         reports itself"
    )]
    Redirected {
        /// Where the report was sent.
        from: String,
        /// The answer.
        status: StatusCode,
        /// Where the answer points, without secrets.
        to: String,
    },
    /// The answer is a success, of something that is not Anchore: a login page, most often.
    #[error(
        "{url} answered {status} with what Anchore never answers ({words}), so a login page or a proxy took the report: \
         check anchore.url and what stands in front of Anchore"
    )]
    NotAnchore {
        /// Where the report was sent.
        url: String,
        /// The answer.
        status: StatusCode,
        /// The beginning of its body.
        words: Words,
    },
    /// The request cannot be made, now or later.
    #[error("{0}")]
    Unsendable(String),
}

impl SendError {
    /// Whether the server does not accept user and password.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == StatusCode::UNAUTHORIZED)
    }
}

/// An answer with an error status.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Where the report was sent.
    pub url: String,
    /// The answer.
    pub status: StatusCode,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
    /// What the server says.
    pub words: Words,
    /// Bytes of the report.
    pub byte_len: u64,
    /// What was tried before this answer or after it, as a sentence of its own.
    pub note: Option<String>,
}

impl Refusal {
    /// Whether the server says that it knows no such account: what a user of the admin account is told.
    pub fn names_unknown_account(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && self.words.as_str().contains("User account not found")
    }

    fn advice(&self) -> Option<String> {
        let advice = match self.status {
            StatusCode::UNAUTHORIZED => {
                "check anchore.user and anchore.password, or those of the account's route".to_owned()
            }
            StatusCode::FORBIDDEN => {
                "give the user a role in the account that may send inventories (inventory-agent), and check that the \
                 account exists and is enabled"
                    .to_owned()
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                "check the account's name, the path in anchore.url, and that Anchore Enterprise is 4.8 or newer"
                    .to_owned()
            }
            StatusCode::PAYLOAD_TOO_LARGE => format!(
                "the report has {} bytes; set inventory-report-limits.payload-threshold-bytes to what the server and \
                 the proxies in front of it take, or raise their limit",
                self.byte_len
            ),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => PROXY_ADVICE.to_owned(),
            _ => return None,
        };
        Some(advice)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {} ({})", self.url, self.status, self.words)?;
        if let Some(advice) = self.advice() {
            write!(f, ": {advice}")?;
        }
        match &self.note {
            Some(note) => write!(f, "; {note}"),
            None => Ok(()),
        }
    }
}

impl Error for Refusal {}

/// No answer came that could be used. `peer` is the server, and the proxy if there is one between.
#[derive(Debug, Error)]
pub enum TransportError {
    /// There is no connection.
    #[error("no connection to {peer}: {reason}")]
    Connect {
        /// The server.
        peer: String,
        /// What happened.
        reason: String,
    },
    /// The proxy makes no tunnel without a user and password, or with these.
    #[error("no connection to {peer}, which answered 407 Proxy Authentication Required: {PROXY_ADVICE}")]
    ProxyAuthentication {
        /// The server, through the proxy.
        peer: String,
    },
    /// There is a connection, and no trust: a certificate is wrong, missing or unknown, or the other end has no TLS.
    #[error(
        "no secure connection to {peer}: {reason}; check the certificates, anchore.http.ca-file and \
         anchore.http.client-cert-file, and whether anchore.url should say http"
    )]
    Tls {
        /// The server.
        peer: String,
        /// What happened.
        reason: String,
    },
    /// Nothing happened for too long.
    #[error("{peer} did not {stage} within {} s (anchore.http.timeout-seconds)", limit.as_secs_f32())]
    Timeout {
        /// The server.
        peer: String,
        /// What was waited for.
        stage: Stage,
        /// How long.
        limit: Duration,
    },
    /// The connection ended, or what came is not HTTP.
    #[error("the connection to {peer} broke: {reason}")]
    Broken {
        /// The server.
        peer: String,
        /// What happened.
        reason: String,
    },
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A connection.
    Connect,
    /// That the server takes more of the body.
    Upload,
    /// The answer.
    Answer,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "take the connection",
            Self::Upload => "take any more of the report",
            Self::Answer => "answer",
        })
    }
}

/// What an error of the HTTP client means. `connect_limit` is the bound it was given for connecting.
pub(super) fn of_client(error: &legacy::Error, peer: String, connect_limit: Option<Duration>) -> SendError {
    if let Some(payload) = Causes(Some(error)).find_map(<dyn Error>::downcast_ref::<PayloadError>) {
        return SendError::Unsendable(payload.to_string());
    }
    let is_timeout = Causes(Some(error)).any(<dyn Error>::is::<ConnectTimeout>);
    if let Some(limit) = connect_limit.filter(|_| is_timeout) {
        return TransportError::Timeout { peer, stage: Stage::Connect, limit }.into();
    }
    // The innermost cause: what the layers above it say ("client error (Connect)") adds nothing.
    let reason = Causes(Some(error)).last().map_or_else(|| error.to_string(), ToString::to_string);
    let transport = if Causes(Some(error)).any(<dyn Error>::is::<rustls::Error>) {
        TransportError::Tls { peer, reason }
    } else if error.is_connect() && reason.ends_with(TUNNEL_UNAUTHORIZED) {
        TransportError::ProxyAuthentication { peer }
    } else if error.is_connect() {
        TransportError::Connect { peer, reason }
    } else {
        TransportError::Broken { peer, reason }
    };
    transport.into()
}

/// An error and its causes, outermost first. Looks into I/O errors, whose own `source` passes over what they wrap.
struct Causes<'e>(Option<&'e (dyn Error + 'static)>);

impl<'e> Iterator for Causes<'e> {
    type Item = &'e (dyn Error + 'static);

    fn next(&mut self) -> Option<Self::Item> {
        let error = self.0?;
        self.0 = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
        Some(error)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn refusal(status: u16, body: &str) -> Refusal {
        Refusal {
            url: "https://anchore.example/v2/kubernetes-inventory".to_owned(),
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
            words: Words::of(body.as_bytes()),
            byte_len: 2_000_000,
            note: None,
        }
    }

    #[test]
    fn a_schema_violation_shows_the_words_and_the_element() {
        let body = r#"{"title": "Bad Request", "detail": "'' is too short - 'containers.0.image_tag'", "status": 400}"#;
        assert_eq!(
            refusal(400, body).to_string(),
            "https://anchore.example/v2/kubernetes-inventory answered 400 Bad Request (Bad Request: '' is too short, at \
             containers.0.image_tag)"
        );
    }

    #[test]
    fn a_refused_size_names_the_limit_to_set() {
        let message = refusal(413, "<html><title>413 Request Entity Too Large</title></html>").to_string();
        assert!(message.contains("inventory-report-limits.payload-threshold-bytes"), "{message}");
        assert!(message.contains("2000000 bytes"), "{message}");
        assert!(message.contains("a web page titled \"413 Request Entity Too Large\""), "{message}");
    }

    #[test]
    fn a_note_ends_the_message() {
        let noted = Refusal { note: Some("the older path was tried as well".to_owned()), ..refusal(503, "") };
        assert_eq!(
            noted.to_string(),
            "https://anchore.example/v2/kubernetes-inventory answered 503 Service Unavailable (no reason given); the \
             older path was tried as well"
        );
    }
}
