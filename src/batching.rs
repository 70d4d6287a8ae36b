//! One account's share becomes one report, or several within limits.
//!
//! A namespace is never split over two reports, because a server may replace what it knows of a namespace by what one
//! report says. So a batch is closed before the namespace that would break a limit, and a namespace that breaks the
//! limit by itself goes alone, whole. Pure; linear in what is reported; never fails.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::config::limits::ReportLimits;
use crate::inventory::Inventory;
use crate::inventory::report::Report;
use crate::inventory::size::{NamespaceSize, ReportSize, node_sizes};
use crate::routing::{AccountShare, NodeShare};

/// What decides how a share becomes reports.
#[derive(Debug, Clone, Copy)]
pub struct BatchRules {
    /// When a report is split.
    pub limits: ReportLimits,
    /// Whether all namespaces of the cluster were listed, so that none left to report is the truth and not a gap.
    pub complete_list: bool,
}

/// The reports of one account.
#[derive(Debug, Clone)]
pub struct Batches {
    /// In the order of their namespaces. Empty when there is nothing to say, or nothing that would be true.
    pub reports: Vec<Report>,
    /// Namespaces that are larger than the limit.
    pub oversized: Vec<Oversized>,
}

/// A namespace that breaks the limit of bytes by itself, and goes alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oversized {
    /// Its name.
    pub namespace: String,
    /// The length of its batch in bytes.
    pub bytes: u64,
    /// The limit in bytes.
    pub limit: u64,
}

/// Splits `share` into reports within the limits.
///
/// Each report carries the nodes that its own pods run on; an account that gets all nodes has the rest of them in its
/// last report. A share without namespaces makes one report when that is the whole truth about a cluster that is not
/// routed, and none otherwise.
pub fn batches(inventory: &Arc<Inventory>, share: &AccountShare, rules: BatchRules) -> Batches {
    let has_all_nodes = share.nodes == NodeShare::All;
    let is_truly_empty = has_all_nodes && rules.complete_list && inventory.has_all_namespaces();
    if share.namespaces.is_empty() && !is_truly_empty {
        return Batches { reports: Vec::new(), oversized: Vec::new() };
    }
    let mut planner = Planner::new(inventory, rules.limits);
    for &namespace in &share.namespaces {
        planner.add(namespace);
    }
    if has_all_nodes {
        planner.add_idle_nodes();
    }
    planner.finish()
}

impl fmt::Display for Oversized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the report of namespace {} alone has {} bytes, above the {} of \
             inventory-report-limits.payload-threshold-bytes; it goes whole, since a namespace must not be split",
            self.namespace, self.bytes, self.limit
        )
    }
}

/// Fills one batch after the other.
struct Planner<'a> {
    inventory: &'a Arc<Inventory>,
    limits: ReportLimits,
    /// Bytes of each node; `None` without a limit of bytes, when nothing is measured.
    node_sizes: Option<Vec<u64>>,
    empty_size: ReportSize,
    closed: Vec<Batch>,
    open: Batch,
}

/// A report to be.
struct Batch {
    namespaces: Vec<u32>,
    nodes: BTreeSet<u32>,
    size: ReportSize,
}

/// What a namespace adds to a batch.
struct Part {
    namespace: u32,
    size: NamespaceSize,
    nodes: Vec<SizedNode>,
}

/// A node and its bytes.
struct SizedNode {
    node: u32,
    bytes: u64,
}

impl<'a> Planner<'a> {
    fn new(inventory: &'a Arc<Inventory>, limits: ReportLimits) -> Self {
        let node_sizes = limits.payload_bytes.map(|_| node_sizes(inventory));
        let empty_size = ReportSize::empty(inventory);
        Self { inventory, limits, node_sizes, empty_size, closed: Vec::new(), open: Batch::empty(empty_size) }
    }

    /// Adds a namespace to the open batch, or to a new one when it would break a limit.
    fn add(&mut self, namespace: u32) {
        let part = self.part(namespace);
        let has_room = self.allows(self.open.namespaces.len() + 1, self.open.size_with(&part));
        if !has_room && !self.open.namespaces.is_empty() {
            self.close();
        }
        self.open.push(&part);
    }

    /// Adds the nodes that no batch carries to the last one. When that breaks the limit of bytes, its last namespace
    /// takes them into a batch of its own: less is not possible.
    fn add_idle_nodes(&mut self) {
        let carried: BTreeSet<u32> =
            self.closed.iter().chain([&self.open]).flat_map(|batch| &batch.nodes).copied().collect();
        let idle = self.inventory.nodes().iter().copied().filter(|node| !carried.contains(node));
        let idle: Vec<SizedNode> = idle.map(|node| self.sized(node)).collect();
        let namespaces = self.open.namespaces.clone();
        if !self.allows(namespaces.len(), self.open.size_with_nodes(&idle))
            && let [others @ .., last] = &*namespaces
            && !others.is_empty()
        {
            self.open = Batch::empty(self.empty_size);
            for &namespace in others {
                self.open.push(&self.part(namespace));
            }
            self.close();
            self.open.push(&self.part(*last));
        }
        self.open.push_nodes(&idle);
    }

    fn finish(mut self) -> Batches {
        self.close();
        Batches {
            oversized: self.closed.iter().filter_map(|batch| self.oversized(batch)).collect(),
            reports: self.closed.iter().map(|batch| batch.report(self.inventory)).collect(),
        }
    }

    fn close(&mut self) {
        self.closed.push(std::mem::replace(&mut self.open, Batch::empty(self.empty_size)));
    }

    fn allows(&self, namespaces: usize, size: ReportSize) -> bool {
        self.limits.namespaces.is_none_or(|limit| namespaces <= limit.get())
            && self.limits.payload_bytes.is_none_or(|limit| size.bytes() <= limit.get() as u64)
    }

    fn part(&self, namespace: u32) -> Part {
        let nodes: BTreeSet<u32> = self.inventory.pods(namespace).filter_map(|pod| pod.node).collect();
        let is_measured = self.node_sizes.is_some();
        let size = if is_measured { NamespaceSize::of(self.inventory, namespace) } else { NamespaceSize::default() };
        Part { namespace, size, nodes: nodes.into_iter().map(|node| self.sized(node)).collect() }
    }

    fn sized(&self, node: u32) -> SizedNode {
        SizedNode { node, bytes: self.node_sizes.as_ref().map_or(0, |sizes| sizes[node as usize]) }
    }

    fn oversized(&self, batch: &Batch) -> Option<Oversized> {
        let (bytes, limit) = (batch.size.bytes(), self.limits.payload_bytes?.get() as u64);
        let snapshot = self.inventory.snapshot();
        let namespace = snapshot.namespaces.get(*batch.namespaces.first()? as usize)?;
        let namespace = snapshot.strings.get(namespace.name).to_owned();
        (bytes > limit).then_some(Oversized { namespace, bytes, limit })
    }
}

impl Batch {
    fn empty(size: ReportSize) -> Self {
        Self { namespaces: Vec::new(), nodes: BTreeSet::new(), size }
    }

    fn size_with(&self, part: &Part) -> ReportSize {
        self.size_with_nodes(&part.nodes).with_namespace(part.size)
    }

    fn size_with_nodes(&self, nodes: &[SizedNode]) -> ReportSize {
        let more = nodes.iter().filter(|sized| !self.nodes.contains(&sized.node));
        more.fold(self.size, |size, sized| size.with_node(sized.bytes))
    }

    fn push(&mut self, part: &Part) {
        self.push_nodes(&part.nodes);
        self.size = self.size.with_namespace(part.size);
        self.namespaces.push(part.namespace);
    }

    fn push_nodes(&mut self, nodes: &[SizedNode]) {
        self.size = self.size_with_nodes(nodes);
        self.nodes.extend(nodes.iter().map(|sized| sized.node));
    }

    fn report(&self, inventory: &Arc<Inventory>) -> Report {
        Report::new(Arc::clone(inventory), self.namespaces.clone(), self.nodes.iter().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::inventory::fixtures::{ClusterBuilder, cluster, container, namespace, node, pod};

    const NO_LIMITS: ReportLimits = ReportLimits { namespaces: None, payload_bytes: None };

    #[test]
    fn without_limits_there_is_one_report() {
        let inventory = three_namespaces().inventory();
        let told = told(&split(&inventory, &everything(&inventory), NO_LIMITS));
        assert_eq!(told, ["a b c on idle n1 n2"]);
    }

    #[test]
    fn a_batch_holds_no_more_namespaces_than_the_limit() {
        let inventory = three_namespaces().inventory();
        let batches = split(&inventory, &everything(&inventory), at_most_namespaces(2));
        assert_eq!(told(&batches), ["a b on n1", "c on idle n2"]);
    }

    #[test]
    fn d26_a_batch_is_closed_before_the_namespace_that_would_break_the_limit() {
        let inventory = three_namespaces().inventory();
        let exactly_two = len_of(&inventory, &["a", "b"]);
        let routed = |limit| told(&split(&inventory, &routed(&inventory), at_most_bytes(limit)));
        assert_eq!(routed(exactly_two), ["a b on n1", "c on n2"]);
        assert_eq!(routed(exactly_two - 1), ["a on n1", "b on n1", "c on n2"]);
    }

    #[test]
    fn a_namespace_above_the_limit_goes_alone_and_whole() {
        let large = (0..50).fold(cluster().namespace("a").namespace("large").namespace("z"), |cluster, n| {
            cluster.pod(pod("large", &format!("web-{n}")).container(container("c", "nginx")))
        });
        let inventory = large.inventory();
        let limit = len_of(&inventory, &["a", "z"]);
        let batches = split(&inventory, &routed(&inventory), at_most_bytes(limit));
        assert_eq!(told(&batches), ["a", "large", "z"]);
        let bytes = batches.reports[1].byte_len();
        assert_eq!(batches.oversized, [Oversized { namespace: "large".to_owned(), bytes, limit }]);
    }

    #[test]
    fn d40_a_routed_account_gets_only_the_nodes_of_its_pods() {
        let inventory = three_namespaces().inventory();
        let share = AccountShare { account: "team".to_owned(), namespaces: vec![2], nodes: NodeShare::OfItsPods };
        assert_eq!(told(&split(&inventory, &share, NO_LIMITS)), ["c on n2"]);
    }

    #[test]
    fn idle_nodes_that_do_not_fit_push_the_last_namespace_into_a_batch_of_its_own() {
        let inventory = three_namespaces().inventory();
        let limit = len_of(&inventory, &["a", "b", "c"]);
        let batches = split(&inventory, &everything(&inventory), at_most_bytes(limit));
        assert_eq!(told(&batches), ["a b on n1", "c on idle n2"]);
        assert_eq!(batches.oversized, []);
    }

    #[test]
    fn nothing_to_report_is_said_only_when_it_is_known() {
        let reports = |cluster: ClusterBuilder, nodes, complete_list| {
            let inventory = cluster.inventory();
            let share = AccountShare { account: "admin".to_owned(), namespaces: Vec::new(), nodes };
            told(&batches(&inventory, &share, BatchRules { limits: at_most_namespaces(1), complete_list }))
        };
        assert_eq!(reports(cluster().node("n1"), NodeShare::All, true), [" on n1"]);
        assert_eq!(reports(cluster().node("n1"), NodeShare::All, false), [""; 0]);
        assert_eq!(reports(cluster().node("n1").unreadable("a"), NodeShare::All, true), [""; 0]);
        assert_eq!(reports(cluster().namespace(namespace("a").without_uid()), NodeShare::All, true), [""; 0]);
        assert_eq!(reports(cluster().node("n1"), NodeShare::OfItsPods, true), [""; 0]);
    }

    proptest! {
        #[test]
        fn batches_keep_their_limits_and_lose_nothing(
            cluster in any_cluster(),
            is_routed: bool,
            most_namespaces in proptest::option::of(1..5_usize),
            most_bytes in proptest::option::of(300..3_000_usize),
        ) {
            let inventory = cluster.inventory();
            let share = if is_routed { routed(&inventory) } else { everything(&inventory) };
            let limits = ReportLimits {
                namespaces: most_namespaces.and_then(NonZeroUsize::new),
                payload_bytes: most_bytes.and_then(NonZeroUsize::new),
            };
            let parts = split(&inventory, &share, limits);
            let whole = split(&inventory, &share, NO_LIMITS);

            let mut oversized = 0;
            for report in &parts.reports {
                let namespaces = report.namespace_count();
                prop_assert!(most_namespaces.is_none_or(|most| namespaces <= most));
                let is_too_long = most_bytes.is_some_and(|most| report.byte_len() > most as u64);
                prop_assert!(!is_too_long || namespaces <= 1, "{} bytes", report.byte_len());
                oversized += usize::from(is_too_long && namespaces == 1);
                prop_assert_eq!(report.byte_len(), serde_json::to_string(report).expect("serialises").len() as u64);
            }
            prop_assert_eq!(parts.oversized.len(), oversized);
            for list in ["namespaces", "pods", "containers"] {
                prop_assert_eq!(elements(&parts, list), elements(&whole, list), "in order, once");
            }
            let nodes =
                |batches| elements(batches, "nodes").iter().map(Value::to_string).collect::<BTreeSet<_>>();
            prop_assert_eq!(nodes(&parts), nodes(&whole));
        }

        #[test]
        fn measured_sizes_are_the_serialised_sizes(cluster in any_cluster(), is_routed: bool) {
            let inventory = cluster.inventory();
            let share = if is_routed { routed(&inventory) } else { everything(&inventory) };
            let mut planner = Planner::new(&inventory, at_most_bytes(u64::from(u32::MAX)));
            for &namespace in &share.namespaces {
                planner.add(namespace);
                let report = planner.open.report(&inventory);
                prop_assert_eq!(planner.open.size.bytes(), report.byte_len());
            }
            planner.add_idle_nodes();
            prop_assert_eq!(planner.open.size.bytes(), planner.open.report(&inventory).byte_len());
        }

        #[test]
        fn d31_the_same_state_gives_the_same_bytes(cluster in any_cluster(), seed: u64, most_namespaces in 1..4_usize) {
            let bytes = |cluster: ClusterBuilder| {
                let inventory = cluster.inventory();
                let parts = split(&inventory, &everything(&inventory), at_most_namespaces(most_namespaces));
                let text = |report| serde_json::to_string(report).expect("serialises");
                parts.reports.iter().map(text).collect::<Vec<_>>()
            };
            prop_assert_eq!(bytes(cluster.clone()), bytes(shuffled(cluster, seed)));
        }
    }

    fn split(inventory: &Arc<Inventory>, share: &AccountShare, limits: ReportLimits) -> Batches {
        batches(inventory, share, BatchRules { limits, complete_list: true })
    }

    /// Namespaces a and b with pods on n1, c with one on n2, and a node without pods.
    fn three_namespaces() -> ClusterBuilder {
        let pod_in = |name: &str, node: &str| pod(name, "web").on(node).container(container("c", "nginx"));
        let cluster = cluster().namespace("a").namespace("b").namespace("c").node("n1").node("n2").node("idle");
        cluster.pod(pod_in("a", "n1")).pod(pod_in("b", "n1")).pod(pod_in("c", "n2"))
    }

    /// Some namespaces, nodes and pods, with texts that need escaping.
    fn any_cluster() -> impl Strategy<Value = ClusterBuilder> {
        let pods =
            proptest::collection::vec((0..8_usize, 0..6_usize, "[a-z]{1,9}", "[ -~é\n]{0,9}", 0..4_usize), 0..24);
        (0..8_usize, 0..6_usize, pods).prop_map(|(namespaces, nodes, pods)| {
            let mut cluster = (0..namespaces).fold(cluster(), |cluster, n| cluster.namespace(&*format!("ns-{n}")));
            cluster =
                (0..nodes).fold(cluster, |cluster, n| cluster.node(node(&format!("node-{n}")).label("zone", "a")));
            for (number, (at, on, name, label, containers)) in pods.into_iter().enumerate() {
                let pod = pod(&format!("ns-{at}"), &format!("{name}-{number}")).on(&format!("node-{on}"));
                let pod = (0..containers).fold(pod, |pod, n| pod.container(container(&format!("c{n}"), "nginx")));
                cluster = cluster.pod(pod.label("note", &label).annotation(&label, "x"));
            }
            cluster
        })
    }

    /// The same cluster, told in another order.
    fn shuffled(mut cluster: ClusterBuilder, seed: u64) -> ClusterBuilder {
        fn rotate<T>(items: &mut [T], seed: u64) {
            items.reverse();
            if !items.is_empty() {
                let by = seed % items.len() as u64;
                items.rotate_left(usize::try_from(by).expect("less than the length"));
            }
        }
        rotate(&mut cluster.namespaces, seed);
        rotate(&mut cluster.nodes, seed);
        rotate(&mut cluster.pods, seed);
        cluster
    }

    /// What the one account of a cluster without routing gets.
    fn everything(inventory: &Inventory) -> AccountShare {
        AccountShare { account: "admin".to_owned(), namespaces: inventory.namespaces().to_vec(), nodes: NodeShare::All }
    }

    /// What an account gets to which all namespaces are routed.
    fn routed(inventory: &Inventory) -> AccountShare {
        AccountShare { nodes: NodeShare::OfItsPods, ..everything(inventory) }
    }

    fn at_most_namespaces(most: usize) -> ReportLimits {
        ReportLimits { namespaces: NonZeroUsize::new(most), ..NO_LIMITS }
    }

    fn at_most_bytes(most: u64) -> ReportLimits {
        ReportLimits { payload_bytes: usize::try_from(most).ok().and_then(NonZeroUsize::new), ..NO_LIMITS }
    }

    /// The length of the report of these namespaces with the nodes of their pods.
    fn len_of(inventory: &Arc<Inventory>, names: &[&str]) -> u64 {
        let snapshot = inventory.snapshot();
        let is_meant = |&index: &u32| names.contains(&snapshot.strings.get(snapshot.namespaces[index as usize].name));
        let namespaces = inventory.namespaces().iter().copied().filter(is_meant).collect();
        let share = AccountShare { namespaces, ..routed(inventory) };
        split(inventory, &share, NO_LIMITS).reports[0].byte_len()
    }

    /// Each batch as `namespaces on nodes`.
    fn told(batches: &Batches) -> Vec<String> {
        let names = |report: &Value, list: &str| {
            let items = report[list].as_array().cloned().unwrap_or_default();
            items.iter().filter_map(|item| item["name"].as_str().map(str::to_owned)).collect::<Vec<_>>().join(" ")
        };
        let told = |report: &Report| {
            let report = serde_json::to_value(report).expect("serialises");
            format!("{} on {}", names(&report, "namespaces"), names(&report, "nodes"))
                .trim_end_matches(" on ")
                .to_owned()
        };
        batches.reports.iter().map(told).collect()
    }

    /// The elements of a list of all reports, one report after the other.
    fn elements(batches: &Batches, list: &str) -> Vec<Value> {
        let reports = batches.reports.iter().map(|report| serde_json::to_value(report).expect("serialises"));
        reports.flat_map(|report| report[list].as_array().cloned().unwrap_or_default()).collect()
    }
}
