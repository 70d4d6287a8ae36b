//! Reading the cluster by lists: in one piece or by pages, slowly, from a busy server, and when pages expire.

use std::time::{Duration, Instant};

use pretty_assertions::assert_eq;
use rstest::rstest;
use testbed::cluster::Cluster;
use testbed::cluster::pod::Pod;
use testbed::kubernetes::access::User;
use testbed::kubernetes::{self, KubernetesApi, KubernetesOptions, KubernetesVersion};
use testbed::server::fault::{Answer, Fault, Requests};

use crate::agent::{Agent, Run, asked, cluster_part, lines};
use crate::scene::{NAMESPACES, NODES, OLD, PODS, SHOP, Scene, shop};

/// The requests for a cluster in one piece.
const FOUR_REQUESTS: [&str; 4] = [NAMESPACES, NODES, PODS, "/version"];

// In one piece, or by pages.

#[tokio::test]
async fn a_cluster_of_any_size_is_four_requests() {
    let cluster = (0..400).fold(Cluster::new().node("n1"), |cluster, at| {
        cluster
            .namespace(format!("team-{at:03}").as_str())
            .pod(Pod::running("app").image("app:3"))
            .pod(Pod::running("db").image("db:1"))
    });
    let scene = Scene::of(KubernetesOptions::default().cluster(&cluster)).await;

    let run = scene.run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(asked(&scene.api), FOUR_REQUESTS);
    let accepted = scene.enterprise.accepted();
    assert_eq!((accepted[0].namespaces, accepted[0].pods, accepted[0].containers), (400, 800, 800));
}

#[rstest]
#[case(KubernetesVersion::minor(34))]
#[case(KubernetesVersion::LATEST)]
#[tokio::test]
async fn new_servers_are_asked_for_lists_in_one_piece(#[case] version: KubernetesVersion) {
    let scene = Scene::of(KubernetesOptions::default().cluster(&shop()).version(version)).await;

    let run = scene.run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    assert_eq!(asked(&scene.api), FOUR_REQUESTS);
}

#[tokio::test]
async fn old_servers_are_asked_for_pages_of_the_configured_size() {
    let scene = Scene::of(KubernetesOptions::default().cluster(&shop()).version(OLD)).await;

    let run = scene.agent().set("kubernetes.request-batch-size", 2).run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    let expected = [
        "/api/v1/namespaces?limit=2",
        "/api/v1/nodes?limit=2",
        "/api/v1/pods?limit=2",
        "/api/v1/pods?limit=2&continue=…",
        "/version",
    ];
    assert_eq!(asked(&scene.api), expected);
}

#[rstest]
#[case::refused(Answer::status(403))]
#[case::failing(Answer::status(500))]
#[case::a_web_page(Answer::status(200).html("Welcome"))]
#[case::nothing(Answer::status(200))]
#[case::no_object(Answer::status(200).body("application/json", "[1, 2]"))]
#[case::no_json(Answer::status(200).body("application/json", "{\"major\": "))]
#[tokio::test]
async fn a_server_without_a_version_is_read_by_pages_and_reported_without_one(#[case] answer: Answer) {
    let scene = Scene::with(Requests::to("/version"), answer).await;

    let run = scene.run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    assert_eq!(scene.enterprise.reports("admin")[0].get("serverVersionMetadata"), None);
    let pages = ["/api/v1/namespaces?limit=500", "/api/v1/nodes?limit=500", "/api/v1/pods?limit=500", "/version"];
    assert_eq!(asked(&scene.api), pages);
}

#[rstest]
#[case(r#"{"major": "1", "minor": "34+", "gitVersion": "v1.34.1-eks-3025e55"}"#, true)]
#[case(r#"{"major": "1", "minor": "33+", "gitVersion": "v1.33.1-gke.1"}"#, false)]
#[case(r#"{"major": 1, "minor": 37}"#, false)]
#[case("{}", false)]
#[tokio::test]
async fn an_odd_version_is_reported_as_it_is(#[case] version: &'static str, #[case] whole: bool) {
    let scene = Scene::with(Requests::to("/version"), Answer::status(200).body("application/json", version)).await;

    let run = scene.run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    let reported = scene.enterprise.reports("admin")[0]["serverVersionMetadata"].clone();
    assert_eq!(reported, serde_json::from_str::<serde_json::Value>(version).expect("JSON"));
    assert_eq!(scene.asked_whole_and_paged(PODS), if whole { (1, 0) } else { (0, 1) });
}

#[tokio::test]
async fn d33_a_version_that_never_comes_delays_nothing_for_long() {
    let scene = Scene::with(Requests::to("/version"), Fault::NeverAnswers).await;
    let started = Instant::now();

    let run = scene.agent().set("kubernetes.request-timeout-seconds", 600).run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_of_json_alone_is_read_by_pages() {
    let scene = Scene::of(KubernetesOptions::default().cluster(&shop()).json_only()).await;

    let run = scene.agent().set("kubernetes.request-batch-size", 2).run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    assert_eq!(scene.asked_whole_and_paged(PODS).1, 2);
}

#[tokio::test]
async fn a_list_that_is_refused_in_one_piece_is_read_by_pages() {
    let scene = Scene::new().await;
    scene.api.inject(Requests::to(PODS).first(1), kubernetes::failure(400, "BadRequest", "too large, use limit"));

    let run = scene.run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    assert_eq!(scene.asked_whole_and_paged(PODS), (1, 1));
}

#[tokio::test]
async fn compressed_and_plain_answers_give_the_same_report() {
    let cluster = (0..200).fold(Cluster::new().node("n1"), |cluster, at| {
        let pod = Pod::running("app").image("app:3").annotation("note", &format!("{at} ").repeat(200));
        cluster.namespace(format!("team-{at:03}").as_str()).pod(pod)
    });
    let api = KubernetesApi::serving(&cluster).await.expect("started");
    let somebody = api.kubeconfig(&User::named("somebody"));
    let plain = somebody.replace("\"server\"", "\"disable-compression\": true, \"server\"");

    let compressed = Agent::new().kubeconfig(&somebody).run().await.stdout;
    let identical = Agent::new().kubeconfig(&plain).run().await.stdout;

    assert_eq!(cluster_part(&compressed), cluster_part(&identical));
    let encodings: Vec<_> = api.requests().iter().map(|request| request.header("accept-encoding").to_owned()).collect();
    assert_eq!(encodings, ["gzip", "gzip", "gzip", "gzip", "identity", "identity", "identity", "identity"]);
}

// Pieces of any size, at any pace.

#[rstest]
#[case::in_one_piece(KubernetesVersion::LATEST)]
#[case::by_pages(OLD)]
#[tokio::test]
async fn answers_may_come_byte_by_byte(#[case] version: KubernetesVersion) {
    let scene = Scene::of(KubernetesOptions::default().cluster(&shop()).version(version)).await;
    scene.api.inject(Requests::to("*"), Fault::chunks_of(1));

    let run = scene.run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
}

#[tokio::test]
async fn d52_a_slow_answer_is_read_to_its_end_for_as_long_as_it_flows() {
    let scene = Scene::with(Requests::to(PODS), Fault::drips(80, Duration::from_millis(120))).await;
    let started = Instant::now();

    let run = scene.agent().set("kubernetes.request-timeout-seconds", 2).run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    assert_eq!(asked(&scene.api), FOUR_REQUESTS);
    assert!(started.elapsed() > Duration::from_secs(2), "it must take longer than one wait may");
}

// A busy server.

#[rstest]
#[case(429)]
#[case(503)]
#[tokio::test]
async fn a_busy_server_is_left_alone_for_as_long_as_it_says(#[case] status: u16) {
    let scene = Scene::with(Requests::to(PODS).first(2), Answer::status(status).retry_after("1")).await;
    let started = Instant::now();

    let run = scene.run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    assert_eq!(scene.asked_whole_and_paged(PODS), (3, 0));
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_busy_page_is_asked_for_again_and_no_other() {
    let scene = Scene::of(KubernetesOptions::default().cluster(&shop()).version(OLD)).await;
    scene.api.inject(Requests::to(PODS).query("continue=").first(2), kubernetes::too_many_requests(0));

    let run = scene.agent().set("kubernetes.request-batch-size", 2).run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    assert_eq!(scene.asked_whole_and_paged(PODS), (0, 4));
}

#[tokio::test]
async fn a_server_that_stays_busy_is_given_up() {
    let scene = Scene::with(Requests::to(PODS), kubernetes::too_many_requests(0)).await;

    let run = scene.run().await;

    let sentence = "the pods could not be listed, so nothing is reported: the API server is busy (429): The server has \
                    received too many requests and has asked us to try again later";
    assert_eq!(run, Run::failed(&[sentence]));
    assert_eq!(scene.asked_whole_and_paged(PODS), (11, 0));
    assert!(scene.enterprise.requests().is_empty());
}

// Pages that expire.

#[rstest]
#[case::once(1, 4)]
#[case::three_times(3, 8)]
#[tokio::test]
async fn d53_a_list_that_expires_between_pages_starts_over(#[case] times: usize, #[case] requests: usize) {
    let scene = Scene::of(KubernetesOptions::default().cluster(&shop()).version(OLD)).await;
    scene.api.inject(Requests::to(PODS).query("continue=").first(times), kubernetes::expired());

    let run = scene.agent().set("kubernetes.request-batch-size", 2).run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    assert_eq!(scene.asked_whole_and_paged(PODS), (0, requests));
}

#[tokio::test]
async fn d53_a_list_that_always_expires_is_given_up_after_three_restarts() {
    let scene = Scene::of(KubernetesOptions::default().cluster(&shop()).version(OLD)).await;
    scene.api.inject(Requests::to(PODS).query("continue="), kubernetes::expired());

    let run = scene.agent().set("kubernetes.request-batch-size", 2).run().await;

    let sentence = "the pods could not be listed, so nothing is reported: the list expired while it was read (410): The \
                    resourceVersion for the provided list is too old.";
    assert_eq!(run, Run::failed(&[sentence]));
    assert_eq!(scene.asked_whole_and_paged(PODS), (0, 8));
    assert!(scene.enterprise.requests().is_empty());
}

#[tokio::test]
async fn a_page_that_breaks_is_read_again_and_what_it_had_given_is_not_counted_twice() {
    let scene = Scene::of(KubernetesOptions::default().cluster(&shop()).version(OLD)).await;
    scene.api.inject(Requests::to(PODS).query("continue=").first(2), Fault::cut_after(500));

    let run = scene.agent().set("kubernetes.request-batch-size", 1).run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    assert_eq!(scene.asked_whole_and_paged(PODS), (0, 5));
}
