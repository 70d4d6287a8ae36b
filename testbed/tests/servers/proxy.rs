use std::sync::Arc;

use http::Method;
use pretty_assertions::assert_eq;
use reqwest::ClientBuilder;
use testbed::anchore::{Enterprise, EnterpriseOptions};
use testbed::proxy::{ProxiedRequest, Proxy};
use testbed::server::tls::Authority;

use super::{builder, client_trusting};

fn through(builder: ClientBuilder, proxy: reqwest::Proxy) -> reqwest::Client {
    builder.proxy(proxy).build().expect("a client")
}

#[tokio::test]
async fn a_plain_request_is_forwarded() {
    let (proxy, enterprise) = (Proxy::start().await.expect("started"), Enterprise::start().await.expect("started"));
    let client = through(builder(), reqwest::Proxy::all(proxy.url()).expect("a URL"));
    let url = format!("http://anchore.example:{}/version", enterprise.address().port());

    let response = client.get(&url).send().await.expect("an answer");

    assert_eq!(response.status(), 200);
    assert_eq!(proxy.requests(), [ProxiedRequest { method: Method::GET, target: url, allowed: true }]);
}

#[tokio::test]
async fn a_tunnel_carries_tls() {
    let authority = Arc::new(Authority::new("testbed").expect("an authority"));
    let enterprise = EnterpriseOptions::default().tls(&authority).start().await.expect("started");
    let proxy = Proxy::for_user("user", "secret").await.expect("started");
    let allowed = reqwest::Proxy::all(proxy.url()).expect("a URL").basic_auth("user", "secret");
    let refused = reqwest::Proxy::all(proxy.url()).expect("a URL").basic_auth("user", "wrong");
    let url = format!("https://localhost:{}/version", enterprise.address().port());

    let answered = through(client_trusting(&authority), allowed).get(&url).send().await.expect("an answer");
    let error = through(client_trusting(&authority), refused).get(&url).send().await;

    assert_eq!(answered.status(), 200);
    assert!(error.is_err());
    let target = format!("localhost:{}", enterprise.address().port());
    let connect = |allowed| ProxiedRequest { method: Method::CONNECT, target: target.clone(), allowed };
    assert_eq!(proxy.requests(), [connect(true), connect(false)]);
}
