//! How many bytes a report will have, from the bytes of its parts, so that splitting a report into batches serialises
//! everything once, however many batches come of it.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use serde::Serialize;

use super::Inventory;
use super::entries::{ContainerEntry, NamespaceEntry, NodeEntry, PodEntry};
use super::report::Report;

/// The size of a report that grows, as compact JSON.
#[derive(Debug, Clone, Copy)]
pub struct ReportSize {
    /// All that is not in one of the lists.
    frame: u64,
    containers: ListSize,
    namespaces: ListSize,
    nodes: ListSize,
    pods: ListSize,
}

/// What a namespace adds to a report, its nodes aside.
#[derive(Debug, Clone, Copy, Default)]
pub struct NamespaceSize {
    containers: ListSize,
    namespaces: ListSize,
    pods: ListSize,
}

/// A list of a report: how many elements, and the bytes of all without what is between them.
#[derive(Debug, Clone, Copy, Default)]
struct ListSize {
    count: u64,
    bytes: u64,
}

impl ReportSize {
    /// A report of `inventory` with nothing in its lists.
    pub fn empty(inventory: &Arc<Inventory>) -> Self {
        let lists = ListSize::default();
        let frame = Report::new(Arc::clone(inventory), Vec::new(), Vec::new()).byte_len();
        Self { frame, containers: lists, namespaces: lists, nodes: lists, pods: lists }
    }

    /// With one more namespace, its nodes aside.
    #[must_use]
    pub fn with_namespace(self, namespace: NamespaceSize) -> Self {
        Self {
            containers: self.containers.with(namespace.containers),
            namespaces: self.namespaces.with(namespace.namespaces),
            pods: self.pods.with(namespace.pods),
            ..self
        }
    }

    /// With one more node of `bytes` bytes.
    #[must_use]
    pub fn with_node(self, bytes: u64) -> Self {
        Self { nodes: self.nodes.with(ListSize { count: 1, bytes }), ..self }
    }

    /// The whole report in bytes.
    pub fn bytes(&self) -> u64 {
        // The containers' brackets are part of the frame: that list is always there.
        self.frame
            + self.containers.bytes_with_commas()
            + self.namespaces.bytes_as_field(r#""namespaces":[],"#)
            + self.nodes.bytes_as_field(r#""nodes":[],"#)
            + self.pods.bytes_as_field(r#""pods":[],"#)
    }
}

impl NamespaceSize {
    /// Measures a namespace with its pods and containers.
    pub fn of(inventory: &Inventory, namespace: u32) -> Self {
        let mut size = Self::default();
        let buffer = RefCell::default();
        size.namespaces.add_all(NamespaceEntry::new(inventory, namespace));
        for pod in inventory.pods(namespace) {
            size.pods.add_all([PodEntry::new(inventory, &pod)]);
            size.containers.add_all(ContainerEntry::of_pod(inventory, pod, &buffer));
        }
        size
    }
}

impl ListSize {
    fn add_all(&mut self, elements: impl IntoIterator<Item = impl Serialize>) {
        for element in elements {
            *self = self.with(Self { count: 1, bytes: json_len(&element) });
        }
    }

    fn with(self, more: Self) -> Self {
        Self { count: self.count + more.count, bytes: self.bytes + more.bytes }
    }

    fn bytes_with_commas(self) -> u64 {
        self.bytes + self.count.saturating_sub(1)
    }

    /// As a field that is left out when the list is empty; `frame` is the field with an empty list.
    fn bytes_as_field(self, frame: &str) -> u64 {
        if self.count == 0 { 0 } else { frame.len() as u64 + self.bytes_with_commas() }
    }
}

/// Bytes of each node of `inventory`'s snapshot, by index.
pub fn node_sizes(inventory: &Inventory) -> Vec<u64> {
    let nodes = (0..).zip(&inventory.snapshot().nodes);
    nodes.map(|(index, _)| NodeEntry::new(inventory, index).map_or(0, |node| json_len(&node))).collect()
}

/// Bytes of `value` as compact JSON.
pub(crate) fn json_len(value: &impl Serialize) -> u64 {
    let mut counter = Counter(0);
    // Nothing in a report can fail to serialise, since all keys are texts, and counting never fails.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.0
}

/// Counts what is written to it.
struct Counter(u64);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
