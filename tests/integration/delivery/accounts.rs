//! Accounts beside each other: whose namespaces go where and as whom, what the default account takes over, and that one
//! account's trouble is its own.

use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::{Value, json};
use testbed::anchore::EnterpriseOptions;
use testbed::anchore::tenancy::{Role, User};
use testbed::server::fault::{Answer, Fault, Requests};

use super::{Scene, V2, namespaces, not_accepted, post, sorted, sorted_lines};
use crate::agent::{Run, outlines};

const ROLE: &str = "give the user a role in the account that may send inventories (inventory-agent), and check that the \
                    account exists and is enabled";
const PATH: &str = "check the account's name, the path in anchore.url, and that Anchore Enterprise is 4.8 or newer";
const CREDENTIALS: &str = "check anchore.user and anchore.password, or those of the account's route";

/// Accounts of these names, each with a user of the name `<account>-user` and the password `pw`.
fn tenants(names: &[&str]) -> EnterpriseOptions {
    names.iter().fold(EnterpriseOptions::default(), |options, name| {
        options.account(name).user(User::of(name, &format!("{name}-user"), "pw"))
    })
}

/// A route of a namespace to the account of the same name, as that account's own user.
fn own_user(account: &str) -> Value {
    json!({"user": format!("{account}-user"), "password": "pw", "namespaces": [account]})
}

/// A route of a namespace to the account of the same name, as the global user.
fn global_user(account: &str) -> Value {
    json!({"namespaces": [account]})
}

fn routes(of: fn(&str) -> Value, accounts: &[&str]) -> Value {
    accounts.iter().map(|account| ((*account).to_owned(), of(account))).collect::<serde_json::Map<_, _>>().into()
}

// Routing.

#[tokio::test]
async fn each_account_gets_its_namespaces_from_its_user_and_the_default_account_the_rest() {
    let cluster = namespaces(&["alpha", "beta", "gamma"]);
    let scene = Scene::of(&cluster, tenants(&["alpha", "beta"])).await;
    let routes = json!({"alpha": own_user("alpha"), "beta": global_user("beta")});

    let run = scene.agent().set("account-routes", routes).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(
        scene.arrived_in_any_order(),
        ["admin from admin: gamma", "alpha from alpha-user: alpha", "beta from admin: beta"]
    );
    assert_eq!(
        outlines(&scene.enterprise, "alpha"),
        [["node n1", "namespace alpha", "pod alpha/alpha-0 on n1: alpha:1"]]
    );
}

#[tokio::test]
async fn a_namespace_goes_once_to_every_account_whose_routes_match_it() {
    let scene = Scene::of(&namespaces(&["shop"]), tenants(&["alpha", "beta"])).await;
    let routes = json!({"alpha": {"namespaces": ["shop", "sh.*"]}, "beta": {"namespaces": ["^shop$"]}});

    let run = scene.agent().set("account-routes", routes).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.arrived_in_any_order(), ["alpha from admin: shop", "beta from admin: shop"]);
}

#[tokio::test]
async fn a_label_chooses_the_account_where_no_route_does() {
    let cluster = namespaces(&["alpha", "beta"]).namespace("plain");
    let scene = Scene::of(&cluster, tenants(&["alpha", "beta", "gamma"])).await;

    let run = scene
        .agent()
        .set("account-routes", json!({"gamma": {"namespaces": ["alpha"]}}))
        .set("account-route-by-namespace-label", json!({"key": "account", "default-account": "admin"}))
        .set("metadata-collection.namespaces.disable", true)
        .run()
        .await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(
        scene.arrived_in_any_order(),
        ["admin from admin: plain", "beta from admin: beta", "gamma from admin: alpha"]
    );
}

#[tokio::test]
async fn an_account_name_keeps_its_case_on_its_way() {
    let scene = Scene::with(EnterpriseOptions::default().account("Team-Blue")).await;

    let run = scene.agent().set("anchore.account", "Team-Blue").run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.arrived(), ["Team-Blue from admin: blog, shop"]);
}

// Accounts that the server does not know.

#[tokio::test]
async fn reports_of_an_unknown_account_go_to_the_default_account_once_that_is_known() {
    let scene = Scene::of(&namespaces(&["a", "b", "c"]), EnterpriseOptions::default()).await;

    let run = scene
        .agent()
        .set("account-routes", json!({"ghost": {"namespaces": [".*"]}}))
        .set("inventory-report-limits.namespaces", 1)
        .run()
        .await;

    assert_eq!(run, Run::succeeded());
    let to_default = post("admin", "admin");
    assert_eq!(scene.asked(), [post("ghost", "admin"), to_default.clone(), to_default.clone(), to_default]);
    assert_eq!(scene.arrived(), ["admin from admin: a", "admin from admin: b", "admin from admin: c"]);
}

#[tokio::test]
async fn a_right_that_misses_in_the_account_counts_as_an_unknown_account() {
    let options = tenants(&["home"]).user(User::of("home", "agent", "pw").with_role("home", Role::ReportsOnly));
    let scene = Scene::of(&namespaces(&["a"]), options).await;

    let run = scene
        .agent()
        .set("anchore.user", "agent")
        .set("anchore.password", "pw")
        .set("anchore.account", "home")
        .set("account-routes", json!({"elsewhere": {"namespaces": ["a"]}}))
        .run()
        .await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.asked(), [post("elsewhere", "agent"), post("home", "agent")]);
    assert_eq!(scene.arrived(), ["home from agent: a"]);
}

#[tokio::test]
async fn the_default_account_gets_them_from_its_own_user() {
    let scene = Scene::of(&namespaces(&["a", "home"]), tenants(&["home"])).await;

    let run = scene
        .agent()
        .set("account-routes", json!({"ghost": {"namespaces": ["a"]}, "home": own_user("home")}))
        .set("account-route-by-namespace-label.default-account", "home")
        .run()
        .await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(
        scene.asked_in_any_order(),
        sorted(vec![post("ghost", "admin"), post("home", "home-user"), post("home", "home-user")])
    );
    assert_eq!(scene.arrived_in_any_order(), ["home from home-user: a", "home from home-user: home"]);
}

#[tokio::test]
async fn a_takeover_is_said_in_the_log() {
    let scene = Scene::of(&namespaces(&["a"]), EnterpriseOptions::default()).await;

    let run = scene.agent().set("account-routes", json!({"ghost": {"namespaces": ["a"]}})).loudly().run().await;

    assert_eq!(run.code, Some(0));
    let warnings: Vec<&str> = run.stderr.lines().filter_map(|line| Some(line.split_once(" WARN ")?.1)).collect();
    let expected = format!(
        "Anchore does not know the account, its reports go to the default account account=\"ghost\" \
         fallback=\"admin\" error={}{V2} answered 404 Not Found (User account not found. Name=ghost): {PATH}",
        scene.enterprise.url()
    );
    assert_eq!(warnings, [expected]);
}

#[rstest]
#[case::unknown("ghost", "admin", "foobar", &format!("404 Not Found (User account not found. Name=ghost): {PATH}"))]
#[case::without_a_right("home", "agent", "pw", &format!(
    "403 Forbidden (Not authorized. Requires permissions: domain=home action=syncInventory target=): {ROLE}"
))]
#[tokio::test]
async fn a_default_account_that_is_refused_itself_is_not_asked_twice(
    #[case] account: &str,
    #[case] user: &str,
    #[case] password: &str,
    #[case] said: &str,
) {
    let options = tenants(&["home", "other"]).user(User::of("other", "agent", "pw"));
    let scene = Scene::of(&namespaces(&["a"]), options).await;
    let agent = scene.agent().set("anchore.account", account).set("anchore.user", user);

    let run = agent.set("anchore.password", password).run().await;

    let reason = format!("{}{V2} answered {said}", scene.enterprise.url());
    assert_eq!(run, Run::failed(&[&not_accepted(&reason, account, 1)]));
    assert_eq!(scene.asked(), [post(account, user)]);
}

#[tokio::test]
async fn a_default_account_that_refuses_what_it_takes_over_ends_it() {
    let scene = Scene::of(&namespaces(&["a"]), EnterpriseOptions::default()).await;

    let run = scene
        .agent()
        .set("account-routes", json!({"ghost": {"namespaces": ["a"]}}))
        .set("anchore.account", "ghost-too")
        .run()
        .await;

    let unknown = |name: &str| {
        format!("{}{V2} answered 404 Not Found (User account not found. Name={name}): {PATH}", scene.enterprise.url())
    };
    let reason =
        format!("{}; sent to the default account ghost-too, because {}", unknown("ghost-too"), unknown("ghost"));
    assert_eq!(run, Run::failed(&[&not_accepted(&reason, "ghost-too", 1)]));
    assert_eq!(scene.asked(), [post("ghost", "admin"), post("ghost-too", "admin")]);
}

// Passwords.

#[tokio::test]
async fn a_refused_user_is_asked_for_once_for_all_its_accounts_and_other_users_are_not_touched() {
    let accounts = ["alpha", "beta", "delta", "gamma"];
    let scene = Scene::of(&namespaces(&accounts), tenants(&accounts)).await;
    let mut routes = routes(global_user, &accounts[..3]);
    routes["gamma"] = own_user("gamma");

    let run = scene.agent().set("anchore.password", "wrong").set("account-routes", routes).run().await;

    let refused = format!("{}{V2} answered 401 Unauthorized (Unauthorized): {CREDENTIALS}", scene.enterprise.url());
    let not_sent = format!("not sent, because the user admin was refused before: {refused}");
    let expected =
        [not_accepted(&refused, "alpha", 1), not_accepted(&not_sent, "beta", 1), not_accepted(&not_sent, "delta", 1)];
    assert_eq!(run.code, Some(1));
    assert_eq!(sorted_lines(&run.stderr), sorted(expected.map(|line| format!("error: {line}")).into()));
    assert_eq!(scene.asked_in_any_order(), sorted(vec![post("alpha", "admin"), post("gamma", "gamma-user")]));
    assert_eq!(scene.arrived(), ["gamma from gamma-user: gamma"]);
}

#[tokio::test]
async fn a_refused_user_s_other_batches_are_not_sent() {
    let scene = Scene::of(&namespaces(&["a", "b", "c"]), EnterpriseOptions::default()).await;
    let agent = scene.agent().set("anchore.password", "wrong").set("inventory-report-limits.namespaces", 1);

    let run = agent.run().await;

    let refused = scene.answered(&format!("401 Unauthorized (Unauthorized): {CREDENTIALS}"));
    let rest = "the other batches of the account are not sent either account=\"admin\" not_sent=2";
    assert_eq!(run, Run::failed(&[&refused, rest]));
    assert_eq!(scene.asked(), [post("admin", "admin")]);
}

#[tokio::test]
async fn one_api_key_s_refusal_does_not_concern_another() {
    let accounts = ["alpha", "beta"];
    let options = accounts.iter().fold(EnterpriseOptions::default(), |options, account| {
        let user = User::of(account, &format!("{account}-user"), "pw").with_api_key(&format!("{account}-key"));
        options.account(account).user(user)
    });
    let scene = Scene::of(&namespaces(&accounts), options).await;
    let route = |account: &str, key: &str| json!({"user": "_api_key", "password": key, "namespaces": [account]});
    let routes = json!({"alpha": route("alpha", "expired-key"), "beta": route("beta", "beta-key")});

    let run = scene.agent().set("account-routes", routes).run().await;

    let refused = format!("{}{V2} answered 401 Unauthorized (Unauthorized): {CREDENTIALS}", scene.enterprise.url());
    assert_eq!(run, Run::failed(&[&not_accepted(&refused, "alpha", 1)]));
    assert_eq!(scene.arrived(), ["beta from beta-user: beta"]);
}

#[tokio::test]
async fn an_account_without_credentials_is_said_and_the_others_are_sent() {
    let scene = Scene::of(&namespaces(&["alpha", "rest"]), tenants(&["alpha"])).await;
    let url = scene.enterprise.url();
    let agent = crate::agent::Agent::new().reads(&scene.api).set("anchore.url", url);

    let run = agent.set("account-routes", json!({"alpha": own_user("alpha")})).run().await;

    let reason = "there is no user and password for the account admin: set anchore.user and anchore.password, or those \
                  of a route of this account";
    assert_eq!(run, Run::failed(&[&not_accepted(reason, "admin", 1)]));
    assert_eq!(scene.arrived(), ["alpha from alpha-user: alpha"]);
}

// One account's trouble.

#[rstest]
#[case::rejected(Answer::status(400).into())]
#[case::held(Answer::status(403).into())]
#[case::failing(Answer::status(500).into())]
#[case::silent(Fault::NeverAnswers)]
#[case::breaking(Fault::Resets { after: 0 })]
#[tokio::test]
async fn one_account_s_trouble_is_not_another_s(
    #[case] fault: Fault,
    #[values(own_user, global_user)] route: fn(&str) -> Value,
) {
    let accounts = ["alpha", "beta", "delta", "gamma", "omega"];
    let scene = Scene::of(&namespaces(&accounts), tenants(&accounts)).await;
    scene.enterprise.inject(Requests::to("*").first(1), fault);

    let run = scene
        .agent()
        .set("account-routes", routes(route, &accounts))
        .set("anchore.http.timeout-seconds", 5)
        .set("anchore.http.retry-seconds", 0)
        .run()
        .await;

    assert_eq!(run.code, Some(1));
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    let asked = scene.asked();
    assert_eq!(asked.len(), accounts.len(), "each is asked for once: {asked:?}");
    let arrived = scene.arrived_in_any_order();
    let user = |account: &str| route(account)["user"].as_str().unwrap_or("admin").to_owned();
    let unlucky = accounts.iter().find(|account| asked[0] == post(account, &user(account)));
    let lucky = accounts.iter().filter(|account| Some(*account) != unlucky);
    let expected = lucky.map(|account| format!("{account} from {}: {account}", user(account)));
    assert_eq!(arrived, expected.collect::<Vec<_>>());
    assert!(run.stderr.contains(&format!("account=\"{}\"", unlucky.expect("one of them"))), "{}", run.stderr);
}

#[tokio::test]
async fn an_account_that_waits_for_its_next_try_does_not_delay_the_others() {
    let accounts = ["alpha", "beta"];
    let scene = Scene::of(&namespaces(&accounts), tenants(&accounts)).await;
    scene.enterprise.inject(Requests::to("*").first(1), Answer::status(503).retry_after("3"));

    let run = scene.agent().set("account-routes", routes(own_user, &accounts)).run().await;

    assert_eq!(run, Run::succeeded());
    let asked = scene.asked();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0], asked[2], "the one that had to wait comes last");
    assert_eq!(scene.arrived_in_any_order(), ["alpha from alpha-user: alpha", "beta from beta-user: beta"]);
}

#[tokio::test]
async fn no_more_than_four_requests_are_open_at_a_time() {
    let accounts: Vec<String> = (b'a'..=b'l').map(|letter| char::from(letter).to_string()).collect();
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    let scene = Scene::of(&namespaces(&accounts), tenants(&accounts)).await;
    scene.enterprise.inject(Requests::to("*"), Fault::Delay(std::time::Duration::from_millis(200)));

    let run = scene.agent().set("account-routes", routes(own_user, &accounts)).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.arrived().len(), accounts.len());
    assert!(scene.enterprise.peak_concurrency() <= 4);
}
