//! What the agent says of itself to probes and metrics, gathered when it is asked.

use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::cluster::watch::{Observer, SourceState};
use crate::delivery::resident::ResidentDelivery;
use crate::integration::IntegrationState;
use crate::integration::counts::{CallCounts, IntegrationCounts};
use crate::metrics::{AnchoreCall, AnchoreOutcome, IntegrationPhase, Metrics};

/// A needed source may be unconfirmed for so long at least before the agent is not ready.
const LEAST_PATIENCE: Duration = Duration::from_mins(1);

/// Polling intervals that a needed source may be unconfirmed for.
const INTERVALS: u32 = 3;

/// The parts that can be asked.
#[derive(Debug)]
pub(crate) struct VitalSigns {
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// It has only just started.
    Starting,
    /// Another replica reports.
    Standby,
    /// It observes and reports.
    Reporting(Parts),
    /// It was told to stop.
    Stopping,
}

/// The parts of one term of reporting; they are not kept alive by being asked.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) observer: Weak<Observer>,
    pub(crate) delivery: Weak<ResidentDelivery>,
    pub(crate) integration: Option<(watch::Receiver<IntegrationState>, std::sync::Arc<IntegrationCounts>)>,
}

impl VitalSigns {
    pub(crate) fn new(polling_interval: Duration) -> Self {
        let patience = polling_interval.saturating_mul(INTERVALS).max(LEAST_PATIENCE);
        Self { patience, state: Mutex::new(State::Starting) }
    }

    pub(crate) fn reporting(&self, parts: Parts) {
        *self.state() = State::Reporting(parts);
    }

    pub(crate) fn standby(&self) {
        *self.state() = State::Standby;
    }

    pub(crate) fn stopping(&self) {
        *self.state() = State::Stopping;
    }

    /// Whether the agent does what it is for. Anchore being away does not make it unready: a restart would not help.
    ///
    /// # Errors
    /// It does not, for this reason.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        let observer = match &*self.state() {
            State::Starting => return Err("it has only just started".to_owned()),
            State::Stopping => return Err("it was told to stop".to_owned()),
            State::Standby => return Ok(()),
            State::Reporting(parts) => parts.observer.upgrade(),
        };
        let Some(observer) = observer else { return Ok(()) };
        let statuses = observer.statuses();
        let is_confirmed = |age: Option<Duration>| age.is_some_and(|age| age <= self.patience);
        let mut confirmed = statuses.iter().map(|status| is_confirmed(status.confirmed.map(|at| at.elapsed())));
        // Of namespaces that are read by themselves one is enough: the others are left out, and named elsewhere.
        let is_ready = if observer.reads_by_namespace() { confirmed.any(|one| one) } else { confirmed.all(|one| one) };
        if is_ready {
            return Ok(());
        }
        let unconfirmed = statuses.iter().filter(|status| !is_confirmed(status.confirmed.map(|at| at.elapsed())));
        let told = unconfirmed.map(|status| match &status.state {
            SourceState::Syncing(None) => format!("{}: not read yet", status.name),
            SourceState::Syncing(Some(reason)) => format!("{}: not read yet: {reason}", status.name),
            SourceState::Synced => format!("{}: not confirmed lately", status.name),
            SourceState::Stale { since, reason } => format!("{}: stale since {since:.0}: {reason}", status.name),
            SourceState::Blind { since, reason } => format!("{}: blind since {since:.0}: {reason}", status.name),
        });
        Err(told.collect::<Vec<_>>().join("; "))
    }

    /// Takes over what the parts count.
    pub(crate) fn measure(&self, metrics: &Metrics) {
        let state = self.state();
        metrics.leader(matches!(*state, State::Reporting(_)));
        let State::Reporting(parts) = &*state else {
            // What another term left would be taken for what is now.
            metrics.sources(&[]);
            metrics.waiting(0, 0, None);
            metrics.memory_only(false);
            return;
        };
        if let Some(observer) = parts.observer.upgrade() {
            metrics.observed(&observer.counts(), &observer.outcomes());
            metrics.sources(&observer.statuses());
        }
        if let Some(delivery) = parts.delivery.upgrade() {
            let waiting = delivery.waiting();
            metrics.waiting(waiting.sets, waiting.bytes, waiting.oldest);
            metrics.memory_only(delivery.memory_only().is_some());
        }
        if let Some((state, counts)) = &parts.integration {
            metrics.integration(match &*state.borrow() {
                IntegrationState::Probing => IntegrationPhase::Probing,
                IntegrationState::Unsupported => IntegrationPhase::Unsupported,
                IntegrationState::Registering => IntegrationPhase::Registering,
                IntegrationState::Registered { .. } => IntegrationPhase::Registered,
            });
            let measure = |call, counts: &CallCounts| {
                metrics.anchore_requests(call, AnchoreOutcome::Accepted, counts.accepted());
                metrics.anchore_requests(call, AnchoreOutcome::Refused, counts.refused());
                metrics.anchore_requests(call, AnchoreOutcome::Failed, counts.failed());
            };
            measure(AnchoreCall::Version, &counts.version);
            measure(AnchoreCall::Register, &counts.registration);
            measure(AnchoreCall::Health, &counts.health);
        }
    }

    /// The values behind this lock are whole at any time, so a panic elsewhere does not spoil them.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
