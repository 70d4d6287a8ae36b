//! What tests fill the cluster with, said as far as the test is about it; the rest is as a kubelet would write it.

use serde_json::{Map, Value, json};
use uuid::Uuid;

/// A namespace.
#[must_use]
pub(crate) struct Namespace {
    name: String,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
}

/// A node.
#[must_use]
pub(crate) struct Node {
    name: String,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
    kube_proxy_version: &'static str,
}

/// A pod.
#[must_use]
pub(crate) struct Pod {
    name: String,
    phase: &'static str,
    node: Option<String>,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
    containers: Vec<(Role, Container)>,
    image_volumes: Vec<String>,
}

/// A container of a pod.
#[derive(Clone)]
#[must_use]
pub(crate) struct Container {
    name: String,
    image: String,
    /// Whether the kubelet has started it, so that it has an id.
    started: bool,
}

/// What a container is in its pod.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Init,
    Sidecar,
    Regular,
    Ephemeral,
}

impl Namespace {
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), labels: Map::new(), annotations: Map::new() }
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.into());
        self
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }

    pub(crate) fn manifest(&self) -> Value {
        let metadata = json!({"name": self.name, "labels": self.labels, "annotations": self.annotations});
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The namespace as it lies in etcd.
    pub(crate) fn stored(&self) -> Value {
        let mut stored = stored(self.manifest());
        stored["metadata"]["labels"]["kubernetes.io/metadata.name"] = self.name.as_str().into();
        stored["spec"] = json!({"finalizers": ["kubernetes"]});
        stored["status"] = json!({"phase": "Active"});
        stored
    }
}

impl From<&str> for Namespace {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}

impl Node {
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), labels: Map::new(), annotations: Map::new(), kube_proxy_version: "" }
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.into());
        self
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }

    /// States a version of kube-proxy, as kubelets before 1.33 do.
    pub(crate) fn kube_proxy(mut self, version: &'static str) -> Self {
        self.kube_proxy_version = version;
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn manifest(&self) -> Value {
        let metadata = json!({"name": self.name, "labels": self.labels, "annotations": self.annotations});
        json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata})
    }

    pub(crate) fn status(&self) -> Value {
        json!({
            "addresses": [{"type": "InternalIP", "address": "192.0.2.10"}, {"type": "Hostname", "address": self.name}],
            "capacity": {"cpu": "8", "memory": "32Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            "nodeInfo": {
                "machineID": "3f2c", "systemUUID": "3f2c", "bootID": "3f2c",
                "architecture": "arm64", "operatingSystem": "linux", "osImage": "Debian GNU/Linux 13",
                "kernelVersion": "6.12.41-cloud", "containerRuntimeVersion": "containerd://2.2.0",
                "kubeletVersion": "v1.37.1", "kubeProxyVersion": self.kube_proxy_version,
            },
        })
    }
}

impl From<&str> for Node {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}

impl Pod {
    /// A pod whose phase is `Running`.
    pub(crate) fn running(name: &str) -> Self {
        Self::in_phase(name, "Running")
    }

    /// A pod whose phase is `Succeeded`.
    pub(crate) fn succeeded(name: &str) -> Self {
        Self::in_phase(name, "Succeeded")
    }

    /// A pod that waits for a node.
    pub(crate) fn pending(name: &str) -> Self {
        Self::in_phase(name, "Pending")
    }

    fn in_phase(name: &str, phase: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            phase,
            node: None,
            labels: Map::new(),
            annotations: Map::new(),
            containers: Vec::new(),
            image_volumes: Vec::new(),
        }
    }

    /// Bound to this node.
    pub(crate) fn on(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.into());
        self
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }

    /// With a regular container of this image, named `main`.
    pub(crate) fn image(self, image: &str) -> Self {
        self.container(Container::named("main", image))
    }

    pub(crate) fn container(self, container: Container) -> Self {
        self.with(Role::Regular, container)
    }

    pub(crate) fn init(self, container: Container) -> Self {
        self.with(Role::Init, container)
    }

    /// With an init container that keeps running.
    pub(crate) fn sidecar(self, container: Container) -> Self {
        self.with(Role::Sidecar, container)
    }

    /// With a container that `kubectl debug` added.
    pub(crate) fn ephemeral(self, container: Container) -> Self {
        self.with(Role::Ephemeral, container)
    }

    /// With a volume that is an image.
    pub(crate) fn image_volume(mut self, reference: &str) -> Self {
        self.image_volumes.push(reference.to_owned());
        self
    }

    fn with(mut self, role: Role, container: Container) -> Self {
        self.containers.push((role, container));
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The pod as it is created, without ephemeral containers, which are added later.
    pub(crate) fn manifest(&self) -> Value {
        let of = |wanted: &[Role]| -> Vec<Value> {
            let those = self.containers.iter().filter(|(role, _)| wanted.contains(role));
            those.map(|(role, container)| container.manifest(*role)).collect()
        };
        let volumes: Vec<Value> = self
            .image_volumes
            .iter()
            .enumerate()
            .map(|(n, reference)| json!({"name": format!("image-{n}"), "image": {"reference": reference}}))
            .collect();
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name,
                "labels": self.labels,
                "annotations": self.annotations,
            },
            "spec": {
                "nodeName": self.node,
                "initContainers": of(&[Role::Init, Role::Sidecar]),
                "containers": of(&[Role::Regular]),
                "volumes": volumes,
            },
        })
    }

    /// The pod as it lies in etcd.
    pub(crate) fn stored(&self, namespace: &str) -> Value {
        let mut stored = stored(self.manifest());
        stored["metadata"]["namespace"] = namespace.into();
        stored["status"] = self.status(namespace);
        stored
    }

    pub(crate) fn ephemeral_containers(&self) -> Option<Value> {
        let those = self.containers.iter().filter(|(role, _)| *role == Role::Ephemeral);
        let those: Vec<Value> = those.map(|(role, container)| container.manifest(*role)).collect();
        (!those.is_empty()).then(|| those.into())
    }

    pub(crate) fn status(&self, namespace: &str) -> Value {
        let of = |wanted: &[Role]| -> Vec<Value> {
            let those = self.containers.iter().filter(|(role, _)| wanted.contains(role));
            those.map(|(_, container)| container.status(namespace, &self.name)).collect()
        };
        json!({
            "phase": self.phase,
            "initContainerStatuses": of(&[Role::Init, Role::Sidecar]),
            "containerStatuses": of(&[Role::Regular]),
            "ephemeralContainerStatuses": of(&[Role::Ephemeral]),
        })
    }
}

impl Container {
    /// A container that runs this image.
    pub(crate) fn named(name: &str, image: &str) -> Self {
        Self { name: name.to_owned(), image: image.to_owned(), started: true }
    }

    /// A container whose image is still pulled.
    pub(crate) fn waiting(name: &str, image: &str) -> Self {
        Self { started: false, ..Self::named(name, image) }
    }

    fn manifest(&self, role: Role) -> Value {
        let mut manifest = json!({"name": self.name, "image": self.image});
        if role == Role::Sidecar {
            manifest["restartPolicy"] = "Always".into();
        }
        manifest
    }

    fn status(&self, namespace: &str, pod: &str) -> Value {
        let mut status = json!({
            "name": self.name, "image": self.image, "imageID": "", "ready": self.started, "restartCount": 0,
            "state": {"waiting": {"reason": "ContainerCreating"}},
        });
        if self.started {
            let repository = self.image.rsplit_once(':').map_or(self.image.as_str(), |(repository, _)| repository);
            status["imageID"] = format!("{repository}@{}", digest_of(&self.image)).into();
            status["containerID"] = container_id(&[namespace, pod, &self.name]).into();
            status["state"] = json!({"running": {"startedAt": "2026-03-04T05:06:07Z"}});
        }
        status
    }
}

/// What the API server adds to the metadata of everything that it stores.
fn stored(mut manifest: Value) -> Value {
    manifest["metadata"]["uid"] = Uuid::new_v4().to_string().into();
    manifest["metadata"]["creationTimestamp"] = "2026-03-04T05:06:07Z".into();
    manifest
}

/// The digest that the registry of these tests has for `image`.
pub(crate) fn digest_of(image: &str) -> String {
    format!("sha256:{}", hex_of(image))
}

/// The id that the container runtime of these tests gives to the container at this path.
fn container_id(path: &[&str]) -> String {
    format!("containerd://{}", hex_of(&path.join("/")))
}

/// 64 hex digits that follow from `text`.
fn hex_of(text: &str) -> String {
    let half = |namespace| Uuid::new_v5(namespace, text.as_bytes()).simple().to_string();
    half(&Uuid::NAMESPACE_OID) + &half(&Uuid::NAMESPACE_URL)
}
