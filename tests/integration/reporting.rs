//! Runs in which nothing fails: what is asked of the cluster, what arrives at Anchore Enterprise, what is printed.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use testbed::anchore::tenancy::User as AnchoreUser;
use testbed::anchore::{Enterprise, EnterpriseOptions};
use testbed::cluster::Cluster;
use testbed::cluster::container::Container;
use testbed::cluster::identity::{container_id, digest, uid};
use testbed::cluster::namespace::Namespace;
use testbed::cluster::node::Node;
use testbed::cluster::pod::Pod;
use testbed::kubernetes::{KubernetesApi, KubernetesOptions, KubernetesVersion};

use crate::agent::{Agent, Run, asked, cluster_part, outline, outlines, without_time};

fn shop() -> Cluster {
    Cluster::new()
        .node(Node::named("n1").label("zone", "a"))
        .namespace(Namespace::named("shop").annotation("owner", "web"))
        .pod(Pod::running("web-0").image("nginx:1.27").label("app", "web"))
        .pod(Pod::pending("job").image("busybox"))
        .namespace("payment")
}

/// The report on [`shop`], apart from its time.
fn report_on_shop() -> Value {
    let name_label = "kubernetes.io/metadata.name";
    json!({
        "cluster_name": "testbed",
        "containers": [{
            "id": container_id("shop", "web-0", "nginx"),
            "image_digest": digest("nginx:1.27"),
            "image_tag": "nginx:1.27",
            "name": "nginx",
            "pod_uid": uid("pods", "shop", "web-0"),
        }],
        "namespaces": [
            {"labels": {name_label: "payment"}, "name": "payment", "uid": uid("namespaces", "", "payment")},
            {
                "annotations": {"owner": "web"},
                "labels": {name_label: "shop"},
                "name": "shop",
                "uid": uid("namespaces", "", "shop"),
            },
        ],
        "nodes": [{
            "arch": "amd64",
            "container_runtime_version": "containerd://2.2.0",
            "kernel_version": "6.12.48",
            "kubelet_version": "v1.34.1",
            "labels": {"kubernetes.io/hostname": "n1", "zone": "a"},
            "name": "n1",
            "operating_system": "linux",
            "uid": uid("nodes", "", "n1"),
        }],
        "pods": [
            {"name": "job", "namespace_uid": uid("namespaces", "", "shop"), "uid": uid("pods", "shop", "job")},
            {
                "labels": {"app": "web"},
                "name": "web-0",
                "namespace_uid": uid("namespaces", "", "shop"),
                "node_uid": uid("nodes", "", "n1"),
                "uid": uid("pods", "shop", "web-0"),
            },
        ],
        "serverVersionMetadata": {
            "buildDate": "2026-02-10T12:00:00Z",
            "compiler": "gc",
            "gitCommit": "2b3f5d1c9e0a4b6d8f7a1c3e5b7d9f1a3c5e7b9d",
            "gitTreeState": "clean",
            "gitVersion": "v1.37.2",
            "goVersion": "go1.27.1",
            "major": "1",
            "minor": "37",
            "platform": "linux/amd64",
        },
    })
}

#[tokio::test]
async fn a_cluster_is_read_once_and_its_report_accepted_once() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let enterprise = Enterprise::start().await.expect("started");

    let run = Agent::new().reads(&api).sends_to(&enterprise).run().await;

    assert_eq!(run, Run::succeeded());
    let mut reports = enterprise.reports("admin");
    let time = reports[0].as_object_mut().expect("an object").remove("timestamp").expect("a time");
    assert!(time.as_str().expect("text").parse::<jiff::Timestamp>().is_ok(), "{time}");
    assert_eq!(reports, [report_on_shop()]);
    assert_eq!(asked(&api), ["/api/v1/namespaces", "/api/v1/nodes", "/api/v1/pods", "/version"]);
    let accepted = &enterprise.accepted()[0];
    assert_eq!((accepted.user.as_str(), accepted.dangling), ("admin", 0));
}

#[tokio::test]
async fn every_request_says_who_asks_and_what_is_understood() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");

    Agent::new().reads(&api).run().await;

    for request in api.requests() {
        let version = request.path == "/version";
        let accept =
            if version { "application/json" } else { "application/vnd.kubernetes.protobuf,application/json;q=0.5" };
        assert_eq!(request.method, "GET");
        assert_eq!(request.header("accept"), accept, "{}", request.path);
        assert_eq!(request.header("accept-encoding"), "gzip", "{}", request.path);
        let program = concat!("anchore-k8s-inventory/", env!("CARGO_PKG_VERSION"));
        assert_eq!(request.header("user-agent"), program, "{}", request.path);
    }
}

#[tokio::test]
async fn without_anchore_settings_the_report_is_printed_and_that_is_said() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");

    let run = Agent::new().reads(&api).loudly().run().await;

    assert_eq!(run.code, Some(0));
    assert_eq!(without_time(&run.stdout), report_on_shop().to_string());
    let warnings: Vec<&str> = run.stderr.lines().filter_map(|line| Some(line.split_once(" WARN ")?.1)).collect();
    assert_eq!(warnings, ["anchore.url, user and password are not set: the report is printed, nothing is sent"]);
}

#[tokio::test]
async fn output_prints_and_sends_nothing() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let enterprise = Enterprise::start().await.expect("started");
    let reported = format!("nginx:1.27@{}\n", digest("nginx:1.27"));

    let json = Agent::new().reads(&api).sends_to(&enterprise).with("-o json").run().await;
    let table = Agent::new().reads(&api).sends_to(&enterprise).with("-o table").run().await;
    let images = Agent::new().reads(&api).sends_to(&enterprise).with("-o images").run().await;

    assert_eq!(without_time(&json.stdout), report_on_shop().to_string());
    assert!(table.stdout.starts_with("IMAGE"), "{}", table.stdout);
    assert_eq!(table.stdout.lines().filter(|line| line.starts_with("nginx:1.27 ")).count(), 1, "{}", table.stdout);
    assert_eq!(images, Run { stdout: reported, ..Run::succeeded() });
    assert_eq!((json.code, table.code), (Some(0), Some(0)));
    assert!(enterprise.requests().is_empty());
}

#[tokio::test]
async fn a_dry_run_prints_reports_and_destinations_and_sends_nothing() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let enterprise = Enterprise::start().await.expect("started");

    let run = Agent::new().reads(&api).sends_to(&enterprise).with("--dry-run").run().await;

    assert_eq!(run.code, Some(0));
    assert_eq!(without_time(&run.stdout), report_on_shop().to_string());
    let bytes = run.stderr.rsplit_once(": 2 namespaces, ").expect("the size").1.trim_end().trim_end_matches(" bytes");
    assert!(bytes.parse::<usize>().is_ok(), "{}", run.stderr);
    let destination = format!("dry run: account admin as user admin at {}", enterprise.url());
    assert!(run.stderr.starts_with(&destination), "{}", run.stderr);
    assert!(enterprise.requests().is_empty());
}

#[tokio::test]
async fn a_sent_report_is_printed_when_asked_for() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let enterprise = Enterprise::start().await.expect("started");

    let run = Agent::new().reads(&api).sends_to(&enterprise).with("-i").run().await;

    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let printed: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!([printed], enterprise.reports("admin").as_slice());
    assert!(run.stdout.starts_with("{\n  \"cluster_name\""), "{}", run.stdout);
}

#[tokio::test]
async fn each_account_gets_its_namespaces_with_its_own_user() {
    let cluster = Cluster::new()
        .node("n1")
        .node("n2")
        .namespace("shop")
        .pod(Pod::running("web-0").image("nginx:1.27"))
        .namespace("payment")
        .pod(Pod::running("api-0").image("payment:7").on("n2"));
    let api = KubernetesApi::serving(&cluster).await.expect("started");
    let options = EnterpriseOptions::default().account("shop").user(AnchoreUser::of("shop", "agent", "of-shop"));
    let enterprise = options.start().await.expect("started");
    let route = json!({"shop": {"user": "agent", "password": "of-shop", "namespaces": ["shop"]}});

    let run = Agent::new().reads(&api).sends_to(&enterprise).set("account-routes", route).run().await;

    assert_eq!(run, Run::succeeded());
    let of_shop = ["node n1", "namespace shop", "pod shop/web-0 on n1: nginx:1.27"];
    let of_admin = ["node n2", "namespace payment", "pod payment/api-0 on n2: payment:7"];
    assert_eq!(outlines(&enterprise, "shop"), [of_shop]);
    assert_eq!(outlines(&enterprise, "admin"), [of_admin]);
    let mut senders: Vec<_> = enterprise.accepted().into_iter().map(|report| (report.account, report.user)).collect();
    senders.sort();
    assert_eq!(senders, [("admin", "admin"), ("shop", "agent")].map(|(a, u)| (a.to_owned(), u.to_owned())));
    assert_eq!(asked(&api).len(), 4, "the cluster is read once, however many accounts there are");
}

#[tokio::test]
async fn batches_are_documents_one_after_another() {
    let cluster = Cluster::new().namespace("a").namespace("b").namespace("c");
    let api = KubernetesApi::serving(&cluster).await.expect("started");

    let run = Agent::new().reads(&api).set("inventory-report-limits.namespaces", 2).with("-o json").run().await;

    let documents = serde_json::Deserializer::from_str(&run.stdout).into_iter::<Value>();
    let outlines: Vec<_> = documents.map(|document| outline(&document.expect("JSON"))).collect();
    assert_eq!(outlines, [vec!["namespace a", "namespace b"], vec!["namespace c"]]);
}

#[tokio::test]
async fn d31_the_same_cluster_gives_the_same_bytes_in_any_encoding_and_any_pages() {
    let cluster = (0..30).fold(shop(), |cluster, at| {
        let init = Container::of("busybox").terminated();
        cluster.namespace(format!("team-{at}").as_str()).pod(Pod::running("app").init(init).image("app:3"))
    });
    let paged = KubernetesVersion::minor(33);
    let servers = [
        KubernetesOptions::default(),
        KubernetesOptions::default().json_only(),
        KubernetesOptions::default().version(KubernetesVersion::minor(34)),
    ];
    let mut reports = Vec::new();
    for server in servers {
        let api = server.cluster(&cluster).start().await.expect("started");
        for page_size in [1, 7, 500] {
            let agent = Agent::new().reads(&api).set("kubernetes.request-batch-size", page_size);
            reports.push(cluster_part(&agent.run().await.stdout));
        }
    }
    let api = KubernetesOptions::default().version(paged).cluster(&cluster).start().await.expect("started");
    reports.push(cluster_part(&Agent::new().reads(&api).run().await.stdout));

    assert!(reports[0].len() > 10_000, "{}", reports[0]);
    reports.dedup();
    assert_eq!(reports.len(), 1);
}
