//! What becomes of the reports of a resident agent, while it becomes so: for health reports, metrics and the log.

use jiff::Timestamp;

/// Something that happened to reports of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryEvent {
    /// The account the reports are of, also where they went to the default account. Empty for files of the spool of
    /// which nobody can tell.
    pub account: String,
    /// What happened.
    pub what: Happening,
}

/// What happened to a report, or to a set of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A batch was accepted.
    Accepted {
        /// What the batch was said to carry when it was handed over; empty for batches of an earlier process.
        carried: Vec<u64>,
        /// Length of its body in bytes.
        bytes: u64,
        /// Why it was accepted by the default account instead.
        reroute: Option<String>,
    },
    /// A batch will never be accepted and is dropped.
    Rejected {
        /// As for accepted ones: what it carried is given up.
        carried: Vec<u64>,
        /// The server's words.
        reason: String,
    },
    /// An attempt failed; there will be others.
    Failed {
        /// Why.
        reason: String,
    },
    /// A set could not be written to the disk and waits in memory.
    Unwritten {
        /// Its batches.
        batches: usize,
        /// Why.
        reason: String,
    },
    /// Batches that were not begun gave way to newer ones.
    Superseded {
        /// How many.
        batches: usize,
    },
    /// Batches were dropped without an answer: for want of room, or because they were for another Anchore, another
    /// cluster name, an earlier term of leading, or could not be read.
    Dropped {
        /// How many.
        batches: usize,
        /// Why.
        reason: String,
    },
}

/// The reports of an account as a health report tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountStatus {
    /// The account the reports are of.
    pub account: String,
    /// The time of the set of reports that was sent last, or is being sent.
    pub report_timestamp: Timestamp,
    /// The user of the last attempt; empty before the first.
    pub sent_as: String,
    /// How many batches the set has.
    pub batch_count: usize,
    /// The attempts at its batches, in order; fewer than there are batches while it is being sent.
    pub batches: Vec<BatchStatus>,
    /// Sets that wait, the one being sent included.
    pub waiting: usize,
    /// Bytes that wait.
    pub waiting_bytes: u64,
    /// The time of the oldest set that waits.
    pub oldest: Option<Timestamp>,
    /// When a batch was accepted last.
    pub last_accepted: Option<Timestamp>,
    /// What is wrong now, if anything: the last failure of a set that still waits, a rejection, or a reroute.
    pub error: Option<String>,
}

/// The last attempt at one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchStatus {
    /// Its number in the set, from 1.
    pub index: usize,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// Whether it was accepted.
    pub is_accepted: bool,
    /// What failed, or why the default account has it.
    pub error: Option<String>,
}
