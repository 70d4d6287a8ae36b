//! Objects of a cluster that are damaged, given twice, or newer than what they belong to.

use bytes::Bytes;
use pretty_assertions::assert_eq;
use prost::Message;
use rstest::rstest;
use testbed::cluster::pod::Pod;
use testbed::cluster::{Cluster, identity};
use testbed::kubernetes::{KubernetesApi, KubernetesOptions, KubernetesVersion};
use testbed::objects::{Kind, Object};
use testbed::server::fault::{Answer, Fault, Requests};

use crate::agent::{Run, lines};
use crate::scene::{OLD, PODS, SHOP, Scene, shop};

/// A pod's message whose spec is no message.
fn undecodable(name: &str) -> Bytes {
    let mut message = Pod::running(name).message("payment", None).encode_to_vec();
    message.extend(b"\x12\x02\xff\xff");
    message.into()
}

#[rstest]
#[case::in_one_piece(KubernetesVersion::LATEST)]
#[case::by_pages(OLD)]
#[tokio::test]
async fn a_pod_that_does_not_decode_costs_its_namespace_alone(#[case] version: KubernetesVersion) {
    let damaged = shop().encoded(Kind::Pods, Object::from_bytes("payment", "broken", undecodable("broken")));
    let scene = Scene::of(KubernetesOptions::default().cluster(&damaged).version(version)).await;

    let run = scene.run().await;

    assert_eq!((run.code, run.stdout.as_str(), run.stderr.lines().count()), (Some(1), "", 1));
    let sentence = "error: a namespace could not be read and is left out of the report: the object \"broken\" in it does \
                    not decode: ";
    assert!(run.stderr.starts_with(sentence) && run.stderr.ends_with(" namespace=\"payment\"\n"), "{}", run.stderr);
    let without_payment: Vec<&str> = SHOP.into_iter().filter(|line| !line.contains("payment")).collect();
    assert_eq!(scene.reported(), [without_payment]);
}

#[tokio::test]
async fn a_pod_of_json_that_does_not_decode_costs_its_namespace_alone() {
    let pods = serde_json::json!({"kind": "PodList", "metadata": {}, "items": [
        {"metadata": {"namespace": "payment", "name": "broken"}, "spec": 7},
        {"metadata": {"namespace": "shop", "name": "web-0", "uid": identity::uid("pods", "shop", "web-0")}},
    ]});
    let scene = Scene::with(Requests::to(PODS), Answer::status(200).body("application/json", pods.to_string())).await;

    let run = scene.run().await;

    assert_eq!((run.code, run.stdout.as_str(), run.stderr.lines().count()), (Some(1), "", 1));
    let sentence = "error: a namespace could not be read and is left out of the report: the object \"broken\" in it does \
                    not decode: ";
    assert!(run.stderr.starts_with(sentence) && run.stderr.ends_with(" namespace=\"payment\"\n"), "{}", run.stderr);
    assert_eq!(scene.reported(), [["node n1", "namespace shop", "pod shop/web-0: "]]);
}

#[tokio::test]
async fn when_every_namespace_has_a_pod_that_does_not_decode_nothing_is_sent() {
    let cluster = Cluster::new().namespace("payment");
    let damaged = cluster.encoded(Kind::Pods, Object::from_bytes("payment", "broken", undecodable("broken")));
    let scene = Scene::of(KubernetesOptions::default().cluster(&damaged)).await;

    let run = scene.run().await;

    assert_eq!((run.code, run.stdout.as_str(), run.stderr.lines().count()), (Some(1), "", 2), "{}", run.stderr);
    assert!(run.stderr.ends_with("error: no namespace could be read, so nothing is reported\n"), "{}", run.stderr);
    assert!(scene.enterprise.requests().is_empty());
}

#[tokio::test]
async fn a_pod_of_which_not_even_the_namespace_is_known_costs_the_report() {
    let object = Object::from_bytes("payment", "broken", Bytes::from_static(b"\x0a\x02\xff\xff"));
    let scene = Scene::of(KubernetesOptions::default().cluster(&shop().encoded(Kind::Pods, object))).await;

    let run = scene.run().await;

    let sentence = "error: the pods could not be listed, so nothing is reported: the API server's answer makes no sense: \
                    the object \"\" in it does not decode: ";
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.lines().count()), (Some(1), "", 1));
    assert!(run.stderr.starts_with(sentence), "{}", run.stderr);
    assert!(scene.enterprise.requests().is_empty());
}

#[tokio::test]
async fn objects_that_are_given_twice_are_reported_once() {
    let again = Pod::running("web-0").image("nginx:1.27").message("shop", Some("n1"));
    let twice = shop().encoded(Kind::Pods, Object::new("shop", "web-0", &again));
    let scene = Scene::of(KubernetesOptions::default().cluster(&twice)).await;

    let run = scene.run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
}

#[tokio::test]
async fn an_object_on_two_pages_is_reported_once() {
    let second_page = Cluster::new()
        .namespace("shop")
        .pod(Pod::running("web-0").image("nginx:1.27").on("n1"))
        .pod(Pod::running("web-1").image("nginx:1.27").on("n1"));
    let second_page = KubernetesApi::serving(&second_page).await.expect("started");
    let scene = Scene::of(KubernetesOptions::default().cluster(&shop()).version(OLD)).await;
    scene.api.inject(Requests::to(PODS).query("continue="), Fault::body(protobuf(&second_page, PODS).await));

    let run = scene.agent().set("kubernetes.request-batch-size", 2).run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
}

#[tokio::test]
async fn a_continue_token_that_leads_to_itself_is_no_endless_list() {
    let first_page = Scene::of(KubernetesOptions::default().cluster(&shop()).version(OLD)).await;
    let page = protobuf(&first_page.api, "/api/v1/pods?limit=1").await;
    let scene = Scene::of(KubernetesOptions::default().cluster(&shop()).version(OLD)).await;
    scene.api.inject(Requests::to(PODS), Fault::body(page));

    let run = scene.run().await;

    let sentence = "the pods could not be listed, so nothing is reported: the API server's answer makes no sense: its \
                    continue token leads to itself";
    assert_eq!(run, Run::failed(&[sentence]));
}

#[tokio::test]
async fn a_pod_of_a_namespace_newer_than_the_list_waits_for_the_next_report() {
    let newcomer = Pod::running("early").image("busybox").message("brand-new", Some("n1"));
    let cluster = shop().encoded(Kind::Pods, Object::new("brand-new", "early", &newcomer));
    let scene = Scene::of(KubernetesOptions::default().cluster(&cluster)).await;

    let run = scene.run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
}

#[tokio::test]
async fn invalid_text_in_labels_is_replaced() {
    let pod = Pod::running("odd").image("busybox").label("note", "~~").message("shop", Some("n1")).encode_to_vec();
    let at = pod.windows(2).position(|bytes| bytes == b"~~").expect("the label");
    let pod: Vec<u8> = [&pod[..at], b"\xff\xfe", &pod[at + 2..]].concat();
    let scene = Scene::of(
        KubernetesOptions::default().cluster(&shop().encoded(Kind::Pods, Object::from_bytes("shop", "odd", pod))),
    )
    .await;

    let run = scene.run().await;

    assert_eq!(run, Run::succeeded());
    let report = &scene.enterprise.reports("admin")[0];
    let odd = report["pods"].as_array().expect("pods").iter().find(|pod| pod["name"] == "odd").expect("reported");
    assert_eq!(odd["labels"], serde_json::json!({"note": "\u{fffd}\u{fffd}"}));
}

/// A document of this server, as it sends it.
async fn protobuf(api: &KubernetesApi, path: &str) -> Bytes {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let request = client.get(format!("{}{path}", api.url())).header("accept", "application/vnd.kubernetes.protobuf");
    request.send().await.expect("an answer").bytes().await.expect("a body")
}
