//! Objects as the API sends them, and a snapshot as texts.

use jiff::Timestamp;
use uuid::Uuid;

use crate::cluster::snapshot::ClusterSnapshot;
use crate::cluster::watch::picture::{Picture, PictureFacts};
use crate::cluster::watch::store::{Store, StoreRules};
use crate::cluster::wire;
use crate::config::metadata::MetadataCollection;
use crate::config::selectors::NamespaceSelectors;

/// A pod that is sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodState {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: u64,
    pub(super) phase: &'static str,
    pub(super) label: String,
    /// Name, image and id of each.
    pub(super) containers: Vec<(String, String, String)>,
}

/// A pod that is reported: namespace and its uid, name, uid, whether it runs, containers as `id image`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeenPod {
    pub(super) namespace: String,
    pub(super) namespace_uid: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) running: bool,
    pub(super) containers: Vec<String>,
}

impl PodState {
    /// A pod that runs one container.
    pub(super) fn running(namespace: &str, name: &str, uid: u64, image: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid,
            phase: "Running",
            label: String::new(),
            containers: vec![("main".to_owned(), image.to_owned(), format!("containerd://{uid}-{image}"))],
        }
    }

    pub(super) fn finished(&self) -> Self {
        Self { phase: "Succeeded", ..self.clone() }
    }

    /// Its container runs this image now, with an id of its own.
    pub(super) fn updated_to(&self, image: &str) -> Self {
        Self { containers: Self::running("", "", self.uid, image).containers, ..self.clone() }
    }

    pub(super) fn wire(&self, version: u64) -> wire::Pod {
        let specs = self
            .containers
            .iter()
            .map(|(name, image, _)| wire::Container { name: name.clone().into(), image: image.clone().into() });
        let statuses = self.containers.iter().map(|(name, image, id)| wire::ContainerStatus {
            name: name.clone().into(),
            image: image.clone().into(),
            image_id: format!("{image}@sha256:1").into(),
            container_id: id.clone().into(),
        });
        let label = wire::Entry { key: "label".into(), value: self.label.clone().into() };
        wire::Pod {
            metadata: Some(wire::ObjectMeta {
                labels: vec![label],
                ..meta(&self.namespace, &self.name, self.uid, version)
            }),
            spec: Some(wire::PodSpec { containers: specs.collect(), ..wire::PodSpec::default() }),
            status: Some(wire::PodStatus {
                phase: self.phase.into(),
                container_statuses: statuses.collect(),
                ..wire::PodStatus::default()
            }),
        }
    }

    /// How a report has it.
    pub(super) fn seen(&self, namespace_uid: u64) -> SeenPod {
        SeenPod {
            namespace: self.namespace.clone(),
            namespace_uid: uid(namespace_uid),
            name: self.name.clone(),
            uid: uid(self.uid),
            running: self.phase == "Running",
            containers: self.containers.iter().map(|(_, image, id)| format!("{id} {image}")).collect(),
        }
    }
}

pub(super) fn namespace(name: &str, uid: u64, version: u64) -> wire::Namespace {
    wire::Namespace { metadata: Some(meta("", name, uid, version)) }
}

/// Version 0 is none.
fn meta(namespace: &str, name: &str, number: u64, version: u64) -> wire::ObjectMeta {
    wire::ObjectMeta {
        name: name.to_owned().into(),
        namespace: namespace.to_owned().into(),
        uid: uid(number).into(),
        resource_version: if version == 0 { "opaque".into() } else { version.to_string().into() },
        ..wire::ObjectMeta::default()
    }
}

pub(super) fn uid(number: u64) -> String {
    Uuid::from_u64_pair(0, number).to_string()
}

pub(super) fn rules() -> StoreRules {
    StoreRules {
        metadata: MetadataCollection::default(),
        account_label_key: None,
        selectors: NamespaceSelectors::default(),
        reports_finished: false,
    }
}

pub(super) fn picture_of(store: &mut Store) -> Picture {
    store.picture(PictureFacts {
        taken_at: Timestamp::UNIX_EPOCH,
        server_version: None,
        unreadable: Vec::new(),
        missing: Vec::new(),
        complete_list: true,
    })
}

/// The pods of a snapshot, in its order.
pub(super) fn seen(snapshot: &ClusterSnapshot) -> Vec<SeenPod> {
    let text = |symbol| snapshot.strings.get(symbol).to_owned();
    let uid_text = |uid: Option<crate::cluster::snapshot::Uid>| uid.map(|uid| uid.to_string()).unwrap_or_default();
    let pods = snapshot.pods.iter().map(|pod| {
        let namespace = snapshot.namespaces.iter().find(|namespace| namespace.name == pod.namespace);
        let container = |container: &crate::cluster::snapshot::Container| {
            let mut line = String::new();
            if let Some(id) = &container.id {
                id.write(&snapshot.strings, &mut line);
            }
            let image = snapshot.images[container.image as usize];
            format!("{line} {}", image.spec.map(text).unwrap_or_default())
        };
        SeenPod {
            namespace: text(pod.namespace),
            namespace_uid: uid_text(namespace.expect("its namespace is there").uid),
            name: text(pod.name),
            uid: uid_text(pod.uid),
            running: pod.running,
            containers: pod.containers.iter().map(container).collect(),
        }
    });
    pods.collect()
}

/// All that is held and carried.
pub(super) fn all_seen(store: &mut Store) -> Vec<SeenPod> {
    seen(&picture_of(store).snapshot(None))
}

/// Has account `a` accept all that is carried.
pub(super) fn accept(store: &mut Store) -> Vec<SeenPod> {
    let picture = picture_of(store);
    for (id, _) in super::unrouted(&picture) {
        store.carried().route(id, &["a".into()].into());
    }
    let snapshot = picture.snapshot(Some("a"));
    let namespaces = snapshot.namespaces.iter().map(|namespace| namespace.name).collect();
    store.carried().settle("a", &picture.carried_in(&namespaces, "a"));
    seen(&snapshot)
}
