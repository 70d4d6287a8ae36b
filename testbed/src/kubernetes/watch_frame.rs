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
            Message::Bookmark(version) => self.bookmark(*version, out),
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

    fn bookmark(self, version: u64, out: &mut BytesMut) {
        let (api_version, kind) = (self.kind.api_version(), self.kind.singular());
        match self.encoding {
            Encoding::Protobuf => {
                let object = empty_object(version).encode_to_vec();
                protobuf_frame("BOOKMARK", &protobuf_document((&api_version, kind), &object), out);
            }
            Encoding::Json => {
                // What is never left out of a pod is null here.
                let spec = if self.kind == Kind::Pods { json!({"containers": null}) } else { json!({}) };
                let metadata = json!({"resourceVersion": version.to_string()});
                let object = json!({
                    "kind": kind, "apiVersion": api_version, "metadata": metadata, "spec": spec, "status": {},
                });
                json_frame("BOOKMARK", &object, out);
            }
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

/// An object with nothing in it but a resource version. Pods, namespaces and nodes are alike as far as it goes.
fn empty_object(version: u64) -> core::Pod {
    let metadata = ObjectMeta {
        name: Some(String::new()),
        namespace: Some(String::new()),
        resource_version: Some(version.to_string()),
        ..ObjectMeta::default()
    };
    core::Pod { metadata: Some(metadata), spec: None, status: None }
}
