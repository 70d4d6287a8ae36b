//! Follows one source: a complete list, then events from where it ended, and a new list when they cannot be had any more.
//!
//! Nothing is forgotten while a source cannot be read. A list is read again only when the server says that what lies
//! between is gone (410), or has gone back in time; after any other end the watch goes on where it was.

use std::num::NonZeroU64;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::Shared;
use super::delays::{Delays, seconds_within};
use super::frames::{Event, EventKind, Frames};
use super::sources::{Source, SourceKind};
use super::store::{ListMark, Store};
use crate::cluster::list::{self, Intake, Mark, version};
use crate::cluster::request::{Accept, RequestError};
use crate::cluster::wire::{self, Encoding, ListMeta, as_text, decode_item};

/// So many lists that are older than what is known mean that the cluster went back in time (an etcd restored from a
/// backup), not that one server of several lags behind.
const MOST_OUTDATED: u32 = 5;

/// So many refused requests for a watch in a row mean that it cannot go on from where it was.
const MOST_REFUSED: u32 = 3;

/// So many refusals in a row at the start mean that the right is not there, and not that the server has just started.
const MOST_FORBIDDEN: u32 = 3;

/// Watches end by themselves after a time in this range, in seconds: that spreads the load of many agents over servers.
const WATCH_SECONDS: (u64, u64) = (300, 600);

/// A source that is never allowed to be read: what else may be done is for the caller to know.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NeverAllowed;

/// Who follows a source.
pub(crate) struct Follower<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) source: &'a Source,
    pub(crate) kind: SourceKind,
    /// Of one namespace, or of the cluster.
    pub(crate) namespace: Option<&'a str>,
    /// Gives up when the first list is refused, instead of trying for ever.
    pub(crate) may_give_up: bool,
}

/// How a watch ended.
enum End {
    /// It may go on where it was.
    Resume(Option<RequestError>),
    /// What comes next can only be known from a list.
    Relist(String),
    /// It may not be watched.
    Forbidden(RequestError),
}

/// How far a source was followed.
struct Position {
    /// As the server wrote it.
    version: Bytes,
    /// The newest version seen, as far as they can be compared.
    newest: Option<NonZeroU64>,
}

impl Follower<'_> {
    /// Follows for ever, unless it gives up.
    pub(crate) async fn follow(&self) -> NeverAllowed {
        let mut delays = Delays::default();
        let mut position = Position { version: Bytes::new(), newest: None };
        loop {
            if self.list_until_complete(&mut position, &mut delays).await.is_err() {
                return NeverAllowed;
            }
            let mut refused = 0;
            loop {
                let began = Instant::now();
                match self.watch(&mut position, &mut delays).await {
                    End::Resume(None) => {
                        refused = 0;
                        sleep(delays.after_watch(began.elapsed())).await;
                    }
                    End::Resume(Some(error)) => {
                        self.source.failed(&error);
                        let is_refused = matches!(error, RequestError::Server { .. } | RequestError::Refused { .. });
                        refused = if is_refused { refused + 1 } else { 0 };
                        sleep(delays.after(&error)).await;
                        if refused >= MOST_REFUSED {
                            break;
                        }
                    }
                    End::Relist(reason) => {
                        tracing::info!(source = self.source.name(), reason, "reading the list anew");
                        self.shared.stats.relists.fetch_add(1, Relaxed);
                        sleep(delays.before_list()).await;
                        break;
                    }
                    End::Forbidden(error) => {
                        if self.source.goes_on_demand() {
                            let source = self.source.name();
                            tracing::warn!(source, "may not be watched, so it is listed for each report: {error}");
                        }
                        let demand = self.source.demanded().await;
                        let listed = self.list(&mut position, false).await;
                        if let Err(error) = &listed {
                            self.source.failed(error);
                        }
                        self.source.served(demand);
                    }
                }
            }
        }
    }

    async fn list_until_complete(&self, position: &mut Position, delays: &mut Delays) -> Result<(), NeverAllowed> {
        let (mut outdated, mut forbidden) = (0, 0);
        loop {
            let error = match self.list(position, outdated >= MOST_OUTDATED).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            outdated += u32::from(error == RequestError::Outdated);
            forbidden += u32::from(matches!(error, RequestError::Forbidden(_)));
            self.source.failed(&error);
            if self.may_give_up && forbidden >= MOST_FORBIDDEN && !self.source.is_complete() {
                return Err(NeverAllowed);
            }
            sleep(delays.after(&error)).await;
        }
    }

    async fn list(&self, position: &mut Position, is_reset: bool) -> Result<(), RequestError> {
        let began = Instant::now();
        let api = self.shared.api();
        self.shared.learn_version(&api).await;
        let style = self.shared.style();
        let floor = position.newest.filter(|_| !is_reset);
        let mark = self.shared.store().begin_list(is_reset);
        let intake = StoreIntake {
            shared: self.shared,
            namespace: self.namespace,
            mark,
            floor,
            is_reset,
            taken: 0,
            undecodable: Vec::new(),
        };
        self.shared.stats.lists.fetch_add(1, Relaxed);
        position.version = match self.kind {
            SourceKind::Pods => {
                let mut pods = PodIntake(intake);
                let version = list::list(&api, &self.path(), style, &mut pods).await?;
                pods.0.finish_pods();
                version
            }
            SourceKind::Namespaces => {
                let mut namespaces = NamespaceIntake(intake);
                let version = list::list(&api, &self.path(), style, &mut namespaces).await?;
                self.shared.store().end_namespaces(namespaces.0.mark);
                version
            }
        };
        let seen = version(&position.version);
        position.newest = if is_reset { seen } else { seen.max(position.newest) };
        self.source.listed(began);
        Ok(())
    }

    fn path(&self) -> String {
        match (self.kind, self.namespace) {
            (SourceKind::Namespaces, _) => "/api/v1/namespaces".to_owned(),
            (SourceKind::Pods, None) => "/api/v1/pods".to_owned(),
            (SourceKind::Pods, Some(namespace)) => format!("/api/v1/namespaces/{namespace}/pods"),
        }
    }

    async fn watch(&self, position: &mut Position, delays: &mut Delays) -> End {
        let api = self.shared.api();
        let seconds = seconds_within(WATCH_SECONDS);
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={seconds}",
            self.path(),
            as_text(&position.version),
        );
        let answer = match api.get(&path, Accept::Watch).await {
            Ok(answer) => answer,
            Err(RequestError::Expired(message)) => return End::Relist(message),
            Err(error @ RequestError::Forbidden(_)) => return End::Forbidden(error),
            Err(error) => return End::Resume(Some(error)),
        };
        let encoding = answer.encoding;
        let mut answer = answer.silent_for(self.shared.limits.silence);
        let mut frames = Frames::new(encoding);
        self.source.opened();
        self.shared.stats.watches.fetch_add(1, Relaxed);
        let end = loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => {
                    self.source.heard();
                    frames.push(&chunk);
                    if let Some(end) = self.take(&mut frames, encoding, position, delays) {
                        break end;
                    }
                }
                Ok(None) if frames.is_between_events() => break End::Resume(None),
                Ok(None) => break End::Resume(Some(RequestError::CutOff("a watch ended within an event".to_owned()))),
                Err(error) => break End::Resume(Some(error)),
            }
        };
        self.source.closed();
        end
    }

    /// Takes all events that have arrived; `Some` when the watch is over.
    fn take(
        &self,
        frames: &mut Frames,
        encoding: Encoding,
        position: &mut Position,
        delays: &mut Delays,
    ) -> Option<End> {
        let mut store = self.shared.store();
        loop {
            let event = match frames.next() {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => return Some(End::Resume(Some(RequestError::Malformed(error.to_string())))),
            };
            self.shared.stats.events.fetch_add(1, Relaxed);
            if event.kind == EventKind::Error {
                return Some(failed_watch(&event.object, encoding));
            }
            // A watch that gives anything is one that works.
            delays.reset();
            if let Err(reason) = self.apply(&mut store, event, encoding, position) {
                return Some(End::Relist(reason));
            }
        }
        store.compact_when_due();
        None
    }

    /// Applies one event. The error says why the state can only be known from a list.
    fn apply(
        &self,
        store: &mut Store,
        event: Event,
        encoding: Encoding,
        position: &mut Position,
    ) -> Result<(), String> {
        let place = decode_item::<wire::PartialObject>(event.object.clone(), encoding)
            .map_err(|error| format!("an object in the watch does not decode: {error}"))?
            .metadata
            .unwrap_or_default();
        let told = version(&place.resource_version);
        if event.kind == EventKind::Bookmark && told.is_some() && told < position.newest {
            return Err("the watch goes back in time".to_owned());
        }
        match (self.kind, event.kind) {
            (_, EventKind::Bookmark | EventKind::Unknown | EventKind::Error) => {}
            (SourceKind::Pods, kind) => match decode_item::<wire::Pod>(event.object, encoding) {
                Ok(pod) if kind == EventKind::Is => store.pod_is(pod),
                Ok(pod) => store.pod_was(pod),
                Err(error) if kind == EventKind::Is => {
                    let (namespace, name) = (as_text(&place.namespace), as_text(&place.name));
                    let reason = format!("the pod {name:?} in it does not decode: {error}");
                    store.pod_is_undecodable(&namespace, &name, reason);
                }
                Err(error) => return Err(format!("a deleted pod does not decode: {error}")),
            },
            (SourceKind::Namespaces, kind) => {
                let namespace = decode_item::<wire::Namespace>(event.object, encoding)
                    .map_err(|error| format!("a namespace does not decode: {error}"))?;
                match kind {
                    EventKind::Is => store.namespace_is(&namespace, None),
                    _ => store.namespace_was(&namespace),
                }
            }
        }
        if !place.resource_version.is_empty() && (told.is_none() || told >= position.newest) {
            position.version = place.resource_version;
            position.newest = told.max(position.newest);
        }
        Ok(())
    }
}

/// What the `Status` in a watch means.
fn failed_watch(object: &Bytes, encoding: Encoding) -> End {
    let status = decode_item::<wire::Status>(object.clone(), encoding).unwrap_or_default();
    let message = crate::cluster::request::shorten(&as_text(&status.message));
    match u16::try_from(status.code).unwrap_or_default() {
        410 => End::Relist(message),
        403 => End::Forbidden(RequestError::Forbidden(message)),
        401 => End::Resume(Some(RequestError::Unauthorized(message))),
        status @ (429 | 503) => End::Resume(Some(RequestError::Busy { status, message, retry_after: None })),
        status => End::Resume(Some(RequestError::Server { status, message })),
    }
}

/// What the lists of both kinds have in common.
struct StoreIntake<'a> {
    shared: &'a Shared,
    namespace: Option<&'a str>,
    mark: ListMark,
    /// A list of an older version does not count.
    floor: Option<NonZeroU64>,
    is_reset: bool,
    taken: usize,
    /// Namespace, name and reason of each object that does not decode.
    undecodable: Vec<(String, String, String)>,
}

/// Takes pods.
struct PodIntake<'a>(StoreIntake<'a>);

/// Takes namespaces.
struct NamespaceIntake<'a>(StoreIntake<'a>);

impl Intake for PodIntake<'_> {
    type Object = wire::Pod;

    fn starts(&mut self, metadata: &ListMeta) -> Result<(), RequestError> {
        self.0.check(metadata)
    }

    fn take(&mut self, object: wire::Pod) {
        self.0.taken += 1;
        self.0.shared.progress.pod();
        self.0.shared.store().list_pod(object, self.0.mark);
    }

    fn undecodable(&mut self, namespace: &str, name: &str, reason: String) -> Result<(), RequestError> {
        if namespace.is_empty() {
            return Err(RequestError::Malformed(reason));
        }
        self.0.taken += 1;
        self.0.undecodable.push((namespace.to_owned(), name.to_owned(), reason));
        Ok(())
    }

    fn mark(&self) -> Mark {
        Mark { objects: self.0.taken, undecodable: self.0.undecodable.len() }
    }

    fn take_back(&mut self, mark: Mark) {
        self.0.take_back(mark);
    }
}

impl Intake for NamespaceIntake<'_> {
    type Object = wire::Namespace;

    fn starts(&mut self, metadata: &ListMeta) -> Result<(), RequestError> {
        self.0.check(metadata)
    }

    fn take(&mut self, object: wire::Namespace) {
        self.0.taken += 1;
        self.0.shared.store().namespace_is(&object, Some(self.0.mark));
    }

    fn undecodable(&mut self, _namespace: &str, _name: &str, reason: String) -> Result<(), RequestError> {
        Err(RequestError::Malformed(reason))
    }

    fn mark(&self) -> Mark {
        Mark { objects: self.0.taken, undecodable: 0 }
    }

    fn take_back(&mut self, mark: Mark) {
        self.0.take_back(mark);
    }
}

impl StoreIntake<'_> {
    fn check(&self, metadata: &ListMeta) -> Result<(), RequestError> {
        match (version(&metadata.resource_version), self.floor) {
            (Some(told), Some(floor)) if told < floor => Err(RequestError::Outdated),
            _ => Ok(()),
        }
    }

    /// Objects that a broken attempt gave are not taken back, because they are there: the next attempt only decides anew
    /// which are not.
    fn take_back(&mut self, mark: Mark) {
        self.undecodable.truncate(mark.undecodable);
        self.taken = mark.objects;
        if mark.objects == 0 {
            self.mark = self.shared.store().begin_list(self.is_reset);
        }
    }

    fn finish_pods(&mut self) {
        let mut store = self.shared.store();
        store.forget_undecodable(self.namespace);
        for (namespace, name, reason) in self.undecodable.drain(..) {
            store.pod_is_undecodable(&namespace, &name, reason);
        }
        store.end_pods(self.mark, self.namespace);
    }
}
