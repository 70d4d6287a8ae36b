//! What only the resident agent uses: registration, health, watching, spool, admin port, lease. Checked in every mode.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Environment;
use super::key::{Boolean, Choice, Integer, Key, Section, Text};
use super::pattern::is_dns_label;
use super::reader::Reader;

/// Name of folders and of the lease.
const PROGRAM: &str = "anchore-k8s-inventory";

const METHOD: Key<Choice<CollectionMethod>> = Key::new(
    "inventory-collection.method",
    Choice {
        default: ("watch", CollectionMethod::Watch),
        words: &[
            ("watch", CollectionMethod::Watch),
            ("informer", CollectionMethod::Watch),
            ("poll", CollectionMethod::Poll),
        ],
    },
    "`watch` (or `informer`) watches the cluster and makes each report from memory; `poll` lists the cluster for each \
     report. Adhoc mode always lists once.",
);

const SYNC_TIMEOUT: Key<Integer> = Key::new(
    "inventory-collection.informer.cache-sync-timeout-seconds",
    Integer { default: 300, min: 1, max: 86_400 },
    "Seconds to wait for the first complete state of the cluster before the health report says so; trying goes on.",
)
.also(&["inventory-collection.watch.sync-timeout-seconds"]);

const HEALTH_INTERVAL: Key<Integer> = Key::new(
    "health-report-interval-seconds",
    Integer { default: 60, min: 30, max: 600 },
    "Seconds from one health report to the next.",
);

const REGISTRATION_ID: Key<Text> = Key::new(
    "anchore-registration.registration-id",
    Text::UNSET,
    "Identity under which the agent registers. Unset, it is the uid of the agent's own Deployment, else derived from \
     the cluster's name, the namespace and the instance.",
);

const INTEGRATION_NAME: Key<Text> = Key::new(
    "anchore-registration.integration-name",
    Text::UNSET,
    "Name of the agent in Anchore Enterprise. Unset, it is the name of the agent's own Deployment.",
);

const INTEGRATION_DESCRIPTION: Key<Text> =
    Key::new("anchore-registration.integration-description", Text::UNSET, "Description of the agent.");

const STATE_DIRECTORY: Key<Text> = Key::new(
    "state.directory",
    Text::UNSET,
    "Folder where unsent reports wait. Unset, it is `$XDG_STATE_HOME/anchore-k8s-inventory`, with `~/.local/state` \
     where that variable is not set, or `/var/lib/anchore-k8s-inventory` where there is no home either.",
);

const SPOOL_MAX: Key<Integer> = Key::new(
    "spool.max-bytes",
    Integer { default: 1_073_741_824, min: 1, max: u64::MAX },
    "Most bytes of unsent reports, all accounts together. Beyond it the oldest are dropped and counted.",
);

const ADMIN_LISTEN: Key<Text> =
    Key::new("admin.listen", Text::UNSET, "`ADDRESS:PORT` of `/livez`, `/readyz` and `/metrics`; off when empty.");

const ELECTION: Key<Boolean> = Key::new(
    "leader-election.enabled",
    Boolean { default: false },
    "With several replicas, only the holder of a Lease collects and reports.",
);

const LEASE_NAME: Key<Text> = Key::new(
    "leader-election.lease-name",
    Text { default: PROGRAM, secret: false },
    "Name of that Lease, in the agent's own namespace.",
);

/// Settings of periodic mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeriodicConfig {
    /// `inventory-collection.method`.
    pub method: CollectionMethod,
    /// `inventory-collection.informer.cache-sync-timeout-seconds`.
    pub sync_timeout: Duration,
    /// `health-report-interval-seconds`.
    pub health_report_interval: Duration,
    /// `anchore-registration.registration-id`.
    pub registration_id: Option<String>,
    /// `anchore-registration.integration-name`.
    pub integration_name: Option<String>,
    /// `anchore-registration.integration-description`.
    pub integration_description: Option<String>,
    /// `state.directory`: where unsent reports wait.
    pub state_directory: PathBuf,
    /// `spool.max-bytes`, all accounts together.
    pub spool_max_bytes: u64,
    /// `admin.listen`; `None` is off.
    pub admin_listen: Option<SocketAddr>,
    /// `leader-election.lease-name`, when `leader-election.enabled`.
    pub lease_name: Option<String>,
}

/// `inventory-collection.method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectionMethod {
    /// Watch the cluster; each report is made from memory.
    Watch,
    /// List the cluster for each report.
    Poll,
}

pub(super) fn section() -> Section {
    Section {
        title: "Periodic mode",
        intro: "These keys are checked in every mode and used in periodic mode.",
        rows: vec![
            METHOD.into(),
            SYNC_TIMEOUT.into(),
            HEALTH_INTERVAL.into(),
            REGISTRATION_ID.into(),
            INTEGRATION_NAME.into(),
            INTEGRATION_DESCRIPTION.into(),
            STATE_DIRECTORY.into(),
            SPOOL_MAX.into(),
            ADMIN_LISTEN.into(),
            ELECTION.into(),
            LEASE_NAME.into(),
        ],
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> PeriodicConfig {
    PeriodicConfig {
        method: reader.choice(&METHOD),
        sync_timeout: Duration::from_secs(reader.integer(&SYNC_TIMEOUT)),
        health_report_interval: Duration::from_secs(reader.integer(&HEALTH_INTERVAL)),
        registration_id: reader.text(&REGISTRATION_ID),
        integration_name: reader.text(&INTEGRATION_NAME),
        integration_description: reader.text(&INTEGRATION_DESCRIPTION),
        state_directory: match reader.text(&STATE_DIRECTORY) {
            Some(path) => reader.environment.path(&path),
            None => default_state_directory(reader.environment),
        },
        spool_max_bytes: reader.integer(&SPOOL_MAX),
        admin_listen: read_listen(reader),
        lease_name: read_lease_name(reader),
    }
}

fn read_listen(reader: &mut Reader<'_>) -> Option<SocketAddr> {
    let text = reader.text(&ADMIN_LISTEN)?;
    let address = text.trim().parse().ok();
    if address.is_none() {
        reader.error(&ADMIN_LISTEN, "is not an IP address with a port", "Write ADDRESS:PORT, such as 0.0.0.0:8080");
    }
    address
}

fn read_lease_name(reader: &mut Reader<'_>) -> Option<String> {
    let enabled = reader.boolean(&ELECTION);
    let name = reader.text(&LEASE_NAME).unwrap_or_default();
    if name.len() > 253 || !name.split('.').all(is_dns_label) {
        let advice = "Use lower-case letters, digits, - and .";
        reader.error(&LEASE_NAME, "is not a name that a Kubernetes object can have", advice);
    }
    enabled.then_some(name)
}

/// By the XDG base directory specification, which says to ignore relative paths in its variables.
fn default_state_directory(environment: &Environment) -> PathBuf {
    let state_home = environment.xdg_directory("XDG_STATE_HOME");
    let base = state_home.or_else(|| environment.home.as_ref().map(|home| home.join(".local/state")));
    base.unwrap_or_else(|| PathBuf::from("/var/lib")).join(PROGRAM)
}
