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
use super::listing::{NamespaceIntake, PodIntake, StoreIntake};
use super::sources::{Source, SourceKind};
use super::store::Store;
use crate::cluster::list::{self, version};
use crate::cluster::request::{Accept, RequestError};
use crate::cluster::wire::{self, Encoding, as_text, decode_item};

/// So many lists that are older than what is known mean that the cluster went back in time (an etcd restored from a
/// backup), not that one server of several lags behind.
const MOST_OUTDATED: u32 = 5;

/// So many refused requests for a watch in a row mean that it cannot go on from where it was.
const MOST_REFUSED: u32 = 3;

/// So many refusals in a row mean that the right is not there, and not that the server has just started: for a second or
/// two it knows of no rights then.
const MOST_FORBIDDEN: u32 = 3;

/// After so many watches in a row without a byte the server is asked whether it is still as far as it was: a quarter of
/// an hour, so that a cluster in which nothing happens is left alone.
const MOST_QUIET: u32 = 10;

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

/// A list, its version alone.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct ListVersion {
    metadata: ListVersionMeta,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListVersionMeta {
    resource_version: String,
}

/// How a watch ended.
enum End {
    /// Nothing came, not even a bookmark: nothing has changed, or the server went back in time and has nothing to say
    /// until it is as far again. (A server sends a bookmark only when its own version of a kind has moved on.)
    Quiet,
    /// It may go on where it was.
    Resume(Option<RequestError>),
    /// It may go on where it was, but not if this happens again and again.
    Refused(RequestError),
    /// What comes next can only be known from a list.
    Relist(String),
    /// It may not be watched.
    Forbidden(RequestError),
}

/// How far a source was followed.
#[derive(Debug, Default)]
struct Position {
    /// As the server wrote it.
    version: Bytes,
    /// The newest version seen, as far as they can be compared.
    newest: Option<NonZeroU64>,
    /// No watch has been open since the last complete list.
    is_fresh: bool,
    /// So many lists in a row were older than what is known.
    outdated: u32,
    /// So many requests in a row were forbidden.
    forbidden: u32,
}

impl Follower<'_> {
    /// Follows for ever, unless it gives up.
    pub(crate) async fn follow(&self) -> NeverAllowed {
        let mut delays = Delays::new(self.shared.limits.first_wait);
        let mut position = Position::default();
        loop {
            if self.list_until_complete(&mut position, &mut delays).await.is_err() {
                return NeverAllowed;
            }
            let reason = self.watch_until_lost(&mut position, &mut delays).await;
            tracing::info!(source = self.source.name(), reason, "reading the list anew");
            self.shared.stats.relists.fetch_add(1, Relaxed);
            sleep(delays.before_list()).await;
        }
    }

    async fn list_until_complete(&self, position: &mut Position, delays: &mut Delays) -> Result<(), NeverAllowed> {
        while let Err(error) = self.list(position).await {
            self.failed(&error, position);
            if self.may_give_up && position.forbidden >= MOST_FORBIDDEN && !self.source.is_complete() {
                return Err(NeverAllowed);
            }
            sleep(delays.after(&error)).await;
        }
        Ok(())
    }

    /// Watches, again and again, for as long as the state can be known without a list. Gives the reason why it cannot
    /// any more.
    async fn watch_until_lost(&self, position: &mut Position, delays: &mut Delays) -> String {
        let (mut refused, mut quiet) = (0, 0);
        loop {
            let began = Instant::now();
            let end = self.watch(position, delays).await;
            quiet = if matches!(end, End::Quiet) { quiet + 1 } else { 0 };
            match end {
                End::Relist(reason) => return reason,
                End::Quiet => {
                    refused = 0;
                    if quiet % MOST_QUIET == 0 && self.has_gone_back(position).await {
                        return "the API server is not as far as it has been".to_owned();
                    }
                }
                End::Resume(None) => {
                    refused = 0;
                    sleep(delays.after_watch(began.elapsed())).await;
                }
                End::Resume(Some(error)) => {
                    refused = 0;
                    self.failed(&error, position);
                    sleep(delays.after(&error)).await;
                }
                End::Refused(error) => {
                    refused += 1;
                    self.failed(&error, position);
                    if refused >= MOST_REFUSED {
                        return error.to_string();
                    }
                    sleep(delays.after(&error)).await;
                }
                End::Forbidden(error) => self.list_on_demand(&error, position, delays).await,
            }
        }
    }

    /// Whether the server's version of this kind is older than what it has shown before. A failure says nothing.
    async fn has_gone_back(&self, position: &Position) -> bool {
        let api = self.shared.api();
        let path = format!("{}?limit=1", self.path());
        let read = async {
            let answer = api.get(&path, Accept::Json).await?;
            Ok::<_, RequestError>(serde_json::from_slice::<ListVersion>(&answer.whole().await?).unwrap_or_default())
        };
        let told = read.await.map(|list| version(list.metadata.resource_version.as_bytes())).unwrap_or_default();
        told.is_some() && told < position.newest
    }

    /// Lists once for the next report, because that is not watched. Returns when a watch may be tried again: rights come
    /// and go.
    async fn list_on_demand(&self, refusal: &RequestError, position: &mut Position, delays: &mut Delays) {
        if position.is_fresh {
            if self.source.goes_on_demand() {
                let source = self.source.name();
                tracing::warn!(source, "may not be watched, so it is listed for each report: {refusal}");
            }
            let demand = self.source.demanded().await;
            if let Err(error) = self.list(position).await {
                self.failed(&error, position);
                position.is_fresh = false;
            }
            self.source.served(demand);
        } else if let Err(error) = self.list(position).await {
            // Neither may be done. That lists work is known before anybody waits for one.
            self.failed(&error, position);
            sleep(delays.after(&error)).await;
        }
    }

    /// An attempt failed. A source that was read before is not blind before that is certain.
    fn failed(&self, error: &RequestError, position: &mut Position) {
        let is_forbidden = matches!(error, RequestError::Forbidden(_));
        position.forbidden = if is_forbidden { position.forbidden + 1 } else { 0 };
        if is_forbidden && position.forbidden < MOST_FORBIDDEN {
            self.source.failed_because(error.to_string(), false);
        } else {
            self.source.failed(error);
        }
    }

    async fn list(&self, position: &mut Position) -> Result<(), RequestError> {
        let is_reset = position.outdated >= MOST_OUTDATED;
        let listed = self.list_once(position, is_reset).await;
        match &listed {
            Ok(()) => (position.is_fresh, position.outdated, position.forbidden) = (true, 0, 0),
            Err(RequestError::Outdated) => position.outdated += 1,
            Err(_) => {}
        }
        listed
    }

    async fn list_once(&self, position: &mut Position, is_reset: bool) -> Result<(), RequestError> {
        let began = Instant::now();
        let api = self.shared.api();
        self.shared.learn_version(&api).await;
        let style = self.shared.style();
        let intake = StoreIntake::new(self.shared, self.namespace, position.newest, is_reset);
        self.shared.stats.lists.fetch_add(1, Relaxed);
        position.version = match self.kind {
            SourceKind::Pods => {
                let mut pods = PodIntake(intake);
                let told = list::list(&api, &self.path(), style, &mut pods).await?;
                pods.0.finish_pods(version(&told));
                told
            }
            SourceKind::Namespaces => {
                let mut namespaces = NamespaceIntake(intake);
                let told = list::list(&api, &self.path(), style, &mut namespaces).await?;
                namespaces.0.finish_namespaces(version(&told));
                told
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
            Err(error) => return End::of(error),
        };
        let encoding = answer.encoding;
        let mut answer = answer.silent_for(self.shared.limits.silence);
        let mut frames = Frames::new(encoding);
        self.source.opened();
        (position.is_fresh, position.forbidden) = (false, 0);
        self.shared.stats.watches.fetch_add(1, Relaxed);
        let mut is_silent = true;
        let end = loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => {
                    is_silent = false;
                    frames.push(&chunk);
                    if let Some(end) = self.take(&mut frames, encoding, position, delays) {
                        break end;
                    }
                    self.source.heard();
                }
                Ok(None) if frames.is_between_events() => {
                    self.source.heard();
                    break End::Resume(None);
                }
                Ok(None) => break End::Resume(Some(RequestError::CutOff("a watch ended within an event".to_owned()))),
                Err(RequestError::TimedOut(_)) if is_silent => break End::Quiet,
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
                Err(error) => return Some(End::of(RequestError::Malformed(error.to_string()))),
            };
            self.shared.stats.events.fetch_add(1, Relaxed);
            if event.kind == EventKind::Error {
                return Some(failed_watch(&event.object, encoding));
            }
            if let Err(reason) = self.apply(&mut store, event, encoding, position) {
                return Some(End::Relist(reason));
            }
            // A watch that gives what it should is one that works.
            delays.reset();
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
        if told.is_some() && told < position.newest {
            return Err("the watch goes back in time".to_owned());
        }
        match (self.kind, event.kind) {
            (SourceKind::Pods, EventKind::Bookmark) => store.pods_reach(told),
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

impl End {
    fn of(error: RequestError) -> Self {
        match error {
            RequestError::Expired(message) => Self::Relist(message),
            RequestError::Forbidden(_) => Self::Forbidden(error),
            RequestError::Server { .. } | RequestError::Refused { .. } | RequestError::Malformed(_) => {
                Self::Refused(error)
            }
            error => Self::Resume(Some(error)),
        }
    }
}

/// What the `Status` in a watch means.
fn failed_watch(object: &Bytes, encoding: Encoding) -> End {
    let status = decode_item::<wire::Status>(object.clone(), encoding).unwrap_or_default();
    let message = crate::cluster::request::shorten(&as_text(&status.message));
    End::of(match u16::try_from(status.code).unwrap_or_default() {
        410 => RequestError::Expired(message),
        403 => RequestError::Forbidden(message),
        401 => RequestError::Unauthorized(message),
        status @ (429 | 503) => RequestError::Busy { status, message, retry_after: None },
        status => RequestError::Server { status, message },
    })
}
