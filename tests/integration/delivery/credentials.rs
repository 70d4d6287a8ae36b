//! User and password from files: read as they are when they are used.

use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::json;
use testbed::anchore::EnterpriseOptions;
use testbed::anchore::tenancy::User;

use super::relay::Relay;
use super::{SHOP_ARRIVED, Scene, V2, namespaces, not_accepted, post};
use crate::agent::{Agent, Run};

/// An agent whose user and password are in files.
fn with_files(scene: &Scene, user: &str, password: &str) -> Agent {
    Agent::new()
        .reads(&scene.api)
        .set("anchore.url", scene.enterprise.url())
        .set("anchore.user-file", "user")
        .set("anchore.password-file", "password")
        .file("user", user)
        .file("password", password)
}

#[rstest]
#[case("admin", "foobar")]
#[case("admin\n", "foobar\n")]
#[case("admin\r\n", "foobar\r\n")]
#[tokio::test]
async fn one_line_end_at_the_end_of_a_file_is_cut(#[case] user: &str, #[case] password: &str) {
    let scene = Scene::new().await;

    let run = with_files(&scene, user, password).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.arrived(), SHOP_ARRIVED);
}

#[rstest]
#[case::blanks(" pass word ", " pass word \n")]
#[case::a_second_line_end("foobar\n", "foobar\n\n")]
#[case::other_letters("pä:ss→", "pä:ss→")]
#[tokio::test]
async fn all_else_in_a_file_belongs_to_the_password(#[case] password: &str, #[case] content: &str) {
    let scene = Scene::with(EnterpriseOptions::default().user(User::of("admin", "agent", password))).await;

    let run = with_files(&scene, "agent", content).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.arrived(), ["admin from agent: blog, shop"]);
}

#[tokio::test]
async fn a_route_has_its_own_files() {
    let options = EnterpriseOptions::default().account("blog").user(User::of("blog", "blogger", "pw"));
    let scene = Scene::with(options).await;
    let route = json!({"user-file": "route-user", "password-file": "route-password", "namespaces": ["blog"]});

    let agent = scene.agent().set("account-routes", json!({"blog": route}));
    let run = agent.file("route-user", "blogger\n").file("route-password", "pw\n").run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.arrived_in_any_order(), ["admin from admin: shop", "blog from blogger: blog"]);
}

#[rstest]
#[case::empty("", "is empty")]
#[case::one_line_end("\n", "is empty")]
#[tokio::test]
async fn an_empty_file_is_said(#[case] content: &str, #[case] reason: &str) {
    let scene = Scene::new().await;

    let run = with_files(&scene, "admin", content).run().await;

    let reason = format!("the password for the account admin is in FOLDER/password, which {reason}");
    assert_eq!(run, Run::failed(&[&not_accepted(&reason, "admin", 1)]));
    assert!(scene.asked().is_empty());
}

#[tokio::test]
async fn a_missing_file_is_said_and_concerns_its_account_alone() {
    let scene = Scene::with(EnterpriseOptions::default().account("blog")).await;
    let route = json!({"user": "blogger", "password-file": "missing", "namespaces": ["blog"]});

    let run = scene.agent().set("account-routes", json!({"blog": route})).run().await;

    let reason = "the password for the account blog is in FOLDER/missing, which cannot be read: No such file or directory (os \
                  error 2)";
    assert_eq!(run, Run::failed(&[&not_accepted(reason, "blog", 1)]));
    assert_eq!(scene.arrived(), ["admin from admin: shop"]);
}

#[tokio::test]
async fn a_password_that_changes_while_it_is_refused_is_tried_at_once() {
    let scene = Scene::of(&namespaces(&["a", "b"]), EnterpriseOptions::default()).await;
    let relay = Relay::before(scene.enterprise.address()).await;
    let agent = with_files(&scene, "admin", "outdated").set("anchore.url", relay.url());
    let password = agent.path("password");
    let running = agent.set("inventory-report-limits.namespaces", 1).start();

    scene.asked_for(1).await;
    std::fs::write(password, "foobar\n").expect("written");
    relay.release();
    let run = running.ended().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.asked(), vec![post("admin", "admin"); 3]);
    assert_eq!(scene.arrived(), ["admin from admin: a", "admin from admin: b"]);
}

#[tokio::test]
async fn a_password_that_was_replaced_by_another_wrong_one_is_refused_for_good() {
    let scene = Scene::new().await;
    let relay = Relay::before(scene.enterprise.address()).await;
    let agent = with_files(&scene, "admin", "outdated").set("anchore.url", relay.url());
    let password = agent.path("password");
    let running = agent.start();

    scene.asked_for(1).await;
    std::fs::write(password, "outdated-too\n").expect("written");
    relay.release();
    let run = running.ended().await;

    let reason = format!(
        "{}{V2} answered 401 Unauthorized (Unauthorized): check anchore.user and anchore.password, or those of the \
         account's route",
        relay.url()
    );
    assert_eq!(run, Run::failed(&[&not_accepted(&reason, "admin", 1)]));
    assert_eq!(scene.asked(), vec![post("admin", "admin"); 2]);
}
