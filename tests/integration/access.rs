//! Rights and selected namespaces: what is read, and what is said of the rest.

use std::time::Duration;

use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::json;
use testbed::cluster::Cluster;
use testbed::cluster::pod::Pod;
use testbed::kubernetes::KubernetesOptions;
use testbed::kubernetes::access::{User, Verb};
use testbed::objects::Kind;
use testbed::server::fault::{Answer, Fault, Requests};

use crate::agent::{Agent, Run, asked, lines};
use crate::scene::Scene;

const TOKEN: &str = "the-token";

const SHOP: [&str; 2] = ["namespace shop", "pod shop/web-0: nginx:1.27"];
const PAYMENT: [&str; 2] = ["namespace payment", "pod payment/api-0: payment:7"];
const BOTH: [&str; 4] = [PAYMENT[0], SHOP[0], PAYMENT[1], SHOP[1]];

/// Two namespaces with a pod each, which no node is known of: most users here may not read nodes.
fn two_namespaces() -> Cluster {
    Cluster::new()
        .namespace("payment")
        .pod(Pod::running("api-0").image("payment:7"))
        .namespace("shop")
        .pod(Pod::running("web-0").image("nginx:1.27"))
}

fn agent_user() -> User {
    User::named("agent").token(TOKEN)
}

/// A user with a Role of all that is needed in `namespace`.
fn reader_in(user: User, namespace: &str) -> User {
    user.may_in(namespace, Verb::Get, Kind::Namespaces).may_in(namespace, Verb::List, Kind::Pods)
}

fn left_out(namespace: &str, reason: &str) -> String {
    format!("a namespace could not be read and is left out of the report: {reason} namespace=\"{namespace}\"")
}

fn may_not(verb: &str, resource: &str, object: &str, namespace: &str) -> String {
    format!(
        "not allowed (403): {object} is forbidden: User \"agent\" cannot {verb} resource \"{resource}\" in API group \"\" \
         in the namespace \"{namespace}\"; grant `{verb}` on {resource} in this namespace"
    )
}

// Rights.

#[tokio::test]
async fn d22_a_role_in_each_included_namespace_is_enough() {
    let user = reader_in(reader_in(agent_user(), "shop"), "payment");
    let scene = Scene::for_user(&two_namespaces(), user).await;

    let run = scene.run_with("-n shop,payment").await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&BOTH)]));
    let expected = [
        "/api/v1/namespaces/payment",
        "/api/v1/namespaces/payment/pods",
        "/api/v1/namespaces/shop",
        "/api/v1/namespaces/shop/pods",
        "/api/v1/nodes",
        "/version",
    ];
    assert_eq!(asked(&scene.api), expected);
}

#[tokio::test]
async fn few_included_namespaces_are_read_by_name_also_with_all_rights() {
    let scene = Scene::for_user(&two_namespaces(), User::reader("agent").token(TOKEN)).await;

    let run = scene.run_with("-n shop").await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    let expected = ["/api/v1/namespaces/shop", "/api/v1/namespaces/shop/pods", "/api/v1/nodes", "/version"];
    assert_eq!(asked(&scene.api), expected);
}

#[tokio::test]
async fn a_server_of_json_alone_is_read_by_name_too() {
    let api = KubernetesOptions::default().cluster(&two_namespaces()).json_only().start().await.expect("started");

    let run = Agent::new().reads(&api).with("-n shop -o json").run().await;

    assert_eq!((run.code, run.stderr.as_str(), run.outline()), (Some(0), "", lines(&SHOP)));
}

#[tokio::test]
async fn a_role_without_get_on_its_namespace_is_named() {
    let user = reader_in(agent_user(), "payment").may_in("shop", Verb::List, Kind::Pods);
    let scene = Scene::for_user(&two_namespaces(), user).await;

    let run = scene.run_with("-n shop,payment").await;

    let reason = may_not("get", "namespaces", "namespaces \"shop\"", "shop");
    assert_eq!(run, Run::failed(&[&left_out("shop", &reason)]));
    assert_eq!(scene.reported(), [PAYMENT]);
}

#[tokio::test]
async fn a_role_without_list_on_pods_is_named() {
    let user = reader_in(agent_user(), "payment").may_in("shop", Verb::Get, Kind::Namespaces);
    let scene = Scene::for_user(&two_namespaces(), user).await;

    let run = scene.run_with("-n shop,payment").await;

    assert_eq!(run, Run::failed(&[&left_out("shop", &may_not("list", "pods", "pods", "shop"))]));
    assert_eq!(scene.reported(), [PAYMENT]);
}

#[rstest]
#[case::without_any_right(agent_user(), may_not("get", "namespaces", "namespaces \"shop\"", "shop"))]
#[case::without_the_right_to_pods(
    agent_user().may_in("shop", Verb::Get, Kind::Namespaces),
    may_not("list", "pods", "pods", "shop")
)]
#[tokio::test]
async fn when_no_included_namespace_can_be_read_nothing_is_sent(#[case] user: User, #[case] reason: String) {
    let scene = Scene::for_user(&two_namespaces(), user).await;

    let run = scene.run_with("-n shop").await;

    assert_eq!(run, Run::failed(&[&left_out("shop", &reason), "no namespace could be read, so nothing is reported"]));
    assert!(scene.enterprise.requests().is_empty());
}

#[tokio::test]
async fn that_no_namespace_can_be_read_is_said_once() {
    let api =
        KubernetesOptions::default().cluster(&two_namespaces()).user(agent_user()).start().await.expect("started");

    let run = Agent::new().reads_as(&api, &agent_user()).with("-n shop -o json").loudly().run().await;

    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("no namespace could be read, so nothing is reported"), "{}", run.stderr);
    assert!(!run.stderr.contains("there is nothing to report"), "{}", run.stderr);
}

#[tokio::test]
async fn d5_pods_that_may_be_listed_in_some_namespaces_are_read_there() {
    let user = agent_user().may(Verb::List, Kind::Namespaces).may_in("shop", Verb::List, Kind::Pods);
    let scene = Scene::for_user(&two_namespaces(), user).await;

    let run = scene.run_with("").await;

    assert_eq!(run, Run::failed(&[&left_out("payment", &may_not("list", "pods", "pods", "payment"))]));
    assert_eq!(scene.reported(), [SHOP]);
}

#[tokio::test]
async fn one_namespace_that_fails_does_not_cost_the_others() {
    let user = agent_user().may(Verb::List, Kind::Namespaces);
    let user = reader_in(reader_in(user, "shop"), "payment");
    let scene = Scene::for_user(&two_namespaces(), user).await;
    scene.api.inject(Requests::to("/api/v1/namespaces/payment/pods"), Answer::status(500));

    let run = scene.run_with("").await;

    let reason = "the API server failed (500): it gave no reason";
    assert_eq!(run, Run::failed(&[&left_out("payment", reason)]));
    assert_eq!(scene.reported(), [SHOP]);
}

#[tokio::test]
async fn d50_nodes_that_may_not_be_listed_are_one_line_of_log() {
    let user = agent_user().may(Verb::List, Kind::Namespaces).may(Verb::List, Kind::Pods);
    let scene = Scene::for_user(&two_namespaces().node("n1"), user).await;

    let run = scene.agent().loudly().run().await;

    assert_eq!((run.code, run.stdout.as_str()), (Some(0), ""));
    assert_eq!(scene.reported(), [BOTH]);
    let about_nodes: Vec<&str> = run.stderr.lines().filter(|line| line.contains("nodes may not be listed")).collect();
    assert_eq!(about_nodes.len(), 1, "{}", run.stderr);
    assert!(about_nodes[0].contains(" INFO ") && !run.stderr.contains(" WARN "), "{}", run.stderr);
}

#[tokio::test]
async fn d4_without_the_right_to_list_namespaces_nothing_is_reported() {
    let scene =
        Scene::for_user(&two_namespaces(), agent_user().may(Verb::List, Kind::Pods).may(Verb::List, Kind::Nodes)).await;

    let sent = scene.run_with("").await;
    let printed = scene.run_with("-o json").await;

    let sentence = "the namespaces could not be listed, so nothing is reported: not allowed (403): namespaces is \
                    forbidden: User \"agent\" cannot list resource \"namespaces\" in API group \"\" at the cluster scope. \
                    Grant `list` on namespaces, or name those you may read in namespace-selectors.include";
    assert_eq!(sent, Run::failed(&[sentence]));
    assert_eq!(printed, sent);
    assert!(scene.enterprise.requests().is_empty());
}

/// `team-00` to `team-24`, with a pod each.
fn many_teams() -> Cluster {
    (0..25).fold(Cluster::new(), |cluster, at| {
        cluster.namespace(format!("team-{at:02}").as_str()).pod(Pod::running("app").image("app:3"))
    })
}

fn names_of_teams() -> String {
    (0..25).map(|at| format!("team-{at:02}")).collect::<Vec<_>>().join(",")
}

#[tokio::test]
async fn many_included_namespaces_are_read_with_all_others_where_the_rights_allow() {
    let scene = Scene::for_user(&many_teams().namespace("other"), User::reader("agent").token(TOKEN)).await;

    let run = scene.run_with(&format!("-n {}", names_of_teams())).await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.enterprise.accepted()[0].namespaces, 25);
    assert_eq!(asked(&scene.api), ["/api/v1/namespaces", "/api/v1/nodes", "/api/v1/pods", "/version"]);
}

#[tokio::test]
async fn many_included_namespaces_are_read_by_name_where_only_roles_exist() {
    let user = (0..25).fold(agent_user(), |user, at| reader_in(user, &format!("team-{at:02}")));
    let scene = Scene::for_user(&many_teams(), user).await;

    let run = scene.run_with(&format!("-n {}", names_of_teams())).await;

    assert_eq!(run, Run::succeeded());
    let accepted = &scene.enterprise.accepted()[0];
    assert_eq!((accepted.namespaces, accepted.pods), (25, 25));
    let by_name = asked(&scene.api).into_iter().filter(|path| path.starts_with("/api/v1/namespaces/team-")).count();
    assert_eq!(by_name, 50);
}

#[rstest]
#[case::by_default(None, 8)]
#[case::one_at_a_time(Some(1), 1)]
#[case::no_more_than_configured(Some(3), 3)]
#[tokio::test]
async fn d21_reading_by_name_sends_few_requests_at_once(#[case] pool: Option<u32>, #[case] most: usize) {
    let user =
        (0..25).fold(agent_user().may(Verb::List, Kind::Nodes), |user, at| reader_in(user, &format!("team-{at:02}")));
    let scene = Scene::for_user(&many_teams(), user).await;
    scene.api.inject(Requests::to("*"), Fault::Delay(Duration::from_millis(10)));
    let agent = scene.agent().with(&format!("-n {}", names_of_teams()));

    let run = match pool {
        None => agent.run().await,
        Some(size) => agent.set("kubernetes.worker-pool-size", size).run().await,
    };

    assert_eq!(run, Run::succeeded());
    let peak = scene.api.peak_concurrency();
    assert!(peak <= most, "{peak} requests at once");
}

#[tokio::test]
async fn a_server_that_falls_silent_is_not_waited_for_in_every_namespace() {
    let scene = Scene::for_user(&many_teams(), User::reader("agent").token(TOKEN)).await;
    scene.api.inject(Requests::to("/api/v1/namespaces/*/pods"), Fault::NeverAnswers);
    let included = names_of_teams().split(',').take(20).collect::<Vec<_>>().join(",");

    let run = scene.agent().impatient().with(&format!("-n {included}")).run().await;

    assert_eq!((run.code, run.stdout.as_str(), run.stderr.lines().count()), (Some(1), "", 21), "{}", run.stderr);
    assert!(run.stderr.ends_with("error: no namespace could be read, so nothing is reported\n"), "{}", run.stderr);
    let lists = asked(&scene.api).into_iter().filter(|path| path.contains("/pods")).count();
    assert!(lists < 20 * 3, "{lists} requests to a server that answers none");
    assert!(scene.enterprise.requests().is_empty());
}

// Which namespaces.

#[tokio::test]
async fn d39_an_included_namespace_that_does_not_exist_is_a_warning() {
    let scene = Scene::for_user(&two_namespaces(), User::reader("agent").token(TOKEN)).await;

    let run = scene.agent().with("-n shop,shpo,shop").loudly().run().await;

    assert_eq!(run.code, Some(0));
    assert_eq!(scene.reported(), [SHOP]);
    let warnings: Vec<&str> = run.stderr.lines().filter_map(|line| Some(line.split_once(" WARN ")?.1)).collect();
    assert_eq!(warnings, ["a namespace in namespace-selectors.include does not exist namespace=\"shpo\""]);
}

#[tokio::test]
async fn d39_when_no_included_namespace_exists_nothing_is_sent() {
    let scene = Scene::for_user(&two_namespaces(), User::reader("agent").token(TOKEN)).await;

    let run = scene.run_with("-n shpo,../pods").await;

    let sentence =
        "none of the namespaces in namespace-selectors.include exists, so nothing is reported: shpo, ../pods";
    assert_eq!(run, Run::failed(&[sentence]));
    assert_eq!(asked(&scene.api), ["/api/v1/namespaces/shpo", "/version"]);
    assert!(scene.enterprise.requests().is_empty());
}

#[tokio::test]
async fn excluded_namespaces_are_not_read_even_when_they_are_included() {
    let scene = Scene::for_user(&two_namespaces(), User::reader("agent").token(TOKEN)).await;

    let run = scene.agent().with("-n shop,payment").set("namespace-selectors.exclude", json!(["^pay"])).run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    assert!(asked(&scene.api).iter().all(|path| !path.contains("payment")));
}
