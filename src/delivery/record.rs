//! What is told of an account: the set that is being sent or was sent last, and what is wrong.

use std::collections::{BTreeSet, VecDeque};

use jiff::Timestamp;

use super::backlog::{BatchId, Waiting};
use super::status::{AccountStatus, BatchStatus};

/// How the attempts of an account went.
#[derive(Debug, Default)]
pub(crate) struct Record {
    set: Option<SetRecord>,
    sent_as: String,
    last_accepted: Option<Timestamp>,
    error: Option<String>,
}

#[derive(Debug)]
struct SetRecord {
    sequence: u64,
    timestamp: Timestamp,
    batch_count: usize,
    batches: Vec<BatchStatus>,
    /// One of its batches will never be accepted.
    is_rejected: bool,
}

/// One attempt, as it ended.
#[derive(Debug)]
pub(crate) struct Attempted<'a> {
    /// At which batch.
    pub(crate) id: BatchId,
    /// When it began.
    pub(crate) at: Timestamp,
    /// The user, if a request was made.
    pub(crate) user: Option<&'a str>,
    /// How it ended.
    pub(crate) end: End,
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Accepted; by the default account, for this reason.
    Accepted { reroute: Option<String> },
    /// There will be others.
    Failed(String),
    /// There will be none.
    Rejected(String),
}

impl Record {
    /// An attempt at this batch begins.
    pub(crate) fn begin(&mut self, batch: &Waiting) {
        if self.set.as_ref().is_none_or(|set| set.sequence != batch.id.sequence) {
            self.set = Some(SetRecord {
                sequence: batch.id.sequence,
                timestamp: batch.timestamp,
                batch_count: batch.batch_count,
                batches: Vec::new(),
                is_rejected: false,
            });
        }
    }

    /// An attempt ended.
    pub(crate) fn attempted(&mut self, attempt: Attempted<'_>) {
        if let Some(user) = attempt.user {
            user.clone_into(&mut self.sent_as);
        }
        let is_accepted = matches!(attempt.end, End::Accepted { .. });
        let is_rejected = matches!(attempt.end, End::Rejected(_));
        let error = match attempt.end {
            End::Accepted { reroute } => reroute,
            End::Failed(reason) | End::Rejected(reason) => Some(reason),
        };
        if is_accepted {
            self.last_accepted = Some(Timestamp::now());
        }
        let mut keeps_error = false;
        if let Some(set) = self.set.as_mut().filter(|set| set.sequence == attempt.id.sequence) {
            // That the others were accepted does not mend a rejection.
            keeps_error = is_accepted && error.is_none() && set.is_rejected;
            set.is_rejected |= is_rejected;
            set.batches.retain(|batch| batch.index != attempt.id.index);
            set.batches.push(BatchStatus {
                index: attempt.id.index,
                sent_at: attempt.at,
                is_accepted,
                error: error.clone(),
            });
        }
        if !keeps_error {
            self.error = error;
        }
    }

    /// The account as it is told, with what waits; `None` when there is nothing to tell.
    pub(crate) fn status(&self, account: &str, queue: &VecDeque<Waiting>) -> Option<AccountStatus> {
        let head = queue.front();
        let (report_timestamp, batch_count) = match (&self.set, head) {
            (Some(set), _) => (set.timestamp, set.batch_count),
            (None, Some(head)) => (head.timestamp, head.batch_count),
            (None, None) => return None,
        };
        let sets: BTreeSet<u64> = queue.iter().map(|waiting| waiting.id.sequence).collect();
        Some(AccountStatus {
            account: account.to_owned(),
            report_timestamp,
            sent_as: self.sent_as.clone(),
            batch_count,
            batches: self.set.as_ref().map_or_else(Vec::new, |set| set.batches.clone()),
            waiting: sets.len(),
            waiting_bytes: queue.iter().map(|waiting| waiting.payload().byte_len()).sum(),
            oldest: queue.iter().map(|waiting| waiting.timestamp).min(),
            last_accepted: self.last_accepted,
            error: self.error.clone(),
        })
    }
}
