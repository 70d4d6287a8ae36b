//! What is measured, in the order in which it happens.

use std::time::{Duration, Instant};

use anyhow::ensure;
use testbed::anchore::Enterprise;
use testbed::objects::{Kind, Objects};
use tokio::time::sleep;

use crate::agent::{Agent, INTERVAL, Metrics};
use crate::api::Api;
use crate::churn::{CHANGES, Churn};
use crate::server::Server;
use crate::table::Table;

/// Most that memory may grow over the steady state at a list that is read anew.
const MOST_AT_RELIST: f64 = 1.3;

/// Most MiB that a report may take beside the state.
const MOST_FOR_REPORT: f64 = 16.0;

/// Most bytes a minute when nothing changes.
const MOST_QUIET_BYTES: f64 = 1_000.0;

/// Most of one processor, in per cent, that following one replacement a minute of each hundred pods may take.
const MOST_CPU: f64 = 5.0;

/// Most seconds until a new image is known.
const MOST_NOTICING: f64 = 1.0;

/// Most seconds until the state is complete again after the API server answers again.
const MOST_RECOVERY: f64 = 10.0;

/// Pods whose images are waited for.
const NOTICED: usize = 300;

/// Pause between two looks at the metrics, where what matters is when something was noticed.
const LOOK: Duration = Duration::from_millis(2);

/// Any other pause.
const PAUSE: Duration = Duration::from_millis(50);

/// Quiet must be this long to count.
const QUIET: Duration = Duration::from_mins(1);

/// How long pods are replaced.
const CHURN: Duration = Duration::from_secs(30);

/// Part of all pods that are replaced in the end, in per cent.
const MOSTLY: usize = 60;

/// Part of all pods that are replaced each minute.
const CHURN_PER_MINUTE: f64 = 0.01;

/// All that takes part at one size.
pub(crate) struct Scene<'a> {
    pub(crate) server: &'a Server,
    pub(crate) enterprise: &'a Enterprise,
    pub(crate) agent: Agent,
    pub(crate) api: Api,
    pub(crate) objects: Objects,
    /// Most MiB of the steady state.
    pub(crate) memory: f64,
}

/// When one new image was noticed, in seconds.
struct Noticed {
    /// Since the answer that its status was accepted.
    since_accepted: f64,
    /// Since its status was sent.
    since_sent: f64,
    /// From the last look that did not show it.
    uncertainty: f64,
}

impl Scene<'_> {
    pub(crate) async fn run(&mut self, table: &mut Table) -> anyhow::Result<()> {
        let watching = self.first_state(table).await?;
        self.quiet(table).await?;
        let steady = self.report(table, watching).await?;
        let pods = self.objects.of(Kind::Pods).len();
        let objects = std::mem::take(&mut self.objects);
        let mut churn = Churn::new(&self.server.etcd_url, &objects)?;
        self.noticing(table, pods).await?;
        self.changes(table, &mut churn, pods).await?;
        self.recovery(table, &mut churn, steady).await?;
        self.wear(table, &mut churn, steady, pods).await?;
        self.agent.next_report().await?;
        self.agent.next_report().await?;
        let memory = self.agent.memory()?;
        table.at_most("memory after all of this and two reports", memory.resident, self.memory, "MiB");
        table.tell("log", format!("{} lines of warnings or errors", self.agent.complaints()));
        Ok(())
    }

    /// Gives the memory before the first report.
    async fn first_state(&mut self, table: &mut Table) -> anyhow::Result<f64> {
        self.agent.until("the first state is complete", PAUSE, Metrics::is_synced).await?;
        let synced = self.agent.started.elapsed();
        let memory = self.agent.memory()?;
        let metrics = self
            .agent
            .until("the first report is accepted", PAUSE, |now| now.reports_made() > 0 && now.is_delivered())
            .await?;
        let accepted = self.enterprise.accepted();
        ensure!(!accepted.is_empty(), "nothing was accepted");
        let bytes: u64 = accepted.iter().map(|report| report.bytes).sum();
        table.tell(
            "first state, first report accepted",
            format!(
                "{:.1} s, {:.1} s after the start",
                synced.as_secs_f64(),
                self.agent.started.elapsed().as_secs_f64()
            ),
        );
        let [containers, nodes] =
            ["containers", "nodes"].map(|kind| metrics.of(&format!("held_objects{{kind=\"{kind}\"}}")));
        table.tell(
            "held",
            format!(
                "{} pods, {containers} containers, {nodes} nodes; report {:.1} MB",
                metrics.pods(),
                bytes as f64 / 1e6
            ),
        );
        table.tell(
            "memory when the first state is complete, peak",
            format!("{:.1}, {:.1} MiB", memory.resident, memory.peak),
        );
        let now = self.agent.memory()?;
        table.tell("memory after the first report, peak", format!("{:.1}, {:.1} MiB", now.resident, now.peak));
        Ok(memory.resident)
    }

    /// Between two reports, nobody asks and nothing happens.
    async fn quiet(&mut self, table: &mut Table) -> anyhow::Result<()> {
        sleep(Duration::from_secs(3)).await;
        let (before, cpu) = (self.agent.metrics().await?, self.agent.cpu()?);
        sleep(QUIET).await;
        let cpu = self.agent.cpu()? - cpu;
        let after = self.agent.metrics().await?;
        ensure!(after.reports_made() == before.reports_made(), "a report was made within the quiet minute");
        table.at_most(
            "received in a quiet minute",
            (after.received() - before.received()) as f64,
            MOST_QUIET_BYTES,
            "B",
        );
        table.tell("events in it", format!("{}", after.events() - before.events()));
        // Two ticks of the clock that the system counts with.
        table.at_most("CPU in it", cpu, 0.02, "s");
        Ok(())
    }

    /// A report, of which nothing is seen but what the system counts. Gives the steady state.
    async fn report(&mut self, table: &mut Table, watching: f64) -> anyhow::Result<f64> {
        self.agent.next_report().await?;
        self.agent.next_report().await?;
        sleep(Duration::from_secs(2)).await;
        let steady = self.agent.memory()?;
        table.at_most("memory, steady, after three reports", steady.resident, self.memory, "MiB");
        table.tell("of which not files", format!("{:.1} MiB, {} threads", steady.anonymous, self.agent.threads()));
        self.agent.forget_peak()?;
        let (cpu, received) = (self.agent.cpu()?, self.agent.metrics().await?.received());
        self.agent.next_report().await?;
        let cpu = self.agent.cpu()? - cpu;
        let (memory, metrics) = (self.agent.memory()?, self.agent.metrics().await?);
        table.at_most(
            "peak at a report, its spool and its sending, to before all reports",
            memory.peak - watching,
            MOST_FOR_REPORT,
            "MiB",
        );
        table.tell("CPU, time to hand it to delivery", format!("{cpu:.2} s, {:.2} s", metrics.tick_seconds()));
        table.tell("received meanwhile", format!("{} B in an interval", metrics.received() - received));
        Ok(steady.resident)
    }

    /// Pods live through the API, one after the other; each change is waited for.
    async fn noticing(&mut self, table: &mut Table, pods: usize) -> anyhow::Result<()> {
        let pace = Duration::from_secs_f64(60.0 / (pods as f64 * CHURN_PER_MINUTE)).max(Duration::from_millis(200));
        let mut all = Vec::with_capacity(NOTICED);
        for number in 0..NOTICED {
            let began = Instant::now();
            all.push(self.notice(&format!("bench-{number}")).await?);
            if let Some(earlier) = number.checked_sub(20) {
                self.api.delete(&format!("bench-{earlier}")).await?;
            }
            sleep(pace.saturating_sub(began.elapsed())).await;
        }
        let percentile = |of: fn(&Noticed) -> f64, hundredth: usize| {
            let mut values: Vec<f64> = all.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get((values.len() * hundredth).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
        };
        let of = |one: &Noticed| one.since_accepted;
        table.at_most(
            "a new image is noticed after its status was accepted, p99",
            percentile(of, 99),
            MOST_NOTICING,
            "s",
        );
        table.tell(
            "p50, max",
            format!("{:.4} s, {:.4} s, of {NOTICED} pods, one each {pace:?}", percentile(of, 50), percentile(of, 100)),
        );
        let sent = |one: &Noticed| one.since_sent;
        table.tell(
            "p50, p99 since it was sent",
            format!("{:.4} s, {:.4} s", percentile(sent, 50), percentile(sent, 99)),
        );
        let uncertainty = |one: &Noticed| one.uncertainty;
        table.tell(
            "uncertainty of each, p50, p99",
            format!("{:.4} s, {:.4} s", percentile(uncertainty, 50), percentile(uncertainty, 99)),
        );
        Ok(())
    }

    async fn notice(&mut self, name: &str) -> anyhow::Result<Noticed> {
        let events = self.agent.metrics().await?.events();
        self.api.create(name).await?;
        self.api.bind(name, "node-0001.cluster.internal").await?;
        let seen = self.agent.until("a new pod is noticed", LOOK, |now| now.events() >= events + 2).await?.events();
        let sent = Instant::now();
        self.api.runs(name).await?;
        let accepted = Instant::now();
        let mut looked = sent;
        loop {
            let asked = Instant::now();
            let metrics = self.agent.metrics().await?;
            let now = Instant::now();
            if metrics.events() > seen {
                return Ok(Noticed {
                    since_accepted: now.duration_since(accepted).as_secs_f64(),
                    since_sent: now.duration_since(sent).as_secs_f64(),
                    uncertainty: now.duration_since(looked.max(accepted)).as_secs_f64(),
                });
            }
            ensure!(accepted.elapsed() < Duration::from_mins(1), "a status was not noticed within a minute");
            looked = asked;
            sleep(LOOK).await;
        }
    }

    /// Many changes, between two reports.
    async fn changes(&mut self, table: &mut Table, churn: &mut Churn<'_>, pods: usize) -> anyhow::Result<()> {
        let per_second = pods as f64 * CHURN_PER_MINUTE / 60.0;
        self.agent.next_report().await?;
        sleep(Duration::from_secs(3)).await;
        let (before, cpu) = (self.agent.metrics().await?, self.agent.cpu()?);
        let began = Instant::now();
        let replaced = churn.run(CHURN, per_second).await?;
        let took = began.elapsed().as_secs_f64();
        let cpu = self.agent.cpu()? - cpu;
        let expected = (replaced * CHANGES) as u64;
        let after = self
            .agent
            .until("all changes are noticed", PAUSE, |now| now.events() >= before.events() + expected)
            .await?;
        ensure!(after.reports_made() == before.reports_made(), "a report was made while pods were replaced");
        let events = (after.events() - before.events()) as f64;
        table.at_most("CPU while pods are replaced, 1 % a minute", 100.0 * cpu / took, MOST_CPU, "%");
        table.tell(
            "meanwhile",
            format!(
                "{:.0} events/s, {:.1} kB/s",
                events / took,
                (after.received() - before.received()) as f64 / took / 1e3
            ),
        );
        table.tell("CPU of an event", format!("{:.0} us", 1e6 * cpu / events));
        ensure!(after.pods() == before.pods(), "{} pods became {}", before.pods(), after.pods());
        table.tell("carried pods", format!("{}", after.of("carried_pods")));
        Ok(())
    }

    /// Most of the cluster is replaced, so that memory is full of texts of what is gone.
    async fn wear(&mut self, table: &mut Table, churn: &mut Churn<'_>, steady: f64, pods: usize) -> anyhow::Result<()> {
        let before = self.agent.metrics().await?;
        self.agent.forget_peak()?;
        let replaced = pods / 100 * MOSTLY;
        let began = Instant::now();
        churn.replace_fast(replaced).await?;
        let took = began.elapsed().as_secs_f64();
        let expected = before.events() + 2 * replaced as u64;
        let after = self.agent.until("all replacements are noticed", PAUSE, |now| now.events() >= expected).await?;
        let memory = self.agent.memory()?;
        table.at_most(
            &format!("peak of memory while {MOSTLY} % of all pods are replaced, to steady"),
            memory.peak / steady,
            MOST_AT_RELIST,
            "x",
        );
        table.tell("peak, after it", format!("{:.1}, {:.1} MiB", memory.peak, memory.resident));
        table.tell("events meanwhile", format!("{:.0}/s", (2 * replaced) as f64 / took));
        let (carried, dropped) = (after.of("carried_pods"), after.of("carried_pods_dropped_total"));
        table.tell("carried pods, dropped", format!("{carried}, {dropped}"));
        Ok(())
    }

    /// The API server ends; meanwhile the cluster changes, so that no watch can go on.
    async fn recovery(&mut self, table: &mut Table, churn: &mut Churn<'_>, steady: f64) -> anyhow::Result<()> {
        self.agent.next_report().await?;
        let before = self.agent.metrics().await?;
        self.server.kill_apiserver();
        self.agent.until("the API server is missed", PAUSE, |now| !now.is_synced()).await?;
        churn.replace(50).await?;
        churn.delete_one().await?;
        self.agent.forget_peak()?;
        let cpu = self.agent.cpu()?;
        let started = Instant::now();
        let ready = async {
            self.server.start_apiserver().await;
            started.elapsed().as_secs_f64()
        };
        let answers = async {
            while !self.api.answers().await {
                sleep(PAUSE).await;
            }
            started.elapsed().as_secs_f64()
        };
        let complete = async {
            // What is gone goes at the end of a list, and a watch is opened after each.
            let is_so = |now: &Metrics| {
                let relists = now.of("relists_total") - before.of("relists_total");
                let is_complete = relists > 0 && now.pods() + 1 == before.pods();
                is_complete && now.is_synced() && now.of("watches_total") >= before.of("watches_total") + relists + 2
            };
            let after = self.agent.until("the state is complete again", Duration::from_millis(20), is_so).await?;
            anyhow::Ok((after, started.elapsed().as_secs_f64()))
        };
        let (ready, answers, complete) = tokio::join!(ready, answers, complete);
        let (after, complete) = complete?;
        let (memory, cpu) = (self.agent.memory()?, self.agent.cpu()? - cpu);
        let count = |name: &str| after.of(name) - before.of(name);
        table.at_most("complete again after the API server answers", (complete - answers).max(0.0), MOST_RECOVERY, "s");
        table.tell(
            "it answers, state complete, it is ready",
            format!("{answers:.2}, {complete:.2}, {ready:.2} s after its start"),
        );
        table.at_most("lists for it, of two kinds", count("lists_total") as f64, 2.0, "lists");
        table.tell(
            "lists anew, watches, CPU",
            format!("{}, {}, {cpu:.2} s", count("relists_total"), count("watches_total")),
        );
        table.at_most("peak of memory at that list, to steady", memory.peak / steady, MOST_AT_RELIST, "x");
        table.tell("peak, after it", format!("{:.1}, {:.1} MiB", memory.peak, memory.resident));
        self.notice("bench-after-restart").await?;
        // The interval goes on.
        table.tell("interval between reports", format!("{} s", INTERVAL.as_secs()));
        Ok(())
    }
}
