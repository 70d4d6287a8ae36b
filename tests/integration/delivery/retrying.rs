//! When a report is sent again, and when that ends. Nothing here is measured from above: a slow machine only waits longer.

use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan};
use pretty_assertions::assert_eq;
use rstest::rstest;
use testbed::anchore::EnterpriseOptions;
use testbed::server::fault::{Answer, Requests};

use super::{SHOP_ARRIVED, Scene, namespaces, not_accepted, post};
use crate::agent::Run;

/// The whole second that is so far from now.
fn moment_in(seconds: i64) -> Timestamp {
    let moment = Timestamp::now().checked_add(seconds.seconds()).expect("a moment");
    Timestamp::from_second(moment.as_second()).expect("a moment")
}

/// As HTTP writes it.
fn date(moment: Timestamp) -> String {
    moment.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[tokio::test]
async fn the_seconds_that_the_server_asks_for_are_waited() {
    let scene = Scene::new().await;
    scene.enterprise.inject(Requests::to("*").first(1), Answer::status(429).retry_after("1"));
    let started = Instant::now();

    let run = scene.agent().run().await;

    assert_eq!(run, Run::succeeded());
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(scene.asked(), vec![post("admin", "admin"); 2]);
    assert_eq!(scene.arrived(), SHOP_ARRIVED);
}

#[tokio::test]
async fn the_date_that_the_server_asks_for_is_waited_for() {
    let scene = Scene::new().await;
    let moment = moment_in(3);
    scene.enterprise.inject(Requests::to("*").first(1), Answer::status(503).retry_after(&date(moment)));

    let run = scene.agent().run().await;

    assert_eq!(run, Run::succeeded());
    assert!(Timestamp::now() >= moment);
    assert_eq!(scene.asked(), vec![post("admin", "admin"); 2]);
    assert_eq!(scene.arrived(), SHOP_ARRIVED);
}

#[rstest]
#[case::past(date(moment_in(-60)))]
#[case::zero("0".to_owned())]
#[case::nonsense("soon".to_owned())]
#[tokio::test]
async fn a_time_that_is_none_is_no_obstacle(#[case] retry_after: String) {
    let scene = Scene::new().await;
    scene.enterprise.inject(Requests::to("*").first(1), Answer::status(503).retry_after(&retry_after));

    let run = scene.agent().run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.asked(), vec![post("admin", "admin"); 2]);
}

#[rstest]
#[case(60, 120)]
#[case(600, 7_200)]
#[case(0, 1)]
#[tokio::test]
async fn a_time_beyond_the_one_for_retries_ends_the_run_at_once(#[case] retry: u64, #[case] asked: u64) {
    let scene = Scene::failing(Answer::status(503).retry_after(&asked.to_string())).await;

    let run = scene.agent().set("anchore.http.retry-seconds", retry).run().await;

    let sentence = scene.answered(&format!(
        "503 Service Unavailable (no reason given); the server asks to wait {asked} s, which is longer than \
         anchore.http.retry-seconds allows"
    ));
    assert_eq!(run, Run::failed(&[&sentence]));
    assert_eq!(scene.asked(), [post("admin", "admin")]);
}

#[tokio::test]
async fn a_server_that_never_gets_well_is_given_up_after_the_time_for_retries() {
    let scene = Scene::failing(Answer::status(500).body("text/plain", "database is down")).await;
    let started = Instant::now();

    let run = scene.agent().set("anchore.http.retry-seconds", 2).run().await;

    assert_eq!(run, Run::failed(&[&scene.answered("500 Internal Server Error (database is down)")]));
    assert!(started.elapsed() >= Duration::from_secs(2));
    // Waits of at least a quarter of a second, then half, then one.
    assert!((2..=5).contains(&scene.asked().len()), "{:?}", scene.asked());
    assert!(scene.arrived().is_empty());
}

#[tokio::test]
async fn each_batch_is_tried_although_the_time_for_retries_is_used_up() {
    let scene = Scene::of(&namespaces(&["a", "b", "c"]), EnterpriseOptions::default()).await;
    scene.enterprise.inject(Requests::to("*").first(2), Answer::status(503));
    let agent = scene.agent().set("anchore.http.retry-seconds", 0).set("inventory-report-limits.namespaces", 1);

    let run = agent.run().await;

    let reason = format!("{}{} answered 503 Service Unavailable (no reason given)", scene.enterprise.url(), super::V2);
    assert_eq!(run, Run::failed(&[&not_accepted(&reason, "admin", 1), &not_accepted(&reason, "admin", 2)]));
    assert_eq!(scene.asked(), vec![post("admin", "admin"); 3]);
    assert_eq!(scene.arrived(), ["admin from admin: c"]);
}

#[tokio::test]
async fn the_same_report_is_sent_again() {
    let scene = Scene::new().await;
    scene.enterprise.inject(Requests::to("*").first(2), Answer::status(503));

    scene.agent().run().await;

    let bodies: Vec<_> = scene.enterprise.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies.len(), 3);
    assert!(bodies[0].is_some());
    assert_eq!(bodies, vec![bodies[0].clone(); 3]);
}
