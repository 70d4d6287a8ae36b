//! Namespaces that are gone, while their name may be another one's by now.
//!
//! Versions tell whose pods are whose: those of a former namespace are older than the version at which it ended.

use std::collections::HashMap;
use std::num::NonZeroU64;

use super::store::{HeldNamespace, HeldPod, Store, is_older};
use crate::cluster::snapshot::{Namespace, Pod};
use crate::cluster::strings::Symbol;

/// Most names of namespaces that are gone and still known: news of their pods come within seconds.
const MOST_FORMER: usize = 1000;

/// Most of these that had one name.
const MOST_FORMER_OF_NAME: usize = 4;

/// A namespace that is gone.
pub(super) struct FormerNamespace {
    pub(super) namespace: Namespace,
    /// Its pods are of versions before this one.
    pub(super) until: Option<NonZeroU64>,
    /// Pods of a later namespace of that name are of versions after that one.
    pub(super) is_exact: bool,
}

impl Store {
    /// These namespaces were gone before this version.
    pub(super) fn lose_namespaces(
        &mut self,
        is_gone: impl Fn(&HeldNamespace, Symbol) -> bool,
        until: Option<NonZeroU64>,
    ) {
        let gone = self.namespaces.iter().filter(|(name, held)| is_gone(held, **name));
        let gone: Vec<Symbol> = gone.map(|(name, _)| *name).collect();
        for name in gone {
            self.lose_namespace(name, until, true);
        }
    }

    /// A namespace is gone. All in it was gone before: with `is_exact` these are its pods of versions before `until`,
    /// and no others.
    pub(super) fn lose_namespace(&mut self, name: Symbol, until: Option<NonZeroU64>, is_exact: bool) {
        let Some(held) = self.namespaces.remove(&name) else { return };
        self.undecodable.remove(self.tables.strings.get(name));
        if self.former.len() >= MOST_FORMER {
            self.former.clear();
        }
        let former = FormerNamespace { namespace: held.namespace.clone(), until, is_exact };
        let of_name = self.former.entry(name).or_default();
        of_name.push(former);
        if of_name.len() > MOST_FORMER_OF_NAME {
            of_name.remove(0);
        }
        if let Some(until) = until {
            self.carried.displace(&held.namespace, until);
        }
        if is_exact && until.is_some() {
            self.lose_pods(|held| held.pod.namespace == name && is_older(held.version, until), false);
        }
    }

    /// All pods are told up to this version.
    pub(crate) fn pods_reach(&mut self, version: Option<NonZeroU64>) {
        self.reached = version.max(self.reached);
    }

    /// The cluster went back in time: versions from before say nothing about what comes.
    pub(super) fn forget_versions(&mut self) {
        self.reached = None;
        for former in self.former.values_mut().flatten() {
            (former.until, former.is_exact) = (None, false);
        }
    }

    /// Whether a pod that is held may be one of a former namespace of its name, whose end pods were not told of yet.
    pub(super) fn is_of_former(&self, held: &HeldPod) -> bool {
        let former = self.former.get(&held.pod.namespace).into_iter().flatten();
        former.filter(|former| is_older(self.reached, former.until)).any(|former| is_older(held.version, former.until))
    }
}

/// The namespace that a pod of this version was in.
pub(super) fn namespace_of<'a>(
    namespaces: &'a HashMap<Symbol, HeldNamespace>,
    former: &'a HashMap<Symbol, Vec<FormerNamespace>>,
    pod: &Pod,
    version: Option<NonZeroU64>,
) -> Option<&'a Namespace> {
    let former = former.get(&pod.namespace).map(Vec::as_slice).unwrap_or_default();
    let told_apart = former.iter().find(|former| is_older(version, former.until));
    let now = namespaces.get(&pod.namespace).map(|held| &held.namespace);
    let last = former.last().filter(|last| !is_older(last.until, version));
    told_apart.map(|former| &former.namespace).or(now).or_else(|| last.map(|last| &last.namespace))
}
