//! What an answer leads to: the one place that says so for registration and health. Pure.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use crate::anchore::error::{SendError, TransportError};
use crate::anchore::integrations::{Call, IntegrationError};

/// What is asked next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The server's version.
    Probe,
    /// To be registered.
    Register,
    /// To take a health report.
    ReportHealth {
        /// Of the integration with this uuid.
        uuid: String,
    },
}

/// What follows from a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What is asked next.
    pub next: Next,
    /// After which wait.
    pub wait: Wait,
    /// Whether then the next moment of a health report is waited for. A report that failed is not made up for.
    pub is_on_schedule: bool,
}

/// How long is waited after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// As long as the failures so far make it.
    Backoff {
        /// Whether the same request will hardly be accepted soon.
        is_slow: bool,
        /// Not shorter than the server asked for.
        requested: Option<Duration>,
    },
    /// As long as the server asked for, which may be nothing.
    Requested(Option<Duration>),
}

impl Wait {
    /// Shorter or longer by the failures so far alone.
    pub const BACKOFF: Self = Self::Backoff { is_slow: false, requested: None };
}

/// What a failed `call` leads to; `again` asks the same once more.
pub fn after(call: Call, error: &IntegrationError, again: Next) -> Verdict {
    let requested = error.refusal().and_then(|refusal| refusal.retry_after);
    let wait = Wait::Backoff { is_slow: is_slow(error), requested };
    if let Some(next) = elsewhere(call, error) {
        return Verdict { next, wait, is_on_schedule: false };
    }
    match call {
        Call::Version | Call::Registration => Verdict { next: again, wait, is_on_schedule: false },
        Call::HealthReport if is_slow(error) => Verdict { next: again, wait, is_on_schedule: true },
        Call::HealthReport => Verdict { next: again, wait: Wait::Requested(requested), is_on_schedule: true },
    }
}

/// What follows when a call was not made for want of credentials.
pub fn without_credentials(again: Next) -> Verdict {
    let is_on_schedule = matches!(again, Next::ReportHealth { .. });
    Verdict { next: again, wait: Wait::BACKOFF, is_on_schedule }
}

/// Where an answer leads that says more than no: the server is another than it was.
fn elsewhere(call: Call, error: &IntegrationError) -> Option<Next> {
    let IntegrationError::Refused { refusal, is_of_service, .. } = error else { return None };
    match (call, refusal.status) {
        (Call::Version, _) => None,
        // The account is not known, which says nothing of the endpoint.
        (Call::Registration, StatusCode::NOT_FOUND) if refusal.names_unknown_account() => None,
        // A service that knows the endpoint, and not this integration: deleted, or the database was reset.
        (Call::HealthReport, StatusCode::NOT_FOUND) if *is_of_service => Some(Next::Register),
        // There is no such endpoint: an older server than it was.
        (_, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => Some(Next::Probe),
        _ => None,
    }
}

/// Refusals that somebody has to do something about, so that asking soon again would only be a burden, and might lock
/// the user out.
fn is_slow(error: &IntegrationError) -> bool {
    let Some(refusal) = error.refusal() else { return false };
    match refusal.status {
        StatusCode::NOT_FOUND => refusal.names_unknown_account(),
        StatusCode::METHOD_NOT_ALLOWED => false,
        status => status.is_client_error() && !is_passing(status),
    }
}

/// Errors of servers that are over after a while.
fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS)
        || status.is_server_error()
}

/// Whether another user or password may be what it takes.
pub fn concerns_sender(error: &IntegrationError) -> bool {
    let status = error.refusal().map(|refusal| refusal.status);
    matches!(status, Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
}

/// What is wrong, as it is said once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    call: Call,
    kind: Kind,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Credentials,
    Status(StatusCode),
    UnknownAccount,
    Unreachable,
    Untrusted,
    Elsewhere,
    NotAnchore,
    Unsendable,
}

impl Trouble {
    /// That of a call that failed.
    pub fn of(call: Call, error: &IntegrationError) -> Self {
        let kind = match error {
            IntegrationError::Refused { refusal, .. } | IntegrationError::Send(SendError::Refused(refusal)) => {
                if refusal.names_unknown_account() {
                    Kind::UnknownAccount
                } else {
                    Kind::Status(refusal.status)
                }
            }
            IntegrationError::Send(SendError::Transport(
                TransportError::Tls { .. } | TransportError::ProxyAuthentication { .. },
            )) => Kind::Untrusted,
            IntegrationError::Send(SendError::Transport(_)) => Kind::Unreachable,
            IntegrationError::Send(SendError::Redirected { .. }) => Kind::Elsewhere,
            IntegrationError::Send(SendError::Unsendable(_)) => Kind::Unsendable,
            IntegrationError::Send(SendError::NotAnchore { .. })
            | IntegrationError::NotAnchore { .. }
            | IntegrationError::Incomplete { .. } => Kind::NotAnchore,
        };
        Self { call, kind, text: error.to_string() }
    }

    /// That of a call that was not made.
    pub fn credentials(call: Call, text: String) -> Self {
        Self { call, kind: Kind::Credentials, text }
    }

    /// What was asked.
    pub fn call(&self) -> Call {
        self.call
    }

    /// Whether somebody who has read of the one learns nothing from the other.
    pub fn is_same(&self, other: &Self) -> bool {
        self.call == other.call && self.kind == other.kind
    }

    /// Whether it stays until somebody does something.
    pub fn needs_operator(&self) -> bool {
        match self.kind {
            Kind::Unreachable => false,
            Kind::Status(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => self.call == Call::Version,
            Kind::Status(status) => !is_passing(status),
            Kind::Credentials
            | Kind::UnknownAccount
            | Kind::Untrusted
            | Kind::Elsewhere
            | Kind::NotAnchore
            | Kind::Unsendable => true,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.call {
            Call::Version => "the version of Anchore Enterprise is not known, so the agent is not registered",
            Call::Registration => "the agent could not be registered with Anchore Enterprise",
            Call::HealthReport => "a health report was not accepted",
        };
        write!(f, "{what}: {}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;
    use crate::anchore::answer::Words;
    use crate::anchore::error::{Refusal, Stage};

    const BY_SERVICE: bool = true;
    const BY_ROUTER: bool = false;

    fn refused(call: Call, status: u16, body: &str, is_of_service: bool) -> IntegrationError {
        let refusal = Refusal {
            url: "https://anchore.example/v2".to_owned(),
            status: StatusCode::from_u16(status).expect("a status"),
            retry_after: None,
            words: Words::of(body.as_bytes()),
            byte_len: 10,
            note: None,
        };
        IntegrationError::Refused { call, refusal: Box::new(refusal), is_of_service }
    }

    fn health() -> Next {
        Next::ReportHealth { uuid: "u".to_owned() }
    }

    fn backoff(is_slow: bool) -> Wait {
        Wait::Backoff { is_slow, requested: None }
    }

    fn unreachable() -> IntegrationError {
        let peer = "anchore.example:443".to_owned();
        SendError::from(TransportError::Timeout { peer, stage: Stage::Answer, limit: Duration::from_secs(10) }).into()
    }

    #[rstest]
    #[case(400)]
    #[case(401)]
    #[case(403)]
    #[case(409)]
    #[case(413)]
    #[case(415)]
    fn what_an_operator_must_mend_is_asked_again_slowly(#[case] status: u16) {
        let registration = refused(Call::Registration, status, "", BY_SERVICE);
        let expected = Verdict { next: Next::Register, wait: backoff(true), is_on_schedule: false };
        assert_eq!(after(Call::Registration, &registration, Next::Register), expected);
        let report = refused(Call::HealthReport, status, "", BY_SERVICE);
        let expected = Verdict { next: health(), wait: backoff(true), is_on_schedule: true };
        assert_eq!(after(Call::HealthReport, &report, health()), expected);
        assert!(Trouble::of(Call::HealthReport, &report).needs_operator());
    }

    #[rstest]
    #[case(408)]
    #[case(429)]
    #[case(500)]
    #[case(503)]
    fn what_passes_is_asked_again_soon_and_a_health_report_is_skipped(#[case] status: u16) {
        let registration = refused(Call::Registration, status, "<html>", BY_ROUTER);
        let expected = Verdict { next: Next::Register, wait: backoff(false), is_on_schedule: false };
        assert_eq!(after(Call::Registration, &registration, Next::Register), expected);
        let report = refused(Call::HealthReport, status, "", BY_SERVICE);
        let expected = Verdict { next: health(), wait: Wait::Requested(None), is_on_schedule: true };
        assert_eq!(after(Call::HealthReport, &report, health()), expected);
        assert!(!Trouble::of(Call::HealthReport, &report).needs_operator());
    }

    #[test]
    fn no_answer_is_like_one_that_passes() {
        let expected = Verdict { next: Next::Probe, wait: backoff(false), is_on_schedule: false };
        assert_eq!(after(Call::Version, &unreachable(), Next::Probe), expected);
        let expected = Verdict { next: health(), wait: Wait::Requested(None), is_on_schedule: true };
        assert_eq!(after(Call::HealthReport, &unreachable(), health()), expected);
    }

    #[test]
    fn a_forgotten_integration_is_registered_again_and_a_missing_endpoint_is_probed_for() {
        let next = |call, status, is_of_service| after(call, &refused(call, status, "", is_of_service), health()).next;
        assert_eq!(next(Call::HealthReport, 404, BY_SERVICE), Next::Register);
        assert_eq!(next(Call::HealthReport, 404, BY_ROUTER), Next::Probe);
        assert_eq!(next(Call::HealthReport, 405, BY_ROUTER), Next::Probe);
        assert_eq!(next(Call::Registration, 404, BY_ROUTER), Next::Probe);
        assert_eq!(next(Call::Registration, 404, BY_SERVICE), Next::Probe);
        assert_eq!(next(Call::Registration, 405, BY_ROUTER), Next::Probe);
    }

    #[test]
    fn an_unknown_account_says_nothing_of_the_endpoint() {
        let body = r#"{"message": "User account not found. Name=team-a"}"#;
        let error = refused(Call::Registration, 404, body, BY_SERVICE);
        let expected = Verdict { next: Next::Register, wait: backoff(true), is_on_schedule: false };
        assert_eq!(after(Call::Registration, &error, Next::Register), expected);
        assert!(error.to_string().contains("check anchore.account"), "{error}");
    }

    #[test]
    fn a_version_is_asked_for_until_there_is_one() {
        for status in [401, 403, 404, 405, 500] {
            let error = refused(Call::Version, status, "<html>", BY_ROUTER);
            assert_eq!(after(Call::Version, &error, Next::Probe).next, Next::Probe, "{status}");
        }
    }

    #[test]
    fn a_missing_right_is_named_and_concerns_the_sender() {
        let error = refused(Call::Registration, 403, r#"{"message": "Not authorized."}"#, BY_SERVICE);
        assert!(error.to_string().contains("registerIntegration"), "{error}");
        assert!(refused(Call::HealthReport, 403, "", BY_SERVICE).to_string().contains("reportHealth"));
        assert!(concerns_sender(&error));
        assert!(!concerns_sender(&refused(Call::Registration, 409, "", BY_SERVICE)));
    }

    #[test]
    fn the_same_trouble_is_known_again_although_its_words_differ() {
        let one = Trouble::of(Call::Registration, &refused(Call::Registration, 500, "request 1", BY_SERVICE));
        let other = Trouble::of(Call::Registration, &refused(Call::Registration, 500, "request 2", BY_SERVICE));
        let gateway = Trouble::of(Call::Registration, &refused(Call::Registration, 502, "", BY_ROUTER));
        assert!(one.is_same(&other) && !one.is_same(&gateway));
    }
}
