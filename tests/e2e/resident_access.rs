//! Rights and credentials that change under the resident agent, and rights that were never all there.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use testbed::anchore::Enterprise;
use testbed::server::fault::{Answer, Requests};

use crate::access::{READ_NAMESPACE, Right, WATCH_EVERYTHING};
use crate::cluster::Cluster;
use crate::objects::Pod;
use crate::resident::{Arrivals, names, settings};

#[tokio::test]
async fn revoked_rights_are_told_and_never_make_a_smaller_report() {
    let cluster = Cluster::with_one_pod().await;
    let enterprise = Enterprise::start().await.expect("the testbed starts");
    // Health is reported every half minute at most, and once right after the registration.
    enterprise.inject(Requests::to("/v2/system/integrations/registration"), Answer::status(503));
    let user = cluster.watcher().await;
    let agent = cluster.agent(&cluster.kubeconfig(&user.with_token()));
    let agent = agent.stays("agent", &settings(&enterprise, &json!({})));
    let mut arrivals = Arrivals::at(&enterprise);
    arrivals.tell(&cluster.state().await).await;

    cluster.revoke(&user.name).await;
    // Watches that are open outlive their right.
    cluster.server.kill_apiserver();
    cluster.server.start_apiserver().await;
    agent.says(&cluster, &["ERROR", "pods", "may not be read any more", "403"]).await;
    agent.says(&cluster, &["ERROR", "a tick made no report"]).await;
    enterprise.clear_faults();
    let is_told = async || details(&enterprise).iter().any(|error| error.contains("403"));
    cluster.wait_long_until(|| "health names what may not be read".to_owned(), is_told).await;
    arrivals.look();
    let before = arrivals.seen.len();

    cluster.pod("shop", Pod::running("web-1").image("web:2")).await;
    cluster.grant(&user.name, &WATCH_EVERYTHING).await;
    arrivals.tell(&cluster.state().await).await;
    agent.stops().await;
    arrivals.look();
    for (n, report) in arrivals.seen.iter().enumerate() {
        let expected: &[&str] = if n < before { &["web-0"] } else { &["web-0", "web-1"] };
        assert_eq!(names(report, "pods"), expected, "report {n}, {before} of them before");
    }
}

#[tokio::test]
async fn a_token_that_was_renewed_is_used_and_one_that_was_not_is_waited_for() {
    let cluster = Cluster::with_one_pod().await;
    let enterprise = Enterprise::start().await.expect("the testbed starts");
    let first = cluster.bound_token("shop", "inventory", "first").await;
    let second = cluster.bound_token("shop", "inventory", "second").await;
    let third = cluster.bound_token("shop", "inventory", "third").await;
    cluster.grant("system:serviceaccount:shop:inventory", &WATCH_EVERYTHING).await;
    let file = cluster.write_file("token", &first);
    let kubeconfig = cluster.kubeconfig(&json!({"tokenFile": file}));
    let agent = cluster.agent(&kubeconfig).stays("agent", &settings(&enterprise, &json!({})));
    let mut arrivals = Arrivals::at(&enterprise);
    arrivals.tell(&cluster.state().await).await;

    // The kubelet writes the new one long before the old one ends.
    cluster.write_file("token", &second);
    cluster.delete("/api/v1/namespaces/shop/secrets/first").await;
    cluster.server.kill_apiserver();
    cluster.server.start_apiserver().await;
    cluster.pod("shop", Pod::running("web-1").image("web:2")).await;
    arrivals.tell(&cluster.state().await).await;
    assert_eq!(agent.lines_with(&["401"]), 0, "{}", agent.log());

    cluster.delete("/api/v1/namespaces/shop/secrets/second").await;
    cluster.server.kill_apiserver();
    cluster.server.start_apiserver().await;
    agent.says(&cluster, &["ERROR", "pods", "may not be read any more", "401"]).await;
    cluster.write_file("token", &third);
    cluster.pod("shop", Pod::running("web-2").image("web:3")).await;
    arrivals.tell(&cluster.state().await).await;

    let log = agent.stops().await;
    assert!([first, second, third].iter().all(|token| !log.contains(token)), "a token is in the log");
    arrivals.look();
    assert!(arrivals.seen.iter().all(|report| names(report, "pods").contains(&"web-0")), "a report is not complete");
}

#[tokio::test]
async fn a_role_that_may_not_watch_is_enough() {
    let cluster = Cluster::with_one_pod().await;
    cluster.namespace("blog").await;
    cluster.pod("blog", Pod::running("web-0").image("blog:1")).await;
    cluster.namespace("other").await;
    let enterprise = Enterprise::start().await.expect("the testbed starts");
    let user = cluster.token_user();
    let [get_namespace, list_pods] = READ_NAMESPACE;
    cluster.grant_in("shop", &user.name, &[get_namespace, list_pods, Right::new("watch", "pods")]).await;
    cluster.grant_in("blog", &user.name, &READ_NAMESPACE).await;
    let include = json!({"namespace-selectors": {"include": ["blog", "shop"]}});
    let agent = cluster.agent(&cluster.kubeconfig(&user.with_token())).stays("agent", &settings(&enterprise, &include));
    let mut arrivals = Arrivals::at(&enterprise);
    let state = async || cluster.state().await.only(&["blog", "shop"]).without_nodes();
    arrivals.tell(&state().await).await;

    for namespace in ["blog", "shop"] {
        cluster.pod(namespace, Pod::running("web-1").image("web:2")).await;
        arrivals.tell(&state().await).await;
    }
    for namespace in ["blog", "shop"] {
        cluster.delete_pod(namespace, "web-0").await;
        arrivals.tell(&state().await).await;
    }
    let lists_of = |namespace: &str| cluster.given_to(&user, "list", &format!("/api/v1/namespaces/{namespace}/pods"));
    assert_eq!(lists_of("shop"), 1, "it is watched");
    let reports = arrivals.seen.len();
    // The API server notes a list a moment after its answer.
    let told = || format!("{} lists for {reports} reports", lists_of("blog"));
    cluster.wait_long_until(told, async || lists_of("blog") >= reports).await;
    let said = agent.stops().await;
    assert_eq!(said.lines().filter(|line| line.contains("may not be watched")).count(), 1, "{said}");
    assert_eq!(said.lines().filter(|line| line.contains("ERROR")).count(), 0, "{said}");
}

/// What the health report of the only agent says is wrong.
fn details(enterprise: &Enterprise) -> Vec<String> {
    let agents = enterprise.integrations("admin");
    let details = agents.iter().flat_map(|agent| agent["reported_status"]["details"].as_array().into_iter().flatten());
    details.filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Cluster {
    /// A token of a service account that is good for as long as the secret of this name is there.
    async fn bound_token(&self, namespace: &str, account: &str, secret: &str) -> String {
        let path = format!("/api/v1/namespaces/{namespace}");
        let accounts = self.get(&format!("{path}/serviceaccounts")).await;
        if !crate::cluster::items(&accounts).any(|known| known["metadata"]["name"] == account) {
            let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}});
            self.post(&format!("{path}/serviceaccounts"), &object).await;
        }
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}});
        let object = self.post(&format!("{path}/secrets"), &object).await;
        let bound = json!({"apiVersion": "v1", "kind": "Secret", "name": secret, "uid": object["metadata"]["uid"]});
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": bound}});
        let answer = self.post(&format!("{path}/serviceaccounts/{account}/token"), &request).await;
        answer["status"]["token"].as_str().expect("the API server issues tokens").to_owned()
    }
}
