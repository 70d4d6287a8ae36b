//! What a server was asked: the requests in order of arrival, for assertions.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::watch;

use super::lock;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    /// Its method.
    pub method: Method,
    /// The path, as sent, without the query.
    pub path: String,
    /// The query, as sent, without `?`; empty when there was none.
    pub query: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The user that it was found to come from; `None` until a handler has authenticated it.
    pub user: Option<String>,
    /// The body, as far as it was read; `None` when it is longer than the server keeps.
    pub body: Option<Bytes>,
    /// Bytes of the body that were read.
    pub body_bytes: u64,
    /// Whether the body was read to its end.
    pub body_complete: bool,
    /// The status that was answered; `None` before that, and when the connection ended instead.
    pub status: Option<StatusCode>,
}

impl RecordedRequest {
    /// The value of a header as text; empty when it is missing or not text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The kept body as JSON; `None` when it is not JSON or was not kept.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(self.body.as_ref()?).ok()
    }
}

/// All requests of a server.
#[derive(Debug)]
pub(crate) struct Log {
    keep_bodies_up_to: usize,
    state: Mutex<State>,
    /// Told whenever a request has arrived, and when its answer is sent or dropped.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// By their numbers, which are those of their arrival.
    requests: BTreeMap<usize, Entry>,
    /// How many have arrived.
    arrived: usize,
    open: usize,
    peak: usize,
}

#[derive(Debug)]
struct Entry {
    request: RecordedRequest,
    /// What has arrived so far; `None` once it is too long, or complete.
    body: Option<BytesMut>,
    /// Its answer was sent or dropped.
    has_ended: bool,
}

/// One request of a log, while it is open.
#[derive(Debug, Clone)]
pub(crate) struct Recording(Arc<Open>);

#[derive(Debug)]
struct Open {
    log: Arc<Log>,
    index: usize,
}

impl Log {
    pub(crate) fn new(keep_bodies_up_to: usize) -> Self {
        Self { keep_bodies_up_to, state: Mutex::default(), changed: watch::Sender::new(()) }
    }

    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        lock(&self.state).requests.values().map(Entry::whole).collect()
    }

    /// The request of this number; `None` when it was taken.
    pub(crate) fn request(&self, index: usize) -> Option<RecordedRequest> {
        lock(&self.state).requests.get(&index).map(Entry::whole)
    }

    /// Takes out the requests that have ended, with their numbers.
    pub(crate) fn take_ended(&self) -> Vec<(usize, RecordedRequest)> {
        let requests = &mut lock(&self.state).requests;
        requests.extract_if(.., |_, entry| entry.has_ended).map(|(index, entry)| (index, entry.whole())).collect()
    }

    /// Hears of each request that arrives and of each answer that is sent or dropped.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(crate) fn peak(&self) -> usize {
        lock(&self.state).peak
    }

    pub(crate) fn begin<B>(self: &Arc<Self>, request: &Request<B>) -> Recording {
        let mut state = lock(&self.state);
        state.open += 1;
        state.peak = state.peak.max(state.open);
        let request = RecordedRequest {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            headers: request.headers().clone(),
            user: None,
            body: None,
            body_bytes: 0,
            body_complete: false,
            status: None,
        };
        let index = state.arrived;
        state.arrived += 1;
        state.requests.insert(index, Entry { request, body: Some(BytesMut::new()), has_ended: false });
        self.changed.send_replace(());
        Recording(Arc::new(Open { log: self.clone(), index }))
    }
}

impl Entry {
    /// The request with what has arrived of its body.
    fn whole(&self) -> RecordedRequest {
        let mut request = self.request.clone();
        if !request.body_complete {
            request.body = self.body.as_ref().map(|body| Bytes::copy_from_slice(body));
        }
        request
    }
}

impl Recording {
    /// Which request of the log it is.
    pub(crate) fn index(&self) -> usize {
        self.0.index
    }

    pub(crate) fn user(&self, name: &str) {
        self.update(|entry, _| entry.request.user = Some(name.to_owned()));
    }

    pub(crate) fn body(&self, chunk: &[u8]) {
        self.update(|entry, keep| {
            entry.request.body_bytes += chunk.len() as u64;
            match &mut entry.body {
                Some(body) if body.len() + chunk.len() <= keep => body.extend_from_slice(chunk),
                body => *body = None,
            }
        });
    }

    /// Reads a body to its end, writes it down, and gives it back. An error is a client that went away.
    pub(crate) async fn collect(&self, mut body: Incoming) -> io::Result<BytesMut> {
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or_default();
        // An announcement is not yet a body.
        let mut bytes = BytesMut::with_capacity(announced.min(256 * 1024 * 1024));
        while let Some(frame) = body.frame().await {
            let chunk = frame.map_err(io::Error::other)?.into_data().unwrap_or_default();
            self.body(&chunk);
            bytes.extend_from_slice(&chunk);
        }
        self.body_ended();
        Ok(bytes)
    }

    pub(crate) fn body_ended(&self) {
        self.update(|entry, _| {
            entry.request.body_complete = true;
            entry.request.body = entry.body.take().map(BytesMut::freeze);
        });
    }

    pub(crate) fn answered(&self, status: StatusCode) {
        self.update(|entry, _| entry.request.status = Some(status));
    }

    fn update(&self, change: impl FnOnce(&mut Entry, usize)) {
        let mut state = lock(&self.0.log.state);
        if let Some(entry) = state.requests.get_mut(&self.0.index) {
            change(entry, self.0.log.keep_bodies_up_to);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = lock(&self.log.state);
        state.open -= 1;
        if let Some(entry) = state.requests.get_mut(&self.index) {
            entry.has_ended = true;
        }
        drop(state);
        self.log.changed.send_replace(());
    }
}
