//! What surrounds a run: output that nobody reads, full disks, signals, log files, and secrets that are printed nowhere.

use std::io::{Read, pipe};

use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::json;
use testbed::anchore::tenancy::User as AnchoreUser;
use testbed::anchore::{Enterprise, EnterpriseOptions};
use testbed::cluster::Cluster;
use testbed::cluster::pod::Pod;
use testbed::kubernetes::access::User;
use testbed::kubernetes::{KubernetesApi, KubernetesOptions};
use testbed::proxy::Proxy;
use testbed::server::fault::{Answer, Fault, Requests};

use crate::agent::{Agent, Run, asked_for, outlines};
use crate::credentials::{kubeconfig, plugin};

fn shop() -> Cluster {
    Cluster::new().namespace("shop").pod(Pod::running("web-0").image("nginx:1.27"))
}

// Output.

#[rstest]
#[case("-o json")]
#[case("-o table")]
#[case("-o images")]
#[case("")]
#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_failure(#[case] words: &str) {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);

    let run = Agent::new().reads(&api).with(words).prints_to(writer).run().await;

    assert_eq!(run, Run::succeeded());
}

#[rstest]
#[case("-o json")]
#[case("-o table")]
#[case("-o images")]
#[case("")]
#[tokio::test]
async fn output_that_cannot_be_written_is_a_failure(#[case] words: &str) {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let full = std::fs::File::options().write(true).open("/dev/full").expect("there is one");

    let run = Agent::new().reads(&api).with(words).prints_to(full).run().await;

    assert_eq!(run, Run::failed(&["standard output cannot be written: No space left on device (os error 28)"]));
}

#[tokio::test]
async fn a_report_is_sent_although_it_cannot_be_printed() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let enterprise = Enterprise::start().await.expect("started");
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);

    let run = Agent::new().reads(&api).sends_to(&enterprise).with("-i").prints_to(writer).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(enterprise.accepted().len(), 1);
}

// Logs.

#[tokio::test]
async fn a_full_disk_under_the_log_file_loses_the_log_and_nothing_else() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let enterprise = Enterprise::start().await.expect("started");

    let run = Agent::new().reads(&api).sends_to(&enterprise).set("log.file", "/dev/full").run().await;

    let said = "the log file /dev/full cannot be written (No space left on device (os error 28)): lines are lost\n";
    assert_eq!(run, Run { stderr: said.to_owned(), ..Run::succeeded() });
    assert_eq!(enterprise.accepted().len(), 1);
}

#[tokio::test]
async fn nothing_but_data_is_printed_on_standard_output() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");

    let run = Agent::new().reads(&api).with("-vv -o images").loudly().run().await;

    assert_eq!(run.code, Some(0));
    assert_eq!(run.stdout.lines().count(), 1, "{}", run.stdout);
    assert!(run.stderr.contains(" DEBUG ") || run.stderr.contains(" TRACE "), "{}", run.stderr);
    assert!(!run.stderr.contains('\r') && !run.stderr.contains('\u{1b}'), "no progress line in a pipe: {}", run.stderr);
}

// Signals.

#[rstest]
#[case("TERM")]
#[case("INT")]
#[tokio::test]
async fn a_signal_while_collecting_ends_the_run_without_a_report(#[case] signal: &str) {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let enterprise = Enterprise::start().await.expect("started");
    api.inject(Requests::to("/api/v1/pods"), Fault::NeverAnswers);
    let running = Agent::new().reads(&api).sends_to(&enterprise).start();

    asked_for(&api, "/api/v1/pods").await;
    running.signal(signal).await;
    let run = running.ended().await;

    assert_eq!(run, Run::failed(&["stopped by a signal; nothing was sent"]));
    assert!(enterprise.requests().is_empty());
}

#[tokio::test]
async fn a_signal_ends_a_credential_plugin_that_waits() {
    let user = User::reader("agent").token("never-given");
    let api = KubernetesOptions::default().cluster(&shop()).user(user).start().await.expect("started");
    let kubeconfig = kubeconfig(&api, &plugin("echo asked > state; exec sleep 600"));
    let running = Agent::new().kubeconfig(&kubeconfig).with("-o json").start();

    running.has_written("state", "asked").await;
    running.signal("TERM").await;
    let run = running.ended().await;

    assert_eq!(run, Run::failed(&["stopped by a signal; nothing was sent"]));
    assert!(api.requests().is_empty());
}

#[tokio::test]
async fn a_signal_ends_the_wait_for_a_reader_that_takes_nothing() {
    // More than a pipe holds.
    let notes = "x".repeat(1 << 20);
    let pod = Pod::running("web-0").image("nginx:1.27").annotation("notes", &notes);
    let api = KubernetesApi::serving(&Cluster::new().namespace("shop").pod(pod)).await.expect("started");
    let (mut reader, writer) = pipe().expect("a pipe");
    let running = Agent::new().reads(&api).with("-o json").prints_to(writer).start();

    // It has begun to print, and cannot end.
    let first = tokio::task::spawn_blocking(move || reader.read_exact(&mut [0]).map(|()| reader)).await;
    let reader = first.expect("it ran").expect("a byte");
    running.signal("TERM").await;
    let run = running.ended().await;
    drop(reader);

    assert_eq!(run, Run::failed(&["stopped by a signal; nothing was sent"]));
}

#[rstest]
#[case("TERM", 143)]
#[case("INT", 130)]
#[tokio::test]
async fn a_second_signal_ends_at_once(#[case] signal: &str, #[case] code: i32) {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let enterprise = Enterprise::start().await.expect("started");
    enterprise.inject(Requests::to("*"), Fault::NeverAnswers);
    let agent = Agent::new().reads(&api).sends_to(&enterprise).set("log.file", "agent.log");
    let running = agent.set("anchore.http.timeout-seconds", 0).start();

    while enterprise.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    running.signal("TERM").await;
    running.has_written("agent.log", "told to stop").await;
    running.signal(signal).await;
    let run = running.ended().await;

    assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""));
}

#[tokio::test]
async fn a_report_on_its_way_is_finished_after_a_signal() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let enterprise = Enterprise::start().await.expect("started");
    enterprise.inject(Requests::to("*"), Fault::Delay(std::time::Duration::from_millis(500)));
    let running = Agent::new().reads(&api).sends_to(&enterprise).start();

    while enterprise.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    running.signal("TERM").await;
    let run = running.ended().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(outlines(&enterprise, "admin"), [["namespace shop", "pod shop/web-0: nginx:1.27"]]);
}

// Secrets.

/// Secrets of every kind that a run here uses. None is anything else's name.
const SECRETS: [&str; 5] = [
    "canary-token-5f2b8e1d",
    "canary-password-91c07a3e",
    "canary-route-password-c4d2",
    "canary-proxy-password-7be0",
    "canary-renewed-token-e61f",
];

/// All that was printed or logged by a run at the most talkative level.
async fn all_that_is_said_by(agent: Agent) -> String {
    let running = agent.loudly().with("-vv -i").set("log.file", "agent.log").start();
    let (run, log) = running.ended_with_file("agent.log").await;
    format!("{}\n{}\n{log}", run.stdout, run.stderr)
}

fn is_free_of_secrets(said: &str) {
    use base64::prelude::{BASE64_STANDARD, Engine};
    for secret in SECRETS {
        assert!(!said.contains(secret), "{secret} in {said}");
        for user in ["admin", "agent"] {
            let basic = BASE64_STANDARD.encode(format!("{user}:{secret}"));
            assert!(!said.contains(&basic), "{secret} as base64 in {said}");
        }
    }
}

#[rstest]
#[case::accepted(201)]
#[case::unauthorized(401)]
#[case::failing(500)]
#[tokio::test]
async fn no_secret_is_ever_printed_or_logged(#[case] status: u16) {
    let [token, password, route_password, proxy_password, _] = SECRETS;
    let user = User::reader("agent").token(token);
    let api = KubernetesOptions::default().cluster(&shop()).user(user.clone()).start().await.expect("started");
    let options = EnterpriseOptions::default().account("shop").user(AnchoreUser::of("shop", "agent", route_password));
    let enterprise = options.user(AnchoreUser::of("admin", "root", password)).start().await.expect("started");
    if status != 201 {
        enterprise.inject(Requests::to("*"), Answer::status(status).body("text/plain", "no"));
    }
    let proxy = Proxy::for_user("agent", proxy_password).await.expect("started");
    let route = json!({"shop": {"user": "agent", "password": route_password, "namespaces": ["shop"]}});
    let agent = Agent::new()
        .reads_as(&api, &user)
        .sends_to(&enterprise)
        .set("anchore.password", password)
        .set("anchore.http.proxy", proxy.url().replace("http://", &format!("http://agent:{proxy_password}@")))
        .set("anchore.http.retry-seconds", 1)
        .set("account-routes", route);

    let said = all_that_is_said_by(agent).await;

    assert!(said.contains("nginx:1.27") && said.contains("cluster read"), "{said}");
    assert!(proxy.requests().iter().any(|request| request.allowed));
    is_free_of_secrets(&said);
}

#[rstest]
#[case::when_it_fails("exit 1")]
#[case::when_it_prints_something_else("true")]
#[tokio::test]
async fn what_a_plugin_prints_is_not_repeated(#[case] second_end: &str) {
    let [token, .., renewed] = SECRETS;
    // The first token is refused, so the plugin is asked again.
    let user = User::reader("agent").token("another");
    let api = KubernetesOptions::default().cluster(&shop()).user(user).start().await.expect("started");
    let first =
        json!({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": {"token": token}});
    let script =
        format!("if mkdir ran-before 2>/dev/null; then echo '{first}'; else echo 'token: {renewed}'; {second_end}; fi");
    let kubeconfig = kubeconfig(&api, &plugin(&script));

    let said = all_that_is_said_by(Agent::new().kubeconfig(&kubeconfig)).await;

    assert!(said.contains("credential plugin \"sh\""), "{said}");
    is_free_of_secrets(&said);
}
