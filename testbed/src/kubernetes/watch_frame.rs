//! The events of a watch, as they are written.
//!
//! In protobuf each is preceded by its length, four bytes, the highest first, and the object inside has an envelope while
//! the event has none; in JSON each is a line.

use bytes::{BufMut, BytesMut};
use k8s_pb::api::core::v1 as core;
use k8s_pb::apimachinery::pkg::apis::meta::v1::{ObjectMeta, WatchEvent};
use k8s_pb::apimachinery::pkg::runtime::RawExtension;
use prost::Message as _;
use serde_json::{Value, json};

use super::encoding::{Encoding, protobuf_document};
use super::history::EventType;
use super::json_object;
use super::state::Message;
use super::status::Failure;
use crate::objects::{Kind, Object};

/// How the events of one watch are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frames {
    pub(crate) encoding: Encoding,
    pub(crate) kind: Kind,
}

impl Frames {
    pub(crate) fn write(self, message: &Message, out: &mut BytesMut) {
        match message {
            Message::Change(change) => self.object(change.event.name(), &change.object, out),
            Message::Bookmark(version) => self.object("BOOKMARK", &bookmark(self.kind, *version), out),
            Message::Error(failure) => self.error(failure, out),
        }
    }

    /// An object that was there before the watch.
    pub(crate) fn initial(self, object: &Object, out: &mut BytesMut) {
        self.object(EventType::Added.name(), object, out);
    }

    fn object(self, event_type: &str, object: &Object, out: &mut BytesMut) {
        let bytes = object.to_bytes();
        let (api_version, kind) = (self.kind.api_version(), self.kind.singular());
        match self.encoding {
            Encoding::Protobuf => protobuf_frame(event_type, &protobuf_document((&api_version, kind), &bytes), out),
            Encoding::Json => json_frame(event_type, &json_object::document(self.kind, &bytes), out),
        }
    }

    fn error(self, failure: &Failure, out: &mut BytesMut) {
        match self.encoding {
            Encoding::Protobuf => {
                let status = failure.message().encode_to_vec();
                protobuf_frame("ERROR", &protobuf_document(("v1", "Status"), &status), out);
            }
            Encoding::Json => json_frame("ERROR", &failure.json(), out),
        }
    }
}

fn protobuf_frame(event_type: &str, raw: &[u8], out: &mut BytesMut) {
    let object = RawExtension { raw: Some(raw.to_vec()) };
    let event = WatchEvent { r#type: Some(event_type.to_owned()), object: Some(object) }.encode_to_vec();
    // No object is as long as 4 GiB.
    out.put_u32(u32::try_from(event.len()).unwrap_or(u32::MAX));
    out.put_slice(&event);
}

fn json_frame(event_type: &str, object: &Value, out: &mut BytesMut) {
    out.put_slice(json!({"type": event_type, "object": object}).to_string().as_bytes());
    out.put_u8(b'\n');
}

/// An object of this kind with nothing in it but a resource version.
fn bookmark(kind: Kind, version: u64) -> Object {
    let metadata = Some(ObjectMeta {
        name: Some(String::new()),
        namespace: Some(String::new()),
        resource_version: Some(version.to_string()),
        ..ObjectMeta::default()
    });
    match kind {
        Kind::Pods => {
            let (spec, status) = (Some(core::PodSpec::default()), Some(core::PodStatus::default()));
            Object::new("", "", &core::Pod { metadata, spec, status })
        }
        Kind::Nodes => {
            let (spec, status) = (Some(core::NodeSpec::default()), Some(core::NodeStatus::default()));
            Object::new("", "", &core::Node { metadata, spec, status })
        }
        // For the kinds that are watched here alone this is the message itself; the metadata is the first of every other.
        Kind::Namespaces | Kind::ReplicaSets | Kind::Deployments | Kind::Leases => {
            let (spec, status) = (Some(core::NamespaceSpec::default()), Some(core::NamespaceStatus::default()));
            Object::new("", "", &core::Namespace { metadata, spec, status })
        }
    }
}
