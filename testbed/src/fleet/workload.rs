//! Workloads: what the pods of one `Deployment`, `StatefulSet`, `DaemonSet` or `Job` have in common.

use std::fmt::Write;

use bytes::Bytes;
use k8s_pb::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use prost::Message;

use super::image::Image;
use super::random::Random;
use crate::cluster::message::{empty, text, time};

/// A workload.
pub(super) struct Workload {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) kind: WorkloadKind,
    /// What its pods are named after: the `ReplicaSet`, for a `Deployment`.
    pub(super) owner: String,
    pub(super) owner_uid: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) annotations: Vec<(String, String)>,
    pub(super) containers: Vec<Part>,
    pub(super) image_volume: Option<Image>,
    pub(super) managed_fields: Vec<ManagedFieldsEntry>,
    /// The same, encoded as the end of an object's metadata.
    pub(super) managed_fields_encoded: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkloadKind {
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
}

/// A container of a workload's pods.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) image: Image,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Init,
    Sidecar,
    Regular,
}

/// Names of the environment variables that containers have.
pub(super) const VARIABLES: [&str; 4] = ["LOG_LEVEL", "POD_IP", "DATABASE_URL", "FEATURE_FLAGS"];

impl Workload {
    /// The `index`th workload of a seed, with images of a pool of this size.
    pub(super) fn new(seed: u64, index: usize, namespace: &str, images: usize) -> Self {
        let mut random = Random::new(seed, "workload", index);
        let kind = match random.below(100) {
            0..70 => WorkloadKind::Deployment,
            70..82 => WorkloadKind::StatefulSet,
            82..92 => WorkloadKind::DaemonSet,
            _ => WorkloadKind::Job,
        };
        let component = random.pick(&["api", "web", "worker", "cache", "store", "gateway", "batch", "agent"]);
        let name = format!("{component}-{index}");
        let owner = match kind {
            WorkloadKind::Deployment => format!("{name}-{}", random.suffix(10)),
            _ => name.clone(),
        };
        let containers = containers(seed, &mut random, component, images);
        let labels = labels(&mut random, &name, component, namespace);
        let annotations = annotations(&mut random, &name, &containers);
        let image_volume = random.per_mille(15).then(|| Image::new(seed, random.below(images)));
        let managed_fields = managed_fields(kind, &labels, &annotations, &containers);
        let meta = ObjectMeta { managed_fields: managed_fields.clone(), ..ObjectMeta::default() };
        Self {
            namespace: namespace.to_owned(),
            owner_uid: random.uid(),
            managed_fields_encoded: meta.encode_to_vec().into(),
            name,
            kind,
            owner,
            labels,
            annotations,
            containers,
            image_volume,
            managed_fields,
        }
    }
}

impl WorkloadKind {
    /// Kind and group version of the owner that a pod names.
    pub(super) fn owner(self) -> (&'static str, &'static str) {
        match self {
            Self::Deployment => ("ReplicaSet", "apps/v1"),
            Self::StatefulSet => ("StatefulSet", "apps/v1"),
            Self::DaemonSet => ("DaemonSet", "apps/v1"),
            Self::Job => ("Job", "batch/v1"),
        }
    }
}

/// 1.9 of them on average, as in real clusters.
fn containers(seed: u64, random: &mut Random, component: &str, images: usize) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut part = |name: &str, role, random: &mut Random| {
        parts.push(Part { name: name.to_owned(), role, image: Image::new(seed, random.below(images)) });
    };
    if random.per_mille(280) {
        part("init-config", Role::Init, random);
    }
    if random.per_mille(120) {
        part("istio-proxy", Role::Sidecar, random);
    }
    part(component, Role::Regular, random);
    if random.per_mille(350) {
        part("metrics-exporter", Role::Regular, random);
    }
    if random.per_mille(120) {
        part("log-shipper", Role::Regular, random);
    }
    parts
}

fn labels(random: &mut Random, name: &str, component: &str, namespace: &str) -> Vec<(String, String)> {
    [
        ("app.kubernetes.io/name", name.to_owned()),
        ("app.kubernetes.io/component", component.to_owned()),
        ("app.kubernetes.io/instance", format!("{namespace}-{name}")),
        ("app.kubernetes.io/managed-by", "Helm".to_owned()),
        ("app.kubernetes.io/part-of", namespace.to_owned()),
        ("helm.sh/chart", format!("service-{}.{}.0", random.below(9), random.below(40))),
        ("pod-template-hash", random.suffix(10)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn annotations(random: &mut Random, name: &str, containers: &[Part]) -> Vec<(String, String)> {
    let mut annotations = vec![
        ("checksum/config".to_owned(), random.hex64()),
        ("kubectl.kubernetes.io/restartedAt".to_owned(), "2026-02-28T10:11:12Z".to_owned()),
        ("prometheus.io/port".to_owned(), "9090".to_owned()),
        ("prometheus.io/scrape".to_owned(), "true".to_owned()),
    ];
    if random.per_mille(150) {
        let images: Vec<_> = containers
            .iter()
            .map(|part| serde_json::json!({"name": part.name, "image": part.image.reference}))
            .collect();
        let applied = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": {}},
            "spec": {"containers": images, "restartPolicy": "Always"},
        });
        let key = "kubectl.kubernetes.io/last-applied-configuration".to_owned();
        annotations.push((key, format!("{applied}\n")));
    }
    annotations
}

/// What the controller and the kubelet wrote: about a third of a pod.
fn managed_fields(
    kind: WorkloadKind,
    labels: &[(String, String)],
    annotations: &[(String, String)],
    containers: &[Part],
) -> Vec<ManagedFieldsEntry> {
    let names = |pairs: &[(String, String)]| {
        pairs.iter().fold(String::new(), |mut names, (key, _)| {
            // Writing to a string cannot fail.
            let _ = write!(names, r#","f:{key}":{{}}"#);
            names
        })
    };
    let of_role = |init: bool| {
        let parts = containers.iter().filter(move |part| (part.role != Role::Regular) == init);
        parts.map(container_fields).collect::<Vec<_>>().join(",")
    };
    let owner = kind.owner().0;
    let manager = format!(
        r#"{{"f:metadata":{{"f:annotations":{{".":{{}}{annotations}}},"f:generateName":{{}},"f:labels":{{".":{{}}{labels}}},"f:ownerReferences":{{".":{{}},"k:{{\"uid\":\"{owner}\"}}":{{}}}}}},"f:spec":{{"f:containers":{{{regular}}},"f:dnsPolicy":{{}},"f:enableServiceLinks":{{}},"f:initContainers":{{{init}}},"f:restartPolicy":{{}},"f:schedulerName":{{}},"f:securityContext":{{".":{{}},"f:fsGroup":{{}},"f:runAsNonRoot":{{}},"f:seccompProfile":{{".":{{}},"f:type":{{}}}}}},"f:serviceAccount":{{}},"f:serviceAccountName":{{}},"f:terminationGracePeriodSeconds":{{}},"f:volumes":{{".":{{}},"k:{{\"name\":\"config\"}}":{{".":{{}},"f:configMap":{{".":{{}},"f:defaultMode":{{}},"f:name":{{}}}},"f:name":{{}}}}}}}}}}"#,
        annotations = names(annotations),
        labels = names(labels),
        regular = of_role(false),
        init = of_role(true),
    );
    let conditions = ["ContainersReady", "Initialized", "PodReadyToStartContainers", "Ready"].map(|condition| {
        format!(
            r#""k:{{\"type\":\"{condition}\"}}":{{".":{{}},"f:lastProbeTime":{{}},"f:lastTransitionTime":{{}},"f:observedGeneration":{{}},"f:status":{{}},"f:type":{{}}}}"#
        )
    });
    let kubelet = format!(
        r#"{{"f:status":{{"f:conditions":{{{}}},"f:containerStatuses":{{}},"f:hostIP":{{}},"f:hostIPs":{{}},"f:initContainerStatuses":{{}},"f:observedGeneration":{{}},"f:phase":{{}},"f:podIP":{{}},"f:podIPs":{{".":{{}},"k:{{\"ip\":\"10.1.2.3\"}}":{{".":{{}},"f:ip":{{}}}}}},"f:startTime":{{}}}}}}"#,
        conditions.join(","),
    );
    vec![entry("kube-controller-manager", empty(), manager, 0), entry("kubelet", text("status"), kubelet, 30)]
}

fn container_fields(part: &Part) -> String {
    let variables =
        VARIABLES.map(|name| format!(r#""k:{{\"name\":\"{name}\"}}":{{".":{{}},"f:name":{{}}}}"#)).join(",");
    let probes = match part.role {
        Role::Regular => {
            let probe = r#"{".":{},"f:failureThreshold":{},"f:httpGet":{".":{},"f:path":{},"f:port":{},"f:scheme":{}},"f:periodSeconds":{},"f:successThreshold":{},"f:timeoutSeconds":{}}"#;
            format!(r#""f:livenessProbe":{probe},"f:readinessProbe":{probe},"#)
        }
        Role::Init | Role::Sidecar => String::new(),
    };
    let name = &part.name;
    format!(
        r#""k:{{\"name\":\"{name}\"}}":{{".":{{}},"f:args":{{}},"f:command":{{}},"f:env":{{".":{{}},{variables}}},"f:image":{{}},"f:imagePullPolicy":{{}},"f:name":{{}},{probes}"f:resources":{{".":{{}},"f:limits":{{".":{{}},"f:cpu":{{}},"f:memory":{{}}}},"f:requests":{{".":{{}},"f:cpu":{{}},"f:memory":{{}}}}}},"f:terminationMessagePath":{{}},"f:terminationMessagePolicy":{{}},"f:volumeMounts":{{".":{{}},"k:{{\"mountPath\":\"/etc/config\"}}":{{".":{{}},"f:mountPath":{{}},"f:name":{{}}}}}}}}"#
    )
}

fn entry(manager: &str, subresource: Option<String>, fields: String, at: i64) -> ManagedFieldsEntry {
    ManagedFieldsEntry {
        manager: text(manager),
        operation: text("Update"),
        api_version: text("v1"),
        time: time(at),
        fields_type: text("FieldsV1"),
        fields_v1: Some(FieldsV1 { raw: Some(fields.into_bytes()) }),
        subresource,
    }
}
