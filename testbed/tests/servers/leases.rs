//! What an agent in a cluster needs beside the inventory: leases, and to find its own deployment.

use http::Method;
use jiff::Timestamp;
use pretty_assertions::assert_eq;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::cluster::identity;
use testbed::cluster::owner::Owner;
use testbed::cluster::pod::Pod;
use testbed::cluster::workload::Workload;
use testbed::kubernetes::access::{User, Verb};
use testbed::kubernetes::lease::Lease;
use testbed::kubernetes::{KubernetesApi, KubernetesOptions};
use testbed::objects::Kind;

use super::{client, client_trusting};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/anchore/leases";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/anchore/leases/agent";

fn lease(version: Option<&str>, renewed: &str) -> Value {
    json!({
        "kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
        "metadata": {"name": "agent", "namespace": "anchore", "resourceVersion": version},
        "spec": {"holderIdentity": "pod-a", "leaseDurationSeconds": 15, "renewTime": renewed, "leaseTransitions": 2}
    })
}

#[tokio::test]
async fn a_lease_changes_only_from_its_present_state() {
    let api = KubernetesApi::serving(&Cluster::new()).await.expect("started");
    let renewed = "2026-03-04T05:06:07.000008Z";

    assert_eq!(send(&api, Method::GET, LEASE, &json!({})).await.0, 404);
    assert_eq!(send(&api, Method::PUT, LEASE, &lease(None, renewed)).await.0, 422);
    let (created, document) = send(&api, Method::POST, LEASES, &lease(None, renewed)).await;
    assert_eq!((created, &document["metadata"]["resourceVersion"]), (201, &json!("1001")));
    let (again, status) = send(&api, Method::POST, LEASES, &lease(None, renewed)).await;
    assert_eq!((again, &status["reason"]), (409, &json!("AlreadyExists")));
    assert_eq!(status["message"], r#"leases.coordination.k8s.io "agent" already exists"#);
    assert_eq!(send(&api, Method::PUT, LEASE, &lease(Some("1001"), renewed)).await.0, 200);
    let (conflict, status) = send(&api, Method::PUT, LEASE, &lease(Some("1001"), renewed)).await;
    assert_eq!((conflict, &status["reason"], &status["kind"]), (409, &json!("Conflict"), &json!("Status")));
    assert_eq!(status["details"], json!({"name": "agent", "group": "coordination.k8s.io", "kind": "leases"}));
    assert_eq!(send(&api, Method::PUT, LEASE, &lease(None, renewed)).await.0, 422);
    assert_eq!(send(&api, Method::GET, LEASE, &json!({})).await.1["metadata"]["resourceVersion"], "1002");

    let known = api.lease("anchore", "agent").expect("a lease");
    assert_eq!((known.holder.as_deref(), known.transitions, known.resource_version), (Some("pod-a"), Some(2), 1002));
    assert_eq!(known.renew_time, Some(renewed.parse::<Timestamp>().expect("a time")));
}

#[tokio::test]
async fn a_test_takes_a_lease_away() {
    let api = KubernetesApi::serving(&Cluster::new()).await.expect("started");
    let mine = send(&api, Method::POST, LEASES, &lease(None, "2026-03-04T05:06:07.000000Z")).await.1;

    api.put_lease("anchore", "agent", &Lease::held_by("pod-b"));

    assert_eq!(send(&api, Method::PUT, LEASE, &mine).await.0, 409);
    let theirs = send(&api, Method::GET, LEASE, &json!({})).await.1;
    assert_eq!(theirs["spec"]["holderIdentity"], "pod-b");
    assert_eq!(send(&api, Method::PUT, LEASE, &theirs).await.0, 200, "what it writes it takes");
    assert!(api.delete_lease("anchore", "agent") && !api.delete_lease("anchore", "agent"));
    assert_eq!(send(&api, Method::PUT, LEASE, &theirs).await.0, 201, "as on a real server");
}

#[tokio::test]
async fn a_lease_that_the_real_server_refuses_is_refused() {
    let api = KubernetesApi::serving(&Cluster::new()).await.expect("started");
    for time in ["2026-03-04T05:06:07Z", "2026-03-04T05:06:07.123Z", "2026-03-04T05:06:07.123456789Z", "soon.123456"] {
        assert_eq!(send(&api, Method::POST, LEASES, &lease(None, time)).await.0, 400, "{time}");
    }
    let mut bad = lease(None, "2026-03-04T05:06:07.000000Z");
    bad["spec"]["leaseDurationSeconds"] = json!(0);
    assert_eq!(send(&api, Method::POST, LEASES, &bad).await.0, 422);
    assert_eq!(send(&api, Method::POST, LEASES, &lease(Some("1"), "2026-03-04T05:06:07.000000Z")).await.0, 500);
    let unnamed = json!({"spec": {}});
    assert_eq!(send(&api, Method::POST, LEASES, &unnamed).await.0, 422);
    assert_eq!(send(&api, Method::POST, LEASE, &lease(None, "2026-03-04T05:06:07.000000Z")).await.0, 405);
    assert_eq!(send(&api, Method::DELETE, "/api/v1/pods", &json!({})).await.0, 405);
}

#[tokio::test]
async fn leases_are_for_those_who_were_granted_them() {
    let agent = User::named("agent").token("t").may_in("anchore", Verb::Get, Kind::Leases);
    let api = KubernetesOptions::default().user(agent.clone()).start().await.expect("started");
    let new = lease(None, "2026-03-04T05:06:07.000000Z");

    let (status, document) = send(&api, Method::POST, LEASES, &new).await;
    assert_eq!(status, 403);
    assert_eq!(
        document["message"],
        r#"leases.coordination.k8s.io is forbidden: User "agent" cannot create resource "leases" in API group "coordination.k8s.io" in the namespace "anchore""#
    );
    api.set_user(agent.may_in("anchore", Verb::Create, Kind::Leases));
    let (status, created) = send(&api, Method::POST, LEASES, &new).await;
    assert_eq!(status, 201);
    assert_eq!(send(&api, Method::PUT, LEASE, &created).await.0, 403);
    assert_eq!(send(&api, Method::GET, LEASE, &json!({})).await.0, 200);
}

#[tokio::test]
async fn a_pod_leads_to_its_deployment() {
    let deployment = Workload::deployment("agent").uid("5b0f6c0e-0d61-4a52-9a51-2c9a3a2f1200").replicas(2);
    let replica_set = Workload::replica_set("agent-abc").owner(deployment.as_controller("anchore"));
    let other = Owner::controller("Node", "n1", "x").api_version("v1").without_control();
    let pod = Pod::running("agent-abc-1").owner(other).owner(replica_set.as_controller("anchore"));
    let cluster = Cluster::new().namespace("anchore").workload(&replica_set).pod(pod);
    let agent = User::lister("agent").token("t").may_in("anchore", Verb::Get, Kind::ReplicaSets);
    let options = KubernetesOptions::default().cluster(&cluster).user(agent.clone());
    let api = options.start().await.expect("started");

    let pod = send(&api, Method::GET, "/api/v1/namespaces/anchore/pods/agent-abc-1", &json!({})).await.1;
    let owner = |kind: &str, version: &str, name: &str, uid: &str, controller: bool| {
        json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": controller,
               "blockOwnerDeletion": true})
    };
    let uid = identity::uid("replicasets", "anchore", "agent-abc");
    let owners =
        json!([owner("Node", "v1", "n1", "x", false), owner("ReplicaSet", "apps/v1", "agent-abc", &uid, true)]);
    assert_eq!(pod["metadata"]["ownerReferences"], owners);

    let path = "/apis/apps/v1/namespaces/anchore/replicasets/agent-abc";
    let replica_set = send(&api, Method::GET, path, &json!({})).await.1;
    assert_eq!(
        (&replica_set["kind"], &replica_set["apiVersion"], &replica_set["metadata"]["uid"]),
        (&json!("ReplicaSet"), &json!("apps/v1"), &json!(uid))
    );
    let uid = "5b0f6c0e-0d61-4a52-9a51-2c9a3a2f1200";
    assert_eq!(replica_set["metadata"]["ownerReferences"], json!([owner("Deployment", "apps/v1", "agent", uid, true)]));

    let path = "/apis/apps/v1/namespaces/anchore/deployments/agent";
    let (status, forbidden) = send(&api, Method::GET, path, &json!({})).await;
    assert_eq!(
        (status, forbidden["message"].as_str()),
        (
            403,
            Some(
                r#"deployments.apps "agent" is forbidden: User "agent" cannot get resource "deployments" in API group "apps" in the namespace "anchore""#
            )
        )
    );
    api.set_user(agent.may(Verb::Get, Kind::Deployments));
    assert_eq!(send(&api, Method::GET, path, &json!({})).await.0, 404);
    api.apply_workload("anchore", &deployment);
    let deployment = send(&api, Method::GET, path, &json!({})).await.1;
    assert_eq!((&deployment["metadata"]["uid"], &deployment["spec"]["replicas"]), (&json!(uid), &json!(2)));
}

#[tokio::test]
async fn a_test_waits_for_what_it_asks_of_the_server() {
    let api = KubernetesApi::serving(&Cluster::new()).await.expect("started");
    let renewing = async {
        let new = send(&api, Method::POST, LEASES, &lease(None, "2026-03-04T05:06:07.000000Z")).await.1;
        send(&api, Method::PUT, LEASE, &new).await;
    };

    let renewed = api.wait_until(|api| api.requests().iter().filter(|request| request.body_complete).count() == 2);
    tokio::join!(renewing, renewed);

    let sent = api.requests()[1].json().expect("JSON");
    assert_eq!(sent["metadata"]["resourceVersion"], "1001");
}

async fn send(api: &KubernetesApi, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let client = match api.authority() {
        Some(authority) => client_trusting(authority).build().expect("a client"),
        None => client(),
    };
    let request: RequestBuilder = client.request(method.clone(), format!("{}{path}", api.url())).bearer_auth("t");
    let request = if method == Method::GET { request } else { request.json(body) };
    let response = request.send().await.expect("an answer");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}
