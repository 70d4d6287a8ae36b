//! Specs of pods and states of containers.

use k8s_pb::api::core::v1 as core;
use k8s_pb::apimachinery::pkg::api::resource::Quantity;
use k8s_pb::apimachinery::pkg::util::intstr::IntOrString;

use super::pod::Quantities;
use super::workload::{Part, Role, VARIABLES, Workload};
use crate::cluster::message::{empty, text, time};

pub(super) fn pod_spec(workload: &Workload, node: &str, debug: Option<&Part>) -> core::PodSpec {
    let of_role = |init: bool| {
        let parts = workload.containers.iter().filter(move |part| (part.role != Role::Regular) == init);
        parts.map(container).collect()
    };
    let image_volume = workload.image_volume.as_ref().map(|image| {
        let source = core::ImageVolumeSource { reference: text(&image.reference), pull_policy: text("IfNotPresent") };
        volume("models", core::VolumeSource { image: Some(source), ..core::VolumeSource::default() })
    });
    core::PodSpec {
        volumes: [config_volume(), token_volume()].into_iter().chain(image_volume).collect(),
        init_containers: of_role(true),
        containers: of_role(false),
        ephemeral_containers: debug.map(debugger).into_iter().collect(),
        restart_policy: text("Always"),
        termination_grace_period_seconds: Some(30),
        dns_policy: text("ClusterFirst"),
        service_account_name: text("default"),
        service_account: text("default"),
        node_name: text(node),
        host_network: Some(false),
        host_pid: Some(false),
        host_ipc: Some(false),
        security_context: Some(core::PodSecurityContext {
            run_as_non_root: Some(true),
            fs_group: Some(1000),
            seccomp_profile: Some(core::SeccompProfile {
                r#type: text("RuntimeDefault"),
                ..core::SeccompProfile::default()
            }),
            ..core::PodSecurityContext::default()
        }),
        hostname: empty(),
        subdomain: empty(),
        scheduler_name: text("default-scheduler"),
        tolerations: ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(toleration).into(),
        priority_class_name: empty(),
        priority: Some(0),
        enable_service_links: Some(true),
        preemption_policy: text("PreemptLowerPriority"),
        ..core::PodSpec::default()
    }
}

pub(super) fn waiting(reason: &str) -> core::ContainerState {
    let waiting = core::ContainerStateWaiting { reason: text(reason), message: empty() };
    core::ContainerState { waiting: Some(waiting), ..core::ContainerState::default() }
}

pub(super) fn running() -> core::ContainerState {
    let running = core::ContainerStateRunning { started_at: time(10) };
    core::ContainerState { running: Some(running), ..core::ContainerState::default() }
}

pub(super) fn terminated(container_id: &str, exit_code: i32, reason: &str) -> core::ContainerState {
    let terminated = core::ContainerStateTerminated {
        exit_code: Some(exit_code),
        signal: Some(0),
        reason: text(reason),
        message: empty(),
        started_at: time(10),
        finished_at: time(20),
        container_id: text(container_id),
    };
    core::ContainerState { terminated: Some(terminated), ..core::ContainerState::default() }
}

fn container(part: &Part) -> core::Container {
    let mount = |name: &str, path: &str| core::VolumeMount {
        name: text(name),
        read_only: Some(true),
        mount_path: text(path),
        sub_path: empty(),
        sub_path_expr: empty(),
        ..core::VolumeMount::default()
    };
    core::Container {
        name: text(&part.name),
        image: text(&part.image.reference),
        command: vec![format!("/usr/local/bin/{}", part.name)],
        args: vec!["--config=/etc/config/config.yaml".to_owned(), "--listen=0.0.0.0:8080".to_owned()],
        working_dir: empty(),
        ports: vec![core::ContainerPort {
            name: text("http"),
            host_port: Some(0),
            container_port: Some(8080),
            protocol: text("TCP"),
            host_ip: empty(),
        }],
        env: VARIABLES.map(variable).into(),
        resources: Some(core::ResourceRequirements {
            limits: quantities("1", "512Mi"),
            requests: quantities("100m", "128Mi"),
            claims: Vec::new(),
        }),
        restart_policy: (part.role == Role::Sidecar).then(|| "Always".to_owned()),
        volume_mounts: vec![
            mount("config", "/etc/config"),
            mount("kube-api-access", "/var/run/secrets/kubernetes.io/serviceaccount"),
        ],
        liveness_probe: (part.role == Role::Regular).then(|| probe("/healthz")),
        readiness_probe: (part.role == Role::Regular).then(|| probe("/readyz")),
        termination_message_path: text("/dev/termination-log"),
        termination_message_policy: text("File"),
        image_pull_policy: text("IfNotPresent"),
        security_context: Some(core::SecurityContext {
            capabilities: Some(core::Capabilities { add: Vec::new(), drop: vec!["ALL".to_owned()] }),
            read_only_root_filesystem: Some(true),
            allow_privilege_escalation: Some(false),
            ..core::SecurityContext::default()
        }),
        stdin: Some(false),
        stdin_once: Some(false),
        tty: Some(false),
        ..core::Container::default()
    }
}

fn debugger(part: &Part) -> core::EphemeralContainer {
    let common = core::EphemeralContainerCommon {
        name: text(&part.name),
        image: text(&part.image.reference),
        working_dir: empty(),
        termination_message_path: text("/dev/termination-log"),
        termination_message_policy: text("File"),
        image_pull_policy: text("IfNotPresent"),
        stdin: Some(true),
        stdin_once: Some(false),
        tty: Some(true),
        ..core::EphemeralContainerCommon::default()
    };
    core::EphemeralContainer { ephemeral_container_common: Some(common), target_container_name: empty() }
}

fn variable(name: &str) -> core::EnvVar {
    let mut variable = core::EnvVar { name: text(name), value: empty(), value_from: None };
    match name {
        "POD_IP" => {
            let field = core::ObjectFieldSelector { api_version: text("v1"), field_path: text("status.podIP") };
            variable.value_from = Some(core::EnvVarSource { field_ref: Some(field), ..core::EnvVarSource::default() });
        }
        "DATABASE_URL" => {
            let reference = core::LocalObjectReference { name: text("database") };
            let secret = core::SecretKeySelector {
                local_object_reference: Some(reference),
                key: text("url"),
                ..core::SecretKeySelector::default()
            };
            variable.value_from =
                Some(core::EnvVarSource { secret_key_ref: Some(secret), ..core::EnvVarSource::default() });
        }
        _ => variable.value = text("info"),
    }
    variable
}

fn quantities(cpu: &str, memory: &str) -> Quantities {
    [("cpu", cpu), ("memory", memory)].map(|(name, amount)| (name.to_owned(), Quantity { string: text(amount) })).into()
}

fn probe(path: &str) -> core::Probe {
    let get = core::HttpGetAction {
        path: text(path),
        port: Some(IntOrString { r#type: Some(1), int_val: Some(0), str_val: text("http") }),
        host: empty(),
        scheme: text("HTTP"),
        http_headers: Vec::new(),
    };
    core::Probe {
        handler: Some(core::ProbeHandler { http_get: Some(get), ..core::ProbeHandler::default() }),
        initial_delay_seconds: Some(0),
        timeout_seconds: Some(1),
        period_seconds: Some(10),
        success_threshold: Some(1),
        failure_threshold: Some(3),
        termination_grace_period_seconds: None,
    }
}

fn toleration(key: &str) -> core::Toleration {
    core::Toleration {
        key: text(key),
        operator: text("Exists"),
        value: empty(),
        effect: text("NoExecute"),
        toleration_seconds: Some(300),
    }
}

fn config_volume() -> core::Volume {
    let config_map = core::ConfigMapVolumeSource {
        local_object_reference: Some(core::LocalObjectReference { name: text("config") }),
        default_mode: Some(420),
        ..core::ConfigMapVolumeSource::default()
    };
    volume("config", core::VolumeSource { config_map: Some(config_map), ..core::VolumeSource::default() })
}

/// The volume that the API server adds to every pod.
fn token_volume() -> core::Volume {
    let token =
        core::ServiceAccountTokenProjection { audience: empty(), expiration_seconds: Some(3607), path: text("token") };
    let authority = core::ConfigMapProjection {
        local_object_reference: Some(core::LocalObjectReference { name: text("kube-root-ca.crt") }),
        items: vec![core::KeyToPath { key: text("ca.crt"), path: text("ca.crt"), mode: None }],
        optional: None,
    };
    let namespace = core::DownwardAPIVolumeFile {
        path: text("namespace"),
        field_ref: Some(core::ObjectFieldSelector { api_version: text("v1"), field_path: text("metadata.namespace") }),
        ..core::DownwardAPIVolumeFile::default()
    };
    let sources = vec![
        core::VolumeProjection { service_account_token: Some(token), ..core::VolumeProjection::default() },
        core::VolumeProjection { config_map: Some(authority), ..core::VolumeProjection::default() },
        core::VolumeProjection {
            downward_api: Some(core::DownwardAPIProjection { items: vec![namespace] }),
            ..core::VolumeProjection::default()
        },
    ];
    let projected = core::ProjectedVolumeSource { sources, default_mode: Some(420) };
    volume("kube-api-access", core::VolumeSource { projected: Some(projected), ..core::VolumeSource::default() })
}

fn volume(name: &str, source: core::VolumeSource) -> core::Volume {
    core::Volume { name: text(name), volume_source: Some(source) }
}
