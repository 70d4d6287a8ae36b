//! A Kubernetes API server, as far as a reader of namespaces, nodes and pods can tell.
//!
//! Lists come whole or in pages, in protobuf or JSON, compressed where the real server does; users have the rights that
//! they are given; errors are `Status` documents. Objects change under a test's hands ([`KubernetesApi::apply_pod`] and its
//! neighbours), and watches tell of it. Leases can be written; what it cannot do it refuses (selectors, streamed lists,
//! writing anything else).

pub mod access;
mod control;
mod encoding;
mod history;
pub(crate) mod json_object;
mod json_pod;
pub mod lease;
mod list;
mod service;
mod state;
mod status;
mod watch;
mod watch_frame;

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::objects::Objects;
use crate::server::fault::{Answer, Fault, Requests};
use crate::server::record::RecordedRequest;
use crate::server::tls::{Authority, ClientCertificates, Identity};
use crate::server::{Server, ServerOptions, lock};
use access::User;
use service::Service;
use state::State;
use status::Failure;
use watch::Control;

/// Bodies of requests, which are leases, are kept up to this many bytes.
const KEEP_BODIES_UP_TO: usize = 64 * 1024;

/// A minor version of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KubernetesVersion {
    minor: u16,
}

/// How an API server is set up. The default serves an empty cluster of the latest version over HTTP, to everyone.
#[must_use]
pub struct KubernetesOptions {
    objects: Arc<Objects>,
    version: KubernetesVersion,
    users: Vec<User>,
    authority: Option<Arc<Authority>>,
    json_only: bool,
    history: usize,
    bookmark_interval: Duration,
    port: u16,
}

/// How a watch is answered that begins before all that is still known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExpiredWatch {
    /// By 200 and an `ERROR` event, as a real server mostly does.
    #[default]
    Event,
    /// By 410.
    Status,
}

/// A running API server. It ends when this is dropped.
pub struct KubernetesApi {
    server: Server,
    service: Arc<Service>,
    url: String,
}

impl Default for KubernetesOptions {
    fn default() -> Self {
        Self {
            objects: Arc::default(),
            version: KubernetesVersion::LATEST,
            users: Vec::new(),
            authority: None,
            json_only: false,
            history: 10_000,
            bookmark_interval: Duration::from_mins(1),
            port: 0,
        }
    }
}

impl KubernetesOptions {
    /// Serves these objects.
    pub fn objects(self, objects: impl Into<Arc<Objects>>) -> Self {
        Self { objects: objects.into(), ..self }
    }

    /// Serves this cluster.
    pub fn cluster(self, cluster: &Cluster) -> Self {
        self.objects(cluster.objects())
    }

    /// Plays this version.
    pub fn version(self, version: KubernetesVersion) -> Self {
        Self { version, ..self }
    }

    /// Knows this user; from the first one on, nobody else may read objects.
    pub fn user(mut self, user: User) -> Self {
        self.users.push(user);
        self
    }

    /// Speaks TLS, with a certificate of this authority, and knows clients by its certificates.
    pub fn tls(self, authority: &Arc<Authority>) -> Self {
        Self { authority: Some(authority.clone()), ..self }
    }

    /// Answers JSON whatever is asked for, as a proxy does that looks into answers.
    pub fn json_only(self) -> Self {
        Self { json_only: true, ..self }
    }

    /// Remembers this many changes of each kind, for watches that begin with an old one; 10,000 unless said otherwise.
    pub fn history(self, changes: usize) -> Self {
        Self { history: changes, ..self }
    }

    /// Sends bookmarks this often, to watches that want them; once a minute unless said otherwise.
    pub fn bookmark_interval(self, interval: Duration) -> Self {
        Self { bookmark_interval: interval, ..self }
    }

    /// Listens on this port; 0, the default, takes a free one.
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Starts it. Where users are named it speaks TLS, with an authority of its own if none was given: clients do not
    /// send credentials without it.
    pub async fn start(mut self) -> anyhow::Result<KubernetesApi> {
        if self.authority.is_none() && !self.users.is_empty() {
            self.authority = Some(Arc::new(Authority::new("testbed")?));
        }
        let tls =
            self.authority.as_ref().map(|authority| authority.server(ClientCertificates::Optional)).transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let service = Arc::new(Service {
            authority: self.authority,
            json_only: self.json_only,
            bookmark_interval: self.bookmark_interval,
            state: Mutex::new(State::new(self.version, self.users, self.objects, self.history)),
            control: tokio::sync::watch::Sender::new(Control::default()),
            watches_changed: tokio::sync::watch::Sender::new(()),
        });
        let answering = service.clone();
        let handler: crate::server::Handler = Arc::new(move |exchange| {
            let service = answering.clone();
            Box::pin(async move { service.answer(exchange).await })
        });
        let server = Server::start(
            ServerOptions { port: self.port, tls, keep_bodies_up_to: KEEP_BODIES_UP_TO, ..ServerOptions::default() },
            handler,
        )
        .await?;
        let url = format!("{scheme}://{}", server.address);
        Ok(KubernetesApi { server, service, url })
    }
}

impl KubernetesApi {
    /// An API server of this cluster with the default options.
    pub async fn serving(cluster: &Cluster) -> anyhow::Result<Self> {
        KubernetesOptions::default().cluster(cluster).start().await
    }

    /// The base of its paths, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// The authority that vouches for it, where it speaks TLS.
    pub fn authority(&self) -> Option<&Authority> {
        self.service.authority.as_deref()
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.server.log.requests()
    }

    /// The most requests that were open at the same time.
    pub fn peak_concurrency(&self) -> usize {
        self.server.log.peak()
    }

    /// Lets matching requests go wrong.
    pub fn inject(&self, requests: Requests, fault: impl Into<Fault>) {
        self.server.script.add(requests, fault.into());
    }

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        self.server.script.clear();
    }

    /// Replaces what is known of the user of this name (a new token, other rights); adds an unknown one.
    pub fn set_user(&self, user: User) {
        let mut state = lock(&self.service.state);
        state.users.retain(|known| known.name() != user.name());
        state.users.push(user);
    }

    /// A kubeconfig for a user who has a token (or for everyone, with [`User::named`]).
    pub fn kubeconfig(&self, user: &User) -> String {
        let credentials = user.bearer_token().map_or_else(|| json!({}), |token| json!({"token": token}));
        self.kubeconfig_with(user.name(), &credentials)
    }

    /// A kubeconfig for a client certificate.
    pub fn kubeconfig_for_certificate(&self, name: &str, identity: &Identity) -> String {
        let credentials = json!({
            "client-certificate-data": base64(&identity.certificate),
            "client-key-data": base64(&identity.private_key),
        });
        self.kubeconfig_with(name, &credentials)
    }

    /// Written as JSON, which is YAML too.
    fn kubeconfig_with(&self, user: &str, credentials: &Value) -> String {
        let mut cluster = json!({"server": self.url});
        if let Some(authority) = &self.service.authority {
            cluster["certificate-authority-data"] = base64(&authority.certificate()).into();
        }
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testbed", "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
            "current-context": "testbed",
        });
        format!("{kubeconfig:#}\n")
    }
}

impl KubernetesVersion {
    /// The newest version that the testbed knows.
    pub const LATEST: Self = Self::minor(37);

    /// Version 1.`minor`.
    pub const fn minor(minor: u16) -> Self {
        Self { minor }
    }

    fn document(self) -> Value {
        let minor = self.minor;
        json!({
            "major": "1", "minor": minor.to_string(), "gitVersion": format!("v1.{minor}.2"),
            "gitCommit": "2b3f5d1c9e0a4b6d8f7a1c3e5b7d9f1a3c5e7b9d", "gitTreeState": "clean",
            "buildDate": "2026-02-10T12:00:00Z", "goVersion": "go1.27.1", "compiler": "gc", "platform": "linux/amd64",
        })
    }
}

impl FromStr for KubernetesVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let minor = text.strip_prefix("1.").and_then(|minor| minor.parse().ok());
        minor.map(Self::minor).ok_or_else(|| format!("`{text}` is no version of Kubernetes, such as 1.37"))
    }
}

/// An answer with a `Status` in the encoding that the request takes, for [`KubernetesApi::inject`].
pub fn failure(status: u16, reason: &'static str, message: &str) -> Answer {
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let failure = Failure::new(code, reason, message);
    Answer::status(status).negotiated(Arc::new(move |headers| failure.document(headers)))
}

/// The 429 of a server that has too much to do, with `Retry-After` in header and body.
pub fn too_many_requests(retry_after_seconds: i32) -> Answer {
    let message = "The server has received too many requests and has asked us to try again later";
    let failure =
        Failure::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message).retry_after(retry_after_seconds);
    let answer = Answer::status(429).negotiated(Arc::new(move |headers| failure.document(headers)));
    answer.retry_after(&retry_after_seconds.to_string())
}

/// The 410 for a continue token, or a resource version, that is too old.
pub fn expired() -> Answer {
    failure(410, "Expired", "The resourceVersion for the provided list is too old.")
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(text)
}
