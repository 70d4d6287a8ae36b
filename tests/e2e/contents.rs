//! What a report tells of the objects of a cluster.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::agent::Run;
use crate::cluster::Cluster;
use crate::objects::{Container, Namespace, Node, Pod, digest_of};

/// All but what is about one namespace, so that tests can tell all of the rest.
const ONLY_SHOP: &str = "namespace-selectors: {include: [shop]}";

#[tokio::test]
async fn a_report_tells_all_of_a_cluster() {
    let cluster = Cluster::fresh().await;
    cluster.node(Node::named("n1").label("zone", "a").annotation("example.org/rack", "7").kube_proxy("v1.32.0")).await;
    cluster.node("n2").await;
    cluster.namespace(Namespace::named("shop").label("team", "blue").annotation("example.org/owner", "Ann")).await;
    cluster.namespace("empty").await;
    let web = Pod::running("web-0").on("n1").label("app", "web").annotation("example.org/build", "7");
    cluster.pod("shop", web.image("registry.example.org/shop/web:4.2")).await;
    cluster.pod("shop", Pod::running("db-0").on("n2").image("postgres:17")).await;
    cluster.pod("default", Pod::running("lone").on("n2").image("nginx:1.27")).await;

    let run = read(&cluster).await;

    assert_eq!(run.report(), cluster.state().await.report());
}

#[tokio::test]
async fn every_field_has_its_place() {
    let cluster = Cluster::fresh().await;
    cluster.node(Node::named("n1").label("zone", "a").annotation("example.org/rack", "7").kube_proxy("v1.32.0")).await;
    cluster.namespace(Namespace::named("shop").label("team", "blue").annotation("example.org/owner", "Ann")).await;
    let pod = Pod::running("web-0").on("n1").label("app", "web").annotation("example.org/build", "7");
    cluster.pod("shop", pod.container(Container::named("web", "registry.example.org/shop/web:4.2"))).await;
    let node_uid = cluster.get("/api/v1/nodes/n1").await["metadata"]["uid"].clone();
    let namespace_uid = cluster.get("/api/v1/namespaces/shop").await["metadata"]["uid"].clone();
    let pod = cluster.get("/api/v1/namespaces/shop/pods/web-0").await;
    let pod_uid = &pod["metadata"]["uid"];

    let run = read_configured(&cluster, ONLY_SHOP).await;

    let expected = json!({
        "cluster_name": "prod",
        "containers": [{
            "id": pod["status"]["containerStatuses"][0]["containerID"],
            "image_digest": digest_of("registry.example.org/shop/web:4.2"),
            "image_tag": "registry.example.org/shop/web:4.2",
            "name": "web",
            "pod_uid": pod_uid,
        }],
        "namespaces": [{
            "annotations": {"example.org/owner": "Ann"},
            "labels": {"kubernetes.io/metadata.name": "shop", "team": "blue"},
            "name": "shop",
            "uid": namespace_uid,
        }],
        "nodes": [{
            "annotations": {"example.org/rack": "7"},
            "arch": "arm64",
            "container_runtime_version": "containerd://2.2.0",
            "kernel_version": "6.12.41-cloud",
            "kube_proxy_version": "v1.32.0",
            "kubelet_version": "v1.37.1",
            "labels": {"zone": "a"},
            "name": "n1",
            "operating_system": "linux",
            "uid": node_uid,
        }],
        "pods": [{
            "annotations": {"example.org/build": "7"},
            "labels": {"app": "web"},
            "name": "web-0",
            "namespace_uid": namespace_uid,
            "node_uid": node_uid,
            "uid": pod_uid,
        }],
        "serverVersionMetadata": cluster.get("/version").await,
    });
    assert_eq!(run.report(), expected);
}

#[tokio::test]
async fn containers_of_every_kind_are_reported_in_order() {
    let cluster = Cluster::fresh().await;
    cluster.namespace("shop").await;
    let pod = Pod::running("web-0")
        .ephemeral(Container::named("debugger", "busybox:1.37"))
        .container(Container::named("web", "web:1"))
        .container(Container::named("metrics", "metrics:2"))
        .init(Container::named("migrate", "migrate:3"))
        .sidecar(Container::named("proxy", "proxy:4"));
    cluster.pod("shop", pod).await;

    let run = read(&cluster).await;

    let report = run.report();
    assert_eq!(names(&report["containers"]), ["migrate", "proxy", "web", "metrics", "debugger"]);
    assert_eq!(report, cluster.state().await.report());
}

#[tokio::test]
async fn containers_that_have_not_started_are_left_out() {
    let cluster = Cluster::fresh().await;
    cluster.namespace("shop").await;
    let pod = Pod::running("web-0").container(Container::waiting("slow", "slow:1")).image("web:1");
    cluster.pod("shop", pod).await;

    let report = read(&cluster).await.report();

    assert_eq!(names(&report["containers"]), ["main"]);
    assert_eq!(names(&report["pods"]), ["web-0"]);
}

#[tokio::test]
async fn pods_that_do_not_run_are_reported_without_containers() {
    let cluster = Cluster::fresh().await;
    cluster.namespace("shop").await;
    cluster.pod("shop", Pod::succeeded("job").image("job:1")).await;
    cluster.pod("shop", Pod::pending("next").image("next:1")).await;

    let report = read(&cluster).await.report();

    assert_eq!(report["containers"], json!([]));
    assert_eq!(names(&report["pods"]), ["job", "next"]);
}

#[tokio::test]
async fn containers_of_finished_pods_are_reported_when_asked_for() {
    let cluster = Cluster::fresh().await;
    cluster.namespace("shop").await;
    cluster.pod("shop", Pod::succeeded("job").image("job:1")).await;

    let report = read_configured(&cluster, "ignore-not-running: false").await.report();

    assert_eq!(names(&report["containers"]), ["main"]);
}

#[tokio::test]
async fn pods_without_a_node_are_reported_without_its_uid() {
    let cluster = Cluster::fresh().await;
    cluster.namespace("shop").await;
    cluster.pod("shop", Pod::running("nowhere").image("web:1")).await;
    cluster.pod("shop", Pod::running("on-a-node-that-is-gone").on("gone").image("web:1")).await;

    let report = read(&cluster).await.report();

    assert_eq!(report["pods"][0].get("node_uid"), None);
    assert_eq!(report["pods"][1].get("node_uid"), None);
    assert_eq!(report, cluster.state().await.report());
}

#[tokio::test]
async fn pods_and_namespaces_being_deleted_are_reported() {
    let cluster = Cluster::fresh().await;
    cluster.node("n1").await;
    cluster.namespace("shop").await;
    cluster.pod("shop", Pod::running("web-0").on("n1").image("web:1")).await;
    // Until a kubelet says that its containers have ended, the pod stays; until then its namespace does.
    cluster.delete("/api/v1/namespaces/shop/pods/web-0").await;
    cluster.delete("/api/v1/namespaces/shop").await;
    let pod = cluster.get("/api/v1/namespaces/shop/pods/web-0").await;
    assert_ne!(pod["metadata"]["deletionTimestamp"], Value::Null);

    let report = read(&cluster).await.report();

    assert_eq!(names(&report["containers"]), ["main"]);
    assert_eq!(report, cluster.state().await.report());
}

#[tokio::test]
async fn image_volumes_are_listed_as_images_only() {
    let cluster = Cluster::fresh().await;
    cluster.namespace("shop").await;
    cluster.pod("shop", Pod::running("web-0").image("web:1").image_volume("models.example.org/large:7")).await;
    let reader = cluster.reader().await;
    let kubeconfig = cluster.kubeconfig(&reader.with_token());

    let images = cluster.agent(&kubeconfig).arg("--output=images").runs().await.succeeded();
    let table = cluster.agent(&kubeconfig).arg("--output=table").runs().await.succeeded();
    let report = cluster.agent(&kubeconfig).prints_json().await.succeeded().report();

    assert_eq!(images.stdout, format!("models.example.org/large:7\nweb:1@{}\n", digest_of("web:1")));
    assert!(table.stdout.contains("models.example.org/large:7"), "{}", table.stdout);
    assert_eq!(names(&report["containers"]), ["main"]);
}

#[tokio::test]
async fn images_are_listed_once_and_sorted() {
    let cluster = Cluster::fresh().await;
    for namespace in ["blog", "shop"] {
        cluster.namespace(namespace).await;
        cluster.pod(namespace, Pod::running("a").image("web:2")).await;
        cluster.pod(namespace, Pod::running("b").image("example.org:5000/db:1")).await;
    }
    let reader = cluster.reader().await;

    let run = cluster.agent(&cluster.kubeconfig(&reader.with_token())).arg("--output=images").runs().await.succeeded();

    let (db, web) = (digest_of("example.org:5000/db:1"), digest_of("web:2"));
    assert_eq!(run.stdout, format!("example.org:5000/db:1@{db}\nweb:2@{web}\n"));
}

#[tokio::test]
async fn odd_but_legal_labels_and_annotations_come_through() {
    let cluster = Cluster::fresh().await;
    let long_key = format!("{}.example/{}", "d".repeat(63), "k".repeat(63));
    let namespace = Namespace::named("shop")
        .label(&long_key, &"v".repeat(63))
        .label("UPPER_and.dots-and_lines", "A_b.C-9")
        .label("empty", "")
        .annotation("example.org/json", r#"{"quoted": "\"", "path": "C:\\", "slash": "</script>"}"#)
        .annotation("example.org/lines", "first\nsecond\r\n\ttabbed\u{8}\u{7f}\u{1}")
        .annotation("example.org/words", "Zoë 日本語 🦀 \u{2028}\u{feff}\u{fffd}\u{10ffff}")
        .annotation("example.org/empty", "");
    cluster.namespace(namespace).await;
    cluster.pod("shop", Pod::running("0.odd-but-legal.name").label("9", "9").image("web:1")).await;

    let run = read(&cluster).await;

    assert_eq!(run.report(), cluster.state().await.report());
}

#[tokio::test]
async fn large_annotations_come_through_and_applied_configurations_do_not() {
    let cluster = Cluster::fresh().await;
    let large = "0123456789abcdef".repeat(200 * 1024 / 16);
    cluster.namespace(Namespace::named("shop").annotation("example.org/large", &large)).await;
    for name in ["a", "b", "c"] {
        let pod = Pod::running(name).annotation("example.org/large", &format!("{name}{large}"));
        let pod = pod.annotation("kubectl.kubernetes.io/last-applied-configuration", "{}");
        cluster.pod("shop", pod.image("web:1")).await;
    }

    let report = read(&cluster).await.report();

    assert_eq!(report["pods"][2]["annotations"], json!({"example.org/large": format!("c{large}")}));
    // Compared without a difference of a megabyte on the screen.
    assert!(report == cluster.state().await.report(), "the report differs");
}

#[tokio::test]
async fn the_same_state_gives_the_same_bytes() {
    let cluster = Cluster::fresh().await;
    cluster.node("n1").await;
    for namespace in ["shop", "blog", "empty"] {
        cluster.namespace(Namespace::named(namespace).label("a", "1").label("b", "2")).await;
    }
    for n in 0..30 {
        let pod = Pod::running(&format!("web-{n}")).on("n1").label("z", "1").label("y", "2").image("web:1");
        cluster.pod(["shop", "blog"][n % 2], pod).await;
    }
    let reader = cluster.reader().await;
    let kubeconfig = cluster.kubeconfig(&reader.with_token());

    let first = cluster.agent(&kubeconfig).prints_json().await.succeeded();
    let by_name =
        "namespace-selectors: {include: [shop, default, empty, kube-system, kube-public, kube-node-lease, blog]}";
    let second = cluster.agent(&kubeconfig).configured(by_name).prints_json().await;

    assert_eq!(without_timestamp(&first), without_timestamp(&second));
}

async fn read(cluster: &Cluster) -> Run {
    let reader = cluster.reader().await;
    cluster.agent(&cluster.kubeconfig(&reader.with_token())).prints_json().await.succeeded()
}

async fn read_configured(cluster: &Cluster, configuration: &str) -> Run {
    let reader = cluster.reader().await;
    let agent = cluster.agent(&cluster.kubeconfig(&reader.with_token())).configured(configuration);
    agent.prints_json().await.succeeded()
}

fn names(objects: &Value) -> Vec<&str> {
    objects.as_array().into_iter().flatten().filter_map(|object| object["name"].as_str()).collect()
}

/// The printed bytes, but for the seconds of the timestamp, which is the last of a report.
fn without_timestamp(run: &Run) -> &str {
    run.stdout.split_once(r#""timestamp""#).map(|(before, _)| before).expect("a report has a timestamp")
}
