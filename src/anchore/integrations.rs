//! Integrations: how this agent registers with Anchore Enterprise 5.11 and newer, and tells it about its health.
//!
//! Each call is made once. Of the answers only what is used is read, and any answer is survived: web pages, documents
//! without what they should have, fields of other types. The settings of the agent are never sent, for they hold
//! secrets.

mod documents;

use std::fmt;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use url::Url;

pub use self::documents::{BatchInfo, HealthReport, RegistrationRequest, ReportInfo};
use self::documents::{HealthData, HealthDocument, INTEGRATION_TYPE, PROTOCOL_VERSION, RegistrationDocument};
use super::answer::{BodyEnd, Words};
use super::endpoint;
use super::error::{PROXY_ADVICE, Refusal, SendError, TransportError};
use super::exchange::Answer;
use super::payload::Payload;
use super::{BasicAuth, Client, authority, refusal};

const REGISTRATION: &str = "/v2/system/integrations/registration";

/// Longest uuid that is taken from an answer: it becomes a part of a path.
const LONGEST_UUID: usize = 128;

/// What is asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Its version.
    Version,
    /// To register the agent.
    Registration,
    /// To take a health report.
    HealthReport,
}

impl Call {
    /// What the user's role must allow, as Anchore names it.
    fn action(self) -> Option<&'static str> {
        match self {
            Self::Version => None,
            Self::Registration => Some("registerIntegration"),
            Self::HealthReport => Some("reportHealth"),
        }
    }
}

/// What the server said of a registration it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The integration's, for its health reports. Letters, digits, `-` and `_`.
    pub uuid: String,
    /// Whether the server did not know the pair of ids before.
    pub is_new: bool,
}

/// The version of a server, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    /// The first number.
    pub major: u64,
    /// The second number.
    pub minor: u64,
}

impl ServerVersion {
    /// The first with integrations.
    pub const FIRST_WITH_INTEGRATIONS: Self = Self { major: 5, minor: 11 };

    /// Whether agents can register with it.
    pub fn has_integrations(self) -> bool {
        self >= Self::FIRST_WITH_INTEGRATIONS
    }

    /// From `5.23.0`, `v5.11.0-rc1` or `5.11`. A prerelease counts as its release: it has the same endpoints.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (major, rest) = text.strip_prefix(['v', 'V']).unwrap_or(text).split_once('.')?;
        let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        let is_number = major.bytes().all(|byte| byte.is_ascii_digit());
        let minor = rest.get(..end)?.parse().ok()?;
        Some(Self { major: major.parse().ok().filter(|_| is_number)?, minor })
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A call had no success.
#[derive(Debug, Error)]
pub enum IntegrationError {
    /// There is no answer that could be used.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The answer is an error.
    #[error("{}", refused(*.call, .refusal))]
    Refused {
        /// What was asked.
        call: Call,
        /// The answer.
        refusal: Box<Refusal>,
        /// Whether a service of Anchore says so, which knows the path. Else it may be the router in front of them, or
        /// something that is not Anchore.
        is_of_service: bool,
    },
    /// The answer is a success, of something that is not Anchore.
    #[error(
        "{url} answered {status} with what Anchore never answers ({words}): check anchore.url, and what stands in front \
         of Anchore"
    )]
    NotAnchore {
        /// What was asked.
        url: String,
        /// The answer.
        status: StatusCode,
        /// The beginning of its body.
        words: Words,
    },
    /// The answer is a success, and lacks what was asked for.
    #[error("{url} answered {status} without {missing}")]
    Incomplete {
        /// What was asked.
        url: String,
        /// The answer.
        status: StatusCode,
        /// What is missing.
        missing: &'static str,
    },
}

impl IntegrationError {
    /// The answer, when it is an error.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// Whether there was an answer, of whatever kind.
    pub fn is_answer(&self) -> bool {
        !matches!(self, Self::Send(SendError::Transport(_) | SendError::Unsendable(_)))
    }
}

fn refused(call: Call, refusal: &Refusal) -> String {
    let said = format!("{} answered {} ({})", refusal.url, refusal.status, refusal.words);
    match advice(call, refusal) {
        Some(advice) => format!("{said}: {advice}"),
        None => said,
    }
}

fn advice(call: Call, refusal: &Refusal) -> Option<String> {
    let advice = match (refusal.status, call.action()) {
        (StatusCode::UNAUTHORIZED, Some(_)) => "check anchore.user and anchore.password".to_owned(),
        (StatusCode::FORBIDDEN, Some(action)) => format!(
            "give the user a role in the default account that allows the action {action}, and check that the account is \
             enabled"
        ),
        (StatusCode::NOT_FOUND, Some(_)) if refusal.names_unknown_account() => {
            "check anchore.account and account-route-by-namespace-label.default-account".to_owned()
        }
        (StatusCode::PROXY_AUTHENTICATION_REQUIRED, _) => PROXY_ADVICE.to_owned(),
        (_, None) => {
            "check that anchore.url is the address of Anchore's API, and that what stands in front of it lets \
                      /version through"
                .to_owned()
        }
        _ => return None,
    };
    Some(advice)
}

impl Client {
    /// Asks the server for its version, without credentials.
    ///
    /// # Errors
    /// There is no answer, or none that names a version.
    pub async fn probe_version(&self) -> Result<ServerVersion, IntegrationError> {
        let mut url = endpoint::below(&self.base, endpoint::VERSION);
        let mut answer = self.ask_version(&url).await?;
        let mut redirects = 0;
        while answer.status.is_redirection() {
            url = self.next_hop(&url, &answer, redirects)?;
            answer = self.ask_version(&url).await?;
            redirects += 1;
        }
        let document: VersionDocument = json(Call::Version, &url, &answer, 0)?;
        let version = document.service.as_ref().and_then(|service| service.get("version"));
        let version = version.and_then(Value::as_str).and_then(ServerVersion::parse);
        version.ok_or_else(|| incomplete(&url, &answer, "a version of the service"))
    }

    /// Registers the agent in `account`, or refreshes what the server knows of the same pair of ids.
    ///
    /// # Errors
    /// The agent is not registered, or its uuid is not known.
    pub async fn register(
        &self,
        request: &RegistrationRequest,
        account: &str,
        sender: &BasicAuth,
    ) -> Result<Registered, IntegrationError> {
        let payload = payload(&RegistrationDocument { integration_type: INTEGRATION_TYPE, request })?;
        let (url, answer) = self.post_to(REGISTRATION, &payload, account, sender).await?;
        let document: RegisteredDocument = json(Call::Registration, &url, &answer, payload.byte_len())?;
        let uuid = document.uuid.as_ref().and_then(Value::as_str).filter(|uuid| is_path_segment(uuid));
        match uuid {
            Some(uuid) => Ok(Registered { uuid: uuid.to_owned(), is_new: answer.status == StatusCode::CREATED }),
            None => Err(incomplete(&url, &answer, "the uuid of the integration")),
        }
    }

    /// Sends a health report of the integration `uuid`, which is one that [`Client::register`] gave for `account`.
    ///
    /// # Errors
    /// The report was not accepted.
    pub async fn report_health(
        &self,
        uuid: &str,
        report: &HealthReport,
        account: &str,
        sender: &BasicAuth,
    ) -> Result<(), IntegrationError> {
        let payload = payload(&HealthDocument {
            uuid: &report.uuid,
            protocol_version: PROTOCOL_VERSION,
            timestamp: &report.timestamp,
            uptime: report.uptime,
            health_report_interval: report.health_report_interval,
            health_data: HealthData {
                integration_type: INTEGRATION_TYPE,
                version: PROTOCOL_VERSION,
                errors: &report.errors,
                account_k8s_inventory_reports: &report.reports,
            },
        })?;
        let path = format!("/v2/system/integrations/{uuid}/health-report");
        let (url, answer) = self.post_to(&path, &payload, account, sender).await?;
        success(Call::HealthReport, &url, &answer, payload.byte_len())?;
        if answer.body.is_empty_or_json() { Ok(()) } else { Err(stranger(&url, &answer)) }
    }
}

#[derive(Deserialize)]
struct VersionDocument {
    service: Option<Value>,
}

#[derive(Deserialize)]
struct RegisteredDocument {
    uuid: Option<Value>,
}

/// Serialises once; the documents of these calls are small.
fn payload(document: &impl Serialize) -> Result<Payload, SendError> {
    let written = serde_json::value::to_raw_value(document)
        .map_err(|error| SendError::Unsendable(format!("the request could not be written as JSON: {error}")))?;
    let byte_len = u64::try_from(written.get().len()).unwrap_or(u64::MAX);
    Ok(Payload::json(written, byte_len))
}

/// The document of a success.
fn json<T: for<'de> Deserialize<'de>>(
    call: Call,
    url: &Url,
    answer: &Answer,
    byte_len: u64,
) -> Result<T, IntegrationError> {
    success(call, url, answer, byte_len)?;
    // Of another type than an object, even an empty one: not what Anchore answers.
    let is_object = answer.body.bytes.trim_ascii().starts_with(b"{");
    serde_json::from_slice(&answer.body.bytes).ok().filter(|_| is_object).ok_or_else(|| stranger(url, answer))
}

fn success(call: Call, url: &Url, answer: &Answer, byte_len: u64) -> Result<(), IntegrationError> {
    if answer.status.is_success() {
        return Ok(());
    }
    let is_of_service = is_of_service(&answer.body.bytes);
    Err(IntegrationError::Refused { call, refusal: Box::new(refusal(url, answer, byte_len)), is_of_service })
}

/// A success with a body that is not the expected one.
fn stranger(url: &Url, answer: &Answer) -> IntegrationError {
    if let BodyEnd::Broken(reason) = &answer.body.end {
        let broken = TransportError::Broken { peer: authority(url), reason: reason.clone() };
        return SendError::from(broken).into();
    }
    let words = Words::of(&answer.body.bytes);
    IntegrationError::NotAnchore { url: endpoint::printable(url), status: answer.status, words }
}

fn incomplete(url: &Url, answer: &Answer, missing: &'static str) -> IntegrationError {
    IntegrationError::Incomplete { url: endpoint::printable(url), status: answer.status, missing }
}

/// Services answer errors with a `message`, the router and the validation in front of them with `title` and `status`.
fn is_of_service(body: &[u8]) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return false };
    fields.contains_key("message") && !(fields.contains_key("title") && fields.contains_key("status"))
}

fn is_path_segment(uuid: &str) -> bool {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !uuid.is_empty() && uuid.len() <= LONGEST_UUID && uuid.bytes().all(is_safe)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;
    use crate::anchore::loopback::{Loopback, Received, inventory_user, response, response_with};

    fn registration() -> RegistrationRequest {
        RegistrationRequest {
            registration_id: "r".to_owned(),
            registration_instance_id: "i".to_owned(),
            username: "inventory".to_owned(),
            health_report_interval: 60,
            name: None,
            description: None,
            version: "0.1.0".to_owned(),
            started_at: "2026-03-04T05:00:00Z".to_owned(),
            uptime: 1.5,
            cluster_name: "edge-7".to_owned(),
            namespace: None,
            explicitly_account_bound: Vec::new(),
            namespaces: Vec::new(),
        }
    }

    async fn register(
        answer: impl Fn(&Received) -> String + Clone + Send + Sync + 'static,
    ) -> Result<Registered, String> {
        let server = Loopback::answering(answer).await;
        let registered = server.client().register(&registration(), "shop", &inventory_user()).await;
        registered.map_err(|error| error.to_string().replace(server.url.as_str(), "S/"))
    }

    #[rstest]
    #[case("5.23.0", Some((5, 23)))]
    #[case("v5.11.0-rc1", Some((5, 11)))]
    #[case(" 5.11 ", Some((5, 11)))]
    #[case("5.11-dev", Some((5, 11)))]
    #[case("6.0.0+build", Some((6, 0)))]
    #[case("5", None)]
    #[case("5.", None)]
    #[case("five.eleven", None)]
    #[case("+5.11", None)]
    #[case("", None)]
    #[case("99999999999999999999.1", None)]
    fn versions_are_read_as_far_as_they_matter(#[case] text: &str, #[case] expected: Option<(u64, u64)>) {
        let version = ServerVersion::parse(text);
        assert_eq!(version.map(|version| (version.major, version.minor)), expected);
    }

    #[test]
    fn integrations_came_with_5_11() {
        let has = |text: &str| ServerVersion::parse(text).is_some_and(ServerVersion::has_integrations);
        assert!(has("5.11.0-rc1") && has("5.23.0") && has("6.0.0"));
        assert!(!has("5.10.9") && !has("4.23.0"));
    }

    #[tokio::test]
    async fn redirects_that_keep_the_host_are_followed_and_others_are_named() {
        let server = Loopback::answering(|request| match request.line.as_str() {
            "GET /version" => response_with(308, "Location: /api/version\r\n", ""),
            "GET /api/version" => response(200, r#"{"service": {"version": "5.23.0"}}"#),
            _ => response_with(302, "Location: http://login.example/?next=s3cret\r\n", ""),
        })
        .await;
        let version = server.client().probe_version().await.expect("a version");
        assert_eq!(version, ServerVersion { major: 5, minor: 23 });
        let error = server.client().register(&registration(), "shop", &inventory_user()).await.expect_err("refused");
        assert!(error.to_string().contains("a redirect to http://login.example/,"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_that_repeats_a_long_registration_is_read_to_its_end() {
        let long = serde_json::json!({"namespaces": vec!["namespace"; 50_000], "uuid": "u-1"}).to_string();
        let registered = register(move |_| response(201, &long)).await;
        assert_eq!(registered, Ok(Registered { uuid: "u-1".to_owned(), is_new: true }));
    }

    #[tokio::test]
    async fn an_answer_of_something_else_says_what_to_check() {
        let page = register(|_| response(200, "<html><title>Sign in</title></html>")).await;
        let expected = "S/v2/system/integrations/registration answered 200 OK with what Anchore never answers (a web page \
                        titled \"Sign in\"): check anchore.url, and what stands in front of Anchore";
        assert_eq!(page, Err(expected.to_owned()));
        let nothing = register(|_| response(200, r#"{"uuid": "a/b"}"#)).await;
        let expected = "S/v2/system/integrations/registration answered 200 OK without the uuid of the integration";
        assert_eq!(nothing, Err(expected.to_owned()));
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_no_success() {
        let server = Loopback::serving(|mut stream| async move {
            let _ = Received::read(&mut stream).await;
            let _ = tokio::io::AsyncWriteExt::write_all(
                &mut stream,
                b"HTTP/1.1 201 Created\r\nContent-Length: 50\r\n\r\n{\"uuid\":",
            )
            .await;
        })
        .await;
        let error = server.client().register(&registration(), "shop", &inventory_user()).await.expect_err("cut");
        assert!(
            matches!(error, IntegrationError::Send(SendError::Transport(TransportError::Broken { .. }))),
            "{error}"
        );
    }
}
