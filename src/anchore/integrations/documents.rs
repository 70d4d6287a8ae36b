//! What is sent to the integrations API, field by field as Anchore Enterprise has it.

use std::collections::BTreeMap;

use serde::Serialize;

/// What this agent is, among the kinds of integrations.
pub(super) const INTEGRATION_TYPE: &str = "k8s_inventory_agent";

/// The version of health reports, and of what they carry.
pub(super) const PROTOCOL_VERSION: u8 = 1;

/// Who the agent is. Field by field as Anchore Enterprise's API has it; what is `None` or empty is left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RegistrationRequest {
    /// With the next field what the server tells integrations apart by, over all accounts.
    pub registration_id: String,
    /// See above.
    pub registration_instance_id: String,
    /// The user that reports are sent as.
    pub username: String,
    /// Seconds, 30 to 600.
    pub health_report_interval: u64,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What people say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Of this program.
    pub version: String,
    /// RFC 3339.
    pub started_at: String,
    /// Seconds since then.
    pub uptime: f64,
    /// The cluster's name in reports.
    pub cluster_name: String,
    /// The namespace it runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Accounts that routes name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub explicitly_account_bound: Vec<String>,
    /// The patterns of these routes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
}

/// How the agent is, and what became of its reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HealthReport {
    /// Another one for each report.
    pub uuid: String,
    /// RFC 3339.
    pub timestamp: String,
    /// Seconds since the agent started.
    pub uptime: f64,
    /// Seconds, 30 to 600.
    pub health_report_interval: u64,
    /// What is wrong; empty when all is well.
    pub errors: Vec<String>,
    /// By account.
    pub reports: BTreeMap<String, ReportInfo>,
}

/// The last reports of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportInfo {
    /// RFC 3339.
    pub report_timestamp: String,
    /// The account they are of.
    pub account_name: String,
    /// The user of the last attempt.
    pub sent_as_user: String,
    /// How many there are, at least 1.
    pub batch_size: u64,
    /// Number of the last accepted one, from 1; -1 is none.
    pub last_successful_index: i64,
    /// Whether anything is or was wrong with them.
    pub has_errors: bool,
    /// The attempts so far.
    pub batches: Vec<BatchInfo>,
}

/// An attempt at one report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BatchInfo {
    /// Its number, from 1.
    pub batch_index: u64,
    /// RFC 3339.
    pub send_timestamp: String,
    /// What failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A registration as it is sent.
#[derive(Serialize)]
pub(super) struct RegistrationDocument<'a> {
    #[serde(rename = "type")]
    pub(super) integration_type: &'static str,
    #[serde(flatten)]
    pub(super) request: &'a RegistrationRequest,
}

/// A health report as it is sent.
#[derive(Serialize)]
pub(super) struct HealthDocument<'a> {
    pub(super) uuid: &'a str,
    pub(super) protocol_version: u8,
    pub(super) timestamp: &'a str,
    pub(super) uptime: f64,
    pub(super) health_report_interval: u64,
    pub(super) health_data: HealthData<'a>,
}

#[derive(Serialize)]
pub(super) struct HealthData<'a> {
    #[serde(rename = "type")]
    pub(super) integration_type: &'static str,
    pub(super) version: u8,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) errors: &'a [String],
    pub(super) account_k8s_inventory_reports: &'a BTreeMap<String, ReportInfo>,
}
