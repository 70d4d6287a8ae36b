//! What goes wrong with the API server: one thing after the other, and after each of them everything works again before
//! the next begins.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use testbed::fleet::random::Random;
use testbed::kubernetes::{ExpiredWatch, KubernetesApi, failure, too_many_requests};
use testbed::objects::Kind;
use testbed::server::fault::{Fault, Requests};
use tokio_util::sync::CancellationToken;

use crate::chronicle::{Chronicle, Effect};
use crate::{Pace, Shared, lock};

/// How long the agent may take to watch everything again once nothing is wrong: twice its longest wait and more.
const RECOVERY: Duration = Duration::from_secs(90);

/// Disturbs an API server.
pub(crate) struct ClusterFaults {
    api: Arc<KubernetesApi>,
    chronicle: Shared<Chronicle>,
    random: Random,
    pace: Pace,
}

impl ClusterFaults {
    pub(crate) fn new(api: Arc<KubernetesApi>, chronicle: Shared<Chronicle>, seed: u64, pace: Pace) -> Self {
        Self { api, chronicle, random: Random::new(seed, "cluster faults", 0), pace }
    }

    /// Disturbs until told to stop.
    ///
    /// # Errors
    /// The agent does not recover from something.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), String> {
        while stop.run_until_cancelled(self.pace.pause(&mut self.random)).await.is_some() {
            let from = Timestamp::now();
            let (what, effect) = self.disturb().await;
            self.api.clear_faults();
            self.api.hold_watches(false);
            if tokio::time::timeout(RECOVERY, watched(&self.api)).await.is_err() {
                return Err(format!("after \"{what}\" at {from:.3} not everything was watched again in {RECOVERY:?}"));
            }
            lock(&self.chronicle).window(from, effect, what);
        }
        Ok(())
    }

    async fn disturb(&mut self) -> (&'static str, Effect) {
        match self.random.below(8) {
            0 => self.end_watches(),
            1 => self.silence().await,
            2 | 3 => self.forget().await,
            4 => self.fail_lists().await,
            5 => self.refuse_watches().await,
            6 => self.break_watches().await,
            _ => self.refuse_everything().await,
        }
    }

    /// Watches end and may go on at once.
    fn end_watches(&mut self) -> (&'static str, Effect) {
        if self.random.per_mille(500) {
            self.api.close_watches();
            ("watches closed", Effect::Delays)
        } else {
            self.api.reset_watches();
            ("watches reset", Effect::Delays)
        }
    }

    /// Nothing is heard for a while, on connections that stay open.
    async fn silence(&mut self) -> (&'static str, Effect) {
        self.api.hold_watches(true);
        self.last().await;
        match self.random.below(3) {
            0 => ("silence", Effect::Delays),
            1 => {
                self.api.reset_watches();
                ("silence, then watches reset", Effect::Delays)
            }
            _ => {
                self.api.compact();
                self.api.reset_watches();
                ("silence, compaction, then watches reset", Effect::Blinds)
            }
        }
    }

    /// The server does not remember what a watch is to go on with.
    async fn forget(&mut self) -> (&'static str, Effect) {
        match self.random.below(4) {
            0 => {
                self.api.send_watch_error(410, "Expired", "too old resource version");
                return ("410 on open watches", Effect::Blinds);
            }
            1 => self.api.set_expired_watch(ExpiredWatch::Status),
            _ => self.api.set_expired_watch(ExpiredWatch::Event),
        }
        // Something has to happen that is then forgotten.
        self.inject(Requests::to("*").watches().first(2), failure(503, "ServiceUnavailable", "starting"));
        self.api.reset_watches();
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.api.compact();
        ("watches reset, and compaction before they could go on", Effect::Blinds)
    }

    /// Lists are needed, and fail.
    async fn fail_lists(&mut self) -> (&'static str, Effect) {
        let count = 1 + self.random.below(3);
        let size = self.random.below(20_000);
        let fault = match self.random.below(7) {
            0 => too_many_requests(1).into(),
            1 => failure(503, "ServiceUnavailable", "busy").into(),
            2 => failure(500, "InternalError", "etcdserver: leader changed").into(),
            3 => Fault::cut_after(size),
            4 => Fault::truncated_to(size),
            5 => Fault::Resets { after: 0 },
            _ => Fault::drips(512, Duration::from_millis(2)),
        };
        self.inject(Requests::to("/api/v1/pods").lists().first(count), fault.clone());
        self.inject(Requests::to("/api/v1/namespaces").lists().first(count), fault);
        self.api.expire_continue_tokens();
        self.api.compact();
        self.api.send_watch_error(410, "Expired", "too old resource version");
        self.last().await;
        ("410 on open watches, and lists that fail", Effect::Blinds)
    }

    /// Watches end, and are refused for a while.
    async fn refuse_watches(&mut self) -> (&'static str, Effect) {
        let watches = Requests::to("*").watches();
        let (fault, what, effect): (Fault, _, _) = match self.random.below(6) {
            0 => (too_many_requests(1).into(), "429 for watches", Effect::Delays),
            1 => (failure(503, "ServiceUnavailable", "busy").into(), "503 for watches", Effect::Delays),
            2 => (failure(401, "Unauthorized", "Unauthorized").into(), "401 for watches", Effect::Delays),
            // The agent gives these watches up after a few refusals, as it should.
            3 => (failure(500, "InternalError", "no").into(), "500 for watches", Effect::Blinds),
            4 => (failure(403, "Forbidden", "forbidden").into(), "403 for watches", Effect::Blinds),
            _ => (Fault::Closes { after: 0 }, "connections closed on watches", Effect::Delays),
        };
        self.inject(watches, fault);
        self.api.reset_watches();
        self.last().await;
        (what, effect)
    }

    /// Watches break off within an event, or say something else than events.
    async fn break_watches(&mut self) -> (&'static str, Effect) {
        let size = self.random.below(4_000);
        let (fault, what) = match self.random.below(4) {
            0 => (Fault::cut_after(size), "watches cut off within events"),
            1 => (Fault::truncated_to(size), "watches ended within events"),
            2 => (Fault::chunks_of(7), "watches in tiny pieces"),
            _ => {
                self.api.send_watch_error(500, "InternalError", "etcdserver: no leader");
                return ("500 on open watches", Effect::Delays);
            }
        };
        self.inject(Requests::to("*").watches().first(2 + self.random.clone().below(3)), fault);
        self.api.close_watches();
        self.last().await;
        // What is broken ends with its watch.
        self.api.clear_faults();
        self.api.close_watches();
        (what, Effect::Delays)
    }

    /// Nothing may be read, or nobody answers.
    async fn refuse_everything(&mut self) -> (&'static str, Effect) {
        let (fault, what, effect): (Fault, _, _) = match self.random.below(3) {
            0 => (failure(401, "Unauthorized", "Unauthorized").into(), "401 for everything", Effect::Delays),
            // Between the last refusal of a watch and the first list that is allowed, a list takes the watch's place.
            1 => (failure(403, "Forbidden", "forbidden").into(), "403 for everything", Effect::Blinds),
            _ => (Fault::Resets { after: 0 }, "all connections reset", Effect::Delays),
        };
        self.inject(Requests::to("*"), fault);
        self.api.reset_watches();
        self.last().await;
        (what, effect)
    }

    fn inject(&self, requests: Requests, fault: impl Into<Fault>) {
        self.api.inject(requests, fault);
    }

    async fn last(&mut self) {
        self.pace.outage(&mut self.random).await;
    }
}

/// Waits until all is watched that the agent watches.
pub(crate) async fn watched(api: &KubernetesApi) {
    let is_watched =
        |api: &KubernetesApi| [Kind::Pods, Kind::Namespaces].into_iter().all(|kind| api.watch_count(kind) > 0);
    api.wait_until(is_watched).await;
}
