//! API servers and etcds that go away under the resident agent, and come back.

use pretty_assertions::assert_eq;
use serde_json::json;
use testbed::anchore::Enterprise;

use crate::cluster::Cluster;
use crate::objects::Pod;
use crate::resident::{Arrivals, Resident, names, settings};
use crate::server::TokenUser;

const KINDS: [&str; 2] = ["/api/v1/namespaces", "/api/v1/pods"];

#[tokio::test]
async fn a_crash_of_the_api_server_costs_one_list_a_kind_at_most() {
    let cluster = steady_cluster().await;
    let enterprise = Enterprise::start().await.expect("the testbed starts");
    let (agent, user) = start(&cluster, &enterprise).await;
    let mut arrivals = Arrivals::at(&enterprise);
    arrivals.tell(&cluster.state().await).await;
    were_listed(&cluster, &user, [1, 1]).await;

    cluster.server.kill_apiserver();
    agent.says(&cluster, &["pods", "not up to date any more"]).await;
    cluster.server.start_apiserver().await;
    is_watching(&cluster, &mut arrivals, &user, "after").await;

    agent.stops().await;
    assert_always_complete(&mut arrivals);
}

#[tokio::test]
async fn a_crash_of_etcd_loses_nothing() {
    let cluster = steady_cluster().await;
    let enterprise = Enterprise::start().await.expect("the testbed starts");
    let (agent, user) = start(&cluster, &enterprise).await;
    let mut arrivals = Arrivals::at(&enterprise);
    arrivals.tell(&cluster.state().await).await;

    let is_ready = async || cluster.server.apiserver_is_ready().await;
    cluster.server.kill_etcd();
    cluster.wait_long_until(|| "the API server misses etcd".to_owned(), async || !is_ready().await).await;
    cluster.server.start_etcd().await;
    cluster.wait_long_until(|| "the API server has found etcd".to_owned(), is_ready).await;
    is_watching(&cluster, &mut arrivals, &user, "after").await;

    agent.stops().await;
    assert_always_complete(&mut arrivals);
}

#[tokio::test]
async fn what_happened_before_the_api_servers_memory_begins_is_found_by_one_list() {
    let cluster = steady_cluster().await;
    cluster.pod("shop", Pod::running("ends").image("ends:1")).await;
    let enterprise = Enterprise::start().await.expect("the testbed starts");
    let (agent, user) = start(&cluster, &enterprise).await;
    let mut arrivals = Arrivals::at(&enterprise);
    arrivals.tell(&cluster.state().await).await;
    were_listed(&cluster, &user, [1, 1]).await;

    cluster.server.kill_apiserver();
    cluster.load_pods("shop", [Pod::running("begins").image("begins:1")]).await;
    cluster.remove_pod("shop", "ends").await;
    cluster.compact().await;
    cluster.server.start_apiserver().await;

    arrivals.tell(&cluster.state().await).await;
    is_watching(&cluster, &mut arrivals, &user, "after").await;
    // A server that has only just begun may still know what a watch asks for: then there is no list at all.
    let listed = lists(&cluster, &user);
    assert!(listed.iter().all(|count| *count <= 2), "{listed:?}");

    agent.stops().await;
    assert_always_complete(&mut arrivals);
}

/// A cluster whose pods stay.
async fn steady_cluster() -> Cluster {
    let cluster = Cluster::fresh().await;
    cluster.node("n1").await;
    for namespace in ["blog", "shop"] {
        cluster.namespace(namespace).await;
        cluster.pod(namespace, Pod::running("stays").on("n1").image("web:1")).await;
    }
    cluster
}

async fn start(cluster: &Cluster, enterprise: &Enterprise) -> (Resident, TokenUser) {
    let user = cluster.watcher().await;
    let agent = cluster.agent(&cluster.kubeconfig(&user.with_token()));
    (agent.stays("agent", &settings(enterprise, &json!({}))), user)
}

/// How often namespaces and pods were listed.
fn lists(cluster: &Cluster, user: &TokenUser) -> [usize; 2] {
    KINDS.map(|kind| cluster.given_to(user, "list", kind))
}

/// Waits until namespaces and pods were listed so often: the API server notes it a moment after its answer.
async fn were_listed(cluster: &Cluster, user: &TokenUser, counts: [usize; 2]) {
    let what = || format!("lists are {counts:?}, and not {:?}", lists(cluster, user));
    cluster.wait_long_until(what, async || lists(cluster, user) == counts).await;
}

/// That what happens now is reported from a watch, without a list, and that there were no more than two lists a kind.
async fn is_watching(cluster: &Cluster, arrivals: &mut Arrivals<'_>, user: &TokenUser, name: &str) {
    cluster.pod("shop", Pod::running(&format!("{name}-1")).image("web:2")).await;
    arrivals.tell(&cluster.state().await).await;
    let before = lists(cluster, user);
    assert!(before.iter().all(|count| *count <= 2), "namespaces and pods were listed so often: {before:?}");
    cluster.pod("shop", Pod::running(&format!("{name}-2")).image("web:3")).await;
    cluster.delete_pod("shop", &format!("{name}-1")).await;
    arrivals.tell(&cluster.state().await).await;
    assert_eq!(lists(cluster, user), before);
}

/// That no report lacked a pod that was there all the time.
fn assert_always_complete(arrivals: &mut Arrivals<'_>) {
    arrivals.look();
    for report in &arrivals.seen {
        let stay = names(report, "pods").into_iter().filter(|name| *name == "stays").count();
        assert_eq!((stay, names(report, "nodes")), (2, vec!["n1"]), "{report:#}");
    }
}
