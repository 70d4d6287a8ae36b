//! Objects as Kubernetes writes them in JSON: its names, and its rules of what is left out when empty.
//!
//! It knows the fields that the testbed's own objects have; a test compares them with a complete set of types.

use k8s_pb::api::apps::v1 as apps;
use k8s_pb::api::core::v1 as core;
use k8s_pb::apimachinery::pkg::apis::meta::v1 as meta;
use prost::Message;
use serde_json::{Map, Value, json};

use super::json_pod;
use crate::objects::Kind;

/// An encoded object as JSON, without kind and version, as in a list. `None` when it is none of that kind.
pub(crate) fn object(kind: Kind, bytes: &[u8]) -> Option<Value> {
    Some(match kind {
        Kind::Namespaces => namespace(&core::Namespace::decode(bytes).ok()?),
        Kind::Nodes => node(&core::Node::decode(bytes).ok()?),
        Kind::Pods => json_pod::pod(&core::Pod::decode(bytes).ok()?),
        Kind::ReplicaSets => replica_set(&apps::ReplicaSet::decode(bytes).ok()?),
        Kind::Deployments => deployment(&apps::Deployment::decode(bytes).ok()?),
        // They are kept in JSON.
        Kind::Leases => return None,
    })
}

/// The same with its kind and version, as a document of its own. What is no object has nothing else.
pub(crate) fn document(kind: Kind, bytes: &[u8]) -> Value {
    let mut object = object(kind, bytes).unwrap_or_default();
    object["kind"] = kind.singular().into();
    object["apiVersion"] = kind.api_version().into();
    object
}

/// An object in the making. Values that are empty are left out, unless said otherwise.
#[derive(Default)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// A text.
    #[expect(clippy::ref_option, reason = "the fields of messages are passed as they are")]
    pub(super) fn text(self, name: &str, value: &Option<String>) -> Self {
        self.some(name, value.as_deref().filter(|text| !text.is_empty()))
    }

    /// A flag; `false` is left out.
    pub(super) fn flag(self, name: &str, value: Option<bool>) -> Self {
        self.some(name, value.filter(|flag| *flag))
    }

    /// Something that is written whenever it is there.
    pub(super) fn some(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.always(name, value),
            None => self,
        }
    }

    /// Something that is always written.
    pub(super) fn always(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// A list, made of its items.
    pub(super) fn list<T>(self, name: &str, items: &[T], item: impl Fn(&T) -> Value) -> Self {
        if items.is_empty() { self } else { self.always(name, items.iter().map(item).collect::<Value>()) }
    }

    /// A message that is written when it is there.
    pub(super) fn message<T>(self, name: &str, message: Option<&T>, json: impl Fn(&T) -> Value) -> Self {
        self.some(name, message.map(json))
    }

    /// A map.
    pub(super) fn map<V>(
        self,
        name: &str,
        map: &std::collections::BTreeMap<String, V>,
        value: impl Fn(&V) -> Value,
    ) -> Self {
        let map: Map<String, Value> = map.iter().map(|(key, it)| (key.clone(), value(it))).collect();
        if map.is_empty() { self } else { self.always(name, map) }
    }

    pub(super) fn end(self) -> Value {
        self.0.into()
    }
}

pub(super) fn object_meta(meta: &meta::ObjectMeta) -> Value {
    Fields::default()
        .text("name", &meta.name)
        .text("generateName", &meta.generate_name)
        .text("namespace", &meta.namespace)
        .text("uid", &meta.uid)
        .text("resourceVersion", &meta.resource_version)
        .some("generation", meta.generation.filter(|generation| *generation != 0))
        .always("creationTimestamp", meta.creation_timestamp.as_ref().map_or(Value::Null, time))
        .message("deletionTimestamp", meta.deletion_timestamp.as_ref(), time)
        .some("deletionGracePeriodSeconds", meta.deletion_grace_period_seconds)
        .map("labels", &meta.labels, |text| json!(text))
        .map("annotations", &meta.annotations, |text| json!(text))
        .list("ownerReferences", &meta.owner_references, owner)
        .list("finalizers", &meta.finalizers, |text| json!(text))
        .list("managedFields", &meta.managed_fields, managed_fields)
        .end()
}

/// An instant, RFC 3339 in whole seconds.
pub(super) fn time(time: &meta::Time) -> Value {
    let instant = jiff::Timestamp::from_second(time.seconds.unwrap_or_default());
    instant.map_or(Value::Null, |instant| instant.to_string().into())
}

fn owner(owner: &meta::OwnerReference) -> Value {
    Fields::default()
        .always("apiVersion", owner.api_version.clone())
        .always("kind", owner.kind.clone())
        .always("name", owner.name.clone())
        .always("uid", owner.uid.clone())
        .some("controller", owner.controller)
        .some("blockOwnerDeletion", owner.block_owner_deletion)
        .end()
}

fn managed_fields(entry: &meta::ManagedFieldsEntry) -> Value {
    let fields =
        |fields: &meta::FieldsV1| serde_json::from_slice(fields.raw.as_deref().unwrap_or_default()).unwrap_or_default();
    Fields::default()
        .text("manager", &entry.manager)
        .text("operation", &entry.operation)
        .text("apiVersion", &entry.api_version)
        .message("time", entry.time.as_ref(), time)
        .text("fieldsType", &entry.fields_type)
        .message("fieldsV1", entry.fields_v1.as_ref(), fields)
        .text("subresource", &entry.subresource)
        .end()
}

fn namespace(namespace: &core::Namespace) -> Value {
    let spec =
        |spec: &core::NamespaceSpec| Fields::default().list("finalizers", &spec.finalizers, |text| json!(text)).end();
    Fields::default()
        .message("metadata", namespace.metadata.as_ref(), object_meta)
        .message("spec", namespace.spec.as_ref(), spec)
        .message("status", namespace.status.as_ref(), |status| Fields::default().text("phase", &status.phase).end())
        .end()
}

fn node(node: &core::Node) -> Value {
    let spec = |spec: &core::NodeSpec| {
        Fields::default()
            .text("podCIDR", &spec.pod_cidr)
            .list("podCIDRs", &spec.pod_cid_rs, |text| json!(text))
            .text("providerID", &spec.provider_id)
            .flag("unschedulable", spec.unschedulable)
            .end()
    };
    Fields::default()
        .message("metadata", node.metadata.as_ref(), object_meta)
        .message("spec", node.spec.as_ref(), spec)
        .message("status", node.status.as_ref(), node_status)
        .end()
}

fn node_status(status: &core::NodeStatus) -> Value {
    let address = |it: &core::NodeAddress| json!({"type": it.r#type, "address": it.address});
    Fields::default()
        .map("capacity", &status.capacity, |quantity| json!(quantity.string))
        .map("allocatable", &status.allocatable, |quantity| json!(quantity.string))
        .list("conditions", &status.conditions, node_condition)
        .list("addresses", &status.addresses, address)
        .some("daemonEndpoints", status.daemon_endpoints.map(daemon_endpoints))
        .message("nodeInfo", status.node_info.as_ref(), node_info)
        .list("images", &status.images, |image| json!({"names": image.names, "sizeBytes": image.size_bytes}))
        .end()
}

fn daemon_endpoints(endpoints: core::NodeDaemonEndpoints) -> Value {
    // This one name is written with a capital.
    let port = |endpoint: &core::DaemonEndpoint| json!({"Port": endpoint.port});
    Fields::default().message("kubeletEndpoint", endpoints.kubelet_endpoint.as_ref(), port).end()
}

fn node_condition(condition: &core::NodeCondition) -> Value {
    Fields::default()
        .always("type", condition.r#type.clone())
        .always("status", condition.status.clone())
        .message("lastHeartbeatTime", condition.last_heartbeat_time.as_ref(), time)
        .message("lastTransitionTime", condition.last_transition_time.as_ref(), time)
        .text("reason", &condition.reason)
        .text("message", &condition.message)
        .end()
}

fn node_info(info: &core::NodeSystemInfo) -> Value {
    json!({
        "machineID": info.machine_id,
        "systemUUID": info.system_uuid,
        "bootID": info.boot_id,
        "kernelVersion": info.kernel_version,
        "osImage": info.os_image,
        "containerRuntimeVersion": info.container_runtime_version,
        "kubeletVersion": info.kubelet_version,
        "kubeProxyVersion": info.kube_proxy_version,
        "operatingSystem": info.operating_system,
        "architecture": info.architecture,
    })
}

fn replica_set(replica_set: &apps::ReplicaSet) -> Value {
    let spec = |spec: &apps::ReplicaSetSpec| Fields::default().some("replicas", spec.replicas).end();
    Fields::default()
        .message("metadata", replica_set.metadata.as_ref(), object_meta)
        .message("spec", replica_set.spec.as_ref(), spec)
        .end()
}

fn deployment(deployment: &apps::Deployment) -> Value {
    let spec = |spec: &apps::DeploymentSpec| Fields::default().some("replicas", spec.replicas).end();
    Fields::default()
        .message("metadata", deployment.metadata.as_ref(), object_meta)
        .message("spec", deployment.spec.as_ref(), spec)
        .end()
}
