//! An API server that is away, busy, or broken.

use std::time::Duration;

use pretty_assertions::assert_eq;
use rstest::rstest;
use testbed::anchore::version::Version;
use testbed::cluster::pod::Pod;
use testbed::kubernetes;
use testbed::objects::Kind;
use testbed::server::fault::{Answer, Fault, Requests};

use super::process::Resident;
use super::{Stage, health_errors};
use crate::scene::{NAMESPACES, NODES, PODS};

const STAYS: [&str; 3] =
    ["pod payment/api-0 on n1: payment:7", "pod shop/web-0 on n1: nginx:1.27", "pod shop/web-1 on n1: nginx:1.27"];

#[rstest]
#[case::reset(Fault::Resets { after: 0 })]
#[case::closed(Fault::Closes { after: 0 })]
#[case::failing(Answer::status(500).into())]
#[tokio::test]
async fn f8_f34_a_server_that_is_away_at_the_start_is_waited_for(#[case] fault: Fault) {
    let stage = Stage::new().await;
    stage.api.inject(Requests::to("*"), fault);
    let resident = stage.start();

    resident.logged("not read yet, so nothing is reported; trying on").await;
    assert_eq!(resident.get("/readyz").await.0, 503);
    assert!(stage.enterprise.accepted().is_empty());
    stage.api.clear_faults();

    stage.accepted(1).await;
    resident.answers("/readyz", 200).await;
    stage.assert_never_without(&STAYS);
}

#[tokio::test]
async fn f7_f8_a_busy_server_is_left_alone_as_long_as_it_asks_for() {
    let stage = Stage::new().await;
    stage.api.inject(Requests::to(PODS).lists().first(1), kubernetes::too_many_requests(1));
    let message = "apiserver not ready";
    let unready = kubernetes::failure(503, "ServiceUnavailable", message).retry_after("1");
    stage.api.inject(Requests::to(NAMESPACES).lists().first(1), unready);
    let began = std::time::Instant::now();
    let _resident = stage.start();

    stage.accepted(1).await;

    assert!(began.elapsed() >= Duration::from_secs(1));
    stage.assert_never_without(&STAYS);
    for path in [PODS, NAMESPACES] {
        let lists = stage.api.requests().iter().filter(|request| request.path == path).count();
        assert!((2..=3).contains(&lists), "{path} was asked for {lists} times, its watch included");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_stops_the_reports_after_an_interval_and_is_named() {
    let stage = Stage::before_upgrade().await;
    let resident = stage.start();
    stage.accepted(2).await;

    stage.api.inject(Requests::to("*"), Fault::Resets { after: 0 });
    stage.api.reset_watches();
    resident.logged("not up to date any more, what was known is kept").await;
    resident.logged("a tick made no report").await;
    resident.measures("ticks_total{outcome=\"stale\"}", |count| count >= 1.0).await;
    let before = stage.enterprise.accepted().len();
    stage.enterprise.upgrade(Version::LATEST);
    stage.until("a health report", |enterprise| !enterprise.health_reports().is_empty()).await;

    let errors = health_errors(&stage.enterprise);
    assert!(errors.iter().any(|error| error.contains("could not be confirmed")), "{errors:?}");
    assert_eq!(resident.get("/readyz").await.0, 200, "not for a minute");
    assert_eq!(stage.enterprise.accepted().len(), before, "an old state is not sent under a new time");
    stage.api.clear_faults();
    stage.accepted(before + 1).await;
    stage.assert_never_without(&STAYS);
}

#[tokio::test]
async fn what_happened_while_the_server_was_away_is_reported_when_it_is_back() {
    let stage = Stage::new().await;
    let resident = stage.start();
    stage.accepted(1).await;

    stage.api.inject(Requests::to("*"), Fault::Resets { after: 0 });
    stage.api.reset_watches();
    resident.logged("not up to date any more").await;
    stage.api.apply_pod("shop", &Pod::running("job-0").image("job:1"));
    stage.api.delete(Kind::Pods, "shop", "job-0").expect("there");
    stage.api.delete(Kind::Pods, "shop", "web-1").expect("there");
    stage.api.clear_faults();

    stage.reported("pod shop/job-0 on n1: job:1").await;
    stage.not_reported(STAYS[2]).await;
    stage.assert_never_without(&STAYS[..2]);
}

#[tokio::test]
async fn nodes_that_cannot_be_read_are_left_out_and_named() {
    let stage = Stage::before_upgrade().await;
    stage.api.inject(Requests::to(NODES), Answer::status(500));
    let resident = stage.start();
    resident.logged("the nodes could not be read, so reports have none").await;
    stage.accepted(1).await;
    stage.enterprise.upgrade(Version::LATEST);
    stage.until("a health report", |enterprise| !enterprise.health_reports().is_empty()).await;

    let errors = health_errors(&stage.enterprise);
    assert!(errors.iter().any(|error| error.starts_with("the nodes could not be read")), "{errors:?}");
    stage.api.clear_faults();
    stage.reported("node n1").await;
    stage.assert_never_without(&["namespace shop"]);
}

#[tokio::test]
async fn a_first_state_that_takes_too_long_is_named() {
    let stage = Stage::before_upgrade().await;
    stage.api.inject(Requests::to(PODS), Fault::NeverAnswers);
    let agent = stage.agent().set("inventory-collection.informer.cache-sync-timeout-seconds", 1);
    let resident = Resident::start(agent);

    resident.logged("the cluster could not be read completely within 1 s; nothing is reported yet").await;
    stage.enterprise.upgrade(Version::LATEST);
    stage.until("a health report", |enterprise| !enterprise.health_reports().is_empty()).await;

    let error = "the cluster could not be read completely within 1 s; nothing is reported yet";
    assert_eq!(health_errors(&stage.enterprise), [error]);
    assert!(stage.enterprise.accepted().is_empty());
    assert_eq!(resident.get("/readyz").await.0, 503);
}

#[tokio::test]
async fn a_watch_that_ends_within_an_event_goes_on_where_it_was() {
    let stage = Stage::new().await;
    stage.api.inject(Requests::to(PODS).watches().first(1), Fault::cut_after(100));
    let _resident = stage.start();
    stage.accepted(1).await;

    stage.api.wait_for_watches(Kind::Pods, 1).await;
    stage.api.apply_pod("shop", &Pod::running("new-0").image("new:1"));
    stage.accepted_more(1).await;
    // The connection closes when there is more to send.
    stage.api.apply_pod("shop", &Pod::running("new-1").image("new:1"));
    stage.reported("pod shop/new-0 on n1: new:1").await;
    stage.reported("pod shop/new-1 on n1: new:1").await;

    stage.assert_never_without(&STAYS);
    assert_eq!(stage.lists_of_pods(), 1);
}

#[tokio::test]
async fn f5_a_history_that_is_always_too_short_is_not_listed_in_a_storm() {
    let stage = Stage::new().await;
    stage.api.inject(Requests::to(PODS).watches(), kubernetes::expired());
    let resident = stage.start();

    resident.measures("relists_total", |count| count >= 3.0).await;
    resident.logged("a tick made no report").await;

    assert!(stage.lists_of_pods() <= 8, "{} lists", stage.lists_of_pods());
    stage.assert_never_without(&STAYS);
    stage.api.clear_faults();
    stage.api.apply_pod("shop", &Pod::running("new-0").image("new:1"));
    stage.reported("pod shop/new-0 on n1: new:1").await;
}
