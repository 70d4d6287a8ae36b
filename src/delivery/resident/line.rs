//! Drives one account: attempt after attempt at the head of its queue, with the waits between them.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until};

use super::{HOLD, ResidentDelivery};
use crate::delivery::attempt::AttemptError;
use crate::delivery::backlog::{BatchId, Waiting};
use crate::delivery::recipient::Recipient;
use crate::delivery::record::{Attempted, End};
use crate::delivery::retry::{Backoff, Disposition};
use crate::delivery::status::Happening;
use crate::delivery::store::Store;

/// How often files with credentials are looked at while they are what an account waits for.
const CREDENTIALS_LOOK: Duration = Duration::from_secs(5);

/// What is known of an account while it is driven.
#[derive(Debug)]
struct Line {
    account: String,
    /// The batch that the next three are about.
    id: Option<BatchId>,
    backoff: Backoff,
    /// Attempts at it that failed.
    failures: u32,
    /// It was read and is as it was written.
    is_verified: bool,
    recipient: Recipient,
    /// Why the set goes to the default account.
    reroute: Option<String>,
    /// What an operator was last told that has to be mended.
    told: Option<String>,
}

/// What follows an attempt.
#[derive(Debug)]
enum Next {
    /// The next one, at once.
    Go,
    /// The next one, after this time.
    After(Duration),
    /// The next one after [`HOLD`], or when the credentials are not these any more.
    Held(Option<Credentials>),
    /// No other.
    Stop,
}

/// An attempt that failed.
#[derive(Debug)]
struct Failure {
    /// When it began.
    at: Timestamp,
    error: AttemptError,
    /// The credentials of then, where they may change.
    credentials: Option<Credentials>,
}

/// Fingerprints of the credentials of one attempt.
type Credentials = Vec<Option<u64>>;

impl ResidentDelivery {
    /// Sends what waits for an account, until nothing does or the agent is told to stop.
    pub(super) async fn drive(&self, account: String) {
        let mut line = Line::new(account, |account| self.recipients.of(account));
        loop {
            tokio::select! {
                biased;
                () = self.attempts.stop().cancelled() => return,
                () = self.attempts.mandate().granted() => {}
            }
            if self.store.backlog().is_of_earlier_term(&line.account) {
                self.with_store(Store::drop_earlier_terms).await;
            }
            let Some(batch) = self.store.begin(&line.account) else { return };
            let next = self.attempt(&mut line, &batch).await;
            self.store.backlog().release(&line.account);
            let wait = async {
                match &next {
                    Next::Go | Next::Stop => {}
                    Next::After(wait) => sleep(*wait).await,
                    Next::Held(credentials) => self.hold(&line, credentials.as_ref()).await,
                }
            };
            tokio::select! {
                biased;
                () = self.attempts.stop().cancelled() => return,
                () = wait => {}
            }
        }
    }

    /// One attempt at the head of the queue.
    async fn attempt(&self, line: &mut Line, batch: &Waiting) -> Next {
        if line.turn_to(batch) {
            // Each set tries its own account first, which may be known by now.
            line.recipient = self.recipients.of(&line.account);
            line.reroute = None;
        }
        if !line.is_verified && !self.verify(line, batch).await {
            return Next::Go;
        }
        let credentials = self.credentials(line).await;
        let at = Timestamp::now();
        match self.attempts.attempt(&line.recipient, &batch.payload()).await {
            Ok(user) => {
                self.accept(line, batch, &user, at).await;
                Next::Go
            }
            Err(AttemptError::Stopped | AttemptError::Abandoned) => Next::Stop,
            Err(AttemptError::NoMandate) => {
                tracing::info!(account = line.account, "a report is not sent, because another replica leads");
                Next::Go
            }
            Err(error) => self.fail(line, batch, Failure { at, error, credentials }).await,
        }
    }

    /// Whether the batch is whole. One that is not leaves the queue.
    async fn verify(&self, line: &mut Line, batch: &Waiting) -> bool {
        let (account, batch) = (line.account.clone(), batch.clone());
        line.is_verified = self
            .with_store(move |store| match store.verify(&batch) {
                Ok(()) => true,
                Err(error) => {
                    store.put_aside(&account, &batch, &error);
                    false
                }
            })
            .await;
        line.is_verified
    }

    async fn accept(&self, line: &mut Line, batch: &Waiting, user: &str, at: Timestamp) {
        let (bytes, reroute) = (batch.payload().byte_len(), line.reroute.clone());
        tracing::info!(
            account = line.recipient.account,
            user,
            batch = batch.id.index,
            namespaces = batch.namespaces,
            bytes,
            "report accepted"
        );
        if line.told.take().is_some() && reroute.is_none() {
            tracing::info!(account = line.account, "reports of the account are accepted again");
        }
        let end = End::Accepted { reroute: reroute.clone() };
        self.record(line, Attempted { id: batch.id, at, user: Some(user), end });
        self.store.tell(&line.account, Happening::Accepted { carried: batch.carried.to_vec(), bytes, reroute });
        self.settle(line, batch).await;
    }

    async fn fail(&self, line: &mut Line, batch: &Waiting, failure: Failure) -> Next {
        let Failure { at, error, credentials } = failure;
        line.failures = line.failures.saturating_add(1);
        let disposition = error.disposition(&line.recipient.account);
        if disposition == Disposition::Reroute
            && let Some(fallback) = self.fallback(line, &error).await
        {
            line.reroute_to(fallback, &error);
            return Next::Go;
        }
        let reason = line.explain(error.to_string());
        let end = if disposition == Disposition::Reject { End::Rejected } else { End::Failed };
        self.record(line, Attempted { id: batch.id, at, user: error.user(), end: end(reason.clone()) });
        match disposition {
            Disposition::Retry { after } => {
                let wait = line.backoff.next_wait(after);
                line.tell_retry(&reason, wait);
                self.store.tell(&line.account, Happening::Failed { reason });
                Next::After(wait)
            }
            Disposition::Hold | Disposition::Reroute => {
                line.tell_hold(&error, &reason);
                self.store.tell(&line.account, Happening::Failed { reason });
                if line.reroute.is_some() {
                    // Whether its own account is known by now is asked first, the next time.
                    line.recipient = self.recipients.of(&line.account);
                    line.reroute = None;
                }
                Next::Held(credentials.filter(|_| error.is_about_credentials()))
            }
            Disposition::Reject => {
                tracing::error!(
                    account = line.account,
                    batch = batch.id.index,
                    namespaces = batch.namespaces,
                    reason,
                    "a report was rejected and is dropped"
                );
                self.store.tell(&line.account, Happening::Rejected { carried: batch.carried.to_vec(), reason });
                self.settle(line, batch).await;
                Next::Go
            }
        }
    }

    async fn settle(&self, line: &Line, batch: &Waiting) {
        let (account, id) = (line.account.clone(), batch.id);
        self.with_store(move |store| store.settle(&account, id)).await;
    }

    fn record(&self, line: &Line, attempt: Attempted<'_>) {
        if let Some(record) = self.store.backlog().record(&line.account) {
            record.attempted(attempt);
        }
    }

    /// Who gets the reports instead, if that is someone else and they were not rerouted already.
    async fn fallback(&self, line: &Line, error: &AttemptError) -> Option<Recipient> {
        let user = error.user()?;
        if line.reroute.is_some() {
            return None;
        }
        self.recipients.fallback_of(&line.recipient, user).await
    }

    /// Waits until what is held is to be tried again.
    async fn hold(&self, line: &Line, before: Option<&Credentials>) {
        let end = Instant::now() + HOLD;
        let Some(before) = before else { return sleep_until(end).await };
        while Instant::now() < end {
            sleep_until(end.min(Instant::now() + CREDENTIALS_LOOK)).await;
            if self.credentials(line).await.is_some_and(|now| now != *before) {
                tracing::info!(account = line.account, "credentials have changed, trying the new ones");
                return;
            }
        }
    }

    /// The credentials that decide about the account's reports, where they may change.
    async fn credentials(&self, line: &Line) -> Option<Credentials> {
        let recipients = [self.recipients.of(&line.account), self.recipients.fallback()];
        if !recipients.iter().any(Recipient::is_from_files) {
            return None;
        }
        let mut credentials = Vec::new();
        for recipient in &recipients {
            let sender = recipient.sender().await.ok();
            credentials.push(sender.map(|sender| self.attempts.users().fingerprint(&sender)));
        }
        Some(credentials)
    }
}

impl Line {
    fn new(account: String, recipient: impl FnOnce(&str) -> Recipient) -> Self {
        let recipient = recipient(&account);
        Self {
            account,
            id: None,
            backoff: Backoff::new(),
            failures: 0,
            is_verified: false,
            recipient,
            reroute: None,
            told: None,
        }
    }

    /// Begins with a batch, if it is another than before; says whether it is of another set.
    fn turn_to(&mut self, batch: &Waiting) -> bool {
        if self.id == Some(batch.id) {
            return false;
        }
        let before = self.id.replace(batch.id);
        (self.backoff, self.failures, self.is_verified) = (Backoff::new(), 0, false);
        before.is_none_or(|before| before.sequence != batch.id.sequence)
    }

    fn reroute_to(&mut self, fallback: Recipient, error: &AttemptError) {
        tracing::warn!(
            account = self.account, fallback = fallback.account, %error,
            "Anchore does not know the account, its reports go to the default account"
        );
        self.recipient = fallback;
        self.reroute = Some(error.to_string());
    }

    /// A reason for a failure, with the reason for the reroute if there was one.
    fn explain(&self, reason: String) -> String {
        self.recipient.explain(reason, self.reroute.as_ref())
    }

    /// Logs the first failure, the second, the fourth and so on: the same may go on for days.
    fn tell_retry(&mut self, reason: &str, wait: Duration) {
        if self.failures.is_power_of_two() {
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(
                account = self.account,
                attempts = self.failures,
                wait_ms,
                reason,
                "report not accepted yet, it is sent again"
            );
        }
    }

    /// Tells an operator what to mend, once until it is something else.
    fn tell_hold(&mut self, error: &AttemptError, reason: &str) {
        // Servers put numbers of requests into their words, so these do not tell one trouble from another.
        let what = match error {
            AttemptError::UserRefused { .. } => http::StatusCode::UNAUTHORIZED.to_string(),
            _ => error.status().map_or_else(|| error.to_string(), |status| status.to_string()),
        };
        if self.told.as_ref() != Some(&what) {
            tracing::error!(
                account = self.account,
                reason,
                "reports of the account are kept and not accepted until this is mended"
            );
            self.told = Some(what);
        }
    }
}
