//! One request to the Kubernetes API: what is asked for, how long it may take, and what went wrong in words that tell
//! the caller what to do next. Nothing is tried again here, but for one renewal of the credentials after a 401.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;

use super::connect::Connection;
use super::gunzip::{Gunzip, GunzipError};
use super::progress::Progress;
use super::wire::{self, Encoding, Wire, WireError};

/// Largest body that is read as one piece. A page of 500 pods is 5 to 15 MB.
const MAX_WHOLE_BODY: usize = 512 * 1024 * 1024;

/// Largest error body that is looked at.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// Longest text of a server that is repeated in an error.
const MAX_SERVER_TEXT: usize = 300;

/// Why a request gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// No connection, or it broke before an answer.
    #[error(
        "{server} cannot be reached: {reason}; check this address, its certificate authority and any proxy in between"
    )]
    Unreachable { server: String, reason: String },
    /// Not even tried, because others before it had failed one after another.
    #[error("it was not tried, because the API server had not been reached for others before it")]
    NotTried,
    /// A list that is older than what is known: one server of several lags behind, or the cluster went back in time.
    #[error("the API server's list is older than what it has shown before")]
    Outdated,
    /// No byte within the time allowed.
    #[error("the API server sent nothing for {} s (kubernetes.request-timeout-seconds)", .0.as_secs())]
    TimedOut(Duration),
    /// The answer ended early.
    #[error("the API server's answer was cut off: {0}")]
    CutOff(String),
    /// The answer is not what its content type says.
    #[error("the API server's answer makes no sense: {0}")]
    Malformed(String),
    /// 401, also with renewed credentials.
    #[error("the API server does not accept the credentials (401): {0}; renew the token or certificate")]
    Unauthorized(String),
    /// 403.
    #[error("not allowed (403): {0}")]
    Forbidden(String),
    /// 404.
    #[error("not found (404): {0}")]
    NotFound(String),
    /// 410: a continue token expired.
    #[error("the list expired while it was read (410): {0}")]
    Expired(String),
    /// 429 or 503: the server asks for patience.
    #[error("the API server is busy ({status}): {message}")]
    Busy { status: u16, message: String, retry_after: Option<Duration> },
    /// Other 5xx.
    #[error("the API server failed ({status}): {message}")]
    Server { status: u16, message: String },
    /// Other 4xx.
    #[error("the API server refused the request ({status}): {message}")]
    Refused { status: u16, message: String },
    /// Something else answers at this address.
    #[error(
        "what answers at {server} is not a Kubernetes API server ({answer}); check this address and any proxy in between"
    )]
    NotKubernetes { server: String, status: u16, answer: String },
}

/// The Kubernetes API with the time each request may take.
#[derive(Debug)]
pub(crate) struct Api<'a> {
    pub(crate) connection: &'a Connection,
    /// Bound on the response's headers, and on each further chunk of its body.
    pub(crate) timeout: Duration,
    pub(crate) progress: &'a Progress,
}

/// A successful answer whose body is still to be read.
pub(crate) struct Answer<'a> {
    pub(crate) encoding: Encoding,
    chunks: Body,
    gunzip: Option<Gunzip>,
    timeout: Duration,
    progress: &'a Progress,
}

/// What a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accept {
    /// Protobuf, or JSON from servers and proxies that have nothing else.
    Protobuf,
    /// JSON.
    Json,
    /// A stream of events, never compressed: nothing would come before a compressor's buffer is full.
    Watch,
}

impl<'a> Api<'a> {
    /// GETs `path` (with its query).
    pub(crate) async fn get(&self, path: &str, accept: Accept) -> Result<Answer<'a>, RequestError> {
        self.exchange(Method::GET, path, accept, Bytes::new()).await
    }

    /// GETs the object at `path`, or with a body POSTs it there or PUTs it in its place, in JSON; gives the object as
    /// it is then.
    pub(crate) async fn json_object(
        &self,
        method: Method,
        path: &str,
        object: Option<&serde_json::Value>,
    ) -> Result<serde_json::Value, RequestError> {
        let body = object.map_or_else(Bytes::new, |object| Bytes::from(object.to_string()));
        let answer = self.exchange(method, path, Accept::Json, body).await?;
        serde_json::from_slice(&answer.whole().await?)
            .map_err(|error| RequestError::Malformed(format!("it is no JSON: {error}")))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        accept: Accept,
        body: Bytes,
    ) -> Result<Answer<'a>, RequestError> {
        let answer = self.exchange_uncounted(&method, path, accept, body).await;
        self.progress.answered(answer.as_ref().err());
        answer
    }

    /// Sends a request, and once more with renewed credentials after a 401.
    async fn exchange_uncounted(
        &self,
        method: &Method,
        path: &str,
        accept: Accept,
        body: Bytes,
    ) -> Result<Answer<'a>, RequestError> {
        let (response, generation) = self.send(method, path, accept, body.clone()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.answer(response).await;
        }
        if let Err(error) = self.connection.renew(generation).await {
            return Err(RequestError::Unauthorized(format!("they could not be renewed: {error}")));
        }
        let (response, _) = self.send(method, path, accept, body).await?;
        self.answer(response).await
    }

    /// GETs one object.
    pub(crate) async fn get_object<T: Wire>(&self, path: &str) -> Result<T, RequestError> {
        let answer = self.get(path, Accept::Protobuf).await?;
        let encoding = answer.encoding;
        let body = answer.whole().await?;
        wire::decode_body(body, encoding).map_err(RequestError::from)
    }

    async fn send(
        &self,
        method: &Method,
        path: &str,
        accept: Accept,
        body: Bytes,
    ) -> Result<(Response<Body>, u64), RequestError> {
        let (client, generation) = self.connection.fresh().await;
        let is_watch = accept == Accept::Watch;
        let accept = match accept {
            Accept::Protobuf => "application/vnd.kubernetes.protobuf,application/json;q=0.5",
            Accept::Json => "application/json",
            Accept::Watch => "application/vnd.kubernetes.protobuf;stream=watch,application/json;q=0.5",
        };
        let compresses = self.connection.compresses() && !is_watch;
        let encoding = if compresses { "gzip" } else { "identity" };
        let mut request =
            Request::builder().method(method).uri(path).header(ACCEPT, accept).header(ACCEPT_ENCODING, encoding);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(if body.is_empty() { Body::empty() } else { Body::from(body) })
            .map_err(|error| RequestError::Malformed(format!("{path} is not a path: {error}")))?;
        self.progress.request();
        let response = tokio::time::timeout(self.timeout, client.send(request))
            .await
            .map_err(|_| RequestError::TimedOut(self.timeout))?
            .map_err(|error| {
                self.connection.suspect();
                RequestError::Unreachable { server: self.connection.server(), reason: reason(&error) }
            })?;
        Ok((response, generation))
    }

    async fn answer(&self, response: Response<Body>) -> Result<Answer<'a>, RequestError> {
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let encoding = encoding_of(header(CONTENT_TYPE)).ok_or_else(|| self.not_kubernetes(&response))?;
        let gunzip = match header(CONTENT_ENCODING) {
            "gzip" => Some(Gunzip::new()),
            "" | "identity" => None,
            other => return Err(RequestError::Malformed(format!("it is compressed as {:?}", shorten(other)))),
        };
        let chunks = response.into_body();
        Ok(Answer { encoding, chunks, gunzip, timeout: self.timeout, progress: self.progress })
    }

    fn not_kubernetes(&self, response: &Response<Body>) -> RequestError {
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let status = response.status().as_u16();
        let answer = match (header(LOCATION), header(CONTENT_TYPE)) {
            (Some(location), _) => format!("status {status}, redirecting to {}", shorten(location)),
            (None, Some(content_type)) => format!("status {status}, content type {}", shorten(content_type)),
            (None, None) => format!("status {status}, no content type"),
        };
        RequestError::NotKubernetes { server: self.connection.server(), status, answer }
    }

    /// Reads what the server says of a status that is no success.
    async fn refusal(&self, response: Response<Body>) -> RequestError {
        let status = response.status();
        if status.is_redirection() {
            return self.not_kubernetes(&response);
        }
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let encoding = content_type.and_then(encoding_of);
        let retry_after = retry_after(&response);
        let stranger = self.not_kubernetes(&response);
        let limited = http_body_util::Limited::new(response.into_body(), MAX_ERROR_BODY);
        let body = match tokio::time::timeout(self.timeout, limited.collect()).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            _ => Bytes::new(),
        };
        let said = encoding.and_then(|encoding| wire::decode_body::<wire::Status>(body, encoding).ok());
        let is_absence = said.as_ref().is_some_and(|said| said.reason == "NotFound");
        let message = said.map(|said| shorten(&wire::as_text(&said.message))).filter(|message| !message.is_empty());
        let message = message.unwrap_or_else(|| "it gave no reason".to_owned());
        match status.as_u16() {
            401 => RequestError::Unauthorized(message),
            403 => RequestError::Forbidden(message),
            404 if is_absence => RequestError::NotFound(message),
            // Said by a proxy, or by a server without this path: it does not mean that the object is not there.
            404 => stranger,
            410 => RequestError::Expired(message),
            status @ (429 | 503) => RequestError::Busy { status, message, retry_after },
            status @ 500.. => RequestError::Server { status, message },
            status => RequestError::Refused { status, message },
        }
    }
}

impl Answer<'_> {
    /// The same answer, which may be silent for so long.
    pub(crate) fn silent_for(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The next chunk of the body, inflated; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, RequestError> {
        loop {
            if let Some(gunzip) = &mut self.gunzip
                && let Some(inflated) = gunzip.next()?
            {
                return Ok(Some(inflated));
            }
            match (self.received().await?, &mut self.gunzip) {
                (Some(compressed), Some(gunzip)) => gunzip.push(compressed),
                (None, Some(gunzip)) => {
                    gunzip.finish()?;
                    return Ok(None);
                }
                (plain, None) => return Ok(plain),
            }
        }
    }

    /// The whole body, for what is small or cannot be read as a stream.
    pub(crate) async fn whole(mut self) -> Result<Bytes, RequestError> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if whole.len() + chunk.len() > MAX_WHOLE_BODY {
                return Err(RequestError::Malformed("it is longer than 512 MiB".to_owned()));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    async fn received(&mut self) -> Result<Option<Bytes>, RequestError> {
        loop {
            let frame = tokio::time::timeout(self.timeout, self.chunks.frame())
                .await
                .map_err(|_| RequestError::TimedOut(self.timeout))?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| RequestError::CutOff(reason(&error)))?;
            if let Ok(data) = frame.into_data() {
                self.progress.received(data.len());
                return Ok(Some(data));
            }
        }
    }
}

impl From<GunzipError> for RequestError {
    fn from(error: GunzipError) -> Self {
        match error {
            GunzipError::CutOff => Self::CutOff(error.to_string()),
            GunzipError::Broken(_) => Self::Malformed(error.to_string()),
        }
    }
}

impl From<WireError> for RequestError {
    fn from(error: WireError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// The text of an error with all its causes, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    shorten(&text)
}

/// The text of a client's error, without the word that kube puts before those of the layers below it.
fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Service(cause) => chain(cause.as_ref()),
        other => chain(other),
    }
}

/// One line of bounded length without control characters, so that no server can write into a log what is not its own.
pub(crate) fn shorten(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = line.clone().take(MAX_SERVER_TEXT).collect();
    if line.count() > MAX_SERVER_TEXT {
        short.push('…');
    }
    short
}

fn encoding_of(content_type: &str) -> Option<Encoding> {
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/vnd.kubernetes.protobuf" => Some(Encoding::Protobuf),
        "application/json" => Some(Encoding::Json),
        _ => None,
    }
}

/// `Retry-After` in seconds, the form that API servers use.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}
