//! What only the resident agent uses: registration, health, watching, spool, admin port, lease. Checked in every mode.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
