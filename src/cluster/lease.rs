//! Which of several replicas leads, by a Lease of `coordination.k8s.io` in the agent's own namespace.
//!
//! The leader renews the Lease every 2 s and may act for 10 s after each renewal; the others take it over when it has
//! not changed for 15 s, and at once when it was released. While the API server cannot be reached, a leader stops
//! within these 10 s and nobody else begins.
//!
//! Where Leases are forbidden, or unknown to the server, for 15 s without a break, there is nobody to agree with: the
//! replica says so once and runs alone from then on. It stays alone when the right is granted later, until it is
//! restarted: then it would already be sending beside the holder.

mod election;
mod record;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::election::{Claim, Election, Timing};
use self::record::Record;
use super::connect::Connection;
use super::progress::Progress;
use super::request::{Api, RequestError, shorten};
use crate::config::Environment;
use crate::config::pattern::is_dns_label;
use crate::mandate::Mandate;

/// A mandate without an end, for one who is alone: thirty years.
const FOR_EVER: Duration = Duration::from_hours(30 * 365 * 24);

/// Longest time that giving the Lease up may take.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// What this replica is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Another one leads, or nobody can be asked.
    Standby,
    /// This one leads.
    Leader {
        /// Counts from 1 in this process. Another number is another term, even when nothing was seen between both.
        term: u64,
    },
    /// Leases are forbidden or unknown, so this one acts without asking.
    Alone,
}

/// Which Lease, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSettings {
    /// Where the Lease is.
    pub namespace: String,
    /// `leader-election.lease-name`.
    pub name: String,
    /// Who holds it, unlike every other process: also the next one of the same pod.
    pub identity: String,
}

/// Takes part in the election. See the module.
#[derive(Debug)]
pub struct Elector {
    leases: Leases,
    election: Election,
    standing: watch::Sender<Standing>,
    mandate: watch::Sender<Option<Instant>>,
    /// Whether something was written that would have to be taken back.
    has_claimed: bool,
    /// Whether the last attempt failed, which was said.
    is_failing: bool,
    /// The other holder that was spoken of last.
    told_holder: String,
}

/// The requests.
#[derive(Debug)]
struct Leases {
    connection: Arc<Connection>,
    progress: Progress,
    /// Of all leases of the namespace.
    collection: String,
    /// Of the one.
    path: String,
    timeout: Duration,
}

#[derive(Debug, thiserror::Error)]
enum LeaseError {
    /// Somebody wrote in between.
    #[error("the Lease was written by another one at the same time")]
    Conflict,
    /// No right, or no such API.
    #[error("{0}")]
    Forbidden(RequestError),
    #[error("{0}")]
    Request(RequestError),
    #[error("what the API server gave is no Lease with a resource version")]
    NoLease,
    #[error("the API server did not answer in time")]
    TimedOut,
}

impl LeaseSettings {
    /// The Lease `name` in the own namespace: `POD_NAMESPACE`, else that of the service account or of the kubeconfig's
    /// context, else `default`.
    pub fn new(name: &str, environment: &Environment, connection: &Connection) -> Self {
        let variable = |name: &str| environment.variables.get(name).filter(|value| !value.is_empty());
        let namespace = variable("POD_NAMESPACE").filter(|name| is_dns_label(name));
        let namespace = namespace.map_or_else(|| connection.default_namespace(), Clone::clone);
        let host = variable("POD_NAME").or_else(|| variable("HOSTNAME")).map_or("agent", String::as_str);
        Self { namespace, name: name.to_owned(), identity: format!("{host}_{}", Uuid::new_v4()) }
    }
}

impl Elector {
    /// A candidate, and what becomes of it.
    pub fn new(connection: Arc<Connection>, settings: LeaseSettings) -> (Self, watch::Receiver<Standing>) {
        Self::with_timing(connection, settings, Timing::USUAL)
    }

    fn with_timing(
        connection: Arc<Connection>,
        settings: LeaseSettings,
        timing: Timing,
    ) -> (Self, watch::Receiver<Standing>) {
        let (standing, standings) = watch::channel(Standing::Standby);
        let LeaseSettings { namespace, name, identity } = settings;
        let leases = Leases::new(connection, &namespace, &name, timing.renew_deadline / 2);
        let election = Election::new(namespace, name, identity, timing);
        let mandate = watch::Sender::new(None);
        (
            Self {
                leases,
                election,
                standing,
                mandate,
                has_claimed: false,
                is_failing: false,
                told_holder: String::new(),
            },
            standings,
        )
    }

    /// The right to send: while this one leads, until 10 s after the last renewal was sent; always while it is alone.
    pub fn mandate(&self) -> Mandate {
        Mandate::until(self.mandate.subscribe())
    }

    /// Takes part until `stop`, which is to come after the last request that needs the mandate: it is not renewed any
    /// more from then on. Then [`Elector::release`].
    pub async fn run(&mut self, stop: &CancellationToken) {
        let taking_part = async {
            while *self.standing.borrow() != Standing::Alone {
                self.attempt_in_time().await;
                tokio::time::sleep_until(self.election.next_attempt(Instant::now(), random_fraction())).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = taking_part => {}
        }
    }

    /// Gives the Lease up, so that another one need not wait until it expires. Nothing may be sent any more: the
    /// mandate ends first.
    pub async fn release(&mut self) {
        let is_alone = *self.standing.borrow() == Standing::Alone;
        self.mandate.send_replace(None);
        self.standing.send_replace(Standing::Standby);
        if is_alone || !self.has_claimed {
            return;
        }
        let released = tokio::time::timeout(RELEASE_LIMIT, self.give_up()).await;
        if let Err(error) = released.unwrap_or(Err(LeaseError::TimedOut)) {
            tracing::warn!(%error, "the Lease could not be released, so the next leader waits until it expires");
        }
    }

    /// Looks at the record first, because an answer to a claim may have been lost.
    async fn give_up(&mut self) -> Result<(), LeaseError> {
        let record = self.leases.read().await?;
        self.election.see(record, Instant::now());
        let Some(object) = self.election.release(Timestamp::now()) else { return Ok(()) };
        match self.leases.write(Claim::Replace(object)).await {
            // Then it is another one's.
            Ok(_) | Err(LeaseError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// One attempt, which ends at the latest when the own term does.
    async fn attempt_in_time(&mut self) {
        let start = Instant::now();
        self.election.expire(start);
        self.publish();
        let limit = self.election.leads_until().unwrap_or(start + self.election.timing().renew_deadline);
        let attempted = tokio::time::timeout_at(limit, self.attempt()).await;
        let now = Instant::now();
        match attempted.unwrap_or(Err(LeaseError::TimedOut)) {
            Ok(()) => {
                self.election.allowed();
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(lease = self.leases.path, "the Lease can be read and written again");
                }
                self.tell_holder();
            }
            Err(LeaseError::Forbidden(reason)) if self.election.forbidden(now) => {
                return self.go_alone(&reason);
            }
            Err(error) => self.tell_failure(&error),
        }
        self.election.expire(now);
        self.publish();
    }

    /// Looks at the Lease and claims it if it may be claimed. A leader knows the record and need not look, unless
    /// somebody else wrote it.
    async fn attempt(&mut self) -> Result<(), LeaseError> {
        let mut knows_record = self.election.leads_until().is_some();
        for _ in 0..2 {
            if !knows_record {
                let record = self.leases.read().await?;
                self.election.see(record, Instant::now());
            }
            let sent = Instant::now();
            let Some(claim) = self.election.claim(sent, Timestamp::now()) else { return Ok(()) };
            self.has_claimed = true;
            match self.leases.write(claim).await {
                Ok(record) => {
                    self.election.won(record, sent);
                    return Ok(());
                }
                Err(LeaseError::Conflict) => knows_record = false,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tells the rest of the program what this one is now. A loss is told by the mandate first, a new term by the
    /// standing.
    fn publish(&self) {
        let until = self.election.leads_until();
        if until.is_none() {
            self.mandate.send_replace(None);
        }
        let standing = until.map_or(Standing::Standby, |_| Standing::Leader { term: self.election.term() });
        let has_changed = self.standing.send_if_modified(|before| std::mem::replace(before, standing) != standing);
        if until.is_some() {
            self.mandate.send_replace(until);
        }
        let lease = &self.leases.path;
        match standing {
            _ if !has_changed => {}
            Standing::Leader { term } => tracing::info!(lease, term, "this replica leads: it collects and reports"),
            _ => tracing::warn!(lease, "this replica does not lead any more: it stops collecting and reporting"),
        }
    }

    fn go_alone(&mut self, reason: &RequestError) {
        tracing::error!(
            lease = self.leases.path,
            %reason,
            "Leases are not allowed, so this replica runs alone, and every other one too; grant get, create and update \
             on leases in this namespace and restart, or run one replica without leader-election.enabled"
        );
        self.standing.send_replace(Standing::Alone);
        self.mandate.send_replace(Some(Instant::now() + FOR_EVER));
    }

    /// Says whom this one stands by for, once for each.
    fn tell_holder(&mut self) {
        let holder = if self.election.leads_until().is_some() { "" } else { self.election.holder() };
        if holder == self.told_holder {
            return;
        }
        holder.clone_into(&mut self.told_holder);
        if !holder.is_empty() {
            tracing::info!(lease = self.leases.path, holder = shorten(holder), "another replica leads: standing by");
        }
    }

    fn tell_failure(&mut self, error: &LeaseError) {
        if std::mem::replace(&mut self.is_failing, true) {
            tracing::debug!(lease = self.leases.path, %error, "the Lease cannot be read or written");
            return;
        }
        let leads = self.election.leads_until().is_some();
        let meanwhile = if leads { "leads until 10 s after the last renewal" } else { "stands by" };
        tracing::warn!(
            lease = self.leases.path,
            %error,
            "the Lease cannot be read or written: it is tried again, and this replica {meanwhile}"
        );
    }
}

impl Leases {
    fn new(connection: Arc<Connection>, namespace: &str, name: &str, timeout: Duration) -> Self {
        let collection = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        let path = format!("{collection}/{name}");
        Self { connection, progress: Progress::default(), collection, path, timeout }
    }

    async fn read(&self) -> Result<Option<Record>, LeaseError> {
        match self.exchange(Method::GET, &self.path, None).await {
            Ok(object) => Record::from_object(object).map(Some).ok_or(LeaseError::NoLease),
            Err(RequestError::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn write(&self, claim: Claim) -> Result<Record, LeaseError> {
        let written = match &claim {
            Claim::Create(object) => self.exchange(Method::POST, &self.collection, Some(object)).await,
            Claim::Replace(object) => self.exchange(Method::PUT, &self.path, Some(object)).await,
        };
        match written {
            Ok(object) => Record::from_object(object).ok_or(LeaseError::NoLease),
            // Deleted in between.
            Err(RequestError::NotFound(_)) if matches!(claim, Claim::Replace(_)) => Err(LeaseError::Conflict),
            Err(error) => Err(error.into()),
        }
    }

    async fn exchange(&self, method: Method, path: &str, object: Option<&Value>) -> Result<Value, RequestError> {
        let api = Api { connection: &self.connection, timeout: self.timeout, progress: &self.progress };
        api.json_object(method, path, object).await
    }
}

impl From<RequestError> for LeaseError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused { status: 409, .. } => Self::Conflict,
            // A server without this API has no object that says so.
            RequestError::Forbidden(_) | RequestError::NotKubernetes { status: 404, .. } => Self::Forbidden(error),
            _ => Self::Request(error),
        }
    }
}

/// A number in 0..=1, another one in each process and at each call.
fn random_fraction() -> f64 {
    let (high, _) = Uuid::new_v4().as_u64_pair();
    f64::from(u32::try_from(high >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}
