//! What is shown of what is sent: the same reports, once, before the first attempt.

use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::{Deserializer, Value, json};
use testbed::anchore::EnterpriseOptions;
use testbed::anchore::tenancy::User;
use testbed::cluster::Cluster;
use testbed::cluster::container::Container;
use testbed::cluster::namespace::Namespace;
use testbed::cluster::pod::Pod;
use testbed::server::fault::{Answer, Requests};

use super::{SHOP, Scene, namespaces, sorted_lines};
use crate::agent::{Agent, outlines};

/// A cluster of which some things cannot be reported: a namespace without a uid that counts, a container that waits.
fn untidy() -> Cluster {
    Cluster::new()
        .node("n1")
        .namespace(Namespace::named("shop"))
        .pod(Pod::running("web-0").image("nginx:1.27").label("app", "a \"quoted\"\u{e9} label"))
        .pod(Pod::running("web-1").container(Container::of("busybox:1").waiting()))
        .namespace(Namespace::named("void").uid("not-a-uuid"))
        .pod(Pod::running("lost").image("alpine:3"))
}

/// The reports that were printed.
fn printed(stdout: &str) -> Vec<Value> {
    Deserializer::from_str(stdout).into_iter().collect::<Result<_, _>>().expect("reports, one after another")
}

/// The text without the blanks and line ends that make it readable.
fn compact(text: &str) -> String {
    let (mut compact, mut in_string, mut escaped) = (String::new(), false, false);
    for character in text.chars() {
        if !in_string && character.is_ascii_whitespace() {
            continue;
        }
        compact.push(character);
        (in_string, escaped) = match character {
            _ if escaped => (in_string, false),
            '\\' => (in_string, in_string),
            '"' => (!in_string, false),
            _ => (in_string, false),
        };
    }
    compact
}

/// Bodies of all requests, one after another.
fn sent(scene: &Scene) -> String {
    let bodies = scene.enterprise.requests().into_iter().filter_map(|request| request.body);
    bodies.map(|body| String::from_utf8(body.to_vec()).expect("text")).collect()
}

#[tokio::test]
async fn d32_what_is_printed_is_what_is_sent_but_for_the_blanks() {
    let scene = Scene::of(&untidy(), EnterpriseOptions::default()).await;

    let run = scene.agent().with("-i").run().await;

    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    assert!(run.stdout.starts_with("{\n  \"cluster_name\": \"testbed\",\n  \"containers\": [\n    {\n      \"id\""));
    assert_eq!(compact(&run.stdout), sent(&scene));
    assert_eq!(
        run.outline(),
        ["node n1", "namespace shop", "pod shop/web-0 on n1: nginx:1.27", "pod shop/web-1 on n1: "]
    );
    assert_eq!(outlines(&scene.enterprise, "admin"), [run.outline()]);
}

#[tokio::test]
async fn batches_are_printed_in_the_order_in_which_they_are_sent() {
    let scene = Scene::of(&namespaces(&["a", "b", "c"]), EnterpriseOptions::default()).await;

    let agent = scene.agent().set("verbose-inventory-reports", true);
    let run = agent.set("inventory-report-limits.namespaces", 1).run().await;

    assert_eq!(run.code, Some(0));
    assert_eq!(printed(&run.stdout), scene.enterprise.reports("admin"));
    assert_eq!(compact(&run.stdout), sent(&scene));
}

#[rstest]
#[case::once_although_it_is_sent_again(503, 0)]
#[case::although_it_is_refused(400, 1)]
#[tokio::test]
async fn a_report_is_printed(#[case] status: u16, #[case] code: i32) {
    let scene = Scene::new().await;
    scene.enterprise.inject(Requests::to("*").first(1), Answer::status(status));

    let run = scene.agent().with("-i").run().await;

    assert_eq!(run.code, Some(code));
    assert_eq!(run.outline(), SHOP);
}

#[tokio::test]
async fn without_being_asked_for_nothing_is_printed_of_what_is_sent() {
    let scene = Scene::new().await;

    let run = scene.agent().loudly().run().await;

    assert_eq!((run.code, run.stdout.as_str()), (Some(0), ""));
    let sent = &scene.enterprise.requests()[0];
    let accepted: Vec<&str> = run.stderr.lines().filter(|line| line.contains("report accepted")).collect();
    let [line] = accepted.as_slice() else { panic!("one line: {accepted:?}") };
    let fields = format!("account=\"admin\" user=\"admin\" batch=1 namespaces=2 bytes={}", sent.body_bytes);
    assert!(line.ends_with(&format!("report accepted {fields}")), "{line}");
}

// Nothing is sent.

#[tokio::test]
async fn a_dry_run_says_where_each_report_would_go_and_asks_nobody_there() {
    let options = EnterpriseOptions::default().account("blog").user(User::of("blog", "blogger", "pw"));
    let scene = Scene::of(&namespaces(&["a", "blog", "c"]), options).await;
    let route = json!({"blog": {"user": "blogger", "password": "canary-password", "namespaces": ["blog"]}});

    let agent = scene.agent().set("account-routes", route).set("inventory-report-limits.namespaces", 1);
    let run = agent.with("--dry-run").run().await;

    assert_eq!(run.code, Some(0));
    let url = scene.enterprise.url();
    let length = |report: &Value| report.to_string().len();
    let expected = printed(&run.stdout).into_iter().map(|report| {
        let (account, user) =
            if report["namespaces"][0]["name"] == "blog" { ("blog", "blogger") } else { ("admin", "admin") };
        format!("dry run: account {account} as user {user} at {url}/: 1 namespace, {} bytes\n", length(&report))
    });
    let expected: String = expected.collect();
    assert_eq!(sorted_lines(&run.stderr), sorted_lines(&expected));
    assert_eq!(run.stderr.lines().count(), 3);
    assert!(scene.asked().is_empty());
}

#[rstest]
#[case("--dry-run")]
#[case("-o json")]
#[case("-o table")]
#[case("-o images")]
#[tokio::test]
async fn a_server_that_is_not_there_does_not_matter_when_nothing_is_sent(#[case] words: &str) {
    let scene = Scene::new().await;

    let agent = scene.agent().set("anchore.url", "https://anchore.example:1/").with(words);
    let run = agent.run().await;

    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.contains("shop"), "{}", run.stdout);
}

#[rstest]
#[case("-i")]
#[case("--dry-run")]
#[case("-o json")]
#[tokio::test]
async fn without_anchore_settings_there_is_no_warning_where_printing_was_asked_for(#[case] words: &str) {
    let scene = Scene::new().await;

    let run = Agent::new().reads(&scene.api).with(words).loudly().run().await;

    assert_eq!(run.code, Some(0));
    assert_eq!(run.outline(), SHOP);
    assert!(!run.stderr.contains(" WARN "), "{}", run.stderr);
    assert!(scene.asked().is_empty());
}
