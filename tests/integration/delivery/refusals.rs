//! Answers that are errors: each is said in the server's own words, with what to do, and asked for once where asking again
//! is of no use.

use pretty_assertions::assert_eq;
use rstest::rstest;
use testbed::anchore::EnterpriseOptions;
use testbed::anchore::tenancy::User;
use testbed::server::fault::{Answer, Fault, Requests};

use super::{SHOP_ARRIVED, Scene, V2, large_cluster, not_accepted, post};
use crate::agent::Run;

const CREDENTIALS: &str = "check anchore.user and anchore.password, or those of the account's route";
const ROLE: &str = "give the user a role in the account that may send inventories (inventory-agent), and check that the \
                    account exists and is enabled";
const PATH: &str = "check the account's name, the path in anchore.url, and that Anchore Enterprise is 4.8 or newer";

/// An error as the routing and validation of the service give it.
fn controller(status: u16, title: &str, detail: &str) -> Answer {
    let body = serde_json::json!({"type": "about:blank", "title": title, "detail": detail, "status": status});
    Answer::status(status).body("application/problem+json", body.to_string())
}

/// An error as the service's own code gives it.
fn service(status: u16, message: &str) -> Answer {
    let body = serde_json::json!({"message": message, "httpcode": status, "detail": {"error_codes": []}});
    Answer::status(status).body("application/json", body.to_string())
}

// Errors that asking again does not mend.

#[rstest]
#[case::schema(
    controller(400, "Bad Request", "'' is too short - 'containers.0.image_tag'"),
    "400 Bad Request (Bad Request: '' is too short, at containers.0.image_tag)"
)]
#[case::no_words(Answer::status(400), "400 Bad Request (no reason given)")]
#[case::unauthorized(
    Answer::status(401).body("text/plain", "Unauthorized"),
    &format!("401 Unauthorized (Unauthorized): {CREDENTIALS}")
)]
#[case::forbidden(service(403, "Not authorized."), &format!("403 Forbidden (Not authorized.): {ROLE}"))]
#[case::another_account_s_right(
    service(403, "Not authorized. Requires permissions: domain=other action=syncInventory target="),
    &format!(
        "403 Forbidden (Not authorized. Requires permissions: domain=other action=syncInventory target=): {ROLE}"
    )
)]
#[case::firewall(Answer::status(403).html("Blocked"), &format!("403 Forbidden (a web page titled \"Blocked\"): {ROLE}"))]
#[case::method(
    controller(405, "Method Not Allowed", "The method is not allowed for the requested URL."),
    &format!(
        "405 Method Not Allowed (Method Not Allowed: The method is not allowed for the requested URL.): {PATH}"
    )
)]
#[case::conflict(service(409, "Busy"), "409 Conflict (Busy)")]
#[case::content_type(
    controller(415, "Unsupported Media Type", "Invalid Content-type (text/html), expected ['application/json']"),
    "415 Unsupported Media Type (Unsupported Media Type: Invalid Content-type (text/html), expected \
     ['application/json'])"
)]
#[case::unprocessable(
    Answer::status(422).body("application/json", r#"{"errors": ["odd"]}"#),
    r#"422 Unprocessable Entity ({"errors": ["odd"]})"#
)]
#[case::codes(
    Answer::status(410).body("application/json", r#"{"message": "Gone", "code": 410, "detail": {"error_codes": ["a", 7]}}"#),
    "410 Gone (Gone: a, 7)"
)]
#[tokio::test]
async fn d15_a_refusal_is_said_in_the_server_s_words_and_not_asked_for_again(
    #[case] answer: Answer,
    #[case] said: &str,
) {
    let scene = Scene::failing(answer).await;

    let run = scene.agent().run().await;

    assert_eq!(run, Run::failed(&[&scene.answered(said)]));
    assert_eq!(scene.asked(), [post("admin", "admin")]);
}

#[tokio::test]
async fn a_wrong_password_is_refused_by_the_server() {
    let scene = Scene::new().await;

    let run = scene.agent().set("anchore.password", "wrong").run().await;

    assert_eq!(run, Run::failed(&[&scene.answered(&format!("401 Unauthorized (Unauthorized): {CREDENTIALS}"))]));
    assert_eq!(scene.asked(), [post("admin", "admin")]);
}

#[tokio::test]
async fn d7_a_disabled_account_is_said_and_its_reports_go_nowhere_else() {
    let scene = Scene::with(EnterpriseOptions::default().disabled_account("old")).await;

    let run = scene
        .agent()
        .set("anchore.account", "old")
        .set("account-route-by-namespace-label.default-account", "admin")
        .set("account-routes.old.namespaces", serde_json::json!([".*"]))
        .run()
        .await;

    let reason = format!(
        "{}{V2} answered 403 Forbidden (Not authorized. Account old not enabled.): {ROLE}",
        scene.enterprise.url()
    );
    assert_eq!(run, Run::failed(&[&not_accepted(&reason, "old", 1)]));
    assert_eq!(scene.asked(), [post("old", "admin")]);
}

#[tokio::test]
async fn an_api_key_is_sent_as_the_password_of_its_user() {
    let options = EnterpriseOptions::default().user(User::of("admin", "inventory", "pw").with_api_key("key-1"));
    let scene = Scene::with(options).await;

    let run = scene.agent().set("anchore.user", "_api_key").set("anchore.password", "key-1").run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.asked(), [post("admin", "_api_key")]);
    assert_eq!(scene.arrived(), ["admin from inventory: blog, shop"]);
}

// Size.

#[rstest]
#[case::after_it_was_read(Fault::from(Answer::status(413).html("413 Request Entity Too Large")))]
#[case::before_it_was_read(Fault::EarlyAnswer(Answer::status(413).html("413 Request Entity Too Large")))]
#[tokio::test]
async fn a_report_that_is_too_large_says_how_large_it_is_and_which_limit_to_set(#[case] fault: Fault) {
    let scene = Scene::of(&large_cluster(), EnterpriseOptions::default()).await;
    scene.enterprise.inject(Requests::to("*"), fault);

    let run = scene.agent().run().await;

    let request = &scene.enterprise.requests()[0];
    let sentence = scene.answered(&format!(
        "413 Payload Too Large (a web page titled \"413 Request Entity Too Large\"): the report has {} bytes; set \
         inventory-report-limits.payload-threshold-bytes to what the server and the proxies in front of it take, or \
         raise their limit",
        request.header("content-length")
    ));
    assert_eq!(run, Run::failed(&[&sentence]));
    assert_eq!(scene.asked(), [post("admin", "admin")]);
}

// Errors that pass.

#[rstest]
#[case(408, "Request Timeout")]
#[case(425, "Too Early")]
#[case(429, "Too Many Requests")]
#[case(500, "Internal Server Error")]
#[case(502, "Bad Gateway")]
#[case(503, "Service Unavailable")]
#[case(504, "Gateway Timeout")]
#[case(507, "Insufficient Storage")]
#[tokio::test]
async fn d15_an_error_that_may_pass_is_sent_again_unless_that_is_switched_off(#[case] status: u16, #[case] name: &str) {
    let scene = Scene::new().await;
    scene.enterprise.inject(Requests::to("*").first(2), Answer::status(status).html("Sorry"));

    let once = scene.agent().set("anchore.http.retry-seconds", 0).run().await;
    let again = scene.agent().run().await;

    assert_eq!(once, Run::failed(&[&scene.answered(&format!("{status} {name} (a web page titled \"Sorry\")"))]));
    assert_eq!(again, Run::succeeded());
    assert_eq!(scene.asked(), vec![post("admin", "admin"); 3]);
    assert_eq!(scene.arrived(), SHOP_ARRIVED);
}

// Words.

#[rstest]
#[case::none(Answer::status(500), "no reason given")]
#[case::blanks(Answer::status(500).body("text/plain", "\n \t\r\n"), "no reason given")]
#[case::control_characters(
    Answer::status(500).body("text/plain", "first\r\nerror: second\u{1b}[2J\u{7}\u{0}\u{9b}31mthird"),
    "first error: second [2J 31mthird"
)]
#[case::not_text(Answer::status(500).body("application/octet-stream", &b"\xff\xfe\x00PK"[..]), "\u{fffd}\u{fffd} PK")]
#[case::json_of_something_else(Answer::status(500).body("application/json", r#"{"error": 7}"#), r#"{"error": 7}"#)]
#[case::json_with_other_types(Answer::status(500).body("application/json", r#"{"message": 7, "title": []}"#), r#"{"message": 7, "title": []}"#)]
#[case::page_without_a_title(Answer::status(500).body("text/html", "<p>Sorry</p>"), "<p>Sorry</p>")]
#[tokio::test]
async fn words_of_any_kind_are_said_on_one_line(#[case] answer: Answer, #[case] words: &str) {
    let scene = Scene::failing(answer).await;

    let run = scene.agent().set("anchore.http.retry-seconds", 0).run().await;

    assert_eq!(run, Run::failed(&[&scene.answered(&format!("500 Internal Server Error ({words})"))]));
}

#[rstest]
#[case::huge(Fault::from(Answer::status(400).body("text/plain", "x".repeat(8 << 20))))]
#[case::that_never_end(Fault::Altered(vec![
    testbed::server::fault::Alteration::Body("x".repeat(4_000).into()),
    testbed::server::fault::Alteration::StallsAfter(1_000),
]))]
#[tokio::test]
async fn words_without_end_are_shortened(#[case] fault: Fault) {
    let scene = Scene::new().await;
    // The wrong password makes the real answer, where it is altered, an error too.
    scene.enterprise.inject(Requests::to("*"), fault);

    let run = scene.agent().set("anchore.password", "wrong").set("anchore.http.timeout-seconds", 3).run().await;

    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains(&format!("({}…)", "x".repeat(500))), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1);
    assert_eq!(scene.asked(), [post("admin", "admin")]);
}
