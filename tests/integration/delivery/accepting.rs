//! What counts as accepted, what a request looks like, and which path takes it: that of newer servers, or that of older
//! ones.

use std::collections::BTreeSet;

use http::StatusCode;
use pretty_assertions::assert_eq;
use rstest::rstest;
use testbed::anchore::EnterpriseOptions;
use testbed::anchore::version::Version;
use testbed::server::fault::{Alteration, Answer, Fault, Requests};

use super::{SHOP, SHOP_ARRIVED, Scene, V1, V2, namespaces, not_accepted, post};
use crate::agent::{Run, outlines};

// The request.

#[rstest]
#[case("", "")]
#[case("", "/")]
#[case("/anchore", "")]
#[case("/anchore", "/")]
#[case("/behind/two", "//")]
#[tokio::test]
async fn d48_every_path_is_below_the_base_of_the_address(#[case] base: &str, #[case] end: &str) {
    let scene = Scene::with(EnterpriseOptions::default().base_path(base).version(Version::V1_ONLY)).await;

    let run = scene.agent().set("anchore.url", format!("{}{end}", scene.enterprise.url())).run().await;

    assert_eq!(run, Run::succeeded());
    let expected = [
        format!("POST {base}{V2} for admin from admin"),
        format!("GET {base}/version"),
        format!("POST {base}{V1} for admin from admin"),
    ];
    assert_eq!(scene.asked(), expected);
    assert_eq!(outlines(&scene.enterprise, "admin"), [SHOP]);
}

#[tokio::test]
async fn a_report_has_length_account_and_credentials_and_the_version_is_asked_for_without() {
    let scene = Scene::with(EnterpriseOptions::default().version(Version::V1_ONLY)).await;

    scene.agent().run().await;

    let names = |headers: &http::HeaderMap| -> BTreeSet<String> { headers.keys().map(ToString::to_string).collect() };
    let common = ["accept", "host", "user-agent"];
    let of_reports = ["authorization", "content-length", "content-type", "x-anchore-account"];
    let requests = scene.enterprise.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        let reports: &[&str] = if request.path == "/version" { &[] } else { &of_reports };
        assert_eq!(names(&request.headers), common.iter().chain(reports).map(ToString::to_string).collect());
        assert_eq!(request.header("host"), scene.peer());
        assert_eq!(request.header("user-agent"), concat!("anchore-k8s-inventory/", env!("CARGO_PKG_VERSION")));
    }
    let report = &requests[2];
    assert_eq!(report.header("content-length"), report.body_bytes.to_string());
    assert_eq!(report.header("content-type"), "application/json");
    assert_eq!(report.header("x-anchore-account"), "admin");
    assert_eq!(report.header("authorization"), "Basic YWRtaW46Zm9vYmFy");
}

#[tokio::test]
async fn a_report_larger_than_the_buffers_of_a_connection_arrives_with_its_length() {
    let scene = Scene::of(&super::large_cluster(), EnterpriseOptions::default()).await;

    let run = scene.agent().run().await;

    assert_eq!(run, Run::succeeded());
    let request = &scene.enterprise.requests()[0];
    assert!(request.body_bytes > 12 << 20);
    assert_eq!(request.header("content-length"), request.body_bytes.to_string());
    assert_eq!(request.header("transfer-encoding"), "");
    let accepted = &scene.enterprise.accepted()[0];
    assert_eq!((accepted.pods, accepted.containers, accepted.dangling), (12, 12, 0));
}

// The answer.

#[rstest]
#[case(200, "")]
#[case(200, "{}")]
#[case(200, "null")]
#[case(200, " \r\n")]
#[case(201, "")]
#[case(201, r#"{"uuid": "5b0f6c0e-0d61-4a52-9a51-2c9a3a2f1101"}"#)]
#[case(202, "[1, 2]\n")]
#[case(204, "")]
#[tokio::test]
async fn a_success_without_a_body_or_with_json_is_an_acceptance(#[case] status: u16, #[case] body: &'static str) {
    let status = StatusCode::from_u16(status).expect("a status");
    let scene = Scene::with(EnterpriseOptions::default().report_answer(status, body)).await;

    let run = scene.agent().run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.asked(), [post("admin", "admin")]);
    assert_eq!(scene.arrived(), SHOP_ARRIVED);
}

#[rstest]
#[case::that_is_long(Fault::body(format!("[{}0]", "0,".repeat(200_000))))]
#[case::with_the_content_type_of_a_page(Fault::content_type("text/html"))]
#[case::in_small_chunks(Fault::chunks_of(1))]
#[tokio::test]
async fn json_is_an_acceptance(#[case] fault: Fault) {
    let scene = Scene::with(EnterpriseOptions::default().report_answer(StatusCode::OK, "{}")).await;
    scene.enterprise.inject(Requests::to(V2), fault);

    let run = scene.agent().run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.asked(), [post("admin", "admin")]);
}

#[rstest]
#[case::page(Answer::status(200).html("Sign in"), "200 OK", "a web page titled \"Sign in\"")]
#[case::page_that_claims_to_be_json(
    Answer::status(201).body("application/json", "<html><title>Sign in</title></html>"),
    "201 Created",
    "a web page titled \"Sign in\""
)]
#[case::text(Answer::status(202).body("text/plain", "OK"), "202 Accepted", "OK")]
#[case::half_of_json(Answer::status(200).body("application/json", "{\"uuid\": "), "200 OK", "{\"uuid\":")]
#[tokio::test]
async fn any_other_body_is_no_acceptance(#[case] answer: Answer, #[case] status: &str, #[case] words: &str) {
    let scene = Scene::failing(answer).await;

    let run = scene.agent().run().await;

    let sentence = scene.answered(&format!(
        "{status} with what Anchore never answers ({words}), so a login page or a proxy took the report: check \
         anchore.url and what stands in front of Anchore"
    ));
    assert_eq!(run, Run::failed(&[&sentence]));
    assert_eq!(scene.asked(), [post("admin", "admin")]);
}

// Older and newer servers.

#[tokio::test]
async fn a_server_with_both_paths_gets_the_newer_one() {
    let scene = Scene::with(EnterpriseOptions::default().version(Version::BOTH)).await;

    let run = scene.agent().run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.asked(), [post("admin", "admin")]);
    assert_eq!(outlines(&scene.enterprise, "admin"), [SHOP]);
}

#[tokio::test]
async fn an_older_server_is_asked_for_its_version_once() {
    let options = EnterpriseOptions::default().version(Version::V1_ONLY);
    let scene = Scene::of(&namespaces(&["a", "b", "c"]), options).await;

    let run = scene.agent().set("inventory-report-limits.namespaces", 1).run().await;

    assert_eq!(run, Run::succeeded());
    let older = format!("POST {V1} for admin from admin");
    assert_eq!(scene.asked(), [post("admin", "admin"), "GET /version".to_owned(), older.clone(), older.clone(), older]);
    assert_eq!(scene.arrived(), ["admin from admin: a", "admin from admin: b", "admin from admin: c"]);
}

#[rstest]
#[case::failing(Answer::status(500).into())]
#[case::unknown(Answer::status(404).html("Not Found").into())]
#[case::forbidden(Answer::status(403).into())]
#[case::that_redirects(Answer::redirect(302, "/login").into())]
#[case::that_is_a_page(Answer::status(200).html("Anchore").into())]
#[case::that_is_empty(Answer::status(200).into())]
#[case::that_is_cut(Fault::cut_after(10))]
#[case::that_is_truncated(Fault::truncated_to(10))]
#[case::that_breaks_off(Fault::Closes { after: 0 })]
#[case::that_is_reset(Fault::Resets { after: 0 })]
#[case::that_never_comes(Fault::NeverAnswers)]
#[case::that_never_ends(Fault::Altered(vec![Alteration::StallsAfter(10)]))]
#[tokio::test]
async fn an_older_server_gets_the_report_whatever_its_version_is(#[case] fault: Fault) {
    let scene = Scene::with(EnterpriseOptions::default().version(Version::V1_ONLY)).await;
    scene.enterprise.inject(Requests::to("/version"), fault);

    let run = scene.agent().set("anchore.http.timeout-seconds", 3).run().await;

    assert_eq!(run, Run::succeeded());
    let older = format!("POST {V1} for admin from admin");
    assert_eq!(scene.asked(), [post("admin", "admin"), "GET /version".to_owned(), older]);
    assert_eq!(outlines(&scene.enterprise, "admin"), [SHOP]);
}

#[tokio::test]
async fn a_server_that_is_upgraded_between_two_batches_gets_both() {
    let options = EnterpriseOptions::default().version(Version::V1_ONLY).upgrade_at(4, Version::LATEST);
    let scene = Scene::of(&namespaces(&["a", "b", "c"]), options).await;

    let run = scene.agent().set("inventory-report-limits.namespaces", 1).run().await;

    assert_eq!(run, Run::succeeded());
    let (newer, older) = (post("admin", "admin"), format!("POST {V1} for admin from admin"));
    let version = "GET /version".to_owned();
    assert_eq!(
        scene.asked(),
        [&newer, &version, &older, &older, &version, &newer, &newer].map(ToOwned::to_owned),
        "the older path is tried first while it was the one that worked"
    );
    assert_eq!(scene.arrived(), ["admin from admin: a", "admin from admin: b", "admin from admin: c"]);
}

#[tokio::test]
async fn a_server_that_is_replaced_by_an_older_one_between_two_batches_gets_both() {
    let options = EnterpriseOptions::default().upgrade_at(2, Version::V1_ONLY);
    let scene = Scene::of(&namespaces(&["a", "b"]), options).await;

    let run = scene.agent().set("inventory-report-limits.namespaces", 1).run().await;

    assert_eq!(run, Run::succeeded());
    let (newer, older) = (post("admin", "admin"), format!("POST {V1} for admin from admin"));
    assert_eq!(scene.asked(), [newer.clone(), newer, "GET /version".to_owned(), older]);
    assert_eq!(scene.arrived(), ["admin from admin: a", "admin from admin: b"]);
}

#[tokio::test]
async fn an_unknown_path_is_said_when_the_version_shows_that_it_is_the_right_one() {
    let scene = Scene::new().await;
    scene.enterprise.inject(Requests::to(V2), Answer::status(404).html("404 Not Found"));

    let run = scene.agent().run().await;

    let sentence = scene.answered(
        "404 Not Found (a web page titled \"404 Not Found\"): check the account's name, the path in anchore.url, and \
         that Anchore Enterprise is 4.8 or newer",
    );
    assert_eq!(run, Run::failed(&[&sentence]));
    assert_eq!(scene.asked(), [post("admin", "admin"), "GET /version".to_owned()]);
}

#[tokio::test]
async fn a_wrong_base_path_is_said_with_all_that_was_tried() {
    let scene = Scene::new().await;

    let run = scene.agent().set("anchore.url", format!("{}/ui", scene.enterprise.url())).run().await;

    let url = scene.enterprise.url();
    let unknown = "answered 404 Not Found (Not Found: The requested URL was not found on the server. If you entered \
                   the URL manually please check your spelling and try again.): check the account's name, the path in \
                   anchore.url, and that Anchore Enterprise is 4.8 or newer";
    let sentence = format!(
        "{url}/ui{V2} {unknown}; the path of other versions of Anchore was tried as well: {url}/ui{V1} {unknown}"
    );
    assert_eq!(run, Run::failed(&[&not_accepted(&sentence, "admin", 1)]));
    let (newer, older) = (format!("POST /ui{V2} for admin from admin"), format!("POST /ui{V1} for admin from admin"));
    assert_eq!(scene.asked(), [newer, "GET /ui/version".to_owned(), older]);
}

#[tokio::test]
async fn what_the_older_path_says_is_said_with_the_404_before_it() {
    let scene = Scene::with(EnterpriseOptions::default().version(Version::V1_ONLY)).await;

    let run = scene.agent().set("anchore.password", "wrong").run().await;

    let url = scene.enterprise.url();
    let reason = format!(
        "{url}{V1} answered 401 Unauthorized (Unauthorized): check anchore.user and anchore.password, or those of the \
         account's route; before, {url}{V2} answered 404 Not Found"
    );
    assert_eq!(run, Run::failed(&[&not_accepted(&reason, "admin", 1)]));
}
