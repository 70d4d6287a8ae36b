//! One document for one account, as it is on the wire.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::entries::{ContainerEntry, NamespaceEntry, NodeEntry, PodEntry};
use super::size::json_len;
use super::{Inventory, ReportedPod};

/// One document for one account: some namespaces of an inventory with their pods and containers, and some nodes.
/// Serialised as a stream; never held as one buffer.
#[derive(Debug, Clone)]
pub struct Report {
    inventory: Arc<Inventory>,
    /// Indices into the snapshot's namespaces, ascending.
    namespaces: Arc<[u32]>,
    /// Indices into the snapshot's nodes, ascending.
    nodes: Arc<[u32]>,
    byte_len: OnceLock<u64>,
}

impl Report {
    /// A report of these namespaces and nodes, given as ascending indices into the snapshot.
    pub fn new(inventory: Arc<Inventory>, namespaces: Vec<u32>, nodes: Vec<u32>) -> Self {
        Self { inventory, namespaces: namespaces.into(), nodes: nodes.into(), byte_len: OnceLock::new() }
    }

    /// What it is a part of.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Its namespaces, as ascending indices into the snapshot.
    pub fn namespaces(&self) -> &[u32] {
        &self.namespaces
    }

    /// How many namespaces it names.
    pub fn namespace_count(&self) -> usize {
        self.namespaces.len()
    }

    /// Its length in bytes as compact JSON. The first call serialises it once, to count.
    pub fn byte_len(&self) -> u64 {
        *self.byte_len.get_or_init(|| json_len(self))
    }

    fn pods(&self) -> impl Iterator<Item = ReportedPod<'_>> {
        self.namespaces.iter().flat_map(|&namespace| self.inventory.pods(namespace))
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let snapshot = self.inventory.snapshot();
        let mut report = serializer.serialize_map(None)?;
        report.serialize_entry("cluster_name", &self.inventory.settings.cluster_name)?;
        report.serialize_entry("containers", &Containers(self))?;
        if !self.namespaces.is_empty() {
            report.serialize_entry("namespaces", &Namespaces(self))?;
        }
        if !self.nodes.is_empty() {
            report.serialize_entry("nodes", &Nodes(self))?;
        }
        if self.pods().next().is_some() {
            report.serialize_entry("pods", &Pods(self))?;
        }
        if let Some(version) = &snapshot.server_version {
            report.serialize_entry("serverVersionMetadata", version)?;
        }
        report.serialize_entry("timestamp", &whole_seconds(snapshot.taken_at))?;
        report.end()
    }
}

struct Containers<'a>(&'a Report);
struct Namespaces<'a>(&'a Report);
struct Nodes<'a>(&'a Report);
struct Pods<'a>(&'a Report);

impl Serialize for Containers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let buffer = RefCell::default();
        let entries = self.0.pods().flat_map(|pod| ContainerEntry::of_pod(&self.0.inventory, pod, &buffer));
        serializer.collect_seq(entries)
    }
}

impl Serialize for Namespaces<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.namespaces.iter().filter_map(|&at| NamespaceEntry::new(&self.0.inventory, at)))
    }
}

impl Serialize for Nodes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.nodes.iter().filter_map(|&at| NodeEntry::new(&self.0.inventory, at)))
    }
}

impl Serialize for Pods<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.pods().map(|pod| PodEntry::new(&self.0.inventory, &pod)))
    }
}

/// RFC 3339 in UTC, without the fraction of the second.
fn whole_seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;
    use crate::config::metadata::{MetadataCollection, MetadataFilter};
    use crate::inventory::fixtures::{HEX, cluster, container, namespace, node, pod, settings, uid_of};

    /// The report of everything in `inventory`, as it is on the wire.
    fn whole(inventory: &Arc<Inventory>) -> String {
        let all = |indices: &[u32]| indices.to_vec();
        let report = Report::new(Arc::clone(inventory), all(inventory.namespaces()), all(inventory.nodes()));
        let text = serde_json::to_string(&report).expect("serialises");
        assert_eq!(report.byte_len(), text.len() as u64);
        text
    }

    fn parsed(text: &str) -> serde_json::Value {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn every_field_is_in_its_place() {
        let inventory = cluster()
            .server_version(json!({"major": "1", "gitVersion": "v1.37.2"}))
            .namespace(namespace("shop").label("team", "blue").annotation("note", "a \"quoted\" one"))
            .node(node("n1").label("zone", "a").kube_proxy_version("v1.30.0"))
            .pod(
                pod("shop", "web-0")
                    .on("n1")
                    .label("app", "web")
                    .container(
                        container("web", "registry.example/shop/web:4.2")
                            .id(&format!("containerd://{HEX}"))
                            .image_id(&format!("registry.example/shop/web@sha256:{HEX}")),
                    )
                    .container(container("side", "busybox").image_id("sha256:local")),
            )
            .inventory();
        let (shop, n1, web) = (uid_of("namespace/shop"), uid_of("node/n1"), uid_of("pod/shop/web-0"));
        let expected = [
            r#"{"cluster_name":"edge-7","containers":["#,
            &format!(r#"{{"id":"containerd://{HEX}","image_digest":"sha256:{HEX}","#),
            &format!(r#""image_tag":"registry.example/shop/web:4.2","name":"web","pod_uid":"{web}"}},"#),
            r#"{"id":"containerd://side","image_digest":"","#,
            &format!(r#""image_tag":"busybox:latest","name":"side","pod_uid":"{web}"}}],"#),
            r#""namespaces":[{"annotations":{"note":"a \"quoted\" one"},"labels":{"team":"blue"},"#,
            &format!(r#""name":"shop","uid":"{shop}"}}],"#),
            r#""nodes":[{"arch":"arm64","kube_proxy_version":"v1.30.0","labels":{"zone":"a"},"#,
            &format!(r#""name":"n1","uid":"{n1}"}}],"#),
            r#""pods":[{"labels":{"app":"web"},"name":"web-0","#,
            &format!(r#""namespace_uid":"{shop}","node_uid":"{n1}","uid":"{web}"}}],"#),
            r#""serverVersionMetadata":{"gitVersion":"v1.37.2","major":"1"},"timestamp":"2026-03-04T05:06:07Z"}"#,
        ];
        assert_eq!(whole(&inventory), expected.concat());
    }

    #[test]
    fn empty_lists_are_left_out_except_the_containers() {
        let expected = r#"{"cluster_name":"edge-7","containers":[],"timestamp":"2026-03-04T05:06:07Z"}"#;
        assert_eq!(whole(&cluster().inventory()), expected);
    }

    #[test]
    fn disabled_metadata_leaves_names_and_uids() {
        let disabled = MetadataFilter { disable: true, ..MetadataFilter::default() };
        let metadata = MetadataCollection { nodes: disabled.clone(), namespaces: disabled.clone(), pods: disabled };
        let inventory = cluster()
            .namespace(namespace("shop").label("team", "blue"))
            .node(node("n1").label("zone", "a").kube_proxy_version("v1.30.0"))
            .pod(pod("shop", "web").on("n1").label("app", "web").annotation("a", "b"))
            .inventory_with(crate::inventory::InventorySettings { metadata, ..settings() });
        let (shop, n1, web) = (uid_of("namespace/shop"), uid_of("node/n1"), uid_of("pod/shop/web"));
        let expected = json!({
            "cluster_name": "edge-7",
            "containers": [],
            "namespaces": [{"name": "shop", "uid": shop}],
            "nodes": [{"name": "n1", "uid": n1}],
            "pods": [{"name": "web", "namespace_uid": shop, "node_uid": n1, "uid": web}],
            "timestamp": "2026-03-04T05:06:07Z",
        });
        assert_eq!(parsed(&whole(&inventory)), expected);
    }

    #[test]
    fn a_pod_on_an_unknown_node_has_no_node_uid() {
        let inventory = cluster().namespace("shop").pod(pod("shop", "web").on("gone")).inventory();
        let expected =
            json!([{"name": "web", "namespace_uid": uid_of("namespace/shop"), "uid": uid_of("pod/shop/web")}]);
        assert_eq!(parsed(&whole(&inventory))["pods"], expected);
    }

    #[test]
    fn a_report_holds_its_namespaces_alone() {
        let inventory = cluster()
            .namespace("a")
            .namespace("b")
            .pod(pod("a", "one").container(container("c1", "nginx")))
            .pod(pod("b", "two").container(container("c2", "nginx")))
            .inventory();
        let report = Report::new(inventory, vec![1], Vec::new());
        let value = serde_json::to_value(&report).expect("serialises");
        let names = |list: &str| {
            value[list].as_array().expect("a list").iter().map(|item| item["name"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            (names("namespaces"), names("pods"), names("containers")),
            (vec!["b".into()], vec!["two".into()], vec!["c2".into()])
        );
    }
}
