use std::time::Duration;

use pretty_assertions::assert_eq;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use testbed::anchore::inventory::Ingest;
use testbed::anchore::summary;
use testbed::anchore::tenancy::{API_KEY_USER, Role, User};
use testbed::anchore::version::Version;
use testbed::anchore::{Enterprise, EnterpriseOptions};

use super::client;

const NAMESPACE: &str = "5b0f6c0e-0d61-4a52-9a51-2c9a3a2f1101";
const NODE: &str = "5b0f6c0e-0d61-4a52-9a51-2c9a3a2f1102";
const POD: &str = "5b0f6c0e-0d61-4a52-9a51-2c9a3a2f1103";
const INVENTORY: &str = "/v2/kubernetes-inventory";

fn report() -> Value {
    json!({
        "cluster_name": "edge-7", "timestamp": "2026-03-04T05:06:07Z", "serverVersionMetadata": null,
        "namespaces": [{"uid": NAMESPACE, "name": "shop", "labels": {"team": "blue"}}],
        "nodes": [{"uid": NODE, "name": "n1", "arch": "arm64"}],
        "pods": [{"uid": POD, "name": "web-0", "namespace_uid": NAMESPACE, "node_uid": NODE}],
        "containers": [{"id": "containerd://1", "name": "web", "image_tag": "nginx:1.27", "pod_uid": POD}]
    })
}

fn registration() -> Value {
    json!({
        "registration_id": "r", "registration_instance_id": "i", "type": "k8s_inventory_agent", "username": "admin",
        "health_report_interval": 60, "uptime": 1.5
    })
}

fn health(errors: &[&str]) -> Value {
    json!({
        "uuid": "u", "protocol_version": 1, "timestamp": "2026-03-04T05:07:00Z", "uptime": 420, "health_report_interval": 60,
        "health_data": {"type": "k8s_inventory_agent", "version": 1, "errors": errors, "account_k8s_inventory_reports": {}}
    })
}

#[tokio::test]
async fn a_good_report_is_accepted_and_known() {
    let enterprise = Enterprise::start().await.expect("started");

    let response = post(&enterprise, INVENTORY, &report()).send().await.expect("an answer");

    assert_eq!((response.status().as_u16(), response.bytes().await.expect("a body").len()), (201, 0));
    assert_eq!(enterprise.reports("admin"), [report()]);
    let inventory = enterprise.inventory();
    let shop = inventory.namespace("admin", "edge-7", "shop").expect("known");
    assert_eq!(shop.labels.get("team").map(AsRef::as_ref), Some("blue"));
    assert_eq!((shop.pods.len(), shop.containers.len()), (1, 1));
    let images = authorized(client().get(url(&enterprise, "/v2/inventories"))).send().await.expect("an answer");
    let expected = json!({"items": [
        {"inventory_type": "kubernetes", "context": "edge-7/shop", "image_tag": "nginx:1.27", "image_digest": ""}
    ]});
    assert_eq!(images.json::<Value>().await.expect("JSON"), expected);
    let pods = authorized(client().get(url(&enterprise, "/v2/kubernetes-pods"))).send().await.expect("an answer");
    assert_eq!(pods.json::<Value>().await.expect("JSON")["namespaces"][0]["name"], "web-0");
    let bytes = report().to_string().len();
    let table = format!(
        "ACCOUNT  REPORTS  NAMESPACES  PODS  CONTAINERS  BYTES\nadmin          1           1     1           1  {bytes:>5}\n"
    );
    assert_eq!(summary::table(&enterprise.accepted()), table);
}

#[tokio::test]
async fn a_bad_element_is_named_by_its_path() {
    let enterprise = Enterprise::start().await.expect("started");
    for (path, value, detail) in [
        ("/containers", json!(null), "None is not of type 'array' - 'containers'"),
        ("/nodes", json!({}), "{…} is not of type 'array' - 'nodes'"),
        (
            "/pods/0/node_uid",
            json!(""),
            "'' does not match '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' - 'pods.0.node_uid'",
        ),
        (
            "/pods/0/uid",
            json!(POD.to_uppercase()),
            "'5B0F6C0E-0D61-4A52-9A51-2C9A3A2F1103' does not match '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' - 'pods.0.uid'",
        ),
        ("/containers/0/image_tag", json!(" "), "' ' does not match '^.*\\\\S.*$' - 'containers.0.image_tag'"),
        ("/containers/0/image_digest", json!(null), "None is not of type 'string' - 'containers.0.image_digest'"),
        ("/namespaces/0/labels", json!({"a": 1}), "1 is not of type 'string' - 'namespaces.0.labels.a'"),
        ("/containers/0", json!({}), "'id' is a required property - 'containers.0'"),
        ("/timestamp", json!("today"), "'today' is not a 'date-time' - 'timestamp'"),
        ("", json!([]), "[…] is not of type 'object'"),
    ] {
        let mut bad = report();
        let element = match path.rsplit_once('/').filter(|_| bad.pointer(path).is_none()) {
            None => bad.pointer_mut(path).expect("an element"),
            Some((parent, name)) => &mut bad.pointer_mut(parent).expect("a parent")[name],
        };
        *element = value;

        let response = post(&enterprise, INVENTORY, &bad).send().await.expect("an answer");

        assert_eq!(response.status(), 400, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.json::<Value>().await.expect("JSON")["detail"], detail);
    }
    assert_eq!(enterprise.accepted(), []);
}

#[tokio::test]
async fn what_the_schema_leaves_open_is_accepted() {
    let enterprise = Enterprise::start().await.expect("started");
    let mut open = report();
    open["containers"][0]["id"] = json!("");
    open["containers"][0]["image_digest"] = json!("");
    open["containers"][0]["unknown"] = json!([null]);
    open["cluster_name"] = json!("");

    for body in [open, json!({"cluster_name": "c", "timestamp": "2026-03-04T05:06:07.5+01:00", "pods": []})] {
        assert_eq!(status(post(&enterprise, INVENTORY, &body)).await, 201);
    }
}

#[tokio::test]
async fn unchecked_reports_are_counted_by_their_bytes() {
    let enterprise = EnterpriseOptions::default().unchecked().start().await.expect("started");

    assert_eq!(status(post(&enterprise, INVENTORY, &json!([]))).await, 201);
    assert_eq!(status(client().post(url(&enterprise, INVENTORY)).json(&json!([]))).await, 401);

    let bytes: Vec<_> = enterprise.accepted().into_iter().map(|report| report.bytes).collect();
    assert_eq!(bytes, [2]);
}

#[tokio::test]
async fn checks_come_in_the_order_of_the_service() {
    let enterprise = Enterprise::start().await.expect("started");
    let to = |path| client().post(url(&enterprise, path)).basic_auth("admin", Some("wrong"));

    assert_eq!(problem(to("/v2/nothing").body("{")).await, (404, "Not Found".to_owned()));
    assert_eq!(problem(client().get(url(&enterprise, INVENTORY))).await, (405, "Method Not Allowed".to_owned()));
    assert_eq!(problem(to(INVENTORY).header("content-type", "text/plain").body("{")).await.0, 415);
    assert_eq!(problem(to(INVENTORY).json(&json!([]))).await.0, 400);
    assert_eq!(problem(to(INVENTORY).header("content-type", "application/json").body("{")).await.0, 400);
    let unauthorized = to(INVENTORY).json(&report()).send().await.expect("an answer");
    assert_eq!(unauthorized.status(), 401);
    assert!(unauthorized.headers().contains_key("www-authenticate"));
    assert_eq!(unauthorized.text().await.expect("text"), "Unauthorized");
    assert_eq!(status(client().get(format!("{}//version", enterprise.url()))).await, 404);
    assert_eq!(status(client().get(url(&enterprise, "/version"))).await, 200);
}

#[tokio::test]
async fn accounts_answer_as_the_user_may_know_them() {
    let options = EnterpriseOptions::default()
        .account("shop")
        .disabled_account("closed")
        .user(User::of("shop", "agent", "pw").with_role("closed", Role::InventoryAgent).with_api_key("key"))
        .user(User::of("shop", "old", "pw").with_role("shop", Role::ReportsOnly));
    let enterprise = options.start().await.expect("started");
    let send = async |user: &str, password: &str, account: &str| {
        let request = client().post(url(&enterprise, INVENTORY)).basic_auth(user, Some(password)).json(&report());
        let response = request.header("x-anchore-account", account).send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, message(response).await)
    };
    let requires =
        |account| format!("Not authorized. Requires permissions: domain={account} action=syncInventory target=");

    assert_eq!(send("admin", "foobar", "shop").await, (201, String::new()));
    assert_eq!(send("agent", "pw", "shop").await, (201, String::new()));
    assert_eq!(send(API_KEY_USER, "key", "shop").await, (201, String::new()));
    assert_eq!(send("admin", "foobar", "gone").await, (404, "User account not found. Name=gone".to_owned()));
    assert_eq!(send("agent", "pw", "gone").await, (403, requires("gone")));
    assert_eq!(send("agent", "pw", "admin").await, (403, requires("admin")));
    assert_eq!(send("agent", "pw", "closed").await, (403, "Not authorized. Account closed not enabled.".to_owned()));
    let register = client().post(url(&enterprise, "/v2/system/integrations/registration")).json(&registration());
    assert_eq!(status(register.basic_auth("old", Some("pw"))).await, 403);
    let accepted: Vec<_> = enterprise.accepted().into_iter().map(|report| (report.account, report.user)).collect();
    assert_eq!(
        accepted,
        [("shop", "admin"), ("shop", "agent"), ("shop", "agent")].map(|(a, u)| (a.to_owned(), u.to_owned()))
    );
}

#[tokio::test]
async fn each_version_has_its_endpoints() {
    let endpoints = ["/v1/enterprise/kubernetes-inventory", INVENTORY];
    for (version, statuses, integrations) in [
        (Version::V1_ONLY, [204, 404], 404),
        (Version::BOTH, [204, 204], 404),
        (Version::new(5, 0), [404, 204], 404),
        (Version::WITHOUT_INTEGRATIONS, [404, 204], 404),
        (Version::new(5, 11), [404, 201], 201),
        (Version::LATEST, [404, 201], 201),
    ] {
        let enterprise = EnterpriseOptions::default().version(version).start().await.expect("started");
        for (path, expected) in endpoints.into_iter().zip(statuses) {
            assert_eq!(status(post(&enterprise, path, &report())).await, expected, "{version:?} {path}");
        }
        let register = post(&enterprise, "/v2/system/integrations/registration", &registration());
        assert_eq!(status(register).await, integrations, "{version:?}");
    }
}

#[tokio::test]
async fn an_upgrade_comes_with_a_request() {
    let options = EnterpriseOptions::default().version(Version::V1_ONLY).upgrade_at(2, Version::LATEST);
    let enterprise = options.start().await.expect("started");

    assert_eq!(status(post(&enterprise, INVENTORY, &report())).await, 404);
    assert_eq!(status(post(&enterprise, INVENTORY, &report())).await, 201);
}

#[tokio::test]
async fn a_base_path_is_before_every_path() {
    let enterprise = EnterpriseOptions::default().base_path("/anchore/").start().await.expect("started");

    assert!(enterprise.url().ends_with("/anchore"));
    assert_eq!(status(client().get(url(&enterprise, "/version"))).await, 200);
    assert_eq!(status(client().get(format!("http://{}/version", enterprise.address()))).await, 404);
}

#[tokio::test]
async fn overwriting_replaces_what_a_namespace_had_and_merging_adds() {
    for (ingest, pods) in [(Ingest::Merge, 1), (Ingest::Overwrite, 0)] {
        let enterprise = EnterpriseOptions::default().ingest(ingest).start().await.expect("started");
        let mut emptied = report();
        emptied["pods"] = json!([]);
        emptied["containers"] = json!([]);

        post(&enterprise, INVENTORY, &report()).send().await.expect("an answer");
        post(&enterprise, INVENTORY, &emptied).send().await.expect("an answer");

        let inventory = enterprise.inventory();
        let shop = inventory.namespace("admin", "edge-7", "shop").expect("known");
        assert_eq!((shop.pods.len(), shop.reports), (pods, 2));
    }
}

#[tokio::test]
async fn what_names_no_parent_in_the_report_is_counted() {
    let enterprise = Enterprise::start().await.expect("started");
    let mut dangling = report();
    dangling["namespaces"] = json!([]);

    post(&enterprise, INVENTORY, &dangling).send().await.expect("an answer");

    assert_eq!(enterprise.accepted()[0].dangling, 2);
}

#[tokio::test]
async fn an_integration_lives_by_its_health_reports() {
    let enterprise = EnterpriseOptions::default().account("shop").start().await.expect("started");
    let register = async |account: &str| {
        let request = post(&enterprise, "/v2/system/integrations/registration", &registration());
        let response = request.header("x-anchore-account", account).send().await.expect("an answer");
        (response.status().as_u16(), response.json::<Value>().await.expect("JSON")["uuid"].as_str().map(str::to_owned))
    };
    let (status_of_new, uuid) = register("admin").await;
    let path = format!("/v2/system/integrations/{}/health-report", uuid.clone().expect("a uuid"));
    let state = || enterprise.integrations("admin")[0]["integration_status"]["state"].clone();

    assert_eq!(status_of_new, 201);
    assert_eq!(state(), "registered");
    assert_eq!(register("admin").await, (200, uuid.clone()));
    assert_eq!(status(post(&enterprise, &path, &health(&["lost"]))).await, 201);
    assert_eq!(state(), "active");
    assert_eq!(enterprise.integrations("admin")[0]["reported_status"]["state"], "unhealthy");
    enterprise.advance_clock(Duration::from_mins(4));
    assert_eq!(state(), "inactive");
    assert_eq!(register("shop").await, (200, uuid), "the pair of ids is known in all accounts");
    assert_eq!(status(post(&enterprise, &path, &health(&[]))).await, 404, "it moved to another account");
    enterprise.reset_integrations();
    assert_eq!(status(post(&enterprise, &path, &health(&[])).header("x-anchore-account", "shop")).await, 404);
    assert_eq!(register("shop").await.0, 201);

    let registrations = enterprise.registrations();
    let known: Vec<_> = registrations.iter().map(|it| (it.account.as_str(), it.known)).collect();
    assert_eq!(known, [("admin", false), ("admin", true), ("shop", true), ("shop", false)]);
    assert_eq!(registrations[0].document, registration());
    let reports = enterprise.health_reports();
    assert_eq!(reports.len(), 1, "what was not accepted is not among them");
    assert_eq!((&reports[0].integration, &reports[0].document), (&registrations[0].uuid, &health(&["lost"])));
}

#[tokio::test]
async fn accounts_and_users_change_while_it_runs() {
    let enterprise = EnterpriseOptions::default().account("shop").start().await.expect("started");
    let send = async |account: &str| {
        status(post(&enterprise, INVENTORY, &report()).header("x-anchore-account", account)).await
    };

    assert_eq!(send("shop").await, 201);
    enterprise.set_disabled("shop", true);
    assert_eq!(send("shop").await, 403);
    enterprise.set_disabled("shop", false);
    assert_eq!(send("shop").await, 201);
    enterprise.delete_account("shop");
    assert_eq!(send("shop").await, 404);
    enterprise.set_user(User::of("admin", "admin", "other"));
    assert_eq!(send("admin").await, 401);
    enterprise.set_user(User::of("admin", "admin", "foobar"));
    assert_eq!(send("admin").await, 201);
}

#[tokio::test]
async fn a_test_waits_for_a_report() {
    let enterprise = Enterprise::start().await.expect("started");

    let arrived = enterprise.wait_until(|enterprise| !enterprise.accepted().is_empty());
    let (sent, ()) = tokio::join!(status(post(&enterprise, INVENTORY, &report())), arrived);

    assert_eq!(sent, 201);
}

#[tokio::test]
async fn integrations_follow_their_schemas() {
    let enterprise = Enterprise::start().await.expect("started");
    for (field, value) in [
        ("health_report_interval", json!(60.0)),
        ("health_report_interval", json!(29)),
        ("health_report_interval", json!(601)),
        ("type", json!("ecs_inventory_agent")),
        ("uptime", json!("1")),
        ("configuration", json!(null)),
        ("namespaces", json!(null)),
    ] {
        let mut bad = registration();
        bad[field] = value;
        assert_eq!(status(post(&enterprise, "/v2/system/integrations/registration", &bad)).await, 400, "{bad}");
    }
    let mut bad = health(&[]);
    bad["health_data"]["account_k8s_inventory_reports"]["shop"] = json!({"batch_size": 0});
    assert_eq!(status(post(&enterprise, "/v2/system/integrations/u/health-report", &bad)).await, 400);
}

fn url(enterprise: &Enterprise, path: &str) -> String {
    format!("{}{path}", enterprise.url())
}

fn post(enterprise: &Enterprise, path: &str, body: &Value) -> RequestBuilder {
    authorized(client().post(url(enterprise, path)).json(body))
}

fn authorized(request: RequestBuilder) -> RequestBuilder {
    request.basic_auth("admin", Some("foobar"))
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.expect("an answer").status().as_u16()
}

/// Status and title of a problem document.
async fn problem(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let document: Value = response.json().await.expect("JSON");
    assert_eq!(document["status"], status);
    (status, document["title"].as_str().expect("a title").to_owned())
}

/// The message of an error of the service; empty without a body.
async fn message(response: Response) -> String {
    let bytes = response.bytes().await.expect("a body");
    let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    document["message"].as_str().unwrap_or_default().to_owned()
}
