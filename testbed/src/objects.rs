//! The objects of a cluster as etcd holds them: encoded, in the order of their keys.
//!
//! Sized for 150,000 pods of 10 kB: bytes that many objects have in common are kept once.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use k8s_pb::apimachinery::pkg::runtime::TypeMeta;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

/// What kinds of objects there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Namespaces.
    Namespaces,
    /// Nodes.
    Nodes,
    /// Pods.
    Pods,
}

/// The objects of a cluster at one instant.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    kinds: BTreeMap<Kind, Vec<Object>>,
}

/// An encoded object.
#[derive(Debug, Clone)]
pub struct Object {
    /// Empty for objects of the cluster itself.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    bytes: Bytes,
    /// Where in `bytes` these belong, which are shared with other objects.
    shared: Option<(usize, Bytes)>,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Namespaces, Self::Nodes, Self::Pods];

    /// The name in paths and messages, `pods`.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Nodes => "nodes",
            Self::Pods => "pods",
        }
    }

    /// The name of one, `Pod`.
    pub fn singular(self) -> &'static str {
        match self {
            Self::Namespaces => "Namespace",
            Self::Nodes => "Node",
            Self::Pods => "Pod",
        }
    }

    /// The folder in etcd.
    fn folder(self) -> &'static str {
        match self {
            // Nodes have kept the name that they had before there was a v1.
            Self::Nodes => "minions",
            other => other.resource(),
        }
    }
}

impl Objects {
    /// Puts objects into the order of their keys.
    pub fn new(objects: impl IntoIterator<Item = (Kind, Object)>) -> Self {
        let mut kinds = BTreeMap::<Kind, Vec<Object>>::new();
        for (kind, object) in objects {
            kinds.entry(kind).or_default().push(object);
        }
        for objects in kinds.values_mut() {
            objects.sort_by_cached_key(Object::key);
        }
        Self { kinds }
    }

    /// The objects of a kind, by key.
    pub fn of(&self, kind: Kind) -> &[Object] {
        self.kinds.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// Keys and values as a real API server would have written them into etcd.
    pub fn etcd(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        let all = self.kinds.iter().flat_map(|(kind, objects)| objects.iter().map(|object| (*kind, object)));
        all.map(|(kind, object)| (format!("/registry/{}/{}", kind.folder(), object.key()), enveloped(kind, object)))
    }
}

impl Object {
    /// Encodes a message.
    pub fn new(namespace: &str, name: &str, message: &impl Message) -> Self {
        Self::from_bytes(namespace, name, message.encode_to_vec())
    }

    /// Takes a message that is encoded already, or something that is none.
    pub fn from_bytes(namespace: &str, name: &str, bytes: impl Into<Bytes>) -> Self {
        Self { namespace: namespace.into(), name: name.into(), bytes: bytes.into(), shared: None }
    }

    /// Encodes a message whose first field, its metadata, ends with `shared`, and keeps those bytes only once.
    pub(crate) fn sharing(namespace: &str, name: &str, message: &impl Message, shared: &Bytes) -> Self {
        let encoded = message.encode_to_vec();
        let mut rest = encoded.get(1..).unwrap_or_default();
        let metadata = prost::decode_length_delimiter(&mut rest).unwrap_or_default();
        let end = encoded.len() - rest.len() + metadata;
        let Some((before, after)) =
            encoded.split_at_checked(end).and_then(|(before, after)| Some((before.strip_suffix(&shared[..])?, after)))
        else {
            return Self::from_bytes(namespace, name, encoded);
        };
        let shared = Some((before.len(), shared.clone()));
        let bytes = [before, after].concat().into();
        Self { namespace: namespace.into(), name: name.into(), bytes, shared }
    }

    /// The key below its kind's folder: `namespace/name`, or `name`.
    pub fn key(&self) -> String {
        if self.namespace.is_empty() { self.name.to_string() } else { format!("{}/{}", self.namespace, self.name) }
    }

    /// The length of its encoding.
    #[expect(clippy::len_without_is_empty, reason = "an object is not a collection")]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.shared.as_ref().map_or(0, |(_, shared)| shared.len())
    }

    /// Writes its encoding.
    pub fn write(&self, out: &mut BytesMut) {
        match &self.shared {
            None => out.put_slice(&self.bytes),
            Some((at, shared)) => {
                let (before, after) = self.bytes.split_at_checked(*at).unwrap_or((&self.bytes, &[]));
                out.put_slice(before);
                out.put_slice(shared);
                out.put_slice(after);
            }
        }
    }

    /// Its encoding.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.len());
        self.write(&mut out);
        out.freeze()
    }
}

/// The start of every protobuf document of Kubernetes.
pub(crate) const MAGIC: &[u8] = b"k8s\0";

/// All of the envelope (`runtime.Unknown`) before a document of this length.
pub(crate) fn envelope_start(kind: &str, length: usize, out: &mut BytesMut) {
    let type_meta = TypeMeta { api_version: Some("v1".to_owned()), kind: Some(kind.to_owned()) };
    out.put_slice(MAGIC);
    out.put_u8(0x0a);
    put_length(type_meta.encoded_len(), out);
    out.put_slice(&type_meta.encode_to_vec());
    out.put_u8(0x12);
    put_length(length, out);
}

/// All of the envelope after the document: content encoding and content type, both empty.
pub(crate) const ENVELOPE_END: &[u8] = &[0x1a, 0, 0x22, 0];

/// Writes the length of what follows.
pub(crate) fn put_length(length: usize, out: &mut BytesMut) {
    encode_varint(length as u64, out);
}

/// How many bytes [`put_length`] writes.
pub(crate) fn length_of_length(length: usize) -> usize {
    encoded_len_varint(length as u64)
}

fn enveloped(kind: Kind, object: &Object) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(object.len() + 64);
    envelope_start(kind.singular(), object.len(), &mut out);
    object.write(&mut out);
    out.put_slice(ENVELOPE_END);
    out.into()
}
