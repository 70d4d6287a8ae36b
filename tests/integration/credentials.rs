//! Credentials of the cluster's user: tokens, token files and plugins, also when they expire or are wrong.

use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::{Value, json};
use testbed::kubernetes::access::User;
use testbed::kubernetes::{self, KubernetesApi, KubernetesOptions};
use testbed::server::fault::Requests;
use tokio::process::Command;

use crate::agent::{Agent, Run, asked, asked_for, lines};
use crate::scene::{OLD, SHOP, Scene, shop};

const TOKEN: &str = "the-token";

#[tokio::test]
async fn wrong_credentials_are_tried_twice_and_named() {
    let scene = Scene::for_user(&shop(), User::reader("agent").token(TOKEN)).await;
    let stranger = User::named("agent").token("another-token");

    let run = Agent::new().reads_as(&scene.api, &stranger).sends_to(&scene.enterprise).run().await;

    let sentence = "the namespaces could not be listed, so nothing is reported: the API server does not accept the \
                    credentials (401): Unauthorized; renew the token or certificate";
    assert_eq!(run, Run::failed(&[sentence]));
    let expected = ["/api/v1/namespaces?limit=500", "/api/v1/namespaces?limit=500", "/version", "/version"];
    assert_eq!(asked(&scene.api), expected);
    assert!(scene.enterprise.requests().is_empty());
}

#[tokio::test]
async fn credentials_that_expire_between_pages_are_renewed_there() {
    let user = User::reader("agent").token(TOKEN);
    let options = KubernetesOptions::default().cluster(&shop()).user(user.clone());
    let api = options.version(OLD).start().await.expect("started");
    let unauthorized = kubernetes::failure(401, "Unauthorized", "Unauthorized");
    api.inject(Requests::to("/api/v1/pods").query("continue=").first(1), unauthorized);
    let agent = Agent::new().reads_as(&api, &user).set("kubernetes.request-batch-size", 1);

    let run = agent.with("-o json").run().await;

    assert_eq!((run.code, run.stderr.as_str(), run.outline()), (Some(0), "", lines(&SHOP)));
    let pages = asked(&api).into_iter().filter(|path| path.starts_with("/api/v1/pods?")).count();
    assert_eq!(pages, 4, "three pages, and one of them twice");
}

#[tokio::test]
async fn a_token_file_is_read_again_when_the_token_was_rotated() {
    let scene = Scene::for_user(&shop(), User::reader("agent").token("new-token")).await;
    let agent =
        Agent::new().sends_to(&scene.enterprise).kubeconfig(&kubeconfig(&scene.api, &json!({"tokenFile": "token"})));
    // A pipe instead of a file gives each reader what is written next, so that the test decides what is read when.
    let pipe = agent.path("token");
    let made = Command::new("mkfifo").arg(&pipe).status().await.expect("it runs");
    assert!(made.success());

    let running = agent.start();
    tokio::fs::write(&pipe, "old-token\n").await.expect("read");
    asked_for(&scene.api, "/version").await;
    tokio::fs::write(&pipe, "new-token\n").await.expect("read again");
    let run = running.ended().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    let sent: Vec<String> =
        scene.api.requests().iter().map(|request| request.header("authorization").to_owned()).collect();
    assert_eq!(sent[0], "Bearer old-token");
    assert!(sent[1..].iter().all(|header| header == "Bearer new-token"), "{sent:?}");
}

/// A kubeconfig of this server for a user with these credentials.
pub(crate) fn kubeconfig(api: &KubernetesApi, credentials: &Value) -> String {
    let mut kubeconfig: Value = serde_json::from_str(&api.kubeconfig(&User::named("agent"))).expect("JSON");
    kubeconfig["users"][0]["user"] = credentials.clone();
    kubeconfig.to_string()
}

/// Credentials from a plugin, run by the shell.
pub(crate) fn plugin(script: &str) -> Value {
    json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sh",
        "args": ["-c", script],
        "interactiveMode": "Never",
    }})
}

/// What a plugin prints to give a token.
fn credential(token: &str, expires: Option<&str>) -> String {
    let status = match expires {
        None => json!({"token": token}),
        Some(time) => json!({"token": token, "expirationTimestamp": time}),
    };
    let credential =
        json!({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": status});
    format!("echo '{credential}'")
}

#[rstest]
#[case::without_expiry(None)]
#[case::long_before_its_expiry(Some("2100-01-01T00:00:00Z"))]
#[case::after_its_expiry(Some("2020-01-01T00:00:00Z"))]
#[tokio::test]
async fn a_plugin_gives_the_token(#[case] expires: Option<&str>) {
    let scene = Scene::for_user(&shop(), User::reader("agent").token(TOKEN)).await;
    let kubeconfig = kubeconfig(&scene.api, &plugin(&credential(TOKEN, expires)));

    let run = Agent::new().kubeconfig(&kubeconfig).sends_to(&scene.enterprise).run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
}

#[tokio::test]
async fn a_plugin_is_run_again_when_its_token_is_not_accepted() {
    let scene = Scene::for_user(&shop(), User::reader("agent").token("second")).await;
    let script = format!(
        "if mkdir ran-before 2>/dev/null; then {first}; else {second}; fi",
        first = credential("first", None),
        second = credential("second", None)
    );
    let kubeconfig = kubeconfig(&scene.api, &plugin(&script));

    let run = Agent::new().kubeconfig(&kubeconfig).sends_to(&scene.enterprise).run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
    let sent: Vec<String> =
        scene.api.requests().iter().map(|request| request.header("authorization").to_owned()).collect();
    assert_eq!(sent[0], "Bearer first");
    assert!(sent[1..].iter().all(|header| header == "Bearer second"), "{sent:?}");
}

#[rstest]
#[case::failing("exit 3", "it ended with exit status: 3")]
#[case::failing_with_a_reason("echo 'log in first' >&2; exit 3", "it ended with exit status: 3: log in first")]
#[case::talking("echo hello", "what it printed is not an ExecCredential")]
#[case::silent("true", "its answer has no status")]
#[case::without_status(
    "echo '{\"kind\": \"ExecCredential\", \"apiVersion\": \"client.authentication.k8s.io/v1\"}'",
    "its answer has no status"
)]
#[tokio::test]
async fn a_plugin_that_gives_no_credentials_is_a_failure(#[case] script: &str, #[case] reason: &str) {
    let scene = Scene::for_user(&shop(), User::reader("agent").token(TOKEN)).await;

    let run = Agent::new().kubeconfig(&kubeconfig(&scene.api, &plugin(script))).run().await;

    let sentence = format!("the credential plugin \"sh\" of the kubeconfig gave no credentials: {reason}");
    assert_eq!(run, Run::failed(&[&sentence]));
    assert!(scene.api.requests().is_empty());
}

#[tokio::test]
async fn a_plugin_that_is_not_there_is_a_mistake_of_configuration() {
    let scene = Scene::for_user(&shop(), User::reader("agent").token(TOKEN)).await;
    let mut exec = plugin("");
    exec["exec"]["command"] = "no-such-plugin".into();
    exec["exec"]["installHint"] = "Get it from your platform team.".into();

    let run = Agent::new().kubeconfig(&kubeconfig(&scene.api, &exec)).run().await;

    let sentence = "the credential plugin \"no-such-plugin\" of the kubeconfig cannot be started (No such file or \
                    directory (os error 2)): install it. Get it from your platform team.";
    assert_eq!(run, Run::refused(sentence));
}

#[tokio::test]
async fn a_plugin_beside_the_kubeconfig_is_found() {
    let scene = Scene::for_user(&shop(), User::reader("agent").token(TOKEN)).await;
    let mut exec = plugin("");
    exec["exec"]["command"] = "./plugin".into();
    let script = format!("#!/bin/sh\n{}\n", credential(TOKEN, None));
    let agent = Agent::new().sends_to(&scene.enterprise).file("access/plugin", script);
    let agent = agent.file("access/config", kubeconfig(&scene.api, &exec)).with("-k access/config");
    let made = Command::new("chmod").arg("+x").arg(agent.path("access/plugin")).status().await;
    assert!(made.expect("it runs").success());

    let run = agent.run().await;

    assert_eq!((run, scene.reported()), (Run::succeeded(), vec![lines(&SHOP)]));
}
