//! Releases on a real API server: made, changed, taken over from the existing chart, and gone.

use pretty_assertions::assert_eq;
use serde_json::Value;

use super::NAMESPACE;
use super::helm::{Helm, beside, chart, required_values};
use crate::cluster::{Cluster, items};

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/agents/deployments/agent-k8s-inventory";
const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const CLUSTER_ROLE_BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

#[tokio::test]
async fn chart_release_is_installed_changed_and_removed() {
    let cluster = Cluster::fresh().await;
    let helm = Helm::of(&cluster).await;
    let before = everything(&cluster).await;
    let (chart, required) = (chart().display().to_string(), helm.values("required.yaml", &required_values()));
    let notes = helm.helm(&["install", "agent", &chart, &required]).await.succeeded().stdout;
    assert!(notes.contains("production-eu"), "{notes}");

    let set = "--set=k8sInventory.mode=adhoc,service.type=NodePort,extraEnv[0].name=A,extraEnv[0].value=b";
    helm.helm(&["upgrade", "agent", &chart, &required, set]).await.succeeded();
    let objects = everything(&cluster).await;
    let kinds = ["deployments", "services", "cronjobs"].map(|kind| objects.iter().any(|name| name.starts_with(kind)));
    assert_eq!(kinds, [false, false, true], "{objects:?}");

    helm.helm(&["upgrade", "agent", &chart, &required]).await.succeeded();
    helm.helm(&["uninstall", "agent"]).await.succeeded();
    assert_eq!(everything(&cluster).await, before);
}

#[tokio::test]
async fn chart_takes_a_release_of_the_existing_one_over_in_place() {
    let cluster = Cluster::fresh().await;
    let helm = Helm::of(&cluster).await;
    let (old, chart) = (beside("existing").display().to_string(), chart().display().to_string());
    let values = helm.values("values.yaml", &required_values());
    let set = "--set=k8sInventory.pollingIntervalSeconds=90,image.tag=v1.8.4";
    helm.helm(&["install", "agent", &old, &values, set]).await.succeeded();
    let before = cluster.get(DEPLOYMENT).await;
    let cluster_roles = agents_roles(&cluster).await;
    assert_eq!(cluster_roles, ["agent-k8s-inventory-read-only", "agent-k8s-inventory-read-only-binding"]);

    let refused = helm.helm(&["upgrade", "agent", &chart, "--reuse-values"]).await;
    let refusal = refused.refusal().expect("the existing image does not serve these probes");
    assert!(refusal.contains("--reset-then-reuse-values"), "{refusal}");
    helm.helm(&["upgrade", "agent", &chart, "--reset-then-reuse-values", "--set=image.tag=null"]).await.succeeded();

    let after = cluster.get(DEPLOYMENT).await;
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    let container = &after["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], concat!("localhost/anchore-k8s-inventory:", env!("CARGO_PKG_VERSION")));
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez");
    assert_eq!(container["livenessProbe"]["exec"], Value::Null);
    assert_eq!(container["ports"].as_array().map(Vec::len), Some(1));
    let configuration = cluster.get("/api/v1/namespaces/agents/configmaps/agent-k8s-inventory").await;
    let configuration = configuration["data"]["config.yaml"].as_str().unwrap_or_default();
    assert!(configuration.contains("polling-interval-seconds: 90\n"), "{configuration}");
    let secret = cluster.get("/api/v1/namespaces/agents/secrets/agent-k8s-inventory").await;
    assert_eq!(secret["data"]["ANCHORE_K8S_INVENTORY_ANCHORE_PASSWORD"], "Y2FuYXJ5LW9uZQ==");
    let names = ["agents-agent-k8s-inventory-read-only", "agents-agent-k8s-inventory-read-only-binding"];
    assert_eq!(agents_roles(&cluster).await, names);

    // The API server has filled in how to roll out, which Recreate does not allow.
    let persistent = "--set=spool.persistence.enabled=true";
    helm.helm(&["upgrade", "agent", &chart, "--reset-then-reuse-values", persistent]).await.succeeded();
    let strategy = cluster.get(DEPLOYMENT).await["spec"]["strategy"].clone();
    assert_eq!(strategy, serde_json::json!({"type": "Recreate"}));
    helm.helm(&["uninstall", "agent"]).await.succeeded();
    assert_eq!(agents_roles(&cluster).await, <[&str; 0]>::default());
}

#[tokio::test]
async fn chart_releases_of_one_name_live_in_two_namespaces() {
    let cluster = Cluster::fresh().await;
    let helm = Helm::of(&cluster).await;
    cluster.namespace("agents-too").await;
    let (chart, required) = (chart().display().to_string(), helm.values("required.yaml", &required_values()));

    helm.helm(&["install", "agent", &chart, &required]).await.succeeded();
    helm.helm(&["install", "agent", &chart, &required, "--namespace=agents-too"]).await.succeeded();

    helm.helm(&["uninstall", "agent"]).await.succeeded();
    let names = ["agents-too-agent-k8s-inventory-read-only", "agents-too-agent-k8s-inventory-read-only-binding"];
    assert_eq!(agents_roles(&cluster).await, names);
    helm.helm(&["uninstall", "agent", "--namespace=agents-too"]).await.succeeded();
}

/// Cluster-wide roles and bindings of releases, roles first.
async fn agents_roles(cluster: &Cluster) -> Vec<String> {
    let mut names = Vec::new();
    for path in [CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS] {
        let list = cluster.get(path).await;
        let all = items(&list).filter_map(|item| item["metadata"]["name"].as_str());
        names.extend(all.filter(|name| name.contains("k8s-inventory")).map(str::to_owned));
    }
    names
}

/// All objects in the namespace of releases, and cluster-wide roles.
async fn everything(cluster: &Cluster) -> Vec<String> {
    let mut names = agents_roles(cluster).await;
    let groups = [
        ("/api/v1", vec!["configmaps", "secrets", "serviceaccounts", "services", "pods", "persistentvolumeclaims"]),
        ("/apis/apps/v1", vec!["deployments"]),
        ("/apis/batch/v1", vec!["cronjobs"]),
        ("/apis/rbac.authorization.k8s.io/v1", vec!["roles", "rolebindings"]),
        ("/apis/networking.k8s.io/v1", vec!["networkpolicies"]),
    ];
    for (group, kinds) in groups {
        for kind in kinds {
            let list = cluster.get(&format!("{group}/namespaces/{NAMESPACE}/{kind}")).await;
            let all = items(&list).filter_map(|item| item["metadata"]["name"].as_str());
            names.extend(all.map(|name| format!("{kind}/{name}")));
        }
    }
    names
}
