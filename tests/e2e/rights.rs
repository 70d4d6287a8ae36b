//! What is read with which rights, and what is said of the rest.

use pretty_assertions::assert_eq;
use serde_json::Value;

use crate::access::{READ_EVERYTHING, READ_NAMESPACE, Right};
use crate::cluster::Cluster;
use crate::objects::{Namespace, Pod};
use crate::server::TokenUser;

const GET_NAMESPACES: Right = Right::new("get", "namespaces");
const LIST_NAMESPACES: Right = Right::new("list", "namespaces");
const LIST_NODES: Right = Right::new("list", "nodes");
const LIST_PODS: Right = Right::new("list", "pods");

/// All namespaces of [`three_namespaces`].
const ALL: [&str; 7] = ["blog", "default", "kube-node-lease", "kube-public", "kube-system", "shop", "stock"];

#[tokio::test]
async fn roles_in_the_included_namespaces_are_enough() {
    let cluster = three_namespaces().await;
    let user = cluster.token_user();
    for namespace in ["blog", "shop"] {
        cluster.grant_in(namespace, &user.name, &READ_NAMESPACE).await;
    }

    let agent = agent_of(&cluster, &user).configured("namespace-selectors: {include: [shop, blog]}");
    let run = agent.prints_json().await.succeeded();

    assert_eq!(run.report(), cluster.state().await.only(&["blog", "shop"]).without_nodes().report());
}

#[tokio::test]
async fn a_role_that_may_not_get_its_namespace_is_not_enough() {
    let cluster = three_namespaces().await;
    let user = cluster.token_user();
    cluster.grant_in("blog", &user.name, &READ_NAMESPACE).await;
    cluster.grant_in("shop", &user.name, &[LIST_PODS]).await;

    let run = agent_of(&cluster, &user).arg("--namespaces=shop,blog").prints_json().await;

    let run = run.ended_with(1).said(&["shop", "403", "`get` on namespaces"]);
    assert_eq!(run.report(), cluster.state().await.only(&["blog"]).without_nodes().report());
}

#[tokio::test]
async fn a_role_that_may_not_list_pods_is_not_enough() {
    let cluster = three_namespaces().await;
    let user = cluster.token_user();
    cluster.grant_in("blog", &user.name, &READ_NAMESPACE).await;
    cluster.grant_in("shop", &user.name, &[GET_NAMESPACES]).await;

    let run = agent_of(&cluster, &user).arg("--namespaces=shop,blog").prints_json().await;

    let run = run.ended_with(1).said(&["shop", "403", "`list` on pods"]);
    assert_eq!(run.report(), cluster.state().await.only(&["blog"]).without_nodes().report());
}

#[tokio::test]
async fn no_report_is_made_when_no_included_namespace_is_readable() {
    let cluster = three_namespaces().await;
    let user = cluster.token_user();

    let run = agent_of(&cluster, &user).arg("--namespaces=shop").prints_json().await;

    run.ended_with(1).said(&["shop", "403"]).printed_nothing();
}

#[tokio::test]
async fn nodes_may_be_forbidden() {
    let cluster = three_namespaces().await;
    let user = cluster.token_user();
    cluster.grant(&user.name, &[LIST_NAMESPACES, LIST_PODS]).await;

    let run = agent_of(&cluster, &user).prints_json().await.succeeded();

    let report = run.report();
    assert_eq!(report, cluster.state().await.without_nodes().report());
    assert_eq!((report.get("nodes"), report["pods"][0].get("node_uid")), (None, None));
}

#[tokio::test]
async fn no_report_is_made_when_namespaces_are_forbidden_and_none_is_named() {
    let cluster = three_namespaces().await;
    let user = cluster.token_user();
    cluster.grant(&user.name, &[GET_NAMESPACES, LIST_NODES, LIST_PODS]).await;

    let run = agent_of(&cluster, &user).prints_json().await;

    run.ended_with(1).said(&["namespaces", "403", "namespace-selectors.include"]).printed_nothing();
}

#[tokio::test]
async fn pods_are_read_by_namespace_when_those_of_all_are_forbidden() {
    let cluster = three_namespaces().await;
    let user = cluster.token_user();
    cluster.grant(&user.name, &[LIST_NAMESPACES, LIST_NODES]).await;
    for namespace in ALL {
        cluster.grant_in(namespace, &user.name, &[LIST_PODS]).await;
    }

    let run = agent_of(&cluster, &user).prints_json().await.succeeded();

    assert_eq!(run.report(), cluster.state().await.report());
}

#[tokio::test]
async fn one_forbidden_namespace_is_left_out_and_named() {
    let cluster = three_namespaces().await;
    let user = cluster.token_user();
    cluster.grant(&user.name, &[LIST_NAMESPACES, LIST_NODES]).await;
    for namespace in ALL.iter().filter(|namespace| **namespace != "shop") {
        cluster.grant_in(namespace, &user.name, &[LIST_PODS]).await;
    }

    let run = agent_of(&cluster, &user).prints_json().await;

    let run = run.ended_with(1).said(&["shop", "403", "`list` on pods"]);
    assert_eq!(run.report(), cluster.state().await.without(&["shop"]).report());
}

#[tokio::test]
async fn no_report_is_made_when_no_pods_may_be_listed() {
    let cluster = three_namespaces().await;
    let user = cluster.token_user();
    cluster.grant(&user.name, &[LIST_NAMESPACES, LIST_NODES]).await;

    let run = agent_of(&cluster, &user).prints_json().await;

    run.ended_with(1).said(&["shop", "403", "`list` on pods"]).printed_nothing();
}

#[tokio::test]
async fn included_namespaces_that_do_not_exist_are_named() {
    let cluster = three_namespaces().await;
    let user = cluster.token_user();
    cluster.grant(&user.name, &[GET_NAMESPACES, LIST_NODES, LIST_PODS]).await;

    let run = agent_of(&cluster, &user).arg("--namespaces=shop,shopp,shop").prints_json().await;

    let run = run.succeeded().said(&["shopp"]);
    assert_eq!(run.report(), cluster.state().await.only(&["shop"]).report());
}

#[tokio::test]
async fn no_report_is_made_when_none_of_the_included_namespaces_exists() {
    let cluster = three_namespaces().await;
    let user = cluster.token_user();
    cluster.grant(&user.name, &[GET_NAMESPACES, LIST_NODES, LIST_PODS]).await;

    let run = agent_of(&cluster, &user).arg("--namespaces=shopp,Not/A/Name").prints_json().await;

    run.ended_with(1).said(&["shopp", "Not/A/Name"]).printed_nothing();
}

#[tokio::test]
async fn many_included_namespaces_are_read_with_roles_alone() {
    let cluster = Cluster::fresh().await;
    let user = cluster.token_user();
    // More than are read one by one without trying a list.
    let names: Vec<String> = (0..23).map(|n| format!("team-{n}")).collect();
    for name in &names {
        cluster.namespace(name.as_str()).await;
        cluster.pod(name, Pod::running("web-0").image("web:1")).await;
        cluster.grant_in(name, &user.name, &READ_NAMESPACE).await;
    }

    let agent = agent_of(&cluster, &user).arg("--namespaces").arg(&names.join(","));
    let run = agent.prints_json().await.succeeded();

    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(run.report(), cluster.state().await.only(&names).without_nodes().report());
}

#[tokio::test]
async fn many_included_namespaces_are_picked_out_of_a_list() {
    let cluster = Cluster::fresh().await;
    let user = cluster.reader().await;
    let names: Vec<String> = (0..23).map(|n| format!("team-{n}")).collect();
    for name in &names {
        cluster.namespace(name.as_str()).await;
        cluster.pod(name, Pod::running("web-0").image("web:1")).await;
    }
    cluster.namespace("other").await;
    cluster.pod("other", Pod::running("web-0").image("web:1")).await;

    let agent = agent_of(&cluster, &user).arg("--namespaces").arg(&format!("{},unknown", names.join(",")));
    let run = agent.prints_json().await.succeeded().said(&["unknown"]);

    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(run.report(), cluster.state().await.only(&names).report());
}

#[tokio::test]
async fn excluded_namespaces_are_not_read() {
    let cluster = three_namespaces().await;
    let user = cluster.reader().await;

    let agent = agent_of(&cluster, &user).configured("namespace-selectors: {exclude: [shop, ^kube-]}");
    let run = agent.prints_json().await.succeeded();

    assert_eq!(run.report(), cluster.state().await.only(&["blog", "default", "stock"]).report());
}

#[tokio::test]
async fn nothing_but_nodes_is_reported_when_all_namespaces_are_excluded() {
    let cluster = three_namespaces().await;
    let user = cluster.reader().await;

    let run = agent_of(&cluster, &user).configured("namespace-selectors: {exclude: ['.*']}").prints_json().await;

    let report = run.succeeded().report();
    assert_eq!(report, cluster.state().await.only(&[]).report());
    assert_eq!(report["nodes"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn nobody_without_rights_gets_a_report() {
    let cluster = three_namespaces().await;
    let user = cluster.token_user();

    let run = agent_of(&cluster, &user).prints_json().await;

    run.ended_with(1).said(&["namespaces", "403", &user.name]).printed_nothing();
}

#[tokio::test]
async fn rights_through_a_group_of_bindings_add_up() {
    let cluster = three_namespaces().await;
    let user = cluster.token_user();
    cluster.grant(&user.name, &READ_EVERYTHING).await;
    cluster.grant_in("shop", &user.name, &READ_NAMESPACE).await;

    let run = agent_of(&cluster, &user).arg("--namespaces=shop").prints_json().await.succeeded();

    let report = run.report();
    assert_eq!(report, cluster.state().await.only(&["shop"]).report());
    // Nodes are of the cluster: selectors do not choose among them.
    assert_ne!(report.get("nodes"), None::<&Value>);
}

/// Namespaces `blog`, `shop` and `stock`, each with a pod on the node `n1`.
async fn three_namespaces() -> Cluster {
    let cluster = Cluster::fresh().await;
    cluster.node("n1").await;
    for name in ["blog", "shop", "stock"] {
        cluster.namespace(Namespace::named(name).label("team", name)).await;
        cluster.pod(name, Pod::running("web-0").on("n1").image(&format!("{name}:1"))).await;
    }
    cluster
}

fn agent_of<'a>(cluster: &'a Cluster, user: &TokenUser) -> crate::agent::Agent<'a> {
    cluster.agent(&cluster.kubeconfig(&user.with_token()))
}
