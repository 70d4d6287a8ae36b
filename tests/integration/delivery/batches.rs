//! Batches on their way: whole namespaces, within the limits, nothing lost, and each standing for itself.

use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::json;
use testbed::anchore::inventory::{ClusterInventory, Ingest};
use testbed::anchore::{AcceptedReport, EnterpriseOptions};
use testbed::cluster::Cluster;
use testbed::cluster::pod::Pod;
use testbed::server::fault::{Answer, Requests};

use super::{Scene, V2, namespaces, not_accepted, post};
use crate::agent::{Run, outlines};

/// Three nodes, of which one is idle; namespaces of different sizes, of which one is empty.
fn busy() -> Cluster {
    let mut cluster = Cluster::new().node("n1").node("n2").node("n3");
    for (namespace, pods) in [("a", 1), ("b", 40), ("c", 2), ("d", 0), ("e", 3), ("f", 1)] {
        cluster = cluster.namespace(namespace);
        for pod in 0..pods {
            let node = if pod % 2 == 0 { "n1" } else { "n2" };
            cluster = cluster.pod(Pod::running(&format!("{namespace}-{pod}")).image("web:1").on(node));
        }
    }
    cluster
}

/// All that the server knows of the cluster, apart from how many reports said so.
fn known(scene: &Scene) -> String {
    let inventory = scene.enterprise.inventory();
    let ClusterInventory { nodes, mut namespaces } =
        inventory.cluster("admin", "testbed").cloned().expect("the cluster is known");
    for namespace in namespaces.values_mut() {
        assert_eq!(namespace.reports, 1, "{} is in one report", namespace.name);
    }
    format!("{nodes:#?} {namespaces:#?}")
}

#[rstest]
#[case::one_namespace_each("namespaces", 1)]
#[case::two_namespaces_each("namespaces", 2)]
#[case::few_bytes("payload-threshold-bytes", 2_000)]
#[case::fewer_bytes_than_any_namespace_has("payload-threshold-bytes", 1)]
#[case::more_than_all("payload-threshold-bytes", 10_000_000)]
#[tokio::test]
async fn a_server_knows_the_same_after_batches_as_after_one_report(
    #[case] limit: &str,
    #[case] value: u64,
    #[values(Ingest::Merge, Ingest::Overwrite)] ingest: Ingest,
) {
    let whole = Scene::of(&busy(), EnterpriseOptions::default().ingest(ingest)).await;
    let split = Scene::of(&busy(), EnterpriseOptions::default().ingest(ingest)).await;

    let whole_run = whole.agent().run().await;
    let split_run = split.agent().set(&format!("inventory-report-limits.{limit}"), value).run().await;

    assert_eq!((whole_run, split_run), (Run::succeeded(), Run::succeeded()));
    assert_eq!(whole.arrived(), ["admin from admin: a, b, c, d, e, f"]);
    assert_eq!(known(&whole), known(&split));
    let dangling: usize = split.enterprise.accepted().iter().map(|report| report.dangling).sum();
    assert_eq!(dangling, 0);
}

#[tokio::test]
async fn batches_of_namespaces_arrive_in_order_with_the_nodes_of_their_pods() {
    let scene = Scene::of(&busy(), EnterpriseOptions::default()).await;

    let run = scene.agent().set("inventory-report-limits.namespaces", 4).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.arrived(), ["admin from admin: a, b, c, d", "admin from admin: e, f"]);
    let nodes = |outline: &Vec<String>| -> Vec<String> {
        outline.iter().filter(|line| line.starts_with("node ")).cloned().collect()
    };
    let outlines = outlines(&scene.enterprise, "admin");
    assert_eq!(nodes(&outlines[0]), ["node n1", "node n2"]);
    assert_eq!(nodes(&outlines[1]), ["node n1", "node n2", "node n3"], "the last one takes the idle node");
    let accepted = scene.enterprise.accepted();
    assert_eq!(accepted[0].timestamp, accepted[1].timestamp);
    assert_eq!((accepted[0].cluster.as_str(), accepted[1].cluster.as_str()), ("testbed", "testbed"));
}

#[tokio::test]
async fn no_batch_is_above_the_limit_of_bytes_but_a_namespace_that_is_so_alone() {
    let limit = 2_500;
    let scene = Scene::of(&busy(), EnterpriseOptions::default()).await;

    let agent = scene.agent().set("inventory-report-limits.payload-threshold-bytes", limit).loudly();
    let run = agent.run().await;

    assert_eq!(run.code, Some(0));
    let accepted = scene.enterprise.accepted();
    let (large, small): (Vec<&AcceptedReport>, _) = accepted.iter().partition(|report| report.bytes > limit);
    assert!(small.len() > 1);
    let [large] = large.as_slice() else { panic!("one is above the limit: {large:?}") };
    assert_eq!((large.namespaces, large.pods), (1, 40));
    assert!(scene.arrived().contains(&"admin from admin: b".to_owned()));
    let warnings: Vec<&str> = run.stderr.lines().filter_map(|line| Some(line.split_once(" WARN ")?.1)).collect();
    let expected = format!(
        "the report of namespace b alone has {} bytes, above the {limit} of \
         inventory-report-limits.payload-threshold-bytes; it goes whole, since a namespace must not be split \
         account=\"admin\"",
        large.bytes
    );
    assert_eq!(warnings, [expected]);
}

// Failures.

#[rstest]
#[case::rejected(400, "Bad Request")]
#[case::failing(500, "Internal Server Error")]
#[tokio::test]
async fn the_batches_after_a_failed_one_are_sent(#[case] status: u16, #[case] name: &str) {
    let scene = Scene::of(&namespaces(&["a", "b", "c"]), EnterpriseOptions::default()).await;
    scene.enterprise.inject(Requests::to("*").nth(2), Answer::status(status));

    let run =
        scene.agent().set("inventory-report-limits.namespaces", 1).set("anchore.http.retry-seconds", 0).run().await;

    let reason = format!("{}{V2} answered {status} {name} (no reason given)", scene.enterprise.url());
    assert_eq!(run, Run::failed(&[&not_accepted(&reason, "admin", 2)]));
    assert_eq!(scene.arrived(), ["admin from admin: a", "admin from admin: c"]);
}

#[tokio::test]
async fn the_batches_after_one_that_is_held_are_not_sent_and_that_is_said() {
    let scene = Scene::of(&namespaces(&["a", "b", "c", "d"]), EnterpriseOptions::default()).await;
    scene.enterprise.inject(Requests::to("*").nth(2), Answer::status(200).html("Sign in"));

    let run = scene.agent().set("inventory-report-limits.namespaces", 1).run().await;

    let reason = format!(
        "{}{V2} answered 200 OK with what Anchore never answers (a web page titled \"Sign in\"), so a login page or a \
         proxy took the report: check anchore.url and what stands in front of Anchore",
        scene.enterprise.url()
    );
    let rest = "the other batches of the account are not sent either account=\"admin\" not_sent=2";
    assert_eq!(run, Run::failed(&[&not_accepted(&reason, "admin", 2), rest]));
    assert_eq!(scene.asked(), vec![post("admin", "admin"); 2]);
    assert_eq!(scene.arrived(), ["admin from admin: a"]);
}

#[tokio::test]
async fn a_batch_that_is_sent_again_keeps_its_place() {
    let scene = Scene::of(&namespaces(&["a", "b", "c"]), EnterpriseOptions::default()).await;
    scene.enterprise.inject(Requests::to("*").nth(2), Answer::status(503));

    let run = scene.agent().set("inventory-report-limits.namespaces", 1).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.arrived(), ["admin from admin: a", "admin from admin: b", "admin from admin: c"]);
}

// Nothing to report.

#[rstest]
#[case::without_batches(0)]
#[case::with_batches(1)]
#[tokio::test]
async fn an_empty_cluster_is_reported_as_empty(#[case] limit: u64) {
    let scene = Scene::of(&Cluster::new().node("n1"), EnterpriseOptions::default()).await;

    let run = scene.agent().set("inventory-report-limits.namespaces", limit).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(outlines(&scene.enterprise, "admin"), [["node n1"]]);
    let report = &scene.enterprise.reports("admin")[0];
    assert_eq!((&report["containers"], report.get("namespaces"), report.get("pods")), (&json!([]), None, None));
}

#[tokio::test]
async fn an_account_without_namespaces_gets_no_report() {
    let scene = Scene::of(&namespaces(&["a"]), EnterpriseOptions::default().account("other")).await;
    let routes = json!({"other": {"namespaces": ["a"]}, "nobody": {"namespaces": ["no-such-.*"]}});

    let run = scene.agent().set("account-routes", routes).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.asked(), [post("other", "admin")]);
}
