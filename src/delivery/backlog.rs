//! Which batches wait, in which order, and which give way. Pure: touches no disk and no network.
//!
//! Each account has a queue. Its head is begun by its first attempt and stays the head until it is settled, so that an
//! older report is never sent after a newer one. A new set takes the place of the batches of this process that are not
//! begun; what an earlier process left is never replaced.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::record::Record;
use super::spool::SpoolFile;
use super::status::AccountStatus;
use crate::anchore::payload::Payload;

/// An account of which nothing waits is forgotten this long after its last set.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// Which batch: by the number of its set, then by its own, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BatchId {
    pub(crate) sequence: u64,
    pub(crate) index: usize,
}

/// A batch that waits.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) id: BatchId,
    /// Batches in its set.
    pub(crate) batch_count: usize,
    pub(crate) timestamp: Timestamp,
    /// Namespaces in it.
    pub(crate) namespaces: usize,
    pub(crate) content: Content,
    /// What it was said to carry.
    pub(crate) carried: Arc<[u64]>,
    /// An earlier process made it.
    pub(crate) is_earlier: bool,
    /// There was an attempt, or there is one.
    pub(crate) is_begun: bool,
}

/// Where the body is.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    File(SpoolFile),
    /// Serialised for each attempt.
    Memory(Payload),
}

impl Waiting {
    /// Its body.
    pub(crate) fn payload(&self) -> Payload {
        match &self.content {
            Content::File(file) => file.payload(),
            Content::Memory(payload) => payload.clone(),
        }
    }

    /// Its file, if it has one.
    pub(crate) fn file(&self) -> Option<&SpoolFile> {
        match &self.content {
            Content::File(file) => Some(file),
            Content::Memory(_) => None,
        }
    }

    fn file_len(&self) -> u64 {
        self.file().map_or(0, SpoolFile::file_len)
    }
}

/// Batches that left the queue of an account.
pub(crate) type Departed = BTreeMap<String, Vec<Waiting>>;

/// What waits, of all accounts.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    accounts: BTreeMap<String, Account>,
    next_sequence: u64,
    /// Sets with a smaller number are of an earlier term of leading.
    term_begin: u64,
}

#[derive(Debug, Default)]
struct Account {
    queue: VecDeque<Waiting>,
    /// The head is with the server, or on its way.
    is_requested: bool,
    /// Someone sends what is in the queue, or is about to.
    is_driven: bool,
    /// Time of the newest batch that an attempt was made for.
    newest_begun: Option<Timestamp>,
    newest: Option<Timestamp>,
    record: Record,
}

impl Account {
    /// Removes the batches that `leaves` says, in order. The one that is requested stays.
    fn drain(&mut self, leaves: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let mut gone = Vec::new();
        let mut at = usize::from(self.is_requested);
        while let Some(waiting) = self.queue.get(at) {
            if leaves(waiting) {
                gone.extend(self.queue.remove(at));
            } else {
                at += 1;
            }
        }
        gone
    }
}

impl Backlog {
    /// The number for a new set.
    pub(crate) fn number(&mut self) -> u64 {
        let number = self.next_sequence;
        self.next_sequence = number.saturating_add(1);
        number
    }

    /// Numbers are at least this from now on.
    pub(crate) fn number_from(&mut self, sequence: u64) {
        self.next_sequence = self.next_sequence.max(sequence);
    }

    /// Takes over what an earlier process left, in order, before all sets of this process. Gives the accounts to be
    /// driven, and what is too old: something newer was sent meanwhile.
    pub(crate) fn adopt(&mut self, batches: Vec<(String, Waiting)>) -> (Vec<String>, Departed) {
        let (mut to_drive, mut too_old) = (Vec::new(), Departed::new());
        for (name, batch) in batches {
            let account = self.accounts.entry(name.clone()).or_default();
            if account.newest_begun.is_some_and(|newest| newest >= batch.timestamp) {
                too_old.entry(name).or_default().push(batch);
                continue;
            }
            let at = account.queue.iter().take_while(|waiting| waiting.is_earlier || waiting.is_begun).count();
            account.queue.insert(at, batch);
            if !std::mem::replace(&mut account.is_driven, true) {
                to_drive.push(name);
            }
        }
        (to_drive, too_old)
    }

    /// Takes the batches out that a new set of the account replaces.
    pub(crate) fn supersede(&mut self, account: &str) -> Vec<Waiting> {
        let account = self.accounts.get_mut(account);
        account.map_or_else(Vec::new, |account| account.drain(|waiting| !waiting.is_earlier && !waiting.is_begun))
    }

    /// Adds a set. Gives what it replaces, and whether the account is to be driven.
    pub(crate) fn push(&mut self, name: &str, batches: Vec<Waiting>) -> (Vec<Waiting>, bool) {
        let superseded = self.supersede(name);
        if let Some(now) = batches.first().map(|batch| batch.timestamp) {
            self.forget_old(now);
        }
        let account = self.accounts.entry(name.to_owned()).or_default();
        account.newest = batches.last().map(|batch| batch.timestamp).or(account.newest);
        account.queue.extend(batches);
        let is_driven = account.is_driven || account.queue.is_empty();
        account.is_driven = !account.queue.is_empty();
        (superseded, !is_driven)
    }

    fn forget_old(&mut self, now: Timestamp) {
        self.accounts.retain(|_, account| {
            let is_old = account.newest.is_none_or(|newest| now.duration_since(newest) > FORGOTTEN_AFTER);
            account.is_driven || !account.queue.is_empty() || !is_old
        });
    }

    /// Bytes in files, and those of them that cannot go because they are being sent.
    pub(crate) fn file_bytes(&self) -> (u64, u64) {
        let all = self.accounts.values().flat_map(|account| &account.queue).map(Waiting::file_len).sum();
        let requested = self.accounts.values().filter(|account| account.is_requested);
        let fixed = requested.filter_map(|account| account.queue.front()).map(Waiting::file_len).sum();
        (all, fixed)
    }

    /// Takes the oldest files out until no more than `most` bytes are in files.
    pub(crate) fn evict(&mut self, most: u64) -> Departed {
        let mut candidates: Vec<(BatchId, u64, String)> = Vec::new();
        for (name, account) in &self.accounts {
            let free = account.queue.iter().skip(usize::from(account.is_requested));
            let files = free.filter(|waiting| waiting.file().is_some());
            candidates.extend(files.map(|waiting| (waiting.id, waiting.file_len(), name.clone())));
        }
        candidates.sort();
        let (mut bytes, _) = self.file_bytes();
        let mut evicted = Departed::new();
        for (id, length, name) in candidates {
            if bytes <= most {
                break;
            }
            bytes = bytes.saturating_sub(length);
            let gone = self.accounts.get_mut(&name).map(|account| account.drain(|waiting| waiting.id == id));
            evicted.entry(name).or_default().extend(gone.unwrap_or_default());
        }
        evicted
    }

    /// The head of the queue, for an attempt. `None`: nothing waits, and the account is not driven any more.
    pub(crate) fn begin(&mut self, account: &str) -> Option<Waiting> {
        let account = self.accounts.get_mut(account)?;
        let Some(head) = account.queue.front_mut() else {
            account.is_driven = false;
            return None;
        };
        head.is_begun = true;
        account.is_requested = true;
        account.newest_begun = account.newest_begun.max(Some(head.timestamp));
        account.record.begin(head);
        Some(head.clone())
    }

    /// The attempt is over, and the head stays.
    pub(crate) fn release(&mut self, account: &str) {
        if let Some(account) = self.accounts.get_mut(account) {
            account.is_requested = false;
        }
    }

    /// The head leaves: it was accepted, or never will be. `None`: it had left before.
    pub(crate) fn settle(&mut self, account: &str, id: BatchId) -> Option<Waiting> {
        let account = self.accounts.get_mut(account)?;
        account.is_requested = false;
        let is_there = account.queue.front().is_some_and(|head| head.id == id);
        is_there.then(|| account.queue.pop_front()).flatten()
    }

    /// What is in the queues now is of an earlier term of leading.
    pub(crate) fn end_term(&mut self) {
        self.term_begin = self.next_sequence;
    }

    /// Takes out what is of an earlier term.
    pub(crate) fn drop_earlier_terms(&mut self) -> Departed {
        let begin = self.term_begin;
        let accounts = self.accounts.iter_mut();
        let gone = accounts.map(|(name, account)| (name.clone(), account.drain(|waiting| is_before(waiting, begin))));
        gone.filter(|(_, gone)| !gone.is_empty()).collect()
    }

    /// Whether the head of a queue is of an earlier term.
    pub(crate) fn is_of_earlier_term(&self, account: &str) -> bool {
        let head = self.accounts.get(account).and_then(|account| account.queue.front());
        head.is_some_and(|head| is_before(head, self.term_begin))
    }

    /// What is told of an account.
    pub(crate) fn record(&mut self, account: &str) -> Option<&mut Record> {
        self.accounts.get_mut(account).map(|account| &mut account.record)
    }

    /// What is told of all accounts.
    pub(crate) fn statuses(&self) -> Vec<AccountStatus> {
        let accounts = self.accounts.iter();
        accounts.filter_map(|(name, account)| account.record.status(name, &account.queue)).collect()
    }
}

/// Whether a batch is of a term before the one that begins with this number; without terms it is 0. The numbers of an
/// earlier process may be greater, when its folder could be read only later.
fn is_before(waiting: &Waiting, term_begin: u64) -> bool {
    waiting.id.sequence < term_begin || (waiting.is_earlier && term_begin > 0)
}
