//! What it says of itself to probes and scrapes.

use pretty_assertions::assert_eq;
use testbed::server::fault::{Answer, Fault, Requests};

use super::{Stage, V2};

#[tokio::test]
async fn it_lives_at_once_and_is_ready_once_the_cluster_was_read() {
    let stage = Stage::new().await;
    stage.api.inject(Requests::to("/api/*"), Fault::Resets { after: 0 });
    let resident = stage.start();

    assert_eq!(resident.get("/livez").await, (200, "ok".to_owned()));
    let reason = resident.answers("/readyz", 503).await;
    assert!(!reason.is_empty());
    resident.logged("not read yet").await;
    let (status, reason) = resident.get("/readyz").await;
    assert!(status == 503 && reason.contains("cannot be reached"), "{reason}");
    assert!(stage.enterprise.accepted().is_empty());

    stage.api.clear_faults();
    assert_eq!(resident.answers("/readyz", 200).await, "ok");
    stage.accepted(1).await;
    assert_eq!(resident.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn it_is_not_ready_any_more_while_it_ends_and_lives_until_then() {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to(V2), Fault::NeverAnswers);
    let resident = stage.start();
    resident.answers("/readyz", 200).await;

    stage.sent(1).await;
    resident.signal("TERM").await;
    let reason = resident.answers("/readyz", 503).await;

    assert_eq!(reason, "it was told to stop");
    assert_eq!(resident.get("/livez").await.0, 200);
    resident.signal("TERM").await;
    assert_eq!(resident.ended().await.code, Some(143));
}

#[tokio::test]
async fn anchore_being_away_does_not_make_it_unready() {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to("*"), Fault::Resets { after: 0 });
    let resident = stage.start();

    resident.logged("report not accepted yet").await;

    assert_eq!(resident.answers("/readyz", 200).await, "ok");
    resident.logged_times("reports made", 2).await;
    assert_eq!(resident.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn metrics_say_how_fresh_and_complete_everything_is() {
    let stage = Stage::new().await;
    let resident = stage.start();
    stage.accepted(2).await;
    resident.measures("reports_total{outcome=\"accepted\",account=\"admin\"}", |count| count >= 2.0).await;

    let (status, text) = resident.get("/metrics").await;

    assert!(status == 200 && text.ends_with("# EOF\n"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        assert!(value.parse::<f64>().is_ok() && !name.is_empty(), "{line}");
    }
    for (name, expected) in [
        ("held_objects{kind=\"pods\"}", 3.0),
        ("held_objects{kind=\"namespaces\"}", 2.0),
        ("held_objects{kind=\"containers\"}", 3.0),
        ("held_objects{kind=\"nodes\"}", 1.0),
        ("sources{source=\"pods\",state=\"synced\"}", 1.0),
        ("sources{source=\"namespaces\",state=\"synced\"}", 1.0),
        ("sources{source=\"pods\",state=\"blind\"}", 0.0),
        ("carried_pods", 0.0),
        ("relists_total", 0.0),
        ("leader", 1.0),
        ("spool_memory_only", 0.0),
        ("integration_state{state=\"registered\"}", 1.0),
    ] {
        resident.measures(name, |value| (value - expected).abs() < f64::EPSILON).await;
    }
    for name in [
        "last_tick_timestamp_seconds",
        "source_confirmed_timestamp_seconds{source=\"pods\"}",
        "last_accepted_report_timestamp_seconds{account=\"admin\"}",
    ] {
        let now = jiff::Timestamp::now().as_second();
        let moment = resident.metric(name).await.unwrap_or_else(|| panic!("no {name} in {text}"));
        #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
        let age = now as f64 - moment;
        assert!((-5.0..60.0).contains(&age), "{name} is {age} s ago");
    }
}

#[tokio::test]
async fn metrics_say_what_waits() {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to(V2), Answer::status(503));
    let resident = stage.start();

    resident.measures("spool_sets", |sets| sets >= 1.0).await;
    resident.measures("spool_bytes", |bytes| bytes > 100.0).await;
    resident.measures("spool_oldest_timestamp_seconds", |oldest| oldest > 0.0).await;
    resident.measures("anchore_requests_total{call=\"report\",outcome=\"failed\"}", |count| count >= 1.0).await;

    stage.enterprise.clear_faults();
    stage.accepted(1).await;
    resident.measures("spool_sets", |sets| sets <= 1.0).await;
}
