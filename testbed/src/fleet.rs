//! Whole clusters of any size, realistic in what an inventory agent meets, and the same for the same seed.
//!
//! A pod has about 10 kB in JSON, a third of it `managedFields`, and 1.9 containers on average: regular, init, native
//! sidecars, a few ephemeral ones, some image volumes. Images are written in all the ways people write them, and reported
//! as containerd, CRI-O and Docker report them. One pod in fifty is pending. Some namespaces are empty, and some have no
//! account.

mod image;
mod pod;
pub mod random;
mod spec;
mod workload;

use crate::cluster::namespace::Namespace;
use crate::cluster::node::Node;
use crate::objects::{Kind, Object, Objects};
use image::Runtime;
use random::Random;
use workload::Workload;

/// The label of namespaces that says which account they belong to.
pub const ACCOUNT_LABEL: &str = "anchore.io/account";

/// How large a cluster is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// Pods.
    pub pods: usize,
    /// Namespaces.
    pub namespaces: usize,
    /// Nodes.
    pub nodes: usize,
    /// The accounts that namespaces belong to; those without one belong to none by label.
    pub accounts: Vec<String>,
    /// What everything else follows from.
    pub seed: u64,
}

impl Fleet {
    /// All objects.
    pub fn objects(&self) -> Objects {
        let nodes: Vec<_> = (0..self.nodes).map(|index| self.node(index)).collect();
        let places: Vec<_> = nodes.iter().map(|(name, runtime, _)| (name.clone(), *runtime)).collect();
        let namespaces: Vec<_> = (0..self.namespaces).map(|index| self.namespace(index)).collect();
        let names: Vec<&str> = namespaces.iter().map(|(name, _)| name.as_str()).collect();
        let pods = self.pods(&names, &places).into_iter().map(|pod| (Kind::Pods, pod));
        let nodes = nodes.iter().map(|(name, _, node)| (Kind::Nodes, Object::new("", name, &node.message())));
        let namespaces = namespaces.iter().map(|(name, it)| (Kind::Namespaces, Object::new("", name, &it.message())));
        Objects::new(namespaces.chain(nodes).chain(pods))
    }

    fn node(&self, index: usize) -> (String, Runtime, Node) {
        let name = format!("node-{index:04}.cluster.internal");
        let runtime = Runtime::of_node(self.seed, index);
        let architecture = if index % 10 == 7 { "arm64" } else { "amd64" };
        let node = Node::named(&name)
            .runtime(runtime.version())
            .architecture(architecture)
            .label("kubernetes.io/arch", architecture)
            .label("kubernetes.io/os", "linux")
            .label("node.kubernetes.io/instance-type", "m7g.4xlarge")
            .label("topology.kubernetes.io/zone", ["eu-central-1a", "eu-central-1b", "eu-central-1c"][index % 3])
            .annotation("node.alpha.kubernetes.io/ttl", "0");
        (name, runtime, node)
    }

    fn namespace(&self, index: usize) -> (String, Namespace) {
        let mut random = Random::new(self.seed, "namespace", index);
        let name = match index {
            0 => "default".to_owned(),
            1 => "kube-system".to_owned(),
            _ => format!("{}-{index}", random.pick(&["team", "shop", "prod", "stage", "tools", "data"])),
        };
        let mut namespace = Namespace::named(&name).label("pod-security.kubernetes.io/enforce", "baseline");
        if index > 1 && !self.accounts.is_empty() && random.per_mille(700) {
            let account = self.accounts.get(random.below(self.accounts.len())).map_or("", String::as_str);
            namespace = namespace.label(ACCOUNT_LABEL, account);
        }
        if random.per_mille(300) {
            let applied = format!(
                "{{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{{\"annotations\":{{}},\"name\":\"{name}\"}}}}\n"
            );
            namespace = namespace.annotation("kubectl.kubernetes.io/last-applied-configuration", &applied);
        }
        (name, namespace)
    }

    fn pods(&self, namespaces: &[&str], nodes: &pod::Nodes) -> Vec<Object> {
        let images = 40 + self.pods / 25;
        let mut pods = Vec::with_capacity(self.pods);
        let mut workloads = 0;
        for (namespace, mut left) in namespaces.iter().zip(self.pods_by_namespace()) {
            while left > 0 {
                let workload = Workload::new(self.seed, workloads, namespace, images);
                let replicas = (1 + Random::new(self.seed, "replicas", workloads).below(19)).min(left);
                for ordinal in 0..replicas {
                    pods.push(pod::object(self.seed, pods.len(), ordinal, &workload, nodes));
                }
                workloads += 1;
                left -= replicas;
            }
        }
        pods
    }

    /// A few large namespaces, many small ones, and one in twenty-five empty.
    fn pods_by_namespace(&self) -> Vec<usize> {
        let mut random = Random::new(self.seed, "sizes", 0);
        let mut counts = vec![0; self.namespaces];
        let mut given = 0;
        // Each that is not to be empty gets one first; the empty ones are the last of their twenty-five.
        for (index, count) in counts.iter_mut().enumerate() {
            if index % 25 != 24 && given < self.pods {
                *count = 1;
                given += 1;
            }
        }
        while given < self.pods && !counts.is_empty() {
            // The earlier a namespace, the likelier: sizes fall off like its position in a harmonic series.
            let bound = 1 + random.below(counts.len());
            let index = random.below(bound);
            if let Some(count) = counts.get_mut(index).filter(|count| index % 25 != 24 && **count < 3000) {
                *count += 1;
                given += 1;
            } else if counts.len() * 2000 < self.pods {
                // More pods than Kubernetes' limit for so many namespaces: the limit does not hold.
                if let Some(count) = counts.first_mut() {
                    *count += 1;
                    given += 1;
                }
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use k8s_pb::api::core::v1::{Namespace, Pod};
    use pretty_assertions::assert_eq;
    use prost::Message;

    use super::*;
    use crate::kubernetes::json_object;

    fn fleet() -> Fleet {
        let accounts = ["blue", "green"].map(str::to_owned).into();
        Fleet { pods: 800, namespaces: 60, nodes: 20, accounts, seed: 7 }
    }

    fn decoded(objects: &Objects) -> Vec<Pod> {
        objects.of(Kind::Pods).iter().map(|pod| Pod::decode(pod.to_bytes()).expect("a pod")).collect()
    }

    #[test]
    fn a_fleet_follows_from_its_seed() {
        let bytes = |fleet: &Fleet| fleet.objects().etcd().collect::<Vec<_>>();

        assert!(bytes(&fleet()) == bytes(&fleet()));
        assert!(bytes(&fleet()) != bytes(&Fleet { seed: 8, ..fleet() }));
    }

    #[test]
    fn a_fleet_has_the_size_that_was_asked_for() {
        for fleet in [fleet(), Fleet { pods: 3, ..fleet() }, Fleet { pods: 6100, namespaces: 2, nodes: 1, ..fleet() }] {
            let objects = fleet.objects();
            let sizes = Kind::CORE.map(|kind| objects.of(kind).len());
            let names = objects.etcd().map(|(key, _)| key).collect::<BTreeSet<_>>();
            assert_eq!(sizes, [fleet.namespaces, fleet.nodes, fleet.pods]);
            assert_eq!(names.len(), fleet.namespaces + fleet.nodes + fleet.pods, "no name twice");
        }
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "averages")]
    fn pods_are_as_large_and_full_as_in_real_clusters() {
        let objects = fleet().objects();
        let pods = decoded(&objects);

        let json = |pod: &Object| json_object::object(Kind::Pods, &pod.to_bytes()).expect("a pod");
        let json: Vec<_> = objects.of(Kind::Pods).iter().map(json).collect();
        let bytes: usize = json.iter().map(|pod| pod.to_string().len()).sum();
        let managed: usize = json.iter().map(|pod| pod["metadata"]["managedFields"].to_string().len()).sum();
        let containers: usize = pods
            .iter()
            .filter_map(|pod| pod.spec.as_ref())
            .map(|spec| spec.containers.len() + spec.init_containers.len() + spec.ephemeral_containers.len())
            .sum();
        let pending = pods.iter().filter(|pod| pod.status.as_ref().expect("a status").phase() == "Pending").count();

        let per_pod = |sum: usize| sum as f64 / pods.len() as f64;
        assert!((9_000.0..11_000.0).contains(&per_pod(bytes)), "{} bytes", per_pod(bytes));
        assert!((0.3..0.4).contains(&(managed as f64 / bytes as f64)), "{managed} of {bytes}");
        assert!((1.8..2.0).contains(&per_pod(containers)), "{}", per_pod(containers));
        assert!((8..32).contains(&pending), "{pending}");
    }

    #[test]
    fn every_kind_of_image_id_occurs() {
        let mut seen = BTreeMap::new();
        let pods = decoded(&Fleet { pods: 2000, ..fleet() }.objects());
        for status in pods.iter().filter_map(|pod| pod.status.as_ref()).flat_map(|status| &status.container_statuses) {
            let id = status.image_id();
            let kind = match id {
                "" => "none",
                id if id.starts_with("docker-pullable://") => "docker, pulled",
                id if id.starts_with("docker://sha256:") => "docker, imported",
                id if id.starts_with("sha256:") => "containerd, imported",
                id if id.contains('@') => "pulled",
                _ => "CRI-O, bare",
            };
            *seen.entry(kind).or_insert(0_usize) += 1;
        }
        let kinds = ["CRI-O, bare", "containerd, imported", "docker, imported", "docker, pulled", "none", "pulled"];
        assert_eq!(seen.keys().copied().collect::<Vec<_>>(), kinds);
    }

    #[test]
    fn some_namespaces_are_empty_and_some_have_no_account() {
        let objects = fleet().objects();
        let used: BTreeSet<_> = objects.of(Kind::Pods).iter().map(|pod| &pod.namespace).collect();
        let mut accounts = BTreeMap::new();
        for namespace in objects.of(Kind::Namespaces) {
            let meta = Namespace::decode(namespace.to_bytes()).expect("a namespace").metadata.expect("metadata");
            *accounts.entry(meta.labels.get(ACCOUNT_LABEL).cloned()).or_insert(0_usize) += 1;
        }

        assert_eq!(objects.of(Kind::Namespaces).len() - used.len(), 2);
        assert_eq!(
            accounts.keys().map(|account| account.as_deref()).collect::<Vec<_>>(),
            [None, Some("blue"), Some("green")]
        );
    }
}
