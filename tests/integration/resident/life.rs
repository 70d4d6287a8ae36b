//! From its start to its end: when reports are made, what it prints, what it refuses, and signals.

use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::{Deserializer, Value};
use testbed::anchore::EnterpriseOptions;
use testbed::server::closed_port::ClosedPort;
use testbed::server::fault::{Answer, Fault, Requests};
use testbed::server::tls::Authority;

use super::process::Resident;
use super::{Stage, V2, last, times};
use crate::agent::{Agent, Run, lines};
use crate::scene::SHOP;

#[tokio::test]
async fn the_first_report_comes_at_once_and_the_others_follow_each_interval() {
    let stage = Stage::new().await;
    let hourly = Resident::start(stage.agent().set("polling-interval-seconds", 3_600));
    stage.accepted(1).await;
    assert_eq!(hourly.stop().await.code, Some(0));

    let resident = stage.start();
    stage.accepted(5).await;

    assert_eq!(resident.stop().await.code, Some(0));
    // Those of the second agent.
    let times = times(&stage.enterprise, "admin").split_off(1);
    let (unique, mut sorted) = (times.len(), times.clone());
    sorted.dedup();
    assert_eq!(sorted.len(), unique, "a second apart: {times:?}");
    assert_eq!(last(&stage.enterprise), lines(&SHOP));
}

#[rstest]
#[case("TERM")]
#[case("INT")]
#[tokio::test]
async fn a_signal_lets_the_request_in_flight_finish_and_the_exit_code_is_0(#[case] signal: &str) {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to(V2).first(1), Fault::Delay(std::time::Duration::from_secs(1)));
    let resident = stage.start();

    stage.sent(1).await;
    assert!(stage.enterprise.accepted().is_empty(), "it is under way");
    resident.signal(signal).await;
    let end = resident.ended().await;

    assert_eq!(end.code, Some(0), "{}", end.log);
    assert_eq!(stage.outlines(), [lines(&SHOP)]);
    assert!(stage.spooled().is_empty(), "what was accepted does not wait any more");
}

#[rstest]
#[case("TERM", 143)]
#[case("INT", 130)]
#[tokio::test]
async fn a_second_signal_ends_it_at_once(#[case] signal: &str, #[case] code: i32) {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to(V2), Fault::NeverAnswers);
    let resident = stage.start();

    stage.sent(1).await;
    resident.signal("TERM").await;
    resident.logged("told to stop").await;
    resident.signal(signal).await;
    let end = resident.ended().await;

    assert_eq!(end.code, Some(code), "{}", end.log);
    assert_eq!(stage.spooled().len(), 1, "what was not accepted waits");
}

#[tokio::test]
async fn a_wait_for_the_next_attempt_ends_with_a_signal() {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to(V2), Answer::status(503).retry_after("500"));
    let resident = stage.start();

    resident.logged("report not accepted yet").await;
    let end = resident.stop().await;

    assert_eq!(end.code, Some(0), "{}", end.log);
    assert!(!stage.spooled().is_empty());
}

#[tokio::test]
async fn without_settings_for_anchore_it_stays_and_sends_nothing() {
    let stage = Stage::new().await;
    let agent = Agent::new().reads(&stage.api).resident();
    let resident = Resident::start(agent.set("state.directory", stage.state.path().to_str().expect("text")));

    resident.logged_times("reports made", 2).await;
    resident.answers("/readyz", 200).await;
    let end = resident.stop().await;

    assert_eq!((end.code, end.stdout.as_str()), (Some(0), ""), "{}", end.log);
    assert_eq!(end.log.matches("nothing is sent").count(), 1, "{}", end.log);
    assert!(stage.enterprise.requests().is_empty() && stage.spooled().is_empty());
}

#[tokio::test]
async fn each_report_is_printed_where_that_is_wanted() {
    let stage = Stage::new().await;
    let resident = Resident::start(stage.agent().with("-i"));

    stage.accepted(2).await;
    let end = resident.stop().await;

    let printed: Result<Vec<Value>, _> = Deserializer::from_str(&end.stdout).into_iter().collect();
    let printed = printed.expect("documents of JSON");
    let accepted = stage.enterprise.reports("admin");
    assert!(printed.len() >= accepted.len() && printed[..2] == accepted[..2], "{} printed", printed.len());
}

#[rstest]
#[case("-o json")]
#[case("-o table")]
#[case("--dry-run")]
#[tokio::test]
async fn what_only_a_single_run_can_do_is_refused(#[case] words: &str) {
    let stage = Stage::new().await;

    let run = stage.agent().with(words).run().await;

    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{}", run.stderr);
    assert!(run.stderr.contains("--mode adhoc"), "{}", run.stderr);
    assert!(stage.api.requests().is_empty() && stage.enterprise.requests().is_empty());
}

#[tokio::test]
async fn a_wrong_kubeconfig_ends_it_at_the_start() {
    let stage = Stage::new().await;

    let run = stage.agent().set("kubeconfig.path", "not-there").run().await;

    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("not-there"), "{}", run.stderr);
}

#[tokio::test]
async fn a_port_that_is_taken_ends_it_at_the_start() {
    let stage = Stage::new().await;
    let taken = ClosedPort::bind().expect("bound");
    let address = taken.address().expect("an address");

    let run: Run = stage.agent().set("admin.listen", address.to_string()).run().await;

    assert_eq!(run.code, Some(2), "{}", run.stderr);
    let sentence = "set admin.listen to an address of this host and to a free port";
    assert!(run.stderr.contains(&address.to_string()) && run.stderr.contains(sentence), "{}", run.stderr);
    assert!(stage.api.requests().is_empty());
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_trusted_gets_nothing_and_does_not_end_it() {
    let authority = std::sync::Arc::new(Authority::new("unknown").expect("an authority"));
    let stage = Stage::with(EnterpriseOptions::default().tls(&authority)).await;
    let resident = stage.start();

    resident.logged("reports of the account are kept and not accepted until this is mended").await;
    resident.logged_times("reports made", 2).await;
    resident.answers("/readyz", 200).await;

    assert!(stage.enterprise.requests().is_empty());
    assert_eq!(resident.stop().await.code, Some(0));
}
