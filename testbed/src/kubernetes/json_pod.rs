//! Pods in JSON.

use k8s_pb::api::core::v1 as core;
use k8s_pb::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::json_object::{Fields, object_meta, time};

pub(super) fn pod(pod: &core::Pod) -> Value {
    Fields::default()
        .message("metadata", pod.metadata.as_ref(), object_meta)
        .message("spec", pod.spec.as_ref(), spec)
        .message("status", pod.status.as_ref(), status)
        .end()
}

fn spec(spec: &core::PodSpec) -> Value {
    Fields::default()
        .list("volumes", &spec.volumes, volume)
        .list("initContainers", &spec.init_containers, container)
        .always("containers", spec.containers.iter().map(container).collect::<Value>())
        .list("ephemeralContainers", &spec.ephemeral_containers, ephemeral_container)
        .text("restartPolicy", &spec.restart_policy)
        .some("terminationGracePeriodSeconds", spec.termination_grace_period_seconds)
        .text("dnsPolicy", &spec.dns_policy)
        .map("nodeSelector", &spec.node_selector, |text| json!(text))
        .text("serviceAccountName", &spec.service_account_name)
        .text("serviceAccount", &spec.service_account)
        .text("nodeName", &spec.node_name)
        .flag("hostNetwork", spec.host_network)
        .flag("hostPID", spec.host_pid)
        .flag("hostIPC", spec.host_ipc)
        .message("securityContext", spec.security_context.as_ref(), pod_security_context)
        .list("imagePullSecrets", &spec.image_pull_secrets, |secret| json!({"name": secret.name}))
        .text("hostname", &spec.hostname)
        .text("subdomain", &spec.subdomain)
        .text("schedulerName", &spec.scheduler_name)
        .list("tolerations", &spec.tolerations, toleration)
        .text("priorityClassName", &spec.priority_class_name)
        .some("priority", spec.priority)
        .some("enableServiceLinks", spec.enable_service_links)
        .text("preemptionPolicy", &spec.preemption_policy)
        .end()
}

fn container(container: &core::Container) -> Value {
    Fields::default()
        .always("name", container.name.clone())
        .text("image", &container.image)
        .list("command", &container.command, |text| json!(text))
        .list("args", &container.args, |text| json!(text))
        .text("workingDir", &container.working_dir)
        .list("ports", &container.ports, port)
        .list("env", &container.env, variable)
        .always("resources", container.resources.as_ref().map_or_else(|| json!({}), resources))
        .text("restartPolicy", &container.restart_policy)
        .list("volumeMounts", &container.volume_mounts, mount)
        .message("livenessProbe", container.liveness_probe.as_ref(), probe)
        .message("readinessProbe", container.readiness_probe.as_ref(), probe)
        .text("terminationMessagePath", &container.termination_message_path)
        .text("terminationMessagePolicy", &container.termination_message_policy)
        .text("imagePullPolicy", &container.image_pull_policy)
        .message("securityContext", container.security_context.as_ref(), security_context)
        .flag("stdin", container.stdin)
        .flag("stdinOnce", container.stdin_once)
        .flag("tty", container.tty)
        .end()
}

fn ephemeral_container(container: &core::EphemeralContainer) -> Value {
    let common = container.ephemeral_container_common.clone().unwrap_or_default();
    Fields::default()
        .always("name", common.name)
        .text("image", &common.image)
        .list("command", &common.command, |text| json!(text))
        .always("resources", json!({}))
        .text("terminationMessagePath", &common.termination_message_path)
        .text("terminationMessagePolicy", &common.termination_message_policy)
        .text("imagePullPolicy", &common.image_pull_policy)
        .flag("stdin", common.stdin)
        .flag("tty", common.tty)
        .text("targetContainerName", &container.target_container_name)
        .end()
}

fn port(port: &core::ContainerPort) -> Value {
    Fields::default()
        .text("name", &port.name)
        .some("hostPort", port.host_port.filter(|port| *port != 0))
        .always("containerPort", port.container_port)
        .text("protocol", &port.protocol)
        .end()
}

fn variable(variable: &core::EnvVar) -> Value {
    let source = |source: &core::EnvVarSource| {
        Fields::default()
            .message("fieldRef", source.field_ref.as_ref(), field)
            .message("secretKeyRef", source.secret_key_ref.as_ref(), |secret| {
                let name = secret.local_object_reference.as_ref().and_then(|reference| reference.name.clone());
                json!({"name": name, "key": secret.key})
            })
            .end()
    };
    Fields::default()
        .always("name", variable.name.clone())
        .text("value", &variable.value)
        .message("valueFrom", variable.value_from.as_ref(), source)
        .end()
}

fn field(field: &core::ObjectFieldSelector) -> Value {
    json!({"apiVersion": field.api_version, "fieldPath": field.field_path})
}

fn resources(resources: &core::ResourceRequirements) -> Value {
    Fields::default()
        .map("limits", &resources.limits, |quantity| json!(quantity.string))
        .map("requests", &resources.requests, |quantity| json!(quantity.string))
        .end()
}

fn mount(mount: &core::VolumeMount) -> Value {
    Fields::default()
        .always("name", mount.name.clone())
        .flag("readOnly", mount.read_only)
        .always("mountPath", mount.mount_path.clone())
        .text("subPath", &mount.sub_path)
        .end()
}

fn probe(probe: &core::Probe) -> Value {
    let http_get = probe.handler.as_ref().and_then(|handler| handler.http_get.as_ref());
    Fields::default()
        .message("httpGet", http_get, |get| {
            Fields::default()
                .text("path", &get.path)
                .always("port", get.port.as_ref().map_or(Value::Null, number_or_name))
                .text("scheme", &get.scheme)
                .end()
        })
        .some("initialDelaySeconds", probe.initial_delay_seconds.filter(|seconds| *seconds != 0))
        .some("timeoutSeconds", probe.timeout_seconds)
        .some("periodSeconds", probe.period_seconds)
        .some("successThreshold", probe.success_threshold)
        .some("failureThreshold", probe.failure_threshold)
        .end()
}

fn number_or_name(value: &IntOrString) -> Value {
    if value.r#type == Some(1) { json!(value.str_val) } else { json!(value.int_val) }
}

fn security_context(context: &core::SecurityContext) -> Value {
    let capabilities = |it: &core::Capabilities| {
        Fields::default().list("add", &it.add, |text| json!(text)).list("drop", &it.drop, |text| json!(text)).end()
    };
    Fields::default()
        .message("capabilities", context.capabilities.as_ref(), capabilities)
        .some("runAsUser", context.run_as_user)
        .some("runAsNonRoot", context.run_as_non_root)
        .some("readOnlyRootFilesystem", context.read_only_root_filesystem)
        .some("allowPrivilegeEscalation", context.allow_privilege_escalation)
        .end()
}

fn pod_security_context(context: &core::PodSecurityContext) -> Value {
    Fields::default()
        .some("runAsUser", context.run_as_user)
        .some("runAsNonRoot", context.run_as_non_root)
        .some("fsGroup", context.fs_group)
        .message("seccompProfile", context.seccomp_profile.as_ref(), |profile| json!({"type": profile.r#type}))
        .end()
}

fn toleration(toleration: &core::Toleration) -> Value {
    Fields::default()
        .text("key", &toleration.key)
        .text("operator", &toleration.operator)
        .text("value", &toleration.value)
        .text("effect", &toleration.effect)
        .some("tolerationSeconds", toleration.toleration_seconds)
        .end()
}

fn volume(volume: &core::Volume) -> Value {
    let source = volume.volume_source.clone().unwrap_or_default();
    let config_map = |it: &core::ConfigMapVolumeSource| {
        let name = it.local_object_reference.as_ref().and_then(|reference| reference.name.clone());
        json!({"name": name, "defaultMode": it.default_mode})
    };
    Fields::default()
        .always("name", volume.name.clone())
        .message("emptyDir", source.empty_dir.as_ref(), |it| Fields::default().text("medium", &it.medium).end())
        .message(
            "secret",
            source.secret.as_ref(),
            |it| json!({"secretName": it.secret_name, "defaultMode": it.default_mode}),
        )
        .message("configMap", source.config_map.as_ref(), config_map)
        .message("projected", source.projected.as_ref(), projected)
        .message("image", source.image.as_ref(), |it| {
            Fields::default().text("reference", &it.reference).text("pullPolicy", &it.pull_policy).end()
        })
        .end()
}

fn projected(projected: &core::ProjectedVolumeSource) -> Value {
    let source = |source: &core::VolumeProjection| {
        Fields::default()
            .message("downwardAPI", source.downward_api.as_ref(), |it| {
                let item = |item: &core::DownwardAPIVolumeFile| {
                    Fields::default()
                        .always("path", item.path.clone())
                        .message("fieldRef", item.field_ref.as_ref(), field)
                        .end()
                };
                Fields::default().list("items", &it.items, item).end()
            })
            .message("configMap", source.config_map.as_ref(), |it| {
                let name = it.local_object_reference.as_ref().and_then(|reference| reference.name.clone());
                let item = |item: &core::KeyToPath| json!({"key": item.key, "path": item.path});
                Fields::default().always("name", name).list("items", &it.items, item).end()
            })
            .message(
                "serviceAccountToken",
                source.service_account_token.as_ref(),
                |it| json!({"expirationSeconds": it.expiration_seconds, "path": it.path}),
            )
            .end()
    };
    Fields::default().list("sources", &projected.sources, source).some("defaultMode", projected.default_mode).end()
}

fn status(status: &core::PodStatus) -> Value {
    Fields::default()
        .some("observedGeneration", status.observed_generation.filter(|generation| *generation != 0))
        .text("phase", &status.phase)
        .list("conditions", &status.conditions, condition)
        .text("message", &status.message)
        .text("reason", &status.reason)
        .text("hostIP", &status.host_ip)
        .list("hostIPs", &status.host_ips, |it| json!({"ip": it.ip}))
        .text("podIP", &status.pod_ip)
        .list("podIPs", &status.pod_ips, |it| json!({"ip": it.ip}))
        .message("startTime", status.start_time.as_ref(), time)
        .list("initContainerStatuses", &status.init_container_statuses, container_status)
        .list("containerStatuses", &status.container_statuses, container_status)
        .text("qosClass", &status.qos_class)
        .list("ephemeralContainerStatuses", &status.ephemeral_container_statuses, container_status)
        .end()
}

fn condition(condition: &core::PodCondition) -> Value {
    Fields::default()
        .always("type", condition.r#type.clone())
        .some("observedGeneration", condition.observed_generation.filter(|generation| *generation != 0))
        .always("status", condition.status.clone())
        .message("lastTransitionTime", condition.last_transition_time.as_ref(), time)
        .text("reason", &condition.reason)
        .text("message", &condition.message)
        .end()
}

fn container_status(status: &core::ContainerStatus) -> Value {
    let empty = || json!({});
    Fields::default()
        .always("name", status.name.clone())
        .always("state", status.state.as_ref().map_or_else(empty, state))
        .always("lastState", status.last_state.as_ref().map_or_else(empty, state))
        .always("ready", status.ready.unwrap_or_default())
        .always("restartCount", status.restart_count.unwrap_or_default())
        .always("image", status.image.clone().unwrap_or_default())
        .always("imageID", status.image_id.clone().unwrap_or_default())
        .text("containerID", &status.container_id)
        .some("started", status.started)
        .end()
}

fn state(state: &core::ContainerState) -> Value {
    Fields::default()
        .message("waiting", state.waiting.as_ref(), |it| {
            Fields::default().text("reason", &it.reason).text("message", &it.message).end()
        })
        .message("running", state.running.as_ref(), |it| {
            Fields::default().message("startedAt", it.started_at.as_ref(), time).end()
        })
        .message("terminated", state.terminated.as_ref(), |it| {
            Fields::default()
                .always("exitCode", it.exit_code.unwrap_or_default())
                .text("reason", &it.reason)
                .message("startedAt", it.started_at.as_ref(), time)
                .message("finishedAt", it.finished_at.as_ref(), time)
                .text("containerID", &it.container_id)
                .end()
        })
        .end()
}
