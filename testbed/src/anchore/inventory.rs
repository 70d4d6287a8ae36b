//! What Enterprise knows from the accepted reports, per account, cluster and namespace.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::schema::Element;

/// Labels or annotations.
pub type Metadata = BTreeMap<Box<str>, Box<str>>;

/// What a report does to what is already known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ingest {
    /// It is added.
    #[default]
    Merge,
    /// The pods and containers of each namespace in the report are replaced.
    Overwrite,
}

/// All that is known, by account and cluster.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// By account and cluster name.
    pub clusters: BTreeMap<(String, String), ClusterInventory>,
}

/// What is known of a cluster in one account.
#[derive(Debug, Clone, Default)]
pub struct ClusterInventory {
    /// By uid.
    pub nodes: BTreeMap<Box<str>, NodeRow>,
    /// By uid.
    pub namespaces: BTreeMap<Box<str>, NamespaceInventory>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Its name.
    pub name: Box<str>,
    /// Its labels.
    pub labels: Metadata,
    /// Its annotations.
    pub annotations: Metadata,
}

/// A namespace and what runs in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceInventory {
    /// Its name.
    pub name: Box<str>,
    /// Its labels.
    pub labels: Metadata,
    /// Its annotations.
    pub annotations: Metadata,
    /// By uid.
    pub pods: BTreeMap<Box<str>, PodRow>,
    /// By pod uid and container id.
    pub containers: BTreeMap<(Box<str>, Box<str>), ContainerRow>,
    /// How many accepted reports named it.
    pub reports: usize,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRow {
    /// Its name.
    pub name: Box<str>,
    /// Uid of its node.
    pub node_uid: Option<Box<str>>,
    /// Its labels.
    pub labels: Metadata,
    /// Its annotations.
    pub annotations: Metadata,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRow {
    /// Its name.
    pub name: Box<str>,
    /// Its image.
    pub image_tag: Box<str>,
    /// Its image's digest; empty when the report has none.
    pub image_digest: Box<str>,
}

/// A checked report, its lists still flat.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) cluster: String,
    pub(crate) timestamp: String,
    /// The length of its body.
    pub(crate) bytes: u64,
    pub(crate) namespaces: Vec<Element>,
    pub(crate) nodes: Vec<Element>,
    pub(crate) pods: Vec<Element>,
    pub(crate) containers: Vec<Element>,
}

impl Report {
    pub(crate) fn add(&mut self, list: &str, element: Element) {
        match list {
            "namespaces" => self.namespaces.push(element),
            "nodes" => self.nodes.push(element),
            "pods" => self.pods.push(element),
            _ => self.containers.push(element),
        }
    }
}

impl Inventory {
    /// A cluster in an account.
    pub fn cluster(&self, account: &str, cluster: &str) -> Option<&ClusterInventory> {
        self.clusters.get(&(account.to_owned(), cluster.to_owned()))
    }

    /// A namespace, by name, of a cluster in an account.
    pub fn namespace(&self, account: &str, cluster: &str, name: &str) -> Option<&NamespaceInventory> {
        self.cluster(account, cluster)?.namespaces.values().find(|namespace| &*namespace.name == name)
    }

    /// Takes a report in. Gives back how many of its pods and containers name a parent that is not in the report; those
    /// are left out.
    pub(crate) fn ingest(&mut self, account: &str, report: Report, ingest: Ingest) -> usize {
        let cluster = self.clusters.entry((account.to_owned(), report.cluster)).or_default();
        cluster.nodes.extend(report.nodes.into_iter().map(node_row));

        let mut reported = BTreeSet::new();
        for mut element in report.namespaces {
            let uid = text(&mut element, "uid");
            let namespace = cluster.namespaces.entry(uid.clone()).or_default();
            namespace.name = text(&mut element, "name");
            (namespace.labels, namespace.annotations) = metadata(&mut element);
            if reported.insert(uid) {
                namespace.reports += 1;
                if ingest == Ingest::Overwrite {
                    namespace.pods.clear();
                    namespace.containers.clear();
                }
            }
        }

        let mut dangling = 0;
        let mut namespace_of_pod = BTreeMap::new();
        for mut element in report.pods {
            let namespace_uid = text(&mut element, "namespace_uid");
            let Some(namespace) =
                cluster.namespaces.get_mut(&namespace_uid).filter(|_| reported.contains(&namespace_uid))
            else {
                dangling += 1;
                continue;
            };
            let uid = text(&mut element, "uid");
            namespace.pods.insert(uid.clone(), pod_row(element));
            namespace_of_pod.insert(uid, namespace_uid);
        }
        for mut element in report.containers {
            let pod_uid = text(&mut element, "pod_uid");
            let namespace = namespace_of_pod.get(&pod_uid).and_then(|uid| cluster.namespaces.get_mut(uid));
            let Some(namespace) = namespace else {
                dangling += 1;
                continue;
            };
            namespace.containers.insert((pod_uid, text(&mut element, "id")), container_row(element));
        }
        dangling
    }

    /// Rows of `GET /v2/kubernetes-<kind>` in an account.
    pub(crate) fn rows(&self, account: &str, kind: &str) -> Vec<Value> {
        let clusters = self.clusters.iter().filter(|((owner, _), _)| owner == account);
        clusters.flat_map(|((_, cluster), inventory)| inventory.rows(account, cluster, kind)).collect()
    }

    /// Rows of `GET /v2/inventories` in an account: one for each image of each namespace.
    pub(crate) fn images(&self, account: &str) -> Vec<Value> {
        let mut images = BTreeSet::new();
        for ((_, cluster), inventory) in self.clusters.iter().filter(|((owner, _), _)| owner == account) {
            for namespace in inventory.namespaces.values() {
                let context = format!("{cluster}/{}", namespace.name);
                let of_namespace = namespace.containers.values();
                images
                    .extend(of_namespace.map(|row| (context.clone(), row.image_tag.clone(), row.image_digest.clone())));
            }
        }
        let row = |(context, tag, digest)| json!({"inventory_type": "kubernetes", "context": context, "image_tag": tag, "image_digest": digest});
        images.into_iter().map(row).collect()
    }

    /// Forgets a cluster in an account.
    pub(crate) fn forget(&mut self, account: &str, cluster: &str) {
        self.clusters.remove(&(account.to_owned(), cluster.to_owned()));
    }
}

impl ClusterInventory {
    fn rows(&self, account: &str, cluster: &str, kind: &str) -> Vec<Value> {
        let mut rows = Vec::new();
        let mut push = |context: &str, mut row: Value| {
            row["account_name"] = account.into();
            row["context"] = context.into();
            rows.push(row);
        };
        if kind == "nodes" {
            for (uid, node) in &self.nodes {
                push(
                    cluster,
                    json!({"uid": uid, "name": node.name, "labels": node.labels, "annotations": node.annotations}),
                );
            }
        }
        for (uid, namespace) in &self.namespaces {
            let context = format!("{cluster}/{}", namespace.name);
            match kind {
                "namespaces" => push(
                    &context,
                    json!({"uid": uid, "name": namespace.name, "labels": namespace.labels, "annotations": namespace.annotations}),
                ),
                "pods" => {
                    for (pod_uid, pod) in &namespace.pods {
                        let mut row =
                            json!({"uid": pod_uid, "name": pod.name, "namespace_uid": uid, "node_uid": pod.node_uid});
                        row["labels"] = json!(pod.labels);
                        row["annotations"] = json!(pod.annotations);
                        push(&context, row);
                    }
                }
                "containers" => {
                    for ((pod_uid, id), container) in &namespace.containers {
                        let ContainerRow { name, image_tag, image_digest } = container;
                        push(
                            &context,
                            json!({"id": id, "name": name, "pod_uid": pod_uid, "image_tag": image_tag, "image_digest": image_digest}),
                        );
                    }
                }
                _ => {}
            }
        }
        rows
    }
}

fn node_row(mut element: Element) -> (Box<str>, NodeRow) {
    let (labels, annotations) = metadata(&mut element);
    (text(&mut element, "uid"), NodeRow { name: text(&mut element, "name"), labels, annotations })
}

fn pod_row(mut element: Element) -> PodRow {
    let (labels, annotations) = metadata(&mut element);
    PodRow { name: text(&mut element, "name"), node_uid: element.take("node_uid"), labels, annotations }
}

fn container_row(mut element: Element) -> ContainerRow {
    ContainerRow {
        name: text(&mut element, "name"),
        image_tag: text(&mut element, "image_tag"),
        image_digest: text(&mut element, "image_digest"),
    }
}

fn metadata(element: &mut Element) -> (Metadata, Metadata) {
    (element.take_map("labels").collect(), element.take_map("annotations").collect())
}

/// The text of a field; the schema has seen that a required one is there.
fn text(element: &mut Element, name: &str) -> Box<str> {
    element.take(name).unwrap_or_default()
}
