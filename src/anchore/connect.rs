//! Connections to Anchore, direct and through proxies, with TLS where the address asks for it.
//!
//! Everything from the name of a host to a stream that is ready for HTTP has one bound. Which proxy is used is decided
//! elsewhere ([`crate::proxy`]); one that cannot be used fails the connection, it is never gone around.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use rustls::ClientConfig;
use thiserror::Error;
use tokio::time::timeout;
use tower_service::Service;
use url::Url;

use super::stubborn::StubbornStream;
use crate::config::anchore::ProxySetting;
use crate::proxy::{self, ProxyError};

/// What the connectors of hyper fail with.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

type Connecting<Stream> = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

/// There was no connection in time.
#[derive(Debug, Error)]
#[error("no connection in time")]
pub(super) struct ConnectTimeout;

/// Makes the connections of the HTTP client.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    tcp: TcpConnector,
    tls: Arc<ClientConfig>,
    proxies: Proxies,
    limit: Option<Duration>,
}

impl Connector {
    /// `limit` bounds each connection, with all that belongs to it; `None` is no bound.
    pub(super) fn new(tls: ClientConfig, proxies: Proxies, limit: Option<Duration>) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        Self { tcp: TcpConnector(http), tls: Arc::new(tls), proxies, limit }
    }

    async fn connect(self, server: Uri) -> Result<ServerStream, BoxError> {
        let Some(proxy) = self.proxies.of(&Url::parse(&server.to_string())?)? else {
            return Ok(ServerStream::direct(self.with_tls(self.tcp.clone()).call(server).await?));
        };
        let address = access(&proxy)?;
        if proxy.scheme().starts_with("socks") {
            let mut socks = SocksV5::new(address.uri().clone(), self.tcp.clone());
            if let Some((user, password)) = address.raw_auth() {
                socks = socks.with_auth(user.to_owned(), password.to_owned());
            }
            return Ok(ServerStream::direct(self.with_tls(socks).call(with_port(server)?).await?));
        }
        let mut to_proxy = self.with_tls(self.tcp.clone());
        if server.scheme_str() == Some("http") {
            let io = MaybeHttpsStream::Http(to_proxy.call(address.uri().clone()).await?);
            return Ok(ServerStream { io, is_forwarded: true });
        }
        let mut tunnel = Tunnel::new(address.uri().clone(), to_proxy);
        if let Some(credentials) = address.basic_auth() {
            tunnel = tunnel.with_auth(credentials.clone());
        }
        Ok(ServerStream { io: self.with_tls(tunnel).call(server).await?, is_forwarded: false })
    }

    fn with_tls<T>(&self, inner: T) -> HttpsConnector<T> {
        HttpsConnector::from((inner, Arc::clone(&self.tls)))
    }
}

impl Service<Uri> for Connector {
    type Response = ServerStream;
    type Error = BoxError;
    type Future = Connecting<ServerStream>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let (limit, connecting) = (self.limit, self.clone().connect(server));
        Box::pin(async move {
            match limit {
                Some(limit) => timeout(limit, connecting).await.map_err(|_| ConnectTimeout)?,
                None => connecting.await,
            }
        })
    }
}

/// Makes TCP connections.
#[derive(Debug, Clone)]
struct TcpConnector(HttpConnector);

impl Service<Uri> for TcpConnector {
    type Response = StubbornStream;
    type Error = BoxError;
    type Future = Connecting<StubbornStream>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, host: Uri) -> Self::Future {
        let connecting = self.0.call(host);
        Box::pin(async move { Ok(StubbornStream::new(connecting.await?)) })
    }
}

/// A connection that is ready for HTTP. The inner layer of TLS is the proxy's, if it wants any.
pub(super) struct ServerStream {
    io: MaybeHttpsStream<MaybeHttpsStream<StubbornStream>>,
    /// The other end is a proxy that wants requests with the whole address.
    is_forwarded: bool,
}

impl ServerStream {
    fn direct(stream: MaybeHttpsStream<StubbornStream>) -> Self {
        Self { io: MaybeHttpsStream::Http(stream), is_forwarded: false }
    }
}

impl Connection for ServerStream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.is_forwarded)
    }
}

impl Read for ServerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for ServerStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// Which proxy for which server.
#[derive(Clone)]
pub(super) struct Proxies {
    setting: ProxySetting,
    variables: BTreeMap<String, String>,
}

impl Proxies {
    /// `variables` is the environment, which decides where `setting` does not.
    pub(super) fn new(setting: &ProxySetting, variables: &BTreeMap<String, String>) -> Self {
        Self { setting: setting.clone(), variables: variables.clone() }
    }

    /// The proxy for a request to `url`.
    pub(super) fn of(&self, url: &Url) -> Result<Option<Url>, ProxyError> {
        proxy::for_url(url, &self.setting, &self.variables)
    }

    /// What a plain request to `url` has to show to its proxy. For https the connection shows it.
    pub(super) fn credentials_for_forwarding(&self, url: &Url) -> Option<HeaderValue> {
        let proxy = self.of(url).ok().flatten().filter(|_| url.scheme() == "http")?;
        access(&proxy).ok()?.basic_auth().cloned()
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Both fields may hold the password of a proxy.
        f.debug_struct("Proxies").finish_non_exhaustive()
    }
}

/// A proxy's address apart from its credentials. Its form was checked when it was chosen.
fn access(proxy: &Url) -> Result<Intercept, BoxError> {
    let mut proxy = proxy.clone();
    if proxy.scheme().starts_with("socks") && proxy.port().is_none() {
        let _ = proxy.set_port(Some(1080));
    }
    let matcher = Matcher::builder().all(String::from(proxy)).build();
    matcher
        .intercept(&Uri::from_static("http://any.example"))
        .ok_or_else(|| "the address of the proxy is malformed".into())
}

/// The address with its port written out, for SOCKS: without one, its connector takes 443 for http as well.
fn with_port(server: Uri) -> Result<Uri, BoxError> {
    let port = if server.scheme_str() == Some("http") { 80 } else { 443 };
    let mut parts = server.into_parts();
    if let Some(authority) = parts.authority.take() {
        let is_complete = authority.port().is_some();
        parts.authority = Some(if is_complete { authority } else { format!("{authority}:{port}").parse()? });
    }
    Ok(Uri::from_parts(parts)?)
}
