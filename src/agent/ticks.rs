//! One report for each account at each tick, from the state in memory to delivery.
//!
//! A tick without a confirmed state makes no report: that is counted and told, and the next tick tries again.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep, sleep_until};

use super::schedule::Schedule;
use super::shares::ShareRules;
use crate::cluster::snapshot::{NodeAccess, Unreadable};
use crate::cluster::strings::Symbol;
use crate::cluster::watch::{NoPicture, Observer, Picture};
use crate::delivery::resident::ResidentDelivery;
use crate::delivery::store::{AccountSet, NewBatch};
use crate::inventory::Inventory;
use crate::inventory::omissions::Omissions;
use crate::inventory::report::Report;
use crate::journal::Journal;
use crate::metrics::{Metrics, TickOutcome};
use crate::output::{self, OutputFormat};
use crate::routing::RoutingWarning;

/// A clock that is set back by more than this was wrong before; by less, it is being corrected.
const SMALL_CORRECTION: SignedDuration = SignedDuration::from_mins(5);

/// A process that was asleep for a week has not skipped so many ticks in any way that matters.
const MOST_COUNTED: u64 = 1_000;

/// A state may be unconfirmed for a polling interval, and for so long at least: a watch that was just opened confirms
/// nothing for a second.
const LEAST_PATIENCE: Duration = Duration::from_secs(2);

/// What concerns the collecting as a whole, in the journal.
const COLLECTING: &str = "collecting";

/// Makes reports.
pub(crate) struct Ticker {
    pub(crate) observer: Arc<Observer>,
    pub(crate) rules: Arc<ShareRules>,
    /// `None`: nothing is sent.
    pub(crate) delivery: Option<Arc<ResidentDelivery>>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) cluster_name: String,
    pub(crate) interval: Duration,
    /// How long the first complete state may take before the health report says so.
    pub(crate) sync_timeout: Duration,
    /// Print every report.
    pub(crate) prints: bool,
}

/// What the ticks before have left.
#[derive(Debug, Default)]
struct Memory {
    taken_at: Option<Timestamp>,
    /// The last tick made no report.
    is_failing: bool,
    /// Warnings that were given, each once.
    warned: HashSet<RoutingWarning>,
    /// Namespaces that could not be read at the last tick.
    unreadable: BTreeSet<String>,
    missing: Vec<String>,
    nodes: Option<NodeAccess>,
}

/// What a tick gives, made on a thread of its own.
struct Prepared {
    accounts: Vec<(String, Vec<NewBatch>)>,
    /// Carried pods that are to be routed, and who gets them.
    routed: Vec<(u64, BTreeSet<Arc<str>>)>,
    warnings: Vec<RoutingWarning>,
    omissions: Omissions,
    unreadable: Vec<Unreadable>,
    missing: Vec<String>,
    nodes: NodeAccess,
    /// Namespaces, pods and nodes.
    counts: [usize; 3],
}

impl Ticker {
    /// Ticks for ever.
    pub(crate) async fn run(&self) {
        self.wait_for_first_state().await;
        let mut schedule = Schedule::new(Instant::now(), self.interval, &self.cluster_name);
        let mut memory = Memory::default();
        loop {
            sleep_until(schedule.next()).await;
            let began = Instant::now();
            let began_at = Timestamp::now();
            let outcome = self.tick(&mut memory).await;
            let took = began.elapsed();
            self.metrics.tick(outcome, began_at, took);
            let skipped = schedule.advance(Instant::now());
            if skipped > 0 {
                let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(
                    skipped,
                    duration_ms,
                    "a tick took longer than the polling interval, late ones are skipped"
                );
                for _ in 0..skipped.min(MOST_COUNTED) {
                    self.metrics.tick(TickOutcome::Skipped, began_at, took);
                }
            }
        }
    }

    async fn wait_for_first_state(&self) {
        let first_state = self.observer.first_state();
        tokio::pin!(first_state);
        let is_late = tokio::select! {
            () = &mut first_state => false,
            () = sleep(self.sync_timeout) => true,
        };
        if is_late {
            let seconds = self.sync_timeout.as_secs();
            let error = format!("the cluster could not be read completely within {seconds} s; nothing is reported yet");
            tracing::error!("{error}");
            self.journal.state(COLLECTING, Some(error));
            first_state.await;
        }
        self.journal.state(COLLECTING, None);
    }

    async fn tick(&self, memory: &mut Memory) -> TickOutcome {
        let began = Instant::now();
        let taken_at = memory.next_time(Timestamp::now());
        let patience = self.interval.max(LEAST_PATIENCE);
        let picture = match self.observer.picture(taken_at, patience).await {
            Ok(picture) => Arc::new(picture),
            Err(error) => return self.no_report(&error, memory),
        };
        let (rules, shared) = (Arc::clone(&self.rules), Arc::clone(&picture));
        let prepared = match tokio::task::spawn_blocking(move || prepare(&rules, &shared)).await {
            Ok(prepared) => prepared,
            // A panic there is one here.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        drop(picture);
        if std::mem::take(&mut memory.is_failing) {
            tracing::info!("reports are made again");
        }
        self.journal.state(COLLECTING, None);
        for (id, accounts) in &prepared.routed {
            self.observer.route(*id, accounts);
        }
        self.tell(&prepared, memory);
        let [namespaces, pods, nodes] = prepared.counts;
        let accounts = prepared.accounts.len();
        self.submit(prepared.accounts, taken_at).await;
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(namespaces, pods, nodes, accounts, duration_ms, "reports made");
        TickOutcome::Report
    }

    /// Tells each tick to the health report, and the first of several in a row to the log.
    fn no_report(&self, error: &NoPicture, memory: &mut Memory) -> TickOutcome {
        let outcome = match error {
            NoPicture::NeverComplete { .. } => TickOutcome::NeverComplete,
            NoPicture::Unconfirmed { .. } => TickOutcome::Stale,
            NoPicture::NothingReadable { .. } | NoPicture::Collect(_) => TickOutcome::Failed,
        };
        let error = format!("a tick made no report: {error}");
        if std::mem::replace(&mut memory.is_failing, true) {
            tracing::debug!("{error}");
        } else {
            tracing::error!("{error}; none is made until this is over");
        }
        self.journal.event(error.clone());
        self.journal.state(COLLECTING, Some(error));
        outcome
    }

    /// Says what is new about what is missing.
    fn tell(&self, prepared: &Prepared, memory: &mut Memory) {
        self.metrics.omitted(&prepared.omissions);
        self.metrics.nodes(&prepared.nodes, Timestamp::now());
        for warning in &prepared.warnings {
            if memory.warned.insert(warning.clone()) {
                tracing::warn!("{warning}");
            }
        }
        for namespace in prepared.missing.iter().filter(|name| !memory.missing.contains(name)) {
            tracing::warn!(namespace, "a namespace in namespace-selectors.include does not exist");
        }
        memory.missing.clone_from(&prepared.missing);
        let unreadable: BTreeSet<String> = prepared.unreadable.iter().map(|one| one.namespace.clone()).collect();
        for one in &prepared.unreadable {
            let (namespace, reason) = (&one.namespace, &one.reason);
            let error = format!("namespace {namespace} could not be read and is left out of the report: {reason}");
            if !memory.unreadable.contains(namespace) {
                tracing::error!("{error}");
            }
            self.journal.state(&subject(namespace), Some(error));
        }
        for namespace in memory.unreadable.difference(&unreadable) {
            tracing::info!(namespace, "a namespace that could not be read is reported again");
            self.journal.state(&subject(namespace), None);
        }
        memory.unreadable = unreadable;
        self.tell_nodes(&prepared.nodes, memory);
    }

    fn tell_nodes(&self, access: &NodeAccess, memory: &mut Memory) {
        let error = match access {
            NodeAccess::Failed(reason) => Some(format!("the nodes could not be read, so reports have none: {reason}")),
            NodeAccess::Read | NodeAccess::Forbidden => None,
        };
        if memory.nodes.as_ref() != Some(access) {
            match (access, &error) {
                (NodeAccess::Forbidden, _) => {
                    tracing::info!(
                        "nodes may not be listed, so reports have none; grant `list` on nodes to change that"
                    );
                }
                (_, Some(error)) => tracing::error!("{error}"),
                _ => {}
            }
        }
        self.journal.state("nodes", error);
        memory.nodes = Some(access.clone());
    }

    async fn submit(&self, accounts: Vec<(String, Vec<NewBatch>)>, timestamp: Timestamp) {
        if self.prints {
            let reports: Vec<Report> =
                accounts.iter().flat_map(|(_, batches)| batches).map(|batch| batch.report.clone()).collect();
            let printing = tokio::task::spawn_blocking(move || output::print(OutputFormat::Json, &reports));
            if let Ok(Err(error)) = printing.await {
                tracing::error!("standard output cannot be written: {error}");
            }
        }
        for (account, batches) in accounts {
            let Some(delivery) = &self.delivery else {
                for batch in &batches {
                    self.observer.settle(&account, &batch.carried);
                }
                continue;
            };
            delivery.submit(AccountSet { account, timestamp, batches }).await;
        }
    }
}

impl Memory {
    /// The time of a report taken now: at least a second after the last one, also when the clock is set back a little.
    fn next_time(&mut self, now: Timestamp) -> Timestamp {
        let next = match self.taken_at.map(|last| last.saturating_add(SignedDuration::from_secs(1))) {
            Some(Ok(least)) if now < least && least.duration_since(now) <= SMALL_CORRECTION => least,
            _ => now,
        };
        self.taken_at = Some(next);
        next
    }
}

/// Resolves, routes and batches a picture.
fn prepare(rules: &ShareRules, picture: &Picture) -> Prepared {
    let inventory = rules.inventory(picture.snapshot(None));
    let (shares, warnings) = rules.route(&inventory);
    let mut prepared = Prepared {
        accounts: Vec::with_capacity(shares.len()),
        routed: routed(&inventory, picture, &shares),
        warnings,
        omissions: *inventory.omissions(),
        unreadable: inventory.snapshot().unreadable.clone(),
        missing: picture.missing.clone(),
        nodes: inventory.snapshot().node_access.clone(),
        counts: [inventory.namespaces().len(), inventory.snapshot().pods.len(), inventory.nodes().len()],
    };
    for share in shares {
        let namespaces = names(&inventory, &share.namespaces);
        let reports = if picture.has_settled_in(&namespaces, &share.account) {
            // It has accepted some of what others have not: it gets a picture of its own, without that.
            let own = rules.inventory(picture.snapshot(Some(&share.account)));
            let (shares, _) = rules.route(&own);
            let own_share = shares.into_iter().find(|other| other.account == share.account);
            own_share.map(|share| rules.reports(&own, &share, picture.complete_list)).unwrap_or_default()
        } else {
            rules.reports(&inventory, &share, picture.complete_list)
        };
        let batch = |report: Report| {
            let carried = picture.carried_in(&names(report.inventory(), report.namespaces()), &share.account);
            NewBatch { report, carried }
        };
        let batches: Vec<NewBatch> = reports.into_iter().map(batch).collect();
        if !batches.is_empty() {
            prepared.accounts.push((share.account, batches));
        }
    }
    prepared
}

/// Who gets the carried pods that are reported for the first time, or whose namespace goes to other accounts by now. Those
/// of namespaces that are left out wait.
fn routed(
    inventory: &Inventory,
    picture: &Picture,
    shares: &[crate::routing::AccountShare],
) -> Vec<(u64, BTreeSet<Arc<str>>)> {
    let mut carried = picture.carried().peekable();
    if carried.peek().is_none() {
        return Vec::new();
    }
    let reported = names(inventory, inventory.namespaces());
    let shares: Vec<(Arc<str>, HashSet<Symbol>)> =
        shares.iter().map(|share| (Arc::from(share.account.as_str()), names(inventory, &share.namespaces))).collect();
    let accounts_of = |namespace: Symbol| -> BTreeSet<Arc<str>> {
        let getting = shares.iter().filter(|(_, namespaces)| namespaces.contains(&namespace));
        getting.map(|(account, _)| Arc::clone(account)).collect()
    };
    let routed = carried.filter(|(_, namespace, _)| reported.contains(namespace)).filter_map(|(id, name, owed_to)| {
        let accounts = accounts_of(name);
        let is_right = owed_to.is_some_and(|owed_to| owed_to.is_subset(&accounts));
        (!is_right).then_some((id, accounts))
    });
    routed.collect()
}

/// The names of some namespaces of an inventory's snapshot.
fn names(inventory: &Inventory, namespaces: &[u32]) -> HashSet<Symbol> {
    let all = &inventory.snapshot().namespaces;
    namespaces.iter().filter_map(|at| all.get(*at as usize)).map(|namespace| namespace.name).collect()
}

fn subject(namespace: &str) -> String {
    format!("namespace {namespace}")
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn times_of_reports_are_a_second_apart_while_the_clock_is_corrected() {
        let mut memory = Memory::default();
        assert_eq!(memory.next_time(at("2026-03-04T05:06:07.9Z")), at("2026-03-04T05:06:07.9Z"));
        assert_eq!(memory.next_time(at("2026-03-04T05:06:08Z")), at("2026-03-04T05:06:08.9Z"));
        assert_eq!(memory.next_time(at("2026-03-04T05:05:00Z")), at("2026-03-04T05:06:09.9Z"));
    }

    #[test]
    fn a_clock_that_was_far_ahead_is_believed_when_it_is_right_again() {
        let mut memory = Memory::default();
        memory.next_time(at("2027-01-01T00:00:00Z"));
        assert_eq!(memory.next_time(at("2026-03-04T05:06:07Z")), at("2026-03-04T05:06:07Z"));
    }
}
