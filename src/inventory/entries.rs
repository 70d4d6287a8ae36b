//! The objects of a report as they are on the wire: their fields in alphabetical order, empty ones left out, never
//! `null`. They borrow everything and allocate nothing but one buffer for container ids.

use std::cell::RefCell;

use serde::{Serialize, Serializer};

use super::{Inventory, ReportedContainer, ReportedPod};
use crate::cluster::snapshot::{ContainerId, Metadata, Uid};
use crate::cluster::strings::{Symbol, Texts};

/// An element of `namespaces`.
#[derive(Serialize)]
pub(crate) struct NamespaceEntry<'a> {
    #[serde(skip_serializing_if = "MetadataEntry::is_empty")]
    annotations: MetadataEntry<'a>,
    #[serde(skip_serializing_if = "MetadataEntry::is_empty")]
    labels: MetadataEntry<'a>,
    name: &'a str,
    uid: Uid,
}

/// An element of `nodes`.
#[derive(Serialize)]
pub(crate) struct NodeEntry<'a> {
    #[serde(skip_serializing_if = "MetadataEntry::is_empty")]
    annotations: MetadataEntry<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    arch: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    container_runtime_version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kernel_version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kube_proxy_version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kubelet_version: &'a str,
    #[serde(skip_serializing_if = "MetadataEntry::is_empty")]
    labels: MetadataEntry<'a>,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    operating_system: &'a str,
    uid: Uid,
}

/// An element of `pods`.
#[derive(Serialize)]
pub(crate) struct PodEntry<'a> {
    #[serde(skip_serializing_if = "MetadataEntry::is_empty")]
    annotations: MetadataEntry<'a>,
    #[serde(skip_serializing_if = "MetadataEntry::is_empty")]
    labels: MetadataEntry<'a>,
    name: &'a str,
    namespace_uid: Uid,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_uid: Option<Uid>,
    uid: Uid,
}

/// An element of `containers`.
#[derive(Serialize)]
pub(crate) struct ContainerEntry<'a> {
    id: ContainerIdEntry<'a>,
    image_digest: &'a str,
    image_tag: &'a str,
    name: &'a str,
    pod_uid: Uid,
}

/// Labels or annotations as an object.
struct MetadataEntry<'a> {
    entries: &'a [(Symbol, Symbol)],
    strings: &'a Texts,
}

/// A container's id as a text.
struct ContainerIdEntry<'a> {
    id: &'a ContainerId,
    strings: &'a Texts,
    /// Where the text is put together.
    buffer: &'a RefCell<String>,
}

impl<'a> NamespaceEntry<'a> {
    /// The namespace at `index` of the snapshot; `None` when it has no uid.
    pub(crate) fn new(inventory: &'a Inventory, index: u32) -> Option<Self> {
        let disabled = inventory.settings.metadata.namespaces.disable;
        let namespace = inventory.snapshot.namespaces.get(index as usize)?;
        Some(Self {
            annotations: MetadataEntry::new(inventory, &namespace.annotations, disabled),
            labels: MetadataEntry::new(inventory, &namespace.labels, disabled),
            name: inventory.snapshot.strings.get(namespace.name),
            uid: namespace.uid?,
        })
    }
}

impl<'a> NodeEntry<'a> {
    /// The node at `index` of the snapshot; `None` when it has no uid.
    pub(crate) fn new(inventory: &'a Inventory, index: u32) -> Option<Self> {
        let disabled = inventory.settings.metadata.nodes.disable;
        let strings = &inventory.snapshot.strings;
        let optional = |text: Symbol| if disabled { "" } else { strings.get(text) };
        let node = inventory.snapshot.nodes.get(index as usize)?;
        Some(Self {
            annotations: MetadataEntry::new(inventory, &node.annotations, disabled),
            arch: optional(node.arch),
            container_runtime_version: optional(node.container_runtime_version),
            kernel_version: optional(node.kernel_version),
            kube_proxy_version: optional(node.kube_proxy_version),
            kubelet_version: optional(node.kubelet_version),
            labels: MetadataEntry::new(inventory, &node.labels, disabled),
            name: strings.get(node.name),
            operating_system: optional(node.operating_system),
            uid: node.uid?,
        })
    }
}

impl<'a> PodEntry<'a> {
    /// `pod` of `inventory`.
    pub(crate) fn new(inventory: &'a Inventory, pod: &ReportedPod<'a>) -> Self {
        let disabled = inventory.settings.metadata.pods.disable;
        Self {
            annotations: MetadataEntry::new(inventory, &pod.facts.annotations, disabled),
            labels: MetadataEntry::new(inventory, &pod.facts.labels, disabled),
            name: inventory.snapshot.strings.get(pod.facts.name),
            namespace_uid: pod.namespace_uid,
            // Every reported node has a uid.
            node_uid: pod.node.and_then(|node| inventory.snapshot.nodes[node as usize].uid),
            uid: pod.uid,
        }
    }
}

impl<'a> ContainerEntry<'a> {
    /// The containers of `pod`. `buffer` is where their ids are put together.
    pub(crate) fn of_pod(
        inventory: &'a Inventory,
        pod: ReportedPod<'a>,
        buffer: &'a RefCell<String>,
    ) -> impl Iterator<Item = Self> {
        let strings = &inventory.snapshot.strings;
        inventory.containers(&pod).map(move |ReportedContainer { id, name, image }| Self {
            id: ContainerIdEntry { id, strings, buffer },
            image_digest: &image.digest,
            image_tag: &image.tag,
            name: strings.get(name),
            pod_uid: pod.uid,
        })
    }
}

impl<'a> MetadataEntry<'a> {
    fn new(inventory: &'a Inventory, metadata: &'a Metadata, disabled: bool) -> Self {
        let entries = if disabled { &[] } else { &**metadata };
        Self { entries, strings: &inventory.snapshot.strings }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Serialize for MetadataEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = |symbol| self.strings.get(symbol);
        serializer.collect_map(self.entries.iter().map(|&(key, value)| (text(key), text(value))))
    }
}

impl Serialize for ContainerIdEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = self.buffer.take();
        text.clear();
        self.id.write(self.strings, &mut text);
        let result = serializer.serialize_str(&text);
        self.buffer.replace(text);
        result
    }
}
