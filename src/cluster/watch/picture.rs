//! The cluster at a tick: what is held and what is carried, as one snapshot for each account.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::former::namespace_of;
use super::store::Store;
use crate::cluster::snapshot::{ClusterSnapshot, ImageFacts, Namespace, Node, NodeAccess, Pod, Uid, Unreadable};
use crate::cluster::strings::{Symbol, Texts};

/// What the API server answered to `/version`.
pub(crate) type ServerVersion = serde_json::Map<String, serde_json::Value>;

/// The cluster at a tick. Shares everything with the state it was made from, which goes on.
#[derive(Debug)]
pub struct Picture {
    taken_at: Timestamp,
    server_version: Option<ServerVersion>,
    texts: Texts,
    images: Vec<ImageFacts>,
    namespaces: Vec<Namespace>,
    nodes: Vec<Node>,
    node_access: NodeAccess,
    unreadable: Vec<Unreadable>,
    pods: Vec<Arc<Pod>>,
    carried: Vec<CarriedPod>,
    /// Names of namespaces that are gone, and are there for the pods that are carried.
    former: HashSet<Symbol>,
    /// Names in `namespace-selectors.include` that do not exist.
    pub missing: Vec<String>,
    /// Whether all namespaces of the cluster were listed, so that none left means that none is there.
    pub complete_list: bool,
}

/// A pod that ran and is not there as it was.
#[derive(Debug)]
struct CarriedPod {
    id: u64,
    pod: Arc<Pod>,
    owed_to: Option<BTreeSet<Arc<str>>>,
}

/// What a tick knows beside the state.
#[derive(Debug)]
pub(crate) struct PictureFacts {
    pub(crate) taken_at: Timestamp,
    pub(crate) server_version: Option<ServerVersion>,
    /// Namespaces that may not be reported, beside those that do not decode.
    pub(crate) unreadable: Vec<Unreadable>,
    pub(crate) missing: Vec<String>,
    pub(crate) complete_list: bool,
}

impl Store {
    /// The cluster now.
    pub(crate) fn picture(&mut self, facts: PictureFacts) -> Picture {
        let mut namespaces: Vec<Namespace> = self.namespaces.values().map(|held| held.namespace.clone()).collect();
        let held = namespaces.len();
        let carried = self.carried_pods(&mut namespaces);
        let former = namespaces.iter().skip(held).map(|namespace| namespace.name).collect();
        let known: HashSet<Symbol> = namespaces.iter().map(|namespace| namespace.name).collect();
        // A pod of a namespace that is gone must not be shown in a new one of its name. That it ran is told when it is
        // known to be gone.
        let pods = self.pods.iter().filter(|held| known.contains(&held.pod.namespace) && !self.is_of_former(held));
        let pods = pods.map(|held| &held.pod);
        Picture {
            pods: pods.map(Arc::clone).collect(),
            unreadable: facts.unreadable.into_iter().chain(self.unreadable()).collect(),
            taken_at: facts.taken_at,
            server_version: facts.server_version,
            texts: self.tables.strings.texts().clone(),
            images: self.tables.images.clone(),
            nodes: self.nodes.clone(),
            node_access: self.node_access.clone(),
            missing: facts.missing,
            complete_list: facts.complete_list,
            namespaces,
            carried,
            former,
        }
    }

    /// What is carried, each pod in a namespace that is among `namespaces` afterwards.
    fn carried_pods(&mut self, namespaces: &mut Vec<Namespace>) -> Vec<CarriedPod> {
        let (held, gone) = (&self.namespaces, &self.former);
        self.carried.place(|pod, version| namespace_of(held, gone, pod, version).cloned());
        let mut former: HashMap<(Symbol, Option<Uid>), Symbol> = HashMap::new();
        let mut taken: HashSet<Symbol> = held.keys().copied().collect();
        let mut pods = Vec::with_capacity(self.carried.len());
        for (id, debt) in self.carried.iter() {
            let Some(then) = &debt.namespace else { continue };
            let name = debt.pod.namespace;
            let now = held.get(&name).map(|held| held.namespace.uid);
            let symbol = if now == Some(then.uid) {
                name
            } else {
                let strings = &mut self.tables.strings;
                *former.entry((name, then.uid)).or_insert_with(|| {
                    // Beside another namespace of that name this one needs a name of its own.
                    let symbol = if taken.insert(name) { name } else { strings.alias(name) };
                    namespaces.push(Namespace { name: symbol, ..then.clone() });
                    symbol
                })
            };
            let pod = if symbol == name {
                Arc::clone(&debt.pod)
            } else {
                Arc::new(Pod { namespace: symbol, ..(*debt.pod).clone() })
            };
            pods.push(CarriedPod { id, pod, owed_to: debt.owed_to.clone() });
        }
        pods
    }
}

impl Picture {
    /// The snapshot for everybody, or for one account: without what that has accepted already. Takes as long as sorting
    /// all pods does.
    pub fn snapshot(&self, account: Option<&str>) -> ClusterSnapshot {
        let mut carried: HashMap<Uid, Vec<&Pod>> = HashMap::new();
        let mut needed = HashSet::new();
        for one in self.carried.iter().filter(|one| account.is_none_or(|account| one.is_owed_to(account))) {
            if let Some(uid) = one.pod.uid {
                carried.entry(uid).or_default().push(&one.pod);
                needed.insert(one.pod.namespace);
            }
        }
        let mut pods = Vec::with_capacity(self.pods.len() + carried.len());
        for pod in &self.pods {
            pods.push(match pod.uid.and_then(|uid| carried.remove(&uid)) {
                Some(ran) => Arc::new(self.joined(pod, &ran)),
                None => Arc::clone(pod),
            });
        }
        pods.extend(carried.into_values().filter_map(|ran| {
            let (last, earlier) = ran.split_last()?;
            Some(Arc::new(self.joined(last, earlier)))
        }));
        let mut namespaces = self.namespaces.clone();
        namespaces.retain(|namespace| !self.former.contains(&namespace.name) || needed.contains(&namespace.name));
        ClusterSnapshot {
            taken_at: self.taken_at,
            server_version: self.server_version.clone(),
            strings: self.texts.clone(),
            images: self.images.clone(),
            namespaces,
            nodes: self.nodes.clone(),
            pods,
            unreadable: self.unreadable.clone(),
            node_access: self.node_access.clone(),
        }
        .in_order()
    }

    /// A pod with all that ran in it, as one that runs if one of these did.
    fn joined(&self, pod: &Pod, ran: &[&Pod]) -> Pod {
        let spec = |image: u32| self.images.get(image as usize).and_then(|facts| facts.spec);
        let mut containers = pod.containers.to_vec();
        for carried in ran.iter().flat_map(|ran| &ran.containers) {
            match containers.iter_mut().find(|known| known.id == carried.id) {
                None => containers.push(carried.clone()),
                // A container's image never changes: where the spec names another one by now, that is not started yet.
                Some(known) if spec(known.image) != spec(carried.image) => known.image = carried.image,
                Some(_) => {}
            }
        }
        let running = pod.running || ran.iter().any(|ran| ran.running);
        Pod { containers: containers.into(), running, ..pod.clone() }
    }

    /// The carried pods in one of these namespaces of a snapshot of this picture, by their ids.
    pub fn carried_in(&self, namespaces: &HashSet<Symbol>, account: &str) -> Vec<u64> {
        let here = self.carried.iter().filter(|one| namespaces.contains(&one.pod.namespace) && one.is_owed_to(account));
        here.map(|one| one.id).collect()
    }

    /// Whether something is carried in one of these namespaces that this account does not get, or has accepted already.
    pub fn has_settled_in(&self, namespaces: &HashSet<Symbol>, account: &str) -> bool {
        self.carried.iter().any(|one| namespaces.contains(&one.pod.namespace) && !one.is_owed_to(account))
    }

    /// The carried pods, with their namespaces, and the accounts that they were routed to, if they were.
    pub fn carried(&self) -> impl Iterator<Item = (u64, Symbol, Option<&BTreeSet<Arc<str>>>)> {
        self.carried.iter().map(|one| (one.id, one.pod.namespace, one.owed_to.as_ref()))
    }
}

impl CarriedPod {
    fn is_owed_to(&self, account: &str) -> bool {
        self.owed_to.as_ref().is_none_or(|accounts| accounts.contains(account))
    }
}
