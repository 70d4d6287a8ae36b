//! Faults by script: which requests go wrong, and how.
//!
//! A rule names its requests by path and occurrence; the first rule that matches decides, and without one the real
//! answer is given. Rules count only the requests that they match.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::body::{self, Body};
use super::record::Recording;
use super::{Exchange, Handler, lock};

/// Which requests a fault concerns.
#[derive(Debug, Clone)]
pub struct Requests {
    method: Option<Method>,
    path: String,
    query: String,
    watch: Option<bool>,
    first: usize,
    last: usize,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This is answered, after the request's body was read.
    Answer(Answer),
    /// This is answered at once; the request's body is not read.
    EarlyAnswer(Answer),
    /// The real answer, after this time.
    Delay(Duration),
    /// The request's body is read, and nothing is ever answered.
    NeverAnswers,
    /// The request's body is not read, and nothing is ever answered.
    NeverReads,
    /// The connection is closed once this many bytes of the request's body were read (or all of it).
    Closes {
        /// Bytes of the request's body.
        after: usize,
    },
    /// The connection is reset once this many bytes of the request's body were read (or all of it).
    Resets {
        /// Bytes of the request's body.
        after: usize,
    },
    /// The real answer, altered on its way.
    Altered(Vec<Alteration>),
}

/// How an answer is altered. Sizes are in bytes of the body as it is sent, so after compression.
#[derive(Debug, Clone)]
pub enum Alteration {
    /// The connection closes after this many bytes.
    CutAfter(usize),
    /// The body ends after this many bytes, as if it were complete.
    TruncatedTo(usize),
    /// Nothing more comes after this many bytes.
    StallsAfter(usize),
    /// The body comes in chunks of this size.
    ChunksOf(usize),
    /// The body comes in chunks of this size, with this pause before each.
    Drips(usize, Duration),
    /// This is the body instead.
    Body(Bytes),
    /// This header is set.
    Header(HeaderName, HeaderValue),
    /// `Content-Length` announces this.
    ContentLength(u64),
}

/// A made-up answer.
#[derive(Clone)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: AnswerBody,
}

/// Content type and body that fit a request's headers.
pub(crate) type Negotiated = Arc<dyn Fn(&HeaderMap) -> (&'static str, Bytes) + Send + Sync>;

#[derive(Clone)]
enum AnswerBody {
    Fixed(Bytes),
    Negotiated(Negotiated),
}

/// The rules of a server.
#[derive(Default)]
pub(crate) struct Script {
    rules: Mutex<Vec<Rule>>,
}

struct Rule {
    requests: Requests,
    fault: Fault,
    seen: usize,
}

impl Requests {
    /// All requests to paths that match `pattern`, in which `*` stands for any text.
    pub fn to(pattern: &str) -> Self {
        Self { method: None, path: pattern.to_owned(), query: String::new(), watch: None, first: 1, last: usize::MAX }
    }

    /// Only the `count`th of them, counted from 1.
    #[must_use]
    pub fn nth(self, count: usize) -> Self {
        Self { first: count, last: count, ..self }
    }

    /// Only the first `count` of them.
    #[must_use]
    pub fn first(self, count: usize) -> Self {
        Self { first: 1, last: count, ..self }
    }

    /// The `count`th of them, counted from 1, and all later ones.
    #[must_use]
    pub fn from_nth(self, count: usize) -> Self {
        Self { first: count, last: usize::MAX, ..self }
    }

    /// Only those with this method.
    #[must_use]
    pub fn method(self, method: Method) -> Self {
        Self { method: Some(method), ..self }
    }

    /// Only those whose query contains `text`.
    #[must_use]
    pub fn query(self, text: &str) -> Self {
        Self { query: text.to_owned(), ..self }
    }

    /// Only those that begin a watch.
    #[must_use]
    pub fn watches(self) -> Self {
        Self { watch: Some(true), ..self }
    }

    /// Only those that begin no watch, so on a path of many objects only lists.
    #[must_use]
    pub fn lists(self) -> Self {
        Self { watch: Some(false), ..self }
    }

    fn match_one<B>(&self, request: &Request<B>) -> bool {
        self.method.as_ref().is_none_or(|method| method == request.method())
            && matches(&self.path, request.uri().path())
            && request.uri().query().unwrap_or_default().contains(&self.query)
            && self.watch.is_none_or(|watch| watch == begins_watch(request.uri().query().unwrap_or_default()))
    }
}

impl Fault {
    /// The connection closes after `count` bytes of the answer's body.
    pub fn cut_after(count: usize) -> Self {
        Self::Altered(vec![Alteration::CutAfter(count)])
    }

    /// The answer's body ends after `count` bytes, as if it were complete.
    pub fn truncated_to(count: usize) -> Self {
        Self::Altered(vec![Alteration::TruncatedTo(count)])
    }

    /// Nothing more comes after `count` bytes of the answer's body.
    pub fn stalls_after(count: usize) -> Self {
        Self::Altered(vec![Alteration::StallsAfter(count)])
    }

    /// The answer's body comes in chunks of `size`.
    pub fn chunks_of(size: usize) -> Self {
        Self::Altered(vec![Alteration::ChunksOf(size)])
    }

    /// The answer's body comes in chunks of `size`, with a pause before each.
    pub fn drips(size: usize, pause: Duration) -> Self {
        Self::Altered(vec![Alteration::Drips(size, pause)])
    }

    /// The answer's body is `bytes` instead; its headers stay.
    pub fn body(bytes: impl Into<Bytes>) -> Self {
        Self::Altered(vec![Alteration::Body(bytes.into())])
    }

    /// The answer claims this content type.
    pub fn content_type(value: &'static str) -> Self {
        Self::Altered(vec![Alteration::Header(CONTENT_TYPE, HeaderValue::from_static(value))])
    }

    /// The answer announces `length` bytes, whatever its body is, and nothing comes after the body.
    pub fn announces(length: u64) -> Self {
        Self::Altered(vec![Alteration::StallsAfter(usize::MAX), Alteration::ContentLength(length)])
    }

    pub(crate) async fn apply(self, exchange: Exchange, handler: &Handler) -> io::Result<Response<Body>> {
        let Exchange { request, recording, .. } = exchange;
        match self {
            Self::Delay(time) => {
                tokio::time::sleep(time).await;
                handler(Exchange { request, recording, ..exchange }).await
            }
            Self::Altered(alterations) => {
                let response = handler(Exchange { request, recording, ..exchange }).await?;
                Ok(alterations.into_iter().fold(response, alter))
            }
            Self::Answer(answer) => {
                let headers = request.headers().clone();
                read(request.into_body(), usize::MAX, &recording).await;
                Ok(answer.response(&headers))
            }
            Self::EarlyAnswer(answer) => Ok(answer.response(request.headers())),
            Self::NeverAnswers => {
                read(request.into_body(), usize::MAX, &recording).await;
                std::future::pending().await
            }
            Self::NeverReads => {
                // Dropping the request would let the server read on.
                let _unread = request;
                std::future::pending().await
            }
            Self::Closes { after } => {
                read(request.into_body(), after, &recording).await;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            Self::Resets { after } => {
                read(request.into_body(), after, &recording).await;
                exchange.reset.store(true, Ordering::Relaxed);
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
    }
}

impl From<Answer> for Fault {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl Answer {
    /// An answer with this status and no body. A status that HTTP does not know becomes 500.
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, headers: HeaderMap::new(), body: AnswerBody::Fixed(Bytes::new()) }
    }

    /// A redirection to `target`.
    pub fn redirect(status: u16, target: &str) -> Self {
        Self::status(status).header(LOCATION, target)
    }

    /// Sets a header. A value that HTTP does not allow is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = value.parse() {
            self.headers.insert(name, value);
        }
        self
    }

    /// Sets `Retry-After`: seconds, or a date as HTTP writes it.
    #[must_use]
    pub fn retry_after(self, value: &str) -> Self {
        self.header(RETRY_AFTER, value)
    }

    /// Sets content type and body.
    #[must_use]
    pub fn body(self, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { body: AnswerBody::Fixed(body.into()), ..self.header(CONTENT_TYPE, content_type) }
    }

    /// The kind of page that a proxy or a login screen answers.
    #[must_use]
    pub fn html(self, title: &str) -> Self {
        let page =
            format!("<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n");
        self.body("text/html; charset=utf-8", page)
    }

    pub(crate) fn negotiated(self, body: Negotiated) -> Self {
        Self { body: AnswerBody::Negotiated(body), ..self }
    }

    fn response(self, request: &HeaderMap) -> Response<Body> {
        let mut headers = self.headers;
        let body = match self.body {
            AnswerBody::Fixed(body) => body,
            AnswerBody::Negotiated(negotiate) => {
                let (content_type, body) = negotiate(request);
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
                body
            }
        };
        let mut response = Response::new(body::full(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("headers", &self.headers).finish_non_exhaustive()
    }
}

impl Script {
    pub(crate) fn add(&self, requests: Requests, fault: Fault) {
        lock(&self.rules).push(Rule { requests, fault, seen: 0 });
    }

    pub(crate) fn clear(&self) {
        lock(&self.rules).clear();
    }

    pub(crate) fn next<B>(&self, request: &Request<B>) -> Option<Fault> {
        let mut decided = None;
        for rule in lock(&self.rules).iter_mut().filter(|rule| rule.requests.match_one(request)) {
            rule.seen += 1;
            if decided.is_none() && (rule.requests.first..=rule.requests.last).contains(&rule.seen) {
                decided = Some(rule.fault.clone());
            }
        }
        decided
    }
}

/// Reads up to `count` bytes of a request's body. A client that stops sending is no error here: it has its own report.
async fn read(mut body: Incoming, count: usize, recording: &Recording) {
    let mut left = count;
    while left > 0 {
        match body.frame().await {
            Some(Ok(frame)) => {
                let chunk = frame.into_data().unwrap_or_default();
                left = left.saturating_sub(chunk.len());
                recording.body(&chunk);
            }
            Some(Err(_)) => return,
            None => return recording.body_ended(),
        }
    }
}

fn alter(mut response: Response<Body>, alteration: Alteration) -> Response<Body> {
    match alteration {
        Alteration::CutAfter(count) => response.map(|body| body::cut(body, count)),
        Alteration::TruncatedTo(count) => response.map(|body| body::truncated(body, count)),
        Alteration::StallsAfter(count) => response.map(|body| body::stalled(body, count)),
        Alteration::ChunksOf(size) => response.map(|body| body::paced(body, size, Duration::ZERO)),
        Alteration::Drips(size, pause) => response.map(|body| body::paced(body, size, pause)),
        Alteration::Body(bytes) => response.map(|_| body::full(bytes)),
        Alteration::Header(name, value) => {
            response.headers_mut().insert(name, value);
            response
        }
        Alteration::ContentLength(length) => {
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
            response
        }
    }
}

/// Whether a query of Kubernetes asks for a watch.
fn begins_watch(query: &str) -> bool {
    query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"))
}

/// Whether `text` is `pattern` with each `*` replaced by some text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|tail| {
            tail.char_indices().map(|(at, _)| at).chain([tail.len()]).any(|at| matches(rest, &tail[at..]))
        }),
    }
}
