//! `metadata-collection.*`.

use super::pattern::Pattern;

/// Which labels and annotations are reported, per kind of object.
#[derive(Debug, Clone, Default)]
pub struct MetadataCollection {
    /// Of nodes.
    pub nodes: MetadataFilter,
    /// Of namespaces.
    pub namespaces: MetadataFilter,
    /// Of pods.
    pub pods: MetadataFilter,
}

/// Which labels and annotations of one kind are reported.
#[derive(Debug, Clone, Default)]
pub struct MetadataFilter {
    /// Keys of annotations; empty means all but `kubectl.kubernetes.io/last-applied-configuration`.
    pub annotations: Vec<Pattern>,
    /// Keys of labels; empty means all.
    pub labels: Vec<Pattern>,
    /// Report neither, nor any other optional field of the kind.
    pub disable: bool,
}
