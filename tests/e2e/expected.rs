//! The report that a cluster should yield, computed from what the API server says as JSON: another encoding, and another
//! reading of it, than the agent's.
//!
//! It knows just enough for the objects of these tests: images with a tag, whose digest is in the status. What becomes
//! of stranger references is told by the golden cases.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::cluster::{Cluster, items};

/// The name that [`Cluster::kubeconfig`] gives to the cluster.
pub(crate) const CLUSTER_NAME: &str = "prod";

/// A cluster as the API server describes it, reduced step by step to what a report should tell.
#[derive(Clone)]
#[must_use]
pub(crate) struct State {
    namespaces: Vec<Value>,
    nodes: Vec<Value>,
    pods: Vec<Value>,
    version: Value,
}

impl Cluster {
    /// The cluster now.
    pub(crate) async fn state(&self) -> State {
        let list = async |kind: &str| items(&self.get(&format!("/api/v1/{kind}")).await).cloned().collect();
        State {
            namespaces: list("namespaces").await,
            nodes: list("nodes").await,
            pods: list("pods").await,
            version: self.get("/version").await,
        }
    }
}

impl State {
    /// As if only these namespaces were there.
    pub(crate) fn only(mut self, names: &[&str]) -> Self {
        self.namespaces.retain(|namespace| names.contains(&name_of(namespace)));
        self
    }

    /// As if these namespaces were not there.
    pub(crate) fn without(mut self, names: &[&str]) -> Self {
        self.namespaces.retain(|namespace| !names.contains(&name_of(namespace)));
        self
    }

    /// As if nothing were known of nodes.
    pub(crate) fn without_nodes(self) -> Self {
        self.only_nodes(&[])
    }

    /// As if only these nodes were there.
    pub(crate) fn only_nodes(mut self, names: &[&str]) -> Self {
        self.nodes.retain(|node| names.contains(&name_of(node)));
        self
    }

    /// As if no namespace had this label.
    pub(crate) fn without_label(mut self, key: &str) -> Self {
        for namespace in &mut self.namespaces {
            namespace["metadata"]["labels"].as_object_mut().map(|labels| labels.remove(key));
        }
        self
    }

    /// The report, without its timestamp.
    pub(crate) fn report(&self) -> Value {
        let namespace_uids: BTreeMap<&str, &Value> =
            self.namespaces.iter().map(|it| (name_of(it), uid_of(it))).collect();
        let node_uids: BTreeMap<&str, &Value> = self.nodes.iter().map(|it| (name_of(it), uid_of(it))).collect();
        let mut pods: Vec<&Value> =
            self.pods.iter().filter(|pod| namespace_uids.contains_key(namespace_of(pod))).collect();
        pods.sort_by_key(|pod| (namespace_of(pod), name_of(pod)));

        let mut report = json!({"cluster_name": CLUSTER_NAME, "serverVersionMetadata": self.version});
        report["containers"] = pods.iter().flat_map(|pod| containers(pod)).collect();
        put_unless_empty(&mut report, "namespaces", by_name(&self.namespaces, described));
        put_unless_empty(&mut report, "nodes", by_name(&self.nodes, node));
        let pods = pods.iter().map(|pod| {
            let mut described = described(pod);
            described["namespace_uid"] = namespace_uids[namespace_of(pod)].clone();
            if let Some(uid) = pod["spec"]["nodeName"].as_str().and_then(|name| node_uids.get(name)) {
                described["node_uid"] = (*uid).clone();
            }
            described
        });
        put_unless_empty(&mut report, "pods", pods.collect());
        report
    }
}

/// What is reported of every kind of object.
fn described(object: &Value) -> Value {
    let mut described = json!({"name": object["metadata"]["name"], "uid": uid_of(object)});
    for kind in ["labels", "annotations"] {
        let mut map: Map<String, Value> = object["metadata"][kind].as_object().cloned().unwrap_or_default();
        map.remove("kubectl.kubernetes.io/last-applied-configuration");
        if !map.is_empty() {
            described[kind] = map.into();
        }
    }
    described
}

fn node(node: &Value) -> Value {
    let mut described = described(node);
    let info = &node["status"]["nodeInfo"];
    for (field, source) in [
        ("arch", "architecture"),
        ("container_runtime_version", "containerRuntimeVersion"),
        ("kernel_version", "kernelVersion"),
        ("kubelet_version", "kubeletVersion"),
        ("operating_system", "operatingSystem"),
    ] {
        described[field] = info[source].clone();
    }
    if info["kubeProxyVersion"] != "" {
        described["kube_proxy_version"] = info["kubeProxyVersion"].clone();
    }
    described
}

/// The containers of a pod that runs; none of another.
fn containers(pod: &Value) -> Vec<Value> {
    if pod["status"]["phase"] != "Running" {
        return Vec::new();
    }
    let kinds = [
        ("initContainers", "initContainerStatuses"),
        ("containers", "containerStatuses"),
        ("ephemeralContainers", "ephemeralContainerStatuses"),
    ];
    let of_kind = |(spec, status): (&str, &str)| -> Vec<Value> {
        let specs = pod["spec"][spec].as_array().into_iter().flatten();
        let reported = specs.filter_map(|spec| {
            let mut statuses = pod["status"][status].as_array().into_iter().flatten();
            let status = statuses.find(|status| status["name"] == spec["name"])?;
            let (_, digest) = status["imageID"].as_str()?.split_once('@')?;
            Some(json!({
                "id": status["containerID"],
                "image_digest": digest,
                "image_tag": spec["image"],
                "name": spec["name"],
                "pod_uid": uid_of(pod),
            }))
        });
        reported.collect()
    };
    kinds.into_iter().flat_map(of_kind).collect()
}

fn by_name(objects: &[Value], describe: impl Fn(&Value) -> Value) -> Vec<Value> {
    let mut objects: Vec<&Value> = objects.iter().collect();
    objects.sort_by_key(|object| name_of(object));
    objects.into_iter().map(describe).collect()
}

fn put_unless_empty(report: &mut Value, key: &str, values: Vec<Value>) {
    if !values.is_empty() {
        report[key] = values.into();
    }
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn namespace_of(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

fn uid_of(object: &Value) -> &Value {
    &object["metadata"]["uid"]
}
