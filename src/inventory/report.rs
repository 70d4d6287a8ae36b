//! One document for one account, as it is on the wire.

use std::sync::Arc;

use serde::Serialize;

use super::Inventory;

/// One document for one account: some namespaces of an inventory with their pods and containers, and some nodes.
/// Serialised as a stream; never held as one buffer.
#[derive(Debug, Clone)]
pub struct Report {
    inventory: Arc<Inventory>,
    /// Indices into the snapshot's namespaces, ascending.
    namespaces: Arc<[u32]>,
    /// Indices into the snapshot's nodes, ascending.
    nodes: Arc<[u32]>,
}

impl Report {
    /// A report of these namespaces and nodes, given as ascending indices into the snapshot.
    pub fn new(inventory: Arc<Inventory>, namespaces: Vec<u32>, nodes: Vec<u32>) -> Self {
        Self { inventory, namespaces: namespaces.into(), nodes: nodes.into() }
    }

    /// How many namespaces it names.
    pub fn namespace_count(&self) -> usize {
        self.namespaces.len()
    }

    /// Its length in bytes as compact JSON.
    pub fn byte_len(&self) -> u64 {
        0
    }
}

impl Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let _ = (&self.inventory, &self.nodes);
        serializer.serialize_map(Some(0)).and_then(serde::ser::SerializeMap::end)
    }
}
