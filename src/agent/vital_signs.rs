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

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::sync::Arc;

    use pretty_assertions::assert_eq;
    use testbed::cluster::Cluster;
    use testbed::kubernetes::KubernetesApi;
    use testbed::kubernetes::access::User;
    use testbed::server::fault::{Fault, Requests};

    use super::*;
    use crate::cluster::connect::Connection;
    use crate::cluster::watch::{ObserveSettings, WatchLimits};
    use crate::config::{Environment, Overrides};

    async fn observer(api: &KubernetesApi) -> Arc<Observer> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("kubeconfig"), api.kubeconfig(&User::named("reader"))).expect("written");
        let environment = Environment { working_directory: folder.path().to_owned(), ..Environment::default() };
        let overrides = Overrides { kubeconfig: Some("kubeconfig".to_owned()), ..Overrides::default() };
        let config = crate::config::load(&overrides, &environment).expect("settings").config;
        let connection = Connection::open(&config.kubeconfig, &environment).await.expect("a client");
        let settings = ObserveSettings {
            method: config.periodic.method,
            kubernetes: config.kubernetes,
            selectors: config.selectors,
            metadata: config.metadata,
            account_label_key: None,
            reports_finished: false,
        };
        Arc::new(Observer::new(Arc::new(connection), settings, WatchLimits::default()))
    }

    fn signs(patience: Duration, observer: &Arc<Observer>) -> VitalSigns {
        let signs = VitalSigns { patience, state: Mutex::new(State::Starting) };
        signs.reporting(Parts { observer: Arc::downgrade(observer), delivery: Weak::new(), integration: None });
        signs
    }

    /// Waits until it is ready, or not, and gives the reason. It may change on the way.
    async fn becomes(signs: &VitalSigns, is_ready: bool, observing: impl Future<Output = ()>) -> String {
        let becoming = async {
            loop {
                match signs.readiness() {
                    Ok(()) if is_ready => return String::new(),
                    Err(reason) if !is_ready => return reason,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        tokio::select! {
            reason = becoming => reason,
            () = observing => unreachable!("it observes for ever"),
            () = tokio::time::sleep(Duration::from_mins(1)) => panic!("not within a minute: {:?}", signs.readiness()),
        }
    }

    #[tokio::test]
    async fn it_is_ready_from_the_first_state_on_and_while_that_is_confirmed() {
        let api = KubernetesApi::serving(&Cluster::new().namespace("shop")).await.expect("started");
        let observer = observer(&api).await;
        let signs = signs(Duration::from_millis(500), &observer);
        assert_eq!(signs.readiness(), Err("pods: not read yet; namespaces: not read yet".to_owned()));
        becomes(&signs, true, observer.run()).await;

        api.inject(Requests::to("*"), Fault::Resets { after: 0 });
        api.reset_watches();
        let reason = becomes(&signs, false, observer.run()).await;
        assert!(reason.starts_with("pods: ") || reason.starts_with("namespaces: "), "{reason}");

        api.clear_faults();
        becomes(&signs, true, observer.run()).await;
    }

    #[test]
    fn a_needed_source_may_be_unconfirmed_for_three_intervals_and_for_a_minute_at_least() {
        let patience = |seconds| VitalSigns::new(Duration::from_secs(seconds)).patience.as_secs();
        assert_eq!([patience(1), patience(20), patience(300)], [60, 60, 900]);
    }

    #[test]
    fn who_waits_for_its_turn_is_ready_and_who_starts_or_stops_is_not() {
        let signs = VitalSigns::new(Duration::from_secs(1));
        assert!(signs.readiness().is_err());
        signs.standby();
        assert_eq!(signs.readiness(), Ok(()));
        signs.stopping();
        assert!(signs.readiness().is_err());
    }
}
