//! Anchore Enterprise, as far as an inventory agent can tell: the endpoints, checks, accounts, errors and quirks of each
//! version from 4.8 on.
//!
//! It follows the published schema and what is known of the service's behaviour; where nothing is known (what becomes of
//! a container whose pod is not in the report), it accepts and counts, so that a test can insist on none.

mod integrations;
pub mod inventory;
mod problem;
mod schema;
mod service;
mod shapes;
pub mod summary;
pub mod tenancy;
pub mod version;

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};

use crate::server::fault::{Fault, Requests};
use crate::server::record::RecordedRequest;
use crate::server::tls::{Authority, ClientCertificates};
use crate::server::{Server, ServerOptions, lock};
use integrations::Integrations;
use inventory::{Ingest, Inventory};
use service::{Service, State};
use tenancy::{Tenancy, User};
use version::Version;

/// How Enterprise is set up. The default has the account `admin` with the user `admin`, password `foobar`, over HTTP.
#[must_use]
pub struct EnterpriseOptions {
    version: Version,
    upgrade_at: Option<(usize, Version)>,
    base_path: String,
    tenancy: Tenancy,
    ingest: Ingest,
    checking: Checking,
    report_answer: Option<(StatusCode, &'static str)>,
    tls: Option<(Arc<Authority>, ClientCertificates)>,
    server: ServerOptions,
}

/// A running Enterprise. It ends when this is dropped.
pub struct Enterprise {
    server: Server,
    service: Arc<Service>,
    url: String,
}

/// An accepted report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedReport {
    /// Number of the request that brought it: its place in [`Enterprise::requests`], while none was taken.
    pub request: usize,
    /// The account that it was for.
    pub account: String,
    /// The user who sent it.
    pub user: String,
    /// Its cluster name.
    pub cluster: String,
    /// Its time, as sent.
    pub timestamp: String,
    /// How many namespaces it holds.
    pub namespaces: usize,
    /// How many nodes it holds.
    pub nodes: usize,
    /// How many pods it holds.
    pub pods: usize,
    /// How many containers it holds.
    pub containers: usize,
    /// Pods and containers whose namespace or pod is not in the report.
    pub dangling: usize,
    /// The length of its body.
    pub bytes: u64,
}

/// An accepted registration.
#[derive(Debug, Clone, PartialEq)]
pub struct AcceptedRegistration {
    /// The account that it was for.
    pub account: String,
    /// The user who sent it.
    pub user: String,
    /// The uuid that the integration got, or has kept.
    pub uuid: String,
    /// Whether the integration was known before.
    pub known: bool,
    /// What was sent.
    pub document: serde_json::Value,
}

/// An accepted health report.
#[derive(Debug, Clone, PartialEq)]
pub struct AcceptedHealthReport {
    /// The account that it was for.
    pub account: String,
    /// The user who sent it.
    pub user: String,
    /// The uuid of the integration that it is of.
    pub integration: String,
    /// What was sent.
    pub document: serde_json::Value,
}

/// Whether reports are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checking {
    Full,
    None,
}

impl Default for EnterpriseOptions {
    fn default() -> Self {
        let tenancy = Tenancy {
            accounts: [tenancy::ADMIN_ACCOUNT.to_owned()].into(),
            disabled: [].into(),
            users: vec![User::of(tenancy::ADMIN_ACCOUNT, "admin", "foobar")],
        };
        let server = ServerOptions {
            // As the service's own HTTP server does.
            idle_timeout: Some(Duration::from_secs(5)),
            keep_bodies_up_to: 8 * 1024 * 1024,
            ..ServerOptions::default()
        };
        Self {
            version: Version::LATEST,
            upgrade_at: None,
            base_path: String::new(),
            tenancy,
            ingest: Ingest::default(),
            checking: Checking::Full,
            report_answer: None,
            tls: None,
            server,
        }
    }
}

impl EnterpriseOptions {
    /// Plays this version.
    pub fn version(self, version: Version) -> Self {
        Self { version, ..self }
    }

    /// Becomes this version with the `request`th request, counted from 1.
    pub fn upgrade_at(self, request: usize, version: Version) -> Self {
        Self { upgrade_at: Some((request, version)), ..self }
    }

    /// Serves all paths below this one, such as `/anchore`.
    pub fn base_path(self, path: &str) -> Self {
        Self { base_path: path.trim_end_matches('/').to_owned(), ..self }
    }

    /// Adds an account.
    pub fn account(mut self, name: &str) -> Self {
        self.tenancy.accounts.insert(name.to_owned());
        self
    }

    /// Adds an account that is disabled.
    pub fn disabled_account(mut self, name: &str) -> Self {
        self.tenancy.disabled.insert(name.to_owned());
        self.account(name)
    }

    /// Adds a user.
    pub fn user(mut self, user: User) -> Self {
        self.tenancy.users.push(user);
        self
    }

    /// What a report does to what is known.
    pub fn ingest(self, ingest: Ingest) -> Self {
        Self { ingest, ..self }
    }

    /// Accepts every report without a look at its content, of which only the length is then known: for measurements, in
    /// which the server must not be what takes time.
    pub fn unchecked(self) -> Self {
        Self { checking: Checking::None, ..self }
    }

    /// Answers accepted reports with this status and JSON text (none when empty), whatever the version would.
    pub fn report_answer(self, status: StatusCode, text: &'static str) -> Self {
        Self { report_answer: Some((status, text)), ..self }
    }

    /// Speaks TLS, with a certificate of this authority.
    pub fn tls(self, authority: &Arc<Authority>) -> Self {
        Self { tls: Some((authority.clone(), ClientCertificates::Optional)), ..self }
    }

    /// Speaks TLS, with clients alone who have a certificate of this authority.
    pub fn mutual_tls(self, authority: &Arc<Authority>) -> Self {
        Self { tls: Some((authority.clone(), ClientCertificates::Required)), ..self }
    }

    /// Closes connections that wait this long for a next request (5 s unless set, as the service does).
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.server.idle_timeout = Some(timeout);
        self
    }

    /// Keeps request bodies up to this many bytes (8 MiB unless set); longer ones are checked all the same.
    pub fn keep_bodies_up_to(mut self, bytes: usize) -> Self {
        self.server.keep_bodies_up_to = bytes;
        self
    }

    /// Listens on this port; 0, the default, takes a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.server.port = port;
        self
    }

    /// Starts it.
    pub async fn start(self) -> anyhow::Result<Enterprise> {
        let service = Arc::new(Service {
            base_path: self.base_path.clone(),
            ingest: self.ingest,
            checking: self.checking,
            report_answer: self.report_answer,
            upgrade_at: self.upgrade_at,
            requests: AtomicUsize::new(0),
            state: Mutex::new(State {
                version: self.version,
                tenancy: self.tenancy,
                inventory: Inventory::default(),
                integrations: Integrations::default(),
                accepted: Vec::new(),
                registrations: Vec::new(),
                health_reports: Vec::new(),
                ahead: SignedDuration::ZERO,
            }),
        });
        let tls = self.tls.as_ref().map(|(authority, clients)| authority.server(*clients)).transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let answering = service.clone();
        let handler: crate::server::Handler = Arc::new(move |exchange| {
            let service = answering.clone();
            Box::pin(async move { service.answer(exchange).await })
        });
        let server = Server::start(ServerOptions { tls, ..self.server }, handler).await?;
        let url = format!("{scheme}://{}{}", server.address, self.base_path);
        Ok(Enterprise { server, service, url })
    }
}

impl Enterprise {
    /// An Enterprise with the default options.
    pub async fn start() -> anyhow::Result<Self> {
        EnterpriseOptions::default().start().await
    }

    /// The base of its paths, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.server.log.requests()
    }

    /// Takes the requests that have ended, with their numbers, out of [`Enterprise::requests`], so that a run of hours
    /// does not keep them all. [`Enterprise::reports`] has none of theirs any more.
    pub fn take_ended_requests(&self) -> Vec<(usize, RecordedRequest)> {
        self.server.log.take_ended()
    }

    /// The most requests that were open at the same time.
    pub fn peak_concurrency(&self) -> usize {
        self.server.log.peak()
    }

    /// All accepted reports, in order.
    pub fn accepted(&self) -> Vec<AcceptedReport> {
        lock(&self.service.state).accepted.clone()
    }

    /// The bodies of the reports that an account accepted, in order, as far as they were kept.
    pub fn reports(&self, account: &str) -> Vec<serde_json::Value> {
        let accepted = self.accepted();
        let of_account = accepted.iter().filter(|report| report.account == account);
        of_account.filter_map(|report| self.server.log.request(report.request)?.json()).collect()
    }

    /// All that it knows from the accepted reports.
    pub fn inventory(&self) -> Inventory {
        lock(&self.service.state).inventory.clone()
    }

    /// All accepted registrations, in order, the repeated ones as well.
    pub fn registrations(&self) -> Vec<AcceptedRegistration> {
        lock(&self.service.state).registrations.clone()
    }

    /// All accepted health reports, in order.
    pub fn health_reports(&self) -> Vec<AcceptedHealthReport> {
        lock(&self.service.state).health_reports.clone()
    }

    /// Waits until something holds, which is looked at anew with each request and answer.
    pub async fn wait_until(&self, mut holds: impl FnMut(&Self) -> bool) {
        let mut requests = self.server.log.subscribe();
        // It does not fail while the server is there.
        while !holds(self) && requests.changed().await.is_ok() {}
    }

    /// Lets matching requests go wrong.
    pub fn inject(&self, requests: Requests, fault: impl Into<Fault>) {
        self.server.script.add(requests, fault.into());
    }

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        self.server.script.clear();
    }

    /// Becomes another version.
    pub fn upgrade(&self, version: Version) {
        lock(&self.service.state).version = version;
    }

    /// Creates an account.
    pub fn create_account(&self, name: &str) {
        lock(&self.service.state).tenancy.accounts.insert(name.to_owned());
    }

    /// Deletes an account. Its users stay, and so does what it knows.
    pub fn delete_account(&self, name: &str) {
        lock(&self.service.state).tenancy.accounts.remove(name);
    }

    /// Disables an account, or enables it again.
    pub fn set_disabled(&self, account: &str, disabled: bool) {
        let disabled_accounts = &mut lock(&self.service.state).tenancy.disabled;
        if disabled {
            disabled_accounts.insert(account.to_owned())
        } else {
            disabled_accounts.remove(account)
        };
    }

    /// Replaces what is known of the user of this name (a new password, other roles); adds an unknown one.
    pub fn set_user(&self, user: User) {
        let users = &mut lock(&self.service.state).tenancy.users;
        users.retain(|known| known.name() != user.name());
        users.push(user);
    }

    /// Forgets all integrations, as a database reset does.
    pub fn reset_integrations(&self) {
        lock(&self.service.state).integrations.reset();
    }

    /// The integrations of an account, as `GET /v2/system/integrations` lists them.
    pub fn integrations(&self, account: &str) -> Vec<serde_json::Value> {
        let state = lock(&self.service.state);
        state.integrations.list(account, false, state.now())
    }

    /// What its clock says.
    pub fn now(&self) -> Timestamp {
        lock(&self.service.state).now()
    }

    /// Puts its clock forward.
    pub fn advance_clock(&self, time: Duration) {
        let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        let mut state = lock(&self.service.state);
        state.ahead = state.ahead.saturating_add(time);
    }
}
