//! Delivery for an agent that stays: what is not accepted is kept and tried again for as long as it takes.
//!
//! Each account is driven on its own, one batch after the other in the order of their sets, and waits for no other
//! account. Nothing here waits for the network but the driving. A set that is submitted is on the disk, if that can be
//! used, before anything of it is sent; it leaves the disk when it is accepted, and only then is the next begun.
//!
//! Where several replicas take turns, nothing is sent without the mandate, and what was submitted in an earlier term of
//! leading is dropped: another replica may have sent something newer.

mod line;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::sync::{Mutex, mpsc};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::attempt::Attempts;
use super::recipient::Recipients;
use super::spool::Identity;
use super::status::{AccountStatus, DeliveryEvent};
use super::store::{AccountSet, Store, StoreSettings};
use crate::anchore::{BasicAuth, Client};
use crate::mandate::Mandate;

/// How long what only an operator can mend is left alone between attempts, and a refused user with it.
const HOLD: Duration = Duration::from_mins(5);

/// What a resident delivery needs.
#[derive(Debug)]
pub struct ResidentSettings {
    /// Sends.
    pub client: Arc<Client>,
    /// As whom.
    pub recipients: Recipients,
    /// `state.directory`.
    pub state_directory: PathBuf,
    /// `spool.max-bytes`.
    pub max_bytes: u64,
    /// The cluster's name in reports.
    pub cluster_name: String,
    /// `anchore.url`.
    pub url: Url,
    /// Whether this process may send.
    pub mandate: Mandate,
    /// Ends the delivery; the request in flight may finish.
    pub stop: CancellationToken,
}

/// Delivers reports as long as the agent lives.
#[derive(Debug)]
pub struct ResidentDelivery {
    store: Arc<Store>,
    attempts: Attempts,
    recipients: Recipients,
    /// One set after the other is written, so that their numbers are in the order of their times.
    submissions: Mutex<()>,
    /// Accounts to be driven.
    starts: Mutex<mpsc::UnboundedReceiver<String>>,
}

/// What waits, of all accounts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Sets of reports.
    pub sets: usize,
    /// Bytes of reports.
    pub bytes: u64,
    /// The time of the oldest report.
    pub oldest: Option<Timestamp>,
}

impl ResidentDelivery {
    /// Opens the spool below the state directory and looks what an earlier process left. Gives what happens to reports
    /// from now on as well. A folder that cannot be used is told, not an error: reports are kept in memory then, until
    /// it can.
    pub async fn open(settings: ResidentSettings) -> (Self, mpsc::UnboundedReceiver<DeliveryEvent>) {
        let (events, happenings) = mpsc::unbounded_channel();
        let (start, starts) = mpsc::unbounded_channel();
        let identity = Identity { cluster_name: settings.cluster_name, destination: String::from(settings.url) };
        let store_settings =
            StoreSettings { state_directory: settings.state_directory, max_bytes: settings.max_bytes, identity };
        let delivery = Self {
            store: Arc::new(Store::new(store_settings, events, start)),
            attempts: Attempts::resident(settings.client, settings.mandate, HOLD, settings.stop),
            recipients: settings.recipients,
            submissions: Mutex::default(),
            starts: Mutex::new(starts),
        };
        delivery.with_store(Store::open).await;
        if delivery.attempts.mandate().is_limited() {
            delivery.store.end_term();
        }
        (delivery, happenings)
    }

    /// Keeps a set of reports, on the disk if that can be used, and has it sent after what waits of the account. It
    /// replaces the batches that this process has submitted for the account and not begun to send. Does not wait for
    /// the network. Dropped before it is done, it may have kept the set or not.
    pub async fn submit(&self, set: AccountSet) {
        let _turn = self.submissions.lock().await;
        self.with_store(move |store| store.submit(set)).await;
    }

    /// Sends what waits until the agent is told to stop, and the requests in flight have ended. To be called once.
    pub async fn run(&self) {
        let mut starts = self.starts.lock().await;
        let mut lines = FuturesUnordered::new();
        let mut terms = pin!(self.observe_terms());
        let stop = self.attempts.stop();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = &mut terms => break,
                Some(account) = starts.recv() => lines.push(self.drive(account)),
                Some(()) = lines.next() => {}
            }
        }
        while lines.next().await.is_some() {}
    }

    /// What is known of each account.
    pub fn statuses(&self) -> Vec<AccountStatus> {
        self.store.backlog().statuses()
    }

    /// What waits, of all accounts together.
    pub fn waiting(&self) -> Waiting {
        let add = |sum: Waiting, status: AccountStatus| Waiting {
            sets: sum.sets.saturating_add(status.waiting),
            bytes: sum.bytes.saturating_add(status.waiting_bytes),
            oldest: [sum.oldest, status.oldest].into_iter().flatten().min(),
        };
        self.statuses().into_iter().fold(Waiting::default(), add)
    }

    /// Why reports are kept in memory alone, if they are.
    pub fn memory_only(&self) -> Option<String> {
        self.store.memory_only()
    }

    /// Why nothing is sent as this user at the moment, if the server refused it for a report: others had better not ask
    /// as this user either, or the server may lock it out.
    pub fn paused(&self, sender: &BasicAuth) -> Option<Arc<str>> {
        self.attempts.users().refusal(sender)
    }

    /// A new term of leading begins: what was submitted before is dropped and counted. Without this call it is dropped
    /// when its turn comes. Call it before the first set of the term is submitted.
    pub async fn drop_earlier_term(&self) {
        let _turn = self.submissions.lock().await;
        self.store.end_term();
        self.with_store(Store::drop_earlier_terms).await;
    }

    /// Notices when a term of leading ends, also if it goes unnoticed otherwise. Never ends.
    async fn observe_terms(&self) {
        loop {
            self.attempts.mandate().lost().await;
            self.store.end_term();
            self.attempts.mandate().granted().await;
        }
    }

    /// Does something with the store on a thread where it may block.
    async fn with_store<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> T + Send + 'static) -> T {
        let store = Arc::clone(&self.store);
        match spawn_blocking(move || work(&store)).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only a runtime that is shutting down cancels it, and takes this future with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}
