//! Several replicas of the resident agent, of which one reports.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use testbed::anchore::tenancy::User;
use testbed::anchore::{Enterprise, EnterpriseOptions};

use crate::access::{SHARE_LEASES, WATCH_EVERYTHING};
use crate::cluster::Cluster;
use crate::resident::{Arrivals, Resident, assert_in_order, settings};
use crate::server::TokenUser;

const LEADS: &str = "this replica leads";

#[tokio::test]
async fn one_replica_reports_and_the_next_follows_at_once_when_it_stops() {
    let scene = Scene::with_leases().await;
    let first = scene.starts("first");
    first.says(&scene.cluster, &[LEADS]).await;
    let second = scene.starts("second");
    scene.reports_as("first", 3).await;
    assert_eq!(second.lines_with(&[LEADS]), 0);

    first.stops().await;
    // It does not wait until the Lease expires: the first one has given it up.
    let lease = scene.cluster.get(LEASE).await;
    assert!(lease["spec"]["holderIdentity"].as_str().is_none_or(|holder| !holder.starts_with("first")), "{lease}");
    scene.reports_as("second", 2).await;
    second.stops().await;
    scene.took_turns(&["first", "second"]);
}

#[tokio::test]
async fn another_replica_follows_when_the_one_that_reports_is_killed() {
    let scene = Scene::with_leases().await;
    let first = scene.starts("first");
    first.says(&scene.cluster, &[LEADS]).await;
    let second = scene.starts("second");
    scene.reports_as("first", 1).await;

    first.kill().await;
    scene.reports_as("second", 2).await;
    second.stops().await;
    scene.took_turns(&["first", "second"]);
}

#[tokio::test]
async fn a_replica_that_was_paused_until_another_reported_sends_nothing_more() {
    let scene = Scene::with_leases().await;
    let first = scene.starts("first");
    first.says(&scene.cluster, &[LEADS]).await;
    let second = scene.starts("second");
    scene.reports_as("first", 1).await;

    first.signal("STOP").await;
    first.is_stopped(&scene.cluster).await;
    scene.reports_as("second", 1).await;
    let before = scene.requests_as("first");
    first.signal("CONT").await;
    first.says(&scene.cluster, &["this replica does not lead any more"]).await;
    scene.reports_as("second", 3).await;

    assert_eq!(scene.requests_as("first"), before);
    first.stops().await;
    second.stops().await;
    assert_eq!(scene.requests_as("first"), before);
    scene.took_turns(&["first", "second"]);
}

#[tokio::test]
async fn without_a_right_to_leases_a_replica_reports_alone_and_says_so_once() {
    let scene = Scene::new().await;
    let only = scene.starts("first");
    only.says(&scene.cluster, &["ERROR", "Leases are not allowed", "runs alone"]).await;
    let mut arrivals = Arrivals::at(&scene.enterprise);
    arrivals.tell(&scene.cluster.state().await).await;
    arrivals.next().await;
    let log = only.stops().await;
    assert_eq!(log.lines().filter(|line| line.contains("ERROR")).count(), 1, "{log}");
}

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/anchore-k8s-inventory";

/// A cluster and an Enterprise, to which each replica sends as a user of its own name.
struct Scene {
    cluster: Cluster,
    enterprise: Enterprise,
    user: TokenUser,
}

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::with_one_pod().await;
        let enterprise = EnterpriseOptions::default()
            .user(User::of("admin", "first", "foobar"))
            .user(User::of("admin", "second", "foobar"));
        let enterprise = enterprise.start().await.expect("the testbed starts");
        let user = cluster.token_user();
        cluster.grant(&user.name, &WATCH_EVERYTHING).await;
        Self { cluster, enterprise, user }
    }

    async fn with_leases() -> Self {
        let scene = Self::new().await;
        scene.cluster.grant_in("shop", &scene.user.name, &SHARE_LEASES).await;
        scene
    }

    fn starts(&self, name: &str) -> Resident {
        let more = json!({
            "anchore": {"url": self.enterprise.url(), "user": name, "password": "foobar"},
            "leader-election": {"enabled": true},
            "state": {"directory": self.cluster.directory.path().join(format!("{name}-state"))},
        });
        let agent = self.cluster.agent(&self.cluster.kubeconfig(&self.user.with_token()));
        agent.variable("POD_NAMESPACE", "shop").stays(name, &settings(&self.enterprise, &more))
    }

    /// Waits until so many more reports were accepted from this user.
    async fn reports_as(&self, user: &str, more: usize) {
        let count = || self.enterprise.accepted().into_iter().filter(|report| report.user == user).count();
        let before = count();
        self.cluster.wait_long_until(|| format!("{user} reports"), async || count() >= before + more).await;
    }

    fn requests_as(&self, user: &str) -> usize {
        let requests = self.enterprise.requests();
        requests.iter().filter(|request| request.user.as_deref() == Some(user)).count()
    }

    /// That each reported in its turn, one after the other, all of the cluster, and nothing older after something newer.
    fn took_turns(&self, users: &[&str]) {
        assert_in_order(&self.enterprise);
        let mut turns: Vec<String> = self.enterprise.accepted().into_iter().map(|report| report.user).collect();
        turns.dedup();
        assert_eq!(turns, users);
        let pods = |report: Value| report["pods"].as_array().map_or(0, Vec::len);
        assert!(self.enterprise.reports("admin").into_iter().all(|report| pods(report) == 1));
    }
}
