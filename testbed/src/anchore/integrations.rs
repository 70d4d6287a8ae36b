//! Registered agents and their health, as Enterprise keeps them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

/// The registered agents, by uuid.
#[derive(Debug, Default)]
pub(crate) struct Integrations {
    rows: BTreeMap<String, Row>,
}

#[derive(Debug)]
struct Row {
    account: String,
    registration: Value,
    last_seen: Timestamp,
    reported: Reported,
}

#[derive(Debug)]
enum Reported {
    Nothing,
    Healthy,
    Unhealthy(Vec<String>),
}

/// Whether a registration was the first of its pair of ids.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Registered {
    New,
    Known,
}

impl Integrations {
    /// Registers, or refreshes what is known of the same pair of ids, whatever account it was in.
    pub(crate) fn register(&mut self, account: &str, registration: Value, now: Timestamp) -> (Registered, Value) {
        let pair = |value: &Value| (value["registration_id"].clone(), value["registration_instance_id"].clone());
        let known = self.rows.iter().find(|(_, row)| pair(&row.registration) == pair(&registration));
        let known = known.map(|(uuid, _)| uuid.clone());
        let registered = if known.is_some() { Registered::Known } else { Registered::New };
        let uuid = known.unwrap_or_else(|| Uuid::new_v4().to_string());
        let row = Row { account: account.to_owned(), registration, last_seen: now, reported: Reported::Nothing };
        let document = row.document(&uuid, now);
        self.rows.insert(uuid, row);
        (registered, document)
    }

    /// Takes a health report in; `false` when the account has no such integration.
    pub(crate) fn report_health(&mut self, account: &str, uuid: &str, report: &Value, now: Timestamp) -> bool {
        let Some(row) = self.rows.get_mut(uuid).filter(|row| row.account == account) else { return false };
        let errors = report["health_data"]["errors"].as_array().into_iter().flatten();
        let errors: Vec<String> = errors.filter_map(|error| error.as_str().map(str::to_owned)).collect();
        row.reported = if errors.is_empty() { Reported::Healthy } else { Reported::Unhealthy(errors) };
        row.registration["health_report_interval"] = report["health_report_interval"].clone();
        row.registration["uptime"] = report["uptime"].clone();
        row.last_seen = now;
        true
    }

    /// The integrations of an account.
    pub(crate) fn list(&self, account: &str, only_degraded: bool, now: Timestamp) -> Vec<Value> {
        let of_account = self.rows.iter().filter(|(_, row)| row.account == account);
        let degraded = |row: &Row| matches!(row.reported, Reported::Unhealthy(_)) || row.state(now) == "inactive";
        of_account
            .filter(|(_, row)| !only_degraded || degraded(row))
            .map(|(uuid, row)| row.document(uuid, now))
            .collect()
    }

    pub(crate) fn get(&self, account: &str, uuid: &str, now: Timestamp) -> Option<Value> {
        self.rows.get(uuid).filter(|row| row.account == account).map(|row| row.document(uuid, now))
    }

    pub(crate) fn delete(&mut self, account: &str, uuid: &str) -> bool {
        let owned = self.rows.get(uuid).is_some_and(|row| row.account == account);
        owned && self.rows.remove(uuid).is_some()
    }

    /// Forgets all, as a database reset does.
    pub(crate) fn reset(&mut self) {
        self.rows.clear();
    }
}

impl Row {
    /// `inactive` after three missed intervals.
    fn state(&self, now: Timestamp) -> &'static str {
        let interval = self.registration["health_report_interval"].as_i64().unwrap_or(60);
        let silent = now.duration_since(self.last_seen) > SignedDuration::from_secs(3 * interval);
        match self.reported {
            Reported::Nothing => "registered",
            _ if silent => "inactive",
            _ => "active",
        }
    }

    fn document(&self, uuid: &str, now: Timestamp) -> Value {
        let mut document = self.registration.clone();
        document["uuid"] = uuid.into();
        document["account_name"] = self.account.as_str().into();
        document["last_seen"] = self.last_seen.to_string().into();
        document["integration_status"] = json!({"state": self.state(now), "updated_at": self.last_seen.to_string()});
        document["reported_status"] = match &self.reported {
            Reported::Nothing => json!({}),
            Reported::Healthy => json!({"state": "healthy"}),
            Reported::Unhealthy(errors) => json!({"state": "unhealthy", "reason": "errors", "details": errors}),
        };
        document
    }
}
