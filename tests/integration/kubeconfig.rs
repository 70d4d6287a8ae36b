//! Which cluster and through which proxy: kubeconfigs in all the forms that people have, and access that stands in the
//! configuration itself.

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::{Value, json};
use testbed::kubernetes::access::User;
use testbed::kubernetes::{KubernetesApi, KubernetesOptions};
use testbed::proxy::Proxy;
use testbed::server::tls::Authority;

use crate::agent::{Agent, Run, lines};
use crate::scene::{SHOP, Scene, shop};

const TOKEN: &str = "the-token";

/// A cluster that speaks TLS, and knows a user by token and by certificate.
struct Secure {
    authority: Arc<Authority>,
    api: KubernetesApi,
    user: User,
}

impl Secure {
    async fn new() -> Self {
        let authority = Arc::new(Authority::new("cluster").expect("made"));
        let user = User::reader("agent").token(TOKEN);
        let options = KubernetesOptions::default().cluster(&shop()).user(user.clone()).tls(&authority);
        Self { api: options.start().await.expect("started"), authority, user }
    }

    fn kubeconfig(&self) -> Value {
        serde_json::from_str(&self.api.kubeconfig(&self.user)).expect("JSON")
    }

    /// The one report that a run of this agent prints.
    async fn printed_by(&self, agent: Agent) -> Vec<String> {
        let run = agent.with("-o json").run().await;
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
        run.outline()
    }
}

fn base64(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

#[tokio::test]
async fn a_token_and_a_certificate_authority_in_the_kubeconfig_are_used() {
    let secure = Secure::new().await;

    let printed = secure.printed_by(Agent::new().reads_as(&secure.api, &secure.user)).await;

    assert_eq!(printed, SHOP);
}

#[tokio::test]
async fn a_client_certificate_in_the_kubeconfig_is_used() {
    let secure = Secure::new().await;
    let identity = secure.authority.client("agent").expect("issued");
    let kubeconfig = secure.api.kubeconfig_for_certificate("agent", &identity);

    let printed = secure.printed_by(Agent::new().kubeconfig(&kubeconfig)).await;

    assert_eq!(printed, SHOP);
}

#[tokio::test]
async fn files_that_a_kubeconfig_names_are_found_beside_it() {
    let secure = Secure::new().await;
    let identity = secure.authority.client("agent").expect("issued");
    let mut kubeconfig = secure.kubeconfig();
    kubeconfig["clusters"][0]["cluster"] = json!({"server": secure.api.url(), "certificate-authority": "ca.pem"});
    kubeconfig["users"][0]["user"] = json!({"client-certificate": "agent.pem", "client-key": "keys/agent.key"});
    let agent = Agent::new()
        .file("access/config", kubeconfig.to_string())
        .file("access/ca.pem", secure.authority.certificate())
        .file("access/agent.pem", identity.certificate)
        .file("access/keys/agent.key", identity.private_key)
        .with("--kubeconfig access/config");

    assert_eq!(secure.printed_by(agent).await, SHOP);
}

#[tokio::test]
async fn a_context_is_chosen_by_name() {
    let secure = Secure::new().await;
    let mut kubeconfig = secure.kubeconfig();
    kubeconfig["current-context"] = "elsewhere".into();
    let clusters = kubeconfig["clusters"].as_array_mut().expect("clusters");
    clusters.push(json!({"name": "elsewhere", "cluster": {"server": "http://127.0.0.1:1"}}));
    let contexts = kubeconfig["contexts"].as_array_mut().expect("contexts");
    contexts.push(json!({"name": "elsewhere", "context": {"cluster": "elsewhere", "user": "agent"}}));
    let agent = || Agent::new().kubeconfig(&kubeconfig.to_string());

    assert_eq!(secure.printed_by(agent().with("--context testbed")).await, SHOP);
    assert_eq!(secure.printed_by(agent().set("kubeconfig.context", "testbed")).await, SHOP);
    let sentence = "FOLDER/kubeconfig has no context \"production\"; it has: testbed, elsewhere";
    assert_eq!(agent().with("--context production").run().await, Run::refused(sentence));
}

#[tokio::test]
async fn kubeconfigs_are_found_where_kubectl_finds_them() {
    let secure = Secure::new().await;
    let kubeconfig = secure.api.kubeconfig(&secure.user);

    let at_home = Agent::new().file(".kube/config", &kubeconfig);
    let in_a_list = Agent::new()
        .file("first", "current-context: testbed\n")
        .file("second", &kubeconfig)
        .variable("KUBECONFIG", "missing:first:second");

    assert_eq!(secure.printed_by(at_home).await, SHOP);
    assert_eq!(secure.printed_by(in_a_list).await, SHOP);
}

#[tokio::test]
async fn access_may_stand_in_the_configuration_itself() {
    let secure = Secure::new().await;
    let identity = secure.authority.client("agent").expect("issued");
    let agent = || {
        Agent::new()
            .set("kubeconfig.cluster", "edge-7")
            .set("kubeconfig.server", secure.api.url())
            .set("kubeconfig.cluster-cert", base64(&secure.authority.certificate()))
    };

    let by_token = agent().set("kubeconfig.user", json!({"type": "token", "token": TOKEN}));
    let user = json!({"client-cert": base64(&identity.certificate), "private-key": base64(&identity.private_key)});
    let by_certificate = agent().set("kubeconfig.user", user);

    assert_eq!(secure.printed_by(by_token).await, SHOP);
    assert_eq!(secure.printed_by(by_certificate).await, SHOP);
}

#[tokio::test]
async fn d45_incomplete_access_is_an_error_and_not_another_cluster() {
    let secure = Secure::new().await;
    let agent = Agent::new()
        .file(".kube/config", secure.api.kubeconfig(&secure.user))
        .set("kubeconfig.cluster", "edge-7")
        .set("kubeconfig.server", secure.api.url());

    let run = agent.run().await;

    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    let missing = "kubeconfig.cluster-cert, kubeconfig.user.client-cert, kubeconfig.user.private-key";
    assert!(run.stderr.contains(&format!("which lacks {missing}")), "{}", run.stderr);
    assert!(secure.api.requests().is_empty());
}

#[rstest]
#[case::no_such_file("-k nowhere", "kubeconfig FOLDER/nowhere cannot be used: No such file or directory (os error 2)")]
#[case::a_folder("-k folder", "kubeconfig FOLDER/folder cannot be used: Is a directory (os error 21)")]
#[case::no_context("-k empty", "FOLDER/empty names no current context: set kubeconfig.context (or --context)")]
#[case::no_authority(
    "-k no-authority",
    "the certificate or key in FOLDER/nowhere.pem cannot be used: No such file or directory (os error 2)"
)]
#[case::no_certificate(
    "-k no-certificate",
    "the certificate or key in FOLDER/nowhere.pem cannot be used: No such file or directory (os error 2)"
)]
#[case::no_server(
    "-k no-server",
    "the server of cluster \"c\" is not an address (it is missing): write it as https://host:port"
)]
#[case::no_token("-k no-token", "the token in FOLDER/nowhere cannot be used: No such file or directory (os error 2)")]
#[tokio::test]
async fn a_kubeconfig_that_cannot_be_used_ends_with_2(#[case] words: &str, #[case] reason: &str) {
    let of = |cluster: Value, user: Value| {
        let contexts = json!([{"name": "c", "context": {"cluster": "c", "user": "u"}}]);
        let (clusters, users) = (json!([{"name": "c", "cluster": cluster}]), json!([{"name": "u", "user": user}]));
        json!({"current-context": "c", "contexts": contexts, "clusters": clusters, "users": users}).to_string()
    };
    let here = || json!({"server": "https://127.0.0.1:1"});
    let unknown_authority = json!({"server": "https://127.0.0.1:1", "certificate-authority": "nowhere.pem"});
    let certificate = json!({"client-certificate": "nowhere.pem", "client-key": "nowhere.key"});
    let agent = Agent::new()
        .file("folder/file", "")
        .file("empty", "")
        .file("no-authority", of(unknown_authority, json!({})))
        .file("no-certificate", of(here(), certificate))
        .file("no-server", of(json!({}), json!({})))
        .file("no-token", of(here(), json!({"tokenFile": "nowhere"})));

    assert_eq!(agent.with(words).run().await, Run::refused(reason));
}

#[tokio::test]
async fn without_any_cluster_it_says_where_it_looked() {
    let run = Agent::new().run().await;

    let sentence = "no cluster to read: set kubeconfig.path (or --kubeconfig), or kubeconfig.server with a certificate and \
                    a user, or the variable KUBECONFIG, or write ~/.kube/config; inside a cluster, mount the pod's \
                    service account";
    assert_eq!(run, Run::refused(sentence));
}

#[tokio::test]
async fn outside_of_a_pod_there_is_no_service_account() {
    let in_cluster = || Agent::new().with("-k use-in-cluster");

    let nameless = in_cluster().run().await;
    let named = in_cluster().set("kubeconfig.cluster", "edge-7").run().await;

    assert_eq!((nameless.code, nameless.stdout.as_str()), (Some(2), ""));
    assert!(nameless.stderr.contains("kubeconfig.cluster: is missing"), "{}", nameless.stderr);
    assert_eq!((named.code, named.stdout.as_str(), named.stderr.lines().count()), (Some(2), "", 1));
    assert!(named.stderr.starts_with("error: the pod's service account cannot be used: "), "{}", named.stderr);
}

#[tokio::test]
async fn d46_the_placeholder_of_sample_configurations_is_a_warning() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");

    let run =
        Agent::new().reads(&api).set("kubeconfig.cluster", "docker-desktop").with("-o images").loudly().run().await;

    assert_eq!(run.code, Some(0));
    let warned =
        run.stderr.lines().filter(|line| line.contains(" WARN kubeconfig.cluster is the placeholder ")).count();
    assert_eq!(warned, 1, "{}", run.stderr);
}

#[tokio::test]
async fn an_authority_that_did_not_sign_the_server_is_a_failure() {
    let secure = Secure::new().await;
    let stranger = Authority::new("stranger").expect("made").certificate();
    let mut kubeconfig = secure.kubeconfig();
    kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"] = base64(&stranger).into();

    let run = Agent::new().kubeconfig(&kubeconfig.to_string()).run().await;

    assert_eq!((run.code, run.stdout.as_str(), run.stderr.lines().count()), (Some(1), "", 1));
    assert!(run.stderr.contains(" cannot be reached: ") && run.stderr.contains("certificate"), "{}", run.stderr);
    assert!(secure.api.requests().is_empty());
}

// Proxies.

#[tokio::test]
async fn a_system_without_authorities_matters_where_one_is_verified_alone() {
    let (plain, secure) = (Scene::new().await, Secure::new().await);
    let mut unverified = secure.kubeconfig();
    unverified["clusters"][0]["cluster"] = json!({"server": secure.api.url(), "insecure-skip-tls-verify": true});
    let mut verified = secure.kubeconfig();
    verified["clusters"][0]["cluster"] = json!({"server": secure.api.url()});
    let bare = || Agent::new().variable("SSL_CERT_FILE", "/dev/null");

    let without_tls = secure.printed_by(bare().reads(&plain.api)).await;
    let unverified = secure.printed_by(bare().kubeconfig(&unverified.to_string())).await;
    let verified = bare().kubeconfig(&verified.to_string()).with("-o json").run().await;

    assert_eq!((without_tls, unverified), (lines(&SHOP), lines(&SHOP)));
    assert_eq!((verified.code, verified.stdout.as_str(), verified.stderr.lines().count()), (Some(2), "", 1));
    assert!(verified.stderr.starts_with("error: the certificate or key in "), "{}", verified.stderr);
}

#[tokio::test]
async fn the_proxy_of_the_kubeconfig_is_used() {
    let secure = Secure::new().await;
    let proxy = Proxy::for_user("agent", "of-proxy").await.expect("started");
    let mut kubeconfig = secure.kubeconfig();
    let url = proxy.url().replace("http://", "http://agent:of-proxy@");
    kubeconfig["clusters"][0]["cluster"]["proxy-url"] = url.into();

    let printed = secure.printed_by(Agent::new().kubeconfig(&kubeconfig.to_string())).await;

    assert_eq!(printed, SHOP);
    assert!(proxy.requests().iter().any(|request| request.method == "CONNECT" && request.allowed));
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used_for_a_host_elsewhere() {
    let secure = Secure::new().await;
    let proxy = Proxy::start().await.expect("started");
    let elsewhere = format!("https://kubernetes.example.com:{}", secure.api.address().port());
    let mut kubeconfig = secure.kubeconfig();
    // The testbed's certificate is for loopback, whatever name the proxy is asked for.
    kubeconfig["clusters"][0]["cluster"]["tls-server-name"] = "localhost".into();
    kubeconfig["clusters"][0]["cluster"]["server"] = elsewhere.clone().into();
    let agent = Agent::new().kubeconfig(&kubeconfig.to_string()).variable("HTTPS_PROXY", &proxy.url());

    let printed = secure.printed_by(agent).await;

    assert_eq!(printed, SHOP);
    assert_eq!(format!("https://{}", proxy.requests()[0].target), elsewhere);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_a_failure() {
    let secure = Secure::new().await;
    let proxy = Proxy::for_user("agent", "of-proxy").await.expect("started");
    let mut kubeconfig = secure.kubeconfig();
    let url = proxy.url().replace("http://", "http://agent:not-of-proxy@");
    kubeconfig["clusters"][0]["cluster"]["proxy-url"] = url.into();

    let run = Agent::new().kubeconfig(&kubeconfig.to_string()).run().await;

    assert_eq!((run.code, run.stdout.as_str(), run.stderr.lines().count()), (Some(1), "", 1));
    assert!(run.stderr.contains(" cannot be reached: ") && run.stderr.contains("proxy"), "{}", run.stderr);
    assert!(!run.stderr.contains("of-proxy"), "{}", run.stderr);
}

#[tokio::test]
async fn a_proxy_that_is_no_address_is_a_mistake_of_configuration() {
    let kubeconfig = json!({
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://kubernetes.example.com"}}],
    });
    let agent = Agent::new().kubeconfig(&kubeconfig.to_string()).variable("HTTPS_PROXY", "ftp://of-proxy@x");

    let sentence = "HTTPS_PROXY is not the address of a proxy (its scheme is none of http, https, socks5 and socks5h): \
                    write it as http://host:port";
    assert_eq!(agent.run().await, Run::refused(sentence));
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_not_used_for_loopback() {
    let secure = Secure::new().await;
    let proxy = Proxy::start().await.expect("started");
    let agent = Agent::new().reads_as(&secure.api, &secure.user).variable("HTTPS_PROXY", &proxy.url());

    assert_eq!(secure.printed_by(agent).await, SHOP);
    assert_eq!(proxy.requests(), []);
}
