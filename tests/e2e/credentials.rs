//! How one says who one is: tokens, certificates, plugins, acting as somebody else.

use serde_json::{Value, json};

use crate::access::{Kubeconfig, READ_EVERYTHING};
use crate::cluster::Cluster;
use crate::server::CertificateUser;

#[tokio::test]
async fn a_token_in_the_kubeconfig() {
    let cluster = Cluster::with_one_pod().await;
    let reader = cluster.reader().await;

    let run = cluster.agent(&cluster.kubeconfig(&reader.with_token())).prints_json().await;

    let run = run.tells_all_of(&cluster).await;
    assert!(!run.stderr.contains(&reader.token), "the token is in what it said");
}

#[tokio::test]
async fn a_token_file_beside_the_kubeconfig() {
    let cluster = Cluster::with_one_pod().await;
    let reader = cluster.reader().await;
    // Files of people end with a line end, and their paths start from the kubeconfig's folder.
    cluster.write_file("access/secret/token", &format!("{}\n", reader.token));
    let user = json!({"tokenFile": "secret/token"});

    let run = cluster.agent(&in_subfolder(&cluster, &user)).prints_json().await;

    run.tells_all_of(&cluster).await;
}

#[tokio::test]
async fn a_service_accounts_token() {
    let cluster = Cluster::with_one_pod().await;
    let agent = cluster.service_account("shop", "inventory").await;
    cluster.grant(&agent.name, &READ_EVERYTHING).await;

    let run = cluster.agent(&cluster.kubeconfig(&agent.with_token())).prints_json().await;

    run.tells_all_of(&cluster).await;
}

#[tokio::test]
async fn a_user_who_acts_as_another() {
    let cluster = Cluster::with_one_pod().await;
    let (reader, nobody) = (cluster.reader().await, cluster.token_user());
    let acting_as = |name: &str| json!({"token": cluster.server.admin_token, "as": name});

    let run = cluster.agent(&cluster.kubeconfig(&acting_as(&reader.name))).prints_json().await;
    let refused = cluster.agent(&cluster.kubeconfig(&acting_as(&nobody.name))).prints_json().await;

    run.tells_all_of(&cluster).await;
    refused.ended_with(1).said(&["403", &nobody.name]).printed_nothing();
}

#[tokio::test]
async fn a_user_who_acts_as_a_member_of_several_groups() {
    let cluster = Cluster::with_one_pod().await;
    let groups = ["system:masters", "example:readers", "example:writers"];
    let user = json!({"token": cluster.server.admin_token, "as": "nobody", "as-groups": groups});

    let run = cluster.agent(&cluster.kubeconfig(&user)).prints_json().await;

    run.tells_all_of(&cluster).await;
}

#[tokio::test]
async fn a_client_certificate_in_the_kubeconfig() {
    let cluster = Cluster::with_one_pod().await;
    let reader = cluster.certificate_reader().await;

    let run = cluster.agent(&cluster.kubeconfig(&reader.with_data())).prints_json().await;

    run.tells_all_of(&cluster).await;
}

#[tokio::test]
async fn a_client_certificate_in_files_beside_the_kubeconfig() {
    let cluster = Cluster::with_one_pod().await;
    let reader = cluster.certificate_reader().await;
    cluster.write_file("access/reader.crt", &reader.certificate);
    cluster.write_file("access/keys/reader.key", &reader.private_key);
    let user = json!({"client-certificate": "reader.crt", "client-key": "keys/reader.key"});

    let run = cluster.agent(&in_subfolder(&cluster, &user)).prints_json().await;

    run.tells_all_of(&cluster).await;
}

#[tokio::test]
async fn an_exec_plugin_that_gives_a_token() {
    let cluster = Cluster::with_one_pod().await;
    let reader = cluster.reader().await;
    // It gets the arguments and variables of the kubeconfig.
    let lines = r#"[ "$1 $AUDIENCE" = "get-token prod" ] || exit 3
echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "'$TOKEN'"}}'"#;
    let mut user = exec(&cluster, lines);
    user["exec"]["args"] = json!(["get-token"]);
    user["exec"]["env"] = json!([{"name": "AUDIENCE", "value": "prod"}, {"name": "TOKEN", "value": reader.token}]);

    let run = cluster.agent(&cluster.kubeconfig(&user)).prints_json().await;

    run.tells_all_of(&cluster).await;
}

#[tokio::test]
async fn an_exec_plugin_that_gives_a_client_certificate() {
    let cluster = Cluster::with_one_pod().await;
    let reader = cluster.certificate_reader().await;
    let status = json!({"clientCertificateData": reader.certificate, "clientKeyData": reader.private_key});
    let answer = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status});
    let answer = cluster.write_file("answer.json", &answer.to_string());

    let user = exec(&cluster, &format!("cat {}", answer.display()));
    let run = cluster.agent(&cluster.kubeconfig(&user)).prints_json().await;

    run.tells_all_of(&cluster).await;
}

#[tokio::test]
async fn an_exec_plugin_is_asked_again_when_its_token_is_refused() {
    let cluster = Cluster::with_one_pod().await;
    let reader = cluster.reader().await;
    let lines = r#"token=expired
[ -e asked ] && token=$TOKEN
touch asked
echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "'$token'"}}'"#;
    let mut user = exec(&cluster, lines);
    user["exec"]["env"] = json!([{"name": "TOKEN", "value": reader.token}]);

    let run = cluster.agent(&cluster.kubeconfig(&user)).prints_json().await;

    run.tells_all_of(&cluster).await;
}

#[tokio::test]
async fn an_exec_plugin_that_fails_says_why() {
    let cluster = Cluster::fresh().await;
    // Whether or not it may ask the user, it has to be able to speak.
    for interactive_mode in ["Never", "IfAvailable"] {
        let mut user = exec(&cluster, "echo 'your session is over, log in again' >&2; exit 7");
        user["exec"]["interactiveMode"] = interactive_mode.into();

        let run = cluster.agent(&cluster.kubeconfig(&user)).prints_json().await;

        let run = run.ended_with(1).said(&["plugin", "exit status: 7"]);
        run.said(&["your session is over, log in again"]).printed_nothing();
    }
}

#[tokio::test]
async fn an_exec_plugin_that_is_missing_is_named() {
    let cluster = Cluster::fresh().await;
    let mut user = exec(&cluster, "");
    user["exec"]["command"] = "no-such-plugin".into();
    user["exec"]["installHint"] = "Get it from the platform team".into();

    let run = cluster.agent(&cluster.kubeconfig(&user)).prints_json().await;

    run.ended_with(2).said(&["no-such-plugin", "Get it from the platform team"]).printed_nothing();
}

#[tokio::test]
async fn a_wrong_token_is_refused() {
    let cluster = Cluster::fresh().await;

    let run = cluster.agent(&cluster.kubeconfig(&json!({"token": "expired-token"}))).prints_json().await;

    let run = run.ended_with(1).said(&["401", "token"]).printed_nothing();
    assert!(!run.stderr.contains("expired-token"), "the token is in what it said");
}

#[tokio::test]
async fn nobody_in_particular_is_told_what_is_missing() {
    let cluster = Cluster::fresh().await;

    let run = cluster.agent(&cluster.kubeconfig(&json!({}))).prints_json().await;

    run.ended_with(1).said(&["403", "system:anonymous"]).printed_nothing();
}

#[tokio::test]
async fn a_certificate_of_a_stranger_is_refused() {
    let cluster = Cluster::fresh().await;
    let stranger = rcgen::generate_simple_self_signed(["stranger".to_owned()]).expect("a certificate can be made");
    let stranger = CertificateUser {
        name: "stranger".to_owned(),
        certificate: stranger.cert.pem(),
        private_key: stranger.signing_key.serialize_pem(),
    };

    let run = cluster.agent(&cluster.kubeconfig(&stranger.with_data())).prints_json().await;

    run.ended_with(1).said(&["401"]).printed_nothing();
}

/// A kubeconfig in another folder than the one that the agent runs in.
fn in_subfolder(cluster: &Cluster, user: &Value) -> std::path::PathBuf {
    let kubeconfig = Kubeconfig::new().cluster("prod", &cluster.entry()).user("reader", user);
    kubeconfig.context("main", "prod", "reader").write_as(cluster, "access/kubeconfig")
}

/// A kubeconfig's user who is known by what a plugin of these shell lines prints.
fn exec(cluster: &Cluster, lines: &str) -> Value {
    let command = cluster.write_script("plugin", lines);
    let version = "client.authentication.k8s.io/v1";
    json!({"exec": {"apiVersion": version, "command": command, "interactiveMode": "Never"}})
}
