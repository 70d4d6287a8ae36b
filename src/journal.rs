//! What is wrong, for the health report: what is wrong now, and what went wrong since the last one that was accepted.
//!
//! Anchore shows an agent as healthy when its report names no error, so everything that makes the inventory incomplete
//! or late has to be said here. Texts are those of the log, which holds no secrets.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Past events that are kept until a health report with them was accepted. More are counted.
const MOST_EVENTS: usize = 100;

/// What is wrong.
#[derive(Debug, Default)]
pub struct Journal {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    /// By a name of what it concerns, `pods` or `account team-a`.
    present: BTreeMap<String, String>,
    past: VecDeque<(u64, String)>,
    forgotten: u64,
    /// Number of the next event.
    next: u64,
}

/// The errors for one health report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    /// In order: what is wrong now, then what went wrong.
    pub texts: Vec<String>,
    /// For [`Journal::told`].
    told: u64,
}

impl Journal {
    /// What concerns `subject` is wrong now in this way, or is right again.
    pub fn state(&self, subject: &str, error: Option<String>) {
        let mut entries = self.entries();
        match error {
            Some(error) => {
                entries.present.insert(subject.to_owned(), error);
            }
            None => {
                entries.present.remove(subject);
            }
        }
    }

    /// Something went wrong, and is over.
    pub fn event(&self, error: String) {
        let mut entries = self.entries();
        let number = entries.next;
        entries.next += 1;
        entries.past.push_back((number, error));
        if entries.past.len() > MOST_EVENTS {
            entries.past.pop_front();
            entries.forgotten += 1;
        }
    }

    /// All errors to tell now, each text once.
    pub fn errors(&self) -> Errors {
        let entries = self.entries();
        let mut texts: Vec<String> = entries.present.values().cloned().collect();
        for (_, text) in &entries.past {
            if !texts.contains(text) {
                texts.push(text.clone());
            }
        }
        if entries.forgotten > 0 {
            texts.push(format!("{} earlier errors are not listed", entries.forgotten));
        }
        Errors { texts, told: entries.next }
    }

    /// A report with these errors was accepted: what is over need not be told again.
    pub fn told(&self, errors: &Errors) {
        let mut entries = self.entries();
        entries.past.retain(|(number, _)| *number >= errors.told);
        entries.forgotten = 0;
    }

    /// The values behind this lock are whole at any time, so a panic elsewhere does not spoil them.
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn what_is_wrong_now_is_told_until_it_is_right() {
        let journal = Journal::default();
        journal.state("pods", Some("blind".to_owned()));
        let errors = journal.errors();
        assert_eq!(errors.texts, ["blind"]);
        journal.told(&errors);
        assert_eq!(journal.errors().texts, ["blind"]);
        journal.state("pods", None);
        assert!(journal.errors().texts.is_empty());
    }

    #[test]
    fn what_went_wrong_is_told_until_a_report_with_it_was_accepted() {
        let journal = Journal::default();
        journal.event("a tick without a report".to_owned());
        journal.event("a tick without a report".to_owned());
        let errors = journal.errors();
        assert_eq!(errors.texts, ["a tick without a report"]);
        journal.event("rejected".to_owned());
        journal.told(&errors);
        assert_eq!(journal.errors().texts, ["rejected"]);
    }

    #[test]
    fn only_so_much_is_kept() {
        let journal = Journal::default();
        for number in 0..=MOST_EVENTS {
            journal.event(format!("event {number}"));
        }
        let texts = journal.errors().texts;
        assert_eq!((texts.len(), texts.last().map(String::as_str)), (101, Some("1 earlier errors are not listed")));
    }
}
