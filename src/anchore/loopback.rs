//! A server on loopback for tests: small enough to break every rule of HTTP on purpose.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::SecretString;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::Url;

use super::{BasicAuth, Client};
use crate::anchore::payload::Payload;
use crate::config::anchore::{AnchoreConfig, HttpConfig, ProxySetting};

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    /// Method and target: `POST /v2/kubernetes-inventory`.
    pub(crate) line: String,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Reads one request; `None` when the client has closed the connection.
    pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let mut from = BufReader::with_capacity(1, from);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            from.read_line(&mut line).await.ok().filter(|&length| length > 0)?;
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_owned()),
            }
        }
        let line = head.first()?.trim_end_matches(" HTTP/1.1").to_owned();
        let headers: BTreeMap<_, _> = head
            .iter()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        from.into_inner().read_exact(&mut body).await.ok()?;
        Some(Self { line, headers, body: String::from_utf8(body).unwrap() })
    }
}

/// A server that ends with the test.
pub(crate) struct Loopback {
    pub(crate) url: Url,
    received: Arc<Mutex<Vec<Received>>>,
    task: JoinHandle<()>,
}

impl Loopback {
    /// Answers each request with what `answer` makes of it, a whole response (see [`response`]).
    pub(crate) async fn answering(answer: impl Fn(&Received) -> String + Clone + Send + Sync + 'static) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&received);
        let serve = move |mut stream: TcpStream| {
            let (log, answer) = (Arc::clone(&log), answer.clone());
            async move { answer_all(&mut stream, &log, &answer).await }
        };
        let mut server = Self::serving(serve).await;
        server.received = received;
        server
    }

    /// Gives each connection to `serve`.
    pub(crate) async fn serving<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        Self { url, received: Arc::default(), task }
    }

    /// The requests so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Method and target of the requests so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.received().into_iter().map(|request| request.line).collect()
    }

    /// A client of this server without any time limit.
    pub(crate) fn client(&self) -> Client {
        client_of(&settings(&self.url))
    }

    /// A client of this server with a limit on each wait.
    pub(crate) fn client_with_timeout(&self, timeout: Duration) -> Client {
        let mut settings = settings(&self.url);
        settings.http.timeout = Some(timeout);
        client_of(&settings)
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn answer_all(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    log: &Mutex<Vec<Received>>,
    answer: &impl Fn(&Received) -> String,
) {
    while let Some(request) = Received::read(stream).await {
        let response = answer(&request);
        log.lock().unwrap().push(request);
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A whole response with a body.
pub(crate) fn response(status: u16, body: &str) -> String {
    response_with(status, "", body)
}

/// A whole response with further header lines, each ended by `\r\n`.
pub(crate) fn response_with(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} Said\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Settings of a client without a proxy, a certificate or a time limit.
pub(crate) fn settings(url: &Url) -> AnchoreConfig {
    AnchoreConfig {
        url: url.clone(),
        credentials: None,
        account: "admin".to_owned(),
        http: HttpConfig {
            insecure: false,
            timeout: None,
            retry: Duration::ZERO,
            ca_file: None,
            client_certificate: None,
            proxy: ProxySetting::Direct,
        },
    }
}

pub(crate) fn client_of(settings: &AnchoreConfig) -> Client {
    Client::new(settings, &BTreeMap::new()).unwrap()
}

/// The user `inventory` with the password `pw`.
pub(crate) fn inventory_user() -> BasicAuth {
    BasicAuth { user: "inventory".to_owned(), password: SecretString::from("pw") }
}

/// A report that is this JSON value.
pub(crate) fn report(document: serde_json::Value) -> Payload {
    let byte_len = document.to_string().len().try_into().unwrap();
    Payload::json(document, byte_len)
}

/// A report that is small.
pub(crate) fn small_report() -> Payload {
    report(serde_json::json!({"containers": []}))
}

/// A report of that many million bytes and one, in pieces of a thousand.
pub(crate) fn large_report(million_bytes: usize) -> Payload {
    report(vec!["x".repeat(997); million_bytes * 1_000].into())
}
