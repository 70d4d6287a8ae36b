//! Redirects: followed with the report where that is safe, else named with their target.

use std::sync::Arc;

use pretty_assertions::assert_eq;
use rstest::rstest;
use testbed::anchore::{Enterprise, EnterpriseOptions};
use testbed::server::fault::{Answer, Requests};
use testbed::server::tls::Authority;

use super::{SHOP, Scene, V2, not_accepted, post};
use crate::agent::{Run, outlines};

/// The end of the sentence about a redirect that is not followed.
const ADVICE: &str = "which is not followed: set anchore.url to the address that takes reports itself";

#[rstest]
#[case::temporary(307)]
#[case::permanent(308)]
#[tokio::test]
async fn a_redirect_that_keeps_the_report_is_followed_within_the_host(
    #[case] status: u16,
    #[values("", "http://HOST")] host: &str,
) {
    let scene = Scene::with(EnterpriseOptions::default().base_path("/anchore")).await;
    let target = format!("{}/anchore{V2}", host.replace("HOST", &scene.peer()));
    scene.enterprise.inject(Requests::to(V2), Answer::redirect(status, &target));

    let run = scene.agent().set("anchore.url", format!("http://{}", scene.peer())).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.asked(), [post("admin", "admin"), format!("POST /anchore{V2} for admin from admin")]);
    assert_eq!(outlines(&scene.enterprise, "admin"), [SHOP]);
    let requests = scene.enterprise.requests();
    assert_eq!(requests[0].body, requests[1].body);
}

#[tokio::test]
async fn a_redirect_from_http_to_https_is_followed_within_the_host() {
    let authority = Arc::new(Authority::new("Anchore").expect("an authority"));
    let scene = Scene::with(EnterpriseOptions::default().tls(&authority)).await;
    let plain = Enterprise::start().await.expect("started");
    plain.inject(Requests::to("*"), Answer::redirect(308, &format!("{}{V2}", scene.enterprise.url())));

    let agent = scene.agent().set("anchore.url", plain.url()).file("ca.crt", authority.certificate());
    let run = agent.set("anchore.http.ca-file", "ca.crt").run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(outlines(&scene.enterprise, "admin"), [SHOP]);
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_never_followed() {
    let authority = Arc::new(Authority::new("Anchore").expect("an authority"));
    let scene = Scene::with(EnterpriseOptions::default().tls(&authority)).await;
    let plain = Enterprise::start().await.expect("started");
    let target = format!("{}{V2}", plain.url());
    scene.enterprise.inject(Requests::to("*"), Answer::redirect(307, &target));

    let agent = scene.agent().file("ca.crt", authority.certificate());
    let run = agent.set("anchore.http.ca-file", "ca.crt").run().await;

    let sentence = scene.answered(&format!("307 Temporary Redirect, a redirect to {target}, {ADVICE}"));
    assert_eq!(run, Run::failed(&[&sentence]));
    assert!(plain.requests().is_empty());
}

#[rstest]
#[case(301, "Moved Permanently")]
#[case(302, "Found")]
#[case(303, "See Other")]
#[case(300, "Multiple Choices")]
#[tokio::test]
async fn a_redirect_that_would_lose_the_report_is_not_followed(#[case] status: u16, #[case] name: &str) {
    let scene = Scene::failing(Answer::redirect(status, "/login?token=canary#top")).await;

    let run = scene.agent().run().await;

    let target = format!("{}/login", scene.enterprise.url());
    assert_eq!(run, Run::failed(&[&scene.answered(&format!("{status} {name}, a redirect to {target}, {ADVICE}"))]));
    assert_eq!(scene.asked(), [post("admin", "admin")]);
}

#[rstest]
#[case(301, "Moved Permanently")]
#[case(302, "Found")]
#[case(307, "Temporary Redirect")]
#[case(308, "Permanent Redirect")]
#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed(
    #[case] status: u16,
    #[case] name: &str,
    #[values("localhost", "127.0.0.1")] host: &str,
) {
    let scene = Scene::new().await;
    let other = Enterprise::start().await.expect("started");
    let target = format!("http://{host}:{}{V2}", other.address().port());
    scene.enterprise.inject(Requests::to("*"), Answer::redirect(status, &target.replace("//", "//me:canary@")));

    let run = scene.agent().run().await;

    assert_eq!(run, Run::failed(&[&scene.answered(&format!("{status} {name}, a redirect to {target}, {ADVICE}"))]));
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_redirect_to_nowhere_is_said() {
    let scene = Scene::failing(Answer::status(307)).await;

    let run = scene.agent().run().await;

    assert_eq!(
        run,
        Run::failed(&[&scene.answered(&format!("307 Temporary Redirect, a redirect to no address, {ADVICE}"))])
    );
    assert_eq!(scene.asked(), [post("admin", "admin")]);
}

#[rstest]
#[case::three(3)]
#[case::four(4)]
#[tokio::test]
async fn three_redirects_are_followed_and_a_fourth_is_not(#[case] count: usize) {
    let scene = Scene::new().await;
    for hop in 1..=count {
        let here = if hop == 1 { V2.to_owned() } else { format!("/hop/{}", hop - 1) };
        let next = if hop == count { format!("{V2}?last") } else { format!("/hop/{hop}") };
        scene.enterprise.inject(Requests::to(&here).first(1), Answer::redirect(307, &next));
    }

    let run = scene.agent().run().await;

    if count == 3 {
        assert_eq!(run, Run::succeeded());
        assert_eq!(outlines(&scene.enterprise, "admin"), [SHOP]);
    } else {
        let url = scene.enterprise.url();
        let reason = format!("{url}/hop/3 answered 307 Temporary Redirect, a redirect to {url}{V2}, {ADVICE}");
        assert_eq!(run, Run::failed(&[&not_accepted(&reason, "admin", 1)]));
    }
    assert_eq!(scene.asked().len(), 4);
}
