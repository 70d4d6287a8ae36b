//! The HTTP server under both stand-ins: listens on loopback, over TCP or TLS, writes down every request, and lets a
//! script of faults come before the handler.
//!
//! It speaks HTTP/1.1 alone. Dropping it ends all its connections; a connection that fails is the client's to notice and
//! stops nothing else.

pub mod body;
pub mod closed_port;
pub mod fault;
pub mod record;
pub mod tls;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use body::Body;
use fault::Script;
use record::{Log, Recording};

/// How a server listens.
#[derive(Clone, Default)]
pub(crate) struct ServerOptions {
    /// 0 takes a free port.
    pub(crate) port: u16,
    /// `None` is plain HTTP.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// How long a connection may wait for its next request before the server closes it.
    pub(crate) idle_timeout: Option<Duration>,
    /// Request bodies up to this many bytes are kept; of longer ones only their length is.
    pub(crate) keep_bodies_up_to: usize,
}

/// One request on its way to the handler.
pub(crate) struct Exchange {
    /// The request; its body is not yet read.
    pub(crate) request: Request<Incoming>,
    /// DER of the certificate that the client presented.
    pub(crate) client_certificate: Option<Bytes>,
    /// Where what is learnt of this request is written down.
    pub(crate) recording: Recording,
    /// Once set, the connection ends by a reset instead of a shutdown.
    pub(crate) reset: Arc<AtomicBool>,
}

/// What answers requests. An error closes the connection without an answer.
pub(crate) type Handler = Arc<dyn Fn(Exchange) -> BoxFuture<'static, io::Result<Response<Body>>> + Send + Sync>;

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) log: Arc<Log>,
    pub(crate) script: Arc<Script>,
    accepting: JoinHandle<Infallible>,
}

/// What every connection of a server shares.
#[derive(Clone)]
struct Shared {
    handler: Handler,
    log: Arc<Log>,
    script: Arc<Script>,
    idle_timeout: Option<Duration>,
}

impl Server {
    pub(crate) async fn start(options: ServerOptions, handler: Handler) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let address = listener.local_addr()?;
        let log = Arc::new(Log::new(options.keep_bodies_up_to));
        let script = Arc::new(Script::default());
        let shared = Shared { handler, log: log.clone(), script: script.clone(), idle_timeout: options.idle_timeout };
        let accepting = tokio::spawn(accept(listener, options.tls.map(TlsAcceptor::from), shared));
        Ok(Self { address, log, script, accepting })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The guarded value; a panic of another holder does not matter to what these mutexes hold.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Shared) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Out of descriptors, mostly: the next one may succeed, once connections have ended.
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(connection(stream, tls.clone(), shared.clone())); }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, shared: Shared) {
    // Failing to set the option costs speed alone.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let stream = match tls {
        None => serve(stream, None, shared, reset.clone()).await,
        Some(acceptor) => {
            // A failed handshake is the client's to notice.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let certificate = certificate.map(|certificate| Bytes::copy_from_slice(certificate));
            serve(stream, certificate, shared, reset.clone()).await.into_inner().0
        }
    };
    if reset.load(Ordering::Relaxed) {
        let _ = stream.set_zero_linger();
    }
}

/// Answers the requests of one connection, and gives the stream back so that its end can be chosen.
async fn serve<S>(stream: S, client_certificate: Option<Bytes>, shared: Shared, reset: Arc<AtomicBool>) -> S
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(shared.idle_timeout);
    let service =
        service_fn(move |request| Box::pin(answer(request, client_certificate.clone(), shared.clone(), reset.clone())));
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let ended = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let mut stream = connection.into_parts().io.into_inner();
    if ended.is_ok() {
        // The other side may be gone already.
        let _ = stream.shutdown().await;
    }
    stream
}

async fn answer(
    request: Request<Incoming>,
    client_certificate: Option<Bytes>,
    shared: Shared,
    reset: Arc<AtomicBool>,
) -> io::Result<Response<Body>> {
    let recording = shared.log.begin(&request);
    let guard = recording.clone();
    let fault = shared.script.next(&request);
    let exchange = Exchange { request, client_certificate, recording, reset };
    let response = match fault {
        None => (shared.handler)(exchange).await,
        Some(fault) => fault.apply(exchange, &shared.handler).await,
    };
    if let Ok(response) = &response {
        guard.answered(response.status());
    }
    // The request counts as open until its answer is sent or dropped.
    response.map(|response| response.map(|body| body::holding(body, guard)))
}
