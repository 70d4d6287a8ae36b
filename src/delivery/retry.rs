//! What an error means for the report, and when to try again. The one place that says so.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use http::StatusCode;

use crate::anchore::error::{Refusal, SendError, TransportError};

/// A server is not waited for longer than this, whatever it asks for.
pub(crate) const LONGEST_REQUESTED_WAIT: Duration = Duration::from_mins(10);

const FIRST_WAIT: Duration = Duration::from_millis(500);

const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What becomes of a report that was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It may be accepted in a moment: send it again, not before `after` if the server asked for a time.
    Retry {
        /// What the server asks for; [`Backoff`] says how much of it is waited.
        after: Option<Duration>,
    },
    /// It will be accepted once someone has changed something; until then, neither will any other of this account.
    Hold,
    /// The server does not know the account: send it to the default account.
    Reroute,
    /// It will never be accepted. Others may.
    Reject,
}

/// What `error`, the answer to a report for `account`, means.
pub fn disposition(error: &SendError, account: &str) -> Disposition {
    match error {
        // Certificates and passwords of proxies do not mend themselves: that is work for an operator.
        SendError::Transport(TransportError::Tls { .. } | TransportError::ProxyAuthentication { .. })
        | SendError::Redirected { .. }
        | SendError::NotAnchore { .. } => Disposition::Hold,
        SendError::Transport(_) => Disposition::Retry { after: None },
        SendError::Refused(refusal) if is_unknown_account(refusal, account) => Disposition::Reroute,
        SendError::Refused(refusal) => of_status(refusal),
        SendError::Unsendable(_) => Disposition::Reject,
    }
}

fn of_status(refusal: &Refusal) -> Disposition {
    match refusal.status {
        StatusCode::UNAUTHORIZED
        | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        | StatusCode::FORBIDDEN
        | StatusCode::NOT_FOUND
        | StatusCode::METHOD_NOT_ALLOWED => Disposition::Hold,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => retry(refusal),
        status if status.is_server_error() => retry(refusal),
        _ => Disposition::Reject,
    }
}

fn retry(refusal: &Refusal) -> Disposition {
    Disposition::Retry { after: refusal.retry_after }
}

/// A user of the admin account is told that the account does not exist; any other user that a right is missing in it.
/// Every other 403 is about the user, and says nothing of the account.
fn is_unknown_account(refusal: &Refusal, account: &str) -> bool {
    refusal.names_unknown_account()
        || (refusal.status == StatusCode::FORBIDDEN && domain_of_missing_right(refusal.words.as_str()) == Some(account))
}

/// The account in `Requires permissions: domain=<account> action=… target=…`.
fn domain_of_missing_right(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once("Requires permissions: domain=")?;
    Some(rest.split_once(" action=").map_or(rest, |(domain, _)| domain))
}

/// The waits between attempts: half a second, doubling to half a minute, each shortened by up to a half at random so
/// that many agents do not come back at the same moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST_WAIT }
    }

    /// The wait before the next attempt: what the server asked for, within reason, else the next of the row.
    pub(crate) fn next_wait(&mut self, requested: Option<Duration>) -> Duration {
        let wait = jittered(self.next, random_fraction());
        self.next = self.next.saturating_mul(2).min(LONGEST_WAIT);
        // A request to come back at once is answered with the shortest wait.
        requested.map_or(wait, |requested| requested.clamp(FIRST_WAIT / 2, LONGEST_REQUESTED_WAIT))
    }
}

/// `wait`, shortened by up to a half.
pub(crate) fn jittered(wait: Duration, fraction: f64) -> Duration {
    wait.mul_f64(1.0 - fraction.clamp(0.0, 1.0) / 2.0)
}

/// A number in 0..=1 that differs between processes and calls: the hasher of the standard library is seeded at random,
/// and no better randomness is needed here.
pub(crate) fn random_fraction() -> f64 {
    f64::from(u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::anchore::answer::Words;
    use crate::anchore::error::Stage;

    const RETRY: Disposition = Disposition::Retry { after: None };

    fn refused(status: u16, body: &str) -> SendError {
        refused_for(status, body, None)
    }

    fn refused_for(status: u16, body: &str, retry_after: Option<Duration>) -> SendError {
        SendError::Refused(Box::new(Refusal {
            url: "https://anchore.example/v2/kubernetes-inventory".to_owned(),
            status: StatusCode::from_u16(status).unwrap(),
            retry_after,
            words: Words::of(body.as_bytes()),
            byte_len: 10,
            note: None,
        }))
    }

    #[rstest]
    #[case(408, RETRY)]
    #[case(425, RETRY)]
    #[case(429, RETRY)]
    #[case(500, RETRY)]
    #[case(502, RETRY)]
    #[case(503, RETRY)]
    #[case(504, RETRY)]
    #[case(599, RETRY)]
    #[case(401, Disposition::Hold)]
    #[case(403, Disposition::Hold)]
    #[case(404, Disposition::Hold)]
    #[case(405, Disposition::Hold)]
    #[case(407, Disposition::Hold)]
    #[case(400, Disposition::Reject)]
    #[case(413, Disposition::Reject)]
    #[case(415, Disposition::Reject)]
    #[case(422, Disposition::Reject)]
    #[case(409, Disposition::Reject)]
    #[case(418, Disposition::Reject)]
    fn a_status_alone_decides_where_no_words_matter(#[case] status: u16, #[case] expected: Disposition) {
        for body in ["", "<html>", r#"{"message": "no"}"#] {
            assert_eq!(disposition(&refused(status, body), "team-a"), expected, "{body}");
        }
    }

    #[test]
    fn transport_errors_are_tried_again_unless_trust_or_a_proxy_s_password_is_missing() {
        let peer = || "anchore.example:443".to_owned();
        let reason = || "reset".to_owned();
        let timeout = TransportError::Timeout { peer: peer(), stage: Stage::Answer, limit: Duration::from_secs(10) };

        for error in [
            TransportError::Connect { peer: peer(), reason: reason() },
            TransportError::Broken { peer: peer(), reason: reason() },
            timeout,
        ] {
            assert_eq!(disposition(&error.into(), "team-a"), RETRY);
        }
        let untrusted = TransportError::Tls { peer: peer(), reason: reason() };
        assert_eq!(disposition(&untrusted.into(), "team-a"), Disposition::Hold);
        let refused_by_proxy = TransportError::ProxyAuthentication { peer: peer() };
        assert_eq!(disposition(&refused_by_proxy.into(), "team-a"), Disposition::Hold);
    }

    #[test]
    fn answers_of_something_that_is_not_anchore_are_held() {
        let redirected = SendError::Redirected { from: String::new(), status: StatusCode::FOUND, to: String::new() };
        let page = SendError::NotAnchore { url: String::new(), status: StatusCode::OK, words: Words::default() };

        assert_eq!(disposition(&redirected, "team-a"), Disposition::Hold);
        assert_eq!(disposition(&page, "team-a"), Disposition::Hold);
    }

    #[rstest]
    #[case(404, "User account not found. Name=team-a")]
    #[case(403, "Not authorized. Requires permissions: domain=team-a action=syncInventory target=*")]
    #[case(403, "Not authorized. Requires permissions: domain=team-a")]
    fn an_unknown_account_is_rerouted(#[case] status: u16, #[case] message: &str) {
        let body = serde_json::json!({"message": message, "httpcode": status, "detail": {}}).to_string();
        assert_eq!(disposition(&refused(status, &body), "team-a"), Disposition::Reroute);
    }

    #[rstest]
    #[case(403, "Not authorized. Requires permissions: domain=team-ab action=syncInventory target=*")]
    #[case(403, "Not authorized. Requires permissions: domain=team action=syncInventory target=*")]
    #[case(403, "Not authorized. Account team-a not enabled.")]
    #[case(403, "User account not found. Name=team-a")]
    #[case(404, "Requires permissions: domain=team-a action=syncInventory")]
    #[case(404, "The requested URL was not found on the server")]
    fn other_refusals_are_not(#[case] status: u16, #[case] message: &str) {
        let body = serde_json::json!({"message": message}).to_string();
        assert_eq!(disposition(&refused(status, &body), "team-a"), Disposition::Hold);
    }

    #[test]
    fn the_time_that_the_server_asks_for_goes_with_the_disposition() {
        let asked = Some(Duration::from_hours(24));

        assert_eq!(disposition(&refused_for(503, "", asked), "team-a"), Disposition::Retry { after: asked });
    }

    #[test]
    fn the_wait_doubles_up_to_half_a_minute() {
        let mut backoff = Backoff::new();
        for whole in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000].map(Duration::from_millis) {
            let wait = backoff.next_wait(None);
            assert!(whole / 2 <= wait && wait <= whole, "{wait:?} of {whole:?}");
        }
    }

    #[test]
    fn a_requested_wait_replaces_the_own_but_is_never_nothing_and_never_above_ten_minutes() {
        let mut backoff = Backoff::new();

        assert_eq!(backoff.next_wait(Some(Duration::from_hours(24))), Duration::from_mins(10));
        assert_eq!(backoff.next_wait(Some(Duration::from_secs(90))), Duration::from_secs(90));
        assert_eq!(backoff.next_wait(Some(Duration::ZERO)), Duration::from_millis(250));
    }

    proptest! {
        #[test]
        fn jitter_keeps_between_half_and_all(milliseconds in 0_u64..600_000, fraction in 0.0_f64..=1.0) {
            let whole = Duration::from_millis(milliseconds);
            let wait = jittered(whole, fraction);
            prop_assert!(whole / 2 <= wait && wait <= whole);
        }
    }
}
