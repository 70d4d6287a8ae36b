//! What ran and is not there any more: kept until a report that holds it was accepted, or given up and counted.
//!
//! A pod is carried from the moment it stops running or departs, and once more for each image that an update took out
//! of a pod that goes on. It is owed to each account whose report it belongs to, and to no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cluster::snapshot::{Namespace, Pod};
use crate::cluster::strings::Symbol;

/// Most pods that are carried. What exceeds it is counted, the oldest first.
const MOST: usize = 10_000;

/// The pods that are carried, in the order in which they stopped.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    debts: BTreeMap<u64, Debt>,
    next: u64,
    dropped: u64,
}

/// A pod that ran.
#[derive(Debug, Clone)]
pub(crate) struct Debt {
    /// As it ran.
    pub(crate) pod: Arc<Pod>,
    /// Its namespace at that time, where it was known.
    pub(crate) namespace: Option<Namespace>,
    /// The accounts that still have to accept it; `None` before it was routed.
    pub(crate) owed_to: Option<BTreeSet<Arc<str>>>,
}

impl Carried {
    /// Carries a pod from now on.
    pub(crate) fn add(&mut self, pod: Pod, namespace: Option<Namespace>) {
        // A pod without a proper uid cannot be reported, and one without containers says nothing.
        if pod.uid.is_none() || pod.containers.iter().all(|container| container.id.is_none()) {
            return;
        }
        self.debts.insert(self.next, Debt { pod: Arc::new(pod), namespace, owed_to: None });
        self.next += 1;
        if self.debts.len() > MOST {
            self.debts.pop_first();
            self.dropped += 1;
        }
    }

    /// Notes which accounts get a pod, when it is reported for the first time. One that nobody gets is not carried on.
    pub(crate) fn route(&mut self, id: u64, accounts: &BTreeSet<Arc<str>>) {
        let Some(debt) = self.debts.get_mut(&id).filter(|debt| debt.owed_to.is_none()) else { return };
        if accounts.is_empty() {
            self.debts.remove(&id);
        } else {
            debt.owed_to = Some(accounts.clone());
        }
    }

    /// `account` has accepted these, or will never.
    pub(crate) fn settle(&mut self, account: &str, ids: &[u64]) {
        for id in ids {
            let Some(owed_to) = self.debts.get_mut(id).and_then(|debt| debt.owed_to.as_mut()) else { continue };
            owed_to.remove(account);
            if owed_to.is_empty() {
                self.debts.remove(id);
            }
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

    /// Whether a container of this name and image is carried for this pod already.
    pub(crate) fn has_image(&self, pod: &Pod, name: Symbol, image: u32) -> bool {
        let of_pod = self.debts.values().rev().filter(|debt| debt.pod.uid == pod.uid);
        of_pod.flat_map(|debt| &debt.pod.containers).any(|container| container.name == name && container.image == image)
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
