//! Proxies on the way to Anchore Enterprise: from the settings, from the environment, with a password, and in trouble.

use std::sync::Arc;

use http::Method;
use pretty_assertions::assert_eq;
use rstest::rstest;
use testbed::anchore::EnterpriseOptions;
use testbed::cluster::Cluster;
use testbed::proxy::{ProxiedRequest, Proxy};
use testbed::server::closed_port::ClosedPort;
use testbed::server::tls::Authority;

use super::{SHOP, Scene, V2, namespaces, not_accepted, post, shop};
use crate::agent::{Agent, Run, outlines};

const PASSWORD: &str = "canary-proxy-password";

/// What a proxy is asked to fetch, or to connect to.
fn asked_of(proxy: &Proxy) -> Vec<String> {
    let line = |request: ProxiedRequest| {
        let refused = if request.allowed { "" } else { " (refused)" };
        format!("{} {}{refused}", request.method, request.target)
    };
    proxy.requests().into_iter().map(line).collect()
}

/// The address of a scene's Enterprise under a name that only the testbed's proxy knows.
fn elsewhere(scene: &Scene, scheme: &str) -> String {
    format!("{scheme}://anchore.example:{}", scene.enterprise.address().port())
}

fn with_password(proxy: &Proxy, password: &str) -> String {
    proxy.url().replace("http://", &format!("http://agent:{password}@"))
}

/// An Enterprise that speaks TLS, and an agent that trusts it.
async fn secure() -> (Scene, Agent) {
    secure_with(&shop()).await
}

async fn secure_with(cluster: &Cluster) -> (Scene, Agent) {
    let authority = Arc::new(Authority::new("Anchore").expect("an authority"));
    let scene = Scene::of(cluster, EnterpriseOptions::default().tls(&authority)).await;
    let url = scene.enterprise.url().replace("127.0.0.1", "localhost");
    let agent = scene.agent().set("anchore.url", url).file("ca.crt", authority.certificate());
    (scene, agent.set("anchore.http.ca-file", "ca.crt"))
}

// Which proxy.

#[tokio::test]
async fn a_proxy_from_the_settings_is_used_for_any_host() {
    let scene = Scene::new().await;
    let proxy = Proxy::start().await.expect("started");

    let run = scene.agent().set("anchore.http.proxy", proxy.url()).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(asked_of(&proxy), [format!("{} {}{V2}", Method::POST, scene.enterprise.url())]);
    assert_eq!(scene.asked(), [post("admin", "admin")]);
    assert_eq!(outlines(&scene.enterprise, "admin"), [SHOP]);
}

#[tokio::test]
async fn a_secure_connection_goes_through_a_tunnel_in_which_the_proxy_sees_nothing() {
    let (scene, agent) = secure().await;
    let proxy = Proxy::start().await.expect("started");

    let run = agent.set("anchore.http.proxy", proxy.url()).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(asked_of(&proxy), [format!("CONNECT localhost:{}", scene.enterprise.address().port())]);
    assert_eq!(outlines(&scene.enterprise, "admin"), [SHOP]);
}

#[tokio::test]
async fn d20_the_reports_of_an_account_share_a_connection() {
    let (scene, agent) = secure_with(&namespaces(&["a", "b", "c", "d", "e"])).await;
    let proxy = Proxy::start().await.expect("started");

    let agent = agent.set("anchore.http.proxy", proxy.url()).set("inventory-report-limits.namespaces", 1);
    let run = agent.run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.arrived().len(), 5);
    let tunnel = format!("CONNECT localhost:{}", scene.enterprise.address().port());
    assert_eq!(asked_of(&proxy), [tunnel]);
}

#[rstest]
#[case("HTTP_PROXY")]
#[case("http_proxy")]
#[tokio::test]
async fn d14_a_proxy_from_the_environment_is_used_for_hosts_elsewhere(#[case] variable: &str) {
    let scene = Scene::new().await;
    let proxy = Proxy::start().await.expect("started");

    let agent = scene.agent().set("anchore.url", elsewhere(&scene, "http")).variable(variable, &proxy.url());
    let run = agent.run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(asked_of(&proxy), [format!("POST {}{V2}", elsewhere(&scene, "http"))]);
    assert_eq!(outlines(&scene.enterprise, "admin"), [SHOP]);
}

#[tokio::test]
async fn a_proxy_for_https_is_asked_for_a_tunnel_to_hosts_elsewhere() {
    let (scene, agent) = secure().await;
    let proxy = Proxy::start().await.expect("started");
    let url = elsewhere(&scene, "https");

    let agent = agent.set("anchore.url", url).set("anchore.http.insecure", true);
    let run = agent.variable("HTTPS_PROXY", &proxy.url()).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(asked_of(&proxy), [format!("CONNECT anchore.example:{}", scene.enterprise.address().port())]);
    assert_eq!(outlines(&scene.enterprise, "admin"), [SHOP]);
}

#[tokio::test]
async fn a_setting_wins_over_the_environment_and_its_exceptions() {
    let scene = Scene::new().await;
    let (named, other) = (Proxy::start().await.expect("started"), Proxy::start().await.expect("started"));

    let run = scene
        .agent()
        .set("anchore.url", elsewhere(&scene, "http"))
        .set("anchore.http.proxy", named.url())
        .variable("HTTP_PROXY", &other.url())
        .variable("NO_PROXY", "*")
        .run()
        .await;

    assert_eq!(run, Run::succeeded());
    assert_eq!((asked_of(&named).len(), asked_of(&other).len()), (1, 0));
}

#[rstest]
#[case::a_host_on_loopback("HTTP_PROXY", "", "")]
#[case::a_variable_for_https("HTTPS_PROXY", "", "")]
#[case::a_variable_for_all("ALL_PROXY", "", "")]
#[case::a_setting_that_says_so("HTTP_PROXY", "", "direct")]
#[tokio::test]
async fn there_is_no_proxy_for(#[case] variable: &str, #[case] exceptions: &str, #[case] setting: &str) {
    let scene = Scene::new().await;
    let proxy = Proxy::start().await.expect("started");
    let agent = scene.agent().variable(variable, &proxy.url()).variable("NO_PROXY", exceptions);

    let run = agent.set("anchore.http.proxy", setting).run().await;

    assert_eq!(run, Run::succeeded());
    assert!(asked_of(&proxy).is_empty());
    assert_eq!(outlines(&scene.enterprise, "admin"), [SHOP]);
}

#[rstest]
#[case::everything("*")]
#[case::a_name("anchore.example")]
#[case::a_suffix(".example")]
#[case::one_of_several("other.example, anchore.example")]
#[tokio::test]
async fn an_exception_of_the_environment_is_asked_for_itself(#[case] exceptions: &str) {
    let scene = Scene::new().await;
    let proxy = Proxy::start().await.expect("started");

    let run = scene
        .agent()
        .set("anchore.url", elsewhere(&scene, "http"))
        .set("anchore.http.timeout-seconds", 1)
        .set("anchore.http.retry-seconds", 0)
        .variable("HTTP_PROXY", &proxy.url())
        .variable("NO_PROXY", exceptions)
        .run()
        .await;

    // No such host exists, so it must fail; how soon that is known depends on the machine's resolver.
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("anchore.example:"), "{}", run.stderr);
    assert!(!run.stderr.contains("through the proxy"), "{}", run.stderr);
    assert!(asked_of(&proxy).is_empty());
}

// Passwords.

#[tokio::test]
async fn a_proxy_gets_its_own_password_and_the_server_does_not() {
    let scene = Scene::new().await;
    let proxy = Proxy::for_user("agent", PASSWORD).await.expect("started");

    let run = scene.agent().set("anchore.http.proxy", with_password(&proxy, PASSWORD)).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(asked_of(&proxy), [format!("POST {}{V2}", scene.enterprise.url())]);
    let request = &scene.enterprise.requests()[0];
    assert_eq!(request.header("authorization"), "Basic YWRtaW46Zm9vYmFy");
    assert_eq!(request.header("proxy-authorization"), "");
}

#[tokio::test]
async fn a_proxy_gets_its_own_password_for_a_tunnel() {
    let (scene, agent) = secure().await;
    let proxy = Proxy::for_user("agent", PASSWORD).await.expect("started");

    let run = agent.set("anchore.http.proxy", with_password(&proxy, PASSWORD)).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(asked_of(&proxy), [format!("CONNECT localhost:{}", scene.enterprise.address().port())]);
    assert_eq!(scene.enterprise.requests()[0].header("proxy-authorization"), "");
}

#[tokio::test]
async fn a_proxy_that_wants_a_password_is_said() {
    let scene = Scene::new().await;
    let proxy = Proxy::for_user("agent", PASSWORD).await.expect("started");

    let run = scene.agent().set("anchore.http.proxy", proxy.url()).run().await;

    let sentence = scene.answered(
        "407 Proxy Authentication Required (no reason given): give the proxy's user and password in its address",
    );
    assert_eq!(run, Run::failed(&[&sentence]));
    assert_eq!(asked_of(&proxy), [format!("POST {}{V2} (refused)", scene.enterprise.url())]);
    assert!(scene.asked().is_empty());
}

#[tokio::test]
async fn a_proxy_that_wants_a_password_for_a_tunnel_is_said() {
    let (scene, agent) = secure().await;
    let proxy = Proxy::for_user("agent", PASSWORD).await.expect("started");

    let wrong = with_password(&proxy, "canary-wrong-password");
    let run = agent.set("anchore.http.proxy", wrong).run().await;

    let port = scene.enterprise.address().port();
    let reason = format!(
        "no connection to localhost:{port} through the proxy {}, which answered 407 Proxy Authentication Required: give \
         the proxy's user and password in its address",
        proxy.address()
    );
    assert_eq!(run, Run::failed(&[&not_accepted(&reason, "admin", 1)]));
    assert_eq!(asked_of(&proxy), [format!("CONNECT localhost:{port} (refused)")]);
}

// Trouble.

#[rstest]
#[case("http")]
#[case("https")]
#[tokio::test]
async fn a_proxy_that_is_not_there_is_named(#[case] scheme: &str) {
    let scene = Scene::new().await;
    let closed = ClosedPort::bind().expect("a port");
    let address = closed.address().expect("an address");

    let url = scene.enterprise.url().replace("http://", &format!("{scheme}://"));
    let proxy = format!("http://agent:{PASSWORD}@{address}");
    let agent =
        scene.agent().set("anchore.url", url).set("anchore.http.proxy", proxy).set("anchore.http.insecure", true);
    let run = agent.set("anchore.http.retry-seconds", 0).run().await;

    let reason =
        format!("no connection to {} through the proxy {address}: Connection refused (os error 111)", scene.peer());
    assert_eq!(run, Run::failed(&[&not_accepted(&reason, "admin", 1)]));
}

#[tokio::test]
async fn a_proxy_that_cannot_reach_the_server_says_so() {
    let scene = Scene::new().await;
    let proxy = Proxy::start().await.expect("started");
    let closed = ClosedPort::bind().expect("a port");
    let port = closed.address().expect("an address").port();

    let run = scene
        .agent()
        .set("anchore.url", format!("http://anchore.example:{port}"))
        .set("anchore.http.proxy", proxy.url())
        .set("anchore.http.retry-seconds", 0)
        .run()
        .await;

    let reason = format!("http://anchore.example:{port}{V2} answered 502 Bad Gateway (no reason given)");
    assert_eq!(run, Run::failed(&[&not_accepted(&reason, "admin", 1)]));
}

#[rstest]
#[case::variable("HTTPS_PROXY", "")]
#[case::setting("", "anchore.http.proxy")]
#[tokio::test]
async fn an_address_that_is_none_is_refused_before_anything_is_asked_and_not_repeated(
    #[case] variable: &str,
    #[case] key: &str,
) {
    let scene = Scene::new().await;
    let address = format!("ftp://agent:{PASSWORD}@proxy.example");
    let mut agent = scene.agent().set("anchore.url", "https://anchore.example").set("anchore.http.insecure", true);
    agent = if key.is_empty() { agent.variable(variable, &address) } else { agent.set(key, address) };

    let run = agent.run().await;

    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    let place = if key.is_empty() { variable } else { key };
    assert!(run.stderr.contains(place), "{}", run.stderr);
    assert!(!run.stderr.contains(PASSWORD), "{}", run.stderr);
    assert!(scene.api.requests().is_empty());
}
