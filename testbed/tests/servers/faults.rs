use std::time::Duration;

use bytes::Bytes;
use pretty_assertions::assert_eq;
use reqwest::{Body, Response};
use testbed::anchore::{Enterprise, EnterpriseOptions};
use testbed::cluster::Cluster;
use testbed::kubernetes::{self, KubernetesApi};
use testbed::server::fault::{Answer, Fault, Requests};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client;

/// Long enough to see that nothing comes; what does come is never waited for with it.
const NOTHING: Duration = Duration::from_millis(50);

async fn api() -> KubernetesApi {
    KubernetesApi::serving(&Cluster::new().node("n1").namespace("shop")).await.expect("started")
}

async fn nodes(api: &KubernetesApi) -> reqwest::Result<Response> {
    client().get(format!("{}/api/v1/nodes", api.url())).send().await
}

#[tokio::test]
async fn a_rule_counts_only_what_it_matches() {
    let api = api().await;
    api.inject(Requests::to("/api/*/nodes").nth(2), kubernetes::too_many_requests(7));
    client().get(format!("{}/api/v1/pods", api.url())).send().await.expect("an answer");

    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(nodes(&api).await.expect("an answer").status().as_u16());
    }

    assert_eq!(statuses, [200, 429, 200]);
}

#[tokio::test]
async fn a_made_up_answer_is_given_to_the_letter() {
    let api = api().await;
    api.inject(Requests::to("*"), Answer::status(503).retry_after("120").html("Sorry"));

    let response = nodes(&api).await.expect("an answer");

    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "120");
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    assert!(response.text().await.expect("text").contains("<h1>Sorry</h1>"));
}

#[tokio::test]
async fn a_cut_body_is_an_error_and_a_truncated_one_is_not() {
    let api = api().await;
    let whole = nodes(&api).await.expect("an answer").bytes().await.expect("a body");
    api.inject(Requests::to("*").first(1), Fault::cut_after(100));
    api.inject(Requests::to("*").nth(2), Fault::truncated_to(100));

    let mut cut = nodes(&api).await.expect("an answer");
    let mut received = Vec::new();
    let ended = loop {
        match cut.chunk().await {
            Ok(Some(chunk)) => received.extend_from_slice(&chunk),
            ended => break ended,
        }
    };
    let truncated = nodes(&api).await.expect("an answer").bytes().await.expect("a body");

    assert!(ended.is_err());
    assert_eq!((Bytes::from(received), truncated), (whole.slice(..100), whole.slice(..100)));
}

#[tokio::test]
async fn a_body_comes_in_pieces_of_any_size() {
    let api = api().await;
    let whole = nodes(&api).await.expect("an answer").bytes().await.expect("a body");
    api.inject(Requests::to("*"), Fault::chunks_of(1));

    assert_eq!(nodes(&api).await.expect("an answer").bytes().await.expect("a body"), whole);
}

#[tokio::test]
async fn a_stalled_body_stops_where_it_was_told_to() {
    let api = api().await;
    api.inject(Requests::to("*"), Fault::stalls_after(10));

    let mut response = nodes(&api).await.expect("an answer");
    let mut received = 0;
    while received < 10 {
        received += response.chunk().await.expect("a chunk").expect("more").len();
    }

    assert_eq!(received, 10);
    assert!(tokio::time::timeout(NOTHING, response.chunk()).await.is_err());
}

#[tokio::test]
async fn a_length_is_announced_that_never_comes() {
    let api = api().await;
    api.inject(Requests::to("*"), Fault::announces(2_000_000_000));

    let mut response = nodes(&api).await.expect("an answer");

    assert_eq!(response.content_length(), Some(2_000_000_000));
    while let Ok(chunk) = tokio::time::timeout(NOTHING, response.chunk()).await {
        assert!(chunk.expect("no error").is_some(), "it must not end");
    }
}

#[tokio::test]
async fn a_content_type_lies() {
    let api = api().await;
    api.inject(Requests::to("*"), Fault::content_type("application/vnd.kubernetes.protobuf"));

    let response = nodes(&api).await.expect("an answer");

    assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf");
    assert!(response.text().await.expect("text").starts_with('{'));
}

#[tokio::test]
async fn connections_close_and_reset_before_an_answer() {
    let api = api().await;
    api.inject(Requests::to("*").first(1), Fault::Closes { after: 0 });
    api.inject(Requests::to("*").nth(2), Fault::Resets { after: 0 });

    assert!(nodes(&api).await.is_err());
    let mut stream = TcpStream::connect(api.address()).await.expect("connected");
    stream.write_all(b"GET /api/v1/nodes HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let reset = stream.read(&mut [0; 16]).await.expect_err("a reset");
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn enterprise_hangs_without_reading() {
    let enterprise = EnterpriseOptions::default().keep_bodies_up_to(0).start().await.expect("started");
    enterprise.inject(Requests::to("*").first(1), Fault::NeverReads);
    enterprise.inject(Requests::to("*").nth(2), Fault::NeverAnswers);

    for complete in [false, true] {
        let body = Body::from(vec![b' '; 32 * 1024 * 1024]);
        let request = client().post(format!("{}/v2/kubernetes-inventory", enterprise.url())).body(body);
        let sending = tokio::spawn(request.send());
        if complete {
            while !enterprise.requests().last().is_some_and(|request| request.body_complete) {
                tokio::task::yield_now().await;
            }
        } else {
            tokio::time::sleep(NOTHING).await;
        }
        assert!(!sending.is_finished());
        sending.abort();
    }
    let received: Vec<_> = enterprise.requests().iter().map(|request| request.body_bytes).collect();
    assert_eq!(received, [0, 32 * 1024 * 1024]);
}

#[tokio::test]
async fn enterprise_redirects() {
    let enterprise = Enterprise::start().await.expect("started");
    enterprise.inject(Requests::to("/version"), Answer::redirect(307, "http://127.0.0.1:1/elsewhere"));

    let response = client().get(format!("{}/version", enterprise.url())).send().await.expect("an answer");

    assert_eq!(
        (response.status().as_u16(), &response.headers()["location"]),
        (307, &"http://127.0.0.1:1/elsewhere".parse().expect("a value"))
    );
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let options = EnterpriseOptions::default().idle_timeout(Duration::from_millis(10));
    let enterprise = options.start().await.expect("started");
    let mut stream = TcpStream::connect(enterprise.address()).await.expect("connected");
    stream.write_all(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");

    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("closed, not reset");

    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with('}'), "{answer}");
}

#[tokio::test]
async fn concurrent_requests_are_counted_while_they_are_open() {
    let api = api().await;
    api.inject(Requests::to("*"), Fault::stalls_after(0));

    let first = nodes(&api).await.expect("an answer");
    let second = nodes(&api).await.expect("an answer");

    assert_eq!(api.peak_concurrency(), 2);
    drop((first, second));
}
