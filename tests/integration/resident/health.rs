//! What health reports say, and what becomes of them.

use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::json;
use testbed::anchore::version::Version;
use testbed::server::fault::{Answer, Requests};

use super::process::Resident;
use super::{Stage, V2, health_errors, health_of, requests_to};

const HEALTH: &str = "/v2/system/integrations/*/health-report";

async fn upgraded(stage: &Stage) {
    stage.enterprise.upgrade(Version::LATEST);
    stage.until("a health report", |enterprise| !enterprise.health_reports().is_empty()).await;
}

#[tokio::test]
async fn when_all_is_well_no_error_is_told_and_the_account_with_its_batches_is() {
    let stage = Stage::before_upgrade().await;
    let _resident = Resident::start(stage.agent().set("inventory-report-limits.namespaces", 1));
    stage.accepted(4).await;
    upgraded(&stage).await;

    assert_eq!(health_errors(&stage.enterprise), [""; 0]);
    let account = health_of(&stage.enterprise, "admin");
    assert_eq!(account["account_name"], json!("admin"));
    assert_eq!(account["sent_as_user"], json!("admin"));
    assert_eq!(account["batch_size"], json!(2));
    assert_eq!(account["has_errors"], json!(false));
    let report = stage.enterprise.health_reports().pop().expect("a health report").document;
    assert_eq!(report["health_data"]["type"], json!("k8s_inventory_agent"));
    assert_eq!(report["protocol_version"], json!(1));
    assert!(report["uptime"].as_f64().is_some_and(|uptime| uptime > 0.0));
    let integration = stage.enterprise.integrations("admin").pop().expect("registered");
    assert_eq!(integration["reported_status"]["state"], json!("healthy"));
}

#[tokio::test]
async fn an_account_with_unsent_reports_is_listed_with_what_is_wrong() {
    let stage = Stage::before_upgrade().await;
    stage.enterprise.inject(Requests::to(V2), Answer::status(503).retry_after("300"));
    let resident = stage.start();
    resident.logged("report not accepted yet").await;
    upgraded(&stage).await;

    let errors = health_errors(&stage.enterprise);
    assert!(errors.iter().any(|error| error.starts_with("account admin: ") && error.contains("503")), "{errors:?}");
    let account = health_of(&stage.enterprise, "admin");
    assert_eq!((&account["last_successful_index"], &account["has_errors"]), (&json!(-1), &json!(true)));
    assert!(account["batches"][0]["error"].as_str().is_some_and(|error| error.contains("503")), "{account}");
    let integration = stage.enterprise.integrations("admin").pop().expect("registered");
    assert_eq!(integration["reported_status"]["state"], json!("unhealthy"));
}

#[rstest]
#[case(401)]
#[case(403)]
#[case(429)]
#[case(500)]
#[case(502)]
#[tokio::test]
async fn a_health_report_that_is_refused_stops_no_report_and_is_told_once(#[case] status: u16) {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to(HEALTH), Answer::status(status));
    let resident = stage.start();

    resident.logged("a health report was not accepted").await;
    stage.accepted(3).await;

    assert_eq!(resident.log().matches("a health report was not accepted").count(), 1);
    let sent = stage.enterprise.requests().iter().filter(|request| request.path.ends_with("/health-report")).count();
    assert_eq!(sent, 1, "the next comes with its time");
    assert_eq!(requests_to(&stage.enterprise, "/v2/system/integrations/registration"), 1);
    assert_eq!(resident.get("/readyz").await.0, 200);
}
