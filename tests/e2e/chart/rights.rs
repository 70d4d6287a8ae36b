//! The rights that the chart grants: those it says and no others, enough for the agent, and each needed.
//!
//! The agent runs outside, once, with the token of the release's service account. What `watch` and the rights in the
//! release's own namespace are for is only compared with what the chart says.

use std::collections::BTreeSet;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::NAMESPACE;
use super::helm::{Helm, chart, required_values};
use crate::access::{Kubeconfig, Right};
use crate::agent::{Agent, Run};
use crate::cluster::Cluster;
use crate::objects::Pod;

const USER: &str = "system:serviceaccount:agents:k8s-inventory";
const CLUSTER_ROLE: &str = "clusterrole/agents-agent-k8s-inventory-read-only";
const ROLE: &str = "role/agents-agent-k8s-inventory-read-only";

#[tokio::test]
async fn chart_grants_what_a_whole_cluster_needs_and_no_more() {
    let cluster = cluster_with_a_pod().await;
    let helm = released(&cluster, &[]).await;

    let expected = ["get namespaces", "list namespaces", "list nodes", "list pods", "watch namespaces", "watch pods"];
    assert_eq!(rights(&helm, "shop").await, set(&expected));
    let own = ["get deployments", "get pods", "get replicasets"];
    assert_eq!(rights(&helm, NAMESPACE).await, set(&[&expected[..], &own].concat()));

    let kubeconfig = kubeconfig(&cluster).await;
    cluster.agent(&kubeconfig).prints_json().await.tells_all_of(&cluster).await;
    for (rule, verb, resource) in [(0, "list", "pods"), (1, "list", "namespaces")] {
        without(&cluster, &helm, CLUSTER_ROLE, (rule, verb, resource), async || {
            cluster.agent(&kubeconfig).prints_json().await.ended_with(1).said(&[resource, "403"]);
        })
        .await;
    }
    without(&cluster, &helm, CLUSTER_ROLE, (2, "list", "nodes"), async || {
        let report = cluster.agent(&kubeconfig).prints_json().await.succeeded().report();
        assert_eq!(report, cluster.state().await.without_nodes().report());
    })
    .await;
    without(&cluster, &helm, CLUSTER_ROLE, (1, "get", "namespaces"), async || {
        let run = cluster.agent(&kubeconfig).arg("--namespaces=shop").prints_json().await;
        run.ended_with(1).said(&["shop", "403", "`get` on namespaces"]);
    })
    .await;
    helm.helm(&["uninstall", "agent"]).await.succeeded();
}

#[tokio::test]
async fn chart_grants_what_single_namespaces_need_and_no_more() {
    let cluster = cluster_with_a_pod().await;
    let set_scope = ["--set=rbac.scope=namespaces", "--set=k8sInventory.namespaceSelectors.include={shop}"];
    let helm = released(&cluster, &set_scope).await;

    assert_eq!(rights(&helm, "shop").await, set(&["get namespaces", "list pods", "watch pods"]));
    assert_eq!(rights(&helm, "default").await, BTreeSet::new());
    let own = ["get deployments", "get pods", "get replicasets"];
    assert_eq!(rights(&helm, NAMESPACE).await, set(&own));

    let kubeconfig = kubeconfig(&cluster).await;
    let agent = || cluster.agent(&kubeconfig).arg("--namespaces=shop");
    let run: Run = Agent::prints_json(agent()).await.succeeded();
    assert_eq!(run.report(), cluster.state().await.only(&["shop"]).without_nodes().report());
    for (rule, verb, resource) in [(0, "list", "pods"), (1, "get", "namespaces")] {
        without(&cluster, &helm, ROLE, (rule, verb, resource), async || {
            agent().prints_json().await.ended_with(1).said(&["shop", "403", &format!("`{verb}` on {resource}")]);
        })
        .await;
    }
    helm.helm(&["uninstall", "agent"]).await.succeeded();
}

#[tokio::test]
async fn chart_grants_leases_to_several_replicas_and_no_watch_to_single_runs() {
    let cluster = cluster_with_a_pod().await;
    let helm = released(&cluster, &["--set=replicaCount=2"]).await;
    let lease = ["create leases", "get leases/agent-k8s-inventory", "update leases/agent-k8s-inventory"];
    let granted = rights(&helm, NAMESPACE).await;
    let leases: BTreeSet<String> = granted.into_iter().filter(|right| right.contains("leases")).collect();
    assert_eq!(leases, set(&lease));

    let (chart, required) = (chart().display().to_string(), helm.values("required.yaml", &required_values()));
    helm.helm(&["upgrade", "agent", &chart, &required, "--set=k8sInventory.mode=adhoc"]).await.succeeded();
    let expected = set(&["get namespaces", "list namespaces", "list nodes", "list pods"]);
    cluster
        .wait_until("the API server knows that rights are gone", async || rights(&helm, NAMESPACE).await == expected)
        .await;
    cluster.agent(&kubeconfig(&cluster).await).prints_json().await.tells_all_of(&cluster).await;
    helm.helm(&["uninstall", "agent"]).await.succeeded();
}

async fn cluster_with_a_pod() -> Cluster {
    let cluster = Cluster::fresh().await;
    cluster.node("n1").await;
    cluster.namespace("shop").await;
    cluster.pod("shop", Pod::running("web-0").on("n1").image("web:1")).await;
    cluster
}

/// Installs a release, and waits until the API server knows its rights.
async fn released(cluster: &Cluster, arguments: &[&str]) -> Helm {
    let helm = Helm::of(cluster).await;
    let (chart, required) = (chart().display().to_string(), helm.values("required.yaml", &required_values()));
    helm.helm(&[&["install", "agent", &chart, &required], arguments].concat()).await.succeeded();
    cluster.wait_for_rights(USER, Some("shop"), &[Right::new("list", "pods")]).await;
    cluster.wait_for_rights(USER, Some(NAMESPACE), &[Right::new("get", "pods")]).await;
    helm
}

/// A kubeconfig with a token of the release's service account.
async fn kubeconfig(cluster: &Cluster) -> std::path::PathBuf {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/k8s-inventory/token");
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let answer = cluster.post(&path, &request).await;
    // Helm's own kubeconfig is in the folder of the test as well.
    Kubeconfig::new()
        .cluster("prod", &cluster.entry())
        .user("agent", &json!({"token": answer["status"]["token"]}))
        .context("main", "prod", "agent")
        .write_as(cluster, "kubeconfig-of-the-agent")
}

/// What the API server lets the service account do in a namespace, beyond what it lets any service account do.
async fn rights(helm: &Helm, namespace: &str) -> BTreeSet<String> {
    let anybody = rights_of("system:serviceaccount:agents:anybody", helm, namespace).await;
    rights_of(USER, helm, namespace).await.difference(&anybody).cloned().collect()
}

/// What a user may do in a namespace: `get pods` or, for one object alone, `get pods/name`.
async fn rights_of(user: &str, helm: &Helm, namespace: &str) -> BTreeSet<String> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    });
    let file = helm.values("review.json", &review.to_string()).replace("--values=", "--filename=");
    let user = format!("--as={user}");
    let answer = helm.kubectl(&["create", "--validate=false", "--output=json", &user, &file]).await.succeeded();
    let answer: Value = serde_json::from_str(&answer.stdout).expect("kubectl prints JSON");
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in answer["status"]["resourceRules"].as_array().into_iter().flatten() {
        let names = texts(&rule["resourceNames"]);
        for resource in texts(&rule["resources"]) {
            for verb in texts(&rule["verbs"]) {
                rights.extend(names.iter().map(|name| format!("{verb} {resource}/{name}")));
                if names.is_empty() {
                    rights.insert(format!("{verb} {resource}"));
                }
            }
        }
    }
    rights
}

/// Runs `test` while one verb of one rule of a role is gone, and gives it back.
async fn without(
    cluster: &Cluster,
    helm: &Helm,
    role: &str,
    (index, verb, resource): (usize, &'static str, &'static str),
    test: impl AsyncFn(),
) {
    let arguments = ["--namespace=shop", "get", role, "--output=json"];
    let complete: Value =
        serde_json::from_str(&helm.kubectl(&arguments).await.succeeded().stdout).expect("kubectl prints JSON");
    let mut reduced = complete.clone();
    let verbs = reduced["rules"][index]["verbs"].as_array_mut().expect("a rule has verbs");
    let before = verbs.len();
    verbs.retain(|granted| granted != verb);
    assert_eq!(verbs.len(), before - 1, "{verb} {resource} is granted");
    if before == 1 {
        reduced["rules"].as_array_mut().expect("a role has rules").remove(index);
    }
    replace(helm, &reduced).await;
    let right = format!("{verb} {resource}");
    cluster
        .wait_until("the API server knows that a right is gone", async || !rights(helm, "shop").await.contains(&right))
        .await;
    test().await;
    replace(helm, &complete).await;
    cluster.wait_for_rights(USER, Some("shop"), &[Right::new(verb, resource)]).await;
}

/// Puts a role in the place of the one of its name.
async fn replace(helm: &Helm, role: &Value) {
    let mut role = role.clone();
    role["metadata"]["resourceVersion"] = Value::Null;
    let file = helm.values("role.json", &role.to_string()).replace("--values=", "--filename=");
    helm.kubectl(&["replace", &file]).await.succeeded();
}

fn set(rights: &[&str]) -> BTreeSet<String> {
    rights.iter().map(|right| (*right).to_owned()).collect()
}
