//! What it knows of the cluster: what runs only for a moment, what is gone, and watches that end in every way.

use pretty_assertions::assert_eq;
use rstest::rstest;
use testbed::anchore::EnterpriseOptions;
use testbed::cluster::namespace::Namespace;
use testbed::cluster::pod::Pod;
use testbed::kubernetes::{ExpiredWatch, KubernetesOptions, KubernetesVersion};
use testbed::objects::Kind;
use testbed::server::fault::{Answer, Requests};

use super::{Stage, V2, api_shows};
use crate::agent::{asked, lines, without_time};
use crate::scene::{NAMESPACES, NODES, PODS, SHOP, shop};

const STAYS: [&str; 3] =
    ["pod payment/api-0 on n1: payment:7", "pod shop/web-0 on n1: nginx:1.27", "pod shop/web-1 on n1: nginx:1.27"];

const WEB_1: &str = "pod shop/web-1 on n1: nginx:1.27";

#[tokio::test]
async fn f1_a_pod_that_lives_between_two_reports_is_in_exactly_one_that_is_accepted() {
    let stage = Stage::new().await;
    let resident = stage.start();
    stage.accepted(1).await;

    stage.api.apply_pod("shop", &Pod::running("job-0").image("job:1"));
    stage.api.delete(Kind::Pods, "shop", "job-0").expect("there");
    stage.reported("pod shop/job-0 on n1: job:1").await;
    stage.accepted_more(2).await;

    assert_eq!(resident.stop().await.code, Some(0));
    let outlines = stage.outlines();
    let with = outlines.iter().filter(|outline| outline.iter().any(|line| line.contains("job:1"))).count();
    assert_eq!(with, 1, "{outlines:?}");
    stage.assert_never_without(&STAYS);
}

#[tokio::test]
async fn a_pod_that_departed_stays_until_a_report_with_it_is_accepted_although_reports_are_superseded() {
    let stage = Stage::new().await;
    let resident = stage.start();
    stage.accepted(1).await;

    stage.enterprise.inject(Requests::to(V2), Answer::status(503));
    stage.api.delete(Kind::Pods, "shop", "web-1").expect("there");
    resident.measures("reports_total{outcome=\"superseded\",account=\"admin\"}", |count| count >= 1.0).await;
    resident.measures("carried_pods", |pods| pods >= 1.0).await;
    let before = stage.enterprise.accepted().len();
    stage.enterprise.clear_faults();
    stage.not_reported(WEB_1).await;

    let outlines = stage.outlines();
    assert!(outlines[before].iter().any(|line| line == WEB_1), "{outlines:?}");
    resident.measures("carried_pods", |pods| pods < 1.0).await;
    stage.assert_never_without(&STAYS[..2]);
}

#[tokio::test]
async fn a_pod_that_finished_counts_as_running_once() {
    let stage = Stage::new().await;
    let resident = stage.start();
    stage.accepted(1).await;

    stage.api.apply_pod("shop", &Pod::succeeded("web-1").image("nginx:1.27"));
    stage.not_reported(WEB_1).await;

    resident.measures("carried_pods", |pods| pods < 1.0).await;
    let outlines = stage.outlines();
    // Its containers are left out once it has finished, as `ignore-not-running` says; the pod itself stays.
    let last = outlines.last().expect("a report");
    assert!(last.iter().any(|line| line == "pod shop/web-1 on n1: "), "{last:?}");
    stage.assert_never_without(&STAYS[..2]);
}

#[rstest]
#[case(ExpiredWatch::Event)]
#[case(ExpiredWatch::Status)]
#[tokio::test]
async fn f3_f18_after_410_it_lists_anew_and_loses_nothing(#[case] answer: ExpiredWatch) {
    let stage = Stage::new().await;
    stage.api.set_expired_watch(answer);
    let resident = stage.start();
    stage.accepted(1).await;
    stage.api.wait_for_watches(Kind::Pods, 1).await;

    stage.api.lose_next_event(Kind::Pods);
    stage.api.delete(Kind::Pods, "shop", "web-1").expect("there");
    stage.api.apply_namespace("other");
    stage.api.compact();
    stage.api.close_watches();
    stage.not_reported(WEB_1).await;

    resident.measures("relists_total", |count| count >= 1.0).await;
    assert_eq!(stage.lists_of_pods(), 2, "one at the start, one after 410");
    stage.assert_never_without(&STAYS[..2]);
}

#[tokio::test]
async fn f3_an_error_event_in_an_open_watch_is_understood() {
    let stage = Stage::new().await;
    let resident = stage.start();
    stage.accepted(1).await;
    stage.api.wait_for_watches(Kind::Pods, 1).await;

    stage.api.send_watch_error(410, "Expired", "too old resource version: 1 (2)");
    resident.measures("relists_total", |count| count >= 1.0).await;
    stage.api.apply_pod("shop", &Pod::running("new-0").image("new:1"));

    stage.reported("pod shop/new-0 on n1: new:1").await;
    stage.assert_never_without(&STAYS);
}

#[tokio::test]
async fn f2_f9_watches_that_end_go_on_where_they_were_without_a_list() {
    let stage = Stage::new().await;
    let resident = stage.start();
    stage.accepted(1).await;

    for end in 0..4 {
        stage.api.wait_for_watches(Kind::Pods, 1).await;
        let name = format!("new-{end}");
        if end % 2 == 0 {
            stage.api.close_watches();
        } else {
            stage.api.reset_watches();
        }
        stage.api.apply_pod("shop", &Pod::running(&name).image("new:1"));
        stage.reported(&format!("pod shop/{name} on n1: new:1")).await;
    }

    assert_eq!(stage.lists_of_pods(), 1);
    resident.measures("relists_total", |count| count < 1.0).await;
    stage.assert_never_without(&STAYS);
}

#[tokio::test]
async fn f17_a_pod_may_come_before_its_namespace_and_its_node() {
    let stage = Stage::new().await;
    let _resident = stage.start();
    stage.accepted(1).await;

    stage.api.apply_pod("late", &Pod::running("early-0").image("early:1").on("n9"));
    stage.accepted_more(2).await;
    stage.assert_never_without(&STAYS);
    assert!(!stage.outlines().iter().flatten().any(|line| line.contains("early-0")));
    stage.api.apply_namespace("late");

    stage.reported("pod late/early-0: early:1").await;
}

#[tokio::test]
async fn namespaces_that_come_and_go_are_reported_as_they_do() {
    let stage = Stage::new().await;
    let _resident = stage.start();
    stage.accepted(1).await;

    stage.api.apply_namespace("fresh");
    stage.reported("namespace fresh").await;
    stage.api.apply_pod("fresh", &Pod::running("one-0").image("one:1"));
    stage.reported("pod fresh/one-0 on n1: one:1").await;
    stage.api.delete(Kind::Pods, "fresh", "one-0").expect("there");
    stage.api.delete(Kind::Namespaces, "", "fresh").expect("there");
    stage.not_reported("namespace fresh").await;

    // The pod was told of once more, and its namespace with it.
    stage.assert_never_without(&STAYS);
    assert!(!stage.outlines().iter().flatten().any(|line| line.contains("nowhere")));
}

#[tokio::test]
async fn f24_a_namespace_and_a_pod_of_a_known_name_are_others() {
    let stage = Stage::new().await;
    let _resident = stage.start();
    stage.accepted(1).await;

    stage.api.delete(Kind::Pods, "payment", "api-0").expect("there");
    stage.api.delete(Kind::Namespaces, "", "payment").expect("there");
    stage.api.apply_namespace(Namespace::named("payment").uid("11111111-1111-4111-8111-111111111111"));
    let pod = Pod::running("api-0").image("payment:8").uid("22222222-2222-4222-8222-222222222222");
    stage.api.apply_pod("payment", &pod);
    stage
        .until("both pods", |enterprise| {
            enterprise.reports("admin").iter().any(|report| {
                let pods = report["pods"].as_array().expect("pods");
                pods.iter().filter(|pod| pod["name"] == "api-0").count() == 2
            })
        })
        .await;

    stage.not_reported("pod payment/api-0 on n1: payment:7").await;
    stage.reported("pod payment/api-0 on n1: payment:8").await;
    let last = stage.enterprise.reports("admin").pop().expect("a report");
    let namespaces = last["namespaces"].as_array().expect("namespaces");
    let uids: Vec<_> = namespaces.iter().filter(|one| one["name"] == "payment").map(|one| &one["uid"]).collect();
    assert_eq!(uids, ["11111111-1111-4111-8111-111111111111"]);
}

#[tokio::test]
async fn where_watching_is_not_wanted_each_report_is_made_from_lists() {
    let stage = Stage::new().await;
    let agent = stage.agent().set("inventory-collection.method", "poll");
    let resident = super::process::Resident::start(agent);
    stage.accepted(2).await;

    stage.api.delete(Kind::Pods, "shop", "web-1").expect("there");
    stage.not_reported(WEB_1).await;

    assert_eq!(stage.api.watch_count(Kind::Pods), 0);
    assert_eq!(resident.get("/readyz").await.0, 200);
    stage.assert_never_without(&STAYS[..2]);
}

#[tokio::test]
async fn f36_the_cluster_is_read_while_anchore_does_not_answer() {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to(V2), testbed::server::fault::Fault::NeverAnswers);
    let resident = stage.start();
    stage.sent(1).await;
    stage.api.wait_for_watches(Kind::Pods, 1).await;

    for number in 0..50 {
        stage.api.apply_pod("shop", &Pod::running(&format!("new-{number}")).image("new:1"));
    }

    resident.measures("held_objects{kind=\"pods\"}", |pods| pods >= 53.0).await;
    assert!(stage.enterprise.accepted().is_empty());
}

#[tokio::test]
async fn f22_f23_the_first_report_is_that_of_a_single_run_and_nothing_else_is_asked_for() {
    let options = KubernetesOptions::default().cluster(&shop());
    let stage = Stage::of(options, EnterpriseOptions::default()).await;
    let resident = stage.start();
    stage.accepted(1).await;

    assert_eq!(stage.outlines()[0], lines(&SHOP));
    api_shows(&stage.api, "watches", |api| api.watch_count(Kind::Namespaces) == 1).await;
    assert_eq!(stage.api.watch_count(Kind::Nodes), 0, "their heartbeats are of no interest");
    let is_known = |path: &str| path == "/version" || [PODS, NAMESPACES, NODES].contains(&path);
    let others: Vec<_> =
        asked(&stage.api).into_iter().filter(|path| !is_known(path.split('?').next().expect("a path"))).collect();
    assert_eq!(others, [""; 0], "what else the server has is not looked for");
    assert_eq!(resident.stop().await.code, Some(0));
}

#[rstest]
#[case::pages(KubernetesOptions::default().version(KubernetesVersion::minor(25)))]
#[case::the_last_with_pages(KubernetesOptions::default().version(KubernetesVersion::minor(33)))]
#[case::the_first_in_one_piece(KubernetesOptions::default().version(KubernetesVersion::minor(34)))]
#[case::a_proxy_that_makes_json(KubernetesOptions::default().json_only())]
#[tokio::test]
async fn f35_servers_of_each_kind_are_followed(#[case] options: KubernetesOptions) {
    let stage = Stage::of(options.cluster(&shop()), EnterpriseOptions::default()).await;
    let _resident = stage.start();
    stage.accepted(1).await;
    stage.api.wait_for_watches(Kind::Pods, 1).await;
    let lists = stage.lists_of_pods();

    stage.api.apply_pod("shop", &Pod::running("new-0").image("new:1"));
    stage.api.delete(Kind::Pods, "shop", "web-1").expect("there");
    stage.reported("pod shop/new-0 on n1: new:1").await;
    stage.not_reported(WEB_1).await;

    assert_eq!(stage.lists_of_pods(), lists);
    stage.assert_never_without(&STAYS[..2]);
}

#[tokio::test]
async fn f20_an_object_as_large_as_they_get_is_followed() {
    let stage = Stage::new().await;
    let _resident = stage.start();
    stage.accepted(1).await;

    let notes = "x".repeat(1 << 20);
    stage.api.apply_pod("shop", &Pod::running("large-0").image("large:1").annotation("notes", &notes));
    stage.reported("pod shop/large-0 on n1: large:1").await;
    stage.api.apply_pod("shop", &Pod::running("new-0").image("new:1"));
    stage.reported("pod shop/new-0 on n1: new:1").await;

    assert_eq!(stage.lists_of_pods(), 1);
}

#[tokio::test]
async fn f21_all_pods_of_a_storm_are_reported() {
    const PODS_OF_STORM: usize = 2_000;
    let stage = Stage::new().await;
    let resident = stage.start();
    stage.accepted(1).await;

    for number in 0..PODS_OF_STORM {
        let name = format!("storm-{number}");
        stage.api.apply_pod("shop", &Pod::running(&name).image("storm:1"));
        stage.api.delete(Kind::Pods, "shop", &name).expect("there");
    }
    stage
        .until("all of them", |enterprise| {
            let accepted = enterprise.accepted();
            accepted.iter().map(|report| report.pods).sum::<usize>() - 3 * accepted.len() >= PODS_OF_STORM
        })
        .await;

    let mut names: Vec<String> =
        stage.outlines().into_iter().flatten().filter(|line| line.contains("/storm-")).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), PODS_OF_STORM);
    resident.measures("carried_pods", |pods| pods < 0.5).await;
    resident.measures("carried_pods_dropped_total", |pods| pods < 0.5).await;
}

#[tokio::test]
async fn f22_events_that_change_nothing_change_no_report() {
    let stage = Stage::new().await;
    let resident = stage.start();
    stage.accepted(1).await;

    for _ in 0..100 {
        stage.api.apply_pod("shop", &Pod::running("web-1").image("nginx:1.27"));
    }
    resident.measures("watch_events_total", |events| events >= 100.0).await;
    stage.accepted_more(2).await;

    let mut reports: Vec<String> =
        stage.enterprise.reports("admin").iter().map(|report| without_time(&report.to_string())).collect();
    reports.dedup();
    assert_eq!(reports.len(), 1);
}
