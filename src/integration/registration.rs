//! What the agent says of itself when it registers.
//!
//! The server tells integrations apart by a pair of ids, over all its accounts: another pair is another integration, and
//! the same pair from two agents is one that both fight for. So the ids are stable without any state: they are those of
//! the agent's Deployment, else they follow from what is the same after a restart.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::{Uuid, uuid};

use crate::anchore::integrations::RegistrationRequest;
use crate::cluster::identity::Identity;
use crate::config::Config;

/// The namespace of registration ids that follow from names. Never changes: another one is another integration.
const REGISTRATION_NAMESPACE: Uuid = uuid!("8a1c7d5e-6f0b-4e0e-9c52-3d0a6e1b7f48");

/// What the settings say of the agent.
#[derive(Debug, Clone)]
pub struct IntegrationSettings {
    /// The cluster's name in reports.
    pub cluster_name: String,
    /// `anchore-registration.registration-id`.
    pub registration_id: Option<String>,
    /// `anchore-registration.integration-name`.
    pub name: Option<String>,
    /// `anchore-registration.integration-description`.
    pub description: Option<String>,
    /// `health-report-interval-seconds`.
    pub health_report_interval: Duration,
    /// `polling-interval-seconds`.
    pub polling_interval: Duration,
    /// The accounts that routes name.
    pub accounts: Vec<String>,
    /// The patterns of these routes, each once.
    pub patterns: Vec<String>,
}

impl IntegrationSettings {
    /// Those of a configuration, for a cluster of this name.
    pub fn new(config: &Config, cluster_name: &str) -> Self {
        let periodic = &config.periodic;
        let mut patterns = Vec::new();
        for pattern in config.routing.routes.iter().flat_map(|route| &route.namespaces) {
            if !patterns.iter().any(|known: &String| known == pattern.as_str()) {
                patterns.push(pattern.as_str().to_owned());
            }
        }
        Self {
            cluster_name: cluster_name.to_owned(),
            registration_id: non_blank(periodic.registration_id.as_deref()),
            name: non_blank(periodic.integration_name.as_deref()),
            description: non_blank(periodic.integration_description.as_deref()),
            health_report_interval: periodic.health_report_interval,
            polling_interval: config.polling_interval,
            accounts: config.routing.routes.iter().map(|route| route.account.clone()).collect(),
            patterns,
        }
    }
}

/// This process, which started once.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    started: Instant,
    started_at: Timestamp,
}

impl Process {
    /// One that starts now.
    pub fn starting_now() -> Self {
        Self { started: Instant::now(), started_at: Timestamp::now() }
    }

    /// Seconds since it started, of a clock that nobody sets.
    pub fn uptime(&self) -> f64 {
        // Nobody needs more than milliseconds.
        Duration::from_millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)).as_secs_f64()
    }
}

/// The registration of this process, whose reports are sent as `user`.
pub fn request(
    settings: &IntegrationSettings,
    process: &Process,
    identity: &Identity,
    user: &str,
) -> RegistrationRequest {
    let deployment = identity.deployment.as_ref();
    RegistrationRequest {
        registration_id: registration_id(settings, identity),
        registration_instance_id: instance_id(identity).to_owned(),
        username: user.to_owned(),
        health_report_interval: settings.health_report_interval.as_secs(),
        name: settings.name.clone().or_else(|| Some(deployment?.name.clone())),
        description: settings.description.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: whole_seconds(process.started_at),
        uptime: process.uptime(),
        cluster_name: settings.cluster_name.clone(),
        namespace: identity.namespace.clone(),
        explicitly_account_bound: settings.accounts.clone(),
        namespaces: settings.patterns.clone(),
    }
}

/// The time as Anchore's own documents have it: RFC 3339 in UTC, whole seconds.
pub(super) fn whole_seconds(timestamp: Timestamp) -> String {
    format!("{timestamp:.0}")
}

fn registration_id(settings: &IntegrationSettings, identity: &Identity) -> String {
    if let Some(id) = &settings.registration_id {
        return id.clone();
    }
    if let Some(deployment) = &identity.deployment {
        return deployment.uid.clone();
    }
    // No name holds a NUL, so no two of these are the same text.
    let namespace = identity.namespace.as_deref().unwrap_or_default();
    let names = [settings.cluster_name.as_str(), namespace, instance_id(identity)].join("\0");
    Uuid::new_v5(&REGISTRATION_NAMESPACE, names.as_bytes()).to_string()
}

/// The Deployment, of which only the leading replica speaks; else the pod or the host.
fn instance_id(identity: &Identity) -> &str {
    identity.deployment.as_ref().map_or(&identity.host, |deployment| &deployment.name)
}

fn non_blank(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::cluster::identity::Deployment;

    fn settings() -> IntegrationSettings {
        IntegrationSettings {
            cluster_name: "edge-7".to_owned(),
            registration_id: None,
            name: None,
            description: None,
            health_report_interval: Duration::from_mins(1),
            polling_interval: Duration::from_mins(5),
            accounts: Vec::new(),
            patterns: Vec::new(),
        }
    }

    fn in_pod(deployment: Option<(&str, &str)>) -> Identity {
        Identity {
            namespace: Some("anchore".to_owned()),
            host: "agent-7d9-x2x".to_owned(),
            deployment: deployment.map(|(name, uid)| Deployment { name: name.to_owned(), uid: uid.to_owned() }),
        }
    }

    fn ids(settings: &IntegrationSettings, identity: &Identity) -> (String, String) {
        let request = request(settings, &Process::starting_now(), identity, "inventory");
        (request.registration_id, request.registration_instance_id)
    }

    #[test]
    fn the_deployment_gives_both_ids_and_the_name() {
        let identity = in_pod(Some(("agent", "uid-1")));
        assert_eq!(ids(&settings(), &identity), ("uid-1".to_owned(), "agent".to_owned()));
        let request = request(&settings(), &Process::starting_now(), &identity, "inventory");
        assert_eq!(request.name.as_deref(), Some("agent"));
    }

    #[test]
    fn the_settings_win() {
        let settings =
            IntegrationSettings { registration_id: Some("mine".into()), name: Some("Edge".into()), ..settings() };
        let identity = in_pod(Some(("agent", "uid-1")));
        assert_eq!(ids(&settings, &identity), ("mine".to_owned(), "agent".to_owned()));
        let request = request(&settings, &Process::starting_now(), &identity, "inventory");
        assert_eq!(request.name.as_deref(), Some("Edge"));
    }

    #[test]
    fn without_a_deployment_the_ids_follow_from_names_and_never_change() {
        let expected = ("15104242-ffe9-5559-9078-e42067e4cd64".to_owned(), "agent-7d9-x2x".to_owned());
        assert_eq!(ids(&settings(), &in_pod(None)), expected);
    }

    #[test]
    fn each_of_the_names_makes_another_id() {
        let other_cluster = IntegrationSettings { cluster_name: "edge-8".to_owned(), ..settings() };
        let other_namespace = Identity { namespace: None, ..in_pod(None) };
        let other_host = Identity { host: "agent-0".to_owned(), ..in_pod(None) };
        let ids = [
            ids(&settings(), &in_pod(None)).0,
            ids(&other_cluster, &in_pod(None)).0,
            ids(&settings(), &other_namespace).0,
            ids(&settings(), &other_host).0,
        ];
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let identity = Identity { namespace: None, ..in_pod(None) };
        let request = request(&settings(), &Process::starting_now(), &identity, "inventory");
        let document = serde_json::to_value(&request).expect("JSON");
        let keys: Vec<&str> = document.as_object().expect("an object").keys().map(String::as_str).collect();
        let expected = [
            "cluster_name",
            "health_report_interval",
            "registration_id",
            "registration_instance_id",
            "started_at",
            "uptime",
            "username",
            "version",
        ];
        assert_eq!(keys, expected);
    }
}
