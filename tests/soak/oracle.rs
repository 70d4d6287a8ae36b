//! Judges a run: all that ran was reported, nothing else was, and no report was older or smaller than it should be.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::agent::Sample;
use crate::chronicle::{Chronicle, LAG};
use crate::deliveries::{Delivered, Deliveries};
use crate::ledger::{ACCOUNTS, Ledger, Life, accounts_of};

/// A report's time is that of its tick without the fraction of its second.
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A process that lived shorter says nothing about memory.
const LONG_LIFE: Duration = Duration::from_secs(60);

/// What memory may grow by from the second to the last quarter of a process' life.
const GROWTH_BYTES: u64 = 6 * 1024 * 1024;

/// What is judged.
pub(crate) struct Evidence<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) chronicle: &'a Chronicle,
    pub(crate) deliveries: &'a Deliveries,
    /// Reports may come in pieces of some namespaces each.
    pub(crate) is_batched: bool,
}

/// What came of a run in numbers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) ran: usize,
    pub(crate) reported: usize,
    /// Not reported, and that is excused by what was done to the agent.
    pub(crate) excused: usize,
    /// How often it was looked whether a report holds what it has to.
    pub(crate) required: usize,
    pub(crate) reports: usize,
}

impl Evidence<'_> {
    /// What is wrong.
    pub(crate) fn judge(&self) -> (Tally, Vec<String>) {
        let mut findings: Vec<String> = self.deliveries.invented.clone();
        findings.dedup();
        if self.deliveries.rejections > self.chronicle.rejections {
            let (found, made) = (self.deliveries.rejections, self.chronicle.rejections);
            findings.push(format!("{found} reports were rejected, of which no more than {made} for no reason"));
        }
        let mut tally = Tally::default();
        for account in ACCOUNTS {
            let reports = self.deliveries.reports.get(account).map(Vec::as_slice).unwrap_or_default();
            tally.reports += reports.len();
            findings.extend(times_in_order(account, reports));
            self.judge_account(account, reports, (&mut tally, &mut findings));
        }
        (tally, findings)
    }

    fn judge_account(&self, account: &str, reports: &[Delivered], (tally, findings): (&mut Tally, &mut Vec<String>)) {
        let mut ordered: Vec<&Delivered> = reports.iter().collect();
        ordered.sort_by_key(|report| report.timestamp);
        let times: Vec<Timestamp> = ordered.iter().map(|report| report.timestamp).collect();
        let gaps = self.chronicle.gaps(&times);
        let reported: HashSet<usize> = reports.iter().flat_map(|report| report.lives.iter().copied()).collect();
        for (number, life) in self.ledger.lives().iter().enumerate() {
            if !accounts_of(&life.place.namespace).contains(&account) {
                continue;
            }
            tally.ran += 1;
            if reported.contains(&number) {
                tally.reported += 1;
            } else if gaps.iter().any(|gap| life.began >= gap.from && life.ended.is_some_and(|end| end <= gap.until)) {
                tally.excused += 1;
            } else {
                findings.push(self.finding(account, life, "was never reported"));
            }
            if let Some(report) = self.first_without(&ordered, (number, life), &mut tally.required) {
                let what = format!("is not in the report of {}, when it ran", report.timestamp);
                findings.push(self.finding(account, life, &what));
            }
            if let Some(report) = self.first_revival(&ordered, (number, life)) {
                let what = format!("is in the report of {}, after it was gone and reported", report.timestamp);
                findings.push(self.finding(account, life, &what));
            }
        }
    }

    /// The first report that has to have an image, because it was known to run, and does not.
    fn first_without<'a>(
        &self,
        reports: &[&'a Delivered],
        (number, life): (usize, &Life),
        looked: &mut usize,
    ) -> Option<&'a Delivered> {
        let from = self.chronicle.heard_by(life.began);
        let until = life.ended.unwrap_or(Timestamp::MAX);
        let begin = reports.partition_point(|report| report.timestamp < from);
        let within = reports[begin..].iter().take_while(|report| until.duration_since(report.timestamp) > SECOND + LAG);
        let mut due = within.filter(|report| !self.is_batched || report.namespaces.contains(&life.place.namespace_uid));
        due.find(|report| {
            *looked += 1;
            !report.has(number)
        })
        .copied()
    }

    /// The first report that has an image although it was known to be gone, and was accepted after that.
    fn first_revival<'a>(&self, reports: &[&'a Delivered], (number, life): (usize, &Life)) -> Option<&'a Delivered> {
        let gone = self.chronicle.heard_by(life.ended?);
        let mut after = reports.iter().skip_while(|report| report.timestamp < gone);
        let last_due = after.find(|report| report.has(number))?;
        // The same may have arrived more than once, when the agent did not hear the answer.
        let same = reports.iter().filter(|report| report.timestamp == last_due.timestamp);
        let settled = same.map(|report| report.answered_by).max()? + LAG;
        reports.iter().find(|report| report.timestamp > settled && report.has(number)).copied()
    }

    fn finding(&self, account: &str, life: &Life, what: &str) -> String {
        let until = life.ended.unwrap_or(life.began);
        let near = SignedDuration::from_secs(5);
        let told = self.chronicle.told(life.began - near, until + near);
        let reports = self.deliveries.reports.get(account).into_iter().flatten();
        let around = reports.filter(|report| life.began - near <= report.timestamp && report.timestamp <= until + near);
        let around: Vec<String> = around.map(|report| report.outline()).collect();
        format!(
            "{} {what} to {account}\n    what was done then:{told}\n    reports then: {}",
            life.story(),
            around.join(", ")
        )
    }
}

impl Delivered {
    fn has(&self, life: usize) -> bool {
        self.lives.binary_search(&life).is_ok()
    }

    fn outline(&self) -> String {
        let end = if self.is_accepted { "accepted" } else { "rejected" };
        format!("{} {end} by {:.3}", self.timestamp, self.answered_by)
    }
}

fn times_in_order(account: &str, reports: &[Delivered]) -> Option<String> {
    let accepted: Vec<&Delivered> = reports.iter().filter(|report| report.is_accepted).collect();
    let back = accepted.windows(2).find(|pair| pair[0].timestamp > pair[1].timestamp)?;
    Some(format!("{account} accepted a report of {} after one of {}", back[1].timestamp, back[0].timestamp))
}

/// What is wrong with the memory of the process that lived longest; nothing, if that did not live long.
pub(crate) fn judge_memory(samples: &[Sample]) -> (String, Option<String>) {
    let Some(oldest) = samples.iter().max_by_key(|sample| sample.uptime) else { return (String::new(), None) };
    let of_it: Vec<&Sample> = samples.iter().filter(|sample| sample.process == oldest.process).collect();
    let quarter = |number: u32| {
        let (from, until) = (oldest.uptime * (number - 1) / 4, oldest.uptime * number / 4);
        let within = of_it.iter().filter(|sample| from <= sample.uptime && sample.uptime <= until);
        let mut bytes: Vec<u64> = within.map(|sample| sample.bytes).collect();
        bytes.sort_unstable();
        bytes.get(bytes.len() / 2).copied().unwrap_or_default()
    };
    let quarters = [1, 2, 3, 4].map(quarter);
    let told = quarters.map(|bytes| format!("{}", bytes / 1024 / 1024)).join(", ");
    let told = format!("{told} MiB in the quarters of the {} s of the oldest process", oldest.uptime.as_secs());
    let grows = oldest.uptime >= LONG_LIFE && quarters[3] > quarters[1] + GROWTH_BYTES;
    let finding = grows.then(|| format!("memory grows: {told}"));
    (told, finding)
}
