//! This agent as Anchore Enterprise sees it: registered, and reporting its health.
//!
//! ```text
//! Probing ──5.11 or newer──▶ Registering ──accepted──▶ Registered (a health report each interval)
//!   ▲ └─older: Unsupported, probing goes on─┘ ▲             │  │
//!   │                                         └─forgotten───┘  │
//!   └────────────────────endpoint gone: older again────────────┘
//! ```
//!
//! Nothing of the inventory waits for any of this or ends with it, and this never ends by an error: it backs off and
//! tries again, so that an upgrade, a right that was granted or a database that was reset is noticed without a restart.
//! What an answer leads to is decided in [`decision`], what is said in [`health`] and [`registration`].

pub mod counts;
pub mod decision;
pub mod health;
pub mod registration;

mod schedule;
mod waiting;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::counts::IntegrationCounts;
use self::decision::{Next, Trouble, Verdict, Wait};
use self::health::HealthReporter;
use self::registration::{IntegrationSettings, Process};
use self::schedule::{Backoff, Pace, Schedule};
use crate::anchore::integrations::{Call, IntegrationError, ServerVersion};
use crate::anchore::{BasicAuth, Client};
use crate::cluster::identity::Identity;
use crate::delivery::recipient::{CredentialsError, Recipient, Recipients};
use crate::delivery::status::AccountStatus;
use crate::journal::Journal;
use crate::mandate::Mandate;

/// Gives what became of the reports of each account.
pub type StatusSource = Box<dyn Fn() -> Vec<AccountStatus> + Send + Sync>;

/// Says why nothing may be sent as a user, if so: the server refused it for a report.
pub type PauseCheck = Box<dyn Fn(&BasicAuth) -> Option<String> + Send + Sync>;

/// How far the agent got with Anchore Enterprise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntegrationState {
    /// The server's version is not known yet, or not any more.
    Probing,
    /// The server is older than 5.11. Probing goes on.
    Unsupported,
    /// The server has integrations, and the agent is not registered.
    Registering,
    /// The agent is registered.
    Registered {
        /// Under this uuid.
        uuid: String,
    },
}

/// What the agent's other parts give.
pub struct Sources {
    /// Anchore Enterprise.
    pub client: Arc<Client>,
    /// The default account's is used, whatever the routing.
    pub recipients: Recipients,
    /// Whether this process may speak.
    pub mandate: Mandate,
    /// What is wrong.
    pub journal: Arc<Journal>,
    /// What became of the reports of each account.
    pub statuses: StatusSource,
    /// Which users are not to be used.
    pub paused: PauseCheck,
}

/// Registers the agent and reports its health, for as long as the agent runs.
pub struct Integration {
    settings: IntegrationSettings,
    process: Process,
    client: Arc<Client>,
    recipient: Recipient,
    mandate: Mandate,
    paused: PauseCheck,
    health: HealthReporter,
    state: watch::Sender<IntegrationState>,
    counts: Arc<IntegrationCounts>,
    pace: Pace,
    backoff: Backoff,
    /// The moments of health reports, once registered.
    schedule: Schedule,
    /// What was said last to be wrong, and is not yet said to be right.
    trouble: Option<Trouble>,
    stop: CancellationToken,
}

/// The agent was told to stop.
struct Stopped;

/// Why a request was not sent, or had no success.
enum Failure {
    /// There are no credentials.
    Credentials(CredentialsError),
    /// The error, and as whom the request was sent, if as anybody.
    Call(IntegrationError, Option<BasicAuth>),
}

impl Integration {
    /// An integration that starts with [`Integration::run`]; the agent's uptime starts now.
    pub fn new(settings: IntegrationSettings, sources: Sources) -> Self {
        let pace = Pace::of(settings.health_report_interval);
        Self::paced(settings, sources, pace)
    }

    fn paced(settings: IntegrationSettings, sources: Sources, pace: Pace) -> Self {
        let Sources { client, recipients, mandate, journal, statuses, paused } = sources;
        let recipient = recipients.fallback();
        let health = HealthReporter {
            interval: settings.health_report_interval,
            polling_interval: settings.polling_interval,
            recipients,
            journal,
            statuses,
        };
        Self {
            settings,
            process: Process::starting_now(),
            client,
            recipient,
            mandate,
            paused,
            health,
            state: watch::Sender::new(IntegrationState::Probing),
            counts: Arc::default(),
            backoff: Backoff::new(pace),
            schedule: Schedule::starting(Instant::now(), pace.health_report),
            pace,
            trouble: None,
            stop: CancellationToken::new(),
        }
    }

    /// How far it is, now and later.
    pub fn state(&self) -> watch::Receiver<IntegrationState> {
        self.state.subscribe()
    }

    /// What came of its requests.
    pub fn counts(&self) -> Arc<IntegrationCounts> {
        Arc::clone(&self.counts)
    }

    /// Runs until `stop`, and then until a request in flight has ended, 20 s at most. `identity` may take its time:
    /// nothing waits for it but this.
    pub async fn run(mut self, identity: impl Future<Output = Identity>, stop: CancellationToken) {
        self.stop = stop;
        // It ends only by being told to.
        let Err(Stopped) = self.live(identity).await;
        tracing::debug!("registration and health reports have ended");
    }

    async fn live(&mut self, identity: impl Future<Output = Identity>) -> Result<Infallible, Stopped> {
        self.wait_for_mandate().await?;
        let identity = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(Stopped),
            identity = identity => identity,
        };
        let mut next = Next::Probe;
        loop {
            next = match next {
                Next::Probe => self.probe().await?,
                Next::Register => self.register(&identity).await?,
                Next::ReportHealth { uuid } => self.report_health(uuid).await?,
            };
        }
    }

    async fn probe(&mut self) -> Result<Next, Stopped> {
        self.wait_for_mandate().await?;
        let client = Arc::clone(&self.client);
        let Some(result) = self.bounded(client.probe_version()).await? else { return Ok(Next::Probe) };
        self.counts.count(Call::Version, result.as_ref().err());
        if result.is_ok() {
            self.trouble = self.trouble.take().filter(|trouble| trouble.call() != Call::Version);
        }
        match result {
            Ok(version) if version.has_integrations() => Ok(Next::Register),
            Ok(version) => {
                if self.enter(IntegrationState::Unsupported) {
                    tracing::info!(
                        "Anchore Enterprise {version} has no integrations, which came with {}: the agent is not \
                         registered until it is upgraded",
                        ServerVersion::FIRST_WITH_INTEGRATIONS
                    );
                }
                let wait = self.backoff.next_wait(Wait::BACKOFF);
                self.pause_for(wait, None).await?;
                Ok(Next::Probe)
            }
            Err(error) => self.after_failure(Call::Version, Failure::Call(error, None), Next::Probe).await,
        }
    }

    async fn register(&mut self, identity: &Identity) -> Result<Next, Stopped> {
        self.enter(IntegrationState::Registering);
        let sender = match self.sender().await? {
            Ok(sender) => sender,
            Err(error) => {
                return self.after_failure(Call::Registration, Failure::Credentials(error), Next::Register).await;
            }
        };
        let request = registration::request(&self.settings, &self.process, identity, &sender.user);
        let (client, account) = (Arc::clone(&self.client), self.recipient.account.clone());
        let Some(result) = self.bounded(client.register(&request, &account, &sender)).await? else {
            return Ok(Next::Register);
        };
        self.counts.count(Call::Registration, result.as_ref().err());
        match result {
            Ok(registered) => {
                tracing::info!(
                    uuid = registered.uuid,
                    registration_id = request.registration_id,
                    registration_instance_id = request.registration_instance_id,
                    account,
                    is_new = registered.is_new,
                    "registered with Anchore Enterprise"
                );
                self.trouble = self.trouble.take().filter(|trouble| trouble.call() == Call::HealthReport);
                self.schedule = Schedule::starting(Instant::now(), self.pace.health_report);
                self.enter(IntegrationState::Registered { uuid: registered.uuid.clone() });
                Ok(Next::ReportHealth { uuid: registered.uuid })
            }
            Err(error) => {
                self.after_failure(Call::Registration, Failure::Call(error, Some(sender)), Next::Register).await
            }
        }
    }

    async fn report_health(&mut self, uuid: String) -> Result<Next, Stopped> {
        let again = Next::ReportHealth { uuid: uuid.clone() };
        let sender = match self.sender().await? {
            Ok(sender) => sender,
            Err(error) => {
                return self.after_failure(Call::HealthReport, Failure::Credentials(error), again).await;
            }
        };
        let (report, errors) = self.health.report(&self.process, &sender.user).await;
        let (client, account) = (Arc::clone(&self.client), self.recipient.account.clone());
        let sending = client.report_health(&uuid, &report, &account, &sender);
        let Some(result) = self.bounded(sending).await? else { return Ok(again) };
        self.counts.count(Call::HealthReport, result.as_ref().err());
        match result {
            Ok(()) => {
                self.health.journal.told(&errors);
                self.backoff.reset();
                if self.trouble.take().is_some() {
                    tracing::info!("health reports are accepted again");
                }
                let next_report = self.schedule.next_after(Instant::now());
                self.pause_until(next_report, None).await?;
                Ok(again)
            }
            Err(error) => self.after_failure(Call::HealthReport, Failure::Call(error, Some(sender)), again).await,
        }
    }

    /// Says what went wrong, if that was not said before, and waits until it is time for what comes next.
    async fn after_failure(&mut self, call: Call, failure: Failure, again: Next) -> Result<Next, Stopped> {
        let (verdict, trouble) = match &failure {
            Failure::Credentials(error) => {
                (decision::without_credentials(again), Trouble::credentials(call, error.to_string()))
            }
            Failure::Call(error, _) => (decision::after(call, error, again), Trouble::of(call, error)),
        };
        self.say(trouble, &verdict);
        match verdict.next {
            Next::Probe if *self.state.borrow() != IntegrationState::Unsupported => {
                self.enter(IntegrationState::Probing);
            }
            Next::Register => {
                self.enter(IntegrationState::Registering);
            }
            Next::Probe | Next::ReportHealth { .. } => {}
        }
        // A request that was refused for who sent it may be accepted from somebody else.
        let refused = match failure {
            Failure::Call(error, sender) if decision::concerns_sender(&error) => sender,
            _ => None,
        };
        let mut until = Instant::now() + self.backoff.next_wait(verdict.wait);
        if verdict.is_on_schedule {
            until = self.schedule.next_after(until);
        }
        self.pause_until(until, refused.as_ref()).await?;
        Ok(verdict.next)
    }

    /// Logs a trouble once, until there is another or none.
    fn say(&mut self, trouble: Trouble, verdict: &Verdict) {
        if self.trouble.as_ref().is_some_and(|said| said.is_same(&trouble)) {
            tracing::debug!("{trouble}");
            return;
        }
        if trouble.needs_operator() {
            tracing::error!("{trouble}; the inventory is reported all the same");
        } else {
            tracing::warn!("{trouble}; it is tried again, and the inventory is reported all the same");
        }
        if verdict.next == Next::Register && trouble.call() == Call::HealthReport {
            tracing::info!("the agent registers again, under the same ids");
        }
        self.trouble = Some(trouble);
    }

    /// Enters a state; `false` when it is in that one already.
    fn enter(&self, state: IntegrationState) -> bool {
        self.state.send_if_modified(|current| {
            let is_other = *current != state;
            *current = state;
            is_other
        })
    }

    /// The credentials for a request, once one may be sent: while this process has the mandate, and as a user whom the
    /// server did not refuse for a report.
    async fn sender(&mut self) -> Result<Result<BasicAuth, CredentialsError>, Stopped> {
        let mut is_told = false;
        loop {
            self.wait_for_mandate().await?;
            let sender = match self.recipient.sender().await {
                Ok(sender) => sender,
                Err(error) => return Ok(Err(error)),
            };
            let Some(reason) = (self.paused)(&sender) else { return Ok(Ok(sender)) };
            if !is_told {
                tracing::info!(user = sender.user, "registration and health reports wait: {reason}");
                is_told = true;
            }
            self.pause_for(self.pace.look, None).await?;
        }
    }
}
