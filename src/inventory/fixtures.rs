//! Clusters for tests, written as one would tell them: `cluster().namespace("shop").pod(pod("shop", "web").on("n1"))`.
//!
//! Uids are derived from names, so that two clusters told in different order are the same cluster.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::{Inventory, InventorySettings};
use crate::cluster::snapshot::{
    ClusterSnapshot, Container, ContainerId, ImageFacts, Metadata, Namespace, Node, NodeAccess, Pod, Uid, Unreadable,
};
use crate::cluster::strings::Strings;
use crate::config::images::{ImagesConfig, MissingTagPolicy};
use crate::config::metadata::MetadataCollection;

/// 64 hexadecimal digits.
pub(crate) const HEX: &str = "76049887f07a0476dc93efc2d3569b9529bf982b22d29f356092ce206e98765c";

/// The uid that the builders give, such as `uid_of("pod/shop/web")`.
pub(crate) fn uid_of(object: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, object.as_bytes()).to_string()
}

/// An empty cluster.
pub(crate) fn cluster() -> ClusterBuilder {
    ClusterBuilder::default()
}

/// A namespace.
pub(crate) fn namespace(name: &str) -> NamespaceBuilder {
    ObjectBuilder::new(name, &format!("namespace/{name}"), NamespaceDetails::default())
}

/// A node that states its architecture.
pub(crate) fn node(name: &str) -> NodeBuilder {
    ObjectBuilder::new(name, &format!("node/{name}"), NodeDetails::default())
}

/// A running pod without containers.
pub(crate) fn pod(namespace: &str, name: &str) -> PodBuilder {
    let details = PodDetails {
        namespace: namespace.to_owned(),
        node: None,
        running: true,
        containers: Vec::new(),
        volumes: Vec::new(),
    };
    ObjectBuilder::new(name, &format!("pod/{namespace}/{name}"), details)
}

/// A container that runs `image`, with an id made of its name.
pub(crate) fn container(name: &str, image: &str) -> ContainerBuilder {
    ContainerBuilder {
        name: name.to_owned(),
        spec: Some(image.to_owned()),
        status: String::new(),
        image_id: String::new(),
        id: format!("containerd://{name}"),
    }
}

/// Settings of a cluster called `edge-7`, all else by default.
pub(crate) fn settings() -> InventorySettings {
    InventorySettings {
        cluster_name: "edge-7".to_owned(),
        images: ImagesConfig {
            ignore_not_running: true,
            missing_registry_override: None,
            missing_tag: MissingTagPolicy::Digest,
        },
        ignore_empty: false,
        metadata: MetadataCollection::default(),
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct ClusterBuilder {
    pub(crate) namespaces: Vec<NamespaceBuilder>,
    pub(crate) nodes: Vec<NodeBuilder>,
    pub(crate) pods: Vec<PodBuilder>,
    server_version: Option<serde_json::Value>,
    unreadable: Vec<Unreadable>,
}

pub(crate) type NamespaceBuilder = ObjectBuilder<NamespaceDetails>;
pub(crate) type NodeBuilder = ObjectBuilder<NodeDetails>;
pub(crate) type PodBuilder = ObjectBuilder<PodDetails>;

/// What namespaces, nodes and pods share, and the details of one kind.
#[derive(Debug, Clone)]
pub(crate) struct ObjectBuilder<Details> {
    name: String,
    uid: Option<String>,
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    details: Details,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct NamespaceDetails {
    account: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct NodeDetails {
    kube_proxy_version: String,
}

#[derive(Debug, Clone)]
pub(crate) struct PodDetails {
    namespace: String,
    node: Option<String>,
    running: bool,
    containers: Vec<ContainerBuilder>,
    volumes: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct ContainerBuilder {
    name: String,
    spec: Option<String>,
    status: String,
    image_id: String,
    id: String,
}

impl ClusterBuilder {
    pub(crate) fn namespace(mut self, namespace: impl Into<NamespaceBuilder>) -> Self {
        self.namespaces.push(namespace.into());
        self
    }

    pub(crate) fn node(mut self, node: impl Into<NodeBuilder>) -> Self {
        self.nodes.push(node.into());
        self
    }

    pub(crate) fn pod(mut self, pod: PodBuilder) -> Self {
        self.pods.push(pod);
        self
    }

    pub(crate) fn server_version(mut self, answer: serde_json::Value) -> Self {
        self.server_version = Some(answer);
        self
    }

    pub(crate) fn unreadable(mut self, namespace: &str) -> Self {
        self.unreadable.push(Unreadable { namespace: namespace.to_owned(), reason: "forbidden".to_owned() });
        self
    }

    /// The inventory of this cluster with the default settings.
    pub(crate) fn inventory(self) -> Arc<Inventory> {
        self.inventory_with(settings())
    }

    pub(crate) fn inventory_with(self, settings: InventorySettings) -> Arc<Inventory> {
        Arc::new(Inventory::new(Arc::new(self.snapshot()), settings))
    }

    pub(crate) fn snapshot(self) -> ClusterSnapshot {
        let mut interner = Interner::default();
        let mut namespaces = self.namespaces;
        namespaces.sort_by(|a, b| a.name.cmp(&b.name));
        let mut nodes = self.nodes;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let mut pods = self.pods;
        pods.sort_by(|a, b| (&a.details.namespace, &a.name).cmp(&(&b.details.namespace, &b.name)));
        ClusterSnapshot {
            taken_at: "2026-03-04T05:06:07.891Z".parse().expect("a timestamp"),
            server_version: self.server_version.map(|answer| answer.as_object().expect("an object").clone()),
            namespaces: namespaces.into_iter().map(|namespace| interner.namespace(&namespace)).collect(),
            nodes: nodes.into_iter().map(|node| interner.node(&node)).collect(),
            pods: pods.into_iter().map(|pod| Arc::new(interner.pod(&pod))).collect(),
            images: interner.images,
            strings: interner.strings.texts().clone(),
            unreadable: self.unreadable,
            node_access: NodeAccess::Read,
        }
    }
}

impl<Details> ObjectBuilder<Details> {
    fn new(name: &str, object: &str, details: Details) -> Self {
        let (labels, annotations) = (Vec::new(), Vec::new());
        Self { name: name.to_owned(), uid: Some(uid_of(object)), labels, annotations, details }
    }

    pub(crate) fn uid(mut self, uid: &str) -> Self {
        self.uid = Some(uid.to_owned());
        self
    }

    pub(crate) fn without_uid(mut self) -> Self {
        self.uid = None;
        self
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.push((key.to_owned(), value.to_owned()));
        self
    }

    fn parsed_uid(&self) -> Option<Uid> {
        self.uid.as_deref().and_then(Uid::parse)
    }
}

impl NamespaceBuilder {
    /// The value of the label that routes namespaces.
    pub(crate) fn account(mut self, value: &str) -> Self {
        self.details.account = Some(value.to_owned());
        self
    }
}

impl NodeBuilder {
    pub(crate) fn kube_proxy_version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.details.kube_proxy_version);
        self
    }
}

impl PodBuilder {
    pub(crate) fn on(mut self, node: &str) -> Self {
        self.details.node = Some(node.to_owned());
        self
    }

    pub(crate) fn not_running(mut self) -> Self {
        self.details.running = false;
        self
    }

    pub(crate) fn container(mut self, container: ContainerBuilder) -> Self {
        self.details.containers.push(container);
        self
    }

    pub(crate) fn image_volume(mut self, reference: &str) -> Self {
        self.details.volumes.push(reference.to_owned());
        self
    }
}

impl ContainerBuilder {
    pub(crate) fn image_id(mut self, image_id: &str) -> Self {
        image_id.clone_into(&mut self.image_id);
        self
    }

    pub(crate) fn id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self
    }

    /// Without an id, as before its first start.
    pub(crate) fn waiting(self) -> Self {
        self.id("")
    }
}

impl From<&str> for NamespaceBuilder {
    fn from(name: &str) -> Self {
        namespace(name)
    }
}

impl From<&str> for NodeBuilder {
    fn from(name: &str) -> Self {
        node(name)
    }
}

#[derive(Default)]
struct Interner {
    strings: Strings,
    images: Vec<ImageFacts>,
    indices: HashMap<ImageFacts, u32>,
}

impl Interner {
    fn namespace(&mut self, namespace: &NamespaceBuilder) -> Namespace {
        Namespace {
            name: self.strings.intern(&namespace.name),
            uid: namespace.parsed_uid(),
            labels: self.metadata(&namespace.labels),
            annotations: self.metadata(&namespace.annotations),
            account_label: namespace.details.account.as_deref().map(|account| self.strings.intern(account)),
        }
    }

    fn node(&mut self, node: &NodeBuilder) -> Node {
        let empty = self.strings.intern("");
        Node {
            name: self.strings.intern(&node.name),
            uid: node.parsed_uid(),
            labels: self.metadata(&node.labels),
            annotations: self.metadata(&node.annotations),
            arch: self.strings.intern("arm64"),
            container_runtime_version: empty,
            kernel_version: empty,
            kube_proxy_version: self.strings.intern(&node.details.kube_proxy_version),
            kubelet_version: empty,
            operating_system: empty,
        }
    }

    fn pod(&mut self, pod: &PodBuilder) -> Pod {
        Pod {
            namespace: self.strings.intern(&pod.details.namespace),
            name: self.strings.intern(&pod.name),
            uid: pod.parsed_uid(),
            node: pod.details.node.as_deref().map(|node| self.strings.intern(node)),
            running: pod.details.running,
            labels: self.metadata(&pod.labels),
            annotations: self.metadata(&pod.annotations),
            containers: pod.details.containers.iter().map(|container| self.container(container)).collect(),
            image_volumes: pod.details.volumes.iter().map(|volume| self.strings.intern(volume)).collect(),
        }
    }

    fn container(&mut self, container: &ContainerBuilder) -> Container {
        let facts = ImageFacts {
            spec: container.spec.as_deref().map(|spec| self.strings.intern(spec)),
            status: self.strings.intern(&container.status),
            image_id: self.strings.intern(&container.image_id),
        };
        let next = u32::try_from(self.images.len()).expect("few images");
        let image = *self.indices.entry(facts).or_insert(next);
        if image == next {
            self.images.push(facts);
        }
        Container {
            name: self.strings.intern(&container.name),
            image,
            id: ContainerId::new(&container.id, &mut self.strings),
        }
    }

    fn metadata(&mut self, entries: &[(String, String)]) -> Metadata {
        let mut entries = entries.to_vec();
        entries.sort();
        entries.iter().map(|(key, value)| (self.strings.intern(key), self.strings.intern(value))).collect()
    }
}
