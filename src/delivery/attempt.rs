//! One attempt to get one report accepted, the same in every mode: with the credentials of this moment, within the
//! bounds on requests, without locking a user out, and ended soon after the agent is told to stop.

use std::sync::Arc;
use std::time::Duration;

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

/// Requests at the same time, for all accounts together.
const MOST_REQUESTS: usize = 4;

/// How long a request in flight may still take when the agent is told to stop.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Makes attempts, and knows what all of them share.
#[derive(Debug)]
pub(crate) struct Attempts {
    client: Client,
    users: UserGates,
    slots: Semaphore,
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
            Self::Credentials(_) | Self::UserRefused { .. } | Self::Stopped | Self::Abandoned => Disposition::Hold,
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
    pub(crate) fn new(client: Client, stop: CancellationToken) -> Self {
        Self { client, users: UserGates::default(), slots: Semaphore::new(MOST_REQUESTS), stop }
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
        let user = sender.user.clone();
        tokio::select! {
            biased;
            result = self.client.send_report(report, &recipient.account, sender) => match result {
                Ok(()) => Ok(user),
                Err(error) => Err(AttemptError::Send { user, error }),
            },
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
