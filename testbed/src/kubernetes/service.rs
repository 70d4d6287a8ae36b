//! The API server behind the HTTP server: who asks, for what, and whether they may.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use tokio::sync::watch;

use super::access::{Identity, Verb};
use super::encoding::{self, Encoding};
use super::json_object;
use super::list::{ListQuery, Page, Present};
use super::state::State;
use super::status::Failure;
use super::watch::{Control, Watch};
use super::watch_frame::Frames;
use crate::objects::Kind;
use crate::server::body::{self, Body};
use crate::server::tls::Authority;
use crate::server::{Exchange, lock};

/// Answers longer than this are compressed, where the client takes it.
const COMPRESS_ABOVE: usize = 128 * 1024;

pub(crate) struct Service {
    pub(crate) authority: Option<Arc<Authority>>,
    /// It answers JSON whatever is asked for.
    pub(crate) json_only: bool,
    /// How often a watch hears how far it has come, if its client wants that.
    pub(crate) bookmark_interval: Duration,
    pub(crate) state: Mutex<State>,
    pub(crate) control: watch::Sender<Control>,
    /// Told whenever a watch has begun or ended.
    pub(crate) watches_changed: watch::Sender<()>,
}

/// What a path leads to.
enum Target<'a> {
    Version,
    All { kind: Kind, namespace: &'a str },
    One { kind: Kind, namespace: &'a str, name: &'a str },
}

impl Service {
    pub(crate) fn answer(self: &Arc<Self>, exchange: &Exchange) -> Response<Body> {
        let request = &exchange.request;
        let mut headers = request.headers().clone();
        if self.json_only {
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        }
        let headers = &headers;
        let mut state = lock(&self.state);
        let certificate = exchange.client_certificate.as_ref();
        let Some(identity) = Identity::of(headers, certificate, &state.users, self.authority.as_deref()) else {
            return Failure::unauthorized().response(headers);
        };
        exchange.recording.user(&identity.to_string());
        let Some(target) = Target::find(request.uri().path()) else {
            return text(StatusCode::NOT_FOUND, "404 page not found\n");
        };
        if request.method() != Method::GET {
            let failure = Failure::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "the testbed's objects can only be read",
            );
            return failure.response(headers);
        }
        let answered = match target {
            // Readable by everyone, and JSON whatever is asked for.
            Target::Version => Ok(document(Encoding::Json, state.version.document().to_string())),
            Target::All { kind, namespace } => {
                ListQuery::parse(request.uri().query().unwrap_or_default()).and_then(|query| {
                    if query.watch {
                        self.watch(&mut state, exchange, (&identity, headers), (kind, namespace), &query)
                    } else {
                        state.list(&identity, (kind, namespace), &query, headers)
                    }
                })
            }
            Target::One { kind, namespace, name } => state.get(&identity, kind, (namespace, name), headers),
        };
        answered.unwrap_or_else(|failure| failure.response(headers))
    }

    fn watch(
        self: &Arc<Self>,
        state: &mut State,
        exchange: &Exchange,
        (identity, headers): (&Identity, &HeaderMap),
        (kind, namespace): (Kind, &str),
        query: &ListQuery,
    ) -> Result<Response<Body>, Failure> {
        if !identity.may(Verb::Watch, kind, namespace) {
            return Err(Failure::forbidden(identity, Verb::Watch, kind, namespace, ""));
        }
        let encoding = Encoding::negotiate_watch(headers).ok_or_else(not_acceptable)?;
        if query.initial_events {
            return Err(Failure::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid",
                "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for \
                 watch unless the WatchList feature gate is enabled",
            ));
        }
        let subscription = state.subscribe(kind, namespace, query).map_err(|failure| *failure)?;
        let bookmarks = query.bookmarks.then_some(self.bookmark_interval);
        let frames = Frames { encoding, kind };
        let watch = Watch::new(self, subscription, frames, query.timeout, bookmarks, exchange.reset.clone());
        self.watches_changed.send_replace(());
        let mut response = Response::new(body::from_chunks(watch.chunks()));
        let content_type = HeaderValue::from_static(encoding::watch_content_type(encoding));
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        Ok(response)
    }
}

impl State {
    fn list(
        &self,
        identity: &Identity,
        (kind, namespace): (Kind, &str),
        query: &ListQuery,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Failure> {
        if !identity.may(Verb::List, kind, namespace) {
            return Err(Failure::forbidden(identity, Verb::List, kind, namespace, ""));
        }
        let encoding = Encoding::negotiate(headers).ok_or_else(not_acceptable)?;
        let present = Present { objects: &self.objects, version: self.resource_version, oldest: self.oldest_token };
        let page = Page::find(&present, kind, namespace, query)?;
        let compress = page.len() > COMPRESS_ABOVE && encoding::takes_gzip(headers);
        let chunks = page.chunks(encoding);
        let body = if compress { body::streamed(body::gzip(chunks)) } else { body::streamed(chunks) };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(encoding.content_type()));
        if compress {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(response)
    }

    fn get(
        &self,
        identity: &Identity,
        kind: Kind,
        (namespace, name): (&str, &str),
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Failure> {
        // A namespace is itself the scope in which reading it can be allowed.
        let scope = if kind == Kind::Namespaces { name } else { namespace };
        if !identity.may(Verb::Get, kind, scope) {
            return Err(Failure::forbidden(identity, Verb::Get, kind, scope, name));
        }
        let encoding = Encoding::negotiate(headers).ok_or_else(not_acceptable)?;
        let found = self.objects.find(kind, namespace, name);
        let bytes = found.ok_or_else(|| Failure::not_found(kind, name))?.to_bytes();
        Ok(match encoding {
            Encoding::Protobuf => {
                let kind = (&*kind.api_version(), kind.singular());
                document(encoding, encoding::protobuf_document(kind, &bytes))
            }
            Encoding::Json => document(encoding, json_object::document(kind, &bytes).to_string()),
        })
    }
}

impl<'a> Target<'a> {
    fn find(path: &'a str) -> Option<Self> {
        if path == "/version" {
            return Some(Self::Version);
        }
        if let Some(path) = path.strip_prefix("/apis/apps/v1/namespaces/") {
            let (namespace, rest) = path.split_once('/')?;
            let (resource, name) = rest.split_once('/')?;
            let kind = [Kind::ReplicaSets, Kind::Deployments].into_iter().find(|kind| kind.resource() == resource)?;
            return Some(Self::One { kind, namespace, name });
        }
        let segments: Vec<&str> = path.strip_prefix("/api/v1/")?.split('/').collect();
        match segments.as_slice() {
            ["namespaces"] => Some(Self::All { kind: Kind::Namespaces, namespace: "" }),
            ["nodes"] => Some(Self::All { kind: Kind::Nodes, namespace: "" }),
            ["pods"] => Some(Self::All { kind: Kind::Pods, namespace: "" }),
            ["namespaces", name] => Some(Self::One { kind: Kind::Namespaces, namespace: "", name }),
            ["nodes", name] => Some(Self::One { kind: Kind::Nodes, namespace: "", name }),
            ["namespaces", namespace, "pods"] => Some(Self::All { kind: Kind::Pods, namespace }),
            ["namespaces", namespace, "pods", name] => Some(Self::One { kind: Kind::Pods, namespace, name }),
            _ => None,
        }
    }
}

fn not_acceptable() -> Failure {
    Failure::new(
        StatusCode::NOT_ACCEPTABLE,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/vnd.kubernetes.protobuf",
    )
}

fn document(encoding: Encoding, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(encoding.content_type()));
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(body::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
