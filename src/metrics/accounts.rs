//! Metrics by account, as long as the accounts are few: their names come from labels of namespaces too, and each would
//! be a series for ever.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Unit;

use super::family::{Labels, Registrar, Seconds, seconds};
use super::label::{Label, ReportOutcome};

/// Above so many accounts the label is left out, and each metric is one for all.
pub(super) const MOST_ACCOUNTS: usize = 50;

const ACCOUNT: &str = "account";

/// What became of reports, by account.
#[derive(Debug)]
pub(super) struct Accounts {
    reports: Family<Labels, Counter>,
    last_accepted: Family<Labels, Seconds>,
    known: Mutex<Known>,
}

#[derive(Debug)]
enum Known {
    /// These.
    Few(BTreeSet<String>),
    /// More than can be told apart.
    TooMany,
}

impl Accounts {
    pub(super) fn new(registrar: &mut Registrar) -> Self {
        let outcomes: Vec<String> = ReportOutcome::ALL.iter().map(|outcome| format!("`{}`", outcome.name())).collect();
        let labels = format!("`{}`: {}; `{ACCOUNT}`", ReportOutcome::NAME, outcomes.join(", "));
        let reports = registrar.register(
            ("reports", None, "Batches of reports, by what became of them; above 50 accounts without that label"),
            labels,
            Family::default(),
        );
        let last_accepted = registrar.register(
            (
                "last_accepted_report_timestamp",
                Some(Unit::Seconds),
                "When a report was accepted last; above 50 accounts the latest of all; absent before the first",
            ),
            format!("`{ACCOUNT}`"),
            Family::default(),
        );
        Self { reports, last_accepted, known: Mutex::new(Known::Few(BTreeSet::new())) }
    }

    /// So many more batches of `account` ended in this way.
    pub(super) fn count(&self, account: &str, outcome: ReportOutcome, batches: u64) {
        let labelled = self.is_labelled(account);
        self.reports.get_or_create(&report_labels(labelled, account, outcome)).inc_by(batches);
    }

    /// A report of `account` was accepted.
    pub(super) fn accepted(&self, account: &str, at: Timestamp) {
        self.count(account, ReportOutcome::Accepted, 1);
        let labelled = self.is_labelled(account);
        self.last_accepted.get_or_create(&account_label(labelled, account)).set(seconds(at));
    }

    /// Whether metrics of `account` carry its name. The first account too many takes the names from all, and what they
    /// counted goes on in one metric, so that sums stay what they are.
    fn is_labelled(&self, account: &str) -> bool {
        let mut known = self.known();
        let Known::Few(names) = &mut *known else { return false };
        if names.contains(account) {
            return true;
        }
        if names.len() < MOST_ACCOUNTS {
            names.insert(account.to_owned());
            for outcome in ReportOutcome::ALL {
                self.reports.get_or_create_owned(&report_labels(true, account, *outcome));
            }
            return true;
        }
        self.merge(names);
        *known = Known::TooMany;
        false
    }

    fn merge(&self, names: &BTreeSet<String>) {
        let sums: Vec<(ReportOutcome, u64)> = ReportOutcome::ALL
            .iter()
            .map(|outcome| {
                let counters = names.iter().map(|name| self.reports.get(&report_labels(true, name, *outcome)));
                (*outcome, counters.flatten().map(|counter| counter.get()).sum())
            })
            .collect();
        let latest = names
            .iter()
            .filter_map(|name| self.last_accepted.get(&account_label(true, name)).map(|moment| moment.get()))
            .reduce(f64::max);
        self.reports.clear();
        self.last_accepted.clear();
        for (outcome, sum) in sums {
            self.reports.get_or_create(&report_labels(false, "", outcome)).inc_by(sum);
        }
        if let Some(latest) = latest {
            self.last_accepted.get_or_create(&Labels::new()).set(latest);
        }
    }

    /// The value behind this lock is whole at any time, so a panic elsewhere does not spoil it.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report_labels(labelled: bool, account: &str, outcome: ReportOutcome) -> Labels {
    let mut labels: Labels = vec![(ReportOutcome::NAME, outcome.name().into())];
    labels.extend(account_label(labelled, account));
    labels
}

fn account_label(labelled: bool, account: &str) -> Labels {
    if labelled { vec![(ACCOUNT, account.to_owned().into())] } else { Labels::new() }
}
