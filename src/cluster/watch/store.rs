//! The cluster as lists and events tell it, in memory. No clock, no network: what is told in any order, twice, late or
//! not at all ends in the state of the last complete list and the events after it.
//!
//! Objects are known by namespace and name, and told apart by uid: one that was created again under its name is another
//! one. An event that is older than what is held changes nothing. Absence deletes only at the end of a complete list
//! that is not older than what is held.
//!
//! Pods and namespaces come over watches of their own, each as fast as it may be. The version at which a namespace was
//! deleted tells the pods that were in it from those of a later one of that name, whichever news comes first.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::num::NonZeroU64;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::carried::Carried;
use super::former::FormerNamespace;
use crate::cluster::intake::Tables;
use crate::cluster::list::version;
use crate::cluster::snapshot::{Namespace, Node, NodeAccess, Pod, Unreadable};
use crate::cluster::strings::Symbol;
use crate::cluster::wire::{self, as_text};
use crate::config::metadata::MetadataCollection;
use crate::config::selectors::NamespaceSelectors;

/// What decides which objects are kept, and what of them.
#[derive(Debug, Clone)]
pub(crate) struct StoreRules {
    pub(crate) metadata: MetadataCollection,
    pub(crate) account_label_key: Option<String>,
    pub(crate) selectors: NamespaceSelectors,
    /// `ignore-not-running` is off, so that containers of finished pods are reported.
    pub(crate) reports_finished: bool,
}

/// The cluster as far as it is known.
pub(crate) struct Store {
    pub(super) rules: StoreRules,
    pub(super) tables: Tables,
    pub(super) namespaces: HashMap<Symbol, HeldNamespace>,
    pub(super) pods: HashTable<HeldPod>,
    pub(super) hasher: DefaultHashBuilder,
    pub(super) nodes: Vec<Node>,
    pub(super) node_access: NodeAccess,
    pub(super) carried: Carried,
    /// Namespaces that are gone, by name and in their order, for news of their pods that come later.
    pub(super) former: HashMap<Symbol, Vec<FormerNamespace>>,
    /// Why a pod does not decode, by namespace and name.
    pub(super) undecodable: BTreeMap<String, BTreeMap<String, String>>,
    /// The newest version that pods were told of.
    pub(super) reached: Option<NonZeroU64>,
    /// Number of the newest list.
    lists: u32,
    /// Bytes of texts after the last compaction.
    pub(super) compact_bytes: usize,
}

pub(super) struct HeldNamespace {
    pub(super) namespace: Namespace,
    pub(super) version: Option<NonZeroU64>,
    pub(super) list: u32,
}

pub(super) struct HeldPod {
    pub(super) pod: Arc<Pod>,
    pub(super) version: Option<NonZeroU64>,
    /// The list that had it last.
    pub(super) list: u32,
}

/// A list that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListMark {
    number: u32,
    /// What it says counts although it is older than what is held: the cluster went back in time.
    is_reset: bool,
}

impl ListMark {
    pub(super) fn number(self) -> u32 {
        self.number
    }
}

impl Store {
    pub(crate) fn new(rules: StoreRules) -> Self {
        let tables = Tables::new(&rules.metadata, rules.account_label_key.as_deref()).selecting(&rules.selectors);
        Self {
            rules,
            tables,
            namespaces: HashMap::new(),
            pods: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            nodes: Vec::new(),
            node_access: NodeAccess::Read,
            carried: Carried::default(),
            former: HashMap::new(),
            undecodable: BTreeMap::new(),
            reached: None,
            lists: 0,
            compact_bytes: 0,
        }
    }

    /// A list begins. `is_reset`: the cluster is known to have gone back in time.
    pub(crate) fn begin_list(&mut self, is_reset: bool) -> ListMark {
        self.lists = self.lists.wrapping_add(1);
        if is_reset {
            self.carried.forget_versions();
            for former in self.former.values_mut().flatten() {
                (former.until, former.is_exact) = (None, false);
            }
        }
        ListMark { number: self.lists, is_reset }
    }

    /// A pod as a list has it.
    pub(crate) fn list_pod(&mut self, object: wire::Pod, list: ListMark) {
        let version = version_of(object.metadata.as_ref());
        if let Some(pod) = self.tables.pod(object) {
            self.hold(pod, version, list.is_reset, Some(list.number));
        }
    }

    /// A pod as an event says it is now.
    pub(crate) fn pod_is(&mut self, object: wire::Pod) {
        let version = version_of(object.metadata.as_ref());
        self.pods_reach(version);
        if let Some(pod) = self.tables.pod(object) {
            self.decodes(pod.namespace, pod.name);
            self.hold(pod, version, false, None);
        }
    }

    /// A pod as it was when it was deleted.
    pub(crate) fn pod_was(&mut self, object: wire::Pod) {
        let version = version_of(object.metadata.as_ref());
        self.pods_reach(version);
        let Some(last) = self.tables.pod(object) else { return };
        self.decodes(last.namespace, last.name);
        let found = self.find(last.namespace, last.name).map(|held| (Arc::clone(&held.pod), held.version));
        let Some((pod, held)) = found else { return };
        // What is held may be a younger pod of that name, or a younger state of this one.
        if is_older(version, held) {
            return;
        }
        if pod.uid == last.uid {
            self.stops((&pod, held), Some(&last), true);
        } else if version.is_some() && held.is_some() {
            // The name was free for the pod that this tells of, so the one that is held was gone before.
            self.stops((&pod, held), None, true);
        } else {
            return;
        }
        self.remove(last.namespace, last.name);
    }

    /// The list of pods is complete: those in `namespace` (everywhere, if it is `None`) that it does not have are gone.
    /// Pods were told up to `version`.
    pub(crate) fn end_pods(&mut self, list: ListMark, namespace: Option<&str>, version: Option<NonZeroU64>) {
        if list.is_reset {
            self.forget_versions();
        }
        let scope = namespace.map(|namespace| self.tables.strings.intern(namespace));
        self.lose_pods(
            |held| held.list != list.number && scope.is_none_or(|scope| scope == held.pod.namespace),
            list.is_reset,
        );
        self.pods_reach(version);
        self.compact_when_due();
    }

    /// Pods that are gone without having been seen to go.
    pub(super) fn lose_pods(&mut self, is_gone: impl Fn(&HeldPod) -> bool, is_reset: bool) {
        let mut gone = Vec::new();
        self.pods.retain(|held| {
            let stays = !is_gone(held);
            if !stays {
                gone.push((Arc::clone(&held.pod), held.version.filter(|_| !is_reset)));
            }
            stays
        });
        for (pod, version) in gone {
            self.stops((&pod, version), None, true);
        }
    }

    /// A namespace as a list, an event or a look at it by name has it.
    pub(crate) fn namespace_is(&mut self, object: &wire::Namespace, list: Option<ListMark>) {
        let version = version_of(object.metadata.as_ref());
        let namespace = self.tables.namespace(object);
        if !self.tables.has_selected(self.tables.strings.get(namespace.name)) {
            return;
        }
        self.hold_namespace(namespace, version, list);
    }

    /// A namespace was deleted; `uid` of the event is not asked for, because the name is free only then.
    pub(crate) fn namespace_was(&mut self, object: &wire::Namespace) {
        let version = version_of(object.metadata.as_ref());
        let name = as_text(&object.metadata.as_ref().map(|meta| meta.name.clone()).unwrap_or_default()).into_owned();
        let Some(symbol) = self.tables.strings.find(&name) else { return };
        if self.namespaces.get(&symbol).is_some_and(|held| !is_older(version, held.version)) {
            self.lose_namespace(symbol, version, true);
        }
    }

    /// A namespace is not there. Its pods are for their own source to tell of.
    pub(crate) fn namespace_is_missing(&mut self, name: &str) {
        if let Some(symbol) = self.tables.strings.find(name) {
            self.lose_namespace(symbol, None, false);
        }
    }

    /// Whether a namespace is known.
    pub(crate) fn has_namespace(&self, name: &str) -> bool {
        self.tables.strings.find(name).is_some_and(|name| self.namespaces.contains_key(&name))
    }

    /// The list of namespaces, of this version, is complete: those that it does not have are gone.
    pub(crate) fn end_namespaces(&mut self, list: ListMark, version: Option<NonZeroU64>) {
        if list.is_reset {
            self.forget_versions();
        }
        self.lose_namespaces(|held, _| held.list != list.number, version);
    }

    /// A list of nodes, as it ended. Without one there are none to report.
    pub(crate) fn set_nodes(&mut self, nodes: Vec<wire::Node>, access: NodeAccess) {
        match access {
            NodeAccess::Read => self.nodes = nodes.into_iter().map(|node| self.tables.node(node)).collect(),
            NodeAccess::Forbidden | NodeAccess::Failed(_) => self.nodes.clear(),
        }
        self.node_access = access;
    }

    /// A pod does not decode: nothing may be said of its namespace until it does, or is gone.
    pub(crate) fn pod_is_undecodable(&mut self, namespace: &str, name: &str, reason: String) {
        if self.tables.has_selected(namespace) {
            self.undecodable.entry(namespace.to_owned()).or_default().insert(name.to_owned(), reason);
        }
    }

    /// A list begins to tell anew which pods do not decode.
    pub(crate) fn forget_undecodable(&mut self, namespace: Option<&str>) {
        match namespace {
            Some(namespace) => {
                self.undecodable.remove(namespace);
            }
            None => self.undecodable.clear(),
        }
    }

    /// Namespaces of which something does not decode.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = Unreadable> {
        let known = self.undecodable.iter().filter(|(namespace, _)| self.has_namespace(namespace));
        known.filter_map(|(namespace, pods)| {
            let reason = pods.values().next()?.clone();
            Some(Unreadable { namespace: namespace.clone(), reason })
        })
    }

    pub(crate) fn carried(&mut self) -> &mut Carried {
        &mut self.carried
    }

    /// How many namespaces, pods, containers and nodes are held.
    pub(crate) fn counts(&self) -> [usize; 4] {
        let containers = self.pods.iter().map(|held| held.pod.containers.len()).sum();
        [self.namespaces.len(), self.pods.len(), containers, self.nodes.len()]
    }

    /// Keeps the newer one of what is held and what is told.
    pub(super) fn hold(&mut self, pod: Pod, version: Option<NonZeroU64>, is_reset: bool, list: Option<u32>) {
        let (namespace, name) = (pod.namespace, pod.name);
        let Some(held) = self.find(namespace, name) else {
            let mut former = self.former.get(&namespace).into_iter().flatten();
            if former.any(|former| former.is_exact && is_older(version, former.until)) {
                // Late news: it was gone before its namespace was.
                self.stops((&pod, version), None, true);
                return;
            }
            let held = HeldPod { pod: Arc::new(pod), version, list: list.unwrap_or_default() };
            let (hash, hasher) = (self.hash(namespace, name), self.hasher.clone());
            self.pods.insert_unique(hash, held, |held| hasher.hash_one((held.pod.namespace, held.pod.name)));
            return;
        };
        held.list = list.unwrap_or(held.list);
        if is_older(version, held.version) && !is_reset {
            return;
        }
        let version_before = std::mem::replace(&mut held.version, version).filter(|_| !is_reset);
        if *held.pod == pod {
            return;
        }
        let now = Arc::new(pod);
        let before = std::mem::replace(&mut held.pod, Arc::clone(&now));
        let same = (before.uid == now.uid).then_some(&*now);
        self.stops((&before, version_before), same, same.is_none());
    }

    /// Keeps the newer one of what is held and what is told of a namespace.
    pub(super) fn hold_namespace(&mut self, namespace: Namespace, version: Option<NonZeroU64>, list: Option<ListMark>) {
        let is_reset = list.is_some_and(|list| list.is_reset);
        let number = list.map(|list| list.number);
        if let Some(held) = self.namespaces.get_mut(&namespace.name) {
            held.list = number.unwrap_or(held.list);
            if is_older(version, held.version) && !is_reset {
                return;
            }
            if held.namespace.uid == namespace.uid {
                held.version = version;
                held.namespace = namespace;
                return;
            }
            // This version is that of its creation, or one soon after.
            self.lose_namespace(namespace.name, version, false);
        }
        if let Some(former) = self.former.get_mut(&namespace.name).and_then(|former| former.last_mut()) {
            former.until = former.until.or(version);
        }
        let held = HeldNamespace { version, list: number.unwrap_or_default(), namespace };
        self.namespaces.insert(held.namespace.name, held);
    }

    /// A pod that did not decode does, or is gone.
    fn decodes(&mut self, namespace: Symbol, name: Symbol) {
        if self.undecodable.is_empty() {
            return;
        }
        let (namespace, name) = (self.tables.strings.get(namespace), self.tables.strings.get(name));
        if let Some(pods) = self.undecodable.get_mut(namespace) {
            pods.remove(name);
        }
        self.undecodable.retain(|_, pods| !pods.is_empty());
    }

    fn find(&mut self, namespace: Symbol, name: Symbol) -> Option<&mut HeldPod> {
        let hash = self.hash(namespace, name);
        self.pods.find_mut(hash, |held| held.pod.namespace == namespace && held.pod.name == name)
    }

    fn remove(&mut self, namespace: Symbol, name: Symbol) {
        let hash = self.hash(namespace, name);
        let is_it = |held: &HeldPod| held.pod.namespace == namespace && held.pod.name == name;
        if let Ok(found) = self.pods.find_entry(hash, is_it) {
            found.remove();
        }
    }

    pub(super) fn hash(&self, namespace: Symbol, name: Symbol) -> u64 {
        self.hasher.hash_one((namespace, name))
    }
}

/// Whether `told` is of a version before `held`, as far as that can be known.
pub(super) fn is_older(told: Option<NonZeroU64>, held: Option<NonZeroU64>) -> bool {
    matches!((told, held), (Some(told), Some(held)) if told < held)
}

fn version_of(meta: Option<&wire::ObjectMeta>) -> Option<NonZeroU64> {
    version(&meta?.resource_version)
}
