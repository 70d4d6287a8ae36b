//! What runs, as the report says it: images resolved, references closed, omissions counted. Pure.

pub mod image;
pub mod reference;
pub mod report;

use std::sync::Arc;

use crate::cluster::snapshot::ClusterSnapshot;
use crate::config::images::ImagesConfig;
use crate::config::metadata::MetadataCollection;

/// A snapshot as it is reported: images resolved, references closed.
#[derive(Debug)]
pub struct Inventory {
    snapshot: Arc<ClusterSnapshot>,
    settings: InventorySettings,
}

/// What decides how a snapshot becomes an inventory.
#[derive(Debug, Clone)]
pub struct InventorySettings {
    /// The cluster's name in reports.
    pub cluster_name: String,
    /// How images become name, tag and digest.
    pub images: ImagesConfig,
    /// Leave out namespaces without pods.
    pub ignore_empty: bool,
    /// Only `disable` matters here: labels and annotations were filtered when the snapshot was taken.
    pub metadata: MetadataCollection,
}

impl Inventory {
    /// Resolves and closes `snapshot`.
    pub fn new(snapshot: Arc<ClusterSnapshot>, settings: InventorySettings) -> Self {
        Self { snapshot, settings }
    }

    /// The snapshot it was made from.
    pub fn snapshot(&self) -> &ClusterSnapshot {
        &self.snapshot
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &InventorySettings {
        &self.settings
    }
}
