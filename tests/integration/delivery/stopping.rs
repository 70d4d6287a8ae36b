//! Signals while reports are on their way: what is in flight may finish, nothing else starts, and the exit code says
//! whether all arrived.

use pretty_assertions::assert_eq;
use rstest::rstest;
use testbed::anchore::EnterpriseOptions;
use testbed::server::fault::{Answer, Fault};

use super::relay::Relay;
use super::{SHOP_ARRIVED, Scene, namespaces, not_accepted, post};
use crate::agent::Run;

#[rstest]
#[case("TERM")]
#[case("INT")]
#[tokio::test]
async fn the_report_in_flight_is_finished_and_counts(#[case] signal: &str) {
    let scene = Scene::new().await;
    let relay = Relay::before(scene.enterprise.address()).await;
    let agent = scene.agent().set("anchore.url", relay.url()).set("log.file", "agent.log");
    let running = agent.start();

    scene.asked_for(1).await;
    running.signal(signal).await;
    running.has_written("agent.log", "told to stop: ").await;
    relay.release();
    let run = running.ended().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.arrived(), SHOP_ARRIVED);
}

#[tokio::test]
async fn batches_that_were_not_begun_are_not_sent_and_the_run_has_failed() {
    let scene = Scene::of(&namespaces(&["a", "b", "c"]), EnterpriseOptions::default()).await;
    let relay = Relay::before(scene.enterprise.address()).await;
    let agent = scene.agent().set("anchore.url", relay.url()).set("log.file", "agent.log");
    let running = agent.set("inventory-report-limits.namespaces", 1).start();

    scene.asked_for(1).await;
    running.signal("TERM").await;
    running.has_written("agent.log", "told to stop: ").await;
    relay.release();
    let run = running.ended().await;

    let rest = "the other batches of the account are not sent either account=\"admin\" not_sent=1";
    let stopped = not_accepted("not sent, because the agent was told to stop", "admin", 2);
    assert_eq!(run, Run::failed(&[&stopped, rest]));
    assert_eq!(scene.asked(), [post("admin", "admin")]);
    assert_eq!(scene.arrived(), ["admin from admin: a"]);
}

#[tokio::test]
async fn a_wait_for_the_next_try_ends() {
    let scene = Scene::failing(Answer::status(503).retry_after("60")).await;
    let agent = scene.agent().set("anchore.http.retry-seconds", 3_600).set("log.file", "agent.log");
    let running = agent.start();

    scene.asked_for(1).await;
    running.signal("TERM").await;
    let run = running.ended().await;

    let sentence =
        scene.answered("503 Service Unavailable (no reason given); not sent again, because the agent was told to stop");
    assert_eq!(run, Run::failed(&[&sentence]));
    assert_eq!(scene.asked(), [post("admin", "admin")]);
}

#[tokio::test]
async fn a_server_that_never_answers_holds_the_end_for_twenty_seconds_at_most() {
    let scene = Scene::failing(Fault::NeverAnswers).await;
    let running = scene.agent().set("anchore.http.timeout-seconds", 0).start();

    scene.asked_for(1).await;
    running.signal("TERM").await;
    let run = running.ended().await;

    let reason = "no answer within 20 s after the agent was told to stop; it may have been accepted";
    assert_eq!(run, Run::failed(&[&not_accepted(reason, "admin", 1)]));
}
