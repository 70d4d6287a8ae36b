//! A forward proxy for HTTP: tunnels (`CONNECT`) and requests in absolute form, for everyone or for one user.
//!
//! It writes down every target that it was asked for, and connects to loopback alone, whatever the target's name: a test
//! may so ask for any host.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use http::header::{PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{client, server};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::anchore::tenancy::basic_credentials;
use crate::server::body::{self, Body};
use crate::server::lock;

/// A running proxy. It ends when this is dropped.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

/// What a proxy was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxiedRequest {
    /// `CONNECT` for tunnels.
    pub method: Method,
    /// `host:port` for tunnels, else the whole URL.
    pub target: String,
    /// Whether it was let through.
    pub allowed: bool,
}

struct State {
    credentials: Option<(String, String)>,
    requests: Mutex<Vec<ProxiedRequest>>,
}

impl Proxy {
    /// A proxy for everyone.
    pub async fn start() -> io::Result<Self> {
        Self::with(None).await
    }

    /// A proxy for this user alone, by HTTP's basic authentication.
    pub async fn for_user(name: &str, password: &str) -> io::Result<Self> {
        Self::with(Some((name.to_owned(), password.to_owned()))).await
    }

    async fn with(credentials: Option<(String, String)>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { credentials, requests: Mutex::default() });
        let accepting = tokio::spawn(accept(listener, state.clone()));
        Ok(Self { address, state, accepting })
    }

    /// Its URL, without credentials.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that it was asked for so far.
    pub fn requests(&self) -> Vec<ProxiedRequest> {
        lock(&self.state.requests).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let state = state.clone();
                async move { answer(request, &state).await }
            });
            let connection = server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A connection that fails is its client's to notice.
            let _ = connection.with_upgrades().await;
        });
    }
}

async fn answer(request: Request<Incoming>, state: &State) -> io::Result<Response<Body>> {
    let sent = request.headers().get(PROXY_AUTHORIZATION).and_then(|value| value.to_str().ok());
    let allowed = state.credentials.is_none() || sent.and_then(basic_credentials) == state.credentials;
    let (method, target) = (request.method().clone(), request.uri().to_string());
    lock(&state.requests).push(ProxiedRequest { method, target, allowed });
    if !allowed {
        let mut response = status(StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        response.headers_mut().insert(PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"testbed\""));
        return Ok(response);
    }
    let port = request.uri().port_u16().unwrap_or(80);
    let Ok(upstream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
        return Ok(status(StatusCode::BAD_GATEWAY));
    };
    if request.method() == Method::CONNECT {
        tokio::spawn(tunnel(request, upstream));
        return Ok(status(StatusCode::OK));
    }
    forward(request, upstream).await.or_else(|_| Ok(status(StatusCode::BAD_GATEWAY)))
}

async fn tunnel(request: Request<Incoming>, mut upstream: TcpStream) {
    if let Ok(upgraded) = hyper::upgrade::on(request).await {
        // Either side may end at any time.
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut upstream).await;
    }
}

async fn forward(mut request: Request<Incoming>, upstream: TcpStream) -> hyper::Result<Response<Body>> {
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(upstream)).await?;
    tokio::spawn(connection);
    request.headers_mut().remove(PROXY_AUTHORIZATION);
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(path);
    }
    Ok(sender.send_request(request).await?.map(|body| body.map_err(io::Error::other).boxed_unsync()))
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::full(""));
    *response.status_mut() = status;
    response
}
