//! The whole way: from a real API server to what Anchore Enterprise accepts.

use std::sync::Arc;

use pretty_assertions::assert_eq;
use serde_json::Value;
use testbed::anchore::version::Version;
use testbed::anchore::{Enterprise, EnterpriseOptions};
use testbed::server::tls::Authority;

use crate::access::Right;
use crate::agent::Run;
use crate::cluster::Cluster;
use crate::objects::{Namespace, Pod};

#[tokio::test]
async fn the_whole_cluster_arrives() {
    let cluster = small_cluster().await;
    let enterprise = Enterprise::start().await.expect("the testbed starts");

    let run = send(&cluster, &enterprise, "").await.succeeded().printed_nothing();

    assert_eq!(arrived(&run, &enterprise, "admin"), [cluster.state().await.report()]);
}

#[tokio::test]
async fn the_whole_cluster_arrives_at_an_old_server() {
    let cluster = small_cluster().await;
    let enterprise = EnterpriseOptions::default().version(Version::V1_ONLY).start().await.expect("the testbed starts");

    let run = send(&cluster, &enterprise, "").await.succeeded();

    assert_eq!(arrived(&run, &enterprise, "admin"), [cluster.state().await.report()]);
}

#[tokio::test]
async fn the_whole_cluster_arrives_through_tls() {
    let cluster = small_cluster().await;
    let authority = Arc::new(Authority::new("Anchore").expect("an authority can be made"));
    let enterprise = EnterpriseOptions::default().tls(&authority).start().await.expect("the testbed starts");
    cluster.write_file("anchore.crt", &authority.certificate());

    let run = send(&cluster, &enterprise, "  http: {ca-file: anchore.crt}").await.succeeded();

    assert_eq!(arrived(&run, &enterprise, "admin"), [cluster.state().await.report()]);
}

#[tokio::test]
async fn each_account_gets_its_namespaces() {
    let cluster = small_cluster().await;
    let enterprise = EnterpriseOptions::default().account("blue").start().await.expect("the testbed starts");

    // The account `green` is not known to the server, so the default account gets what is its.
    let by_label = "account-route-by-namespace-label: {key: example.org/account}";
    let run = send(&cluster, &enterprise, by_label).await.succeeded();

    let state = cluster.state().await;
    assert_eq!(arrived(&run, &enterprise, "blue"), [state.clone().only(&["shop"]).only_nodes(&["n2"]).report()]);
    let mut of_admin = arrived(&run, &enterprise, "admin");
    of_admin.sort_by_cached_key(Value::to_string);
    let mut expected = [
        state.clone().only(&["blog"]).only_nodes(&["n1"]).report(),
        state.only(&["default", "kube-node-lease", "kube-public", "kube-system", "stock"]).only_nodes(&[]).report(),
    ];
    expected.sort_by_cached_key(Value::to_string);
    assert_eq!(of_admin, expected);
}

#[tokio::test]
async fn batches_arrive_in_order_and_lose_nothing() {
    let cluster = small_cluster().await;
    let enterprise = Enterprise::start().await.expect("the testbed starts");

    let run = send(&cluster, &enterprise, "inventory-report-limits: {namespaces: 3}").await.succeeded();

    let state = cluster.state().await;
    assert_eq!(
        arrived(&run, &enterprise, "admin"),
        [
            state.clone().only(&["blog", "default", "kube-node-lease"]).only_nodes(&["n1"]).report(),
            state.clone().only(&["kube-public", "kube-system", "shop"]).only_nodes(&["n2"]).report(),
            // The last one takes the nodes that nothing runs on.
            state.only(&["stock"]).only_nodes(&["n3"]).report(),
        ]
    );
    let mut timestamps: Vec<String> = enterprise.accepted().into_iter().map(|report| report.timestamp).collect();
    timestamps.dedup();
    assert_eq!(timestamps.len(), 1);
}

#[tokio::test]
async fn what_was_readable_arrives() {
    let cluster = small_cluster().await;
    let enterprise = Enterprise::start().await.expect("the testbed starts");
    let user = cluster.token_user();
    cluster.grant(&user.name, &[Right::new("list", "namespaces"), Right::new("list", "nodes")]).await;
    cluster.grant_in("shop", &user.name, &[Right::new("list", "pods")]).await;

    let agent = cluster.agent(&cluster.kubeconfig(&user.with_token()));
    let run = agent.configured(&settings(&enterprise, "")).runs().await;

    let run = run.ended_with(1).said(&["blog", "403"]);
    assert_eq!(arrived(&run, &enterprise, "admin"), [cluster.state().await.only(&["shop"]).report()]);
}

#[tokio::test]
async fn nothing_arrives_when_nothing_was_readable() {
    let cluster = small_cluster().await;
    let enterprise = Enterprise::start().await.expect("the testbed starts");
    let user = cluster.token_user();

    let agent = cluster.agent(&cluster.kubeconfig(&user.with_token()));
    let run = agent.configured(&settings(&enterprise, "")).runs().await;

    run.ended_with(1).said(&["namespaces", "403"]);
    let sent = enterprise.requests().into_iter().filter(|request| request.method == http::Method::POST).count();
    assert_eq!(sent, 0);
}

#[tokio::test]
async fn a_dry_run_sends_nothing() {
    let cluster = small_cluster().await;
    let enterprise = Enterprise::start().await.expect("the testbed starts");
    let reader = cluster.reader().await;

    let agent = cluster.agent(&cluster.kubeconfig(&reader.with_token()));
    let run = agent.configured(&settings(&enterprise, "")).arg("--dry-run").runs().await.succeeded();

    assert_eq!(run.report(), cluster.state().await.report());
    run.said(&["admin", enterprise.url()]);
    assert_eq!(enterprise.requests().len(), 0);
}

/// Namespaces of the accounts `green` (`blog`, on `n1`) and `blue` (`shop`, on `n2`), and `stock`, which is nobody's.
async fn small_cluster() -> Cluster {
    let cluster = Cluster::fresh().await;
    for node in ["n1", "n2", "n3"] {
        cluster.node(node).await;
    }
    for (name, account, node) in [("blog", "green", "n1"), ("shop", "blue", "n2")] {
        cluster.namespace(Namespace::named(name).label("example.org/account", account)).await;
        cluster.pod(name, Pod::running("web-0").on(node).image(&format!("{name}:1"))).await;
    }
    cluster.namespace("stock").await;
    cluster
}

/// Runs the agent with rights to read everything.
async fn send(cluster: &Cluster, enterprise: &Enterprise, more: &str) -> Run {
    let reader = cluster.reader().await;
    let agent = cluster.agent(&cluster.kubeconfig(&reader.with_token()));
    agent.configured(&settings(enterprise, more)).runs().await
}

/// A configuration that sends to `enterprise`, and has these lines after its section.
fn settings(enterprise: &Enterprise, more: &str) -> String {
    format!("anchore:\n  url: {}\n  user: admin\n  password: foobar\n{more}\n", enterprise.url())
}

/// The reports that an account accepted, in order, without their timestamps.
fn arrived(run: &Run, enterprise: &Enterprise, account: &str) -> Vec<Value> {
    enterprise.reports(account).into_iter().map(|report| run.without_timestamp(report)).collect()
}
