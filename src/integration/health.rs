//! What a health report says: what is wrong, and what became of the last reports of each account.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::StatusSource;
use super::registration::{Process, whole_seconds};
use crate::anchore::integrations::{BatchInfo, HealthReport, ReportInfo};
use crate::delivery::recipient::Recipients;
use crate::delivery::status::{AccountStatus, BatchStatus};
use crate::journal::{Errors, Journal};

/// Most errors that are listed: a cluster may have ten thousand namespaces that cannot be read, and the proxies in front
/// of Anchore take a mebibyte.
const MOST_ERRORS: usize = 500;

/// Most characters of one error.
const MOST_CHARACTERS: usize = 1_000;

/// Makes health reports.
pub(super) struct HealthReporter {
    pub(super) interval: Duration,
    pub(super) polling_interval: Duration,
    pub(super) recipients: Recipients,
    pub(super) journal: Arc<Journal>,
    pub(super) statuses: StatusSource,
}

impl HealthReporter {
    /// A report of this moment, and the errors in it. `default_user` stands where an account's user is not known.
    pub(super) async fn report(&self, process: &Process, default_user: &str) -> (HealthReport, Errors) {
        let now = Timestamp::now();
        let mut reports = BTreeMap::new();
        for status in (self.statuses)() {
            if !is_listed(&status, now, self.polling_interval) {
                continue;
            }
            let user = match status.sent_as.as_str() {
                "" => self.user_of(&status.account, default_user).await,
                user => user.to_owned(),
            };
            reports.insert(status.account.clone(), info(status, user));
        }
        let errors = self.journal.errors();
        let report = HealthReport {
            uuid: Uuid::new_v4().to_string(),
            timestamp: whole_seconds(now),
            uptime: process.uptime(),
            health_report_interval: self.interval.as_secs(),
            errors: bounded(&errors.texts),
            reports,
        };
        (report, errors)
    }

    /// As whom reports of an account would be sent.
    async fn user_of(&self, account: &str, default_user: &str) -> String {
        let sender = self.recipients.of(account).sender().await;
        sender.map_or_else(|_| default_user.to_owned(), |sender| sender.user)
    }
}

/// An account is listed while it has reports: within twice the time from one to the next, or as long as some wait.
fn is_listed(status: &AccountStatus, now: Timestamp, polling_interval: Duration) -> bool {
    let limit = SignedDuration::try_from(polling_interval.saturating_mul(2)).unwrap_or(SignedDuration::MAX);
    status.waiting > 0 || now.duration_since(status.report_timestamp) <= limit
}

fn info(status: AccountStatus, sent_as_user: String) -> ReportInfo {
    let accepted = status.batches.iter().filter(|batch| batch.is_accepted).map(|batch| batch.index).max();
    ReportInfo {
        report_timestamp: whole_seconds(status.report_timestamp),
        account_name: status.account,
        sent_as_user,
        batch_size: number(status.batch_count).max(1),
        last_successful_index: accepted.and_then(|index| i64::try_from(index).ok()).unwrap_or(-1),
        has_errors: status.error.is_some() || status.batches.iter().any(|batch| batch.error.is_some()),
        batches: status.batches.iter().map(batch_info).collect(),
    }
}

fn batch_info(batch: &BatchStatus) -> BatchInfo {
    BatchInfo {
        batch_index: number(batch.index).max(1),
        send_timestamp: whole_seconds(batch.sent_at),
        error: batch.error.as_deref().map(shortened),
    }
}

/// As many errors as fit, and how many more there are.
fn bounded(texts: &[String]) -> Vec<String> {
    let mut errors: Vec<String> = texts.iter().take(MOST_ERRORS).map(|text| shortened(text)).collect();
    let more = texts.len().saturating_sub(MOST_ERRORS);
    if more > 0 {
        errors.push(format!("{more} more errors are not listed; see the agent's log"));
    }
    errors
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_772_600_000 + seconds).expect("in range")
    }

    fn batch(index: usize, is_accepted: bool, error: Option<&str>) -> BatchStatus {
        BatchStatus { index, sent_at: time(1), is_accepted, error: error.map(str::to_owned) }
    }

    fn status(batch_count: usize, batches: Vec<BatchStatus>) -> AccountStatus {
        AccountStatus {
            account: "shop".to_owned(),
            report_timestamp: time(0),
            sent_as: "inventory".to_owned(),
            batch_count,
            batches,
            waiting: 0,
            waiting_bytes: 0,
            oldest: None,
            last_accepted: None,
            error: None,
        }
    }

    fn told(status: AccountStatus) -> (u64, i64, bool, usize) {
        let info = info(status, "inventory".to_owned());
        (info.batch_size, info.last_successful_index, info.has_errors, info.batches.len())
    }

    #[test]
    fn the_last_accepted_batch_is_counted_from_one_and_none_is_minus_one() {
        assert_eq!(told(status(3, Vec::new())), (3, -1, false, 0));
        assert_eq!(told(status(3, vec![batch(1, false, Some("503"))])), (3, -1, true, 1));
        assert_eq!(told(status(3, vec![batch(1, true, None)])), (3, 1, false, 1));
        let later = vec![batch(1, false, Some("413")), batch(2, true, None), batch(3, false, Some("413"))];
        assert_eq!(told(status(3, later)), (3, 2, true, 3));
        assert_eq!(told(status(0, Vec::new())).0, 1, "never below what the schema takes");
    }

    #[test]
    fn a_rerouted_report_stays_under_its_own_name_with_an_error() {
        let rerouted = AccountStatus {
            error: Some("the default account has it".to_owned()),
            ..status(1, vec![batch(1, true, None)])
        };
        let info = info(rerouted, "inventory".to_owned());
        assert_eq!((info.account_name.as_str(), info.last_successful_index, info.has_errors), ("shop", 1, true));
    }

    #[test]
    fn an_account_is_listed_for_two_intervals_or_while_reports_wait() {
        let interval = Duration::from_mins(5);
        let old = status(1, Vec::new());
        assert!(is_listed(&old, time(600), interval));
        assert!(!is_listed(&old, time(601), interval));
        assert!(is_listed(&AccountStatus { waiting: 1, ..old }, time(86_400), interval));
    }

    #[test]
    fn errors_are_bounded_in_number_and_length() {
        let many: Vec<String> = (0..MOST_ERRORS + 2).map(|number| format!("namespace {number}")).collect();
        let errors = bounded(&many);
        assert_eq!(errors.len(), MOST_ERRORS + 1);
        assert_eq!(errors.last().map(String::as_str), Some("2 more errors are not listed; see the agent's log"));
        let long = bounded(&["é".repeat(5_000)]);
        assert_eq!(long.first().map(|text| text.chars().count()), Some(MOST_CHARACTERS + 1));
        assert!(bounded(&[]).is_empty());
    }
}
