//! Anchore Enterprise over HTTP. The only user of the HTTP client.
//!
//! Sends a report once and says what came of it; [`integrations`] has the calls of registration and health. It follows
//! harmless redirects and finds the path of older servers; it does not try again, does not choose the account, and does
//! not decide what an error means: that is [`crate::delivery`]. Credentials come with each request and are not kept. A proxy or certificate that cannot be used
//! is an error when the client is made, not a connection made otherwise.

pub mod answer;
pub mod error;
pub mod integrations;
pub mod payload;
pub mod tls;

mod connect;
mod endpoint;
mod exchange;
mod pool;
mod stubborn;
mod version;

#[cfg(test)]
pub(crate) mod loopback;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, InvalidHeaderValue, LOCATION, PROXY_AUTHORIZATION, RETRY_AFTER,
    USER_AGENT,
};
use http::{HeaderValue, Method, Request, StatusCode};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use url::Url;

use self::answer::{BodyEnd, Words};
use self::connect::Proxies;
use self::endpoint::ApiGeneration;
use self::error::{Refusal, SendError, TransportError};
use self::exchange::{Answer, Patience};
use self::payload::{Payload, PayloadBody};
use self::pool::Pool;
use self::tls::TlsError;
use crate::config::anchore::AnchoreConfig;
use crate::proxy::ProxyError;

/// Names the account a request is for; the user must have a role in it.
const ACCOUNT_HEADER: HeaderName = HeaderName::from_static("x-anchore-account");

const AGENT: HeaderValue = HeaderValue::from_static(concat!("anchore-k8s-inventory/", env!("CARGO_PKG_VERSION")));

const MOST_REDIRECTS: usize = 3;

/// A user and a password, at hand for a request.
#[derive(Debug, Clone)]
pub struct BasicAuth {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: SecretString,
}

impl BasicAuth {
    /// The value of the header, marked so that nobody prints it.
    fn header(&self) -> Result<HeaderValue, InvalidHeaderValue> {
        let encoded = BASE64_STANDARD.encode(format!("{}:{}", self.user, self.password.expose_secret()));
        let mut value = HeaderValue::try_from(format!("Basic {encoded}"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// The client cannot be made as configured.
#[derive(Debug, Error)]
pub enum ClientError {
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The proxy cannot be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

/// A connection pool to one Anchore Enterprise, and what was learnt about it.
#[derive(Debug)]
pub struct Client {
    pool: Pool,
    base: Url,
    timeout: Option<Duration>,
    proxies: Proxies,
    /// Reports go to the path of servers before 4.9, because such a server answered.
    is_older: AtomicBool,
}

impl Client {
    /// A client of the server in `settings`. `variables` is the environment, which may name a proxy. Reads the files of
    /// certificates, and reads them again before a request when they have changed; contacts nothing.
    ///
    /// # Errors
    /// A certificate, key or proxy cannot be used.
    pub fn new(settings: &AnchoreConfig, variables: &BTreeMap<String, String>) -> Result<Self, ClientError> {
        let proxies = Proxies::new(&settings.http.proxy, variables);
        proxies.of(&settings.url)?;
        let pool = Pool::new(settings, proxies.clone(), variables)?;
        Ok(Self {
            pool,
            base: settings.url.clone(),
            timeout: settings.http.timeout,
            proxies,
            is_older: AtomicBool::new(false),
        })
    }

    /// Sends a report for `account`, once. Where the server does not know the path, the path of the other generation of
    /// servers is tried: when `/version` says so, or cannot be read.
    ///
    /// # Errors
    /// The report was not accepted.
    pub async fn send_report(&self, report: &Payload, account: &str, sender: &BasicAuth) -> Result<(), SendError> {
        let generation = self.generation();
        let refusal = match self.post(generation, report, account, sender).await {
            Err(SendError::Refused(refusal)) if is_unknown_path(&refusal) => refusal,
            other => return other,
        };
        let told = self.ask_generation().await;
        if told == Some(generation) {
            return Err(SendError::Refused(refusal));
        }
        let other = generation.other();
        let result = self.post(other, report, account, sender).await;
        if result.is_ok() || told == Some(other) {
            self.is_older.store(other == ApiGeneration::V1, Ordering::Relaxed);
        }
        match result {
            Ok(()) => Ok(()),
            Err(error) => Err(after_unknown_path(*refusal, error)),
        }
    }

    fn generation(&self) -> ApiGeneration {
        if self.is_older.load(Ordering::Relaxed) { ApiGeneration::V1 } else { ApiGeneration::V2 }
    }

    /// Asks `/version`; `None` when there is no answer, or none of Anchore's.
    async fn ask_generation(&self) -> Option<ApiGeneration> {
        let url = endpoint::below(&self.base, endpoint::VERSION);
        let answer = self.ask_version(&url).await;
        let told = answer.as_ref().ok().and_then(version::generation);
        tracing::debug!(%url, generation = ?told, "asked Anchore Enterprise for its version");
        told
    }

    /// What `url`, the address of the version, answers.
    async fn ask_version(&self, url: &Url) -> Result<Answer, SendError> {
        let (nothing, progress) = PayloadBody::empty();
        let request = self.request(Method::GET, url, nothing)?;
        // Connecting and answering may each take the whole of the limit.
        let patience = Patience { step: self.timeout, answer: self.timeout.map(|limit| limit.saturating_mul(2)) };
        exchange::exchange(&self.pool.client().await, request, progress, patience, &self.peer(url)).await
    }

    async fn post(
        &self,
        generation: ApiGeneration,
        report: &Payload,
        account: &str,
        sender: &BasicAuth,
    ) -> Result<(), SendError> {
        let (url, answer) = self.post_to(generation.inventory_path(), report, account, sender).await?;
        outcome(&url, answer, report)
    }

    /// Posts a document to `path` below the base, through redirects that keep it; gives the answer, which is none of
    /// these, and the address that gave it.
    async fn post_to(
        &self,
        path: &str,
        document: &Payload,
        account: &str,
        sender: &BasicAuth,
    ) -> Result<(Url, Answer), SendError> {
        // A name in UTF-8 is sent as it is; only control characters cannot be in a header.
        let account = HeaderValue::from_bytes(account.as_bytes())
            .map_err(|_| SendError::Unsendable(format!("the account name {account:?} holds control characters")))?;
        let credentials = sender.header().map_err(|error| SendError::Unsendable(error.to_string()))?;
        let mut url = endpoint::below(&self.base, path);
        let mut redirects = 0;
        loop {
            let (body, progress) = document.body();
            let mut request = self.request(Method::POST, &url, body)?;
            let headers = request.headers_mut();
            headers.insert(AUTHORIZATION, credentials.clone());
            headers.insert(ACCOUNT_HEADER, account.clone());
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let patience = Patience::for_body(self.timeout, document.byte_len());
            let answer =
                exchange::exchange(&self.pool.client().await, request, progress, patience, &self.peer(&url)).await?;
            if !answer.status.is_redirection() {
                return Ok((url, answer));
            }
            url = self.next_hop(&url, &answer, redirects)?;
            redirects += 1;
        }
    }

    /// A request with what all requests have. The client adds host and length.
    fn request(&self, method: Method, url: &Url, body: PayloadBody) -> Result<Request<PayloadBody>, SendError> {
        let mut request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(ACCEPT, "*/*")
            .header(USER_AGENT, AGENT)
            .body(body)
            .map_err(|error| SendError::Unsendable(format!("{} cannot be asked: {error}", endpoint::printable(url))))?;
        if let Some(credentials) = self.proxies.credentials_for_forwarding(url) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, credentials);
        }
        Ok(request)
    }

    /// Where to send the body again after a redirect of `from`.
    fn next_hop(&self, from: &Url, answer: &Answer, redirects: usize) -> Result<Url, SendError> {
        let named = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let location = named.and_then(|named| from.join(named).ok());
        let next = endpoint::follow(from, answer.status, location.as_ref()).filter(|_| redirects < MOST_REDIRECTS);
        let Some(next) = next else {
            return Err(SendError::Redirected {
                from: endpoint::printable(from),
                status: answer.status,
                to: location.as_ref().map_or_else(|| "no address".to_owned(), endpoint::printable),
            });
        };
        self.proxies.of(&next).map_err(|error| SendError::Unsendable(error.to_string()))?;
        Ok(next)
    }

    /// The other end, and the proxy between, as errors name them.
    fn peer(&self, url: &Url) -> String {
        let server = authority(url);
        match self.proxies.of(url) {
            Ok(Some(proxy)) => format!("{server} through the proxy {}", authority(&proxy)),
            _ => server,
        }
    }
}

/// What an answer that is no redirect means for the report.
fn outcome(url: &Url, answer: Answer, report: &Payload) -> Result<(), SendError> {
    if !answer.status.is_success() {
        return Err(SendError::Refused(Box::new(refusal(url, &answer, report.byte_len()))));
    }
    if answer.body.is_empty_or_json() {
        return Ok(());
    }
    let printable = endpoint::printable(url);
    match answer.body.end {
        BodyEnd::Broken(reason) => Err(TransportError::Broken { peer: authority(url), reason }.into()),
        BodyEnd::Complete | BodyEnd::Cut => {
            let words = Words::of(&answer.body.bytes);
            Err(SendError::NotAnchore { url: printable, status: answer.status, words })
        }
    }
}

/// An answer of `url` that is no success, to a body of that many bytes.
fn refusal(url: &Url, answer: &Answer, byte_len: u64) -> Refusal {
    let named = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    Refusal {
        url: endpoint::printable(url),
        status: answer.status,
        retry_after: named.and_then(|value| answer::retry_after(value, Timestamp::now())),
        words: Words::of(&answer.body.bytes),
        byte_len,
        note: None,
    }
}

/// A 404 of the path. A 404 that names the account shows that the path exists.
fn is_unknown_path(refusal: &Refusal) -> bool {
    refusal.status == StatusCode::NOT_FOUND && !refusal.names_unknown_account()
}

/// The error to tell when the first path is unknown and the second failed as well: what the second says if it exists,
/// else the 404 of the first; each with a note of the other.
fn after_unknown_path(first: Refusal, second: SendError) -> SendError {
    match second {
        SendError::Refused(second) if !is_unknown_path(&second) && second.status != StatusCode::METHOD_NOT_ALLOWED => {
            let note = format!("before, {} answered {}", first.url, first.status);
            SendError::Refused(Box::new(Refusal { note: Some(note), ..*second }))
        }
        second => {
            let note = format!("the path of other versions of Anchore was tried as well: {second}");
            SendError::Refused(Box::new(Refusal { note: Some(note), ..first }))
        }
    }
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
