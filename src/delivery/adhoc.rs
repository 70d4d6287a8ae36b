//! Delivery for a run that ends: nothing is kept on disk, and what is not accepted in time has failed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::attempt::{AttemptError, Attempts};
use super::outcome::{AccountOutcome, BatchOutcome, Fate};
use super::recipient::{Recipient, Recipients};
use super::retry::{Backoff, Disposition};
use super::{AccountReports, Batch};
use crate::anchore::Client;
use crate::telemetry::FAILURE;

/// Delivers the reports of one run.
#[derive(Debug)]
pub struct AdhocDelivery {
    attempts: Attempts,
    recipients: Recipients,
    started: Instant,
    retry: Duration,
}

impl AdhocDelivery {
    /// A delivery that keeps trying for `retry` from now on, in which each batch gets one attempt at least, and that
    /// starts no attempt once `stop` is cancelled.
    pub fn new(client: Client, recipients: Recipients, retry: Duration, stop: CancellationToken) -> Self {
        Self { attempts: Attempts::new(Arc::new(client), stop), recipients, started: Instant::now(), retry }
    }

    /// Delivers, and tells what became of each batch, in the order given. Accounts do not wait for each other; the
    /// batches of an account are sent one after another.
    pub async fn deliver(&self, accounts: Vec<AccountReports>) -> Vec<AccountOutcome> {
        join_all(accounts.into_iter().map(|reports| self.deliver_account(reports))).await
    }

    async fn deliver_account(&self, reports: AccountReports) -> AccountOutcome {
        let mut line = Line::new(self.recipients.of(&reports.account));
        let count = reports.batches.len();
        let mut batches = Vec::with_capacity(count);
        for (batch, number) in reports.batches.iter().zip(1_usize..) {
            let fate = match &line.held {
                Some(reason) => Fate::NotSent(reason.clone()),
                None => self.deliver_batch(batch, number, &mut line).await,
            };
            batches.push(BatchOutcome { namespaces: batch.namespaces, byte_len: batch.payload.byte_len(), fate });
        }
        let account = reports.account;
        let not_sent = batches.iter().filter(|batch| matches!(batch.fate, Fate::NotSent(_))).count();
        if not_sent > 0 {
            tracing::error!(target: FAILURE, account, not_sent, "the other batches of the account are not sent either");
        }
        AccountOutcome { account, batches }
    }

    /// Sends a batch until it is accepted or will not be.
    async fn deliver_batch(&self, batch: &Batch, number: usize, line: &mut Line) -> Fate {
        let mut backoff = Backoff::new();
        loop {
            let recipient = &line.recipient;
            let account = recipient.account.as_str();
            let error = match self.attempts.attempt(recipient, &batch.payload).await {
                Ok(user) => {
                    let bytes = batch.payload.byte_len();
                    tracing::info!(
                        account,
                        user,
                        batch = number,
                        namespaces = batch.namespaces,
                        bytes,
                        "report accepted"
                    );
                    return Fate::Accepted { account: account.to_owned(), user, reroute: line.reroute.clone() };
                }
                Err(error) => error,
            };
            let reason = match error.disposition(account) {
                Disposition::Retry { after } => match self.wait(&mut backoff, after, &error).await {
                    Ok(()) => continue,
                    Err(reason) => reason,
                },
                Disposition::Reroute if let Some(fallback) = self.fallback(line, &error).await => {
                    tracing::warn!(
                        account, fallback = fallback.account, %error,
                        "Anchore does not know the account, its reports go to the default account"
                    );
                    line.reroute_to(fallback, &error);
                    continue;
                }
                Disposition::Hold | Disposition::Reroute => {
                    line.held = Some(line.explain(error.to_string()));
                    error.to_string()
                }
                Disposition::Reject => error.to_string(),
            };
            let reason = line.explain(reason);
            tracing::error!(target: FAILURE, account = line.recipient.account, batch = number, "report not accepted: {reason}");
            return Fate::Failed(reason);
        }
    }

    /// Waits for the next attempt.
    ///
    /// # Errors
    /// There will be none; why the batch has failed.
    async fn wait(&self, backoff: &mut Backoff, asked: Option<Duration>, error: &AttemptError) -> Result<(), String> {
        let remaining = self.retry.saturating_sub(self.started.elapsed());
        if let Some(asked) = asked.filter(|asked| *asked > remaining) {
            return Err(format!(
                "{error}; the server asks to wait {} s, which is longer than anchore.http.retry-seconds allows",
                asked.as_secs()
            ));
        }
        if remaining.is_zero() {
            return Err(error.to_string());
        }
        let wait = backoff.next_wait(asked).min(remaining);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(%error, wait_ms, "report not accepted yet, it is sent again");
        tokio::select! {
            () = sleep(wait) => Ok(()),
            () = self.attempts.stop().cancelled() => Err(format!("{error}; not sent again, because the agent was told to stop")),
        }
    }

    /// Who gets the reports instead, if that is someone else and they were not rerouted already.
    async fn fallback(&self, line: &Line, error: &AttemptError) -> Option<Recipient> {
        let AttemptError::Send { user, .. } = error else { return None };
        if line.reroute.is_some() {
            return None;
        }
        self.recipients.fallback_of(&line.recipient, user).await
    }
}

/// Where the batches of an account go, as far as the answers to the earlier ones have shown.
#[derive(Debug)]
struct Line {
    recipient: Recipient,
    /// Why they go to the default account.
    reroute: Option<String>,
    /// Why the rest is not sent.
    held: Option<String>,
}

impl Line {
    fn new(recipient: Recipient) -> Self {
        Self { recipient, reroute: None, held: None }
    }

    fn reroute_to(&mut self, fallback: Recipient, error: &AttemptError) {
        self.recipient = fallback;
        self.reroute = Some(error.to_string());
    }

    /// A reason for a failure, with the reason for the reroute if there was one.
    fn explain(&self, reason: String) -> String {
        self.recipient.explain(reason, self.reroute.as_ref())
    }
}
