//! Writes what is held into new tables: to let go of texts that nothing uses any more, and to take in a snapshot that
//! has tables of its own.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hashbrown::HashTable;

use super::former::FormerNamespace;
use super::store::{HeldNamespace, HeldPod, Store};
use crate::cluster::collect::Collection;
use crate::cluster::intake::Tables;
use crate::cluster::snapshot::{Container, ContainerId, ImageFacts, Metadata, Namespace, Node, Pod};
use crate::cluster::strings::{Symbol, Texts};

/// Texts may grow by half, and by this many bytes, before those out of use are let go.
const SLACK: usize = 1024 * 1024;

/// Copies objects from some tables into others.
struct Moving<'a> {
    texts: &'a Texts,
    images: &'a [ImageFacts],
    moved_images: HashMap<u32, u32>,
    to: &'a mut Tables,
}

impl Store {
    /// Lets go of texts out of use once they are a third of all.
    pub(crate) fn compact_when_due(&mut self) {
        let bytes = self.tables.strings.byte_len();
        if bytes > self.compact_bytes + self.compact_bytes / 2 + SLACK {
            self.compact();
        }
    }

    /// Lets go of texts out of use.
    pub(super) fn compact(&mut self) {
        let rules = &self.rules;
        let fresh = Tables::new(&rules.metadata, rules.account_label_key.as_deref()).selecting(&rules.selectors);
        let old = std::mem::replace(&mut self.tables, fresh);
        let texts = old.strings.texts().clone();
        let images = old.images;
        // The table that finds texts is not needed any more.
        drop(old.strings);
        let mut moving = Moving::new(&texts, &images, &mut self.tables);
        let namespaces = std::mem::take(&mut self.namespaces);
        self.namespaces.reserve(namespaces.len());
        for (_, held) in namespaces {
            let namespace = moving.namespace(&held.namespace);
            self.namespaces.insert(namespace.name, HeldNamespace { namespace, ..held });
        }
        let mut pods = std::mem::replace(&mut self.pods, HashTable::new());
        let hasher = &self.hasher;
        let key = |held: &HeldPod| std::hash::BuildHasher::hash_one(hasher, (held.pod.namespace, held.pod.name));
        self.pods.reserve(pods.len(), key);
        for held in pods.drain() {
            let held = HeldPod { pod: Arc::new(moving.pod(&held.pod)), ..held };
            self.pods.insert_unique(key(&held), held, key);
        }
        self.nodes = self.nodes.iter().map(|node| moving.node(node)).collect();
        for former in std::mem::take(&mut self.former).into_values().flatten() {
            let namespace = moving.namespace(&former.namespace);
            self.former.entry(namespace.name).or_default().push(FormerNamespace { namespace, ..former });
        }
        let moving = std::cell::RefCell::new(moving);
        self.carried.rewrite(|pod| moving.borrow_mut().pod(pod), |namespace| moving.borrow_mut().namespace(namespace));
        self.compact_bytes = self.tables.strings.byte_len();
    }

    /// Takes in what was collected by lists. Namespaces that could not be read stay as they are.
    pub(crate) fn absorb(&mut self, collection: &Collection) {
        let snapshot = &collection.snapshot;
        let list = self.begin_list(true);
        let tables = &mut self.tables;
        let mut moving = Moving::new(&snapshot.strings, &snapshot.images, tables);
        let namespaces: Vec<Namespace> = snapshot.namespaces.iter().map(|one| moving.namespace(one)).collect();
        let pods: Vec<Pod> = snapshot.pods.iter().map(|pod| moving.pod(pod)).collect();
        let nodes: Vec<Node> = snapshot.nodes.iter().map(|node| moving.node(node)).collect();
        let unreadable: HashSet<Symbol> =
            snapshot.unreadable.iter().map(|one| tables.strings.intern(&one.namespace)).collect();
        for namespace in namespaces {
            let name = namespace.name;
            if self.namespaces.get(&name).is_some_and(|held| held.namespace.uid != namespace.uid) {
                self.lose_pods(|held| held.pod.namespace == name, true);
            }
            self.hold_namespace(namespace, None, Some(list));
        }
        for pod in pods {
            self.hold(pod, None, true, Some(list.number()));
        }
        // Pods first, while the namespaces that they were in are known.
        self.lose_pods(|held| held.list != list.number() && !unreadable.contains(&held.pod.namespace), true);
        self.lose_namespaces(|held, name| held.list != list.number() && !unreadable.contains(&name), None);
        self.nodes = nodes;
        self.node_access = snapshot.node_access.clone();
        self.compact_when_due();
    }
}

impl<'a> Moving<'a> {
    fn new(texts: &'a Texts, images: &'a [ImageFacts], to: &'a mut Tables) -> Self {
        Self { texts, images, moved_images: HashMap::new(), to }
    }

    fn symbol(&mut self, symbol: Symbol) -> Symbol {
        self.to.strings.intern(self.texts.get(symbol))
    }

    fn metadata(&mut self, metadata: &Metadata) -> Metadata {
        metadata.iter().map(|(key, value)| (self.symbol(*key), self.symbol(*value))).collect()
    }

    fn namespace(&mut self, from: &Namespace) -> Namespace {
        Namespace {
            name: self.symbol(from.name),
            uid: from.uid,
            labels: self.metadata(&from.labels),
            annotations: self.metadata(&from.annotations),
            account_label: from.account_label.map(|label| self.symbol(label)),
        }
    }

    fn node(&mut self, from: &Node) -> Node {
        Node {
            name: self.symbol(from.name),
            uid: from.uid,
            labels: self.metadata(&from.labels),
            annotations: self.metadata(&from.annotations),
            arch: self.symbol(from.arch),
            container_runtime_version: self.symbol(from.container_runtime_version),
            kernel_version: self.symbol(from.kernel_version),
            kube_proxy_version: self.symbol(from.kube_proxy_version),
            kubelet_version: self.symbol(from.kubelet_version),
            operating_system: self.symbol(from.operating_system),
        }
    }

    fn pod(&mut self, from: &Pod) -> Pod {
        Pod {
            namespace: self.symbol(from.namespace),
            name: self.symbol(from.name),
            uid: from.uid,
            node: from.node.map(|node| self.symbol(node)),
            running: from.running,
            labels: self.metadata(&from.labels),
            annotations: self.metadata(&from.annotations),
            containers: from.containers.iter().map(|container| self.container(container)).collect(),
            image_volumes: from.image_volumes.iter().map(|volume| self.symbol(*volume)).collect(),
        }
    }

    fn container(&mut self, from: &Container) -> Container {
        let id = from.id.as_ref().map(|id| match id {
            ContainerId::Hex { prefix, bytes } => ContainerId::Hex { prefix: self.symbol(*prefix), bytes: *bytes },
            ContainerId::Other(text) => ContainerId::Other(self.symbol(*text)),
        });
        Container { name: self.symbol(from.name), image: self.image(from.image), id }
    }

    fn image(&mut self, image: u32) -> u32 {
        if let Some(moved) = self.moved_images.get(&image) {
            return *moved;
        }
        let Some(facts) = self.images.get(image as usize).copied() else { return u32::MAX };
        let facts = ImageFacts {
            spec: facts.spec.map(|spec| self.symbol(spec)),
            status: self.symbol(facts.status),
            image_id: self.symbol(facts.image_id),
        };
        let moved = self.to.image(facts);
        self.moved_images.insert(image, moved);
        moved
    }
}
