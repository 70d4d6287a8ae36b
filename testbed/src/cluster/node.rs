//! Nodes.

use k8s_pb::api::core::v1 as core;
use k8s_pb::apimachinery::pkg::api::resource::Quantity;

use super::message::{empty, text, time};
use super::{identity, message};

/// A Linux node with containerd.
#[derive(Debug, Clone)]
#[must_use]
pub struct Node {
    pub(super) name: String,
    uid: Option<String>,
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    architecture: String,
    runtime: String,
}

impl Node {
    /// A ready node.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            uid: None,
            labels: Vec::new(),
            annotations: Vec::new(),
            architecture: "amd64".to_owned(),
            runtime: "containerd://2.2.0".to_owned(),
        }
    }

    /// With this uid instead of the one that follows from its name.
    pub fn uid(self, uid: &str) -> Self {
        Self { uid: Some(uid.to_owned()), ..self }
    }

    /// With a label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With an annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With this architecture instead of `amd64`.
    pub fn architecture(self, architecture: &str) -> Self {
        Self { architecture: architecture.to_owned(), ..self }
    }

    /// With this container runtime and version, `cri-o://1.34.1`.
    pub fn runtime(self, runtime: &str) -> Self {
        Self { runtime: runtime.to_owned(), ..self }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn message(&self) -> core::Node {
        let uid = self.uid.clone().unwrap_or_else(|| identity::uid("nodes", "", &self.name));
        let mut meta = message::meta("", &self.name, &uid);
        meta.labels = message::metadata(&self.labels);
        meta.labels.insert("kubernetes.io/hostname".to_owned(), self.name.clone());
        meta.annotations = message::metadata(&self.annotations);
        let capacity = [("cpu", "16"), ("memory", "64298Mi"), ("pods", "110"), ("ephemeral-storage", "203056560Ki")];
        let capacity = capacity.map(|(name, amount)| (name.to_owned(), Quantity { string: text(amount) }));
        core::Node {
            metadata: Some(meta),
            spec: Some(core::NodeSpec {
                pod_cidr: text("10.0.0.0/24"),
                provider_id: empty(),
                unschedulable: Some(false),
                external_id: empty(),
                pod_cid_rs: vec!["10.0.0.0/24".to_owned()],
                ..core::NodeSpec::default()
            }),
            status: Some(core::NodeStatus {
                capacity: capacity.clone().into(),
                allocatable: capacity.into(),
                phase: empty(),
                conditions: vec![core::NodeCondition {
                    r#type: text("Ready"),
                    status: text("True"),
                    last_heartbeat_time: time(3600),
                    last_transition_time: time(60),
                    reason: text("KubeletReady"),
                    message: text("kubelet is posting ready status"),
                }],
                addresses: vec![core::NodeAddress { r#type: text("Hostname"), address: text(&self.name) }],
                daemon_endpoints: Some(core::NodeDaemonEndpoints {
                    kubelet_endpoint: Some(core::DaemonEndpoint { port: Some(10250) }),
                }),
                node_info: Some(self.info(&uid)),
                ..core::NodeStatus::default()
            }),
        }
    }

    fn info(&self, uid: &str) -> core::NodeSystemInfo {
        core::NodeSystemInfo {
            machine_id: text(uid.replace('-', "")),
            system_uuid: text(uid),
            boot_id: text(uid),
            kernel_version: text("6.12.48"),
            os_image: text("Debian GNU/Linux 13 (trixie)"),
            container_runtime_version: text(&self.runtime),
            kubelet_version: text("v1.34.1"),
            // Deprecated, and empty since Kubernetes 1.33.
            kube_proxy_version: empty(),
            operating_system: text("linux"),
            architecture: text(&self.architecture),
            swap: None,
        }
    }
}

impl From<&str> for Node {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}
