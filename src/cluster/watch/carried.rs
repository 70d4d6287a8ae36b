//! What ran and is not there any more: kept until a report that holds it was accepted, or given up and counted.
//!
//! A pod is carried from the moment it stops running or departs, and once more for each image that an update took out
//! of a pod that goes on. It is owed to each account whose report it belongs to, and to no other.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;

use crate::cluster::snapshot::{Container, Namespace, Pod, Uid};

/// Most pods that are carried. What exceeds it is counted, the oldest first.
const MOST: usize = 10_000;

/// A pod whose namespace is not known for so many pictures is given up: the namespace came and went unseen.
const MOST_UNPLACED: u8 = 3;

/// The pods that are carried, in the order in which they stopped.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    debts: BTreeMap<u64, Debt>,
    /// The debts of each pod.
    by_pod: BTreeSet<(Uid, u64)>,
    next: u64,
    dropped: u64,
}

/// A pod that ran.
#[derive(Debug, Clone)]
pub(crate) struct Debt {
    /// As it ran.
    pub(crate) pod: Arc<Pod>,
    /// The version of its last state.
    pub(crate) version: Option<NonZeroU64>,
    /// The namespace that it was in, once that is known.
    pub(crate) namespace: Option<Namespace>,
    /// The accounts that still have to accept it; `None` before it was routed.
    pub(crate) owed_to: Option<BTreeSet<Arc<str>>>,
    /// How many pictures could not hold it for want of its namespace.
    unplaced: u8,
}

impl Carried {
    /// Carries a pod from now on, with those of its containers that are not carried yet.
    pub(crate) fn add(&mut self, mut pod: Pod, version: Option<NonZeroU64>, namespace: Option<Namespace>) {
        // A pod without a proper uid cannot be reported, nor can a container without an id.
        let Some(uid) = pod.uid else { return };
        let is_new = |container: &Container| container.id.is_some() && !self.has(uid, container);
        if !pod.containers.iter().all(is_new) {
            pod.containers = pod.containers.iter().filter(|container| is_new(container)).cloned().collect();
        }
        if pod.containers.is_empty() {
            return;
        }
        self.by_pod.insert((uid, self.next));
        self.debts.insert(self.next, Debt { pod: Arc::new(pod), version, namespace, owed_to: None, unplaced: 0 });
        self.next += 1;
        if self.debts.len() > MOST
            && let Some(oldest) = self.debts.keys().next().copied()
        {
            self.remove(oldest);
            self.dropped += 1;
        }
    }

    /// Notes which accounts get a pod's namespace now. Those that do not get it any more are owed nothing; when nobody is
    /// left, those that get it are owed the pod. One that nobody gets is not carried on.
    pub(crate) fn route(&mut self, id: u64, accounts: &BTreeSet<Arc<str>>) {
        let Some(debt) = self.debts.get_mut(&id) else { return };
        let still = debt.owed_to.iter().flatten().filter(|account| accounts.contains(*account)).cloned();
        let still: BTreeSet<Arc<str>> = still.collect();
        debt.owed_to = Some(if still.is_empty() { accounts.clone() } else { still });
        if accounts.is_empty() {
            self.remove(id);
        }
    }

    /// `account` has accepted these, or will never.
    pub(crate) fn settle(&mut self, account: &str, ids: &[u64]) {
        for id in ids {
            let Some(owed_to) = self.debts.get_mut(id).and_then(|debt| debt.owed_to.as_mut()) else { continue };
            owed_to.remove(account);
            if owed_to.is_empty() {
                self.remove(*id);
            }
        }
    }

    /// Looks once more for the namespaces that are not known yet, for a picture. A pod is given up after several.
    pub(crate) fn place(&mut self, namespace_of: impl Fn(&Pod, Option<NonZeroU64>) -> Option<Namespace>) {
        let mut unplaceable = Vec::new();
        for (id, debt) in self.debts.iter_mut().filter(|(_, debt)| debt.namespace.is_none()) {
            debt.namespace = namespace_of(&debt.pod, debt.version);
            debt.unplaced += u8::from(debt.namespace.is_none());
            if debt.unplaced >= MOST_UNPLACED {
                unplaceable.push(*id);
            }
        }
        for id in unplaceable {
            self.remove(id);
            self.dropped += 1;
        }
    }

    /// Pods of a namespace that was gone at this version are of a later one of that name if they were there after it.
    pub(crate) fn displace(&mut self, namespace: &Namespace, until: NonZeroU64) {
        for debt in self.debts.values_mut() {
            let is_in_it =
                debt.namespace.as_ref().is_some_and(|of| (of.name, of.uid) == (namespace.name, namespace.uid));
            if is_in_it && debt.version.is_some_and(|version| version > until) {
                debt.namespace = None;
            }
        }
    }

    /// Versions from before say nothing any more.
    pub(crate) fn forget_versions(&mut self) {
        for debt in self.debts.values_mut() {
            debt.version = None;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Debt)> {
        self.debts.iter().map(|(id, debt)| (*id, debt))
    }

    /// Lets each pod and namespace be written anew.
    pub(crate) fn rewrite(
        &mut self,
        mut pod: impl FnMut(&Pod) -> Pod,
        mut namespace: impl FnMut(&Namespace) -> Namespace,
    ) {
        for debt in self.debts.values_mut() {
            debt.pod = Arc::new(pod(&debt.pod));
            debt.namespace = debt.namespace.as_ref().map(&mut namespace);
        }
    }

    /// Whether this container of this pod is carried already.
    fn has(&self, uid: Uid, container: &Container) -> bool {
        let of_pod = self.by_pod.range((uid, 0)..=(uid, u64::MAX)).filter_map(|(_, id)| self.debts.get(id));
        of_pod.flat_map(|debt| &debt.pod.containers).any(|carried| carried.id == container.id)
    }

    fn remove(&mut self, id: u64) {
        if let Some(uid) = self.debts.remove(&id).and_then(|debt| debt.pod.uid) {
            self.by_pod.remove(&(uid, id));
        }
    }

    /// How many pods are carried.
    pub(crate) fn len(&self) -> usize {
        self.debts.len()
    }

    /// How many were given up for want of room, since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}
