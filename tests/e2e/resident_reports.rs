//! What the resident agent reports of a cluster that changes.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use pretty_assertions::assert_eq;
use serde_json::json;
use testbed::anchore::Enterprise;

use crate::cluster::Cluster;
use crate::objects::{Namespace, Pod};
use crate::resident::{Arrivals, names, settings};

#[tokio::test]
async fn changes_are_in_the_next_report() {
    let cluster = Cluster::fresh().await;
    cluster.node("n1").await;
    cluster.namespace(Namespace::named("shop").label("team", "red")).await;
    cluster.pod("shop", Pod::running("web-0").on("n1").image("web:1")).await;
    let enterprise = Enterprise::start().await.expect("the testbed starts");
    let user = cluster.watcher().await;
    let agent =
        cluster.agent(&cluster.kubeconfig(&user.with_token())).stays("agent", &settings(&enterprise, &json!({})));
    let mut arrivals = Arrivals::at(&enterprise);

    let first = arrivals.next().await.clone();
    assert_eq!(first, cluster.state().await.report());

    cluster.pod("shop", Pod::running("web-1").on("n1").image("web:2")).await;
    arrivals.tell(&cluster.state().await).await;

    let label = json!({"metadata": {"labels": {"tier": "front"}}});
    cluster.patch("/api/v1/namespaces/shop/pods/web-1", &label).await;
    cluster.patch("/api/v1/namespaces/shop", &label).await;
    arrivals.tell(&cluster.state().await).await;

    cluster.delete_pod("shop", "web-1").await;
    arrivals.tell(&cluster.state().await).await;
    agent.stops().await;
}

#[tokio::test]
async fn a_namespace_that_was_made_anew_is_another_one() {
    let cluster = Cluster::with_one_pod().await;
    let enterprise = Enterprise::start().await.expect("the testbed starts");
    let user = cluster.watcher().await;
    let agent =
        cluster.agent(&cluster.kubeconfig(&user.with_token())).stays("agent", &settings(&enterprise, &json!({})));
    let mut arrivals = Arrivals::at(&enterprise);
    arrivals.tell(&cluster.state().await).await;

    cluster.namespace("blog").await;
    cluster.pod("blog", Pod::running("web-0").image("blog:1")).await;
    arrivals.tell(&cluster.state().await).await;

    cluster.vanish("blog").await;
    arrivals.tell(&cluster.state().await).await;

    cluster.namespace("blog").await;
    arrivals.tell(&cluster.state().await).await;
    cluster.pod("blog", Pod::running("web-0").image("blog:2")).await;
    arrivals.tell(&cluster.state().await).await;

    // With the same names in between, so that only the uid tells.
    cluster.vanish("blog").await;
    cluster.namespace("blog").await;
    cluster.pod("blog", Pod::running("web-0").image("blog:3")).await;
    arrivals.tell(&cluster.state().await).await;
    agent.stops().await;
    let known = enterprise.inventory();
    let known = known.cluster("admin", "prod").expect("its reports were accepted").namespaces.values();
    let images = known.filter(|namespace| &*namespace.name == "blog");
    let mut images: Vec<Vec<String>> = images
        .map(|namespace| namespace.containers.values().map(|container| container.image_tag.to_string()).collect())
        .collect();
    images.sort();
    assert_eq!(images, [["blog:1"], ["blog:2"], ["blog:3"]], "each with its own uid");
}

#[tokio::test]
async fn nothing_that_ran_between_two_reports_is_missed() {
    let cluster = Cluster::with_one_pod().await;
    let enterprise = Enterprise::start().await.expect("the testbed starts");
    let user = cluster.watcher().await;
    let agent =
        cluster.agent(&cluster.kubeconfig(&user.with_token())).stays("agent", &settings(&enterprise, &json!({})));
    let mut arrivals = Arrivals::at(&enterprise);
    arrivals.next().await;

    let lives = stream::iter(0..1_000).map(|n| {
        let cluster = &cluster;
        async move {
            let (name, image) = (format!("job-{n}"), format!("example.org/job:{n}"));
            let uid = cluster.pod("shop", Pod::running(&name).image(&image)).await;
            cluster.delete_pod("shop", &name).await;
            (image, uid)
        }
    });
    let ran: BTreeMap<String, String> = lives.buffer_unordered(32).collect().await;
    arrivals.tell(&cluster.state().await).await;
    agent.stops().await;

    arrivals.look();
    let mut reported: BTreeMap<String, String> = BTreeMap::new();
    for container in arrivals.seen.iter().flat_map(|report| report["containers"].as_array().into_iter().flatten()) {
        let text = |field: &str| container[field].as_str().expect("it is a text").to_owned();
        let before = reported.insert(text("image_tag"), text("pod_uid"));
        assert!(before.is_none_or(|uid| container["pod_uid"] == uid), "reported with two uids: {container}");
    }
    reported.remove("web:1").expect("what goes on is reported as well");
    // Compared without a thousand lines on the screen.
    let missed: Vec<&String> = ran.keys().filter(|image| !reported.contains_key(*image)).collect();
    assert_eq!(missed, [""; 0]);
    assert!(reported == ran, "pods have other uids than they were made with");
    assert!(arrivals.seen.iter().all(|report| names(report, "pods").contains(&"web-0")), "a report is not complete");
}
