//! A cluster that changes at random, told to the store late, twice, in another order and with gaps: in the end the store
//! has what the cluster has, and everything that ran was in some report.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pretty_assertions::assert_eq;
use proptest::prelude::*;

use super::objects::{PodState, SeenPod, accept, all_seen, namespace, picture_of, rules, seen, uid};
use crate::cluster::list::version;
use crate::cluster::watch::picture::Picture;
use crate::cluster::watch::store::Store;

/// What happens next. Numbers choose a namespace and a pod in it.
#[derive(Debug, Clone)]
enum Step {
    CreateNamespace(usize),
    DeleteNamespace(usize),
    CreatePod(usize, usize, bool),
    LabelPod(usize, usize, u8),
    StartPod(usize, usize),
    FinishPod(usize, usize),
    UpdateImage(usize, usize, u8),
    Restart(usize, usize),
    DeletePod(usize, usize),
    /// The next events of pods, or of namespaces, arrive; the last one of pods twice.
    Pods(usize),
    Namespaces(usize),
    /// What has not arrived is lost, and a list is read, begun anew after so many objects.
    ListPods(usize),
    ListNamespaces(usize),
    /// The cluster becomes what it was so many changes ago, and both lists are read.
    GoBack(usize, bool),
    Compact,
    /// A report is accepted.
    Accept,
    /// A picture is taken and kept.
    Picture,
}

const NAMES: [&str; 2] = ["shop", "test"];

#[derive(Debug, Clone, Default)]
struct Cluster {
    version: u64,
    namespaces: BTreeMap<String, (u64, u64)>,
    pods: BTreeMap<(String, String), (PodState, u64)>,
}

#[derive(Debug, Clone)]
enum PodEvent {
    Is(PodState, u64),
    Was(PodState, u64),
}

#[derive(Debug, Clone)]
enum NamespaceEvent {
    Is(String, u64, u64),
    Was(String, u64, u64),
}

struct World {
    now: Cluster,
    before: Vec<Cluster>,
    next_uid: u64,
    pod_events: VecDeque<PodEvent>,
    namespace_events: VecDeque<NamespaceEvent>,
    store: Store,
    /// Namespace of each pod, by uid.
    homes: BTreeMap<u64, u64>,
    told_namespaces: BTreeSet<u64>,
    /// Pod and image of all that the store was told to run.
    ran: BTreeSet<(u64, String)>,
    /// With whether the namespace was known by then.
    accepted: Vec<(SeenPod, bool)>,
    pictures: Vec<(Picture, Vec<SeenPod>)>,
    went_back: bool,
}

impl Cluster {
    fn seen(&self) -> Vec<SeenPod> {
        self.pods.values().map(|(pod, _)| pod.seen(self.namespaces[&pod.namespace].0)).collect()
    }
}

impl World {
    fn new() -> Self {
        Self {
            now: Cluster { version: 100, ..Cluster::default() },
            before: Vec::new(),
            next_uid: 1,
            pod_events: VecDeque::new(),
            namespace_events: VecDeque::new(),
            store: Store::new(rules()),
            homes: BTreeMap::new(),
            told_namespaces: BTreeSet::new(),
            ran: BTreeSet::new(),
            accepted: Vec::new(),
            pictures: Vec::new(),
            went_back: false,
        }
    }

    fn uid(&mut self) -> u64 {
        self.next_uid += 1;
        self.next_uid
    }

    fn version(&mut self) -> u64 {
        self.before.push(self.now.clone());
        self.now.version += 1;
        self.now.version
    }

    fn change_pod(&mut self, at: (usize, usize), change: impl FnOnce(&PodState) -> PodState) {
        let key = key(at);
        let Some((pod, _)) = self.now.pods.get(&key) else { return };
        let pod = change(pod);
        let version = self.version();
        self.now.pods.insert(key, (pod.clone(), version));
        self.pod_events.push_back(PodEvent::Is(pod, version));
    }

    fn delete_pod(&mut self, key: &(String, String)) {
        let version = self.version();
        if let Some((pod, _)) = self.now.pods.remove(key) {
            self.pod_events.push_back(PodEvent::Was(pod, version));
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::CreateNamespace(at) => self.create_namespace(NAMES[at]),
            Step::DeleteNamespace(at) => self.delete_namespace(NAMES[at]),
            Step::CreatePod(at, pod, runs) => self.create_pod((at, pod), runs),
            Step::LabelPod(at, pod, label) => {
                self.change_pod((at, pod), |pod| PodState { label: label.to_string(), ..pod.clone() });
            }
            Step::StartPod(at, pod) => self.change_pod((at, pod), |pod| match pod.phase {
                "Pending" => PodState::running(&pod.namespace, &pod.name, pod.uid, &pod.containers[0].1),
                _ => pod.clone(),
            }),
            Step::FinishPod(at, pod) => self.change_pod((at, pod), |pod| match pod.phase {
                "Running" => pod.finished(),
                _ => pod.clone(),
            }),
            Step::UpdateImage(at, pod, image) => self.change_pod((at, pod), |pod| match pod.phase {
                "Running" => pod.updated_to(&format!("app:{image}")),
                _ => pod.clone(),
            }),
            Step::Restart(at, pod) => self.change_pod((at, pod), |pod| {
                let mut pod = pod.clone();
                pod.containers[0].2.push_str("-again");
                pod
            }),
            Step::DeletePod(at, pod) if self.now.pods.contains_key(&key((at, pod))) => self.delete_pod(&key((at, pod))),
            Step::DeletePod(..) => {}
            Step::Pods(count) => self.tell_pods(count),
            Step::Namespaces(count) => self.tell_namespaces(count),
            Step::ListPods(broken) => self.list_pods(broken, false),
            Step::ListNamespaces(broken) => self.list_namespaces(broken, false),
            Step::GoBack(changes, pods_first) => self.go_back(changes, pods_first),
            Step::Compact => self.store.compact(),
            Step::Accept => self.accept(),
            Step::Picture => {
                let picture = picture_of(&mut self.store);
                let pods = seen(&picture.snapshot(None));
                self.pictures.push((picture, pods));
            }
        }
    }

    fn create_namespace(&mut self, name: &str) {
        if !self.now.namespaces.contains_key(name) {
            let (uid, version) = (self.uid(), self.version());
            self.now.namespaces.insert(name.to_owned(), (uid, version));
            self.namespace_events.push_back(NamespaceEvent::Is(name.to_owned(), uid, version));
        }
    }

    /// As on a real server: first all in it goes, then the namespace does.
    fn delete_namespace(&mut self, name: &str) {
        let Some((uid, _)) = self.now.namespaces.get(name).copied() else { return };
        let inside: Vec<_> = self.now.pods.keys().filter(|(namespace, _)| namespace == name).cloned().collect();
        for key in inside {
            self.delete_pod(&key);
        }
        let version = self.version();
        self.now.namespaces.remove(name);
        self.namespace_events.push_back(NamespaceEvent::Was(name.to_owned(), uid, version));
    }

    fn create_pod(&mut self, at: (usize, usize), runs: bool) {
        let key = key(at);
        let Some((home, _)) = self.now.namespaces.get(&key.0).copied() else { return };
        if self.now.pods.contains_key(&key) {
            return;
        }
        let (uid, version) = (self.uid(), self.version());
        self.homes.insert(uid, home);
        let mut pod = PodState::running(&key.0, &key.1, uid, "app:0");
        if !runs {
            pod.phase = "Pending";
            pod.containers[0].2.clear();
        }
        self.now.pods.insert(key, (pod.clone(), version));
        self.pod_events.push_back(PodEvent::Is(pod, version));
    }

    fn note(&mut self, pod: &PodState) {
        if pod.phase == "Running" && pod.containers.iter().all(|(_, _, id)| !id.is_empty()) {
            self.ran.extend(pod.containers.iter().map(|(_, image, _)| (pod.uid, image.clone())));
        }
    }

    fn tell_pods(&mut self, count: usize) {
        for _ in 0..count {
            let Some(event) = self.pod_events.pop_front() else { return };
            for _ in 0..2 {
                match &event {
                    PodEvent::Is(pod, version) => {
                        self.note(pod);
                        self.store.pod_is(pod.wire(*version));
                    }
                    PodEvent::Was(pod, version) => self.store.pod_was(pod.wire(*version)),
                }
            }
        }
    }

    fn tell_namespaces(&mut self, count: usize) {
        for _ in 0..count {
            match self.namespace_events.pop_front() {
                Some(NamespaceEvent::Is(name, uid, version)) => {
                    self.told_namespaces.insert(uid);
                    self.store.namespace_is(&namespace(&name, uid, version), None);
                }
                Some(NamespaceEvent::Was(name, uid, version)) => {
                    self.store.namespace_was(&namespace(&name, uid, version));
                }
                None => return,
            }
        }
    }

    fn list_pods(&mut self, broken: usize, is_reset: bool) {
        self.pod_events.clear();
        let pods: Vec<(PodState, u64)> = self.now.pods.values().cloned().collect();
        let known = self.store.counts()[1];
        let broken_list = self.store.begin_list(is_reset);
        for (pod, version) in pods.iter().take(broken) {
            self.note(pod);
            self.store.list_pod(pod.wire(*version), broken_list);
        }
        let list = self.store.begin_list(is_reset);
        for (pod, version) in &pods {
            self.note(pod);
            self.store.list_pod(pod.wire(*version), list);
            assert!(self.store.counts()[1] >= known, "nothing disappears while a list is read");
        }
        self.store.end_pods(list, None, version(self.now.version.to_string().as_bytes()));
        assert_eq!(self.store.counts()[1], pods.len());
    }

    fn list_namespaces(&mut self, broken: usize, is_reset: bool) {
        self.namespace_events.clear();
        let broken_list = self.store.begin_list(is_reset);
        for (name, (uid, version)) in self.now.namespaces.iter().take(broken) {
            self.store.namespace_is(&namespace(name, *uid, *version), Some(broken_list));
        }
        let list = self.store.begin_list(is_reset);
        for (name, (uid, version)) in &self.now.namespaces {
            self.told_namespaces.insert(*uid);
            self.store.namespace_is(&namespace(name, *uid, *version), Some(list));
        }
        self.store.end_namespaces(list, version(self.now.version.to_string().as_bytes()));
    }

    fn go_back(&mut self, changes: usize, pods_first: bool) {
        let Some(at) = self.before.len().checked_sub(changes + 1) else { return };
        self.now = self.before[at].clone();
        self.before.truncate(at);
        self.went_back = true;
        if pods_first {
            self.list_pods(1, true);
            self.list_namespaces(1, true);
        } else {
            self.list_namespaces(1, true);
            self.list_pods(1, true);
        }
    }

    fn accept(&mut self) {
        let accepted = accept(&mut self.store);
        check_order(&accepted);
        let known: BTreeSet<String> = self.told_namespaces.iter().map(|home| uid(*home)).collect();
        let homes: BTreeMap<String, String> = self.homes.iter().map(|(pod, home)| (uid(*pod), uid(*home))).collect();
        self.accepted.extend(accepted.into_iter().map(|seen| {
            let is_known = known.contains(&homes[&seen.uid]);
            (seen, is_known)
        }));
    }

    fn check_invariants(&mut self) {
        let mut ids = BTreeSet::new();
        for (_, debt) in self.store.carried().iter() {
            for container in &debt.pod.containers {
                assert!(ids.insert((debt.pod.uid, format!("{:?}", container.id))), "a container is carried twice");
            }
        }
    }

    /// Tells all that is left to tell, and compares.
    fn finish(mut self) {
        self.tell_pods(usize::MAX);
        self.tell_namespaces(usize::MAX);
        self.check_invariants();
        self.accept();
        let was_reported = |(pod, image): &&(u64, String)| {
            let home = uid(self.homes[pod]);
            self.accepted.iter().filter(|(seen, _)| seen.uid == uid(*pod) && seen.running).any(|(seen, is_known)| {
                let has_image = seen.containers.iter().any(|line| line.ends_with(&format!(" {image}")));
                has_image && (self.went_back || !is_known || seen.namespace_uid == home)
            })
        };
        let missing: BTreeSet<_> = self.ran.iter().filter(|one| !was_reported(one)).map(|(pod, _)| *pod).collect();
        let has_told_home = |pod: &&u64| self.told_namespaces.contains(&self.homes[*pod]);
        let missing: Vec<_> = missing.iter().filter(has_told_home).collect();
        // Given up are those that several pictures in a row knew no namespace of.
        let given_up = usize::try_from(self.store.carried().dropped()).expect("few");
        assert!(missing.len() <= given_up, "pods {missing:?} ran and were not reported, {given_up} were given up");
        for _ in 0..3 {
            // A pod whose namespace was never told of is given up.
            picture_of(&mut self.store);
        }
        assert_eq!(self.store.carried().len(), 0, "nothing is carried after it was accepted");
        assert_eq!(all_seen(&mut self.store), self.now.seen(), "the store has what the cluster has");
        for (picture, pods) in &self.pictures {
            assert_eq!(&seen(&picture.snapshot(None)), pods, "a picture stays as it was");
        }
    }
}

fn check_order(pods: &[SeenPod]) {
    let keys: Vec<_> = pods.iter().map(|pod| (&pod.namespace, &pod.namespace_uid, &pod.name, &pod.uid)).collect();
    let unique: BTreeSet<_> = keys.iter().collect();
    assert_eq!(unique.len(), keys.len(), "each pod once");
    assert!(pods.iter().map(|pod| &pod.namespace).is_sorted(), "pods are in order");
}

fn key((namespace, pod): (usize, usize)) -> (String, String) {
    (NAMES[namespace].to_owned(), format!("pod-{pod}"))
}

fn step() -> impl Strategy<Value = Step> {
    let namespace = 0..NAMES.len();
    let pod = (0..NAMES.len(), 0..3_usize);
    prop_oneof![
        4 => namespace.clone().prop_map(Step::CreateNamespace),
        2 => namespace.prop_map(Step::DeleteNamespace),
        8 => (pod.clone(), any::<bool>()).prop_map(|((at, pod), runs)| Step::CreatePod(at, pod, runs)),
        2 => (pod.clone(), any::<u8>()).prop_map(|((at, pod), label)| Step::LabelPod(at, pod, label)),
        2 => pod.clone().prop_map(|(at, pod)| Step::StartPod(at, pod)),
        3 => pod.clone().prop_map(|(at, pod)| Step::FinishPod(at, pod)),
        3 => (pod.clone(), 0..3_u8).prop_map(|((at, pod), image)| Step::UpdateImage(at, pod, image)),
        1 => pod.clone().prop_map(|(at, pod)| Step::Restart(at, pod)),
        4 => pod.prop_map(|(at, pod)| Step::DeletePod(at, pod)),
        8 => (1..6_usize).prop_map(Step::Pods),
        6 => (1..4_usize).prop_map(Step::Namespaces),
        2 => (0..4_usize).prop_map(Step::ListPods),
        2 => (0..3_usize).prop_map(Step::ListNamespaces),
        1 => (1..12_usize, any::<bool>()).prop_map(|(changes, pods_first)| Step::GoBack(changes, pods_first)),
        1 => Just(Step::Compact),
        3 => Just(Step::Accept),
        1 => Just(Step::Picture),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_told_and_however_the_store_has_the_cluster_and_nothing_that_ran_is_lost(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check_invariants();
        }
        world.finish();
    }
}
