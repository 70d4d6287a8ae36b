//! Connections that fail in every way: none, silent, cut, reset, closed while idle, with something else at the other end.

use std::net::Ipv4Addr;

use http::StatusCode;
use pretty_assertions::assert_eq;
use rstest::rstest;
use testbed::anchore::EnterpriseOptions;
use testbed::anchore::inventory::Ingest;
use testbed::server::closed_port::ClosedPort;
use testbed::server::fault::{Alteration, Answer, Fault, Requests};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{SHOP, SHOP_ARRIVED, Scene, V2, large_cluster, not_accepted, post};
use crate::agent::{Run, outlines};

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_after_the_timeout() {
    let scene = Scene::failing(Fault::NeverAnswers).await;
    let agent = scene.agent().set("anchore.http.timeout-seconds", 1).set("anchore.http.retry-seconds", 0);

    let run = agent.run().await;

    let reason = format!("{} did not answer within 1 s (anchore.http.timeout-seconds)", scene.peer());
    assert_eq!(run, Run::failed(&[&not_accepted(&reason, "admin", 1)]));
    assert_eq!(scene.asked(), [post("admin", "admin")]);
}

#[tokio::test]
async fn a_server_that_stops_reading_is_given_up_after_the_timeout() {
    let scene = Scene::of(&large_cluster(), EnterpriseOptions::default()).await;
    scene.enterprise.inject(Requests::to("*"), Fault::NeverReads);
    let agent = scene.agent().set("anchore.http.timeout-seconds", 1).set("anchore.http.retry-seconds", 0);

    let run = agent.run().await;

    let reason =
        format!("{} did not take any more of the report within 1 s (anchore.http.timeout-seconds)", scene.peer());
    assert_eq!(run, Run::failed(&[&not_accepted(&reason, "admin", 1)]));
    assert_eq!(scene.asked(), [post("admin", "admin")]);
}

#[rstest]
#[case::that_does_not_answer(Fault::NeverAnswers)]
#[case::that_closes_at_once(Fault::Closes { after: 0 })]
#[case::that_closes_within_the_report(Fault::Closes { after: 100 })]
#[case::that_closes_after_the_report(Fault::Closes { after: usize::MAX })]
#[case::that_resets_at_once(Fault::Resets { after: 0 })]
#[case::that_resets_within_the_report(Fault::Resets { after: 100 })]
#[case::that_resets_after_the_report(Fault::Resets { after: usize::MAX })]
#[tokio::test]
async fn a_connection_does_not_lose_the_report(#[case] fault: Fault) {
    let scene = Scene::new().await;
    scene.enterprise.inject(Requests::to("*").first(1), fault);

    let run = scene.agent().set("anchore.http.timeout-seconds", 5).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.asked(), vec![post("admin", "admin"); 2]);
    assert_eq!(scene.arrived(), SHOP_ARRIVED);
}

#[rstest]
#[case::closed(Fault::Closes { after: usize::MAX })]
#[case::reset(Fault::Resets { after: usize::MAX })]
#[tokio::test]
async fn a_connection_that_always_breaks_is_said(#[case] fault: Fault) {
    let scene = Scene::failing(fault).await;

    let run = scene.agent().set("anchore.http.retry-seconds", 0).run().await;

    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    let start = format!("error: report not accepted: the connection to {} broke: ", scene.peer());
    assert!(run.stderr.starts_with(&start) && run.stderr.ends_with(" account=\"admin\" batch=1\n"), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1);
}

#[rstest]
#[case::within_the_report(Fault::Closes { after: 1 << 20 })]
#[case::reset_within_the_report(Fault::Resets { after: 1 << 20 })]
#[tokio::test]
async fn a_large_report_is_sent_again_whole(#[case] fault: Fault) {
    let scene = Scene::of(&large_cluster(), EnterpriseOptions::default()).await;
    scene.enterprise.inject(Requests::to("*").first(1), fault);

    let run = scene.agent().run().await;

    assert_eq!(run, Run::succeeded());
    let requests = scene.enterprise.requests();
    assert_eq!(requests[0].header("content-length"), requests[1].header("content-length"));
    assert_eq!((requests[0].body_complete, requests[1].body_complete), (false, true));
    let accepted = &scene.enterprise.accepted()[0];
    assert_eq!((accepted.pods, accepted.bytes), (12, requests[1].body_bytes));
}

#[rstest]
#[case::cut(Fault::cut_after(1))]
#[case::stalling(Fault::stalls_after(1))]
#[case::announcing_more(Fault::announces(1_000))]
#[tokio::test]
async fn an_acceptance_that_breaks_off_is_asked_for_again_which_does_no_harm(
    #[case] fault: Fault,
    #[values(Ingest::Merge, Ingest::Overwrite)] ingest: Ingest,
) {
    let scene =
        Scene::with(EnterpriseOptions::default().report_answer(StatusCode::OK, "{\"a\": 1}").ingest(ingest)).await;
    scene.enterprise.inject(Requests::to("*").first(2), fault);
    let agent = || scene.agent().set("anchore.http.timeout-seconds", 3);

    let once = agent().set("anchore.http.retry-seconds", 0).run().await;
    let again = agent().run().await;

    assert_eq!(once.code, Some(1));
    assert!(once.stderr.contains(&format!("the connection to {} broke: ", scene.peer())), "{}", once.stderr);
    assert_eq!(again, Run::succeeded());
    assert_eq!(outlines(&scene.enterprise, "admin"), [SHOP; 3]);
    let shop = scene.enterprise.inventory().namespace("admin", "testbed", "shop").cloned().expect("it is known");
    assert_eq!((shop.pods.len(), shop.containers.len()), (1, 1));
}

#[tokio::test]
async fn an_error_whose_words_break_off_counts_by_its_status() {
    let scene = Scene::new().await;
    let page = Alteration::Body("<title>Maintenance</title>".into());
    scene.enterprise.inject(Requests::to("*"), Fault::Altered(vec![page, Alteration::CutAfter(10)]));

    let run = scene.agent().set("anchore.password", "wrong").run().await;

    let advice = "check anchore.user and anchore.password, or those of the account's route";
    assert_eq!(run, Run::failed(&[&scene.answered(&format!("401 Unauthorized (<title>Mai): {advice}"))]));
    assert_eq!(scene.asked(), [post("admin", "admin")]);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_while_it_was_idle_is_made_again() {
    let options = EnterpriseOptions::default().idle_timeout(std::time::Duration::from_millis(400));
    let scene = Scene::with(options).await;
    scene.enterprise.inject(Requests::to("*").first(1), Answer::status(503).retry_after("1"));

    let run = scene.agent().run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.asked(), vec![post("admin", "admin"); 2]);
    assert_eq!(scene.arrived(), SHOP_ARRIVED);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said() {
    let scene = Scene::new().await;
    let closed = ClosedPort::bind().expect("a port");
    let address = closed.address().expect("an address");

    let agent = scene.agent().set("anchore.url", format!("http://{address}")).set("anchore.http.retry-seconds", 0);
    let run = agent.run().await;

    let reason = format!("no connection to {address}: Connection refused (os error 111)");
    assert_eq!(run, Run::failed(&[&not_accepted(&reason, "admin", 1)]));
}

#[rstest]
#[case::another_protocol("SSH-2.0-OpenSSH_9.9\r\n")]
#[case::nothing("")]
#[tokio::test]
async fn a_server_that_does_not_speak_http_is_said(#[case] greeting: &'static str) {
    let scene = Scene::new().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // It reads a little first, so that its greeting is an answer.
            let _ = stream.read(&mut [0; 512]).await;
            let _ = stream.write_all(greeting.as_bytes()).await;
        }
    });

    let agent = scene.agent().set("anchore.url", format!("http://{address}")).set("anchore.http.retry-seconds", 0);
    let run = agent.run().await;

    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    let start = format!("error: report not accepted: the connection to {address} broke: ");
    assert!(run.stderr.starts_with(&start), "{}", run.stderr);
    assert!(!run.stderr.contains(V2), "the address is enough: {}", run.stderr);
}

#[tokio::test]
async fn without_a_limit_a_slow_server_is_waited_for() {
    let scene = Scene::new().await;
    scene.enterprise.inject(Requests::to("*"), Fault::Delay(std::time::Duration::from_millis(1_500)));

    let limited = scene.agent().set("anchore.http.timeout-seconds", 1).set("anchore.http.retry-seconds", 0).run().await;
    let unlimited =
        scene.agent().set("anchore.http.timeout-seconds", 0).set("anchore.http.retry-seconds", 0).run().await;

    assert_eq!(limited.code, Some(1));
    assert_eq!(unlimited, Run::succeeded());
}
