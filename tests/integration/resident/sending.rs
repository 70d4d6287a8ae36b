//! What Anchore Enterprise answers to reports, and what becomes of those that come after.

use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::json;
use testbed::anchore::EnterpriseOptions;
use testbed::anchore::tenancy::User;
use testbed::anchore::version::Version;
use testbed::cluster::pod::Pod;
use testbed::objects::Kind;
use testbed::server::fault::{Answer, Fault, Requests};

use super::process::Resident;
use super::{Stage, V1, V2, assert_in_order, health_errors, health_of, requests_to, times};
use crate::agent::Agent;

const HELD: &str = "reports of the account are kept and not accepted until this is mended";

/// Namespaces `shop` and `payment` in accounts of their own.
fn routed(stage: &Stage) -> Agent {
    let routes = json!({"shop": {"namespaces": ["shop"]}, "payment": {"namespaces": ["payment"]}});
    stage.agent().set("account-routes", routes)
}

fn with_accounts() -> EnterpriseOptions {
    EnterpriseOptions::default().account("shop").account("payment").version(Version::WITHOUT_INTEGRATIONS)
}

/// Waits until the server was upgraded and has a health report.
async fn upgraded(stage: &Stage) {
    stage.enterprise.upgrade(Version::LATEST);
    stage.until("a health report", |enterprise| !enterprise.health_reports().is_empty()).await;
}

#[rstest]
#[case::timeout(Answer::status(408).into())]
#[case::too_early(Answer::status(425).into())]
#[case::too_many(Answer::status(429).retry_after("1").into())]
#[case::failing(Answer::status(500).into())]
#[case::bad_gateway(Answer::status(502).html("Bad Gateway").into())]
#[case::unavailable(Answer::status(503).into())]
#[case::gateway_timeout(Answer::status(504).html("Gateway Timeout").into())]
#[case::reset(Fault::Resets { after: 10 })]
#[case::closed(Fault::Closes { after: 0 })]
#[case::cut(Fault::cut_after(0))]
#[tokio::test]
async fn what_passes_is_sent_again_and_nothing_is_lost(#[case] fault: Fault) {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to(V2).first(2), fault);
    let resident = stage.start();

    stage.accepted(2).await;

    let requests = stage.enterprise.requests();
    let bodies: Vec<_> = requests.iter().filter(|request| request.path == V2).map(|request| &request.body).collect();
    let first = stage.enterprise.accepted()[0].request;
    assert!(bodies[..2].iter().all(|body| body.is_some()), "{bodies:?}");
    let report = requests[first].json().expect("a report");
    let time = report["timestamp"].as_str().expect("a time");
    resident.logged("report not accepted yet, it is sent again").await;
    let made = resident.log().lines().find(|line| line.contains("reports made")).map(|line| line[..19].to_owned());
    let made = made.expect("made");
    assert!(time <= format!("{made}Z").as_str(), "the first report is the first that is accepted: {time}, {made}");
    assert_in_order(&stage.enterprise);
}

#[rstest]
#[case::forbidden(Answer::status(403).body("application/json", r#"{"message": "Not authorized."}"#), "403")]
#[case::disabled(
    Answer::status(403).body("application/json", r#"{"message": "Not authorized. Account shop not enabled."}"#),
    "not enabled"
)]
#[case::absent(
    Answer::status(404).body("application/problem+json", r#"{"title": "Not Found", "status": 404, "detail": "no"}"#),
    "404"
)]
#[case::not_allowed(Answer::status(405), "405")]
#[case::elsewhere(Answer::redirect(302, "https://sso.example/"), "sso.example")]
#[case::login_page(Answer::status(200).html("Sign in"), "")]
#[tokio::test]
async fn f31_what_an_operator_must_mend_is_kept_and_delays_no_other_account(
    #[case] answer: Answer,
    #[case] words: &str,
) {
    let stage = Stage::with(with_accounts()).await;
    // The account that is asked for is in a header, so the first request is for either.
    stage.enterprise.inject(Requests::to(V2).first(1), answer.clone());
    stage.enterprise.inject(Requests::to(V1), answer);
    let resident = Resident::start(routed(&stage));

    resident.logged(HELD).await;
    stage.until("reports of one account", |enterprise| enterprise.accepted().len() >= 3).await;
    upgraded(&stage).await;

    let accepted = stage.enterprise.accepted();
    let other = &accepted[0].account;
    assert!(accepted.iter().all(|report| report.account == *other), "the other is kept");
    let held = if other == "shop" { "payment" } else { "shop" };
    assert!(resident.log().contains(words) && resident.log().matches(HELD).count() == 1);
    let errors = health_errors(&stage.enterprise);
    assert!(errors.iter().any(|error| error.starts_with(&format!("account {held}: "))), "{errors:?}");
    assert_eq!(health_of(&stage.enterprise, held)["has_errors"], json!(true));
    assert_eq!(health_of(&stage.enterprise, other)["has_errors"], json!(false));
    assert!(!stage.spooled().is_empty());
}

#[tokio::test]
async fn an_account_that_is_sent_again_delays_no_other() {
    let stage = Stage::with(with_accounts()).await;
    stage.enterprise.inject(Requests::to(V2).first(1), Answer::status(503).retry_after("300"));
    let _resident = Resident::start(routed(&stage));

    stage.accepted(3).await;

    let accepted = stage.enterprise.accepted();
    assert!(accepted.iter().all(|report| report.account == accepted[0].account));
}

#[tokio::test]
async fn a_refused_password_is_tried_once_and_pauses_all_of_its_user() {
    let stage = Stage::with(EnterpriseOptions::default().account("shop").account("payment")).await;
    stage.enterprise.inject(Requests::to("/version").first(1), Answer::status(503));
    let resident = Resident::start(routed(&stage).set("anchore.password", "wrong"));

    resident.logged_times(HELD, 2).await;
    resident.logged("registration and health reports wait").await;
    resident.logged_times("reports made", 4).await;

    assert_eq!(requests_to(&stage.enterprise, V2), 1, "the user is not locked out");
    assert_eq!(requests_to(&stage.enterprise, "/v2/system/integrations/registration"), 0);
    assert!(stage.enterprise.accepted().is_empty());
}

#[rstest]
#[case(401)]
#[case(403)]
#[tokio::test]
async fn a_password_file_that_changed_is_used_at_once(#[case] status: u16) {
    let stage = Stage::new().await;
    if status == 403 {
        stage.enterprise.inject(Requests::to(V2).first(1), Answer::status(403));
    }
    let agent = Agent::new().reads(&stage.api).resident().set("anchore.url", stage.enterprise.url());
    let agent = agent.set("anchore.user", "admin").set("anchore.password-file", "password");
    let agent = agent.file("password", if status == 401 { "wrong" } else { "foobar" });
    let password = agent.path("password");
    let resident = Resident::start(agent.set("state.directory", stage.state.path().to_str().expect("text")));
    resident.logged(HELD).await;
    assert!(stage.enterprise.accepted().is_empty());

    // With another password, the server has another one too.
    stage.enterprise.set_user(User::of("admin", "admin", "renewed"));
    std::fs::write(password, "renewed\n").expect("written");
    stage.accepted(2).await;

    resident.logged("accepted again").await;
    assert_in_order(&stage.enterprise);
}

#[rstest]
#[case::schema(
    Answer::status(400).body(
        "application/problem+json",
        r#"{"title": "Bad Request", "status": 400, "detail": "'x' is too short - 'containers.0.image_tag'"}"#
    ),
    "containers.0.image_tag"
)]
#[case::too_large(Answer::status(413).html("413 Request Entity Too Large"), "payload-threshold-bytes")]
#[case::content_type(Answer::status(415), "415")]
#[case::unprocessable(Answer::status(422), "422")]
#[case::other(Answer::status(418), "418")]
#[tokio::test]
async fn f30_what_will_never_be_accepted_is_dropped_told_once_and_the_next_is_sent(
    #[case] answer: Answer,
    #[case] words: &str,
) {
    let stage = Stage::before_upgrade().await;
    stage.enterprise.inject(Requests::to(V2).first(1), answer);
    let resident = stage.start();

    stage.accepted(1).await;
    upgraded(&stage).await;

    assert_eq!(resident.log().matches("a report was rejected and is dropped").count(), 1);
    assert!(resident.log().contains(words), "{words}");
    let errors = health_errors(&stage.enterprise);
    assert!(errors.iter().any(|error| error.starts_with("a report of account admin was rejected: ")), "{errors:?}");
    resident.measures("reports_total{outcome=\"rejected\",account=\"admin\"}", |count| count > 0.5).await;
    assert_eq!(health_of(&stage.enterprise, "admin")["has_errors"], json!(false), "the reports after it are right");
}

#[tokio::test]
async fn what_departed_is_given_up_with_a_report_that_is_rejected() {
    let stage = Stage::new().await;
    let resident = stage.start();
    stage.accepted(1).await;

    stage.enterprise.inject(Requests::to(V2).first(1), Answer::status(400));
    stage.api.apply_pod("shop", &Pod::running("poison-0").image("poison:1"));
    stage.api.delete(Kind::Pods, "shop", "poison-0").expect("there");
    resident.logged("a report was rejected and is dropped").await;
    stage.accepted_more(2).await;

    let with = stage.outlines().iter().flatten().filter(|line| line.contains("poison")).count();
    assert_eq!(with, 0, "one bad pod does not block the account");
    resident.measures("carried_pods", |pods| pods < 0.5).await;
}

#[tokio::test]
async fn reports_of_an_unknown_account_go_to_the_default_account_and_that_is_told() {
    let options = EnterpriseOptions::default().account("payment").version(Version::WITHOUT_INTEGRATIONS);
    let stage = Stage::with(options).await;
    let resident = Resident::start(routed(&stage));
    stage
        .until("reports of both", |enterprise| {
            ["admin", "payment"].iter().all(|account| times(enterprise, account).len() >= 2)
        })
        .await;
    upgraded(&stage).await;

    let errors = health_errors(&stage.enterprise);
    assert!(errors.iter().any(|error| error.starts_with("account shop: ")), "{errors:?}");
    let shop = health_of(&stage.enterprise, "shop");
    assert_eq!((&shop["has_errors"], &shop["last_successful_index"]), (&json!(true), &json!(1)));
    assert!(shop["batches"][0]["error"].as_str().is_some_and(|error| error.contains("User account not found")));
    stage.enterprise.create_account("shop");
    stage.until("reports of shop", |enterprise| !times(enterprise, "shop").is_empty()).await;
    assert!(resident.log().contains("Anchore does not know the account"));
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_and_asked_again() {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to(V2).first(1), Fault::NeverAnswers);
    let resident = Resident::start(stage.agent().set("anchore.http.timeout-seconds", 1));

    stage.accepted(2).await;

    assert!(resident.log().contains("report not accepted yet, it is sent again"));
    assert_in_order(&stage.enterprise);
}

#[tokio::test]
async fn batches_of_a_report_are_accepted_one_by_one() {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to(V2).nth(2), Answer::status(503));
    let _resident = Resident::start(stage.agent().set("inventory-report-limits.namespaces", 1));

    stage.accepted(2).await;

    let requests = stage.enterprise.requests();
    let names = |index: usize| {
        let report = stage.enterprise.accepted()[index].request;
        requests[report].json().expect("a report")["namespaces"][0]["name"].clone()
    };
    assert_eq!([names(0), names(1)], [json!("payment"), json!("shop")]);
    let accepted = stage.enterprise.accepted();
    assert_eq!(accepted[0].timestamp, accepted[1].timestamp, "the first batch is not sent again");
}
