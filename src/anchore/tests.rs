//! The client against servers on loopback, well-behaved and not.

use std::time::Duration;

use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::json;
use testbed::server::closed_port::ClosedPort;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::error::Stage;
use super::loopback::{
    Loopback, Received, client_of, inventory_user, large_report, response, response_with, settings, small_report,
};
use super::*;
use crate::config::anchore::ProxySetting;

const V1: &str = "POST /v1/enterprise/kubernetes-inventory";
const V2: &str = "POST /v2/kubernetes-inventory";
const VERSION: &str = "GET /version";
const NO_SUCH_PATH: &str =
    r#"{"title": "Not Found", "detail": "The requested URL was not found on the server.", "status": 404}"#;

async fn send(client: &Client, report: &Payload) -> Result<(), SendError> {
    client.send_report(report, "team-a", &inventory_user()).await
}

async fn send_to(server: &Loopback) -> Result<(), SendError> {
    send(&server.client(), &small_report()).await
}

/// A port that nobody listens on, and its address.
fn closed_port() -> (ClosedPort, Url) {
    let closed = ClosedPort::bind().unwrap();
    let url = Url::parse(&format!("http://{}", closed.address().unwrap())).unwrap();
    (closed, url)
}

fn refusal(result: Result<(), SendError>) -> Refusal {
    match result {
        Err(SendError::Refused(refusal)) => *refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_report_is_posted_with_account_credentials_and_length() {
    let server = Loopback::answering(|_| response(201, "")).await;

    send_to(&server).await.unwrap();

    let agent = concat!("anchore-k8s-inventory/", env!("CARGO_PKG_VERSION"));
    let headers = [
        ("accept", "*/*"),
        ("authorization", "Basic aW52ZW50b3J5OnB3"),
        ("content-length", "17"),
        ("content-type", "application/json"),
        ("host", server.url.as_str().trim_start_matches("http://").trim_end_matches('/')),
        ("user-agent", agent),
        ("x-anchore-account", "team-a"),
    ];
    let expected = Received {
        line: V2.to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        body: r#"{"containers":[]}"#.to_owned(),
    };
    assert_eq!(server.received(), [expected]);
}

#[tokio::test]
async fn a_large_report_arrives_whole() {
    let server = Loopback::answering(|_| response(200, "{}")).await;

    send(&server.client(), &large_report(3)).await.unwrap();

    let [request] = server.received().try_into().unwrap();
    assert_eq!(request.header("content-length"), "3000001");
    assert!(!request.headers.contains_key("transfer-encoding"));
    assert_eq!(request.body.len(), 3_000_001);
}

#[rstest]
#[case("")]
#[case("/")]
#[case("/anchore/")]
#[tokio::test]
async fn the_path_of_the_base_address_is_kept(#[case] path: &str) {
    let server = Loopback::answering(|_| response(204, "")).await;
    let client = client_of(&settings(&server.url.join(path).unwrap()));

    send(&client, &small_report()).await.unwrap();

    assert_eq!(server.lines(), [format!("POST {}/v2/kubernetes-inventory", path.trim_end_matches('/'))]);
}

#[tokio::test]
async fn an_account_name_beyond_ascii_is_sent_as_utf8_and_one_with_control_characters_is_not_sent() {
    let server = Loopback::answering(|_| response(201, "")).await;
    let client = server.client();

    client.send_report(&small_report(), "größe", &inventory_user()).await.unwrap();
    let error = client.send_report(&small_report(), "a\r\nb", &inventory_user()).await.unwrap_err();

    assert_eq!(server.received()[0].header("x-anchore-account"), "größe");
    assert_eq!(error.to_string(), r#"the account name "a\r\nb" holds control characters"#);
    assert_eq!(server.received().len(), 1);
}

// === Versions ===

#[tokio::test]
async fn an_older_server_gets_the_older_path_and_the_next_report_at_once() {
    let server = Loopback::answering(|request| match request.line.as_str() {
        V1 => response(204, ""),
        VERSION => response(200, r#"{"service": {"version": "4.8.1"}, "api": {}, "db": {}}"#),
        _ => response(404, NO_SUCH_PATH),
    })
    .await;
    let client = server.client();

    send(&client, &small_report()).await.unwrap();
    send(&client, &small_report()).await.unwrap();

    assert_eq!(server.lines(), [V2, VERSION, V1, V1]);
    assert_eq!(server.received()[1].header("authorization"), "");
}

#[tokio::test]
async fn a_server_that_was_upgraded_gets_the_newer_path_again() {
    let is_upgraded = std::sync::Arc::new(AtomicBool::new(false));
    let upgraded = std::sync::Arc::clone(&is_upgraded);
    let server = Loopback::answering(move |request| {
        let (path, version) = if upgraded.load(Ordering::Relaxed) { (V2, "2") } else { (V1, "1") };
        match request.line.as_str() {
            VERSION => response(200, &json!({"api": {"version": version}}).to_string()),
            line if line == path => response(201, ""),
            _ => response(404, NO_SUCH_PATH),
        }
    })
    .await;
    let client = server.client();

    send(&client, &small_report()).await.unwrap();
    is_upgraded.store(true, Ordering::Relaxed);
    send(&client, &small_report()).await.unwrap();

    assert_eq!(server.lines(), [V2, VERSION, V1, V1, VERSION, V2]);
}

#[tokio::test]
async fn the_older_path_is_tried_once_when_the_version_cannot_be_read_and_the_error_names_the_404() {
    let server = Loopback::answering(|request| match request.line.as_str() {
        VERSION => response(200, "<html>Anchore Enterprise</html>"),
        _ => response(404, NO_SUCH_PATH),
    })
    .await;

    let refusal = refusal(send_to(&server).await);

    assert_eq!(server.lines(), [V2, VERSION, V1]);
    assert_eq!(refusal.status, StatusCode::NOT_FOUND);
    assert_eq!(refusal.url, format!("{}v2/kubernetes-inventory", server.url));
    let message = refusal.to_string();
    assert!(message.contains("The requested URL was not found on the server"), "{message}");
    assert!(message.contains("/v1/enterprise/kubernetes-inventory answered 404"), "{message}");
}

#[tokio::test]
async fn what_the_older_path_says_counts_and_the_404_is_named_with_it() {
    let server = Loopback::answering(|request| match request.line.as_str() {
        V1 => response(403, r#"{"message": "Not authorized."}"#),
        VERSION => response(500, ""),
        _ => response(404, NO_SUCH_PATH),
    })
    .await;

    let refusal = refusal(send_to(&server).await);

    assert_eq!(refusal.status, StatusCode::FORBIDDEN);
    assert_eq!(refusal.note, Some(format!("before, {}v2/kubernetes-inventory answered 404 Not Found", server.url)));
}

#[tokio::test]
async fn the_older_path_is_not_tried_when_the_server_says_that_it_is_a_newer_one() {
    let server = Loopback::answering(|request| match request.line.as_str() {
        VERSION => response(200, r#"{"api": {"version": "2"}}"#),
        _ => response(404, NO_SUCH_PATH),
    })
    .await;

    assert_eq!(refusal(send_to(&server).await).status, StatusCode::NOT_FOUND);
    assert_eq!(server.lines(), [V2, VERSION]);
}

#[tokio::test]
async fn an_unknown_account_is_no_unknown_path() {
    let server = Loopback::answering(|_| response(404, r#"{"message": "User account not found. Name=team-a"}"#)).await;

    assert!(refusal(send_to(&server).await).names_unknown_account());
    assert_eq!(server.lines(), [V2]);
}

// === Redirects and pages ===

#[tokio::test]
async fn a_redirect_within_the_host_is_followed_with_the_body() {
    let server = Loopback::answering(|request| match request.line.as_str() {
        V2 => response_with(307, "Location: /moved?to=here\r\n", ""),
        _ => response(201, ""),
    })
    .await;

    send_to(&server).await.unwrap();

    let [first, second] = server.received().try_into().unwrap();
    assert_eq!(second.line, "POST /moved?to=here");
    assert_eq!((second.body, second.headers), (first.body, first.headers));
}

#[tokio::test]
async fn a_fourth_redirect_is_not_followed() {
    let server = Loopback::answering(|_| response_with(308, "Location: /again\r\n", "")).await;

    let error = send_to(&server).await.unwrap_err();

    assert!(matches!(error, SendError::Redirected { .. }), "{error}");
    assert_eq!(server.received().len(), 4);
}

#[rstest]
#[case(302, "/login?next=secret", "http://127.0.0.1:{port}/login")]
#[case(301, "https://user:pw@sso.example/start", "https://sso.example/start")]
#[case(307, "http://other.example/v2", "http://other.example/v2")]
#[case(307, "http://[broken", "no address")]
#[tokio::test]
async fn other_redirects_name_their_target_without_secrets(
    #[case] status: u16,
    #[case] location: &'static str,
    #[case] named: &str,
) {
    let server = Loopback::answering(move |_| response_with(status, &format!("Location: {location}\r\n"), "")).await;

    let error = send_to(&server).await.unwrap_err();

    let named = named.replace("{port}", &server.url.port().unwrap().to_string());
    assert!(error.to_string().contains(&format!("a redirect to {named}, which is not followed")), "{error}");
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn a_login_page_is_not_an_acceptance() {
    let server = Loopback::answering(|_| response(200, "<html><title>Sign in</title></html>")).await;

    let error = send_to(&server).await.unwrap_err();

    assert!(matches!(error, SendError::NotAnchore { .. }), "{error}");
    assert!(error.to_string().contains("a web page titled \"Sign in\""), "{error}");
}

// === Transport ===

#[tokio::test]
async fn a_refusal_before_the_end_of_the_body_is_read_though_the_server_closes() {
    let server = Loopback::serving(|mut stream: TcpStream| async move {
        // The rest of the body is left unread, so closing resets the connection.
        let mut some = [0; 1_000];
        stream.read_exact(&mut some).await.unwrap();
        stream.write_all(response(413, "too large").as_bytes()).await.unwrap();
    })
    .await;
    let client = server.client();
    let report = large_report(5);

    // Whether a write fails before the answer is seen is a matter of luck, so once is not enough.
    for _ in 0..20 {
        let refusal = refusal(send(&client, &report).await);
        assert_eq!((refusal.status, refusal.words.as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "too large"));
    }
}

#[tokio::test]
async fn a_refusal_before_the_end_of_the_body_ends_the_upload() {
    let (told, took) = tokio::sync::oneshot::channel();
    let told = std::sync::Mutex::new(Some(told));
    let server = Loopback::serving(move |mut stream: TcpStream| {
        let told = told.lock().unwrap().take();
        async move {
            let mut some = vec![0; 10_000];
            stream.read_exact(&mut some).await.unwrap();
            stream.write_all(response(401, "").as_bytes()).await.unwrap();
            let mut rest = 0;
            while let Ok(length @ 1..) = stream.read(&mut some).await {
                rest += length;
            }
            told.unwrap().send(rest).unwrap();
        }
    })
    .await;

    let refusal = refusal(send(&server.client(), &large_report(40)).await);

    assert_eq!(refusal.status, StatusCode::UNAUTHORIZED);
    assert!(took.await.unwrap() < 20_000_000);
}

#[tokio::test]
async fn a_server_that_never_reads_ends_the_upload() {
    let server = Loopback::serving(|stream: TcpStream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let limit = Duration::from_millis(300);

    let error = send(&server.client_with_timeout(limit), &large_report(20)).await.unwrap_err();

    assert!(
        matches!(&error, SendError::Transport(TransportError::Timeout { stage: Stage::Upload, limit: said, .. }) if *said == limit),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_never_answers_ends_the_wait() {
    let server = Loopback::serving(|mut stream: TcpStream| async move {
        let _request = Received::read(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;

    let error = send(&server.client_with_timeout(Duration::from_millis(300)), &small_report()).await.unwrap_err();

    let authority = server.url.as_str().trim_start_matches("http://").trim_end_matches('/');
    assert_eq!(error.to_string(), format!("{authority} did not answer within 0.3 s (anchore.http.timeout-seconds)"));
}

#[tokio::test]
async fn an_answer_that_stops_in_its_body_still_counts_by_its_status() {
    let server = Loopback::serving(|mut stream: TcpStream| async move {
        let _request = Received::read(&mut stream).await;
        stream.write_all(b"HTTP/1.1 400 Bad\r\nContent-Length: 100\r\n\r\nbad element").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;

    let refusal = refusal(send(&server.client_with_timeout(Duration::from_millis(300)), &small_report()).await);

    assert_eq!((refusal.status, refusal.words.as_str()), (StatusCode::BAD_REQUEST, "bad element"));
}

#[rstest]
#[case::nothing(b"")]
#[case::half_a_head(b"HTTP/1.1 20")]
#[case::no_http(b"220 mail.example ESMTP\r\n")]
#[case::a_success_cut_before_its_body(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n")]
#[case::a_success_cut_in_its_body(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{\"a\":")]
#[tokio::test]
async fn an_answer_that_is_cut_or_no_http_is_a_broken_connection(#[case] said: &'static [u8]) {
    let server = Loopback::serving(move |mut stream: TcpStream| async move {
        let _request = Received::read(&mut stream).await;
        stream.write_all(said).await.unwrap();
    })
    .await;

    let error = send_to(&server).await.unwrap_err();

    assert!(matches!(error, SendError::Transport(TransportError::Broken { .. })), "{error:?}");
}

#[tokio::test]
async fn a_closed_port_is_said_in_one_sentence() {
    let (_closed, url) = closed_port();

    let error = send(&client_of(&settings(&url)), &small_report()).await.unwrap_err();

    let authority = url.as_str().trim_start_matches("http://").trim_end_matches('/');
    assert_eq!(error.to_string(), format!("no connection to {authority}: Connection refused (os error 111)"));
}

#[tokio::test]
async fn an_endless_answer_is_read_up_to_a_limit() {
    let server = Loopback::serving(|mut stream: TcpStream| async move {
        let _request = Received::read(&mut stream).await;
        let mut sent = stream.write_all(b"HTTP/1.1 400 Bad\r\nContent-Length: 99999999999\r\n\r\n").await;
        while sent.is_ok() {
            sent = stream.write_all(&[b'x'; 10_000]).await;
        }
    })
    .await;

    assert_eq!(refusal(send_to(&server).await).words.as_str().len(), answer::BODY_LIMIT);
}

#[tokio::test]
async fn a_document_that_cannot_be_sent_as_announced_is_no_network_error() {
    let server = Loopback::answering(|_| response(201, "")).await;

    let error = send(&server.client(), &Payload::json("0123456789", 400)).await.unwrap_err();

    assert!(matches!(error, SendError::Unsendable(_)), "{error:?}");
}

// === Proxies ===

fn through(proxy: &str) -> AnchoreConfig {
    let mut settings = settings(&Url::parse("http://anchore.example:8228/enterprise").unwrap());
    settings.http.proxy = ProxySetting::Url(Url::parse(proxy).unwrap());
    settings
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_whole_address_with_its_own_credentials() {
    let proxy = Loopback::answering(|_| response(201, "")).await;
    let address = proxy.url.as_str().replace("http://", "http://me:proxypw@");

    send(&client_of(&through(&address)), &small_report()).await.unwrap();

    let [request] = proxy.received().try_into().unwrap();
    assert_eq!(request.line, "POST http://anchore.example:8228/enterprise/v2/kubernetes-inventory");
    assert_eq!(request.header("proxy-authorization"), "Basic bWU6cHJveHlwdw==");
    assert_eq!(request.header("authorization"), "Basic aW52ZW50b3J5OnB3");
}

#[tokio::test]
async fn a_proxy_is_taken_from_the_variables() {
    let proxy = Loopback::answering(|_| response(201, "")).await;
    let mut settings = through("http://unused.example");
    settings.http.proxy = ProxySetting::Environment;
    let variables = [("HTTP_PROXY".to_owned(), proxy.url.to_string())].into();

    send(&Client::new(&settings, &variables).unwrap(), &small_report()).await.unwrap();

    assert_eq!(proxy.lines(), ["POST http://anchore.example:8228/enterprise/v2/kubernetes-inventory"]);
}

#[tokio::test]
async fn a_socks_proxy_is_spoken_to() {
    let proxy = Loopback::serving(|mut stream: TcpStream| async move {
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting, [5, 1, 0]);
        stream.write_all(&[5, 0]).await.unwrap();
        // Version, connect, reserved, by name, its length, the name, the port.
        let mut request = [0; 4 + 1 + 15 + 2];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(&request[5..20], b"anchore.example");
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        Received::read(&mut stream).await.unwrap();
        stream.write_all(response(201, "").as_bytes()).await.unwrap();
    })
    .await;

    let address = proxy.url.as_str().replace("http://", "socks5h://");
    send(&client_of(&through(&address)), &small_report()).await.unwrap();
}

#[tokio::test]
async fn a_proxy_that_refuses_a_tunnel_for_want_of_a_password_says_so() {
    let proxy = Loopback::answering(|_| response(407, "")).await;
    let mut settings = through(proxy.url.as_str());
    settings.url = Url::parse("https://anchore.example").unwrap();
    settings.http.insecure = true;

    let error = send(&client_of(&settings), &small_report()).await.unwrap_err();

    assert!(matches!(error, SendError::Transport(TransportError::ProxyAuthentication { .. })), "{error:?}");
    assert!(error.to_string().ends_with("give the proxy's user and password in its address"), "{error}");
}

#[tokio::test]
async fn an_unreachable_proxy_is_named_without_its_password() {
    let (_closed, url) = closed_port();
    let address = url.as_str().replace("http://", "http://me:hunter2@");

    let client = client_of(&through(&address));
    let error = send(&client, &small_report()).await.unwrap_err().to_string();

    let authority = url.as_str().trim_start_matches("http://").trim_end_matches('/');
    assert!(
        error.starts_with(&format!("no connection to anchore.example:8228 through the proxy {authority}: ")),
        "{error}"
    );
    assert!(!format!("{error} {client:?}").contains("hunter2"), "{error} {client:?}");
}

#[test]
fn an_unusable_proxy_is_an_error_when_the_client_is_made() {
    let error = Client::new(&through("ftp://proxy.example"), &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.starts_with("anchore.http.proxy is not the address of a proxy"), "{error}");
}
