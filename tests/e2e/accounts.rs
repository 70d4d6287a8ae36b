//! Who gets which namespaces of a cluster.

use pretty_assertions::assert_eq;
use serde_json::Value;

use crate::agent::Run;
use crate::cluster::Cluster;
use crate::expected::State;
use crate::objects::{Namespace, Pod};

#[tokio::test]
async fn labels_of_namespaces_name_their_accounts() {
    let cluster = four_teams().await;

    let run =
        read(&cluster, "account-route-by-namespace-label: {key: example.org/account, default-account: rest}").await;

    let state = cluster.state().await;
    assert_same_reports(
        &run,
        &[
            state.clone().only(&["blog"]).only_nodes(&["n1"]),
            state.clone().only(&["shop", "stock"]).only_nodes(&["n2"]),
            // What has no label, and what has an empty one.
            state
                .only(&["default", "empty-label", "kube-node-lease", "kube-public", "kube-system"])
                .only_nodes(&["n1"]),
        ],
    );
}

#[tokio::test]
async fn namespaces_without_the_label_can_be_left_out() {
    let cluster = four_teams().await;

    let by_label = "{key: example.org/account, ignore-namespace-missing-label: true}";
    let run = read(&cluster, &format!("account-route-by-namespace-label: {by_label}")).await;

    let state = cluster.state().await;
    assert_same_reports(
        &run,
        &[state.clone().only(&["blog"]).only_nodes(&["n1"]), state.only(&["shop", "stock"]).only_nodes(&["n2"])],
    );
}

#[tokio::test]
async fn the_label_routes_also_where_it_is_not_reported() {
    let cluster = four_teams().await;

    let metadata = "metadata-collection: {namespaces: {labels: [kubernetes.io/metadata.name]}}";
    let by_label = "account-route-by-namespace-label: {key: example.org/account, ignore-missing-label: true}";
    let run = read(&cluster, &format!("{metadata}\n{by_label}")).await;

    let state = cluster.state().await.without_label("example.org/account");
    assert_same_reports(
        &run,
        &[state.clone().only(&["blog"]).only_nodes(&["n1"]), state.only(&["shop", "stock"]).only_nodes(&["n2"])],
    );
}

#[tokio::test]
async fn routes_come_before_labels_and_may_overlap() {
    let cluster = four_teams().await;

    let run = read(
        &cluster,
        "account-routes: {first: {namespaces: [shop]}, second: {namespaces: ['^sho', '^kube-']}}
account-route-by-namespace-label: {key: example.org/account, ignore-missing-label: true}",
    )
    .await;

    let state = cluster.state().await;
    assert_same_reports(
        &run,
        &[
            state.clone().only(&["blog"]).only_nodes(&["n1"]),
            state.clone().only(&["shop"]).only_nodes(&["n2"]),
            state.clone().only(&["kube-node-lease", "kube-public", "kube-system", "shop"]).only_nodes(&["n2"]),
            state.only(&["stock"]).only_nodes(&[]),
        ],
    );
}

/// Namespaces of the accounts `green` (`blog`) and `blue` (`shop`, which runs on another node, and `stock`, where nothing
/// runs), and one whose label names no account.
async fn four_teams() -> Cluster {
    let cluster = Cluster::fresh().await;
    let (n1, n2) = ("n1", "n2");
    cluster.node(n1).await;
    cluster.node(n2).await;
    for (name, account) in [("blog", "green"), ("shop", "blue"), ("stock", "blue"), ("empty-label", "")] {
        cluster.namespace(Namespace::named(name).label("example.org/account", account)).await;
    }
    for (name, node) in [("blog", n1), ("shop", n2), ("empty-label", n1)] {
        cluster.pod(name, Pod::running("web-0").on(node).image(&format!("{name}:1"))).await;
    }
    cluster
}

async fn read(cluster: &Cluster, configuration: &str) -> Run {
    let reader = cluster.reader().await;
    // Routes need somebody to send as, also when nothing is sent.
    let anchore = "anchore: {url: 'https://127.0.0.1:1', user: u, password: p}";
    let agent = cluster.agent(&cluster.kubeconfig(&reader.with_token()));
    agent.configured(&format!("{configuration}\n{anchore}\n")).prints_json().await.succeeded()
}

/// Compares in an order of their own: accounts have none.
fn assert_same_reports(run: &Run, expected: &[State]) {
    let sorted = |mut reports: Vec<Value>| {
        reports.sort_by_cached_key(Value::to_string);
        reports
    };
    assert_eq!(sorted(run.reports()), sorted(expected.iter().map(State::report).collect()));
}
