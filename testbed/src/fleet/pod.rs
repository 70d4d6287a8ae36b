//! Pods of workloads, as complete as in a real cluster.

use std::collections::BTreeMap;

use k8s_pb::api::core::v1 as core;
use k8s_pb::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::image::{Image, Runtime};
use super::random::Random;
use super::spec;
use super::workload::{Part, Role, Workload, WorkloadKind};
use crate::cluster::message::{self, empty, text, time};
use crate::objects::Object;

/// Where the pods of a fleet can be: the names of its nodes and their runtimes.
pub(super) type Nodes = [(String, Runtime)];

/// What has become of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unscheduled,
    Pulling,
    Running,
    Succeeded,
}

/// The `index`th pod of a fleet, the `ordinal`th of its workload.
pub(super) fn object(seed: u64, index: usize, ordinal: usize, workload: &Workload, nodes: &Nodes) -> Object {
    let mut random = Random::new(seed, "pod", index);
    let name = match workload.kind {
        WorkloadKind::StatefulSet => format!("{}-{ordinal}", workload.name),
        _ => format!("{}-{}", workload.owner, random.suffix(5)),
    };
    let state = match random.below(1000) {
        0..5 => State::Unscheduled,
        5..20 => State::Pulling,
        _ if workload.kind == WorkloadKind::Job => State::Succeeded,
        _ => State::Running,
    };
    let scheduled = nodes.get(random.below(nodes.len())).filter(|_| state != State::Unscheduled);
    let node = scheduled.map_or("", |(name, _)| name);
    let runtime = scheduled.map(|(_, runtime)| *runtime).unwrap_or_default();

    let mut meta = message::meta(&workload.namespace, &name, &random.uid());
    meta.generate_name = text(format!("{}-", workload.owner));
    meta.resource_version = text((1_000_000 + index).to_string());
    meta.labels = message::metadata(&workload.labels);
    meta.annotations = message::metadata(&workload.annotations);
    let (kind, api_version) = workload.kind.owner();
    meta.owner_references.push(OwnerReference {
        api_version: text(api_version),
        kind: text(kind),
        name: text(&workload.owner),
        uid: text(&workload.owner_uid),
        controller: Some(true),
        block_owner_deletion: Some(true),
    });
    meta.managed_fields.clone_from(&workload.managed_fields);

    // What `kubectl debug` adds.
    let debug = (state == State::Running && random.per_mille(9)).then(|| Part {
        name: format!("debugger-{}", random.suffix(5)),
        role: Role::Regular,
        image: Image::new(seed, 0),
    });
    let pod = core::Pod {
        metadata: Some(meta),
        spec: Some(spec::pod_spec(workload, node, debug.as_ref())),
        status: Some(status(workload, state, debug.as_ref(), runtime, &mut random)),
    };
    Object::sharing(&workload.namespace, &name, &pod, &workload.managed_fields_encoded)
}

fn status(
    workload: &Workload,
    state: State,
    debug: Option<&Part>,
    runtime: Runtime,
    random: &mut Random,
) -> core::PodStatus {
    let phase = match state {
        State::Unscheduled | State::Pulling => "Pending",
        State::Running => "Running",
        State::Succeeded => "Succeeded",
    };
    let mut status = core::PodStatus {
        phase: text(phase),
        conditions: conditions(state),
        message: empty(),
        reason: empty(),
        nominated_node_name: empty(),
        host_ip: empty(),
        pod_ip: empty(),
        qos_class: text("Burstable"),
        resize: empty(),
        observed_generation: Some(1),
        ..core::PodStatus::default()
    };
    if state == State::Unscheduled {
        return status;
    }
    let address =
        |random: &mut Random| format!("10.{}.{}.{}", random.below(250), random.below(250), 1 + random.below(250));
    let (host, pod) = (address(random), address(random));
    status.host_ip = text(&host);
    status.host_ips = vec![core::HostIp { ip: text(host) }];
    status.pod_ip = text(&pod);
    status.pod_ips = vec![core::PodIp { ip: text(pod) }];
    status.start_time = time(5);
    for part in &workload.containers {
        let container = container_status(part, state, runtime, random);
        match part.role {
            Role::Regular => status.container_statuses.push(container),
            Role::Init | Role::Sidecar => status.init_container_statuses.push(container),
        }
    }
    status.ephemeral_container_statuses.extend(debug.map(|part| container_status(part, state, runtime, random)));
    status
}

fn container_status(part: &Part, state: State, runtime: Runtime, random: &mut Random) -> core::ContainerStatus {
    let mut status = core::ContainerStatus {
        name: text(&part.name),
        state: Some(spec::waiting("ContainerCreating")),
        last_state: Some(core::ContainerState::default()),
        ready: Some(false),
        restart_count: Some(0),
        image: text(&part.image.reference),
        image_id: empty(),
        container_id: empty(),
        started: Some(false),
        ..core::ContainerStatus::default()
    };
    if state == State::Pulling {
        return status;
    }
    let id = runtime.container_id(random);
    status.image = text(part.image.status_image());
    status.image_id = text(part.image.id(runtime, random));
    status.container_id = text(&id);
    if part.role == Role::Init || state == State::Succeeded {
        status.state = Some(spec::terminated(&id, 0, "Completed"));
    } else {
        status.state = Some(spec::running());
        status.started = Some(true);
        status.ready = Some(true);
        if random.per_mille(80) {
            status.last_state = Some(spec::terminated(&runtime.container_id(random), 137, "OOMKilled"));
            status.restart_count = Some(1);
        }
    }
    status
}

fn conditions(state: State) -> Vec<core::PodCondition> {
    let ready = if state == State::Running { "True" } else { "False" };
    let scheduled = if state == State::Unscheduled { "False" } else { "True" };
    let condition = |kind: &str, status: &str| core::PodCondition {
        r#type: text(kind),
        status: text(status),
        last_probe_time: None,
        last_transition_time: time(20),
        reason: empty(),
        message: empty(),
        observed_generation: Some(1),
    };
    if state == State::Unscheduled {
        return vec![condition("PodScheduled", "False")];
    }
    [
        ("PodReadyToStartContainers", ready),
        ("Initialized", ready),
        ("Ready", ready),
        ("ContainersReady", ready),
        ("PodScheduled", scheduled),
    ]
    .map(|(kind, status)| condition(kind, status))
    .into()
}

/// Resources by name.
pub(super) type Quantities = BTreeMap<String, k8s_pb::apimachinery::pkg::api::resource::Quantity>;
