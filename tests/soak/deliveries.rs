//! The reports that Anchore Enterprise got, boiled down to what ran in them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde_json::Value;
use testbed::anchore::Enterprise;
use testbed::server::record::RecordedRequest;
use tokio_util::sync::CancellationToken;

use crate::enterprise_faults::INVENTORY;
use crate::ledger::{Ledger, accounts_of};
use crate::{Shared, lock};

const LOOK: Duration = Duration::from_millis(100);

/// All that was delivered.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    /// By account, in the order in which their requests arrived.
    pub(crate) reports: BTreeMap<String, Vec<Delivered>>,
    pub(crate) rejections: usize,
    /// What was reported and never was so.
    pub(crate) invented: Vec<String>,
    pub(crate) misplaced: Vec<Misplaced>,
}

/// An image that was reported in another namespace of the name of its own.
#[derive(Debug)]
pub(crate) struct Misplaced {
    pub(crate) account: String,
    pub(crate) timestamp: Timestamp,
    pub(crate) life: usize,
    pub(crate) namespace_uid: String,
}

/// A report that was accepted or rejected.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) request: usize,
    pub(crate) timestamp: Timestamp,
    /// It was answered before this.
    pub(crate) answered_by: Timestamp,
    pub(crate) is_accepted: bool,
    /// Numbers of the lives in it, in order.
    pub(crate) lives: Box<[usize]>,
    /// Uids of the namespaces in it.
    pub(crate) namespaces: Box<[String]>,
}

impl Deliveries {
    /// The time of the newest report that an account accepted.
    pub(crate) fn newest(&self, account: &str) -> Option<Timestamp> {
        let accepted = self.reports.get(account)?.iter().filter(|report| report.is_accepted);
        accepted.map(|report| report.timestamp).max()
    }

    fn take(&mut self, ledger: &Ledger, request: &RecordedRequest, index: usize) {
        if (request.method.clone(), request.path.as_str()) != (Method::POST, INVENTORY) {
            return;
        }
        let Some(status) = request.status.map(|status| status.as_u16()) else { return };
        let is_accepted = (200..300).contains(&status);
        if !is_accepted && status != 400 {
            return;
        }
        // What was not read to its end was not accepted either.
        let Some(report) = request.json() else { return };
        self.rejections += usize::from(!is_accepted);
        let account = request.header("x-anchore-account").to_owned();
        let timestamp = text(&report["timestamp"]).parse().expect("a time");
        let reader = Reader { ledger, account: &account, report: &report, timestamp };
        let lives = reader.lives(self);
        let namespaces = items(&report, "namespaces").map(|namespace| text(&namespace["uid"]).to_owned()).collect();
        let answered_by = Timestamp::now();
        let delivered = Delivered { request: index, timestamp, answered_by, is_accepted, lives, namespaces };
        let reports = self.reports.entry(account).or_default();
        let at = reports.partition_point(|report| report.request < index);
        reports.insert(at, delivered);
    }
}

/// Writes down what arrives, until told to stop.
pub(crate) async fn collect(
    enterprise: Arc<Enterprise>,
    ledger: Shared<Ledger>,
    deliveries: Shared<Deliveries>,
    stop: CancellationToken,
) {
    loop {
        let is_last = stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none();
        for (index, request) in enterprise.take_ended_requests() {
            lock(&deliveries).take(&lock(&ledger), &request, index);
        }
        if is_last {
            return;
        }
    }
}

/// Finds what ran in one report.
struct Reader<'a> {
    ledger: &'a Ledger,
    account: &'a str,
    report: &'a Value,
    timestamp: Timestamp,
}

impl Reader<'_> {
    fn lives(&self, deliveries: &mut Deliveries) -> Box<[usize]> {
        let report = self.report;
        let namespace_of: HashMap<&str, &str> =
            items(report, "pods").map(|pod| (text(&pod["uid"]), text(&pod["namespace_uid"]))).collect();
        let name_of: HashMap<&str, &str> =
            items(report, "namespaces").map(|namespace| (text(&namespace["uid"]), text(&namespace["name"]))).collect();
        let mut lives = Vec::new();
        for container in items(report, "containers").filter(|container| !self.ledger.is_mixture(&image_of(container))) {
            let pod = text(&container["pod_uid"]);
            let namespace = namespace_of.get(pod).copied().unwrap_or_default();
            let name = name_of.get(namespace).copied().unwrap_or_default();
            match self.life(container, (pod, name)) {
                Ok(life) => {
                    if self.ledger.lives()[life].place.namespace_uid != namespace {
                        let (account, namespace_uid) = (self.account.to_owned(), namespace.to_owned());
                        deliveries.misplaced.push(Misplaced {
                            account,
                            timestamp: self.timestamp,
                            life,
                            namespace_uid,
                        });
                    }
                    lives.push(life);
                }
                Err(reason) => deliveries.invented.push(format!(
                    "{} reported to {} at {} ({container} in namespace {name} {namespace})",
                    reason, self.account, self.timestamp
                )),
            }
        }
        lives.sort_unstable();
        lives.dedup();
        lives.into()
    }

    /// The number of the life that a container of the report is; the error says what of it never was so.
    fn life(&self, container: &Value, (pod, name): (&str, &str)) -> Result<usize, &'static str> {
        let number = self.ledger.find(&image_of(container)).ok_or("an image that never ran was")?;
        let life = &self.ledger.lives()[number];
        if !life.containers.iter().any(|id| *id == text(&container["id"])) {
            return Err("a container that never ran this image was");
        }
        if life.place.pod_uid != pod {
            return Err("a container of another pod was");
        }
        if life.place.namespace != name {
            return Err("a pod of a namespace of another name was");
        }
        if !accounts_of(name).contains(&self.account) {
            return Err("a namespace of another account was");
        }
        if self.timestamp + jiff::SignedDuration::from_secs(2) < life.began {
            return Err("an image that had not begun to run was");
        }
        Ok(number)
    }
}

fn image_of(container: &Value) -> String {
    format!("{}@{}", text(&container["image_tag"]), text(&container["image_digest"]))
}

fn items<'a>(report: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    report[list].as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
