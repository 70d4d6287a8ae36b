//! Registration with Anchore Enterprise of any version, which the inventory never waits for.

use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::json;
use testbed::anchore::EnterpriseOptions;
use testbed::anchore::tenancy::{Role, User};
use testbed::anchore::version::Version;
use testbed::cluster::owner::Owner;
use testbed::cluster::pod::Pod;
use testbed::cluster::workload::Workload;
use testbed::server::fault::{Answer, Fault, Requests};

use super::process::Resident;
use super::{Stage, V1, V2, requests_to};

const REGISTRATION: &str = "/v2/system/integrations/registration";

/// Waits until so many registrations were accepted.
async fn registered(stage: &Stage, count: usize) {
    stage.until("registrations", |enterprise| enterprise.registrations().len() >= count).await;
}

async fn has_reported_health(stage: &Stage, count: usize) {
    stage.until("health reports", |enterprise| enterprise.health_reports().len() >= count).await;
}

#[rstest]
#[case::only_the_first_api(Version::V1_ONLY, V1, false)]
#[case::both_apis(Version::BOTH, V2, false)]
#[case::only_the_second_api(Version::new(5, 0), V2, false)]
#[case::the_last_without_integrations(Version::WITHOUT_INTEGRATIONS, V2, false)]
#[case::the_first_with_integrations(Version::new(5, 11), V2, true)]
#[case::the_latest(Version::LATEST, V2, true)]
#[tokio::test]
async fn each_version_gets_reports_and_the_newer_ones_a_registration(
    #[case] version: Version,
    #[case] path: &str,
    #[case] has_integrations: bool,
) {
    let stage = Stage::with(EnterpriseOptions::default().version(version)).await;
    let resident = stage.start();

    stage.accepted(2).await;
    if has_integrations {
        has_reported_health(&stage, 1).await;
    } else {
        resident.logged("has no integrations").await;
    }

    assert!(requests_to(&stage.enterprise, path) >= 2);
    assert_eq!(stage.enterprise.registrations().len(), usize::from(has_integrations));
    assert_eq!(requests_to(&stage.enterprise, REGISTRATION), usize::from(has_integrations));
    let state = if has_integrations { "registered" } else { "unsupported" };
    resident.measures(&format!("integration_state{{state=\"{state}\"}}"), |is| is > 0.5).await;
}

#[tokio::test]
async fn an_upgrade_is_noticed_without_a_restart() {
    let stage = Stage::before_upgrade().await;
    let resident = stage.start();
    resident.logged("has no integrations").await;
    stage.accepted(1).await;

    stage.enterprise.upgrade(Version::LATEST);

    has_reported_health(&stage, 1).await;
    assert_eq!(resident.log().matches("has no integrations").count(), 1, "said once");
}

#[tokio::test]
async fn an_upgrade_of_the_path_of_reports_is_noticed_without_a_restart() {
    let stage = Stage::with(EnterpriseOptions::default().version(Version::V1_ONLY)).await;
    let resident = stage.start();
    stage.accepted(1).await;

    stage.enterprise.upgrade(Version::LATEST);
    stage
        .until("a report by the newer path", |enterprise| {
            let requests = enterprise.requests();
            enterprise.accepted().iter().any(|report| requests[report.request].path == V2)
        })
        .await;

    assert!(!resident.log().contains("rejected"), "{}", resident.log());
}

#[rstest]
#[case::html(Answer::status(200).html("Sign in").into())]
#[case::no_version(Answer::status(200).body("application/json", r#"{"api": {}}"#).into())]
#[case::odd_version(Answer::status(200).body("application/json", r#"{"service": {"version": "next"}}"#).into())]
#[case::unauthorized(Answer::status(401).into())]
#[case::forbidden(Answer::status(403).into())]
#[case::absent(Answer::status(404).into())]
#[case::not_allowed(Answer::status(405).into())]
#[case::failing(Answer::status(500).into())]
#[case::bad_gateway(Answer::status(502).into())]
#[case::unavailable(Answer::status(503).into())]
#[case::gateway_timeout(Answer::status(504).into())]
#[case::reset(Fault::Resets { after: 0 })]
#[tokio::test]
async fn whatever_the_version_answers_reports_go_on(#[case] fault: Fault) {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to("/version"), fault);
    let resident = stage.start();

    stage.accepted(2).await;
    resident.logged("so the agent is not registered").await;
    assert!(stage.enterprise.registrations().is_empty());

    assert_eq!(resident.get("/readyz").await.0, 200);
    resident.measures("integration_state{state=\"registered\"}", |is| is < 0.5).await;
    assert_eq!(resident.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_version_that_never_comes_holds_nothing_up() {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to("/version"), Fault::NeverAnswers);
    let resident = stage.start();

    stage.accepted(2).await;

    assert!(requests_to(&stage.enterprise, "/version") >= 1);
    assert_eq!(resident.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_version_that_can_be_read_again_leads_to_a_registration() {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to("/version").first(1), Answer::status(200).html("Sign in"));
    let _resident = stage.start();

    registered(&stage, 1).await;
}

#[rstest]
#[case::wrong(400, "")]
#[case::unauthorized(401, "check anchore.user and anchore.password")]
#[case::forbidden(403, "registerIntegration")]
#[case::conflict(409, "")]
#[case::failing(500, "")]
#[case::unavailable(503, "")]
#[tokio::test]
async fn a_registration_that_is_refused_stops_no_report_and_is_told_once(#[case] status: u16, #[case] words: &str) {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to(REGISTRATION), Answer::status(status));
    let resident = stage.start();

    resident.logged("the agent could not be registered with Anchore Enterprise").await;
    stage.accepted(3).await;

    assert!(resident.log().contains(words), "{}", resident.log());
    assert_eq!(resident.log().matches("the agent could not be registered").count(), 1);
    if status < 500 {
        assert_eq!(requests_to(&stage.enterprise, REGISTRATION), 1, "not again within seconds");
    }
    assert_eq!(resident.get("/readyz").await.0, 200);
}

#[rstest]
#[case::failing(Answer::status(500).into())]
#[case::bad_gateway(Answer::status(502).html("Bad Gateway").into())]
#[case::unavailable(Answer::status(503).into())]
#[case::reset(Fault::Resets { after: 0 })]
#[case::silent(Fault::NeverAnswers)]
#[tokio::test]
async fn a_registration_that_failed_is_tried_again_soon(#[case] fault: Fault) {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to(REGISTRATION).first(1), fault);
    let _resident = Resident::start(stage.agent().set("anchore.http.timeout-seconds", 1));

    registered(&stage, 1).await;
}

#[rstest]
#[case::empty(Answer::status(200))]
#[case::html(Answer::status(200).html("Sign in"))]
#[case::without_uuid(Answer::status(201).body("application/json", r#"{"type": "k8s_inventory_agent"}"#))]
#[tokio::test]
async fn a_registration_that_is_answered_oddly_is_none(#[case] answer: Answer) {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to(REGISTRATION), answer);
    let resident = stage.start();

    resident.logged("the agent could not be registered with Anchore Enterprise").await;
    stage.accepted(2).await;

    assert!(stage.enterprise.health_reports().is_empty());
}

#[tokio::test]
async fn an_answer_with_a_uuid_alone_is_enough() {
    let stage = Stage::new().await;
    let answer = Answer::status(200).body("application/json", r#"{"uuid": "u-1", "uptime": "x", "accounts": null}"#);
    stage.enterprise.inject(Requests::to(REGISTRATION), answer);
    let resident = stage.start();

    resident.logged("registered with Anchore Enterprise uuid=\"u-1\"").await;
    let path = "/v2/system/integrations/u-1/health-report";
    stage.until("a health report", |enterprise| requests_to(enterprise, path) > 0).await;
}

#[rstest]
#[case(404)]
#[case(405)]
#[tokio::test]
async fn an_endpoint_that_is_absent_is_looked_for_again(#[case] status: u16) {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to(REGISTRATION).first(1), Answer::status(status));
    let _resident = stage.start();

    registered(&stage, 1).await;
    assert!(requests_to(&stage.enterprise, "/version") >= 2, "the version is asked for again");
}

#[tokio::test]
async fn a_user_without_the_right_to_register_still_reports() {
    let user = User::of("tenant", "sender", "pw").with_role("tenant", Role::ReportsOnly);
    let stage = Stage::with(EnterpriseOptions::default().account("tenant").user(user)).await;
    let agent =
        stage.agent().set("anchore.user", "sender").set("anchore.password", "pw").set("anchore.account", "tenant");
    let resident = Resident::start(agent);

    resident.logged("registerIntegration").await;
    stage.accepted(2).await;
    assert!(stage.enterprise.registrations().is_empty());
}

#[tokio::test]
async fn an_integration_that_was_deleted_is_registered_again_under_the_same_ids() {
    let stage = Stage::new().await;
    // What the server says to a health report of an integration that it does not know.
    let unknown = r#"{"message": "Integration not found.", "httpcode": 404, "detail": {}}"#;
    let health = Requests::to("/v2/system/integrations/*/health-report").first(1);
    stage.enterprise.inject(health, Answer::status(404).body("application/json", unknown));
    let resident = stage.start();

    registered(&stage, 2).await;
    has_reported_health(&stage, 1).await;

    let registrations = stage.enterprise.registrations();
    for id in ["registration_id", "registration_instance_id"] {
        assert_eq!(registrations[0].document[id], registrations[1].document[id]);
    }
    assert!(resident.log().contains("the agent registers again, under the same ids"));
    stage.accepted(2).await;
}

#[rstest]
#[case(404)]
#[case(405)]
#[tokio::test]
async fn a_health_endpoint_that_is_absent_leads_back_to_the_version(#[case] status: u16) {
    let stage = Stage::new().await;
    let absent = r#"{"type": "about:blank", "title": "Not Found", "detail": "The requested URL was not found on the server.", "status": 404}"#;
    let health = Requests::to("/v2/system/integrations/*/health-report").first(1);
    stage.enterprise.inject(health, Answer::status(status).body("application/problem+json", absent));
    let _resident = stage.start();

    has_reported_health(&stage, 1).await;
    assert!(requests_to(&stage.enterprise, "/version") >= 2);
}

#[tokio::test]
async fn a_downgrade_is_noticed() {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to("/v2/system/integrations/*/health-report"), Answer::status(404));
    let resident = stage.start();
    let is_health = |path: &str| path.ends_with("/health-report");
    stage
        .until("a health report", |enterprise| enterprise.requests().iter().any(|request| is_health(&request.path)))
        .await;

    stage.enterprise.upgrade(Version::WITHOUT_INTEGRATIONS);

    resident.logged("has no integrations").await;
    stage.accepted_more(1).await;
}

#[tokio::test]
async fn ids_are_the_same_after_a_restart() {
    let stage = Stage::new().await;
    let resident = stage.start();
    registered(&stage, 1).await;
    resident.kill().await;
    let _resident = stage.start();

    registered(&stage, 2).await;

    let registrations = stage.enterprise.registrations();
    assert!(registrations[1].known, "{registrations:?}");
    assert_eq!(registrations[0].uuid, registrations[1].uuid);
}

#[tokio::test]
async fn an_agent_of_a_deployment_is_named_after_it() {
    let stage = Stage::new().await;
    let deployment = Workload::deployment("anchore-inventory").uid("5b0f6c0e-0d61-4a52-9a51-2c9a3a2f1200");
    let replica_set = Workload::replica_set("anchore-inventory-1").owner(deployment.as_controller("shop"));
    let pod = Pod::running("anchore-inventory-1-x").image("agent:1").owner(replica_set.as_controller("shop"));
    stage.api.apply_workload("shop", &deployment);
    stage.api.apply_workload("shop", &replica_set);
    stage.api.apply_pod("shop", &pod);
    let agent = stage.agent().variable("POD_NAMESPACE", "shop").variable("POD_NAME", "anchore-inventory-1-x");
    let _resident = Resident::start(agent.set("anchore-registration.integration-description", "of the shop"));

    registered(&stage, 1).await;

    let document = stage.enterprise.registrations()[0].document.clone();
    for (field, expected) in [
        ("registration_id", "5b0f6c0e-0d61-4a52-9a51-2c9a3a2f1200"),
        ("registration_instance_id", "anchore-inventory"),
        ("name", "anchore-inventory"),
        ("type", "k8s_inventory_agent"),
        ("namespace", "shop"),
        ("cluster_name", "testbed"),
        ("username", "admin"),
        ("description", "of the shop"),
    ] {
        assert_eq!(document[field], json!(expected), "{field}");
    }
    assert_eq!(document["health_report_interval"], json!(30));
    assert!(document.get("configuration").is_none(), "secrets could be in there");
}

#[tokio::test]
async fn an_owner_of_another_kind_is_no_deployment() {
    let stage = Stage::new().await;
    let owner = Owner::controller("DaemonSet", "agents", "5b0f6c0e-0d61-4a52-9a51-2c9a3a2f1200");
    stage.api.apply_pod("shop", &Pod::running("agents-x").image("agent:1").owner(owner));
    let agent = stage.agent().variable("POD_NAMESPACE", "shop").variable("POD_NAME", "agents-x");
    let _resident = Resident::start(agent);

    registered(&stage, 1).await;
    let document = stage.enterprise.registrations()[0].document.clone();
    assert_eq!(document["registration_instance_id"], json!("agents-x"));
    stage.accepted(1).await;
}
