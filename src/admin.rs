//! The port for whoever operates the agent: `/livez`, `/readyz` and `/metrics`.
//!
//! `/livez` answers while the event loop turns, and asks nothing: neither the API server nor Anchore being away is a
//! reason to restart the agent. Nothing here needs a right, changes anything, or shows a secret.
//!
//! Anybody in the network may connect, so a connection has a bounded time for all it does, serves one request, and is
//! closed for a newer one when there are too many: slow or idle clients do not keep the kubelet's probes out.

mod readiness;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

pub use self::readiness::{Readiness, Ready};
use crate::metrics::{self, Metrics};

/// Longest time from a connection's begin to the end of its answer. Scrapers and probes wait no longer.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// Connections at the same time; the oldest is closed for a newer one.
const MOST_CONNECTIONS: usize = 32;

/// Bytes that a request's head may take.
const HEAD_LIMIT: usize = 16 * 1024;

/// Wait after the system refused a connection, for want of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How long answers that have begun may take when the port is closed.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
#[error("{address} cannot be listened on ({reason}): set admin.listen to an address of this host and to a free port")]
pub struct BindError {
    address: SocketAddr,
    reason: io::Error,
}

/// The port, open and not served yet.
#[derive(Debug)]
pub struct AdminPort {
    listener: TcpListener,
}

/// The connections that are open.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    /// From the oldest to the newest.
    handles: VecDeque<AbortHandle>,
}

impl AdminPort {
    /// Opens the port of `admin.listen`.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let listener = TcpListener::bind(address).await.map_err(|reason| BindError { address, reason })?;
        let port = Self { listener };
        // With port 0 this is the only place that tells where it is.
        let address = port.address().map_err(|reason| BindError { address, reason })?;
        tracing::info!(%address, "admin port open");
        Ok(port)
    }

    /// Where it listens: with port 0 the system has chosen one.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`. That is to come last: probes go on while the agent finishes its work.
    pub async fn serve(self, readiness: Arc<Readiness>, metrics: Arc<Metrics>, stop: CancellationToken) {
        let service = TowerToHyperService::new(router(readiness, metrics));
        let mut connections = Connections::default();
        let mut is_failing = false;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
                Some(ended) = connections.tasks.join_next() => {
                    pass_panic_on(ended);
                    continue;
                }
            };
            match accepted {
                Ok((stream, _)) => {
                    is_failing = false;
                    connections.open(serve_connection(stream, service.clone()));
                }
                // Of a client that gave up before.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(%error, "no connection to the admin port is accepted; it is tried again");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        // What is left after that ends with the connections.
        let _ = tokio::time::timeout(STOP_LIMIT, connections.all_ended()).await;
    }
}

impl Connections {
    fn open(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        self.handles.retain(|handle| !handle.is_finished());
        if self.handles.len() >= MOST_CONNECTIONS
            && let Some(oldest) = self.handles.pop_front()
        {
            oldest.abort();
        }
        self.handles.push_back(self.tasks.spawn(connection));
    }

    async fn all_ended(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            pass_panic_on(ended);
        }
    }
}

/// A panic here is one of the program, as anywhere.
fn pass_panic_on(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// One request and its answer. A client that breaks off, or takes too long, is nobody's concern.
async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: TowerToHyperService<Router>,
) {
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(CONNECTION_LIMIT, connection).await;
}

fn router(readiness: Arc<Readiness>, metrics: Arc<Metrics>) -> Router {
    let ready = move || std::future::ready(answer_readiness(&readiness));
    let scrape = move || std::future::ready(answer_metrics(&metrics));
    Router::new()
        .route("/livez", get(|| std::future::ready("ok")))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
}

fn answer_readiness(readiness: &Readiness) -> (StatusCode, String) {
    match readiness.answer() {
        Ready::Ready => (StatusCode::OK, "ok".to_owned()),
        Ready::NotReady(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}

fn answer_metrics(metrics: &Metrics) -> impl IntoResponse + use<> {
    match metrics.encode() {
        Ok(encoded) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], encoded).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;

    use super::*;

    /// A port that is served.
    struct Served {
        address: SocketAddr,
        readiness: Arc<Readiness>,
        stop: CancellationToken,
        task: JoinHandle<()>,
    }

    impl Served {
        async fn at(address: &str) -> Self {
            let port = AdminPort::bind(address.parse().expect("an address")).await.expect("free");
            let (readiness, stop) = (Arc::<Readiness>::default(), CancellationToken::new());
            let address = port.address().expect("bound");
            let task = tokio::spawn(port.serve(Arc::clone(&readiness), Arc::default(), stop.clone()));
            Self { address, readiness, stop, task }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.expect("connected")
        }

        /// The whole answer to a request.
        async fn ask(&self, method: &str, path: &str) -> String {
            let mut stream = self.connect().await;
            let request = format!("{method} {path} HTTP/1.1\r\nhost: agent\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("read to the end");
            answer
        }

        /// Status and body of an answer.
        async fn get(&self, path: &str) -> (String, String) {
            let answer = self.ask("GET", path).await;
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            (head[9..12].to_owned(), body.to_owned())
        }
    }

    fn answer(status: &str, body: &str) -> (String, String) {
        (status.to_owned(), body.to_owned())
    }

    #[rstest]
    #[case("127.0.0.1:0")]
    #[case("[::1]:0")]
    #[tokio::test]
    async fn it_lives_before_it_is_ready(#[case] address: &str) {
        let served = Served::at(address).await;
        assert_eq!(served.get("/livez").await, answer("200", "ok"));
        assert_eq!(served.get("/readyz").await, answer("503", "starting"));
        served.readiness.set(Ready::Ready);
        assert_eq!(served.get("/readyz").await, answer("200", "ok"));
        served.readiness.drain();
        assert_eq!(served.get("/readyz").await, answer("503", "stopping"));
        assert_eq!(served.get("/livez").await, answer("200", "ok"));
    }

    #[tokio::test]
    async fn metrics_are_openmetrics() {
        let served = Served::at("127.0.0.1:0").await;
        let answer = served.ask("GET", "/metrics").await;
        assert!(answer.contains("\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
        assert!(answer.contains("anchore_k8s_inventory_build_info{") && answer.ends_with("# EOF\n"), "{answer}");
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_refused() {
        let served = Served::at("127.0.0.1:0").await;
        for (method, path, status) in [
            ("GET", "/", "404"),
            ("GET", "/livez/", "404"),
            ("GET", "/metrics%2f..", "404"),
            ("POST", "/livez", "405"),
            ("DELETE", "/metrics", "405"),
            ("HEAD", "/livez", "200"),
        ] {
            let answer = served.ask(method, path).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {answer}");
        }
    }

    #[tokio::test]
    async fn clients_that_say_nothing_keep_nobody_out() {
        let served = Served::at("127.0.0.1:0").await;
        let mut silent = Vec::new();
        for _ in 0..MOST_CONNECTIONS * 2 {
            silent.push(served.connect().await);
        }
        assert_eq!(served.get("/livez").await, answer("200", "ok"));
        let mut oldest = silent.swap_remove(0);
        let read = oldest.read(&mut [0]).await;
        assert!(matches!(read, Ok(0) | Err(_)), "the oldest is closed: {read:?}");
    }

    #[rstest]
    #[case::a_head_that_never_ends("GET /livez HTTP/1.1\r\n")]
    #[case::an_answer_that_nobody_reads("GET /metrics HTTP/1.1\r\nhost: agent\r\n\r\n")]
    #[tokio::test(start_paused = true)]
    async fn a_connection_has_a_bounded_time(#[case] sent: &str) {
        let (mut client, server) = tokio::io::duplex(256);
        let service = TowerToHyperService::new(router(Arc::default(), Arc::default()));
        client.write_all(sent.as_bytes()).await.expect("written");
        let began = tokio::time::Instant::now();
        serve_connection(server, service).await;
        assert_eq!(began.elapsed(), CONNECTION_LIMIT);
    }

    #[tokio::test]
    async fn a_head_without_an_end_is_refused() {
        let served = Served::at("127.0.0.1:0").await;
        let mut stream = served.connect().await;
        let written = stream.write_all(format!("GET /{} HTTP/1.1\r\n", "a".repeat(2 * HEAD_LIMIT)).as_bytes()).await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(written.is_err() || read.is_err() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert_eq!(served.get("/livez").await.0, "200");
    }

    #[tokio::test]
    async fn it_ends_when_it_is_told_to() {
        let served = Served::at("127.0.0.1:0").await;
        let _silent = served.connect().await;
        served.stop.cancel();
        served.task.await.expect("ended");
        assert!(TcpStream::connect(served.address).await.is_err());
    }

    #[tokio::test]
    async fn a_port_in_use_names_the_setting() {
        let served = Served::at("127.0.0.1:0").await;
        let error = AdminPort::bind(served.address).await.expect_err("in use").to_string();
        assert!(error.starts_with(&format!("{} cannot be listened on (", served.address)), "{error}");
        assert!(error.contains("set admin.listen to"), "{error}");
    }

    #[tokio::test]
    async fn a_panic_is_passed_on() {
        let port = AdminPort::bind("127.0.0.1:0".parse().expect("an address")).await.expect("free");
        let readiness = Arc::<Readiness>::default();
        readiness.set(Ready::Ready);
        readiness.check_with(Box::new(|| panic!("a mistake")));
        let address = port.address().expect("bound");
        let task = tokio::spawn(port.serve(readiness, Arc::default(), CancellationToken::new()));
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: agent\r\n\r\n").await.expect("written");
        assert!(task.await.expect_err("panicked").is_panic());
    }
}
