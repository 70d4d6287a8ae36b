//! Pods.

use k8s_pb::api::core::v1 as core;

use super::container::Container;
use super::message::{empty, text, time};
use super::owner::Owner;
use super::{identity, message};

/// A pod.
#[derive(Debug, Clone)]
#[must_use]
pub struct Pod {
    name: String,
    uid: Option<String>,
    phase: &'static str,
    node: Option<String>,
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    owners: Vec<Owner>,
    terminating: bool,
    containers: Vec<(Role, Container)>,
    image_volumes: Vec<String>,
}

/// What a container is in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Init,
    Sidecar,
    Regular,
    Ephemeral,
}

impl Pod {
    /// A pod whose phase is `Running`.
    pub fn running(name: &str) -> Self {
        Self::in_phase(name, "Running")
    }

    /// A pod whose phase is `Pending`.
    pub fn pending(name: &str) -> Self {
        Self::in_phase(name, "Pending")
    }

    /// A pod whose phase is `Succeeded`; say of its containers that they are terminated.
    pub fn succeeded(name: &str) -> Self {
        Self::in_phase(name, "Succeeded")
    }

    /// A pod whose phase is `Failed`; say of its containers that they are terminated.
    pub fn failed(name: &str) -> Self {
        Self::in_phase(name, "Failed")
    }

    fn in_phase(name: &str, phase: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            uid: None,
            phase,
            node: None,
            labels: Vec::new(),
            annotations: Vec::new(),
            owners: Vec::new(),
            terminating: false,
            containers: Vec::new(),
            image_volumes: Vec::new(),
        }
    }

    /// With a container of this image, named like the image's last part.
    pub fn image(self, image: &str) -> Self {
        self.container(Container::of(image))
    }

    /// With a regular container.
    pub fn container(self, container: Container) -> Self {
        self.with(Role::Regular, container)
    }

    /// With an init container.
    pub fn init(self, container: Container) -> Self {
        self.with(Role::Init, container)
    }

    /// With a native sidecar: an init container that is restarted always.
    pub fn sidecar(self, container: Container) -> Self {
        self.with(Role::Sidecar, container)
    }

    /// With an ephemeral container.
    pub fn ephemeral(self, container: Container) -> Self {
        self.with(Role::Ephemeral, container)
    }

    /// With a volume that is this image.
    pub fn image_volume(mut self, reference: &str) -> Self {
        self.image_volumes.push(reference.to_owned());
        self
    }

    /// Bound to this node.
    pub fn on(self, node: &str) -> Self {
        Self { node: Some(node.to_owned()), ..self }
    }

    /// With this uid instead of the one that follows from its names.
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

    /// Being deleted: it stays until its containers have ended.
    pub fn terminating(self) -> Self {
        Self { terminating: true, ..self }
    }

    /// Owned by this, and by what was said before.
    pub fn owner(mut self, owner: Owner) -> Self {
        self.owners.push(owner);
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_pending(&self) -> bool {
        self.phase == "Pending"
    }

    /// The pod as Kubernetes' own message.
    pub fn message(&self, namespace: &str, first_node: Option<&str>) -> core::Pod {
        let uid = self.uid.clone().unwrap_or_else(|| identity::uid("pods", namespace, &self.name));
        let mut meta = message::meta(namespace, &self.name, &uid);
        meta.labels = message::metadata(&self.labels);
        meta.annotations = message::metadata(&self.annotations);
        if self.terminating {
            (meta.deletion_timestamp, meta.deletion_grace_period_seconds) = (time(60), Some(30));
        }
        meta.owner_references = self.owners.iter().map(Owner::message).collect();
        core::Pod { metadata: Some(meta), spec: Some(self.spec(first_node)), status: Some(self.status(namespace)) }
    }

    fn spec(&self, first_node: Option<&str>) -> core::PodSpec {
        let default_node = first_node.filter(|_| !self.is_pending()).unwrap_or_default();
        let init = self.with_role(|role| matches!(role, Role::Init | Role::Sidecar)).filter_map(|(role, container)| {
            let restart_policy = (role == Role::Sidecar).then(|| "Always".to_owned());
            Some(core::Container { restart_policy, ..container.spec()? })
        });
        core::PodSpec {
            volumes: self.image_volumes.iter().enumerate().map(|(at, reference)| image_volume(at, reference)).collect(),
            init_containers: init.collect(),
            containers: self.with_role(|role| role == Role::Regular).filter_map(|(_, it)| it.spec()).collect(),
            ephemeral_containers: self
                .with_role(|role| role == Role::Ephemeral)
                .filter_map(|(_, it)| it.ephemeral_spec())
                .collect(),
            restart_policy: text("Always"),
            termination_grace_period_seconds: Some(30),
            dns_policy: text("ClusterFirst"),
            service_account_name: text("default"),
            service_account: text("default"),
            node_name: text(self.node.as_deref().unwrap_or(default_node)),
            host_network: Some(false),
            host_pid: Some(false),
            host_ipc: Some(false),
            hostname: empty(),
            subdomain: empty(),
            scheduler_name: text("default-scheduler"),
            priority_class_name: empty(),
            priority: Some(0),
            enable_service_links: Some(true),
            ..core::PodSpec::default()
        }
    }

    fn status(&self, namespace: &str) -> core::PodStatus {
        let statuses = |wanted: fn(Role) -> bool| {
            self.with_role(wanted).filter_map(|(_, container)| container.status(namespace, self)).collect()
        };
        core::PodStatus {
            phase: text(self.phase),
            message: empty(),
            reason: empty(),
            host_ip: empty(),
            pod_ip: empty(),
            start_time: time(5),
            init_container_statuses: statuses(|role| matches!(role, Role::Init | Role::Sidecar)),
            container_statuses: statuses(|role| role == Role::Regular),
            ephemeral_container_statuses: statuses(|role| role == Role::Ephemeral),
            qos_class: text("BestEffort"),
            nominated_node_name: empty(),
            resize: empty(),
            ..core::PodStatus::default()
        }
    }

    fn with(mut self, role: Role, container: Container) -> Self {
        self.containers.push((role, container));
        self
    }

    fn with_role(&self, wanted: impl Fn(Role) -> bool) -> impl Iterator<Item = (Role, &Container)> {
        self.containers.iter().filter(move |(role, _)| wanted(*role)).map(|(role, container)| (*role, container))
    }
}

fn image_volume(at: usize, reference: &str) -> core::Volume {
    let image = core::ImageVolumeSource { reference: text(reference), pull_policy: text("IfNotPresent") };
    core::Volume {
        name: text(format!("image-{at}")),
        volume_source: Some(core::VolumeSource { image: Some(image), ..core::VolumeSource::default() }),
    }
}
