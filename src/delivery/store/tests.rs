//! The store alone, without a network: a model of the queues under crashes, and a disk that fails.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use pretty_assertions::assert_eq;
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::{AccountSet, NewBatch, Store, StoreSettings};
use crate::delivery::spool::Identity;
use crate::delivery::status::DeliveryEvent;
use crate::inventory::fixtures::{cluster, namespace};
use crate::inventory::report::Report;

/// A report whose only namespace is called `name`.
pub(crate) fn report(name: &str) -> Report {
    let inventory = cluster().namespace(namespace(name)).inventory();
    let (namespaces, nodes) = (inventory.namespaces().to_vec(), inventory.nodes().to_vec());
    Report::new(inventory, namespaces, nodes)
}

/// Number `number` of an account, in this many batches, which are called `3.1`, `3.2` …, and carry 31, 32 ….
pub(crate) fn set(account: &str, number: u64, batches: u64) -> AccountSet {
    let batches = (1..=batches)
        .map(|batch| NewBatch { report: report(&format!("{number}.{batch}")), carried: vec![number * 10 + batch] });
    let second = i64::try_from(number).expect("small");
    let timestamp = jiff::Timestamp::from_second(1_800_000_000 + second).expect("a time");
    AccountSet { account: account.to_owned(), timestamp, batches: batches.collect() }
}

/// A store in this folder, and what it tells.
fn store(folder: &Path) -> (Store, mpsc::UnboundedReceiver<DeliveryEvent>) {
    let identity = Identity { cluster_name: "edge-7".to_owned(), destination: "https://anchore.example/".to_owned() };
    let settings = StoreSettings { state_directory: folder.to_owned(), max_bytes: 1 << 20, identity };
    let ((events, happenings), (starts, _)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let store = Store::new(settings, events, starts);
    store.open();
    (store, happenings)
}

// === Model ===

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A new set of this many batches.
    Submit { account: u8, batches: u64 },
    /// An attempt that fails and is to be repeated.
    Fail { account: u8 },
    /// An attempt whose batch leaves the queue.
    Settle { account: u8 },
    /// The process dies and another begins.
    Crash,
    /// The batch is accepted, and the process dies before it knows.
    AcceptAndCrash { account: u8 },
}

/// A batch as the model knows it: of which set, which one, and whether a newer set may replace it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Expected {
    set: u64,
    batch: u64,
    is_fixed: bool,
}

/// What has to be in the queues.
#[derive(Debug, Default)]
struct Model {
    queues: BTreeMap<u8, VecDeque<Expected>>,
}

impl Model {
    fn submit(&mut self, account: u8, set: u64, batches: u64) {
        let queue = self.queues.entry(account).or_default();
        queue.retain(|batch| batch.is_fixed);
        queue.extend((1..=batches).map(|batch| Expected { set, batch, is_fixed: false }));
    }

    fn begin(&mut self, account: u8) -> Option<Expected> {
        let head = self.queues.get_mut(&account)?.front_mut()?;
        head.is_fixed = true;
        Some(*head)
    }

    fn crash(&mut self) {
        self.queues.values_mut().flatten().for_each(|batch| batch.is_fixed = true);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let account = 0..3_u8;
    let step = prop_oneof![
        4 => (account.clone(), 1..4_u64).prop_map(|(account, batches)| Step::Submit { account, batches }),
        2 => account.clone().prop_map(|account| Step::Fail { account }),
        3 => account.clone().prop_map(|account| Step::Settle { account }),
        1 => Just(Step::Crash),
        1 => account.prop_map(|account| Step::AcceptAndCrash { account }),
    ];
    prop::collection::vec(step, 1..40)
}

/// Begins an attempt, and compares the batch with the model's.
fn begin(store: &Store, model: &mut Model, account: u8) -> Option<crate::delivery::backlog::Waiting> {
    let begun = store.begin(&account.to_string());
    let told = begun.as_ref().map(|batch| {
        (u64::try_from(batch.timestamp.as_second()).expect("small") - 1_800_000_000, batch.id.index as u64)
    });
    assert_eq!(told, model.begin(account).map(|expected| (expected.set, expected.batch)));
    if let Some(batch) = &begun {
        store.verify(batch).expect("as it was written");
    }
    begun
}

/// Runs the steps, then settles what is left.
fn run(steps: &[Step]) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut model = Model::default();
    let (mut opened, _events) = store(folder.path());
    for (step, number) in steps.iter().zip(1..) {
        let is_crash = matches!(step, Step::Crash | Step::AcceptAndCrash { .. });
        match *step {
            Step::Submit { account, batches } => {
                opened.submit(set(&account.to_string(), number, batches));
                model.submit(account, number, batches);
            }
            Step::Fail { account } | Step::AcceptAndCrash { account } => {
                begin(&opened, &mut model, account);
                opened.backlog().release(&account.to_string());
            }
            Step::Settle { account } => {
                if let Some(batch) = begin(&opened, &mut model, account) {
                    opened.settle(&account.to_string(), batch.id);
                    model.queues.entry(account).or_default().pop_front();
                }
            }
            Step::Crash => {}
        }
        if is_crash {
            drop(opened);
            opened = store(folder.path()).0;
            model.crash();
        }
    }
    for account in 0..3 {
        while let Some(batch) = begin(&opened, &mut model, account) {
            opened.settle(&account.to_string(), batch.id);
            model.queues.entry(account).or_default().pop_front();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// What was submitted and not replaced is sent, in order, whatever crashes.
    #[test]
    fn queues_are_as_the_model_says_across_crashes(steps in steps()) {
        run(&steps);
    }

    /// A disk that fails now and then, at any operation, loses nothing while the process lives.
    #[test]
    fn a_failing_disk_changes_neither_order_nor_contents(
        steps in steps(),
        skipped in 0..200_u64,
        count in 1..30_u64,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let (opened, _events) = store(folder.path());
        let faults = opened.faults().expect("a spool");
        faults.plan(skipped, count);
        let mut model = Model::default();
        for (step, number) in steps.iter().zip(1..) {
            match *step {
                Step::Submit { account, batches } => {
                    opened.submit(set(&account.to_string(), number, batches));
                    model.submit(account, number, batches);
                }
                Step::Settle { account } => {
                    let expected = model.begin(account);
                    let begun = opened.begin(&account.to_string());
                    let told = begun.as_ref().map(|batch| batch.id.index as u64);
                    prop_assert_eq!(told, expected.map(|expected| expected.batch));
                    if let Some(batch) = begun {
                        opened.settle(&account.to_string(), batch.id);
                        model.queues.entry(account).or_default().pop_front();
                    }
                }
                _ => {}
            }
        }
        faults.end();
        let left: usize = model.queues.values().map(VecDeque::len).sum();
        let waiting: usize = opened.backlog().statuses().iter().map(|status| status.waiting).sum();
        prop_assert!(waiting <= left);
        opened.submit(set("last", 1_000, 1));
        prop_assert_eq!(opened.memory_only(), None);
    }
}

#[test]
fn a_file_that_could_not_be_removed_is_removed_when_that_works_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (opened, _events) = store(folder.path());
    opened.submit(set("team-a", 1, 1));
    let batch = opened.begin("team-a").expect("a batch");
    let faults = opened.faults().expect("a spool");
    faults.plan(0, 1);
    opened.settle("team-a", batch.id);
    faults.end();

    opened.submit(set("team-b", 2, 1));
    drop(opened);

    let (opened, _events) = store(folder.path());
    assert!(opened.begin("team-a").is_none());
    assert!(opened.begin("team-b").is_some());
}

#[test]
fn an_account_of_which_nothing_waits_is_forgotten_after_a_day() {
    let folder = tempfile::tempdir().expect("a folder");
    let (opened, _events) = store(folder.path());
    opened.submit(set("team-a", 1, 1));
    let batch = opened.begin("team-a").expect("a batch");
    opened.settle("team-a", batch.id);
    assert!(opened.begin("team-a").is_none());
    assert_eq!(opened.backlog().statuses().len(), 1);

    opened.submit(set("team-b", 100_000, 1));

    let told: Vec<String> = opened.backlog().statuses().into_iter().map(|status| status.account).collect();
    assert_eq!(told, ["team-b"]);
}
