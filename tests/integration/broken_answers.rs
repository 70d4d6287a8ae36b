//! Answers of an API server that end too early, make no sense, or never come. A list that could not be read is never an
//! empty one: the run reports what is complete, or nothing.

use bytes::Bytes;
use pretty_assertions::assert_eq;
use rstest::rstest;
use testbed::cluster::Cluster;
use testbed::cluster::pod::Pod;
use testbed::kubernetes::{self, KubernetesApi, KubernetesOptions};
use testbed::server::closed_port::ClosedPort;
use testbed::server::fault::{Alteration, Answer, Fault, Requests};

use crate::agent::{Agent, Run, asked, lines};
use crate::scene::{NAMESPACES, NODES, PODS, SHOP, Scene, shop};

fn cut_before_the_announced_length() -> Fault {
    Fault::Altered(vec![Alteration::CutAfter(700), Alteration::ContentLength(5000)])
}

fn gzip_of_garbage() -> Fault {
    Fault::Altered(vec![
        Alteration::Header(http::header::CONTENT_ENCODING, http::HeaderValue::from_static("gzip")),
        Alteration::Body(Bytes::from_static(b"\x1f\x8bnot gzip at all, not at all")),
    ])
}

#[rstest]
#[case::cut_at_once(Fault::cut_after(0))]
#[case::cut_inside_an_object(Fault::cut_after(700))]
#[case::cut_before_the_announced_length(cut_before_the_announced_length())]
#[case::truncated_and_ended_as_if_complete(Fault::truncated_to(700))]
#[case::truncated_before_the_first_object(Fault::truncated_to(4))]
#[case::empty(Fault::truncated_to(0))]
#[case::closed_before_the_answer(Fault::Closes { after: 0 })]
#[case::reset_before_the_answer(Fault::Resets { after: 0 })]
#[case::silent(Fault::NeverAnswers)]
#[case::silent_inside_an_object(Fault::stalls_after(700))]
#[case::longer_announced_than_sent(Fault::announces(2_000_000_000))]
#[case::garbage(Fault::body("garbage, and more of it"))]
#[case::garbage_after_the_magic(Fault::body("k8s\0garbage, and more of it"))]
#[case::garbage_as_gzip(gzip_of_garbage())]
#[case::json_that_claims_to_be_protobuf(Fault::body("{\"kind\": \"PodList\", \"items\": []}"))]
#[case::protobuf_that_claims_to_be_json(Fault::content_type("application/json"))]
#[case::failing(Answer::status(500).into())]
#[case::failing_gateway(Answer::status(502).html("Bad gateway").into())]
#[tokio::test]
async fn an_answer_that_breaks_twice_costs_nothing_but_time(#[case] fault: Fault) {
    let scene = Scene::with(Requests::to(PODS).first(2), fault).await;

    let run = scene.run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
}

#[rstest]
#[case::cut(Fault::cut_after(2000))]
#[case::truncated_and_ended_as_if_complete(Fault::truncated_to(2000))]
#[tokio::test]
async fn a_compressed_answer_that_breaks_is_no_shorter_list(#[case] fault: Fault) {
    let cluster = (0..200).fold(Cluster::new(), |cluster, at| {
        let pod = Pod::running("app").image("app:3").annotation("note", &format!("{at} ").repeat(200));
        cluster.namespace(format!("team-{at:03}").as_str()).pod(pod)
    });
    let scene = Scene::of(KubernetesOptions::default().cluster(&cluster)).await;
    scene.api.inject(Requests::to(PODS).first(2), fault);

    let run = scene.run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.asked_whole_and_paged(PODS), (2, 1));
    assert_eq!(scene.enterprise.accepted()[0].pods, 200);
}

#[rstest]
#[case::cut(
    Fault::cut_after(700),
    "the API server's answer was cut off: error reading a body from connection: unexpected EOF during chunk size line"
)]
#[case::truncated(
    Fault::truncated_to(700),
    "the API server's answer was cut off: the answer was cut off inside the list"
)]
#[case::silent(Fault::NeverAnswers, "the API server sent nothing for 1 s (kubernetes.request-timeout-seconds)")]
#[case::silent_inside(
    Fault::stalls_after(700),
    "the API server sent nothing for 1 s (kubernetes.request-timeout-seconds)"
)]
#[case::garbage(
    Fault::body("garbage, and more of it"),
    "the API server's answer makes no sense: the answer is not a Kubernetes list: it does not start with the four bytes \
     of a protobuf body"
)]
#[case::a_huge_object(
    huge_object(),
    "the API server's answer makes no sense: the answer is not a Kubernetes list: an object is longer than 16 MiB"
)]
#[case::failing(
    kubernetes::failure(500, "InternalError", "etcd is gone").into(),
    "the API server failed (500): etcd is gone"
)]
#[tokio::test]
async fn an_answer_that_breaks_for_ever_is_never_a_report(#[case] fault: Fault, #[case] reason: &str) {
    let scene = Scene::with(Requests::to(PODS), fault).await;

    let run = scene.run().await;

    let sentence = format!("the pods could not be listed, so nothing is reported: {reason}");
    assert_eq!(run, Run::failed(&[&sentence]));
    assert_eq!(scene.asked_whole_and_paged(PODS), (2, 3));
    assert!(scene.enterprise.requests().is_empty());
}

/// A list whose one object says that it is half a gigabyte.
fn huge_object() -> Fault {
    let mut body = b"k8s\0\x12".to_vec();
    prost::encoding::encode_varint(1 << 30, &mut body);
    body.push(0x12);
    prost::encoding::encode_varint(1 << 29, &mut body);
    Fault::body(body)
}

#[rstest]
#[case::a_login_page(Answer::status(200).html("Log in"), "status 200, content type text/html; charset=utf-8")]
#[case::a_redirect(
    Answer::redirect(302, "https://login.example.com/"),
    "status 302, redirecting to https://login.example.com/"
)]
#[case::no_content_type(Answer::status(204), "status 204, no content type")]
#[tokio::test]
async fn what_is_no_kubernetes_is_told_apart_at_once(#[case] answer: Answer, #[case] what: &str) {
    let scene = Scene::with(Requests::to("/api/*"), answer).await;

    let run = scene.run().await;

    let sentence = format!(
        "the namespaces could not be listed, so nothing is reported: what answers at {} is not a Kubernetes API \
         server ({what}); check this address and any proxy in between",
        scene.api.url()
    );
    assert_eq!(run, Run::failed(&[&sentence]));
    assert_eq!(asked(&scene.api), [NAMESPACES, "/version"]);
    assert!(scene.enterprise.requests().is_empty());
}

#[rstest]
#[case::namespaces(NAMESPACES, "the namespaces could not be listed")]
#[case::pods(PODS, "the pods could not be listed")]
#[tokio::test]
async fn d4_a_list_that_fails_is_never_an_empty_report(#[case] path: &str, #[case] what: &str) {
    let scene = Scene::with(Requests::to(path), Answer::status(500)).await;

    let sent = scene.run().await;
    let printed = Agent::new().reads(&scene.api).with("-o json").run().await;

    let sentence = format!("{what}, so nothing is reported: the API server failed (500): it gave no reason");
    assert_eq!(sent, Run::failed(&[&sentence]));
    assert_eq!(printed, sent);
    assert!(scene.enterprise.requests().is_empty());
}

/// A proxy may turn a list into pages by itself.
#[tokio::test]
async fn a_page_that_nobody_asked_for_is_no_shorter_list() {
    let other = KubernetesApi::serving(&shop()).await.expect("started");
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let first_page =
        client.get(format!("{}{PODS}?limit=1", other.url())).header("accept", "application/vnd.kubernetes.protobuf");
    let first_page = first_page.send().await.expect("an answer").bytes().await.expect("a page");
    let scene = Scene::with(Requests::to(PODS).first(1), Fault::body(first_page)).await;

    let run = scene.run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    assert_eq!(scene.asked_whole_and_paged(PODS), (1, 1));
}

#[tokio::test]
async fn nodes_that_cannot_be_read_are_missing_from_the_report_and_said_to_be() {
    let scene = Scene::with(Requests::to(NODES), kubernetes::failure(500, "InternalError", "etcd is gone")).await;

    let run = scene.run().await;

    let sentence = "the nodes could not be read, so the report has none: the API server failed (500): etcd is gone";
    assert_eq!(run, Run::failed(&[sentence]));
    let without_nodes: Vec<String> = SHOP[1..].iter().map(|line| line.replace(" on n1", "")).collect();
    assert_eq!(scene.reported(), [without_nodes]);
    assert_eq!(scene.asked_whole_and_paged(NODES), (2, 3));
}

/// A kubeconfig of a server there.
fn kubeconfig_of(server: &str) -> String {
    serde_json::json!({
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
    })
    .to_string()
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_named() {
    let closed = ClosedPort::bind().expect("a port");
    let server = format!("http://{}", closed.address().expect("an address"));

    let run = Agent::new().kubeconfig(&kubeconfig_of(&server)).run().await;

    let sentence = format!(
        "the namespaces could not be listed, so nothing is reported: {server} cannot be reached: client error (Connect): \
         tcp connect error: Connection refused (os error 111); check this address, its certificate authority and any \
         proxy in between"
    );
    assert_eq!(run, Run::failed(&[&sentence]));
}

#[tokio::test]
async fn a_port_that_never_speaks_is_given_up() {
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = port.local_addr().expect("an address");
    let sentence = "the namespaces could not be listed, so nothing is reported: the API server sent nothing for 1 s \
                    (kubernetes.request-timeout-seconds)";

    for scheme in ["http", "https"] {
        let run = Agent::new().kubeconfig(&kubeconfig_of(&format!("{scheme}://{address}"))).impatient().run().await;
        assert_eq!(run, Run::failed(&[sentence]), "{scheme}");
    }
}
