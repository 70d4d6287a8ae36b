//! The API server behind the HTTP server: who asks, for what, and whether they may.

use std::io;
use std::sync::atomic::AtomicBool;
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
    Leases { namespace: &'a str },
    Lease { namespace: &'a str, name: &'a str },
}

/// Who asks, and how.
struct Asking<'a> {
    identity: &'a Identity,
    headers: &'a HeaderMap,
    method: &'a Method,
    /// Set when its connection is to be reset.
    reset: &'a Arc<AtomicBool>,
}

impl Service {
    /// An error is a client that went away.
    pub(crate) async fn answer(self: &Arc<Self>, exchange: Exchange) -> io::Result<Response<Body>> {
        let Exchange { request, client_certificate, recording, reset } = exchange;
        let (mut parts, body) = request.into_parts();
        let body = recording.collect(body).await?;
        if self.json_only {
            parts.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        }
        let headers = &parts.headers;
        let mut state = lock(&self.state);
        let Some(identity) =
            Identity::of(headers, client_certificate.as_ref(), &state.users, self.authority.as_deref())
        else {
            return Ok(Failure::unauthorized().response(headers));
        };
        recording.user(&identity.to_string());
        let Some(target) = Target::find(parts.uri.path()) else {
            return Ok(text(StatusCode::NOT_FOUND, "404 page not found\n"));
        };
        let asking = Asking { identity: &identity, headers, method: &parts.method, reset: &reset };
        let answered = match target {
            Target::Leases { namespace } => state.create_lease(&asking, namespace, &body),
            Target::Lease { namespace, name } => state.lease(&asking, (namespace, name), &body),
            _ if parts.method != Method::GET => Err(not_allowed()),
            // Readable by everyone, and JSON whatever is asked for.
            Target::Version => Ok(document(Encoding::Json, state.version.document().to_string())),
            Target::All { kind, namespace } => {
                ListQuery::parse(parts.uri.query().unwrap_or_default()).and_then(|query| {
                    if query.watch {
                        self.watch(&mut state, &asking, (kind, namespace), &query)
                    } else {
                        state.list(&asking, (kind, namespace), &query)
                    }
                })
            }
            Target::One { kind, namespace, name } => state.get(&asking, kind, (namespace, name)),
        };
        Ok(answered.unwrap_or_else(|failure| failure.response(headers)))
    }

    fn watch(
        self: &Arc<Self>,
        state: &mut State,
        asking: &Asking<'_>,
        (kind, namespace): (Kind, &str),
        query: &ListQuery,
    ) -> Result<Response<Body>, Failure> {
        asking.check(Verb::Watch, kind, (namespace, ""))?;
        let encoding = Encoding::negotiate_watch(asking.headers).ok_or_else(not_acceptable)?;
        if query.initial_events {
            return Err(Failure::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid",
                "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for \
                 watch unless the WatchList feature gate is enabled",
            ));
        }
        let subscription = state.subscribe(kind, namespace, query)?;
        let frames = Frames { encoding, kind };
        let watch = Watch::new(self, subscription, frames, asking.reset.clone());
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
        asking: &Asking<'_>,
        (kind, namespace): (Kind, &str),
        query: &ListQuery,
    ) -> Result<Response<Body>, Failure> {
        asking.check(Verb::List, kind, (namespace, ""))?;
        let encoding = Encoding::negotiate(asking.headers).ok_or_else(not_acceptable)?;
        let present = Present { objects: &self.objects, version: self.resource_version, oldest: self.oldest_token };
        let page = Page::find(&present, kind, namespace, query)?;
        let compress = page.len() > COMPRESS_ABOVE && encoding::takes_gzip(asking.headers);
        let chunks = page.chunks(encoding);
        let body = if compress { body::streamed(body::gzip(chunks)) } else { body::streamed(chunks) };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(encoding.content_type()));
        if compress {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(response)
    }

    fn get(&self, asking: &Asking<'_>, kind: Kind, (namespace, name): (&str, &str)) -> Result<Response<Body>, Failure> {
        // A namespace is itself the scope in which reading it can be allowed.
        let scope = if kind == Kind::Namespaces { name } else { namespace };
        asking.check(Verb::Get, kind, (scope, name))?;
        let encoding = Encoding::negotiate(asking.headers).ok_or_else(not_acceptable)?;
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

impl State {
    fn create_lease(&mut self, asking: &Asking<'_>, namespace: &str, body: &[u8]) -> Result<Response<Body>, Failure> {
        if asking.method != Method::POST {
            return Err(not_allowed());
        }
        asking.check(Verb::Create, Kind::Leases, (namespace, ""))?;
        asking.check_json()?;
        let version = self.resource_version + 1;
        let lease = self.leases.create(namespace, body, version)?;
        self.resource_version = version;
        Ok(with_status(StatusCode::CREATED, document(Encoding::Json, lease.to_string())))
    }

    fn lease(&mut self, asking: &Asking<'_>, id: (&str, &str), body: &[u8]) -> Result<Response<Body>, Failure> {
        let lease = match *asking.method {
            Method::GET => {
                asking.check(Verb::Get, Kind::Leases, id)?;
                self.leases.get(id.0, id.1)?
            }
            Method::PUT => {
                asking.check(Verb::Update, Kind::Leases, id)?;
                asking.check_json()?;
                let created = self.leases.get(id.0, id.1).is_err();
                if created {
                    asking.check(Verb::Create, Kind::Leases, id)?;
                }
                let version = self.resource_version + 1;
                let lease = self.leases.update(id, body, version)?;
                self.resource_version = version;
                let status = if created { StatusCode::CREATED } else { StatusCode::OK };
                return Ok(with_status(status, document(Encoding::Json, lease.to_string())));
            }
            _ => return Err(not_allowed()),
        };
        Ok(document(Encoding::Json, lease.to_string()))
    }
}

impl Asking<'_> {
    fn check(&self, verb: Verb, kind: Kind, (namespace, name): (&str, &str)) -> Result<(), Failure> {
        if self.identity.may(verb, kind, namespace) {
            return Ok(());
        }
        Err(Failure::forbidden(self.identity, verb, kind, namespace, name))
    }

    /// Whether the request's body is said to be JSON, which a missing content type says as well.
    fn check_json(&self) -> Result<(), Failure> {
        let content_type = self.headers.get(CONTENT_TYPE).map_or("application/json", |it| it.to_str().unwrap_or("?"));
        if content_type.split(';').next() == Some("application/json") {
            return Ok(());
        }
        let message = format!("the body of the request was in an unknown format - {content_type}");
        Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message))
    }
}

impl<'a> Target<'a> {
    fn find(path: &'a str) -> Option<Self> {
        if path == "/version" {
            return Some(Self::Version);
        }
        if let Some(path) = path.strip_prefix("/apis/coordination.k8s.io/v1/namespaces/") {
            return match path.split('/').collect::<Vec<_>>().as_slice() {
                [namespace, "leases"] => Some(Self::Leases { namespace }),
                [namespace, "leases", name] => Some(Self::Lease { namespace, name }),
                _ => None,
            };
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

fn not_allowed() -> Failure {
    let message = "the testbed's objects can only be read, but for leases";
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
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

fn with_status(status: StatusCode, mut response: Response<Body>) -> Response<Body> {
    *response.status_mut() = status;
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = with_status(status, Response::new(body::full(text)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
