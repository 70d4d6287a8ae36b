//! `metadata-collection.*`.

use super::key::{Boolean, Key, List, Section};
use super::pattern::{self, Pattern, Subject};
use super::reader::Reader;

const LIST: List = List { split_at_blanks: true };
const DISABLE: Boolean = Boolean { default: false };

const NODES: Keys = Keys {
    annotations: Key::new("metadata-collection.nodes.annotations", LIST, "Annotations of nodes to report.")
        .also(&["metadata-collection.nodes.include-annotations"]),
    labels: Key::new("metadata-collection.nodes.labels", LIST, "Labels of nodes to report.")
        .also(&["metadata-collection.nodes.include-labels"]),
    disable: Key::new("metadata-collection.nodes.disable", DISABLE, "Report names and uids of nodes alone."),
};

const NAMESPACES: Keys = Keys {
    annotations: Key::new("metadata-collection.namespaces.annotations", LIST, "Annotations of namespaces to report.")
        .also(&["metadata-collection.namespaces.include-annotations"]),
    labels: Key::new("metadata-collection.namespaces.labels", LIST, "Labels of namespaces to report.")
        .also(&["metadata-collection.namespaces.include-labels"]),
    disable: Key::new("metadata-collection.namespaces.disable", DISABLE, "Report names and uids of namespaces alone."),
};

const PODS: Keys = Keys {
    annotations: Key::new("metadata-collection.pods.annotations", LIST, "Annotations of pods to report.")
        .also(&["metadata-collection.pods.include-annotations"]),
    labels: Key::new("metadata-collection.pods.labels", LIST, "Labels of pods to report.")
        .also(&["metadata-collection.pods.include-labels"]),
    disable: Key::new("metadata-collection.pods.disable", DISABLE, "Report pods without optional fields."),
};

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

struct Keys {
    annotations: Key<'static, List>,
    labels: Key<'static, List>,
    disable: Key<'static, Boolean>,
}

pub(super) fn section() -> Section {
    Section {
        title: "Labels and annotations",
        intro: "An entry without the characters `\\ ^ $ * + ? ( ) [ ] { } |` is the exact name of a key; any other is \
                a regular expression searched in the key. An empty list reports all, except that the annotation \
                `kubectl.kubernetes.io/last-applied-configuration` is reported only where its exact name is listed.",
        rows: [NODES, NAMESPACES, PODS]
            .into_iter()
            .flat_map(|keys| [keys.annotations.into(), keys.labels.into(), keys.disable.into()])
            .collect(),
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> MetadataCollection {
    let mut filter = |keys: &Keys| MetadataFilter {
        annotations: pattern::read(reader, &keys.annotations, Subject::MetadataKeys),
        labels: pattern::read(reader, &keys.labels, Subject::MetadataKeys),
        disable: reader.boolean(&keys.disable),
    };
    MetadataCollection { nodes: filter(&NODES), namespaces: filter(&NAMESPACES), pods: filter(&PODS) }
}
