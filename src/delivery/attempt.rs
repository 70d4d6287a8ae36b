//! One attempt to get one report accepted, the same in every mode: with the credentials of this moment, within the
//! bounds on requests, without locking a user out, and ended soon after the agent is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use secrecy::ExposeSecret;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::recipient::{CredentialsError, Recipient};
use super::retry::{self, Disposition};
use super::user_gate::{Admission, UserGates};
use crate::anchore::error::SendError;
use crate::anchore::payload::Payload;
use crate::anchore::{BasicAuth, Client};
use crate::mandate::Mandate;

/// Requests at the same time, for all accounts together.
const MOST_REQUESTS: usize = 4;

/// How long a request in flight may still take when the agent is told to stop.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Makes attempts, and knows what all of them share.
#[derive(Debug)]
pub(crate) struct Attempts {
    client: Arc<Client>,
    users: UserGates,
    slots: Semaphore,
    mandate: Mandate,
    stop: CancellationToken,
}

/// An attempt failed.
#[derive(Debug, Error)]
pub(crate) enum AttemptError {
    /// Nothing was sent, for want of credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Nothing was sent: the server refused the user before, and asking again could lock it.
    #[error("not sent, because the user {user} was refused before: {reason}")]
    UserRefused {
        /// The user.
        user: String,
        /// What the server said.
        reason: Arc<str>,
    },
    /// The server did not accept it.
    #[error("{error}")]
    Send {
        /// The user it was sent as.
        user: String,
        /// Why.
        error: SendError,
    },
    /// This process may not send any more. What was under way was broken off, and may have been accepted all the same.
    #[error("not sent or broken off, because another replica leads")]
    NoMandate,
    /// Nothing was sent: the agent was told to stop.
    #[error("not sent, because the agent was told to stop")]
    Stopped,
    /// The agent was told to stop, and the answer did not come soon after.
    #[error("no answer within {} s after the agent was told to stop; it may have been accepted", STOP_LIMIT.as_secs())]
    Abandoned,
}

impl AttemptError {
    /// What it means for the report, which was for `account`. What is not an answer of the server holds for all reports
    /// of the account.
    pub(crate) fn disposition(&self, account: &str) -> Disposition {
        match self {
            Self::Send { error, .. } => retry::disposition(error, account),
            Self::Credentials(_) | Self::UserRefused { .. } | Self::NoMandate | Self::Stopped | Self::Abandoned => {
                Disposition::Hold
            }
        }
    }

    /// The user it was sent as, if it was.
    pub(crate) fn user(&self) -> Option<&str> {
        match self {
            Self::Send { user, .. } => Some(user),
            _ => None,
        }
    }

    /// The status that the server answered with, if it did.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Send { error: SendError::Refused(refusal), .. } => Some(refusal.status),
            _ => None,
        }
    }

    /// Whether other credentials may mend it.
    pub(crate) fn is_about_credentials(&self) -> bool {
        match self {
            Self::Credentials(_) | Self::UserRefused { .. } => true,
            _ => matches!(self.status(), Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)),
        }
    }

    fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Send { error, .. } if error.is_unauthorized())
    }

    /// Whether the server let the user in and said no afterwards. Other answers may come from before its check of the
    /// password, or from something in front of it.
    fn shows_user_let_in(&self) -> bool {
        let Self::Send { error: SendError::Refused(refusal), .. } = self else { return false };
        refusal.status == http::StatusCode::FORBIDDEN || refusal.names_unknown_account()
    }
}

impl Attempts {
    /// Attempts of a process that may always send, where a refused user is refused for good.
    pub(crate) fn new(client: Arc<Client>, stop: CancellationToken) -> Self {
        let (users, mandate) = (UserGates::default(), Mandate::unlimited());
        Self { client, users, slots: Semaphore::new(MOST_REQUESTS), mandate, stop }
    }

    /// Attempts that are made and go on only while `mandate` holds, where a refused user is tried again after
    /// `refusal_limit`.
    pub(crate) fn resident(
        client: Arc<Client>,
        mandate: Mandate,
        refusal_limit: Duration,
        stop: CancellationToken,
    ) -> Self {
        let users = UserGates::with_refusal_limit(refusal_limit);
        Self { client, users, slots: Semaphore::new(MOST_REQUESTS), mandate, stop }
    }

    /// What is known of the users.
    pub(crate) fn users(&self) -> &UserGates {
        &self.users
    }

    /// Whether this process may send.
    pub(crate) fn mandate(&self) -> &Mandate {
        &self.mandate
    }

    /// Told to stop.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Sends `report` once, and gives the user it was accepted from. A refused password whose file has changed meanwhile
    /// is replaced at once.
    pub(crate) async fn attempt(&self, recipient: &Recipient, report: &Payload) -> Result<String, AttemptError> {
        let admission = self.admit(&recipient.sender().await?).await?;
        // Read once more, because a file may have been replaced while the admission was waited for.
        let sender = recipient.sender().await?;
        let result = self.send(recipient, report, &sender).await;
        if !result.as_ref().is_err_and(AttemptError::is_unauthorized) {
            return settle(admission, result);
        }
        match recipient.sender().await {
            Ok(renewed) if !is_same(&renewed, &sender) => {
                tracing::info!(
                    account = recipient.account,
                    "credentials were refused and have changed, trying the new ones"
                );
                let admission = if renewed.user == sender.user { admission } else { self.admit(&renewed).await? };
                settle(admission, self.send(recipient, report, &renewed).await)
            }
            _ => settle(admission, result),
        }
    }

    async fn admit(&self, sender: &BasicAuth) -> Result<Admission, AttemptError> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(AttemptError::Stopped),
            admission = self.users.admit(sender) => {
                admission.map_err(|reason| AttemptError::UserRefused { user: sender.user.clone(), reason })
            }
        }
    }

    async fn send(&self, recipient: &Recipient, report: &Payload, sender: &BasicAuth) -> Result<String, AttemptError> {
        let _slot = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(AttemptError::Stopped),
            slot = self.slots.acquire() => slot,
        };
        if !self.mandate.holds() {
            return Err(AttemptError::NoMandate);
        }
        let (mandate, is_broken_off) = (self.mandate.clone(), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&is_broken_off);
        let report = report.while_permitted(move || {
            let holds = mandate.holds();
            if !holds {
                told.store(true, Ordering::Relaxed);
            }
            holds
        });
        let user = sender.user.clone();
        tokio::select! {
            biased;
            result = self.client.send_report(&report, &recipient.account, sender) => match result {
                Ok(()) => Ok(user),
                Err(_) if is_broken_off.load(Ordering::Relaxed) => Err(AttemptError::NoMandate),
                Err(error) => Err(AttemptError::Send { user, error }),
            },
            () = self.mandate.lost() => Err(AttemptError::NoMandate),
            () = self.stop_limit() => Err(AttemptError::Abandoned),
        }
    }

    async fn stop_limit(&self) {
        self.stop.cancelled().await;
        sleep(STOP_LIMIT).await;
    }
}

/// Tells the gate what the answer shows of the user.
fn settle(admission: Admission, result: Result<String, AttemptError>) -> Result<String, AttemptError> {
    match &result {
        Ok(_) => admission.let_in(),
        Err(error) if error.is_unauthorized() => admission.refuse(&error.to_string()),
        Err(error) if error.shows_user_let_in() => admission.let_in(),
        Err(_) => drop(admission),
    }
    result
}

fn is_same(one: &BasicAuth, other: &BasicAuth) -> bool {
    one.user == other.user && one.password.expose_secret() == other.password.expose_secret()
}
