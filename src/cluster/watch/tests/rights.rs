//! What may be watched, listed, or neither, and when that changes.

use std::time::Duration;

use jiff::Timestamp;
use pretty_assertions::assert_eq;
use testbed::cluster::Cluster;
use testbed::cluster::pod::Pod;
use testbed::kubernetes::access::{User, Verb};
use testbed::kubernetes::failure;
use testbed::objects::Kind;
use testbed::server::fault::Requests;

use super::scene::{Log, Scene};
use crate::cluster::watch::{NoPicture, SourceState};

const PODS: &str = "/api/v1/pods";

fn cluster() -> Cluster {
    Cluster::new().namespace("shop").pod(job("web")).namespace("test").pod(job("other"))
}

fn job(name: &str) -> Pod {
    Pod::running(name).image("job:1")
}

/// May read the pods of one namespace, and that namespace.
fn role(user: User, namespace: &str) -> User {
    let user = user.may_in(namespace, Verb::List, Kind::Pods).may_in(namespace, Verb::Watch, Kind::Pods);
    user.may_in(namespace, Verb::Get, Kind::Namespaces)
}

#[tokio::test]
async fn what_may_only_be_listed_is_listed_for_each_report_and_that_is_said_once() {
    let (log, _guard) = Log::start();
    let scene = Scene::of(&cluster()).by(User::lister("reader")).start().await;
    scene.observer.first_state().await;
    scene.until("both watches were refused", |_| log.count("may not be watched") == 2).await;
    for name in ["a", "b", "c"] {
        scene.api.apply_pod("shop", &job(name));
        let pods = scene.pods().await;
        assert!(pods.contains(&format!("shop/{name}: job:1")), "{pods:?}");
    }
    assert!(scene.is_synced());
    assert_eq!(scene.requests(PODS).0, 4);
    assert_eq!(log.count("may not be watched"), 2, "once for pods and once for namespaces");

    scene.api.set_user(User::reader("reader").token("secret"));
    scene.pods().await;
    scene.is_watching().await;
    let lists = scene.requests(PODS).0;
    scene.pods().await;
    assert_eq!(scene.requests(PODS).0, lists);
}

#[tokio::test]
async fn rights_that_are_taken_away_leave_the_state_and_end_the_reports() {
    let (log, _guard) = Log::start();
    let scene = Scene::of(&cluster()).by(User::reader("reader")).start().await;
    scene.is_watching().await;
    let no_rights = User::named("reader").token("secret");
    scene.api.set_user(no_rights);
    scene.api.apply_pod("shop", &job("unseen"));
    scene.shows(&["shop/unseen: job:1", "shop/web: job:1", "test/other: job:1"]).await;

    scene.api.close_watches();
    scene.until("it is blind", Scene::is_blind).await;
    assert_eq!(scene.pods().await.len(), 3, "what is known is kept");
    let error = scene.observer.picture(Timestamp::UNIX_EPOCH, Duration::ZERO).await.expect_err("it is old");
    assert!(matches!(&error, NoPicture::Unconfirmed { reason, .. } if reason.contains("403")), "{error}");
    let asked = scene.requests(PODS).0;
    scene.until("it is tried again unasked", |scene| scene.requests(PODS).0 > asked + 1).await;
    assert_eq!(log.count("may not be read any more"), 2, "once for pods and once for namespaces");
    assert_eq!(log.count("may not be watched"), 0);

    scene.api.apply_pod("shop", &job("later"));
    scene.api.set_user(User::reader("reader").token("secret"));
    scene.is_watching().await;
    assert!(scene.is_synced());
    scene.shows(&["shop/later: job:1", "shop/unseen: job:1", "shop/web: job:1", "test/other: job:1"]).await;
}

#[tokio::test]
async fn wrong_credentials_leave_the_state() {
    let scene = Scene::of(&cluster()).by(User::reader("reader")).start().await;
    scene.is_watching().await;
    scene.api.set_user(User::reader("reader").token("another"));
    scene.api.reset_watches();
    scene.until("it is blind", Scene::is_blind).await;
    assert_eq!(scene.pods().await, ["shop/web: job:1", "test/other: job:1"]);
    scene.api.set_user(User::reader("reader").token("secret"));
    scene.is_watching().await;
    assert_eq!(scene.lists(), (2, 0), "the watches went on where they were");
}

#[tokio::test]
async fn a_server_that_just_started_is_not_taken_at_its_word() {
    let plan = Scene::of(&cluster()).by(User::reader("reader"));
    let scene = plan.start().await;
    scene.api.inject(Requests::to("*").first(4), failure(403, "Forbidden", "RBAC is not loaded yet"));
    scene.shows(&["shop/web: job:1", "test/other: job:1"]).await;
    scene.is_watching().await;
}

#[tokio::test]
async fn a_server_that_was_restarted_is_not_taken_at_its_word() {
    let (log, _guard) = Log::start();
    let scene = Scene::of(&cluster()).by(User::reader("reader")).start().await;
    scene.is_watching().await;
    for path in [PODS, "/api/v1/namespaces"] {
        scene.api.inject(Requests::to(path).first(4), failure(403, "Forbidden", "RBAC is not loaded yet"));
    }
    scene.api.reset_watches();
    scene.until("it is not up to date", |scene| !scene.is_synced()).await;
    scene.is_watching().await;
    assert_eq!(log.count("may not be read any more"), 0);
    scene.shows(&["shop/web: job:1", "test/other: job:1"]).await;
}

#[tokio::test]
async fn roles_are_enough_for_named_namespaces() {
    let plan = Scene::of(&cluster()).by(role(User::named("reader"), "shop")).include(&["shop"]);
    let scene = plan.start().await;
    scene.observer.first_state().await;
    assert_eq!(scene.pods().await, ["shop/web: job:1"]);
    scene.until("it is watched", |scene| scene.api.watch_count(Kind::Pods) == 1).await;
    scene.api.apply_pod("shop", &job("later"));
    scene.api.apply_pod("test", &job("not wanted"));
    scene.shows(&["shop/later: job:1", "shop/web: job:1"]).await;
    assert_eq!((scene.requests(PODS), scene.requests("/api/v1/namespaces")), ((0, 0), (0, 0)));
    assert_eq!(scene.requests("/api/v1/namespaces/shop/pods"), (1, 1));
}

#[tokio::test]
async fn a_named_namespace_that_may_not_be_read_costs_only_itself() {
    let plan = Scene::of(&cluster()).by(role(User::named("reader"), "shop")).include(&["shop", "test", "no-such"]);
    let scene = plan.start().await;
    scene.observer.first_state().await;
    scene.shows(&["shop/web: job:1"]).await;
    let picture = scene.picture().await.expect("a picture");
    let unreadable = picture.snapshot(None).unreadable;
    let named: Vec<&str> = unreadable.iter().map(|one| one.namespace.as_str()).collect();
    assert_eq!(named, ["no-such", "test"], "without the right to look, both may be there");
    assert!(unreadable[1].reason.contains("grant `get` on namespaces"), "{}", unreadable[1].reason);
}

#[tokio::test]
async fn a_named_namespace_comes_and_goes() {
    let scene = Scene::of(&cluster()).include(&["shop", "later"]).start().await;
    scene.observer.first_state().await;
    let picture = scene.picture().await.expect("a picture");
    assert_eq!(picture.missing, ["later"]);
    scene.api.apply_namespace("later");
    scene.api.apply_pod("later", &job("first"));
    scene.shows(&["later/first: job:1", "shop/web: job:1"]).await;
    scene.api.delete(Kind::Pods, "later", "first");
    scene.api.delete(Kind::Namespaces, "", "later");
    scene.until("one pod is carried", |scene| scene.observer.counts().carried == 1).await;
    assert_eq!(scene.pods().await, ["later/first: job:1", "shop/web: job:1"]);
    scene.accept().await;
    assert_eq!(scene.namespaces().await, ["shop"]);
}

#[tokio::test]
async fn many_named_namespaces_are_watched_together() {
    let names: Vec<String> = (0..21).map(|at| format!("ns-{at:02}")).collect();
    let many =
        names.iter().fold(Cluster::new().namespace("other"), |all, name| all.namespace(name.as_str()).pod(job("web")));
    let include: Vec<&str> = names.iter().map(String::as_str).collect();

    let scene = Scene::of(&many).include(&include).start().await;
    scene.observer.first_state().await;
    assert_eq!((scene.pods().await.len(), scene.lists()), (21, (2, 0)));

    // Without rights on the cluster each is listed for each report, until these rights are there.
    let user = names.iter().fold(User::named("reader"), |user, name| role(user, name));
    let scene = Scene::of(&many).by(user).include(&include).start().await;
    scene
        .until("it gives up the cluster", |scene| {
            scene.observer.statuses().len() == 1 && scene.pods_source().state == SourceState::Syncing(None)
        })
        .await;
    assert_eq!(scene.pods().await.len(), 21);
    scene.api.delete(Kind::Pods, "ns-00", "web");
    assert_eq!(scene.pods().await.len(), 21, "what ran is carried");
    scene.accept().await;
    assert_eq!(scene.pods().await.len(), 20);
    scene.api.set_user(User::reader("reader").token("secret"));
    scene.pods().await;
    scene.is_watching().await;
    assert_eq!(scene.pods().await.len(), 20);
}

#[tokio::test]
async fn lists_for_each_report_keep_what_was_seen_to_run() {
    let scene = Scene::of(&cluster()).polling().start().await;
    scene.observer.first_state().await;
    assert_eq!(scene.pods().await, ["shop/web: job:1", "test/other: job:1"]);
    scene.api.delete(Kind::Pods, "test", "other");
    scene.api.delete(Kind::Namespaces, "", "test");
    assert_eq!(scene.pods().await, ["shop/web: job:1", "test/other: job:1"]);
    assert_eq!(scene.namespaces().await, ["shop", "test"]);
    scene.accept().await;
    assert_eq!(
        (scene.pods().await, scene.namespaces().await),
        (vec!["shop/web: job:1".to_owned()], vec!["shop".to_owned()])
    );
    assert_eq!(scene.api.watch_count(Kind::Pods), 0);
}

#[tokio::test]
async fn a_list_that_fails_makes_no_picture() {
    let scene = Scene::of(&cluster()).polling().start().await;
    scene.pods().await;
    scene.api.inject(Requests::to(PODS), failure(400, "BadRequest", "no"));
    let error = scene.picture().await.expect_err("the list failed");
    assert!(matches!(error, NoPicture::Collect(_)), "{error}");
    assert!(matches!(scene.pods_source().state, SourceState::Stale { .. }));
    scene.api.clear_faults();
    assert_eq!(scene.pods().await, ["shop/web: job:1", "test/other: job:1"]);
}
