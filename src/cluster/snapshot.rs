//! What a cluster runs at one instant, as facts: nothing is resolved, filtered by the report's rules or counted here.
//!
//! Sized for 150,000 pods: texts are interned, ids are kept as bytes, and there is no per-object map. A pod costs about
//! 300 bytes beside its own name, labels and annotations.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::strings::{Strings, Symbol, Texts};

/// The objects of a cluster at one instant, restricted to the selected namespaces.
#[derive(Debug)]
pub struct ClusterSnapshot {
    /// When the list of pods began.
    pub taken_at: Timestamp,
    /// The API server's answer to `/version`, as it said it; `None` when it could not be read.
    pub server_version: Option<serde_json::Map<String, serde_json::Value>>,
    /// The texts behind all symbols below.
    pub strings: Texts,
    /// The distinct image facts that [`Container::image`] points into.
    pub images: Vec<ImageFacts>,
    /// By name, each name and uid once. Namespaces that could not be read are not among them. One that was deleted and
    /// created again may be there twice, with symbols of its own for its name, while pods of the former one are reported.
    pub namespaces: Vec<Namespace>,
    /// By name. Empty when nodes could not be read.
    pub nodes: Vec<Node>,
    /// By namespace, name and uid, each once; all of namespaces in `namespaces`.
    pub pods: Vec<Arc<Pod>>,
    /// Namespaces that were selected and could not be read: they must not be reported.
    pub unreadable: Vec<Unreadable>,
    /// How the list of nodes ended.
    pub node_access: NodeAccess,
}

/// A namespace that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its name.
    pub namespace: String,
    /// Why, in one sentence that says what to do.
    pub reason: String,
}

/// How the list of nodes ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeAccess {
    /// Read.
    Read,
    /// Not allowed: a supported way to run.
    Forbidden,
    /// Failed after retries, for this reason.
    Failed(String),
}

/// Labels or annotations, by key, each key once.
pub type Metadata = Box<[(Symbol, Symbol)]>;

/// A namespace.
#[derive(Debug, Clone)]
pub struct Namespace {
    /// Its name.
    pub name: Symbol,
    /// Its uid; `None` when missing or not a UUID.
    pub uid: Option<Uid>,
    /// Reported labels.
    pub labels: Metadata,
    /// Reported annotations.
    pub annotations: Metadata,
    /// The value of the label that routes namespaces to accounts, read before labels were filtered.
    pub account_label: Option<Symbol>,
}

/// A node. Texts that the node does not state are empty.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name.
    pub name: Symbol,
    /// Its uid; `None` when missing or not a UUID.
    pub uid: Option<Uid>,
    /// Reported labels.
    pub labels: Metadata,
    /// Reported annotations.
    pub annotations: Metadata,
    /// `status.nodeInfo.architecture`.
    pub arch: Symbol,
    /// `status.nodeInfo.containerRuntimeVersion`.
    pub container_runtime_version: Symbol,
    /// `status.nodeInfo.kernelVersion`.
    pub kernel_version: Symbol,
    /// `status.nodeInfo.kubeProxyVersion`.
    pub kube_proxy_version: Symbol,
    /// `status.nodeInfo.kubeletVersion`.
    pub kubelet_version: Symbol,
    /// `status.nodeInfo.operatingSystem`.
    pub operating_system: Symbol,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Name of its namespace.
    pub namespace: Symbol,
    /// Its name.
    pub name: Symbol,
    /// Its uid; `None` when missing or not a UUID.
    pub uid: Option<Uid>,
    /// Name of the node it is bound to.
    pub node: Option<Symbol>,
    /// Whether `status.phase` is `Running`.
    pub running: bool,
    /// Reported labels.
    pub labels: Metadata,
    /// Reported annotations.
    pub annotations: Metadata,
    /// Init, regular, then ephemeral containers, each kind in the order of the spec; those that only the status knows
    /// are last of their kind.
    pub containers: Box<[Container]>,
    /// References of image volumes, as in the spec.
    pub image_volumes: Box<[Symbol]>,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: Symbol,
    /// Index into [`ClusterSnapshot::images`].
    pub image: u32,
    /// `containerID` of the status; `None` while it waits.
    pub id: Option<ContainerId>,
}

/// What spec and status say of a container's image, each empty when not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImageFacts {
    /// `image` in the spec; `None` when the spec has no such container.
    pub spec: Option<Symbol>,
    /// `image` in the status.
    pub status: Symbol,
    /// `imageID` in the status.
    pub image_id: Symbol,
}

/// A container's id, `<runtime>://<id>`. Ids of all known runtimes are 64 hex digits, which are kept as 32 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ContainerId {
    /// `prefix` and 64 lower-case hex digits.
    Hex {
        /// All before the digits, `://` included.
        prefix: Symbol,
        /// The digits.
        bytes: [u8; 32],
    },
    /// Anything else.
    Other(Symbol),
}

/// A uid that fits Anchore's rule: 36 characters, lower-case hexadecimal 8-4-4-4-12 (upper case is lowered).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(Uuid);

impl ClusterSnapshot {
    /// Puts everything in its fixed order, each object once, and takes out what belongs to unreadable namespaces.
    pub(crate) fn in_order(mut self) -> Self {
        let strings = &self.strings;
        let mut reasons = BTreeMap::new();
        for one in std::mem::take(&mut self.unreadable) {
            reasons.entry(one.namespace).or_insert(one.reason);
        }
        let is_unreadable = |namespace: Symbol| reasons.contains_key(strings.get(namespace));
        sort_unique(&mut self.namespaces, |namespace| (strings.get(namespace.name), namespace.name, namespace.uid));
        self.namespaces.retain(|namespace| !is_unreadable(namespace.name));
        sort_unique(&mut self.nodes, |node| strings.get(node.name));
        sort_unique(&mut self.pods, |pod| (strings.get(pod.namespace), pod.namespace, strings.get(pod.name), pod.uid));
        let unreadable: HashSet<Symbol> =
            self.pods.iter().map(|pod| pod.namespace).filter(|namespace| is_unreadable(*namespace)).collect();
        self.pods.retain(|pod| !unreadable.contains(&pod.namespace));
        self.unreadable = reasons.into_iter().map(|(namespace, reason)| Unreadable { namespace, reason }).collect();
        self
    }
}

impl ContainerId {
    /// Keeps `text`; `None` for an empty one.
    pub fn new(text: &str, strings: &mut Strings) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let digits = text.len().checked_sub(64).and_then(|start| text.split_at_checked(start));
        if let Some((prefix, digits)) = digits
            && let Some(bytes) = decode_hex(digits)
        {
            return Some(Self::Hex { prefix: strings.intern(prefix), bytes });
        }
        Some(Self::Other(strings.intern(text)))
    }

    /// Writes the id as the status had it.
    pub fn write(&self, strings: &Texts, out: &mut String) {
        match self {
            Self::Hex { prefix, bytes } => {
                out.push_str(strings.get(*prefix));
                for byte in bytes {
                    for digit in [byte >> 4, byte & 15] {
                        out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
                    }
                }
            }
            Self::Other(text) => out.push_str(strings.get(*text)),
        }
    }
}

impl Uid {
    /// Parses the hyphenated form, in either case; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        // The uuid crate also reads braces, URNs and bare hex, which Anchore refuses.
        let hyphenated = text.len() == 36;
        hyphenated.then(|| Uuid::try_parse(text).ok()).flatten().map(Self)
    }
}

impl std::fmt::Display for Uid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl serde::Serialize for Uid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }
}

/// Sorts by key and keeps the first of equals. Servers send lists in order, so this mostly only looks.
fn sort_unique<T, K: Ord>(items: &mut Vec<T>, key: impl Fn(&T) -> K) {
    if !items.is_sorted_by(|a, b| key(a) <= key(b)) {
        items.sort_by_key(&key);
    }
    items.dedup_by(|b, a| key(a) == key(b));
    items.shrink_to_fit();
}

fn decode_hex(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let pairs = digits.as_bytes().chunks_exact(2);
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = hex_value(pair[0])? << 4 | hex_value(pair[1])?;
    }
    Some(bytes)
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_come_back_as_they_were() {
        let hex = "0123456789abcdef".repeat(4);
        for id in [
            format!("containerd://{hex}"),
            format!("cri-o://{hex}"),
            hex.clone(),
            format!("docker://{}", hex.to_uppercase()),
            "odd".to_owned(),
            "ünïcode-éééééééééééééééééééééééééééééééééééééééééééééééééééé".to_owned(),
        ] {
            let mut strings = Strings::default();
            let kept = ContainerId::new(&id, &mut strings).expect("not empty");
            let mut written = String::new();
            kept.write(strings.texts(), &mut written);
            assert_eq!(written, id);
        }
        assert_eq!(ContainerId::new("", &mut Strings::default()), None);
    }

    #[test]
    fn uids_follow_the_servers_rule() {
        let lower = "5b0f6c0e-0d61-4a52-9a51-2c9a3a2f1101";
        assert_eq!(Uid::parse(lower).expect("valid").to_string(), lower);
        assert_eq!(Uid::parse(&lower.to_uppercase()).expect("valid").to_string(), lower);
        for wrong in ["", "5b0f6c0e0d614a529a512c9a3a2f1101", "{5b0f6c0e-0d61-4a52-9a51-2c9a3a2f11}", &lower[1..]] {
            assert_eq!(Uid::parse(wrong), None, "{wrong}");
        }
    }
}
