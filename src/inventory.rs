//! What runs, as the report says it: images resolved, references closed, omissions counted.
//!
//! Anchore refuses a whole report for one object without a proper uid or one container without an id, so what it would
//! refuse is left out and counted here, and only here. Nothing is copied out of the snapshot: what is reported is
//! decided again, by the same functions, each time it is counted, measured or serialised. Pure but for one line of log;
//! never fails.

pub mod entries;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod image;
pub mod omissions;
pub mod reference;
pub mod report;
pub mod size;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use image::{Image, ImageOutcome, ImageTexts};
use omissions::Omissions;

use crate::cluster::snapshot::{ClusterSnapshot, Container, ContainerId, Pod, Uid};
use crate::cluster::strings::Symbol;
use crate::config::images::ImagesConfig;
use crate::config::metadata::MetadataCollection;

/// A snapshot as it is reported: images resolved, references closed.
#[derive(Debug)]
pub struct Inventory {
    snapshot: Arc<ClusterSnapshot>,
    settings: InventorySettings,
    /// What became of each of the snapshot's images.
    images: Vec<ImageOutcome>,
    /// What became of the references of image volumes.
    volume_images: HashMap<Symbol, ImageOutcome>,
    /// Which of the snapshot's pods are in each of its namespaces.
    pods: Vec<Range<u32>>,
    pod_uids: OwnUids,
    namespaces: Vec<u32>,
    nodes: Vec<u32>,
    nodes_by_name: HashMap<Symbol, u32>,
    omissions: Omissions,
}

/// What decides how a snapshot becomes an inventory.
#[derive(Debug, Clone)]
pub struct InventorySettings {
    /// The cluster's name in reports.
    pub cluster_name: String,
    /// How images become name, tag and digest.
    pub images: ImagesConfig,
    /// Leave out namespaces without pods.
    pub ignore_empty: bool,
    /// Only `disable` matters here: labels and annotations were filtered when the snapshot was taken.
    pub metadata: MetadataCollection,
}

/// A pod that is reported.
#[derive(Debug, Clone, Copy)]
pub struct ReportedPod<'a> {
    /// Its index in the snapshot.
    pub index: u32,
    /// Its uid.
    pub uid: Uid,
    /// The uid of its namespace.
    pub namespace_uid: Uid,
    /// Index of the node it runs on, when that is reported.
    pub node: Option<u32>,
    /// What else is known of it.
    pub facts: &'a Pod,
}

/// A container that is reported.
#[derive(Debug, Clone, Copy)]
pub struct ReportedContainer<'a> {
    /// Its id.
    pub id: &'a ContainerId,
    /// Its name.
    pub name: Symbol,
    /// Its image.
    pub image: &'a Image,
}

/// Why a container of a reported pod is not reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absence {
    /// The configuration leaves it out.
    Unwanted,
    /// It has no id yet.
    NoId,
    /// Its image has no name.
    NoImage,
    /// An earlier container of the pod has its id.
    Repeated,
}

/// Which objects of a kind have a uid that no earlier one has. Kubernetes never repeats a uid, so this is empty and
/// costs nothing to keep.
#[derive(Debug, Default)]
struct OwnUids {
    repeated: HashSet<u32>,
}

impl Inventory {
    /// Resolves and closes `snapshot`, and logs in one line what had to be left out.
    pub fn new(snapshot: Arc<ClusterSnapshot>, settings: InventorySettings) -> Self {
        let namespaces = with_own_uid(snapshot.namespaces.iter().map(|namespace| namespace.uid));
        let nodes = with_own_uid(snapshot.nodes.iter().map(|node| node.uid));
        let mut inventory = Self {
            images: resolve_images(&snapshot, &settings.images),
            volume_images: resolve_volume_images(&snapshot, &settings.images),
            pods: pods_by_namespace(&snapshot),
            pod_uids: OwnUids::of(snapshot.pods.iter().map(|pod| pod.uid)),
            nodes_by_name: nodes.iter().map(|&node| (snapshot.nodes[node as usize].name, node)).collect(),
            omissions: Omissions::default(),
            namespaces,
            nodes,
            snapshot,
            settings,
        };
        inventory.omissions = inventory.count_omissions();
        if inventory.settings.ignore_empty {
            let mut namespaces = std::mem::take(&mut inventory.namespaces);
            namespaces.retain(|&namespace| inventory.pods(namespace).next().is_some());
            inventory.namespaces = namespaces;
        }
        inventory.omissions.log();
        inventory
    }

    /// The snapshot it was made from.
    pub fn snapshot(&self) -> &ClusterSnapshot {
        &self.snapshot
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &InventorySettings {
        &self.settings
    }

    /// The namespaces that are reported, as ascending indices into the snapshot.
    pub fn namespaces(&self) -> &[u32] {
        &self.namespaces
    }

    /// The nodes that are reported, as ascending indices into the snapshot.
    pub fn nodes(&self) -> &[u32] {
        &self.nodes
    }

    /// What was left out although the configuration asks for it.
    pub fn omissions(&self) -> &Omissions {
        &self.omissions
    }

    /// Whether no selected namespace is missing, so that reporting none would be the truth.
    pub fn has_all_namespaces(&self) -> bool {
        self.snapshot.unreadable.is_empty() && self.omissions.namespaces_without_uid == 0
    }

    /// The reported pods of a namespace, by name.
    pub fn pods(&self, namespace: u32) -> impl Iterator<Item = ReportedPod<'_>> {
        let namespace_uid = self.snapshot.namespaces.get(namespace as usize).and_then(|namespace| namespace.uid);
        let indices = self.pods.get(namespace as usize).cloned().unwrap_or_default();
        indices.filter_map(move |index| {
            let facts = &self.snapshot.pods[index as usize];
            Some(ReportedPod {
                index,
                uid: self.pod_uids.get(index, facts.uid)?,
                namespace_uid: namespace_uid?,
                node: facts.node.and_then(|node| self.nodes_by_name.get(&node).copied()),
                facts,
            })
        })
    }

    /// The reported containers of a pod, in its order.
    pub fn containers<'a>(&'a self, pod: &ReportedPod<'a>) -> impl Iterator<Item = ReportedContainer<'a>> + use<'a> {
        let pod = pod.facts;
        (0..pod.containers.len()).filter_map(move |position| self.container(pod, position).ok())
    }

    /// The images of a pod's image volumes. They have no container id, so Anchore's report has no place for them.
    pub fn image_volumes<'a>(&'a self, pod: &ReportedPod<'a>) -> impl Iterator<Item = &'a Image> + use<'a> {
        let volumes = if self.wants_images_of(pod.facts) { &*pod.facts.image_volumes } else { &[] };
        volumes.iter().filter_map(|volume| match self.volume_images.get(volume) {
            Some(ImageOutcome::Named(image)) => Some(image),
            _ => None,
        })
    }

    /// Decides on one container of a reported pod.
    fn container<'a>(&'a self, pod: &'a Pod, position: usize) -> Result<ReportedContainer<'a>, Absence> {
        let (earlier, container) = (&pod.containers[..position], &pod.containers[position]);
        let image = self.images.get(container.image as usize).unwrap_or(&ImageOutcome::Unnamed);
        if !self.wants_images_of(pod) || *image == ImageOutcome::Dropped {
            return Err(Absence::Unwanted);
        }
        let id = container.id.as_ref().ok_or(Absence::NoId)?;
        let ImageOutcome::Named(image) = image else { return Err(Absence::NoImage) };
        if earlier.iter().any(|other| other.id.as_ref() == Some(id) && self.is_named(other)) {
            return Err(Absence::Repeated);
        }
        Ok(ReportedContainer { id, name: container.name, image })
    }

    fn is_named(&self, container: &Container) -> bool {
        matches!(self.images.get(container.image as usize), Some(ImageOutcome::Named(_)))
    }

    fn wants_images_of(&self, pod: &Pod) -> bool {
        pod.running || !self.settings.images.ignore_not_running
    }

    fn count_omissions(&self) -> Omissions {
        let snapshot = &*self.snapshot;
        let mut omissions = Omissions {
            namespaces_without_uid: snapshot.namespaces.len() - self.namespaces.len(),
            nodes_without_uid: snapshot.nodes.len() - self.nodes.len(),
            ..Omissions::default()
        };
        let mut present = 0;
        for &namespace in &self.namespaces {
            let all = self.pods[namespace as usize].len();
            let mut reported = 0;
            for pod in self.pods(namespace) {
                reported += 1;
                for position in 0..pod.facts.containers.len() {
                    match self.container(pod.facts, position) {
                        Ok(_) | Err(Absence::Unwanted) => {}
                        Err(Absence::NoId) => omissions.containers_without_id += 1,
                        Err(Absence::NoImage) => omissions.containers_without_image += 1,
                        Err(Absence::Repeated) => omissions.containers_repeated += 1,
                    }
                }
            }
            omissions.pods_without_uid += all - reported;
            present += all;
        }
        omissions.pods_without_namespace = snapshot.pods.len() - present;
        omissions
    }
}

impl OwnUids {
    fn of(uids: impl Iterator<Item = Option<Uid>>) -> Self {
        let (least, most) = uids.size_hint();
        let mut by_uid = Vec::<(Uid, u32)>::with_capacity(most.unwrap_or(least));
        by_uid.extend((0..).zip(uids).filter_map(|(index, uid)| Some((uid?, index))));
        by_uid.sort_unstable();
        let repeated = by_uid.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1).collect();
        Self { repeated }
    }

    /// The uid of the object at `index`, when it is its own.
    fn get(&self, index: u32, uid: Option<Uid>) -> Option<Uid> {
        uid.filter(|_| !self.repeated.contains(&index))
    }
}

/// Indices of the objects that have a uid of their own.
fn with_own_uid(uids: impl Iterator<Item = Option<Uid>> + Clone) -> Vec<u32> {
    let own = OwnUids::of(uids.clone());
    (0..).zip(uids).filter(|&(index, uid)| own.get(index, uid).is_some()).map(|(index, _)| index).collect()
}

fn resolve_images(snapshot: &ClusterSnapshot, config: &ImagesConfig) -> Vec<ImageOutcome> {
    snapshot.images.iter().map(|facts| ImageTexts::of(facts, &snapshot.strings).resolve(config)).collect()
}

fn resolve_volume_images(snapshot: &ClusterSnapshot, config: &ImagesConfig) -> HashMap<Symbol, ImageOutcome> {
    let references: HashSet<Symbol> = snapshot.pods.iter().flat_map(|pod| &pod.image_volumes).copied().collect();
    let resolve = |reference| ImageTexts::of_spec(snapshot.strings.get(reference)).resolve(config);
    references.into_iter().map(|reference| (reference, resolve(reference))).collect()
}

/// For each namespace of `snapshot`, where its pods are. Pods of other namespaces are in none.
fn pods_by_namespace(snapshot: &ClusterSnapshot) -> Vec<Range<u32>> {
    let mut ranges = HashMap::<Symbol, Range<u32>>::new();
    for (index, pod) in (0..).zip(&snapshot.pods) {
        ranges.entry(pod.namespace).or_insert(index..index).end = index + 1;
    }
    snapshot.namespaces.iter().map(|namespace| ranges.remove(&namespace.name).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::fixtures::{HEX, cluster, container, namespace, node, pod, settings, uid_of};
    use super::*;
    use crate::config::images::MissingTagPolicy;

    /// Names of the reported objects: namespaces, nodes, pods, containers.
    fn names(inventory: &Inventory) -> [Vec<&str>; 4] {
        let snapshot = inventory.snapshot();
        let text = |symbol| snapshot.strings.get(symbol);
        let pods: Vec<_> = inventory.namespaces().iter().flat_map(|&namespace| inventory.pods(namespace)).collect();
        [
            inventory.namespaces().iter().map(|&index| text(snapshot.namespaces[index as usize].name)).collect(),
            inventory.nodes().iter().map(|&index| text(snapshot.nodes[index as usize].name)).collect(),
            pods.iter().map(|pod| text(pod.facts.name)).collect(),
            pods.iter().flat_map(|pod| inventory.containers(pod)).map(|container| text(container.name)).collect(),
        ]
    }

    #[test]
    fn objects_without_a_valid_uid_are_left_out_with_all_below_them() {
        let inventory = cluster()
            .namespace("kept")
            .namespace(namespace("lost").without_uid())
            .namespace(namespace("odd").uid("not-a-uuid"))
            .node(node("n1").without_uid())
            .node("n2")
            .pod(pod("kept", "whole").on("n1").container(container("c", "nginx")))
            .pod(pod("kept", "static").uid("0123456789abcdef0123456789abcdef").container(container("s", "nginx")))
            .pod(pod("lost", "orphan").container(container("o", "nginx")))
            .pod(pod("odd", "orphan").container(container("p", "nginx")))
            .inventory();
        assert_eq!(names(&inventory), [vec!["kept"], vec!["n2"], vec!["whole"], vec!["c"]]);
        let whole = inventory.pods(0).next().expect("a pod");
        assert_eq!((whole.uid.to_string(), whole.node), (uid_of("pod/kept/whole"), None));
        let expected = Omissions {
            namespaces_without_uid: 2,
            nodes_without_uid: 1,
            pods_without_uid: 1,
            pods_without_namespace: 2,
            ..Omissions::default()
        };
        assert_eq!(*inventory.omissions(), expected);
    }

    #[test]
    fn a_uid_is_reported_once_the_first_by_name_stays() {
        let twin = uid_of("twin");
        let inventory = cluster()
            .namespace("a")
            .namespace(namespace("b").uid(&uid_of("namespace/a")))
            .node(node("n1").uid(&twin))
            .node(node("n2").uid(&twin))
            .pod(pod("a", "one").uid(&twin))
            .pod(pod("a", "two").uid(&twin))
            .inventory();
        assert_eq!(names(&inventory), [vec!["a"], vec!["n1"], vec!["one"], vec![]]);
    }

    #[test]
    fn containers_that_wait_or_have_no_image_are_left_out_and_counted() {
        let inventory = cluster()
            .namespace("shop")
            .pod(
                pod("shop", "web")
                    .container(container("waits", "nginx").waiting())
                    .container(container("broken", "Not A Reference"))
                    .container(container("runs", "nginx")),
            )
            .inventory();
        assert_eq!(names(&inventory)[3], ["runs"]);
        let expected = Omissions { containers_without_id: 1, containers_without_image: 1, ..Omissions::default() };
        assert_eq!(*inventory.omissions(), expected);
    }

    #[test]
    fn containers_are_unique_by_pod_and_id_the_first_reportable_stays() {
        let inventory = cluster()
            .namespace("shop")
            .pod(
                pod("shop", "a")
                    .container(container("broken", "Not A Reference").id("x"))
                    .container(container("first", "nginx").id("x"))
                    .container(container("second", "redis").id("x")),
            )
            .pod(pod("shop", "b").container(container("elsewhere", "nginx").id("x")))
            .inventory();
        assert_eq!(names(&inventory)[3], ["first", "elsewhere"]);
        assert_eq!(inventory.omissions().containers_repeated, 1);
    }

    #[test]
    fn d29_pods_that_do_not_run_stay_without_their_containers() {
        let done = || pod("shop", "job").not_running().container(container("c", "nginx")).image_volume("data:1");
        let inventory = cluster().namespace("shop").pod(done()).inventory();
        assert_eq!(names(&inventory), [vec!["shop"], vec![], vec!["job"], vec![]]);
        assert_eq!(*inventory.omissions(), Omissions::default(), "a choice is not an omission");
        let job = inventory.pods(0).next().expect("a pod");
        assert_eq!(inventory.image_volumes(&job).count(), 0);

        let images = ImagesConfig { ignore_not_running: false, ..settings().images };
        let all = cluster().namespace("shop").pod(done()).inventory_with(InventorySettings { images, ..settings() });
        assert_eq!(names(&all)[3], ["c"]);
        let job = all.pods(0).next().expect("a pod");
        assert_eq!(all.image_volumes(&job).map(Image::as_pulled).collect::<Vec<_>>(), [("data:1", "")]);
    }

    #[test]
    fn dropped_tags_are_a_choice_and_not_an_omission() {
        let images = ImagesConfig { missing_tag: MissingTagPolicy::Drop, ..settings().images };
        let inventory = cluster()
            .namespace("shop")
            .pod(pod("shop", "web").container(container("c", &format!("python@sha256:{HEX}")).waiting()))
            .inventory_with(InventorySettings { images, ..settings() });
        assert_eq!((&names(&inventory)[3], inventory.omissions()), (&vec![], &Omissions::default()));
    }

    #[test]
    fn d24_empty_namespaces_are_reported_unless_told_otherwise() {
        let shop = || cluster().namespace("empty").namespace("full").pod(pod("full", "web"));
        assert_eq!(names(&shop().inventory())[0], ["empty", "full"]);
        let sparing = shop().inventory_with(InventorySettings { ignore_empty: true, ..settings() });
        assert_eq!(names(&sparing)[0], ["full"]);
        assert_eq!(*sparing.omissions(), Omissions::default());
    }

    #[test]
    fn an_inventory_knows_when_namespaces_are_missing() {
        assert!(cluster().inventory().has_all_namespaces());
        assert!(!cluster().unreadable("shop").inventory().has_all_namespaces());
        assert!(!cluster().namespace(namespace("shop").without_uid()).inventory().has_all_namespaces());
    }
}
