//! The service behind the HTTP server: its endpoints, and the order in which a request is checked: path, method, content
//! type, JSON, schema, credentials, permission, account.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::integrations::{Integrations, Registered};
use super::inventory::{Ingest, Inventory, Report};
use super::problem::{self, Problem, json_answer};
use super::schema::{self, Refusal, Rule};
use super::tenancy::{Action, Tenancy};
use super::version::Version;
use super::{AcceptedHealthReport, AcceptedRegistration, AcceptedReport, Checking, shapes};
use crate::server::body::{self, Body};
use crate::server::record::Recording;
use crate::server::{Exchange, lock};

pub(crate) struct Service {
    pub(crate) base_path: String,
    pub(crate) ingest: Ingest,
    pub(crate) checking: Checking,
    pub(crate) report_answer: Option<(StatusCode, &'static str)>,
    pub(crate) upgrade_at: Option<(usize, Version)>,
    pub(crate) requests: AtomicUsize,
    pub(crate) state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) version: Version,
    pub(crate) tenancy: Tenancy,
    pub(crate) inventory: Inventory,
    pub(crate) integrations: Integrations,
    pub(crate) accepted: Vec<AcceptedReport>,
    pub(crate) registrations: Vec<AcceptedRegistration>,
    pub(crate) health_reports: Vec<AcceptedHealthReport>,
    /// How far the service's clock is ahead.
    pub(crate) ahead: SignedDuration,
}

/// What a path leads to.
enum Endpoint {
    Version,
    Health,
    Inventory,
    Registration,
    HealthReport(String),
    Integrations,
    Integration(String),
    Images,
    Rows(&'static str),
    Summary,
}

impl Service {
    pub(crate) async fn answer(&self, exchange: Exchange) -> io::Result<Response<Body>> {
        let count = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some((_, version)) = self.upgrade_at.filter(|(at, _)| *at == count) {
            lock(&self.state).version = version;
        }
        let Exchange { request, recording, .. } = exchange;
        let (parts, body) = request.into_parts();
        let version = lock(&self.state).version;
        let path = parts.uri.path().strip_prefix(self.base_path.as_str());
        let Some(endpoint) = path.and_then(|path| Endpoint::find(path, version)) else {
            receive(body, &recording).await?;
            return Ok(Problem::not_found().response());
        };
        if !endpoint.allows(&parts.method) {
            receive(body, &recording).await?;
            let detail = "The method is not allowed for the requested URL.";
            return Ok(Problem::Controller(StatusCode::METHOD_NOT_ALLOWED, detail.to_owned()).response());
        }
        match endpoint {
            Endpoint::Inventory => self.take_report(parts, body, recording).await,
            Endpoint::Registration => {
                let checked = document(&parts, body, &recording, &shapes::REGISTRATION).await?;
                Ok(checked
                    .and_then(|document| self.register(&parts, document, &recording))
                    .unwrap_or_else(|problem| problem.response()))
            }
            Endpoint::HealthReport(uuid) => {
                let checked = document(&parts, body, &recording, &shapes::HEALTH_REPORT).await?;
                let answered = checked.and_then(|document| self.report_health(&parts, &uuid, &document, &recording));
                Ok(answered.unwrap_or_else(|problem| problem.response()))
            }
            endpoint => {
                receive(body, &recording).await?;
                Ok(self.read(&parts, &endpoint, &recording).unwrap_or_else(|problem| problem.response()))
            }
        }
    }

    async fn take_report(&self, parts: Parts, body: Incoming, recording: Recording) -> io::Result<Response<Body>> {
        if let Some(refused) = wrong_content_type(&parts) {
            receive(body, &recording).await?;
            return Ok(refused.response());
        }
        let checked = match self.checking {
            Checking::Full => checked_report(body, &recording).await?,
            Checking::None => Ok(Report { bytes: receive(body, &recording).await?, ..Report::default() }),
        };
        let report = match checked {
            Ok(report) => report,
            Err(refusal) => return Ok(refused(refusal).response()),
        };
        Ok(self.ingest(&parts, report, &recording).unwrap_or_else(|problem| problem.response()))
    }

    fn ingest(&self, parts: &Parts, report: Report, recording: &Recording) -> Result<Response<Body>, Problem> {
        let mut state = lock(&self.state);
        let (account, user) = state.admit(parts, Action::SyncInventory, recording)?;
        let mut accepted = AcceptedReport {
            request: recording.index(),
            account,
            user,
            cluster: report.cluster.clone(),
            timestamp: report.timestamp.clone(),
            namespaces: report.namespaces.len(),
            nodes: report.nodes.len(),
            pods: report.pods.len(),
            containers: report.containers.len(),
            dangling: 0,
            bytes: report.bytes,
        };
        accepted.dangling = state.inventory.ingest(&accepted.account, report, self.ingest);
        state.accepted.push(accepted);
        let (status, text) = self.report_answer.unwrap_or((state.version.report_status(), ""));
        if text.is_empty() {
            return Ok(problem::empty_answer(status));
        }
        let mut response = Response::new(body::full(text));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        Ok(response)
    }

    fn register(&self, parts: &Parts, document: Value, recording: &Recording) -> Result<Response<Body>, Problem> {
        let mut state = lock(&self.state);
        let (account, user) = state.admit(parts, Action::RegisterIntegration, recording)?;
        let now = state.now();
        let sent = document.clone();
        let (registered, document) = state.integrations.register(&account, document, now);
        let uuid = document["uuid"].as_str().unwrap_or_default().to_owned();
        let known = registered == Registered::Known;
        state.registrations.push(AcceptedRegistration { account, user, uuid, known, document: sent });
        let status = if registered == Registered::New { StatusCode::CREATED } else { StatusCode::OK };
        Ok(json_answer(status, &document))
    }

    fn report_health(
        &self,
        parts: &Parts,
        uuid: &str,
        document: &Value,
        recording: &Recording,
    ) -> Result<Response<Body>, Problem> {
        let mut state = lock(&self.state);
        let (account, user) = state.admit(parts, Action::ReportHealth, recording)?;
        let now = state.now();
        if state.integrations.report_health(&account, uuid, document, now) {
            let (integration, document) = (uuid.to_owned(), document.clone());
            state.health_reports.push(AcceptedHealthReport { account, user, integration, document });
            Ok(problem::empty_answer(StatusCode::CREATED))
        } else {
            Err(unknown_integration(uuid))
        }
    }

    fn read(&self, parts: &Parts, endpoint: &Endpoint, recording: &Recording) -> Result<Response<Body>, Problem> {
        let mut state = lock(&self.state);
        let now = state.now();
        let query = |name: &str| query_value(parts, name);
        let body = match endpoint {
            Endpoint::Version => state.version.document(),
            Endpoint::Health => return Ok(problem::empty_answer(StatusCode::OK)),
            Endpoint::Summary => super::summary::document(&state.accepted),
            Endpoint::Integrations => {
                let (account, _) = state.admit(parts, Action::ListIntegrations, recording)?;
                let only_degraded = query("only_degraded") == Some("true");
                json!({"items": state.integrations.list(&account, only_degraded, now)})
            }
            Endpoint::Integration(uuid) if parts.method == Method::DELETE => {
                let (account, _) = state.admit(parts, Action::DeleteIntegration, recording)?;
                let deleted = state.integrations.delete(&account, uuid);
                return if deleted {
                    Ok(problem::empty_answer(StatusCode::NO_CONTENT))
                } else {
                    Err(unknown_integration(uuid))
                };
            }
            Endpoint::Integration(uuid) => {
                let (account, _) = state.admit(parts, Action::GetIntegration, recording)?;
                state.integrations.get(&account, uuid, now).ok_or_else(|| unknown_integration(uuid))?
            }
            Endpoint::Images => {
                let (account, _) = state.admit(parts, Action::ListRuntimeInventories, recording)?;
                json!({"items": state.inventory.images(&account)})
            }
            Endpoint::Rows(_) if parts.method == Method::DELETE => {
                let (account, _) = state.admit(parts, Action::DeleteInventory, recording)?;
                let cluster = query("cluster_name").ok_or_else(|| missing_parameter("cluster_name"))?;
                state.inventory.forget(&account, cluster);
                return Ok(problem::empty_answer(StatusCode::NO_CONTENT));
            }
            Endpoint::Rows(kind) => {
                let (account, _) = state.admit(parts, Action::ListRuntimeInventories, recording)?;
                let number = |name, default| query(name).and_then(|text| text.parse().ok()).unwrap_or(default);
                let (page, size): (usize, usize) = (number("page", 1).max(1), number("page_size", 1000).max(1));
                let rows =
                    state.inventory.rows(&account, kind).into_iter().skip((page - 1).saturating_mul(size)).take(size);
                // The published schema declares pods and nodes under this name too.
                let key = if *kind == "containers" { "containers" } else { "namespaces" };
                json!({key: rows.collect::<Vec<_>>()})
            }
            Endpoint::Inventory | Endpoint::Registration | Endpoint::HealthReport(_) => {
                return Err(Problem::not_found());
            }
        };
        Ok(json_answer(StatusCode::OK, &body))
    }
}

impl State {
    /// Account and user of a request that may do this.
    fn admit(&self, parts: &Parts, action: Action, recording: &Recording) -> Result<(String, String), Problem> {
        let user = self.tenancy.authenticate(&parts.headers)?;
        recording.user(user.name());
        let account = self.tenancy.authorize(user, &parts.headers, action)?;
        Ok((account.to_owned(), user.name().to_owned()))
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now().saturating_add(self.ahead).unwrap_or(Timestamp::MAX)
    }
}

impl Endpoint {
    fn find(path: &str, version: Version) -> Option<Self> {
        if path == "/testbed/summary" {
            return Some(Self::Summary);
        }
        match path {
            "/version" => return Some(Self::Version),
            "/health" | "/status" => return Some(Self::Health),
            "/v1/enterprise/kubernetes-inventory" if version.has_v1() => return Some(Self::Inventory),
            _ => {}
        }
        let path = path.strip_prefix("/v2/").filter(|_| version.has_v2())?;
        match path {
            "version" => Some(Self::Version),
            "health" | "status" => Some(Self::Health),
            "kubernetes-inventory" => Some(Self::Inventory),
            "inventories" => Some(Self::Images),
            "kubernetes-namespaces" => Some(Self::Rows("namespaces")),
            "kubernetes-nodes" => Some(Self::Rows("nodes")),
            "kubernetes-pods" => Some(Self::Rows("pods")),
            "kubernetes-containers" => Some(Self::Rows("containers")),
            _ => Self::integration(path.strip_prefix("system/integrations").filter(|_| version.has_integrations())?),
        }
    }

    fn integration(path: &str) -> Option<Self> {
        match path.split('/').collect::<Vec<_>>().as_slice() {
            [""] => Some(Self::Integrations),
            ["", "registration"] => Some(Self::Registration),
            ["", uuid] => Some(Self::Integration((*uuid).to_owned())),
            ["", uuid, "health-report"] => Some(Self::HealthReport((*uuid).to_owned())),
            _ => None,
        }
    }

    fn allows(&self, method: &Method) -> bool {
        match self {
            Self::Inventory | Self::Registration | Self::HealthReport(_) => method == Method::POST,
            Self::Integration(_) | Self::Rows("namespaces") => method == Method::GET || method == Method::DELETE,
            _ => method == Method::GET,
        }
    }
}

/// Reads a body to its end, and gives its length. An error is a client that went away.
async fn receive(mut body: Incoming, recording: &Recording) -> io::Result<u64> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let chunk = frame.map_err(io::Error::other)?.into_data().unwrap_or_default();
        recording.body(&chunk);
        length += chunk.len() as u64;
    }
    recording.body_ended();
    Ok(length)
}

/// Reads a report and checks it, on a thread that may take its time.
async fn checked_report(body: Incoming, recording: &Recording) -> io::Result<Result<Report, Refusal>> {
    let bytes = recording.collect(body).await?;
    let check = tokio::task::spawn_blocking(move || {
        let mut report = Report { bytes: bytes.len() as u64, ..Report::default() };
        let mut document = schema::check(&bytes, &shapes::REPORT, &mut |list, element| report.add(list, element))?;
        report.cluster = document.take("cluster_name").unwrap_or_default().into_string();
        report.timestamp = document.take("timestamp").unwrap_or_default().into_string();
        Ok(report)
    });
    check.await.map_err(io::Error::other)
}

/// A small document, checked.
async fn document(
    parts: &Parts,
    body: Incoming,
    recording: &Recording,
    rule: &'static Rule,
) -> io::Result<Result<Value, Problem>> {
    if let Some(refused) = wrong_content_type(parts) {
        receive(body, recording).await?;
        return Ok(Err(refused));
    }
    let bytes = recording.collect(body).await?;
    let checked = schema::check(&bytes, rule, &mut |_, _| {});
    let parsed = checked.and_then(|_| serde_json::from_slice(&bytes).map_err(|_| Refusal::Syntax));
    Ok(parsed.map_err(refused))
}

/// A body of which a missing content type is taken to be JSON.
fn wrong_content_type(parts: &Parts) -> Option<Problem> {
    let sent = parts.headers.get(CONTENT_TYPE)?.to_str().unwrap_or("?");
    let media_type = sent.split(';').next().unwrap_or_default().trim();
    (!media_type.eq_ignore_ascii_case("application/json")).then(|| {
        let detail = format!("Invalid Content-type ({sent}), expected ['application/json']");
        Problem::Controller(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    })
}

fn refused(refusal: Refusal) -> Problem {
    let detail = match refusal {
        Refusal::Syntax => "Request body is not valid JSON".to_owned(),
        Refusal::Schema(reason) => reason,
    };
    Problem::Controller(StatusCode::BAD_REQUEST, detail)
}

fn unknown_integration(uuid: &str) -> Problem {
    Problem::Service(StatusCode::NOT_FOUND, format!("Integration not found. uuid={uuid}"))
}

fn missing_parameter(name: &str) -> Problem {
    Problem::Controller(StatusCode::BAD_REQUEST, format!("Missing query parameter '{name}'"))
}

fn query_value<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    let pairs = parts.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.rev().find(|(key, _)| *key == name).map(|(_, value)| value)
}
