//! A connection's client through time: replaced when files have changed, when credentials are about to expire, or when
//! the server has refused them.
//!
//! Files may be found half written, and a plugin may fail: then the client stays as it is, which is said once, and it is
//! tried again later. One renewal at a time; requests that meanwhile come do not wait for one that is a precaution.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use tokio::time::Instant;

use super::access::Access;
use super::connect::{Built, ConnectError, Connection, Lifetime, build};
use crate::fingerprint::{CHECK_INTERVAL, Fingerprint};

/// Credentials are renewed so long before they expire, or a tenth of their lifetime if that is less.
const LEAD: SignedDuration = SignedDuration::from_mins(1);

/// What has to be known to renew a client in time.
pub(super) struct Upkeep {
    /// Of the files that the client was made from.
    fingerprint: Fingerprint,
    checked: Instant,
    /// When credentials are to be renewed that would expire.
    renew_at: Option<Timestamp>,
    failure: Option<Failure>,
}

/// The last renewal failed.
struct Failure {
    at: Instant,
    error: Arc<ConnectError>,
    cause: Cause,
}

/// What made a renewal necessary.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    ChangedFiles,
    Credentials,
}

/// A client from what there is now.
struct Renewed {
    built: Built,
    access: Arc<Access>,
    fingerprint: Fingerprint,
}

impl Upkeep {
    /// For a client that was made just now.
    pub(super) fn new(fingerprint: Fingerprint, expiry: Option<Timestamp>) -> Self {
        let renew_at = expiry.map(|expiry| renewal_time(Timestamp::now(), expiry));
        Self { fingerprint, checked: Instant::now(), renew_at, failure: None }
    }

    fn expires(&self) -> bool {
        self.renew_at.is_some_and(|time| time <= Timestamp::now())
    }

    /// What the last renewal failed with, if that was a moment ago.
    fn fresh_failure(&self) -> Option<&Arc<ConnectError>> {
        let failure = self.failure.as_ref().filter(|failure| failure.at.elapsed() < CHECK_INTERVAL);
        failure.map(|failure| &failure.error)
    }

    fn fail(&mut self, error: &Arc<ConnectError>, cause: Cause) {
        if self.failure.is_none() {
            tracing::warn!(
                "access to the API server was to be renewed and could not be, what was used before stays in use: {error}"
            );
        }
        self.failure = Some(Failure { at: Instant::now(), error: Arc::clone(error), cause });
    }

    fn recover(&mut self) {
        if self.failure.take().is_some() {
            tracing::info!("access to the API server is in order again");
        }
    }
}

impl Connection {
    /// The client for a request now, and which renewal it is of. The resident agent's is looked after before, at most
    /// every ten seconds.
    pub(crate) async fn fresh(&self) -> (Client, u64) {
        if self.lifetime == Lifetime::Resident
            && let Ok(mut upkeep) = self.upkeep.try_lock()
        {
            let is_due = upkeep.checked.elapsed() >= CHECK_INTERVAL;
            if is_due || self.is_suspect.load(Ordering::Relaxed) {
                self.look_after(&mut upkeep, is_due).await;
            }
        }
        let current = self.current();
        (current.client, current.generation)
    }

    /// Lets the files be looked at before the next request: a connection failed, as it does when the server's or the
    /// client's certificate has been replaced.
    pub(crate) fn suspect(&self) {
        self.is_suspect.store(true, Ordering::Relaxed);
    }

    /// Makes a client from what files and plugins give now, unless that was done since `generation`, whose credentials
    /// were refused.
    pub(crate) async fn renew(&self, generation: u64) -> Result<(), Arc<ConnectError>> {
        let mut upkeep = self.upkeep.lock().await;
        if self.current().generation != generation {
            return Ok(());
        }
        match upkeep.fresh_failure().filter(|_| self.lifetime == Lifetime::Resident) {
            Some(error) => Err(Arc::clone(error)),
            None => self.replace_client(&mut upkeep, Cause::Credentials).await,
        }
    }

    async fn look_after(&self, upkeep: &mut Upkeep, is_due: bool) {
        self.is_suspect.store(false, Ordering::Relaxed);
        if is_due {
            upkeep.checked = Instant::now();
        } else if upkeep.fresh_failure().is_some() {
            return;
        }
        let cause = if upkeep.fingerprint.is_outdated().await {
            Cause::ChangedFiles
        } else if is_due && upkeep.expires() {
            Cause::Credentials
        } else {
            if upkeep.failure.as_ref().is_some_and(|failure| failure.cause == Cause::ChangedFiles) {
                // What was wrong has been taken back.
                upkeep.recover();
            }
            return;
        };
        // A failure was told, and the client stays.
        let _ = self.replace_client(upkeep, cause).await;
    }

    async fn replace_client(&self, upkeep: &mut Upkeep, cause: Cause) -> Result<(), Arc<ConnectError>> {
        match self.renewed(&upkeep.fingerprint).await {
            Ok(Renewed { built, access, fingerprint }) => {
                upkeep.recover();
                *upkeep = Upkeep { checked: upkeep.checked, ..Upkeep::new(fingerprint, built.expiry) };
                self.replace(built.client, access);
                tracing::debug!("access to the API server was renewed");
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                if self.lifetime == Lifetime::Resident {
                    upkeep.fail(&error, cause);
                }
                Err(error)
            }
        }
    }

    /// What there is now: from the source if its files have changed, and with the credentials of this moment anyway.
    async fn renewed(&self, before: &Fingerprint) -> Result<Renewed, ConnectError> {
        let current = self.current().access;
        let (access, fingerprint) = if before.is_outdated().await {
            let (access, fingerprint) =
                self.source.access_and_fingerprint(&self.environment, before.files().to_owned())?;
            if access.name != current.name {
                return Err(ConnectError::OtherCluster { context: current.context.clone().unwrap_or_default() });
            }
            // That credentials are withheld was said when the connection was opened.
            (Arc::new(access.kept_off_the_wire().0), fingerprint)
        } else {
            (current, before.clone())
        };
        let built = build(&access, self.lifetime).await?;
        Ok(Renewed { built, access, fingerprint })
    }
}

/// When to renew what is made `now` and expires at `expiry`.
fn renewal_time(now: Timestamp, expiry: Timestamp) -> Timestamp {
    let lead = (expiry.duration_since(now) / 10).clamp(SignedDuration::ZERO, LEAD);
    expiry.checked_sub(lead).unwrap_or(expiry)
}
