//! The resource version inside an encoded object: field 6 of its metadata, which is its first field.
//!
//! Read and exchanged in place, so that nothing of the object has to be decoded and what objects share stays shared.

use std::ops::Range;

use bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

use super::{length_of_length, put_length};

/// Key of `metadata` in every object, of length-delimited wire type.
const METADATA: u8 = 0x0a;

/// Key of `resourceVersion` in `ObjectMeta`.
const RESOURCE_VERSION: u8 = 0x32;

/// Where the parts are, as positions in the object's own bytes.
struct Metadata {
    content: Range<usize>,
    /// The whole field with its key; empty, and where it belongs, when there is none.
    version: Range<usize>,
}

/// The resource version; `None` when there is none that is a number. `shared` bytes follow the metadata in `bytes`.
pub(super) fn read(bytes: &[u8], shared: usize) -> Option<u64> {
    let mut field = bytes.get(Metadata::find(bytes, shared)?.version)?.get(1..)?;
    let length = prost::decode_length_delimiter(&mut field).ok()?;
    std::str::from_utf8(field.get(..length)?).ok()?.parse().ok()
}

/// The same object with another resource version, and where its metadata ends; `None` when it has no metadata.
pub(super) fn exchanged(bytes: &[u8], shared: usize, version: u64) -> Option<(Vec<u8>, usize)> {
    let Metadata { content, version: old } = Metadata::find(bytes, shared)?;
    let digits = version.to_string();
    let mut field = vec![RESOURCE_VERSION];
    put_length(digits.len(), &mut field);
    field.put_slice(digits.as_bytes());

    let length = content.len() - old.len() + field.len() + shared;
    let mut out = Vec::with_capacity(1 + length_of_length(length) + length + bytes.len() - content.end);
    out.put_u8(METADATA);
    put_length(length, &mut out);
    out.put_slice(bytes.get(content.start..old.start)?);
    out.put_slice(&field);
    out.put_slice(bytes.get(old.end..content.end)?);
    let end = out.len();
    out.put_slice(bytes.get(content.end..)?);
    Some((out, end))
}

impl Metadata {
    fn find(bytes: &[u8], shared: usize) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[METADATA])?;
        let length = prost::decode_length_delimiter(&mut rest).ok()?.checked_sub(shared)?;
        let start = bytes.len() - rest.len();
        let content = start..start + length;
        let mut fields = bytes.get(content.clone())?;
        while !fields.is_empty() {
            let at = content.end - fields.remaining();
            let (number, wire_type) = decode_key(&mut fields).ok()?;
            if number > 6 {
                return Some(Self { content, version: at..at });
            }
            skip_field(wire_type, number, &mut fields, DecodeContext::default()).ok()?;
            if number == 6 && wire_type == WireType::LengthDelimited {
                let end = content.end - fields.remaining();
                return Some(Self { content, version: at..end });
            }
        }
        let end = content.end;
        Some(Self { content, version: end..end })
    }
}

#[cfg(test)]
mod tests {
    use k8s_pb::api::core::v1::Pod;
    use pretty_assertions::assert_eq;
    use prost::Message;

    use crate::cluster::pod::Pod as SmallPod;
    use crate::fleet::Fleet;
    use crate::objects::{Kind, Object};

    fn pods() -> Vec<Object> {
        let fleet = Fleet { pods: 60, namespaces: 4, nodes: 3, accounts: Vec::new(), seed: 5 };
        let small = SmallPod::running("web-0").image("nginx").message("shop", None);
        let mut unversioned = small.clone();
        unversioned.metadata.as_mut().expect("metadata").resource_version = None;
        let mut bare = unversioned.clone();
        let meta = bare.metadata.as_mut().expect("metadata");
        (meta.generation, meta.creation_timestamp) = (None, None);
        let others = [small, unversioned, bare].map(|pod| Object::new("shop", "web-0", &pod));
        fleet.objects().of(Kind::Pods).iter().cloned().chain(others).collect()
    }

    #[test]
    fn nothing_but_the_version_of_an_object_is_exchanged() {
        for object in pods() {
            let before = Pod::decode(object.to_bytes()).expect("a pod");
            let written = before.metadata.as_ref().and_then(|meta| meta.resource_version.as_deref()?.parse().ok());
            assert_eq!(object.version(), written);
            for version in [0, 9, 1_000_007, u64::MAX] {
                let exchanged = object.with_version(version);
                let mut expected = before.clone();
                expected.metadata.as_mut().expect("metadata").resource_version = Some(version.to_string());
                assert_eq!(Pod::decode(exchanged.to_bytes()).expect("a pod"), expected);
                assert_eq!(exchanged.to_bytes(), expected.encode_to_vec(), "as its own encoder writes it");
                assert_eq!((exchanged.version(), exchanged.len()), (Some(version), exchanged.to_bytes().len()));
                assert!(exchanged.same_but_version(&object.with_version(3)));
                assert!(!exchanged.same_but_version(&Object::from_bytes("shop", "web-0", vec![])));
            }
        }
    }

    #[test]
    fn what_is_damaged_stays_as_it_is() {
        let whole = pods().pop().expect("a pod").to_bytes();
        for length in 0..whole.len() {
            let damaged = Object::from_bytes("shop", "web-0", whole.slice(..length));
            let exchanged = damaged.with_version(7);
            assert!(exchanged == damaged || exchanged.version() == Some(7), "{length}");
        }
    }
}
