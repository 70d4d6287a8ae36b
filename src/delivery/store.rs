//! Keeps what waits, on the disk as long as that works and in memory otherwise. Blocks.
//!
//! Order of things: a set is on the disk before it can be begun; what it replaces is removed after that, and what was
//! accepted before anything newer of its account is begun.

#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::backlog::{Backlog, BatchId, Content, Departed, Waiting};
use super::spool::format::{FormatError, Header};
use super::spool::{Identity, SetOf, Spool, SpoolFile};
use super::status::{DeliveryEvent, Happening};
use crate::anchore::payload::Payload;
use crate::inventory::report::Report;

/// One report of a set.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// The report.
    pub report: Report,
    /// What it carries, by numbers of the caller's, who gets them back when it is accepted or rejected. Not kept on
    /// disk.
    pub carried: Vec<u64>,
}

/// The reports of an account that are made at the same time.
#[derive(Debug, Clone)]
pub struct AccountSet {
    /// Name of the account.
    pub account: String,
    /// The reports' time.
    pub timestamp: Timestamp,
    /// The report, in as many pieces as the limits make it.
    pub batches: Vec<NewBatch>,
}

/// Where things are kept.
#[derive(Debug, Clone)]
pub(crate) struct StoreSettings {
    pub(crate) state_directory: PathBuf,
    pub(crate) max_bytes: u64,
    pub(crate) identity: Identity,
}

/// What waits, and where.
#[derive(Debug)]
pub(crate) struct Store {
    settings: StoreSettings,
    backlog: Mutex<Backlog>,
    place: Mutex<Place>,
    events: mpsc::UnboundedSender<DeliveryEvent>,
    /// Accounts of which something waits and that nobody drives.
    starts: mpsc::UnboundedSender<String>,
}

#[derive(Debug, Default)]
struct Place {
    spool: Option<Arc<Spool>>,
    /// Why the newest set is in memory, or will be.
    memory_only: Option<String>,
}

/// Why a set is not on the disk.
#[derive(Debug)]
enum Unwritten {
    /// The folder cannot be used.
    Folder(String),
    /// It is too large.
    Size(String),
}

impl Store {
    pub(crate) fn new(
        settings: StoreSettings,
        events: mpsc::UnboundedSender<DeliveryEvent>,
        starts: mpsc::UnboundedSender<String>,
    ) -> Self {
        let mut backlog = Backlog::default();
        // Above 0, which stands for no term of leading.
        backlog.number_from(1);
        Self { settings, backlog: Mutex::new(backlog), place: Mutex::default(), events, starts }
    }

    /// Takes the folder, if it is not taken yet and can be used now.
    pub(crate) fn open(&self) {
        if self.spool().is_some() {
            return;
        }
        match Spool::open(&self.settings.state_directory, self.settings.identity.clone()) {
            Ok((spool, found)) => {
                lock(&self.place).spool = Some(Arc::new(spool));
                self.backlog().number_from(found.next_sequence);
                for (account, reason) in found.dropped {
                    self.tell_dropped(&account, 1, &format!("a report of an earlier process is not sent: {reason}"));
                }
                self.adopt(found.batches);
                self.kept_on_disk();
            }
            Err(reason) => self.kept_in_memory(&reason),
        }
    }

    fn adopt(&self, found: Vec<(Header, SpoolFile)>) {
        let batches = found.into_iter().map(|(header, file)| {
            let waiting = Waiting {
                id: BatchId { sequence: header.sequence, index: header.batch },
                batch_count: header.batch_count,
                timestamp: header.timestamp,
                namespaces: header.namespaces,
                content: Content::File(file),
                carried: Arc::default(),
                is_earlier: true,
                is_begun: false,
            };
            (header.account, waiting)
        });
        let batches: Vec<_> = batches.collect();
        if !batches.is_empty() {
            tracing::info!(batches = batches.len(), "reports of an earlier process wait to be sent");
        }
        let (to_drive, too_old) = self.backlog().adopt(batches);
        self.drop_all(too_old, "a newer one was sent while the folder of the spool could not be used");
        let evicted = self.backlog().evict(self.settings.max_bytes);
        self.drop_all(evicted, "there is no room for it within spool.max-bytes");
        for account in to_drive {
            self.start(account);
        }
    }

    /// Keeps a set, and has it sent. It replaces what the backlog says.
    pub(crate) fn submit(&self, set: AccountSet) {
        if set.batches.is_empty() {
            return;
        }
        self.open();
        let sequence = self.backlog().number();
        let contents = match self.write(&set, sequence) {
            Ok(files) => files.into_iter().map(Content::File).collect(),
            Err(unwritten) => {
                let reason = self.tell_unwritten(&set.account, unwritten);
                let what = Happening::Unwritten { batches: set.batches.len(), reason };
                self.tell(&set.account, what);
                let reports = set.batches.iter().map(|batch| &batch.report);
                reports.map(|report| Content::Memory(Payload::json(report.clone(), report.byte_len()))).collect()
            }
        };
        self.enqueue(set, sequence, contents);
    }

    fn enqueue(&self, set: AccountSet, sequence: u64, contents: Vec<Content>) {
        let batch_count = set.batches.len();
        let waiting = set.batches.into_iter().zip(contents).zip(1..).map(|((batch, content), index)| Waiting {
            id: BatchId { sequence, index },
            batch_count,
            timestamp: set.timestamp,
            namespaces: batch.report.namespace_count(),
            content,
            carried: batch.carried.into(),
            is_earlier: false,
            is_begun: false,
        });
        let (superseded, is_to_be_driven) = self.backlog().push(&set.account, waiting.collect());
        self.forget_superseded(&set.account, &superseded);
        if is_to_be_driven {
            self.start(set.account);
        }
    }

    /// Writes a set to the disk.
    ///
    /// # Errors
    /// It cannot be kept there; why.
    fn write(&self, set: &AccountSet, sequence: u64) -> Result<Vec<SpoolFile>, Unwritten> {
        let Some(spool) = self.spool() else {
            return Err(Unwritten::Folder(self.memory_only().unwrap_or_default()));
        };
        let of = SetOf { account: &set.account, timestamp: set.timestamp, sequence, batch_count: set.batches.len() };
        let batches = set.batches.iter().zip(1..);
        let batches: Vec<_> =
            batches.map(|(batch, index)| (spool.header(of, index, &batch.report), &batch.report)).collect();
        let needed = batches.iter().map(|(header, _)| Spool::file_len(header)).sum();
        self.make_room(&set.account, needed)?;
        let files = spool.write(&batches).map_err(|error| {
            let folder = self.settings.state_directory.display();
            Unwritten::Folder(format!("the folder {folder} cannot be written: {error}"))
        })?;
        self.kept_on_disk();
        Ok(files)
    }

    /// Makes room for a set of an account: what it replaces goes first, then the oldest of all.
    ///
    /// # Errors
    /// It has no room even so.
    fn make_room(&self, account: &str, needed: u64) -> Result<(), Unwritten> {
        let most = self.settings.max_bytes;
        let (superseded, evicted) = {
            let mut backlog = self.backlog();
            let (waiting, fixed) = backlog.file_bytes();
            if needed.saturating_add(waiting) <= most {
                return Ok(());
            }
            if needed.saturating_add(fixed) > most {
                return Err(Unwritten::Size(format!(
                    "its {needed} bytes have no room within spool.max-bytes ({most})"
                )));
            }
            (backlog.supersede(account), backlog.evict(most.saturating_sub(needed)))
        };
        self.forget_superseded(account, &superseded);
        self.drop_all(evicted, "there is no room for it within spool.max-bytes");
        Ok(())
    }

    // === For whoever drives an account ===

    /// See [`Backlog::begin`].
    pub(crate) fn begin(&self, account: &str) -> Option<Waiting> {
        self.backlog().begin(account)
    }

    /// The batch left the queue; its file goes as well.
    pub(crate) fn settle(&self, account: &str, id: BatchId) {
        let settled = self.backlog().settle(account, id);
        self.remove(settled.as_slice());
    }

    /// Whether a batch is as it was written.
    pub(crate) fn verify(&self, batch: &Waiting) -> Result<(), FormatError> {
        match (self.spool(), batch.file()) {
            (Some(spool), Some(file)) => spool.verify(file),
            _ => Ok(()),
        }
    }

    /// A batch is damaged: it leaves the queue, and is put aside.
    pub(crate) fn put_aside(&self, account: &str, batch: &Waiting, error: &FormatError) {
        if let (Some(spool), Some(file)) = (self.spool(), batch.file()) {
            spool.put_aside(file);
        }
        self.backlog().settle(account, batch.id);
        self.tell_dropped(account, 1, &format!("a report was damaged on the disk and put aside: {error}"));
    }

    /// What waits is of an earlier term of leading from now on.
    pub(crate) fn end_term(&self) {
        self.backlog().end_term();
    }

    /// Drops what is of an earlier term of leading.
    pub(crate) fn drop_earlier_terms(&self) {
        let gone = self.backlog().drop_earlier_terms();
        self.drop_all(gone, "it is of an earlier term as the leader, and another replica may have sent newer ones");
    }

    // === What is known ===

    pub(crate) fn backlog(&self) -> MutexGuard<'_, Backlog> {
        lock(&self.backlog)
    }

    /// Why sets are kept in memory, if they are.
    pub(crate) fn memory_only(&self) -> Option<String> {
        lock(&self.place).memory_only.clone()
    }

    pub(crate) fn tell(&self, account: &str, what: Happening) {
        // Nobody listens any more when the agent ends.
        let _ = self.events.send(DeliveryEvent { account: account.to_owned(), what });
    }

    fn spool(&self) -> Option<Arc<Spool>> {
        lock(&self.place).spool.clone()
    }

    fn start(&self, account: String) {
        // Nobody drives any more when the agent ends.
        let _ = self.starts.send(account);
    }

    /// Logs why a set is not on the disk, and gives the reason.
    fn tell_unwritten(&self, account: &str, unwritten: Unwritten) -> String {
        match unwritten {
            Unwritten::Folder(reason) => {
                self.kept_in_memory(&reason);
                reason
            }
            Unwritten::Size(reason) => {
                tracing::warn!(account, reason, "a set of reports waits in memory only");
                reason
            }
        }
    }

    fn kept_in_memory(&self, reason: &str) {
        let before = lock(&self.place).memory_only.replace(reason.to_owned());
        if before.is_none() {
            tracing::warn!(
                "unsent reports are kept in memory only, where the end of the agent loses them: {reason}; this is said once"
            );
        }
    }

    fn kept_on_disk(&self) {
        let before = lock(&self.place).memory_only.take();
        if before.is_some() {
            tracing::info!("unsent reports are kept on the disk again");
        }
    }

    fn forget_superseded(&self, account: &str, superseded: &[Waiting]) {
        if superseded.is_empty() {
            return;
        }
        self.remove(superseded);
        tracing::info!(account, batches = superseded.len(), "unsent reports gave way to newer ones");
        self.tell(account, Happening::Superseded { batches: superseded.len() });
    }

    fn drop_all(&self, gone: Departed, reason: &str) {
        for (account, batches) in gone {
            self.remove(&batches);
            self.tell_dropped(&account, batches.len(), reason);
        }
    }

    fn tell_dropped(&self, account: &str, batches: usize, reason: &str) {
        tracing::error!(account, batches, reason, "unsent reports were dropped");
        self.tell(account, Happening::Dropped { batches, reason: reason.to_owned() });
    }

    fn remove(&self, batches: &[Waiting]) {
        let mut files = batches.iter().filter_map(Waiting::file).peekable();
        if let Some(spool) = self.spool().filter(|_| files.peek().is_some()) {
            spool.remove(files);
        }
    }

    /// Makes operations of the disk fail.
    #[cfg(test)]
    pub(crate) fn faults(&self) -> Option<Arc<super::spool::disk::faults::Faults>> {
        self.spool().map(|spool| spool.faults())
    }
}

/// The values behind these locks are whole at any time, so a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
