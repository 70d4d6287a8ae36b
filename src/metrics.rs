//! What there is to measure: metrics in the text format of OpenMetrics, which Prometheus reads.
//!
//! Names, labels and units are an interface: docs/operations.md lists them, made from what is registered here. Every
//! label has few values that are known beforehand; there is none for each object, and none for each account when there
//! are many. What others count anyway is taken over when somebody asks ([`Metrics::on_scrape`]), not when it happens.

mod accounts;
mod family;
mod label;
mod process;

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;

use self::accounts::Accounts;
use self::family::{Count, Each, EachPair, Moment, Registrar, Registries, Seconds};
pub use self::label::{AnchoreCall, AnchoreOutcome, HeldKind, IntegrationPhase, TickOutcome};
use self::label::{Label, OmissionKind, ReportOutcome, Source, SourcePhase};
use self::process::Process;
use crate::cluster::progress::RequestOutcome;
use crate::cluster::snapshot::NodeAccess;
use crate::cluster::watch::{ObserverCounts, SourceState, SourceStatus};
use crate::delivery::status::{DeliveryEvent, Happening};
use crate::inventory::omissions::Omissions;

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Takes over what others count.
type Refresh = Arc<dyn Fn(&Metrics) + Send + Sync>;

/// All metrics. Cheap to change, from anywhere.
pub struct Metrics {
    registries: Registries,
    documentation: String,
    refreshes: Mutex<Vec<Refresh>>,
    ticks: Ticks,
    cluster: Cluster,
    sending: Sending,
    integration: Each<IntegrationPhase, Count>,
    leader: Count,
}

struct Ticks {
    total: Each<TickOutcome, Counter>,
    last: Moment,
    duration: Seconds,
    omissions: Each<OmissionKind, Counter>,
}

struct Cluster {
    sources: EachPair<Source, SourcePhase, Count>,
    confirmed: Each<Source, Seconds>,
    lists: Counter,
    relists: Counter,
    watches: Counter,
    events: Counter,
    requests: Each<RequestOutcome, Counter>,
    bytes: Counter,
    held: Each<HeldKind, Count>,
    carried: Count,
    carried_dropped: Counter,
}

struct Sending {
    accounts: Accounts,
    bytes: Counter,
    requests: EachPair<AnchoreCall, AnchoreOutcome, Counter>,
    waiting_sets: Count,
    waiting_bytes: Count,
    oldest: Moment,
    memory_only: Count,
}

impl Metrics {
    /// All of them, at their start.
    pub fn new() -> Self {
        let mut registrar = Registrar::default();
        registrar.standard(&process::DOCUMENTATION, Box::new(Process { started: Timestamp::now() }));
        let build = vec![("version", env!("CARGO_PKG_VERSION")), ("git_commit", env!("BUILD_GIT_COMMIT"))];
        let labels = "`version`, `git_commit`".to_owned();
        registrar.add(("build", None, "What the program was built from; always 1"), labels, Info::new(build));
        let ticks = Ticks::new(&mut registrar);
        let cluster = Cluster::new(&mut registrar);
        let sending = Sending::new(&mut registrar);
        let integration = registrar.each((
            "integration_state",
            None,
            "1 for the state that registration with Anchore Enterprise is in, 0 for the others",
        ));
        let leader =
            registrar.one(("leader", None, "1 while this replica may report: it leads, or runs alone; else 0"));
        let (registries, documentation) = registrar.finish();
        let refreshes = Mutex::default();
        Self { registries, documentation, refreshes, ticks, cluster, sending, integration, leader }
    }

    /// Has `refresh` called before each [`Metrics::encode`].
    pub fn on_scrape(&self, refresh: Box<dyn Fn(&Self) + Send + Sync>) {
        self.refreshes.lock().unwrap_or_else(PoisonError::into_inner).push(refresh.into());
    }

    /// All metrics now, as [`CONTENT_TYPE`].
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let refreshes = self.refreshes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for refresh in refreshes {
            refresh(self);
        }
        self.registries.encode()
    }

    /// A table of all metrics in Markdown.
    pub fn documentation(&self) -> &str {
        &self.documentation
    }

    /// A tick that began at `began` took so long, and this became of it. Of a skipped one only that is kept.
    pub fn tick(&self, outcome: TickOutcome, began: Timestamp, took: Duration) {
        self.ticks.total.of(outcome).inc();
        if outcome != TickOutcome::Skipped {
            self.ticks.last.set(Some(began));
            self.ticks.duration.set(took.as_secs_f64());
        }
    }

    /// A tick's reports left this out.
    pub fn omitted(&self, omissions: &Omissions) {
        for (kind, count) in [
            (OmissionKind::NamespacesWithoutUid, omissions.namespaces_without_uid),
            (OmissionKind::NodesWithoutUid, omissions.nodes_without_uid),
            (OmissionKind::PodsWithoutUid, omissions.pods_without_uid),
            (OmissionKind::PodsWithoutNamespace, omissions.pods_without_namespace),
            (OmissionKind::ContainersWithoutId, omissions.containers_without_id),
            (OmissionKind::ContainersWithoutImage, omissions.containers_without_image),
            (OmissionKind::ContainersRepeated, omissions.containers_repeated),
        ] {
            self.ticks.omissions.of(kind).inc_by(count as u64);
        }
    }

    /// The sources of the cluster's state now.
    pub fn sources(&self, statuses: &[SourceStatus]) {
        for source in [Source::Pods, Source::Namespaces] {
            let of_kind = || statuses.iter().filter(move |status| Source::from(status.kind) == source);
            for phase in SourcePhase::ALL {
                let count = of_kind().filter(|status| SourcePhase::from(&status.state) == *phase).count();
                self.cluster.sources.of(source, *phase).set(count as u64);
            }
            // The one that was confirmed longest ago says how far all can be relied on.
            let ages = of_kind().filter_map(|status| status.confirmed).map(|confirmed| confirmed.elapsed());
            if let Some(age) = ages.max() {
                let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
                self.cluster.confirmed(source, Timestamp::now().checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH));
            }
        }
    }

    /// How reading the nodes ended, at this time.
    pub fn nodes(&self, access: &NodeAccess, at: Timestamp) {
        let now = match access {
            NodeAccess::Read => SourcePhase::Synced,
            NodeAccess::Forbidden => SourcePhase::Blind,
            NodeAccess::Failed(_) => SourcePhase::Stale,
        };
        for phase in SourcePhase::ALL {
            self.cluster.sources.of(Source::Nodes, *phase).set(u64::from(*phase == now));
        }
        if *access == NodeAccess::Read {
            self.cluster.confirmed(Source::Nodes, at);
        }
    }

    /// What the observer of the cluster counted, and how its requests ended.
    pub fn observed(&self, counts: &ObserverCounts, outcomes: &[(RequestOutcome, u64)]) {
        let cluster = &self.cluster;
        let [namespaces, pods, containers, nodes] = counts.held;
        cluster.held.of(HeldKind::Namespaces).set(namespaces as u64);
        cluster.held.of(HeldKind::Pods).set(pods as u64);
        cluster.held.of(HeldKind::Containers).set(containers as u64);
        cluster.held.of(HeldKind::Nodes).set(nodes as u64);
        cluster.carried.set(counts.carried as u64);
        raise(&cluster.carried_dropped, counts.carried_dropped);
        raise(&cluster.lists, counts.lists);
        raise(&cluster.relists, counts.relists);
        raise(&cluster.watches, counts.watches);
        raise(&cluster.events, counts.events);
        raise(&cluster.bytes, counts.bytes);
        for (outcome, total) in outcomes {
            raise(&cluster.requests.of(*outcome), *total);
        }
    }

    /// What happened to reports, at this time.
    pub fn delivery(&self, event: &DeliveryEvent, at: Timestamp) {
        let sending = &self.sending;
        let request = |outcome| sending.requests.of(AnchoreCall::Report, outcome).inc();
        match &event.what {
            Happening::Accepted { bytes, .. } => {
                sending.accounts.accepted(&event.account, at);
                sending.bytes.inc_by(*bytes);
                request(AnchoreOutcome::Accepted);
            }
            Happening::Rejected { .. } => {
                sending.accounts.count(&event.account, ReportOutcome::Rejected, 1);
                request(AnchoreOutcome::Refused);
            }
            Happening::Failed { .. } => {
                request(AnchoreOutcome::Failed);
            }
            Happening::Unwritten { .. } => {}
            Happening::Superseded { batches } => {
                sending.accounts.count(&event.account, ReportOutcome::Superseded, *batches as u64);
            }
            Happening::Dropped { batches, .. } => {
                sending.accounts.count(&event.account, ReportOutcome::Dropped, *batches as u64);
            }
        }
    }

    /// So many requests of a kind that others count have ended like this since the start.
    pub fn anchore_requests(&self, call: AnchoreCall, outcome: AnchoreOutcome, total: u64) {
        raise(&self.sending.requests.of(call, outcome), total);
    }

    /// The reports that wait: sets, their bytes, and the time of the oldest.
    pub fn waiting(&self, sets: usize, bytes: u64, oldest: Option<Timestamp>) {
        self.sending.waiting_sets.set(sets as u64);
        self.sending.waiting_bytes.set(bytes);
        self.sending.oldest.set(oldest);
    }

    /// Whether reports wait in memory alone, because the state directory cannot be used.
    pub fn memory_only(&self, memory_only: bool) {
        self.sending.memory_only.set(u64::from(memory_only));
    }

    /// How far registration is now.
    pub fn integration(&self, now: IntegrationPhase) {
        for phase in IntegrationPhase::ALL {
            self.integration.of(*phase).set(u64::from(*phase == now));
        }
    }

    /// Whether this replica may report.
    pub fn leader(&self, leads: bool) {
        self.leader.set(u64::from(leads));
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Ticks {
    fn new(registrar: &mut Registrar) -> Self {
        Self {
            total: registrar.each(("ticks", None, "Times at which reports were due, by what became of them")),
            last: registrar.moment((
                "last_tick_timestamp",
                Some(Unit::Seconds),
                "When the last tick that was not skipped began; absent before the first",
            )),
            duration: registrar.one(("last_tick_duration", Some(Unit::Seconds), "How long that tick took")),
            omissions: registrar.each((
                "omissions",
                None,
                "What reports left out because Anchore Enterprise would refuse it, counted at each tick",
            )),
        }
    }
}

impl Cluster {
    fn new(registrar: &mut Registrar) -> Self {
        Self {
            sources: registrar.each_pair((
                "sources",
                None,
                "How many sources of the cluster's state are in each state: one of a kind, or one for each namespace",
            )),
            confirmed: registrar.each_later((
                "source_confirmed_timestamp",
                Some(Unit::Seconds),
                "Until when the state is known to be what the cluster says, of several sources the earliest; absent \
                 before the first time",
            )),
            lists: registrar.one(("lists", None, "Lists of pods and namespaces that were begun")),
            relists: registrar.one(("relists", None, "Of these, those that replaced a watch that could not go on")),
            watches: registrar.one(("watches", None, "Watches that were opened")),
            events: registrar.one(("watch_events", None, "Events of watches, bookmarks included")),
            requests: registrar.each(("kubernetes_requests", None, "Requests to the API server, by how they ended")),
            bytes: registrar.one((
                "kubernetes_received",
                Some(Unit::Bytes),
                "Bytes of the API server's answers, compressed where they were",
            )),
            held: registrar.each(("held_objects", None, "Objects of the cluster in memory")),
            carried: registrar.one((
                "carried_pods",
                None,
                "Pods that ran since the last accepted report and are gone or finished: they stay in the next reports",
            )),
            carried_dropped: registrar.one((
                "carried_pods_dropped",
                None,
                "Such pods that were given up because there were too many",
            )),
        }
    }

    fn confirmed(&self, source: Source, at: Timestamp) {
        self.confirmed.of(source).set(family::seconds(at));
    }
}

impl Sending {
    fn new(registrar: &mut Registrar) -> Self {
        Self {
            accounts: Accounts::new(registrar),
            bytes: registrar.one(("report", Some(Unit::Bytes), "Bytes of accepted reports")),
            requests: registrar.each_pair((
                "anchore_requests",
                None,
                "Requests to Anchore Enterprise, by how they ended",
            )),
            waiting_sets: registrar.one(("spool_sets", None, "Sets of reports that wait, those being sent included")),
            waiting_bytes: registrar.one(("spool", Some(Unit::Bytes), "Their bytes")),
            oldest: registrar.moment((
                "spool_oldest_timestamp",
                Some(Unit::Seconds),
                "Time of the oldest of them; absent while none waits",
            )),
            memory_only: registrar.one((
                "spool_memory_only",
                None,
                "1 while reports wait in memory alone, because state.directory cannot be used; else 0",
            )),
        }
    }
}

impl From<&SourceState> for SourcePhase {
    fn from(state: &SourceState) -> Self {
        match state {
            SourceState::Syncing(_) => Self::Syncing,
            SourceState::Synced => Self::Synced,
            SourceState::Stale { .. } => Self::Stale,
            SourceState::Blind { .. } => Self::Blind,
        }
    }
}

/// Brings a counter up to a total that somebody else keeps.
fn raise(counter: &Counter, total: u64) {
    counter.inner().fetch_max(total, Relaxed);
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    /// Where docs/operations.md holds the table.
    const MARKERS: (&str, &str) = ("<!-- metrics: made from src/metrics -->\n", "<!-- end of metrics -->\n");

    fn samples(metrics: &Metrics, name: &str) -> Vec<String> {
        let name = format!("anchore_k8s_inventory_{name}");
        let encoded = metrics.encode().expect("text");
        let lines = encoded.lines().filter(|line| line.split(['{', ' ']).next() == Some(name.as_str()));
        let mut found: Vec<String> = lines
            .map(|line| line.replace(&name, "").replace("{} ", "").trim().to_owned())
            .filter(|line| !line.ends_with(" 0"))
            .collect();
        found.sort();
        found
    }

    fn accepted(account: &str, bytes: u64) -> DeliveryEvent {
        DeliveryEvent {
            account: account.to_owned(),
            what: Happening::Accepted { carried: Vec::new(), bytes, reroute: None },
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn the_documentation_lists_what_is_registered() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
        let page = std::fs::read_to_string(path).expect("a page");
        let (before, rest) = page.split_once(MARKERS.0).expect("the first marker");
        let (_, after) = rest.split_once(MARKERS.1).expect("the second marker");
        let metrics = Metrics::new();
        let expected = format!("{before}{}{}{}{after}", MARKERS.0, metrics.documentation(), MARKERS.1);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &expected).expect("written");
        }
        let page = std::fs::read_to_string(path).expect("a page");
        assert_eq!(page, expected, "run UPDATE_DOCS=1 cargo test --lib metrics");
    }

    // Elsewhere the process' own metrics are absent.
    #[cfg(target_os = "linux")]
    #[test]
    fn names_are_those_of_the_documentation() {
        let metrics = Metrics::new();
        metrics.delivery(&accepted("admin", 1), at(1));
        metrics.tick(TickOutcome::Report, at(1), Duration::from_secs(1));
        metrics.waiting(1, 1, Some(at(1)));
        metrics.nodes(&NodeAccess::Read, at(1));
        let encoded = metrics.encode().expect("text");
        let samples = encoded.lines().filter(|line| !line.starts_with('#'));
        let sent: std::collections::BTreeSet<&str> = samples.filter_map(|line| line.split(['{', ' ']).next()).collect();
        let documented: std::collections::BTreeSet<&str> =
            metrics.documentation().lines().skip(2).filter_map(|line| line.split('`').nth(1)).collect();
        assert_eq!(sent, documented);
        assert!(encoded.ends_with("# EOF\n"));
    }

    #[test]
    fn what_happens_is_counted() {
        let metrics = Metrics::new();
        metrics.tick(TickOutcome::Report, at(5), Duration::from_millis(1500));
        metrics.tick(TickOutcome::Skipped, at(6), Duration::ZERO);
        metrics.delivery(&accepted("admin", 100), at(7));
        metrics.delivery(&accepted("admin", 20), at(8));
        let rejected = Happening::Rejected { carried: Vec::new(), reason: "400".to_owned() };
        metrics.delivery(&DeliveryEvent { account: "a \"b\"".to_owned(), what: rejected }, at(9));
        metrics.omitted(&Omissions { containers_repeated: 3, ..Omissions::default() });

        assert_eq!(samples(&metrics, "ticks_total"), [r#"{outcome="report"} 1"#, r#"{outcome="skipped"} 1"#]);
        assert_eq!(samples(&metrics, "last_tick_timestamp_seconds"), ["5.0"]);
        assert_eq!(samples(&metrics, "last_tick_duration_seconds"), ["1.5"]);
        assert_eq!(
            samples(&metrics, "reports_total"),
            [r#"{outcome="accepted",account="admin"} 2"#, r#"{outcome="rejected",account="a \"b\""} 1"#]
        );
        assert_eq!(samples(&metrics, "report_bytes_total"), ["120"]);
        assert_eq!(samples(&metrics, "last_accepted_report_timestamp_seconds"), [r#"{account="admin"} 8.0"#]);
        assert_eq!(samples(&metrics, "omissions_total"), [r#"{kind="containers_repeated"} 3"#]);
        assert_eq!(
            samples(&metrics, "anchore_requests_total"),
            [r#"{call="report",outcome="accepted"} 2"#, r#"{call="report",outcome="refused"} 1"#]
        );
    }

    #[test]
    fn above_fifty_accounts_their_label_is_left_out_and_sums_stay() {
        let metrics = Metrics::new();
        for number in 0..accounts::MOST_ACCOUNTS {
            metrics.delivery(&accepted(&format!("account-{number}"), 1), at(100));
        }
        assert_eq!(samples(&metrics, "reports_total").len(), 50);
        for second in [101, 102] {
            metrics.delivery(&accepted("one-too-many", 1), at(second));
        }
        metrics.delivery(&accepted("account-7", 1), at(103));
        assert_eq!(samples(&metrics, "reports_total"), [r#"{outcome="accepted"} 53"#]);
        assert_eq!(samples(&metrics, "last_accepted_report_timestamp_seconds"), ["103.0"]);
    }

    #[test]
    fn a_state_is_one_of_several() {
        let metrics = Metrics::new();
        metrics.integration(IntegrationPhase::Registering);
        metrics.integration(IntegrationPhase::Registered);
        assert_eq!(samples(&metrics, "integration_state"), [r#"{state="registered"} 1"#]);
        metrics.nodes(&NodeAccess::Read, at(5));
        metrics.nodes(&NodeAccess::Forbidden, at(9));
        assert_eq!(samples(&metrics, "sources"), [r#"{source="nodes",state="blind"} 1"#]);
        let confirmed = samples(&metrics, "source_confirmed_timestamp_seconds");
        assert!(confirmed.contains(&r#"{source="nodes"} 5.0"#.to_owned()), "{confirmed:?}");
    }

    #[test]
    fn a_moment_without_a_time_has_no_sample() {
        let metrics = Metrics::new();
        metrics.waiting(1, 10, Some(at(3)));
        assert_eq!(samples(&metrics, "spool_oldest_timestamp_seconds"), ["3.0"]);
        metrics.waiting(0, 0, None);
        assert_eq!(samples(&metrics, "spool_oldest_timestamp_seconds"), Vec::<String>::new());
    }

    #[test]
    fn what_others_count_is_taken_over_when_asked_for_and_never_falls() {
        let metrics = Metrics::new();
        let calls = std::sync::atomic::AtomicU64::new(7);
        metrics.on_scrape(Box::new(move |metrics| {
            let total = calls.fetch_sub(1, Relaxed);
            metrics.anchore_requests(AnchoreCall::Health, AnchoreOutcome::Failed, total);
        }));
        for _ in 0..2 {
            assert_eq!(samples(&metrics, "anchore_requests_total"), [r#"{call="health",outcome="failed"} 7"#]);
        }
    }
}
