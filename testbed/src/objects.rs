//! The objects of a cluster as etcd holds them: encoded, in the order of their keys.
//!
//! Sized for 150,000 pods of 10 kB: bytes that many objects have in common are kept once.

mod version;

use std::collections::BTreeMap;
use std::ops::Range;

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
    /// Replica sets.
    ReplicaSets,
    /// Deployments.
    Deployments,
    /// Leases, which are not among [`Objects`].
    Leases,
}

/// The objects of a cluster at one instant.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    kinds: BTreeMap<Kind, Vec<Object>>,
}

/// An encoded object.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The kinds of the core API, which an inventory is made of.
    pub const CORE: [Self; 3] = [Self::Namespaces, Self::Nodes, Self::Pods];

    /// The name in paths and messages, `pods`.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Nodes => "nodes",
            Self::Pods => "pods",
            Self::ReplicaSets => "replicasets",
            Self::Deployments => "deployments",
            Self::Leases => "leases",
        }
    }

    /// The name of one, `Pod`.
    pub fn singular(self) -> &'static str {
        match self {
            Self::Namespaces => "Namespace",
            Self::Nodes => "Node",
            Self::Pods => "Pod",
            Self::ReplicaSets => "ReplicaSet",
            Self::Deployments => "Deployment",
            Self::Leases => "Lease",
        }
    }

    /// The API group, empty for the core's.
    pub fn group(self) -> &'static str {
        match self {
            Self::Namespaces | Self::Nodes | Self::Pods => "",
            Self::ReplicaSets | Self::Deployments => "apps",
            Self::Leases => "coordination.k8s.io",
        }
    }

    /// Group and version as objects name them, `v1` or `apps/v1`.
    pub fn api_version(self) -> String {
        if self.group().is_empty() { "v1".to_owned() } else { format!("{}/v1", self.group()) }
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

    /// The kinds of which there are objects.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.kinds.keys().copied()
    }

    /// The objects of a kind, to be changed; not their names.
    pub(crate) fn of_mut(&mut self, kind: Kind) -> &mut [Object] {
        self.kinds.get_mut(&kind).map_or(&mut [], Vec::as_mut_slice)
    }

    /// Where the objects of a namespace are among those of a kind; an empty `namespace` is all of them.
    pub fn range(&self, kind: Kind, namespace: &str) -> Range<usize> {
        let all = self.of(kind);
        if namespace.is_empty() {
            return 0..all.len();
        }
        let start = all.partition_point(|object| object.key_bytes().lt(key_bytes(namespace, "")));
        let count = all.iter().skip(start).take_while(|object| &*object.namespace == namespace).count();
        start..start + count
    }

    /// The object of this name; an empty `namespace` for objects of the cluster itself.
    pub fn find(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Object> {
        let at = self.position(kind, namespace, name).ok()?;
        self.of(kind).get(at)
    }

    /// The highest resource version of an object.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.kinds.values().flatten().filter_map(Object::version).max()
    }

    /// Puts an object in the place of the one of its name, which is given back.
    pub(crate) fn put(&mut self, kind: Kind, object: Object) -> Option<Object> {
        let position = self.position(kind, &object.namespace, &object.name);
        let objects = self.kinds.entry(kind).or_default();
        match position {
            Ok(at) => objects.get_mut(at).map(|old| std::mem::replace(old, object)),
            Err(at) => {
                objects.insert(at, object);
                None
            }
        }
    }

    /// Takes an object out.
    pub(crate) fn remove(&mut self, kind: Kind, namespace: &str, name: &str) -> Option<Object> {
        let at = self.position(kind, namespace, name).ok()?;
        Some(self.kinds.get_mut(&kind)?.remove(at))
    }

    /// Where an object is, or where it belongs.
    fn position(&self, kind: Kind, namespace: &str, name: &str) -> Result<usize, usize> {
        let all = self.of(kind);
        let at = all.partition_point(|object| object.key_bytes().lt(key_bytes(namespace, name)));
        let found = all.get(at).is_some_and(|it| &*it.namespace == namespace && &*it.name == name);
        if found { Ok(at) } else { Err(at) }
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

    fn key_bytes(&self) -> impl Iterator<Item = u8> {
        key_bytes(&self.namespace, &self.name)
    }

    /// Its resource version; `None` when it has none that is a number.
    pub fn version(&self) -> Option<u64> {
        version::read(&self.bytes, self.shared_length())
    }

    /// The same with this resource version. What has no metadata stays as it is.
    #[must_use]
    pub fn with_version(&self, version: u64) -> Self {
        let Some((bytes, end)) = version::exchanged(&self.bytes, self.shared_length(), version) else {
            return self.clone();
        };
        let shared = self.shared.as_ref().map(|(_, shared)| (end, shared.clone()));
        Self { namespace: self.namespace.clone(), name: self.name.clone(), bytes: bytes.into(), shared }
    }

    /// Whether the two are the same but for their resource versions.
    pub(crate) fn same_but_version(&self, other: &Self) -> bool {
        self == other || self.version().is_some_and(|version| *self == other.with_version(version))
    }

    fn shared_length(&self) -> usize {
        self.shared.as_ref().map_or(0, |(_, shared)| shared.len())
    }

    /// The length of its encoding.
    #[expect(clippy::len_without_is_empty, reason = "an object is not a collection")]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.shared_length()
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
pub(crate) fn envelope_start((api_version, kind): (&str, &str), length: usize, out: &mut impl BufMut) {
    let type_meta = TypeMeta { api_version: Some(api_version.to_owned()), kind: Some(kind.to_owned()) };
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
pub(crate) fn put_length(length: usize, out: &mut impl BufMut) {
    encode_varint(length as u64, out);
}

/// How many bytes [`put_length`] writes.
pub(crate) fn length_of_length(length: usize) -> usize {
    encoded_len_varint(length as u64)
}

fn key_bytes(namespace: &str, name: &str) -> impl Iterator<Item = u8> {
    let separator = if namespace.is_empty() { "" } else { "/" };
    namespace.bytes().chain(separator.bytes()).chain(name.bytes())
}

fn enveloped(kind: Kind, object: &Object) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(object.len() + 64);
    envelope_start((&kind.api_version(), kind.singular()), object.len(), &mut out);
    object.write(&mut out);
    out.put_slice(ENVELOPE_END);
    out.into()
}
