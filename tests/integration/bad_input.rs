//! Files and names that nobody should have written: each ends in one sentence that names the place, and nothing is
//! contacted; or, where the cluster is odd and not the configuration, in a report that Anchore accepts.

use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::json;
use testbed::anchore::Enterprise;
use testbed::cluster::Cluster;
use testbed::cluster::container::Container;
use testbed::cluster::namespace::Namespace;
use testbed::cluster::node::Node;
use testbed::cluster::pod::Pod;
use testbed::kubernetes::KubernetesApi;
use testbed::kubernetes::access::User;

use crate::agent::{Agent, Run, outlines};

/// An agent with this configuration file, which could read a cluster if it started.
fn agent_with(content: impl AsRef<[u8]>, api: &KubernetesApi) -> Agent {
    Agent::new()
        .file("kubeconfig", api.kubeconfig(&User::named("somebody")))
        .file("c.yaml", content)
        .with("-k kubeconfig -c c.yaml")
}

#[rstest]
#[case::unfinished("anchore: {url: https://x", "c.yaml:1:")]
#[case::wrongly_indented("log:\n  level: info\n file: x\n", "c.yaml:3:")]
#[case::a_tab("log:\n\tlevel: info\n", "c.yaml:2:")]
#[case::no_mapping("- a\n- b\n", "c.yaml:1:1: ")]
#[case::a_text("hello", "c.yaml:1:1: ")]
#[case::a_wrong_type(
    "kubernetes: {request-timeout-seconds: soon}\n",
    "c.yaml:1:39: kubernetes.request-timeout-seconds"
)]
#[case::a_list_for_a_number("polling-interval-seconds: [1]\n", "c.yaml:1:27: polling-interval-seconds")]
#[case::a_key_twice("quiet: true\nquiet: false\n", "c.yaml:2:1: ")]
#[case::a_bad_pattern("namespace-selectors: {exclude: ['*-prod(']}\n", "c.yaml:1:33: namespace-selectors.exclude")]
#[case::two_documents("quiet: true\n---\nquiet: false\n", "c.yaml:")]
#[tokio::test]
async fn a_configuration_that_cannot_be_used_names_its_place(#[case] content: &str, #[case] place: &str) {
    let api = KubernetesApi::serving(&Cluster::new()).await.expect("started");

    let run = agent_with(content, &api).run().await;

    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    let start = format!("error: the configuration cannot be used: {place}");
    assert!(run.stderr.starts_with(&start), "{}", run.stderr);
    assert!(api.requests().is_empty());
}

#[rstest]
#[case::binary([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0xff, 0xfe].as_slice())]
#[case::nul_bytes(b"log:\0 {}".as_slice())]
#[case::latin_1(b"kubeconfig: {cluster: Z\xfcrich}\n".as_slice())]
#[case::utf_16(b"\xff\xfel\0o\0g\0:\0 \0{\0}\0".as_slice())]
#[tokio::test]
async fn a_configuration_that_is_no_text_is_refused(#[case] content: &[u8]) {
    let api = KubernetesApi::serving(&Cluster::new()).await.expect("started");

    let run = agent_with(content, &api).run().await;

    assert_eq!((run.code, run.stdout.as_str(), run.stderr.lines().count()), (Some(2), "", 1), "{}", run.stderr);
    assert!(run.stderr.starts_with("error: the configuration cannot be used: c.yaml"), "{}", run.stderr);
    assert!(api.requests().is_empty());
}

#[rstest]
#[case::of_ten_megabytes("# padding\n".repeat(1 << 20))]
#[case::of_ten_megabytes_in_one_value(format!("kubeconfig: {{cluster: {}}}\n", "x".repeat(10 << 20)))]
#[case::deeply_nested_lists("[".repeat(100_000))]
#[case::deeply_nested_mappings((0..3000).flat_map(|depth| [" ".repeat(depth), "a:\n".to_owned()]).collect())]
#[case::deeply_nested_flow("{a: ".repeat(100_000))]
#[case::laughing(laughing())]
#[tokio::test]
async fn a_configuration_of_unreasonable_size_is_refused(#[case] content: String) {
    let api = KubernetesApi::serving(&Cluster::new()).await.expect("started");

    let run = agent_with(content, &api).run().await;

    assert_eq!((run.code, run.stdout.as_str(), run.stderr.lines().count()), (Some(2), "", 1), "{}", run.stderr);
    assert!(run.stderr.starts_with("error: the configuration cannot be used: c.yaml"), "{}", run.stderr);
    assert!(run.stderr.len() < 1000, "{}", run.stderr);
    assert!(api.requests().is_empty());
}

/// Anchors that name anchors: ten to the ninth texts when all are followed.
fn laughing() -> String {
    let level = |at: u32| format!("l{at}: &l{at} [{}]\n", vec![format!("*l{}", at - 1); 10].join(", "));
    format!("l0: &l0 lol\n{}", (1..10).map(level).collect::<String>())
}

#[tokio::test]
async fn a_configuration_file_that_is_empty_sets_nothing() {
    let api = KubernetesApi::serving(&Cluster::new().namespace("shop")).await.expect("started");

    let run = agent_with("", &api).run().await;

    assert_eq!((run.code, run.stderr.as_str(), run.outline()), (Some(0), "", vec!["namespace shop".to_owned()]));
}

#[rstest]
#[case::missing("nowhere.yaml", "does not exist")]
#[case::a_folder(".", "is a directory")]
#[tokio::test]
async fn a_configuration_file_that_cannot_be_read_is_named(#[case] file: &str, #[case] reason: &str) {
    let run = Agent::new().with("-c").with(file).run().await;

    assert_eq!((run.code, run.stdout.as_str(), run.stderr.lines().count()), (Some(2), "", 1));
    let start = format!("error: the configuration cannot be used: {file}");
    assert!(run.stderr.starts_with(&start) && run.stderr.contains(reason), "{}", run.stderr);
}

#[tokio::test]
async fn all_problems_are_listed_at_once() {
    let api = KubernetesApi::serving(&Cluster::new()).await.expect("started");
    let content = "mode: sometimes\nlog: {level: loud}\npolling-interval-seconds: 0\n";

    let run = agent_with(content, &api).run().await;

    assert_eq!(run.code, Some(2));
    for place in ["c.yaml:1:7: mode", "c.yaml:2:14: log.level", "c.yaml:3:27: polling-interval-seconds"] {
        assert!(run.stderr.contains(place), "{place} is missing in {}", run.stderr);
    }
}

#[tokio::test]
async fn an_unknown_key_is_a_warning_and_with_strict_an_error() {
    let api = KubernetesApi::serving(&Cluster::new().namespace("shop")).await.expect("started");
    let content = "log: {levle: info}\n";

    let lenient = agent_with(content, &api).loudly().run().await;
    let strict = agent_with(content, &api).with("--strict").run().await;

    assert_eq!(lenient.code, Some(0));
    let warned = lenient.stderr.lines().any(|line| line.contains(" WARN ") && line.contains("c.yaml:1:7: log.levle"));
    assert!(warned, "{}", lenient.stderr);
    assert_eq!(strict.code, Some(2));
    assert!(
        strict.stderr.contains("c.yaml:1:7: log.levle") && strict.stderr.contains("log.level"),
        "{}",
        strict.stderr
    );
}

#[tokio::test]
async fn text_of_every_kind_in_metadata_arrives_as_it_is() {
    let texts = [
        "",
        " ",
        "\"quoted\"",
        "back\\slash",
        "line\nbreak",
        "nul\0byte",
        "\u{7f}",
        "\u{2028}",
        "né",
        "日本",
        "😀",
        "</script>",
    ];
    let mut namespace = Namespace::named("shop");
    let mut node = Node::named("n1");
    let mut pod = Pod::running("web-0").image("nginx:1.27");
    for (at, text) in texts.iter().enumerate() {
        namespace = namespace.annotation(&format!("a{at}"), text);
        node = node.label(&format!("a{at}"), text);
        pod = pod.annotation(&format!("a{at}"), text);
    }
    let api = KubernetesApi::serving(&Cluster::new().node(node).namespace(namespace).pod(pod)).await.expect("started");
    let enterprise = Enterprise::start().await.expect("started");

    let run = Agent::new().reads(&api).sends_to(&enterprise).run().await;

    assert_eq!(run, Run::succeeded());
    let report = &enterprise.reports("admin")[0];
    for (at, text) in texts.iter().enumerate() {
        let key = format!("a{at}");
        let found = [
            &report["namespaces"][0]["annotations"][&key],
            &report["nodes"][0]["labels"][&key],
            &report["pods"][0]["annotations"][&key],
        ];
        assert_eq!(found, [&json!(text); 3], "{text:?}");
    }
}

#[tokio::test]
async fn images_of_every_kind_make_a_report_that_is_accepted() {
    let images = [
        "",
        " ",
        ":",
        "@",
        ":tag",
        "a:",
        "a@",
        "A:1",
        "a b:1",
        "a:1 ",
        "a\n:1",
        "//a",
        "a//b",
        "a@sha256:short",
        "a:1@x:y",
        "nginx",
        "host:5000/a",
        "host:port/a",
        "[::1]:5000/a:1",
        "https://a/b:1",
        "日本:1",
        "a:😀",
        &"x".repeat(5000),
    ];
    let pod = images.iter().enumerate().fold(Pod::running("odd"), |pod, (at, image)| {
        let container = Container::named(&format!("c{at}")).image(image);
        pod.container(container.image_id(&format!("{image}@")).container_id(&format!("containerd://{at}")))
    });
    let api = KubernetesApi::serving(&Cluster::new().namespace("shop").pod(pod)).await.expect("started");
    let enterprise = Enterprise::start().await.expect("started");

    let run = Agent::new().reads(&api).sends_to(&enterprise).run().await;

    assert_eq!(run, Run::succeeded());
    let tags = outlines(&enterprise, "admin")[0][1].clone();
    assert!(tags.contains("nginx:latest") && tags.contains("host:5000/a:latest"), "{tags}");
}

#[tokio::test]
async fn objects_without_names_or_uids_are_left_out() {
    let cluster = Cluster::new()
        .node(Node::named("n1").uid("not-a-uid"))
        .namespace(Namespace::named("nameless").uid(""))
        .pod(Pod::running("lost").image("nginx:1"))
        .namespace("shop")
        .pod(Pod::running("no-uid").image("nginx:2").uid(""))
        .pod(Pod::running("upper").image("nginx:3").uid("5B0F6C0E-0D61-4A52-9A51-2C9A3A2F1103"))
        .pod(Pod::running("web-0").image("nginx:4"));
    let api = KubernetesApi::serving(&cluster).await.expect("started");
    let enterprise = Enterprise::start().await.expect("started");

    let run = Agent::new().reads(&api).sends_to(&enterprise).run().await;

    assert_eq!(run, Run::succeeded());
    let kept = ["namespace shop", "pod shop/upper: nginx:3", "pod shop/web-0: nginx:4"];
    assert_eq!(outlines(&enterprise, "admin"), [kept]);
}
