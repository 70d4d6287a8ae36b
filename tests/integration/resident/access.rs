//! Rights and credentials that are missing, come, go and are renewed.

use pretty_assertions::assert_eq;
use testbed::anchore::EnterpriseOptions;
use testbed::anchore::version::Version;
use testbed::cluster::pod::Pod;
use testbed::kubernetes;
use testbed::kubernetes::access::{User, Verb};
use testbed::objects::Kind;
use testbed::server::fault::Requests;

use super::process::Resident;
use super::{Stage, health_errors};
use crate::agent::Agent;
use crate::scene::{NAMESPACES, NODES, PODS};

const STAYS: [&str; 3] =
    ["pod payment/api-0 on n1: payment:7", "pod shop/web-0 on n1: nginx:1.27", "pod shop/web-1 on n1: nginx:1.27"];

fn reader() -> User {
    User::reader("agent").token("token-1")
}

#[tokio::test]
async fn f14_rights_that_are_revoked_shrink_no_report_and_are_named_until_they_are_back() {
    let options = EnterpriseOptions::default().version(Version::WITHOUT_INTEGRATIONS);
    let stage = Stage::for_user(reader(), options).await;
    let resident = stage.start();
    stage.accepted(2).await;

    stage.api.set_user(User::named("agent").token("token-1"));
    stage.api.close_watches();
    resident.logged("may not be read any more, what was known is kept").await;
    resident.logged("a tick made no report").await;
    stage.enterprise.upgrade(Version::LATEST);
    stage.until("a health report", |enterprise| !enterprise.health_reports().is_empty()).await;
    let errors = health_errors(&stage.enterprise);
    assert!(errors.iter().any(|error| error.contains("could not be confirmed")), "{errors:?}");
    resident.measures("sources{source=\"pods\",state=\"blind\"}", |count| count >= 1.0).await;

    let before = stage.enterprise.accepted().len();
    stage.api.set_user(reader());
    stage.accepted(before + 2).await;

    resident.measures("sources{source=\"pods\",state=\"synced\"}", |count| count >= 1.0).await;
    stage.assert_never_without(&STAYS);
    assert_eq!(resident.log().matches("may not be read any more").count(), 2, "once for each source");
}

#[tokio::test]
async fn f15_refusals_of_a_server_that_has_only_just_started_are_waited_out() {
    let stage = Stage::new().await;
    for path in [PODS, NAMESPACES] {
        stage.api.inject(Requests::to(path).first(2), kubernetes::failure(403, "Forbidden", "not yet"));
    }
    let resident = stage.start();

    stage.accepted(1).await;

    stage.assert_never_without(&STAYS);
    resident.measures("sources{source=\"pods\",state=\"synced\"}", |count| count >= 1.0).await;
}

#[tokio::test]
async fn without_any_rights_it_reports_nothing_and_stays() {
    let stage = Stage::for_user(User::named("agent").token("token-1"), EnterpriseOptions::default()).await;
    let resident = stage.start();

    resident.logged("may not be listed").await;
    resident.logged("a tick made no report").await;
    let reason = resident.answers("/readyz", 503).await;

    assert!(reason.contains("forbidden") || reason.contains("pods"), "{reason}");
    assert!(stage.enterprise.accepted().is_empty() && stage.spooled().is_empty());
    stage.api.set_user(reader());
    stage.accepted(1).await;
    resident.answers("/readyz", 200).await;
    stage.assert_never_without(&STAYS);
}

#[tokio::test]
async fn who_may_list_and_not_watch_is_served_by_lists_and_told_once() {
    let stage = Stage::for_user(User::lister("agent").token("token-1"), EnterpriseOptions::default()).await;
    let resident = stage.start();
    stage.accepted(2).await;

    stage.api.apply_pod("shop", &Pod::running("new-0").image("new:1"));
    stage.reported("pod shop/new-0 on n1: new:1").await;

    assert_eq!(resident.log().matches("may not be watched, so it is listed for each report").count(), 2);
    assert_eq!(resident.get("/readyz").await.0, 200);
    stage.assert_never_without(&STAYS);
}

#[tokio::test]
async fn f16_rights_in_one_namespace_are_enough_for_that_one() {
    let verbs = [Verb::Get, Verb::List, Verb::Watch];
    let user = verbs
        .into_iter()
        .fold(User::named("agent").token("token-1"), |user, verb| user.may_in("shop", verb, Kind::Pods));
    let user = user.may_in("shop", Verb::Get, Kind::Namespaces);
    let options = EnterpriseOptions::default().version(Version::WITHOUT_INTEGRATIONS);
    let stage = Stage::for_user(user, options).await;
    let agent = stage.agent().set("namespace-selectors.include", vec!["shop", "payment"]);
    let resident = Resident::start(agent);
    stage.accepted(2).await;

    stage.api.apply_pod("shop", &Pod::running("new-0").image("new:1"));
    stage.reported("pod shop/new-0: new:1").await;
    stage.enterprise.upgrade(Version::LATEST);
    stage.until("a health report", |enterprise| !enterprise.health_reports().is_empty()).await;

    let errors = health_errors(&stage.enterprise);
    assert!(errors.iter().any(|error| error.starts_with("namespace payment could not be read")), "{errors:?}");
    assert!(!resident.log().contains("(403): not allowed (403)"), "said twice");
    assert!(!stage.outlines().iter().flatten().any(|line| line.contains("payment")));
    stage.assert_never_without(&["namespace shop", "pod shop/web-0: nginx:1.27"]);
    assert_eq!(resident.get("/readyz").await.0, 200);
    assert_eq!(resident.log().matches("namespace payment could not be read and is left out").count(), 1, "said once");
}

#[tokio::test]
async fn nodes_that_may_not_be_listed_are_left_out_and_that_is_no_error() {
    let user = [Kind::Pods, Kind::Namespaces].into_iter().fold(User::named("agent").token("token-1"), |user, kind| {
        [Verb::Get, Verb::List, Verb::Watch].into_iter().fold(user, |user, verb| user.may(verb, kind))
    });
    let options = EnterpriseOptions::default().version(Version::WITHOUT_INTEGRATIONS);
    let stage = Stage::for_user(user, options).await;
    let resident = stage.start();
    stage.accepted(3).await;
    stage.enterprise.upgrade(Version::LATEST);
    stage.until("a health report", |enterprise| !enterprise.health_reports().is_empty()).await;

    assert!(health_errors(&stage.enterprise).is_empty());
    assert_eq!(resident.log().matches("nodes may not be listed").count(), 1);
    stage.assert_never_without(&["pod shop/web-0: nginx:1.27"]);
    let asked = stage.api.requests().iter().filter(|request| request.path == NODES).count();
    assert_eq!(asked, 1, "not with each report");
}

#[tokio::test]
async fn f11_a_token_that_was_rotated_is_read_from_its_file_again() {
    let stage = Stage::for_user(reader(), EnterpriseOptions::default()).await;
    let kubeconfig = stage.api.kubeconfig(&reader()).replace("\"token\": \"token-1\"", "\"tokenFile\": \"token\"");
    let agent = Agent::new().kubeconfig(&kubeconfig).file("token", "token-1").sends_to(&stage.enterprise).resident();
    let token = agent.path("token");
    let agent = agent.set("state.directory", stage.state.path().to_str().expect("text"));
    let resident = Resident::start(agent);
    stage.accepted(1).await;
    stage.api.wait_for_watches(Kind::Pods, 1).await;

    std::fs::write(token, "token-2").expect("written");
    stage.api.set_user(User::reader("agent").token("token-2"));
    stage.api.close_watches();
    stage.api.apply_pod("shop", &Pod::running("new-0").image("new:1"));
    stage.reported("pod shop/new-0 on n1: new:1").await;

    stage.assert_never_without(&STAYS);
    assert!(!resident.log().contains("a tick made no report"), "{}", resident.log());
}
