//! A cluster that changes, and watches that end in every way.

use std::time::{Duration, Instant};

use pretty_assertions::assert_eq;
use testbed::cluster::Cluster;
use testbed::cluster::container::Container;
use testbed::cluster::namespace::Namespace;
use testbed::cluster::pod::Pod;
use testbed::kubernetes::{ExpiredWatch, expired, failure};
use testbed::objects::{Kind, Object};
use testbed::server::fault::{Fault, Requests};

use super::scene::Scene;
use crate::cluster::watch::NoPicture;

const PODS: &str = "/api/v1/pods";

fn shop() -> Cluster {
    Cluster::new().node("n1").namespace("shop").pod(web())
}

fn web() -> Pod {
    Pod::running("web").image("nginx:1")
}

/// A pod that is not `web`, with the same image.
fn job(name: &str) -> Pod {
    Pod::running(name).image("job:1")
}

#[tokio::test]
async fn the_first_state_is_listed_and_what_happens_then_is_watched() {
    let scene = Scene::of(&shop()).start().await;
    scene.observer.first_state().await;
    assert_eq!(scene.pods().await, ["shop/web: nginx:1"]);
    scene.is_watching().await;
    scene.api.apply_pod("shop", &job("job"));
    scene.shows(&["shop/job: job:1", "shop/web: nginx:1"]).await;
    scene.api.apply_pod("shop", &Pod::succeeded("job").container(Container::of("job:1").terminated()));
    scene.api.delete(Kind::Pods, "shop", "web");
    scene.until("three events", |scene| scene.observer.counts().events >= 3).await;
    // Both ran, which counts until it was accepted.
    assert_eq!(scene.pods().await, ["shop/job: job:1", "shop/web: nginx:1"]);
    scene.accept().await;
    scene.shows(&["shop/job*: job:1"]).await;
    assert_eq!((scene.lists(), scene.observer.counts().watches), ((2, 0), 2));
}

#[tokio::test]
async fn a_picture_has_nodes_and_version() {
    let scene = Scene::of(&shop()).start().await;
    scene.observer.first_state().await;
    let snapshot = scene.picture().await.expect("a picture").snapshot(None);
    assert_eq!(snapshot.nodes.len(), 1);
    assert_eq!(snapshot.server_version.expect("a version")["minor"], "37");
    scene.picture().await.expect("a picture");
    assert_eq!(scene.requests("/api/v1/nodes"), (1, 0), "nodes are listed rarely");
}

#[tokio::test]
async fn there_is_no_picture_before_the_first_state() {
    let plan = Scene::of(&shop());
    let scene = plan.start().await;
    scene.api.inject(Requests::to(PODS), Fault::NeverAnswers);
    let error = scene.picture().await.expect_err("nothing is known");
    assert!(matches!(error, NoPicture::NeverComplete { .. }), "{error}");
}

#[tokio::test]
async fn watches_that_end_go_on_where_they_were() {
    let scene = Scene::of(&shop()).start().await;
    scene.is_watching().await;
    for (at, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let watches = scene.observer.counts().watches;
        if at % 2 == 0 {
            scene.api.close_watches();
        } else {
            scene.api.reset_watches();
        }
        scene.api.apply_pod("shop", &job(name));
        scene.until("both are watched again", |scene| scene.observer.counts().watches >= watches + 2).await;
    }
    scene.shows(&["shop/a: job:1", "shop/b: job:1", "shop/c: job:1", "shop/d: job:1", "shop/web: nginx:1"]).await;
    assert_eq!(scene.lists(), (2, 0));
}

#[tokio::test]
async fn bookmarks_say_where_to_go_on() {
    let scene = Scene::of(&shop()).start().await;
    scene.is_watching().await;
    scene.api.apply_node("n2");
    scene.api.bookmark();
    scene.until("two bookmarks", |scene| scene.observer.counts().events >= 2).await;
    // Without the bookmark, the version of the list would be too old now.
    let version = scene.api.resource_version();
    scene.api.close_watches();
    scene.until("both are watched again", |scene| scene.observer.counts().watches == 4).await;
    let last = scene.api.requests().into_iter().rfind(|request| request.path == PODS).expect("a watch");
    assert!(last.query.contains(&format!("resourceVersion={version}&")), "{}", last.query);
}

#[tokio::test]
async fn a_watch_from_too_long_ago_costs_one_list_and_nothing_is_lost() {
    for answer in [ExpiredWatch::Event, ExpiredWatch::Status] {
        let scene = Scene::of(&shop().pod(job("old"))).start().await;
        scene.api.set_expired_watch(answer);
        scene.is_watching().await;
        // No watch hears of these.
        scene.api.lose_next_event(Kind::Pods);
        scene.api.delete(Kind::Pods, "shop", "old");
        scene.api.lose_next_event(Kind::Pods);
        scene.api.apply_pod("shop", &job("new"));
        scene.api.apply_namespace("test");
        scene.api.compact();
        scene.api.reset_watches();
        scene.until("two lists more", |scene| scene.lists() == (4, 2)).await;
        scene.is_watching().await;
        let all = ["shop/new: job:1", "shop/old: job:1", "shop/web: nginx:1"];
        scene.shows(&all).await;
        scene.accept().await;
        assert_eq!(scene.pods().await, ["shop/new: job:1", "shop/web: nginx:1"]);
        assert_eq!(scene.lists(), (4, 2));
    }
}

#[tokio::test]
async fn a_list_that_is_always_too_old_to_watch_from_is_read_more_and_more_rarely() {
    let scene = Scene::of(&shop()).start().await;
    scene.is_watching().await;
    scene.api.inject(Requests::to(PODS).watches().first(6), expired());
    let began = Instant::now();
    scene.api.close_watches();
    scene.until("six lists more", |scene| scene.lists().1 == 6).await;
    scene.is_watching().await;
    // Half of 10, 20, 40, 80 and 160 ms at least.
    assert!(began.elapsed() >= Duration::from_millis(155));
    assert_eq!(scene.requests(PODS).0, 7);
}

#[tokio::test]
async fn an_observer_can_be_spawned() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let scene = Scene::of(&shop()).start().await;
    is_send(scene.observer.first_state()).await;
    is_send(scene.picture()).await.expect("a picture");
}

#[tokio::test]
async fn an_error_in_a_watch_is_no_reason_for_a_list() {
    let scene = Scene::of(&shop()).start().await;
    scene.is_watching().await;
    scene.api.send_watch_error(500, "InternalError", "etcd is away");
    scene.until("both are watched again", |scene| scene.observer.counts().watches == 4).await;
    scene.api.apply_pod("shop", &job("job"));
    scene.shows(&["shop/job: job:1", "shop/web: nginx:1"]).await;
    assert_eq!(scene.lists(), (2, 0));
}

#[tokio::test]
async fn a_server_that_is_busy_or_away_is_not_asked_for_lists() {
    let scene = Scene::of(&shop()).start().await;
    scene.is_watching().await;
    scene.api.inject(Requests::to(PODS).watches().first(3), failure(503, "ServiceUnavailable", "starting"));
    scene.api.inject(Requests::to(PODS).watches().first(6), Fault::Resets { after: 0 });
    scene.api.reset_watches();
    scene.api.apply_pod("shop", &job("job"));
    scene.shows(&["shop/job: job:1", "shop/web: nginx:1"]).await;
    assert_eq!(scene.requests(PODS).0, 1);
}

#[tokio::test]
async fn a_watch_that_is_refused_again_and_again_costs_a_list() {
    let scene = Scene::of(&shop()).start().await;
    scene.is_watching().await;
    scene.api.inject(Requests::to(PODS).watches().first(3), failure(504, "Timeout", "Too large resource version"));
    scene.api.reset_watches();
    scene.until("a list more", |scene| scene.lists().1 == 1).await;
    scene.is_watching().await;
    assert_eq!(scene.requests(PODS).0, 2);
}

#[tokio::test]
async fn a_silent_watch_is_given_up() {
    let plan = Scene::of(&shop()).silence(Duration::from_millis(500));
    let scene = plan.options(|options| options.bookmark_interval(Duration::from_millis(20))).start().await;
    scene.is_watching().await;
    scene.api.hold_watches(true);
    scene.api.apply_pod("shop", &job("job"));
    scene.until("new watches", |scene| scene.observer.counts().watches > 2).await;
    scene.api.hold_watches(false);
    scene.shows(&["shop/job: job:1", "shop/web: nginx:1"]).await;
}

#[tokio::test]
async fn a_lost_event_is_made_good_by_the_next_list() {
    let scene = Scene::of(&shop()).start().await;
    scene.is_watching().await;
    scene.api.lose_next_event(Kind::Pods);
    scene.api.delete(Kind::Pods, "shop", "web");
    scene.api.send_watch_error(410, "Expired", "too old");
    scene.until("both are listed again", |scene| scene.lists() == (4, 2)).await;
    scene.is_watching().await;
    scene.shows(&["shop/web: nginx:1"]).await;
    scene.accept().await;
    assert_eq!(scene.pods().await, Vec::<String>::new());
}

#[tokio::test]
async fn namespaces_come_and_go_with_what_ran_in_them() {
    let scene = Scene::of(&shop()).start().await;
    scene.is_watching().await;
    scene.api.apply_namespace("test");
    scene.api.apply_pod("test", &job("job"));
    scene.shows(&["shop/web: nginx:1", "test/job: job:1"]).await;
    scene.api.delete(Kind::Pods, "test", "job");
    scene.api.delete(Kind::Namespaces, "", "test");
    scene.until("one namespace is held", |scene| scene.observer.counts().held[..2] == [1, 1]).await;
    assert_eq!(scene.namespaces().await, ["shop", "test"]);
    scene.api.apply_namespace(Namespace::named("test").uid("5b0f6c0e-0d61-4a52-9a51-2c9a3a2f1101"));
    scene.until("two namespaces are held", |scene| scene.observer.counts().held[..2] == [2, 1]).await;
    assert_eq!(scene.namespaces().await, ["shop", "test", "test"]);
    assert_eq!(scene.pods().await, ["shop/web: nginx:1", "test/job: job:1"]);
    scene.accept().await;
    assert_eq!(scene.namespaces().await, ["shop", "test"]);
}

#[tokio::test]
async fn a_cluster_that_went_back_in_time_is_believed_after_some_lists() {
    // A watch from a later version than the present one hears nothing, bookmarks included.
    let plan = Scene::of(&shop()).silence(Duration::from_millis(500));
    let scene = plan.options(|options| options.bookmark_interval(Duration::from_millis(20))).start().await;
    scene.is_watching().await;
    for name in ["a", "b", "c"] {
        scene.api.apply_pod("shop", &job(name));
    }
    scene.until("three events", |scene| scene.observer.counts().events >= 3).await;
    scene.api.replace(shop().objects());
    scene.until("three are carried", |scene| scene.observer.counts().carried == 3).await;
    scene.accept().await;
    scene.api.set_resource_version(500);
    scene.api.apply_pod("shop", &job("restored"));
    scene.api.reset_watches();
    scene.shows(&["shop/restored: job:1", "shop/web: nginx:1"]).await;
    scene.is_watching().await;
    scene.api.apply_pod("shop", &job("later"));
    scene.shows(&["shop/later: job:1", "shop/restored: job:1", "shop/web: nginx:1"]).await;
}

#[tokio::test]
async fn a_server_that_knows_only_json_is_watched_as_well() {
    let scene = Scene::of(&shop()).options(testbed::kubernetes::KubernetesOptions::json_only).start().await;
    scene.is_watching().await;
    scene.api.apply_pod("shop", &job("job"));
    scene.api.bookmark();
    scene.shows(&["shop/job: job:1", "shop/web: nginx:1"]).await;
    scene.api.send_watch_error(410, "Expired", "too old");
    scene.until("both are listed again", |scene| scene.lists() == (4, 2)).await;
}

#[tokio::test]
async fn a_pod_that_does_not_decode_takes_its_namespace_out_until_it_does() {
    // Its metadata decodes, and its spec is a number.
    let mut damaged = vec![0x0a, 14];
    damaged.extend(b"\x0a\x06broken\x1a\x04test");
    damaged.extend([0x10, 1]);
    let scene = Scene::of(&shop().namespace("test").pod(job("job"))).start().await;
    scene.is_watching().await;
    scene.api.apply(Kind::Pods, &Object::from_bytes("test", "broken", damaged));
    scene.shows(&["shop/web: nginx:1"]).await;
    let snapshot = scene.picture().await.expect("a picture").snapshot(None);
    assert_eq!(snapshot.unreadable.len(), 1);
    assert!(snapshot.unreadable[0].reason.contains("\"broken\""), "{}", snapshot.unreadable[0].reason);
    scene.api.apply_pod("test", &Pod::running("broken").image("fixed:1"));
    scene.shows(&["shop/web: nginx:1", "test/broken: fixed:1", "test/job: job:1"]).await;
}
