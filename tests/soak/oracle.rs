//! Judges a run: all that ran was reported, nothing else was, and no report was older or smaller than it should be.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::agent::Sample;
use crate::chronicle::{Chronicle, LAG};
use crate::deliveries::{Delivered, Deliveries, Misplaced};
use crate::ledger::{ACCOUNTS, Ledger, Life, accounts_of};

/// A report's time is that of its tick without the fraction of its second.
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// The agent tells so many namespaces of one name from each other that are gone, for news of their pods that come late.
const MOST_FORMER: usize = 4;

/// A process that lived shorter says nothing about memory.
const LONG_LIFE: Duration = Duration::from_mins(5);

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
        findings.extend(self.deliveries.misplaced.iter().filter_map(|misplaced| self.misplaced(misplaced)));
        let mut tally = Tally::default();
        for account in ACCOUNTS {
            let reports = self.deliveries.reports.get(account).map(Vec::as_slice).unwrap_or_default();
            tally.reports += reports.len();
            findings.extend(times_in_order(account, reports));
            self.judge_account(account, reports, (&mut tally, &mut findings));
        }
        (tally, findings)
    }

    /// What is wrong with an image in another namespace of its own one's name; nothing, while the agent may not have
    /// heard that the former one is gone, has never heard of its own one, or has heard of many that were there since.
    fn misplaced(&self, misplaced: &Misplaced) -> Option<String> {
        let Misplaced { account, timestamp, life, namespace_uid } = misplaced;
        let life = &self.ledger.lives()[*life];
        let gone = self.ledger.namespace_gone(namespace_uid);
        let is_unheard = gone.is_some_and(|gone| *timestamp < self.chronicle.heard_by(gone));
        let since = self.ledger.gone_after(&life.place.namespace_uid, *timestamp + LAG);
        if is_unheard || self.chronicle.is_blind(life.began) || since >= MOST_FORMER {
            return None;
        }
        let gone = gone.map(|gone| format!(", gone at {gone:.3}")).unwrap_or_default();
        let what = format!("was reported in namespace {namespace_uid}{gone}, at {timestamp},");
        Some(self.finding(account, life, &what))
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
        let around: Vec<String> = around.map(Delivered::outline).collect();
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

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::chronicle::{Downtime, Effect, Window};
    use crate::ledger::Place;

    /// Runs of one pod of team-a, and what was reported of them.
    #[derive(Default)]
    struct Case {
        ledger: Ledger,
        chronicle: Chronicle,
        deliveries: Deliveries,
        is_batched: bool,
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    impl Case {
        /// Something that ran from this second to that.
        fn ran(mut self, from: i64, until: i64) -> Self {
            let number = self.ledger.lives().len();
            let place = Place {
                namespace: "a-shop".to_owned(),
                namespace_uid: "namespace".to_owned(),
                pod: "pod".to_owned(),
                pod_uid: "pod".to_owned(),
            };
            self.ledger.ran((at(from), at(until)), &format!("image-{number}"), place);
            self
        }

        /// A report of this second, which holds these.
        fn reported(mut self, second: i64, lives: &[usize]) -> Self {
            let reports = self.deliveries.reports.entry("team-a".to_owned()).or_default();
            reports.push(Delivered {
                request: reports.len(),
                timestamp: at(second),
                answered_by: at(second),
                is_accepted: true,
                lives: lives.into(),
                namespaces: ["namespace".to_owned()].into(),
            });
            self
        }

        fn window(mut self, from: i64, until: i64, effect: Effect) -> Self {
            let (from, until, what) = (at(from), at(until), String::new());
            self.chronicle.windows.push(Window { from, until, effect, what });
            self
        }

        fn down(mut self, killed: i64, until: i64) -> Self {
            self.chronicle.downtimes.push(Downtime { killed: at(killed), until: at(until) });
            self
        }

        /// What is wrong, without the circumstances.
        fn findings(&self) -> Vec<String> {
            let Self { ledger, chronicle, deliveries, is_batched } = self;
            let (_, findings) = Evidence { ledger, chronicle, deliveries, is_batched: *is_batched }.judge();
            let what = |finding: &String| {
                let kinds = ["never reported", "is not in", "after it was gone", "after one of", "was reported in"];
                kinds.into_iter().find(|kind| finding.contains(kind)).unwrap_or("other").to_owned()
            };
            findings.iter().map(what).collect()
        }
    }

    #[test]
    fn what_was_reported_as_it_ran_is_right() {
        let case = Case::default().ran(0, 6).ran(3, 3).reported(2, &[0]).reported(4, &[0, 1]).reported(7, &[0]);
        assert_eq!(case.reported(9, &[]).findings(), [""; 0]);
    }

    #[test]
    fn what_ran_in_view_and_was_never_reported_is_found() {
        let case = Case::default().ran(3, 3).reported(2, &[]).reported(4, &[]);
        assert_eq!(case.findings(), ["never reported"]);
        assert_eq!(Case::default().ran(3, 3).findings(), ["never reported"]);
    }

    #[test]
    fn a_window_excuses_only_what_began_and_ended_in_it_while_nothing_was_to_be_known() {
        let case = || Case::default().ran(10, 12);
        assert_eq!(case().window(9, 13, Effect::Blinds).findings(), [""; 0]);
        assert_eq!(case().window(9, 13, Effect::Delays).findings(), ["never reported"]);
        assert_eq!(case().window(9, 11, Effect::Blinds).findings(), ["never reported"]);
        assert_eq!(case().window(9, 11, Effect::Blinds).window(11, 13, Effect::Blinds).findings(), [""; 0]);
    }

    #[test]
    fn a_kill_excuses_what_no_report_before_it_could_hold() {
        let case = |last| Case::default().ran(10, 12).reported(last, &[]).down(14, 20);
        assert_eq!(case(11).findings(), [""; 0]);
        assert_eq!(case(13).findings(), ["never reported"]);
        let late = case(13).window(9, 13, Effect::Delays);
        assert_eq!(late.findings(), [""; 0], "news that came late were not in that report");
        let seen_again = Case::default().ran(10, 21).reported(11, &[]).down(14, 20);
        assert_eq!(seen_again.findings(), ["never reported"]);
    }

    #[test]
    fn a_report_without_what_ran_all_the_time_is_found() {
        let case = || Case::default().ran(0, 20).reported(3, &[0]);
        assert_eq!(case().reported(10, &[]).findings(), ["is not in"]);
        assert_eq!(case().reported(19, &[]).findings(), [""; 0], "it may be gone by then");
        assert_eq!(case().window(0, 12, Effect::Delays).reported(10, &[]).findings(), [""; 0]);
        let mut pieces = case().reported(10, &[]);
        pieces.is_batched = true;
        assert_eq!(pieces.findings(), ["is not in"], "a piece is whole for its namespaces");
    }

    #[test]
    fn what_comes_back_after_it_was_gone_and_reported_is_found() {
        let case = || Case::default().ran(0, 5).reported(4, &[0]).reported(8, &[0]);
        assert_eq!(case().reported(9, &[0]).findings(), [""; 0], "that it was accepted was not known");
        assert_eq!(case().reported(11, &[0]).findings(), ["after it was gone"]);
        assert_eq!(case().window(5, 9, Effect::Delays).reported(11, &[0]).findings(), [""; 0]);
    }

    #[test]
    fn an_older_report_after_a_newer_one_is_found() {
        assert_eq!(Case::default().reported(5, &[]).reported(5, &[]).reported(4, &[]).findings(), ["after one of"]);
    }

    #[test]
    fn memory_that_grows_in_the_second_half_is_found() {
        let samples = |bytes: fn(u64) -> u64| -> Vec<Sample> {
            let sample = |second| Sample { process: 1, uptime: Duration::from_secs(second), bytes: bytes(second) };
            (0..400).map(sample).collect()
        };
        assert_eq!(judge_memory(&samples(|_| 30 << 20)).1, None);
        assert_eq!(judge_memory(&samples(|second| (second.min(150) + 30) << 20)).1, None);
        assert!(judge_memory(&samples(|second| (second + 30) << 20)).1.is_some());
    }
}
