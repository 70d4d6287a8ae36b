//! TLS: whom the agent trusts, who it says it is, and what it says when either does not fit.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use pretty_assertions::assert_eq;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rstest::rstest;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use testbed::anchore::EnterpriseOptions;
use testbed::kubernetes::KubernetesOptions;
use testbed::kubernetes::access::User as KubernetesUser;
use testbed::proxy::Proxy;
use testbed::server::tls::Authority;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{SHOP, Scene, not_accepted, post, shop};
use crate::agent::{Agent, Run, outlines};

const ADVICE: &str = "check the certificates, anchore.http.ca-file and anchore.http.client-cert-file, and whether \
                      anchore.url should say http";

fn authority() -> Arc<Authority> {
    authority_named("Anchore")
}

fn authority_named(name: &str) -> Arc<Authority> {
    Arc::new(Authority::new(name).expect("an authority"))
}

/// An Enterprise that speaks TLS.
async fn secure(authority: &Arc<Authority>) -> Scene {
    Scene::with(EnterpriseOptions::default().tls(authority)).await
}

/// An Enterprise that speaks with clients of its authority alone.
async fn mutual(authority: &Arc<Authority>) -> Scene {
    Scene::with(EnterpriseOptions::default().mutual_tls(authority)).await
}

/// An agent for which `authority` is all that the system trusts.
fn system_trusts(agent: Agent, authority: &Authority) -> Agent {
    let path = agent.path("system.crt").display().to_string();
    agent.file("system.crt", authority.certificate()).variable("SSL_CERT_FILE", &path)
}

/// An agent that trusts `authority` besides.
fn trusts(agent: Agent, authority: &Authority) -> Agent {
    agent.file("ca.crt", authority.certificate()).set("anchore.http.ca-file", "ca.crt")
}

fn no_trust(peer: &str, reason: &str) -> String {
    not_accepted(&format!("no secure connection to {peer}: {reason}; {ADVICE}"), "admin", 1)
}

// The server's certificate.

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_sent_nothing() {
    let scene = secure(&authority()).await;

    let run = system_trusts(scene.agent(), &authority_named("Another")).run().await;

    let sentence = no_trust(&scene.peer(), "invalid peer certificate: UnknownIssuer");
    assert_eq!(run, Run::failed(&[&sentence]));
    assert!(scene.asked().is_empty());
}

#[rstest]
#[case::the_file(trusts)]
#[case::the_system(system_trusts)]
#[tokio::test]
async fn a_server_of_an_authority_is_trusted_that_is_named_by(#[case] named_by: fn(Agent, &Authority) -> Agent) {
    let authority = authority();
    let scene = secure(&authority).await;

    let run = named_by(scene.agent(), &authority).run().await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(outlines(&scene.enterprise, "admin"), [SHOP]);
}

#[tokio::test]
async fn the_file_adds_to_the_authorities_of_the_system() {
    let of_the_server = authority();
    let scene = secure(&of_the_server).await;

    let run = trusts(system_trusts(scene.agent(), &of_the_server), &authority_named("Another")).run().await;

    assert_eq!(run, Run::succeeded());
}

#[tokio::test]
async fn any_server_is_trusted_when_told_so_and_that_is_warned_of() {
    let scene = secure(&authority()).await;

    let run = system_trusts(scene.agent(), &authority_named("Another"))
        .set("anchore.http.insecure", true)
        .loudly()
        .run()
        .await;

    assert_eq!(run.code, Some(0));
    let warnings: Vec<&str> = run.stderr.lines().filter_map(|line| Some(line.split_once(" WARN ")?.1)).collect();
    let expected = "anchore.http.insecure is set: the certificate of Anchore Enterprise is not verified, anyone on the \
                    way can read the credentials";
    assert_eq!(warnings, [expected]);
    assert_eq!(outlines(&scene.enterprise, "admin"), [SHOP]);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_trusted() {
    let authority = authority();
    let scene = secure(&authority).await;
    // It leads to the same server, whatever the name.
    let proxy = Proxy::start().await.expect("started");
    let name = format!("anchore.example:{}", scene.enterprise.address().port());

    let agent = trusts(scene.agent(), &authority).set("anchore.url", format!("https://{name}"));
    let run = agent.set("anchore.http.proxy", proxy.url()).run().await;

    let peer = format!("{name} through the proxy {}", proxy.address());
    let reason = "invalid peer certificate: certificate not valid for name \"anchore.example\"; certificate is only \
                  valid for IpAddress(127.0.0.1) or DnsName(\"localhost\")";
    assert_eq!(run, Run::failed(&[&no_trust(&peer, reason)]));
    assert!(scene.asked().is_empty());
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_not_trusted() {
    let scene = Scene::new().await;
    let (address, authority) = expired_server().await;

    let agent = scene.agent().file("ca.crt", authority).set("anchore.http.ca-file", "ca.crt");
    let run = agent.set("anchore.url", format!("https://{address}")).run().await;

    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    let start = format!(
        "error: report not accepted: no secure connection to {address}: invalid peer certificate: certificate expired: "
    );
    assert!(run.stderr.starts_with(&start), "{}", run.stderr);
    assert!(run.stderr.ends_with(&format!("; {ADVICE} account=\"admin\" batch=1\n")), "{}", run.stderr);
}

#[tokio::test]
async fn a_server_without_tls_is_said() {
    let scene = Scene::new().await;
    let url = scene.enterprise.url().replace("http://", "https://");

    let run = trusts(scene.agent(), &authority()).set("anchore.url", url).run().await;

    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    let start = format!("error: report not accepted: no secure connection to {}: ", scene.peer());
    assert!(run.stderr.starts_with(&start) && run.stderr.contains(ADVICE), "{}", run.stderr);
    assert!(scene.asked().is_empty());
}

#[tokio::test]
async fn a_server_with_tls_that_is_asked_without_is_said() {
    let scene = secure(&authority()).await;
    let url = scene.enterprise.url().replace("https://", "http://");

    let run = scene.agent().set("anchore.url", url).set("anchore.http.retry-seconds", 0).run().await;

    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    let start = format!("error: report not accepted: the connection to {} broke: ", scene.peer());
    assert!(run.stderr.starts_with(&start), "{}", run.stderr);
}

// The agent's own certificate.

#[tokio::test]
async fn a_server_that_wants_a_certificate_gets_it() {
    let authority = authority();
    let scene = mutual(&authority).await;
    let identity = authority.client("agent").expect("a certificate");

    let run = trusts(scene.agent(), &authority)
        .file("client.crt", identity.certificate)
        .file("client.key", identity.private_key)
        .set("anchore.http.client-cert-file", "client.crt")
        .set("anchore.http.client-key-file", "client.key")
        .run()
        .await;

    assert_eq!(run, Run::succeeded());
    assert_eq!(scene.asked(), [post("admin", "admin")]);
    assert_eq!(outlines(&scene.enterprise, "admin"), [SHOP]);
}

#[rstest]
#[case::none(None, "CertificateRequired")]
#[case::one_of_another_authority(Some("agent"), "")]
#[tokio::test]
async fn a_server_that_wants_a_certificate_refuses(#[case] client: Option<&str>, #[case] reason: &str) {
    let of_the_server = authority();
    let scene = mutual(&of_the_server).await;
    let mut agent = trusts(scene.agent(), &of_the_server).set("anchore.http.retry-seconds", 0);
    if let Some(client) = client {
        let identity = authority_named("Another").client(client).expect("a certificate");
        agent = agent
            .file("client.crt", identity.certificate)
            .file("client.key", identity.private_key)
            .set("anchore.http.client-cert-file", "client.crt")
            .set("anchore.http.client-key-file", "client.key");
    }

    let run = agent.run().await;

    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    let start = format!("error: report not accepted: no secure connection to {}: received fatal alert: ", scene.peer());
    assert!(run.stderr.starts_with(&start) && run.stderr.contains(reason), "{}", run.stderr);
    assert!(run.stderr.contains(ADVICE), "{}", run.stderr);
    assert!(scene.asked().is_empty());
}

// Files that cannot be used.

#[rstest]
#[case::missing(
    None,
    "cannot be read: No such file or directory (os error 2); check the path and the rights of the file"
)]
#[case::empty(Some(""), "holds no certificate: it must be a PEM file with BEGIN CERTIFICATE")]
#[case::not_pem(Some("no certificate"), "holds no certificate: it must be a PEM file with BEGIN CERTIFICATE")]
#[tokio::test]
async fn a_file_of_authorities_that_cannot_be_used_is_said_before_anything_is_asked(
    #[case] content: Option<&str>,
    #[case] reason: &str,
) {
    let scene = Scene::new().await;
    let mut agent = scene.agent().set("anchore.http.ca-file", "ca.crt");
    if let Some(content) = content {
        agent = agent.file("ca.crt", content);
    }

    let run = agent.run().await;

    assert_eq!(run, Run::refused(&format!("anchore.http.ca-file: FOLDER/ca.crt {reason}")));
    assert!(scene.asked().is_empty() && scene.api.requests().is_empty());
}

#[tokio::test]
async fn a_key_that_does_not_fit_its_certificate_is_said_before_anything_is_asked() {
    let authority = authority();
    let scene = mutual(&authority).await;
    let (one, other) = (authority.client("one").expect("made"), authority.client("other").expect("made"));

    let run = trusts(scene.agent(), &authority)
        .file("client.crt", one.certificate)
        .file("client.key", other.private_key)
        .set("anchore.http.client-cert-file", "client.crt")
        .set("anchore.http.client-key-file", "client.key")
        .run()
        .await;

    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    let start =
        "error: anchore.http.client-key-file: FOLDER/client.key does not fit the certificate in FOLDER/client.crt: ";
    assert!(run.stderr.starts_with(start), "{}", run.stderr);
    assert!(scene.api.requests().is_empty());
}

#[tokio::test]
async fn a_system_without_authorities_matters_for_https_without_a_file_alone() {
    let authority = authority();
    let (plain, scene) = (Scene::new().await, secure(&authority).await);
    let api = KubernetesOptions::default().cluster(&shop()).tls(&authority).start().await.expect("started");
    let kubeconfig = api.kubeconfig(&KubernetesUser::named("somebody"));
    let bare = |agent: Agent| {
        let path = agent.path("none.crt").display().to_string();
        agent.kubeconfig(&kubeconfig).file("none.crt", "").variable("SSL_CERT_FILE", &path)
    };

    let http = bare(plain.agent()).run().await;
    let with_file = bare(trusts(scene.agent(), &authority)).run().await;
    let without = bare(scene.agent()).run().await;

    assert_eq!((http, with_file), (Run::succeeded(), Run::succeeded()));
    let sentence = "no certificate authorities were found on this system: install them, name a file of them in \
                    anchore.http.ca-file, or let SSL_CERT_FILE name one";
    assert_eq!(without, Run::refused(sentence));
}

/// A server whose certificate was good for one day, long ago, and the certificate of its authority.
async fn expired_server() -> (SocketAddr, String) {
    let mut of_authority = CertificateParams::new(Vec::new()).expect("parameters");
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(of_authority, KeyPair::generate().expect("a key")).expect("signed");
    let mut parameters = CertificateParams::new(["127.0.0.1".to_owned()]).expect("parameters");
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2020, 1, 2);
    let key = KeyPair::generate().expect("a key");
    let certificate = parameters.signed_by(&key, &authority).expect("signed");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .expect("a certificate with its key");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // The client ends the handshake.
            let _ = acceptor.accept(stream).await;
        }
    });
    (address, authority.pem())
}
