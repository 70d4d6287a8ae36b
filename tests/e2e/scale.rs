//! Large clusters, whole and exact.

use std::collections::HashSet;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use testbed::anchore::EnterpriseOptions;

use crate::cluster::Cluster;
use crate::objects::{Namespace, Node, Pod};

const NAMESPACES: usize = 100;
const PODS_PER_NAMESPACE: usize = 60;

#[tokio::test]
async fn six_thousand_pods_are_reported_exactly() {
    let cluster = six_thousand_pods().await;
    let reader = cluster.reader().await;

    let run = cluster.agent(&cluster.kubeconfig(&reader.with_token())).prints_json().await.succeeded();

    let report = run.report();
    let count = |kind: &str| report[kind].as_array().map_or(0, Vec::len);
    let (pods, system) = (NAMESPACES * PODS_PER_NAMESPACE, 4);
    assert_eq!((count("namespaces"), count("pods"), count("containers")), (NAMESPACES + system, pods, pods));
    // Compared without a difference of megabytes on the screen.
    assert!(report == cluster.state().await.report(), "the report differs");
}

#[tokio::test]
async fn six_thousand_pods_arrive_exactly() {
    let cluster = six_thousand_pods().await;
    let reader = cluster.reader().await;
    let enterprise = EnterpriseOptions::default().keep_bodies_up_to(256 * 1024 * 1024).start().await;
    let enterprise = enterprise.expect("the testbed starts");

    let anchore = format!("anchore: {{url: '{}', user: admin, password: foobar}}", enterprise.url());
    let agent = cluster.agent(&cluster.kubeconfig(&reader.with_token())).configured(&anchore);
    let run = agent.runs().await.succeeded();

    let arrived = enterprise.reports("admin").into_iter().map(|report| run.without_timestamp(report));
    assert!(arrived.eq([cluster.state().await.report()]), "the report differs");
}

#[tokio::test]
async fn empty_namespaces_are_reported_unless_they_are_to_be_left_out() {
    let cluster = Cluster::fresh().await;
    let many = (0..2_500).map(|n| Namespace::named(&format!("team-{n:04}")));
    cluster.load_namespaces(many).await;
    cluster.pod("team-1234", Pod::running("web-0").image("web:1")).await;
    let reader = cluster.reader().await;
    let kubeconfig = cluster.kubeconfig(&reader.with_token());

    let all = cluster.agent(&kubeconfig).prints_json().await.succeeded().report();
    let agent = cluster.agent(&kubeconfig).configured("namespace-selectors: {ignore-empty: true}");
    let some = agent.prints_json().await.succeeded().report();

    assert!(all == cluster.state().await.report(), "the report differs");
    assert_eq!(some, cluster.state().await.only(&["team-1234"]).report());
    assert_eq!(some["namespaces"][0]["labels"], json!({"kubernetes.io/metadata.name": "team-1234"}));
}

#[tokio::test]
async fn reports_are_closed_however_the_cluster_changes_meanwhile() {
    let cluster = Cluster::fresh().await;
    let reader = cluster.reader().await;
    let kubeconfig = cluster.kubeconfig(&reader.with_token());
    let team = |n: usize| format!("team-{n}");

    let change = async {
        // Each round makes namespaces with pods and lets some of the round before go, so that no two lists agree.
        for round in 1.. {
            let names: Vec<String> = (0..20).map(|n| team(round * 20 + n)).collect();
            cluster.load_namespaces(names.iter().map(|name| Namespace::named(name))).await;
            for name in &names {
                cluster.load_pods(name, (0..5).map(|n| Pod::running(&format!("web-{n}")).image("web:1"))).await;
            }
            for n in ((round - 1) * 20..round * 20).step_by(3) {
                cluster.vanish(&team(n)).await;
            }
        }
    };
    let read = async {
        for _ in 0..10 {
            let report = cluster.agent(&kubeconfig).prints_json().await.succeeded().report();
            assert_eq!(dangling(&report, "containers", "pod_uid", "pods"), [""; 0]);
            assert_eq!(dangling(&report, "pods", "namespace_uid", "namespaces"), [""; 0]);
        }
    };
    tokio::select! {
        () = read => {}
        () = change => unreachable!("it changes for ever"),
    }
}

/// What `objects` refer to with `reference` that is not the uid of one of `targets`.
fn dangling<'a>(report: &'a Value, objects: &str, reference: &str, targets: &str) -> Vec<&'a str> {
    let of = |kind: &str, field: &str| -> Vec<&'a str> {
        let objects = report.get(kind).and_then(Value::as_array).into_iter().flatten();
        objects.filter_map(|object| object.get(field).and_then(Value::as_str)).collect()
    };
    let known: HashSet<&str> = of(targets, "uid").into_iter().collect();
    of(objects, reference).into_iter().filter(|uid| !known.contains(uid)).collect()
}

async fn six_thousand_pods() -> Cluster {
    let cluster = Cluster::fresh().await;
    for n in 0..10 {
        cluster.node(Node::named(&format!("n{n}"))).await;
    }
    let namespaces: Vec<String> = (0..NAMESPACES).map(|n| format!("team-{n:03}")).collect();
    cluster.load_namespaces(namespaces.iter().map(|name| Namespace::named(name).label("team", name))).await;
    for namespace in &namespaces {
        let pods = (0..PODS_PER_NAMESPACE).map(|n| {
            let pod = Pod::running(&format!("web-{n}")).on(&format!("n{}", n % 10)).label("app", "web");
            // Nothing makes a list large like what people annotate.
            pod.annotation("example.org/notes", &"note ".repeat(400)).image(&format!("example.org/{namespace}:{n}"))
        });
        cluster.load_pods(namespace, pods).await;
    }
    cluster
}
