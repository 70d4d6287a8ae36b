//! Which cluster is read: kubeconfigs in all the places and forms that people have, and access in the configuration.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::json;

use crate::access::Kubeconfig;
use crate::agent::Agent;
use crate::cluster::Cluster;
use crate::objects::Pod;

#[tokio::test]
async fn a_server_whose_certificate_is_not_vouched_for_is_not_trusted() {
    let cluster = Cluster::fresh().await;
    let reader = cluster.reader().await;
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate can be made");
    let mut entry = cluster.entry();
    entry["certificate-authority-data"] = BASE64_STANDARD.encode(other.cert.pem()).into();
    let kubeconfig = Kubeconfig::new().cluster("prod", &entry).user("reader", &reader.with_token());

    let run = cluster.agent(&kubeconfig.context("main", "prod", "reader").write(&cluster)).prints_json().await;

    run.ended_with(1).said(&["certificate"]).printed_nothing();
}

#[tokio::test]
async fn a_server_under_another_name_whose_authority_is_in_a_file() {
    let cluster = Cluster::with_one_pod().await;
    let reader = cluster.reader().await;
    cluster.write_file("access/ca/prod.crt", &cluster.server.certificate_authority());
    let entry = |name: &str| {
        let server = &cluster.server.url;
        json!({"server": server, "certificate-authority": "ca/prod.crt", "tls-server-name": name})
    };
    let kubeconfig = Kubeconfig::new()
        .cluster("prod", &entry("localhost"))
        .cluster("impostor", &entry("other.example.org"))
        .user("reader", &reader.with_token())
        .context("main", "prod", "reader")
        .context("wrong-name", "impostor", "reader");
    let kubeconfig = kubeconfig.write_as(&cluster, "access/kubeconfig");

    let run = cluster.agent(&kubeconfig).prints_json().await;
    let refused = cluster.agent(&kubeconfig).arg("--context=wrong-name").prints_json().await;

    run.tells_all_of(&cluster).await;
    refused.ended_with(1).said(&["certificate"]).printed_nothing();
}

#[tokio::test]
async fn a_server_whose_address_ends_with_a_slash() {
    let cluster = Cluster::with_one_pod().await;
    let reader = cluster.reader().await;
    let mut entry = cluster.entry();
    entry["server"] = format!("{}/", cluster.server.url).into();
    let kubeconfig = Kubeconfig::new().cluster("prod", &entry).user("reader", &reader.with_token());

    let run = cluster.agent(&kubeconfig.context("main", "prod", "reader").write(&cluster)).prints_json().await;

    run.tells_all_of(&cluster).await;
}

#[tokio::test]
async fn a_server_whose_answers_are_not_to_be_compressed() {
    let cluster = Cluster::with_one_pod().await;
    let reader = cluster.reader().await;
    // Large enough that the server would.
    cluster.load_pods("shop", (0..500).map(|n| Pod::running(&format!("many-{n}")).image("web:1"))).await;
    let mut entry = cluster.entry();
    entry["disable-compression"] = true.into();
    let kubeconfig = Kubeconfig::new().cluster("prod", &entry).user("reader", &reader.with_token());

    let run = cluster.agent(&kubeconfig.context("main", "prod", "reader").write(&cluster)).prints_json().await;

    run.tells_all_of(&cluster).await;
}

#[tokio::test]
async fn a_server_whose_certificate_need_not_be_checked() {
    let cluster = Cluster::with_one_pod().await;
    let reader = cluster.reader().await;
    let entry = json!({"server": cluster.server.url, "insecure-skip-tls-verify": true});
    let kubeconfig = Kubeconfig::new().cluster("prod", &entry).user("reader", &reader.with_token());

    let run = cluster.agent(&kubeconfig.context("main", "prod", "reader").write(&cluster)).prints_json().await;

    run.tells_all_of(&cluster).await;
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    let cluster = Cluster::fresh().await;
    let reader = cluster.reader().await;
    // Nobody listens on a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
    let entry = json!({"server": format!("https://127.0.0.1:{port}")});
    let kubeconfig = Kubeconfig::new().cluster("prod", &entry).user("reader", &reader.with_token());

    let run = cluster.agent(&kubeconfig.context("main", "prod", "reader").write(&cluster)).prints_json().await;

    run.ended_with(1).said(&["namespaces", "cannot be reached"]).printed_nothing();
}

#[tokio::test]
async fn one_of_several_contexts() {
    let cluster = Cluster::with_one_pod().await;
    let reader = cluster.reader().await;
    let stranger = json!({"token": "nobody"});
    let kubeconfig = Kubeconfig::new()
        .cluster("elsewhere", &json!({"server": "https://127.0.0.1:1"}))
        .cluster("prod", &cluster.entry())
        .user("stranger", &stranger)
        .user("reader", &reader.with_token())
        .context("current", "elsewhere", "stranger")
        .context("wanted", "prod", "reader")
        .write(&cluster);

    let by_flag = cluster.agent(&kubeconfig).arg("--context=wanted").prints_json().await;
    let by_setting = cluster.agent(&kubeconfig).configured("kubeconfig: {context: wanted}").prints_json().await;

    by_flag.tells_all_of(&cluster).await;
    by_setting.tells_all_of(&cluster).await;
}

#[tokio::test]
async fn a_context_that_is_missing_is_named_with_those_there_are() {
    let cluster = Cluster::fresh().await;
    let kubeconfig = cluster.kubeconfig(&json!({"token": "any"}));

    let run = cluster.agent(&kubeconfig).arg("--context=prd").prints_json().await;

    run.ended_with(2).said(&["prd", "main"]).printed_nothing();
}

#[tokio::test]
async fn a_kubeconfig_that_is_missing_is_named() {
    let cluster = Cluster::fresh().await;

    let run = cluster.agent(&cluster.directory.path().join("no-such-file")).prints_json().await;

    run.ended_with(2).said(&["no-such-file"]).printed_nothing();
}

#[tokio::test]
async fn no_kubeconfig_anywhere() {
    let cluster = Cluster::fresh().await;

    let run = cluster.agent_without_kubeconfig().prints_json().await;

    run.ended_with(2).said(&["kubeconfig.path", "kubeconfig.server", "KUBECONFIG", "~/.kube/config"]).printed_nothing();
}

#[tokio::test]
async fn files_of_the_variable_are_merged() {
    let cluster = Cluster::with_one_pod().await;
    let reader = cluster.reader().await;
    let clusters = Kubeconfig::new().cluster("prod", &cluster.entry()).context("main", "prod", "reader");
    clusters.write_as(&cluster, "clusters");
    Kubeconfig::new().user("reader", &reader.with_token()).write_as(&cluster, "users");

    let agent = cluster.agent_without_kubeconfig().variable("KUBECONFIG", "clusters:not-there:users");
    let run = agent.prints_json().await;

    run.tells_all_of(&cluster).await;
}

#[tokio::test]
async fn the_kubeconfig_of_the_home_folder() {
    let cluster = Cluster::with_one_pod().await;
    let reader = cluster.reader().await;
    let kubeconfig = Kubeconfig::new().cluster("prod", &cluster.entry()).user("reader", &reader.with_token());
    kubeconfig.context("main", "prod", "reader").write_as(&cluster, ".kube/config");

    let run = cluster.agent_without_kubeconfig().prints_json().await;

    run.tells_all_of(&cluster).await;
}

#[tokio::test]
async fn a_token_in_the_configuration() {
    let cluster = Cluster::with_one_pod().await;
    let reader = cluster.reader().await;

    let user = format!("user: {{type: token, token: {}}}", reader.token);
    let run = explicit(&cluster, &user).prints_json().await;

    run.tells_all_of(&cluster).await;
}

#[tokio::test]
async fn a_client_certificate_in_the_configuration() {
    let cluster = Cluster::with_one_pod().await;
    let reader = cluster.certificate_reader().await;
    let (certificate, key) = (BASE64_STANDARD.encode(&reader.certificate), BASE64_STANDARD.encode(&reader.private_key));

    let user = format!("user: {{client-cert: {certificate}, private-key: {key}}}");
    let run = explicit(&cluster, &user).prints_json().await;

    run.tells_all_of(&cluster).await;
}

/// The agent with a configuration that holds the access itself, with this about the user.
fn explicit<'a>(cluster: &'a Cluster, user: &str) -> Agent<'a> {
    let certificate = BASE64_STANDARD.encode(cluster.server.certificate_authority());
    let server = &cluster.server.url;
    let access = format!("kubeconfig: {{cluster: prod, server: '{server}', cluster-cert: {certificate}, {user}}}");
    cluster.agent_without_kubeconfig().configured(&access)
}
