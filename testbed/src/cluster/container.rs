//! Containers of pods, of each kind and in each state.

use k8s_pb::api::core::v1 as core;

use super::message::{empty, text, time};
use super::{identity, pod::Pod};

/// A container. Until told otherwise it runs when its pod runs, and waits when its pod is pending.
#[derive(Debug, Clone)]
#[must_use]
pub struct Container {
    pub(super) name: String,
    image: Option<String>,
    status: Option<Status>,
    status_image: Option<String>,
    image_id: Option<String>,
    id: Option<String>,
}

/// What the kubelet says of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Waiting,
    Running,
    Terminated,
    /// Nothing: it has not seen the container yet.
    Unknown,
}

impl Container {
    /// A container of this image, named like the image's last part.
    pub fn of(image: &str) -> Self {
        let last = image.split('@').next().unwrap_or(image).rsplit('/').next().unwrap_or(image);
        let name = last.split(':').next().unwrap_or(last);
        Self::named(name).image(image)
    }

    /// A container of this name, whose image is still to be said.
    pub fn named(name: &str) -> Self {
        let name = name.to_owned();
        Self { name, image: None, status: None, status_image: None, image_id: None, id: None }
    }

    /// With this `image` in the spec.
    pub fn image(self, image: &str) -> Self {
        Self { image: Some(image.to_owned()), ..self }
    }

    /// With this `image` in the status instead of the spec's.
    pub fn status_image(self, image: &str) -> Self {
        Self { status_image: Some(image.to_owned()), ..self }
    }

    /// With this `imageID` instead of the one that follows from its image.
    pub fn image_id(self, image_id: &str) -> Self {
        Self { image_id: Some(image_id.to_owned()), ..self }
    }

    /// With this `containerID` instead of the one that follows from its names.
    pub fn container_id(self, container_id: &str) -> Self {
        Self { id: Some(container_id.to_owned()), ..self }
    }

    /// It waits, for instance for its image: no ids yet.
    pub fn waiting(self) -> Self {
        Self { status: Some(Status::Waiting), ..self }
    }

    /// It runs, whatever its pod's phase.
    pub fn running(self) -> Self {
        Self { status: Some(Status::Running), ..self }
    }

    /// It has ended.
    pub fn terminated(self) -> Self {
        Self { status: Some(Status::Terminated), ..self }
    }

    /// It has no status at all.
    pub fn without_status(self) -> Self {
        Self { status: Some(Status::Unknown), ..self }
    }

    /// Its place in the spec; `None` when no image was said, so that only the status knows it.
    pub(super) fn spec(&self) -> Option<core::Container> {
        Some(core::Container {
            name: text(&self.name),
            image: text(self.image.as_ref()?),
            working_dir: empty(),
            termination_message_path: text("/dev/termination-log"),
            termination_message_policy: text("File"),
            image_pull_policy: text("IfNotPresent"),
            stdin: Some(false),
            stdin_once: Some(false),
            tty: Some(false),
            ..core::Container::default()
        })
    }

    pub(super) fn ephemeral_spec(&self) -> Option<core::EphemeralContainer> {
        let common = core::EphemeralContainerCommon {
            name: text(&self.name),
            image: text(self.image.as_ref()?),
            ..core::EphemeralContainerCommon::default()
        };
        Some(core::EphemeralContainer { ephemeral_container_common: Some(common), target_container_name: empty() })
    }

    pub(super) fn status(&self, namespace: &str, pod: &Pod) -> Option<core::ContainerStatus> {
        let default = if pod.is_pending() { Status::Waiting } else { Status::Running };
        let status = self.status.unwrap_or(default);
        let image = self.image.as_deref().unwrap_or_default();
        let (state, image_id, container_id) = match status {
            Status::Unknown => return None,
            Status::Waiting => (waiting(), String::new(), String::new()),
            Status::Running => (running(), identity::image_id(image), self.usual_id(namespace, pod)),
            Status::Terminated => {
                (terminated(&self.usual_id(namespace, pod)), identity::image_id(image), self.usual_id(namespace, pod))
            }
        };
        Some(core::ContainerStatus {
            name: text(&self.name),
            state: Some(state),
            last_state: Some(core::ContainerState::default()),
            ready: Some(status == Status::Running),
            restart_count: Some(0),
            image: text(self.status_image.as_deref().unwrap_or(image)),
            image_id: text(self.image_id.clone().unwrap_or(image_id)),
            container_id: text(self.id.clone().unwrap_or(container_id)),
            started: Some(status == Status::Running),
            ..core::ContainerStatus::default()
        })
    }

    fn usual_id(&self, namespace: &str, pod: &Pod) -> String {
        identity::container_id(namespace, pod.name(), &self.name)
    }
}

fn waiting() -> core::ContainerState {
    let waiting = core::ContainerStateWaiting { reason: text("ContainerCreating"), message: empty() };
    core::ContainerState { waiting: Some(waiting), ..core::ContainerState::default() }
}

fn running() -> core::ContainerState {
    let running = core::ContainerStateRunning { started_at: time(10) };
    core::ContainerState { running: Some(running), ..core::ContainerState::default() }
}

fn terminated(container_id: &str) -> core::ContainerState {
    let terminated = core::ContainerStateTerminated {
        exit_code: Some(0),
        signal: Some(0),
        reason: text("Completed"),
        message: empty(),
        started_at: time(10),
        finished_at: time(20),
        container_id: text(container_id),
    };
    core::ContainerState { terminated: Some(terminated), ..core::ContainerState::default() }
}
