//! Secrets on the way to Anchore Enterprise are printed nowhere, whatever goes wrong and however much is said.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pretty_assertions::assert_eq;
use rstest::rstest;
use testbed::anchore::EnterpriseOptions;
use testbed::proxy::Proxy;
use testbed::server::fault::{Answer, Fault, Requests};
use testbed::server::tls::Authority;

use super::{Scene, V2};
use crate::agent::Agent;

const PASSWORD: &str = "canary-password-3f9a";
const PROXY_PASSWORD: &str = "canary-proxy-password-77c1";

/// Fails when a secret was printed or logged. The run talks as much as it can, on the console and in a file.
async fn says_no_secret(agent: Agent, code: i32) {
    let agent = agent.set("anchore.http.timeout-seconds", 3).set("anchore.http.retry-seconds", 1);
    let running = agent.loudly().with("-vv -i").set("log.file", "agent.log").start();

    let (run, log) = running.ended_with_file("agent.log").await;

    assert_eq!(run.code, Some(code), "{}", run.stderr);
    assert!(run.stderr.contains(" DEBUG ") && log.contains(" DEBUG "), "it talks: {}", run.stderr);
    let said = format!("{}\n{}\n{log}", run.stdout, run.stderr);
    let basic = |user: &str, password: &str| BASE64_STANDARD.encode(format!("{user}:{password}"));
    for secret in [PASSWORD, PROXY_PASSWORD, "canary", &basic("admin", PASSWORD), &basic("agent", PROXY_PASSWORD)] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

#[rstest]
#[case::unauthorized(Answer::status(401).body("text/plain", "Unauthorized").into())]
#[case::forbidden(Answer::status(403).into())]
#[case::unknown(Answer::status(404).into())]
#[case::too_large(Answer::status(413).into())]
#[case::failing(Answer::status(503).into())]
#[case::login_page(Answer::status(200).html("Sign in").into())]
#[case::redirect(Answer::redirect(302, "http://me:canary@sso.example/?token=canary#canary").into())]
#[case::followed(Answer::redirect(307, "/elsewhere?token=canary").into())]
#[case::silent(Fault::NeverAnswers)]
#[case::reset(Fault::Resets { after: 0 })]
#[tokio::test]
async fn no_answer_makes_it_say_a_secret(#[case] fault: Fault) {
    let scene = Scene::new().await;
    scene.enterprise.inject(Requests::to(V2), fault);

    says_no_secret(scene.agent().set("anchore.password", PASSWORD), 1).await;
}

#[tokio::test]
async fn no_secret_is_said_of_files_and_of_what_is_accepted() {
    let user = testbed::anchore::tenancy::User::of("admin", "agent", PASSWORD);
    let scene = Scene::with(EnterpriseOptions::default().user(user)).await;
    let agent = Agent::new().reads(&scene.api).set("anchore.url", scene.enterprise.url()).set("anchore.user", "agent");

    says_no_secret(agent.set("anchore.password-file", "password").file("password", PASSWORD), 0).await;

    assert_eq!(scene.arrived(), ["admin from agent: blog, shop"]);
}

#[rstest]
#[case::that_lets_through("agent", "http", 0)]
#[case::that_makes_a_tunnel("agent", "https", 0)]
#[case::that_refuses("other", "http", 1)]
#[case::that_refuses_a_tunnel("other", "https", 1)]
#[tokio::test]
async fn no_proxy_makes_it_say_a_secret(#[case] user: &str, #[case] scheme: &str, #[case] code: i32) {
    let authority = Arc::new(Authority::new("Anchore").expect("an authority"));
    let options = EnterpriseOptions::default();
    let scene = Scene::with(if scheme == "https" { options.tls(&authority) } else { options }).await;
    let proxy = Proxy::for_user(user, PROXY_PASSWORD).await.expect("started");
    let address = proxy.url().replace("http://", &format!("http://agent:{PROXY_PASSWORD}@"));
    let agent = scene.agent().set("anchore.http.proxy", address).file("ca.crt", authority.certificate());

    says_no_secret(agent.set("anchore.http.ca-file", "ca.crt"), code).await;

    assert_eq!(proxy.requests()[0].allowed, code == 0);
}

#[tokio::test]
async fn a_wrong_authority_does_not_make_it_say_a_secret() {
    let authority = |name: &str| Arc::new(Authority::new(name).expect("an authority"));
    let scene = Scene::with(EnterpriseOptions::default().tls(&authority("Anchore"))).await;
    let agent = scene.agent().set("anchore.password", PASSWORD).file("ca.crt", authority("Another").certificate());

    says_no_secret(agent.set("anchore.http.ca-file", "ca.crt"), 1).await;
}
