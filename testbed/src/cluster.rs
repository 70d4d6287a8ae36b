//! Small clusters for tests, written so that a test reads as a sentence:
//!
//! ```
//! use testbed::cluster::Cluster;
//! use testbed::cluster::pod::Pod;
//!
//! let cluster = Cluster::new().node("n1").namespace("shop").pod(Pod::running("web-0").image("nginx:1.27"));
//! ```
//!
//! What a test does not say is filled in as a real cluster would, and always in the same way: uids, container ids and
//! digests follow from names, and [`identity`] tells them.

pub mod container;
pub mod identity;
pub(crate) mod message;
pub mod namespace;
pub mod node;
pub mod owner;
pub mod pod;
pub mod workload;

use crate::objects::{Kind, Object, Objects};
use namespace::Namespace;
use node::Node;
use pod::Pod;
use workload::Workload;

/// A cluster.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Cluster {
    namespaces: Vec<Namespace>,
    nodes: Vec<Node>,
    pods: Vec<(String, Pod)>,
    encoded: Vec<(Kind, Object)>,
}

impl Cluster {
    /// A cluster without anything in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node.
    pub fn node(mut self, node: impl Into<Node>) -> Self {
        self.nodes.push(node.into());
        self
    }

    /// Adds a namespace; pods that follow are in it.
    pub fn namespace(mut self, namespace: impl Into<Namespace>) -> Self {
        self.namespaces.push(namespace.into());
        self
    }

    /// Adds a workload to the namespace that was added last, without pods.
    pub fn workload(mut self, workload: &Workload) -> Self {
        let namespace = self.namespaces.last().map(|namespace| namespace.name.clone()).unwrap_or_default();
        self.encoded.push((workload.kind(), workload.object(&namespace)));
        self
    }

    /// Adds a pod to the namespace that was added last (`default`, without one). It is bound to the node that it names,
    /// else, unless it is pending, to the cluster's first.
    pub fn pod(mut self, pod: Pod) -> Self {
        if self.namespaces.is_empty() {
            self = self.namespace("default");
        }
        let namespace = self.namespaces.last().map(|namespace| namespace.name.clone()).unwrap_or_default();
        self.pods.push((namespace, pod));
        self
    }

    /// Adds an object that is encoded already, such as a damaged one.
    pub fn encoded(mut self, kind: Kind, object: Object) -> Self {
        self.encoded.push((kind, object));
        self
    }

    /// The cluster's objects.
    pub fn objects(&self) -> Objects {
        let first_node = self.nodes.first().map(|node| node.name.as_str());
        let namespaces = self.namespaces.iter().map(|it| (Kind::Namespaces, Object::new("", &it.name, &it.message())));
        let nodes = self.nodes.iter().map(|it| (Kind::Nodes, Object::new("", &it.name, &it.message())));
        let pods = self.pods.iter().map(|(namespace, pod)| {
            (Kind::Pods, Object::new(namespace, pod.name(), &pod.message(namespace, first_node)))
        });
        Objects::new(namespaces.chain(nodes).chain(pods).chain(self.encoded.iter().cloned()))
    }
}
