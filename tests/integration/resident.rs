//! The agent that stays (`mode: periodic`), over real sockets and with a real disk, while all around it fails.
//!
//! `process`: how a test follows a running agent. `life`: from its start to its end. `probes`: the admin port. `state`:
//! what it knows of the cluster, whatever becomes of watches. `access`: rights and credentials that change. `outages`:
//! an API server that is away or busy. `sending`: answers of Anchore Enterprise. `spool`: what waits on the disk.
//! `registration` and `health`: the integration. `replicas`: several of them. `kills`: ends without warning.
//!
//! Reports are made each second. A test waits for what is seen: a report, a request, a line of the log, a metric.

mod access;
mod health;
mod kills;
mod life;
mod outages;
mod probes;
mod process;
mod registration;
mod replicas;
mod sending;
mod spool;
mod state;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;
use testbed::anchore::version::Version;
use testbed::anchore::{Enterprise, EnterpriseOptions};
use testbed::kubernetes::access::User;
use testbed::kubernetes::{KubernetesApi, KubernetesOptions};

use self::process::Resident;
use crate::agent::{Agent, HARD_LIMIT, outlines};
use crate::scene::{PODS, shop};

const V2: &str = "/v2/kubernetes-inventory";
const V1: &str = "/v1/enterprise/kubernetes-inventory";

/// A cluster, an Enterprise, and a folder for what agents keep, which outlives each of them.
struct Stage {
    api: KubernetesApi,
    enterprise: Enterprise,
    state: TempDir,
    user: User,
}

impl Stage {
    /// [`shop`], which anybody may read, and the latest Enterprise.
    async fn new() -> Self {
        Self::with(EnterpriseOptions::default()).await
    }

    /// [`shop`] and an Enterprise without integrations, until it is upgraded: then the agent registers and reports its
    /// health, so that a test can choose when.
    async fn before_upgrade() -> Self {
        Self::with(EnterpriseOptions::default().version(Version::WITHOUT_INTEGRATIONS)).await
    }

    /// [`shop`] and an Enterprise of one's own.
    async fn with(enterprise: EnterpriseOptions) -> Self {
        Self::of(KubernetesOptions::default().cluster(&shop()), enterprise).await
    }

    async fn of(api: KubernetesOptions, enterprise: EnterpriseOptions) -> Self {
        Self::read_as(api, enterprise, User::named("somebody")).await
    }

    /// [`shop`], known to this user alone.
    async fn for_user(user: User, enterprise: EnterpriseOptions) -> Self {
        Self::read_as(KubernetesOptions::default().cluster(&shop()).user(user.clone()), enterprise, user).await
    }

    async fn read_as(api: KubernetesOptions, enterprise: EnterpriseOptions, user: User) -> Self {
        Self {
            api: api.start().await.expect("started"),
            enterprise: enterprise.start().await.expect("started"),
            state: tempfile::tempdir().expect("a folder"),
            user,
        }
    }

    /// The agent with the configuration that fits.
    fn agent(&self) -> Agent {
        let agent = Agent::new().reads_as(&self.api, &self.user).sends_to(&self.enterprise).resident();
        agent.set("state.directory", self.state.path().to_str().expect("text"))
    }

    fn start(&self) -> Resident {
        Resident::start(self.agent())
    }

    /// Waits until Enterprise shows something that holds.
    async fn until(&self, what: &str, holds: impl FnMut(&Enterprise) -> bool) {
        enterprise_shows(&self.enterprise, what, holds).await;
    }

    /// Waits until so many reports have been accepted.
    async fn accepted(&self, count: usize) {
        self.until("reports", |enterprise| enterprise.accepted().len() >= count).await;
    }

    /// Waits for so many reports after those that have been accepted by now.
    async fn accepted_more(&self, count: usize) {
        self.accepted(self.enterprise.accepted().len() + count).await;
    }

    /// Waits until the last accepted report holds all of this.
    async fn reported(&self, line: &str) {
        self.until(line, |enterprise| last(enterprise).iter().any(|reported| reported == line)).await;
    }

    /// Waits until the last accepted report does not hold this.
    async fn not_reported(&self, line: &str) {
        self.until(line, |enterprise| {
            let last = last(enterprise);
            !last.is_empty() && !last.iter().any(|reported| reported == line)
        })
        .await;
    }

    /// All accepted reports of the default account, as outlines.
    fn outlines(&self) -> Vec<Vec<String>> {
        outlines(&self.enterprise, "admin")
    }

    /// Waits until the agent has sent so many requests with reports.
    async fn sent(&self, count: usize) {
        self.until("requests", |enterprise| requests_to(enterprise, V2) >= count).await;
    }

    /// How often the pods were listed, not watched.
    fn lists_of_pods(&self) -> usize {
        let requests = self.api.requests();
        requests.iter().filter(|request| request.path == PODS && !request.query.contains("watch=")).count()
    }

    /// Names of batches on the disk.
    fn spooled(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.state.path().join("spool")).into_iter().flatten();
        let mut paths: Vec<PathBuf> = files.map(|entry| entry.expect("an entry").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "report"));
        paths.sort();
        paths
    }

    /// Every report names all pods of these lines: nothing was lost in between.
    fn assert_never_without(&self, lines: &[&str]) {
        for (number, outline) in self.outlines().iter().enumerate() {
            let missing: Vec<_> = lines.iter().filter(|line| !outline.iter().any(|has| has == *line)).collect();
            assert!(missing.is_empty(), "report {number} has no {missing:?}: {outline:?}");
        }
    }
}

/// Waits until Enterprise shows something that holds.
async fn enterprise_shows(enterprise: &Enterprise, what: &str, holds: impl FnMut(&Enterprise) -> bool) {
    let shown = tokio::time::timeout(HARD_LIMIT, enterprise.wait_until(holds)).await;
    assert!(shown.is_ok(), "not within a minute: {what}; the last report is {:?}", last(enterprise));
}

/// Waits until an API server shows something that holds.
async fn api_shows(api: &KubernetesApi, what: &str, holds: impl FnMut(&KubernetesApi) -> bool) {
    let shown = tokio::time::timeout(HARD_LIMIT, api.wait_until(holds)).await;
    assert!(shown.is_ok(), "not within a minute: {what}");
}

/// The last accepted report of the default account.
fn last(enterprise: &Enterprise) -> Vec<String> {
    outlines(enterprise, "admin").pop().unwrap_or_default()
}

fn requests_to(enterprise: &Enterprise, path: &str) -> usize {
    enterprise.requests().iter().filter(|request| request.path == path).count()
}

/// The times of an account's accepted reports, in the order in which they were accepted.
fn times(enterprise: &Enterprise, account: &str) -> Vec<String> {
    let of_account = enterprise.accepted().into_iter().filter(|report| report.account == account);
    of_account.map(|report| report.timestamp).collect()
}

/// No report of an account is older than the one that was accepted before.
fn assert_in_order(enterprise: &Enterprise) {
    let accounts: BTreeSet<String> = enterprise.accepted().into_iter().map(|report| report.account).collect();
    for account in accounts {
        let times = times(enterprise, &account);
        assert!(times.is_sorted(), "{account}: {times:?}");
    }
}

/// What the last accepted health report says is wrong.
fn health_errors(enterprise: &Enterprise) -> Vec<String> {
    let report = enterprise.health_reports().pop().expect("a health report");
    let errors = report.document["health_data"]["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().map(|error| error.as_str().expect("a text").to_owned()).collect()
}

/// What the last accepted health report says of an account.
fn health_of(enterprise: &Enterprise, account: &str) -> Value {
    let report = enterprise.health_reports().pop().expect("a health report");
    report.document["health_data"]["account_k8s_inventory_reports"][account].clone()
}
