//! The few fields of Kubernetes' objects that the agent reads, with their protobuf tags and JSON names.
//!
//! Tags are those of `generated.proto` in k8s.io/api/core/v1 and k8s.io/apimachinery (a test encodes full messages and
//! decodes them here). Fields that are not listed are skipped without being built, which is most of a pod: its
//! managedFields, probes, volumes and conditions never take memory.
//!
//! Texts are [`Bytes`] that share the buffer they were read from. Protobuf requires valid UTF-8, servers have let
//! other bytes through in metadata: reading a text replaces what is invalid instead of losing the object.

use std::borrow::Cow;

use bytes::{Buf, Bytes};
use prost::Message;
use serde::Deserialize;
use serde::de::Deserializer;

/// What protobuf bodies of the API start with, before [`Unknown`].
pub(crate) const MAGIC: &[u8] = b"k8s\0";

/// `runtime.Unknown`: the envelope of every protobuf body.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Unknown {
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) raw: Bytes,
}

/// `runtime.TypeMeta`: what an envelope says it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TypeMeta {
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) kind: Bytes,
}

/// `meta/v1.ListMeta`.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListMeta {
    #[prost(bytes = "bytes", tag = "2")]
    #[serde(deserialize_with = "text")]
    pub(crate) resource_version: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    #[serde(rename = "continue", deserialize_with = "text")]
    pub(crate) continue_token: Bytes,
}

/// `meta/v1.ObjectMeta`.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ObjectMeta {
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(deserialize_with = "text")]
    pub(crate) name: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    #[serde(deserialize_with = "text")]
    pub(crate) namespace: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    #[serde(deserialize_with = "text")]
    pub(crate) uid: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    #[serde(deserialize_with = "text")]
    pub(crate) resource_version: Bytes,
    #[prost(message, repeated, tag = "11")]
    #[serde(deserialize_with = "entries")]
    pub(crate) labels: Vec<Entry>,
    #[prost(message, repeated, tag = "12")]
    #[serde(deserialize_with = "entries")]
    pub(crate) annotations: Vec<Entry>,
}

/// One entry of a map of texts, as protobuf writes it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

/// An object of any kind, its metadata alone: tells whose object does not decode.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
pub(crate) struct PartialObject {
    #[prost(message, optional, tag = "1")]
    pub(crate) metadata: Option<PartialMeta>,
}

/// Where an object is, and of which version.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PartialMeta {
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(deserialize_with = "text")]
    pub(crate) name: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    #[serde(deserialize_with = "text")]
    pub(crate) namespace: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    #[serde(deserialize_with = "text")]
    pub(crate) resource_version: Bytes,
}

/// `core/v1.Namespace`.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
pub(crate) struct Namespace {
    #[prost(message, optional, tag = "1")]
    pub(crate) metadata: Option<ObjectMeta>,
}

/// `core/v1.Node`.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    #[prost(message, optional, tag = "1")]
    pub(crate) metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "3")]
    pub(crate) status: Option<NodeStatus>,
}

/// `core/v1.NodeStatus`.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeStatus {
    #[prost(message, optional, tag = "7")]
    pub(crate) node_info: Option<NodeSystemInfo>,
}

/// `core/v1.NodeSystemInfo`.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeSystemInfo {
    #[prost(bytes = "bytes", tag = "4")]
    #[serde(deserialize_with = "text")]
    pub(crate) kernel_version: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    #[serde(deserialize_with = "text")]
    pub(crate) container_runtime_version: Bytes,
    #[prost(bytes = "bytes", tag = "7")]
    #[serde(deserialize_with = "text")]
    pub(crate) kubelet_version: Bytes,
    #[prost(bytes = "bytes", tag = "8")]
    #[serde(deserialize_with = "text")]
    pub(crate) kube_proxy_version: Bytes,
    #[prost(bytes = "bytes", tag = "9")]
    #[serde(deserialize_with = "text")]
    pub(crate) operating_system: Bytes,
    #[prost(bytes = "bytes", tag = "10")]
    #[serde(deserialize_with = "text")]
    pub(crate) architecture: Bytes,
}

/// `core/v1.Pod`.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    #[prost(message, optional, tag = "1")]
    pub(crate) metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    pub(crate) spec: Option<PodSpec>,
    #[prost(message, optional, tag = "3")]
    pub(crate) status: Option<PodStatus>,
}

/// `core/v1.PodSpec`. Ephemeral containers share the tags of [`Container`] through their one common field.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "list")]
    pub(crate) volumes: Vec<Volume>,
    #[prost(message, repeated, tag = "2")]
    #[serde(deserialize_with = "list")]
    pub(crate) containers: Vec<Container>,
    #[prost(bytes = "bytes", tag = "10")]
    #[serde(deserialize_with = "text")]
    pub(crate) node_name: Bytes,
    #[prost(message, repeated, tag = "20")]
    #[serde(deserialize_with = "list")]
    pub(crate) init_containers: Vec<Container>,
    #[prost(message, repeated, tag = "34")]
    #[serde(deserialize_with = "list")]
    pub(crate) ephemeral_containers: Vec<EphemeralContainer>,
}

/// `core/v1.Container`.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
pub(crate) struct Container {
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(deserialize_with = "text")]
    pub(crate) name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    #[serde(deserialize_with = "text")]
    pub(crate) image: Bytes,
}

/// `core/v1.EphemeralContainer`: protobuf nests the common fields, JSON inlines them.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(from = "Container")]
pub(crate) struct EphemeralContainer {
    #[prost(message, optional, tag = "1")]
    pub(crate) common: Option<Container>,
}

/// `core/v1.Volume`: protobuf nests the source, JSON inlines it.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(from = "VolumeSource")]
pub(crate) struct Volume {
    #[prost(message, optional, tag = "2")]
    pub(crate) source: Option<VolumeSource>,
}

/// `core/v1.VolumeSource`.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
pub(crate) struct VolumeSource {
    #[prost(message, optional, tag = "30")]
    pub(crate) image: Option<ImageVolumeSource>,
}

/// `core/v1.ImageVolumeSource` (KEP-4639).
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
pub(crate) struct ImageVolumeSource {
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(deserialize_with = "text")]
    pub(crate) reference: Bytes,
}

/// `core/v1.PodStatus`.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(deserialize_with = "text")]
    pub(crate) phase: Bytes,
    #[prost(message, repeated, tag = "8")]
    #[serde(deserialize_with = "list")]
    pub(crate) container_statuses: Vec<ContainerStatus>,
    #[prost(message, repeated, tag = "10")]
    #[serde(deserialize_with = "list")]
    pub(crate) init_container_statuses: Vec<ContainerStatus>,
    #[prost(message, repeated, tag = "13")]
    #[serde(deserialize_with = "list")]
    pub(crate) ephemeral_container_statuses: Vec<ContainerStatus>,
}

/// `core/v1.ContainerStatus`.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerStatus {
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(deserialize_with = "text")]
    pub(crate) name: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    #[serde(deserialize_with = "text")]
    pub(crate) image: Bytes,
    #[prost(bytes = "bytes", tag = "7")]
    #[serde(rename = "imageID", deserialize_with = "text")]
    pub(crate) image_id: Bytes,
    #[prost(bytes = "bytes", tag = "8")]
    #[serde(rename = "containerID", deserialize_with = "text")]
    pub(crate) container_id: Bytes,
}

/// `meta/v1.Status`: why a request failed.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    #[prost(bytes = "bytes", tag = "3")]
    #[serde(deserialize_with = "text")]
    pub(crate) message: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    #[serde(deserialize_with = "text")]
    pub(crate) reason: Bytes,
    #[prost(int32, tag = "6")]
    pub(crate) code: i32,
}

/// `meta/v1.WatchEvent`, in protobuf.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WatchEvent {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) kind: Bytes,
    #[prost(message, optional, tag = "2")]
    pub(crate) object: Option<RawExtension>,
}

/// `runtime.RawExtension`: an object as a body of its own.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RawExtension {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) raw: Bytes,
}

/// An object the API server sends, in either encoding.
pub(crate) trait Wire: Message + Default + for<'de> Deserialize<'de> {}

impl<T: Message + Default + for<'de> Deserialize<'de>> Wire for T {}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

/// Bytes that are not the object they were taken for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// Not protobuf, or of other types than the tags say.
    #[error("it is not valid protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// Not JSON, or of other types than the fields say.
    #[error("it is not valid JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A protobuf body that does not start as the API's bodies do.
    #[error("it does not start with the four bytes of a Kubernetes protobuf body")]
    NoMagic,
}

/// Decodes one object of a list.
pub(crate) fn decode_item<T: Wire>(item: Bytes, encoding: Encoding) -> Result<T, WireError> {
    match encoding {
        Encoding::Protobuf => Ok(T::decode(item)?),
        Encoding::Json => Ok(serde_json::from_slice(&item)?),
    }
}

/// Decodes a body that is one object.
pub(crate) fn decode_body<T: Wire>(mut body: Bytes, encoding: Encoding) -> Result<T, WireError> {
    match encoding {
        Encoding::Protobuf if !body.starts_with(MAGIC) => return Err(WireError::NoMagic),
        Encoding::Protobuf => {
            body.advance(MAGIC.len());
            body = Unknown::decode(body)?.raw;
        }
        Encoding::Json => body = valid_text(body),
    }
    decode_item(body, encoding)
}

/// A JSON body with U+FFFD for what is not UTF-8: JSON has no place but texts where that could be.
pub(crate) fn valid_text(body: Bytes) -> Bytes {
    match String::from_utf8_lossy(&body) {
        Cow::Borrowed(_) => body,
        Cow::Owned(text) => text.into(),
    }
}

/// The text of a field, with U+FFFD for what is not UTF-8.
pub(crate) fn as_text(bytes: &Bytes) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

impl From<Container> for EphemeralContainer {
    fn from(common: Container) -> Self {
        Self { common: Some(common) }
    }
}

impl From<VolumeSource> for Volume {
    fn from(source: VolumeSource) -> Self {
        Self { source: Some(source) }
    }
}

/// A JSON text or null.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Bytes::from).unwrap_or_default())
}

/// A JSON array or null.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

/// A JSON object of texts, or null.
fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Entry>, D::Error> {
    let map = Option::<std::collections::BTreeMap<String, Option<String>>>::deserialize(deserializer)?;
    let entry = |(key, value): (String, Option<String>)| Entry {
        key: Bytes::from(key),
        value: Bytes::from(value.unwrap_or_default()),
    };
    Ok(map.unwrap_or_default().into_iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    use k8s_pb::api::core::v1 as full;
    use k8s_pb::apimachinery::pkg::apis::meta::v1 as full_meta;
    use pretty_assertions::assert_eq;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "every field of a full message is optional")]
    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn full_meta(name: &str, namespace: Option<&str>) -> full_meta::ObjectMeta {
        full_meta::ObjectMeta {
            name: some(name),
            generate_name: some("noise-"),
            namespace: namespace.map(str::to_owned),
            uid: some("5b0f6c0e-0d61-4a52-9a51-2c9a3a2f1103"),
            resource_version: some("12"),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            annotations: [("note".to_owned(), "x".to_owned())].into(),
            managed_fields: vec![full_meta::ManagedFieldsEntry { manager: some("kubelet"), ..Default::default() }],
            ..Default::default()
        }
    }

    fn full_container(name: &str, image: &str) -> full::Container {
        full::Container { name: some(name), image: some(image), working_dir: some("/"), ..Default::default() }
    }

    fn full_status(name: &str) -> full::ContainerStatus {
        full::ContainerStatus {
            name: some(name),
            ready: Some(true),
            restart_count: Some(3),
            image: some(&format!("{name}:status")),
            image_id: some(&format!("{name}@sha256:id")),
            container_id: some(&format!("containerd://{name}")),
            ..Default::default()
        }
    }

    fn full_pod() -> full::Pod {
        let image = full::ImageVolumeSource { reference: some("models/llm:1"), pull_policy: some("Always") };
        let source = full::VolumeSource { image: Some(image), ..Default::default() };
        let common =
            full::EphemeralContainerCommon { name: some("debug"), image: some("busybox"), ..Default::default() };
        full::Pod {
            metadata: Some(full_meta("web-0", Some("shop"))),
            spec: Some(full::PodSpec {
                volumes: vec![full::Volume { name: some("model"), volume_source: Some(source) }],
                containers: vec![full_container("web", "nginx:1")],
                init_containers: vec![full_container("setup", "setup:2")],
                ephemeral_containers: vec![full::EphemeralContainer {
                    ephemeral_container_common: Some(common),
                    target_container_name: some("web"),
                }],
                node_name: some("n1"),
                service_account_name: some("default"),
                ..Default::default()
            }),
            status: Some(full::PodStatus {
                phase: some("Running"),
                message: some("noise"),
                container_statuses: vec![full_status("web")],
                init_container_statuses: vec![full_status("setup")],
                ephemeral_container_statuses: vec![full_status("debug")],
                ..Default::default()
            }),
        }
    }

    fn status_json(name: &str) -> serde_json::Value {
        serde_json::json!({
            "name": name, "ready": true, "restartCount": 3, "image": format!("{name}:status"),
            "imageID": format!("{name}@sha256:id"), "containerID": format!("containerd://{name}"),
        })
    }

    fn meta_json(name: &str, namespace: Option<&str>) -> serde_json::Value {
        serde_json::json!({
            "name": name, "generateName": "noise-", "namespace": namespace, "resourceVersion": "12",
            "uid": "5b0f6c0e-0d61-4a52-9a51-2c9a3a2f1103", "labels": {"app": "web"}, "annotations": {"note": "x"},
            "managedFields": [{"manager": "kubelet"}], "ownerReferences": null,
        })
    }

    fn json<T: Wire>(value: &serde_json::Value) -> T {
        decode_item(value.to_string().into(), Encoding::Json).expect("decodes")
    }

    fn protobuf<T: Wire>(message: &impl Message) -> T {
        decode_item(message.encode_to_vec().into(), Encoding::Protobuf).expect("decodes")
    }

    #[test]
    fn a_pod_reads_the_same_from_full_protobuf_and_json() {
        let from_json: Pod = json(&serde_json::json!({
            "metadata": meta_json("web-0", Some("shop")),
            "spec": {
                "volumes": [{"name": "model", "image": {"reference": "models/llm:1", "pullPolicy": "Always"}}],
                "containers": [{"name": "web", "image": "nginx:1", "workingDir": "/"}],
                "initContainers": [{"name": "setup", "image": "setup:2", "env": null}],
                "ephemeralContainers": [{"name": "debug", "image": "busybox", "targetContainerName": "web"}],
                "nodeName": "n1", "serviceAccountName": "default",
            },
            "status": {
                "phase": "Running", "message": "noise", "containerStatuses": [status_json("web")],
                "initContainerStatuses": [status_json("setup")], "ephemeralContainerStatuses": [status_json("debug")],
            },
        }));
        assert_eq!(protobuf::<Pod>(&full_pod()), from_json);
        assert_eq!(from_json.spec.map(|spec| spec.node_name), Some("n1".into()));
    }

    #[test]
    fn nodes_and_namespaces_read_the_same_from_full_protobuf_and_json() {
        let info = full::NodeSystemInfo {
            machine_id: some("noise"),
            kernel_version: some("6.1"),
            os_image: some("noise"),
            container_runtime_version: some("containerd://2"),
            kubelet_version: some("v1.37.2"),
            kube_proxy_version: some("v1.37.1"),
            operating_system: some("linux"),
            architecture: some("arm64"),
            ..Default::default()
        };
        let node = full::Node {
            metadata: Some(full_meta("n1", None)),
            status: Some(full::NodeStatus { node_info: Some(info), phase: some("noise"), ..Default::default() }),
            ..Default::default()
        };
        let node_json = serde_json::json!({
            "metadata": meta_json("n1", None),
            "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {"capacity": {"cpu": "2"}, "nodeInfo": {
                "machineID": "noise", "kernelVersion": "6.1", "containerRuntimeVersion": "containerd://2",
                "kubeletVersion": "v1.37.2", "kubeProxyVersion": "v1.37.1", "operatingSystem": "linux",
                "architecture": "arm64",
            }},
        });
        assert_eq!(protobuf::<Node>(&node), json(&node_json));

        let namespace = full::Namespace { metadata: Some(full_meta("shop", None)), ..Default::default() };
        let namespace_json = serde_json::json!({"metadata": meta_json("shop", None), "status": {"phase": "Active"}});
        assert_eq!(protobuf::<Namespace>(&namespace), json(&namespace_json));
    }

    #[test]
    fn a_status_is_read_from_its_envelope() {
        let status = full_meta::Status {
            status: some("Failure"),
            message: some("pods is forbidden"),
            reason: some("Forbidden"),
            code: Some(403),
            ..Default::default()
        };
        let body = [MAGIC, &Unknown { raw: status.encode_to_vec().into() }.encode_to_vec()].concat();
        let read: Status = decode_body(body.into(), Encoding::Protobuf).expect("decodes");
        assert_eq!(as_text(&read.message), "pods is forbidden");
        let wrong = decode_body::<Status>(Bytes::from_static(b"<html>"), Encoding::Protobuf);
        assert!(matches!(wrong, Err(WireError::NoMagic)));
    }

    #[test]
    fn bytes_that_are_no_text_cost_no_object() {
        let body = Bytes::from_static(b"{\"metadata\": {\"name\": \"a\xffb\"}}");
        let read: Pod = decode_body(body, Encoding::Json).expect("decodes");
        assert_eq!(as_text(&read.metadata.expect("kept").name), "a\u{fffd}b");
        let meta = ObjectMeta { name: Bytes::from_static(b"a\xffb"), ..ObjectMeta::default() };
        let pod = Pod { metadata: Some(meta), ..Pod::default() };
        let read: Pod = protobuf(&pod);
        assert_eq!(as_text(&read.metadata.expect("kept").name), "a\u{fffd}b");
    }
}
