//! The cluster as the API server holds it: objects, resource versions, what has changed, and who is to hear of it.
//!
//! One counter gives resource versions to the changes of all kinds, as etcd's revision does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::access::User;
use super::history::{Change, EventType, History};
use super::lease::Leases;
use super::list::ListQuery;
use super::status::Failure;
use super::{ExpiredWatch, KubernetesVersion};
use crate::objects::{Kind, Object, Objects};

/// The resource version of a cluster whose objects say nothing newer.
const FIRST_VERSION: u64 = 1000;

pub(crate) struct State {
    pub(crate) version: KubernetesVersion,
    pub(crate) users: Vec<User>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) leases: Leases,
    pub(crate) resource_version: u64,
    /// Continue tokens of states before this one have expired.
    pub(crate) oldest_token: u64,
    pub(crate) expired_watch: ExpiredWatch,
    /// How many changes of each kind are remembered.
    window: usize,
    histories: BTreeMap<Kind, History>,
    /// Everything up to this resource version was forgotten for every kind.
    forgotten: u64,
    /// Kinds whose next change nobody is to hear of.
    losing: BTreeSet<Kind>,
    watchers: Vec<Watcher>,
    next_watcher: u64,
}

/// Someone who is told of changes, in order, until this is dropped.
struct Watcher {
    id: u64,
    kind: Kind,
    /// Empty for all.
    namespace: String,
    since: u64,
    bookmarks: bool,
    sender: UnboundedSender<Message>,
}

/// What a watch is told.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Change(Change),
    /// All changes up to this resource version were told.
    Bookmark(u64),
    Error(Failure),
}

/// What a watch that has just begun gets.
pub(crate) struct Subscription {
    pub(crate) id: u64,
    /// Where the objects are that are told first, all as added.
    pub(crate) initial: std::ops::Range<usize>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) messages: UnboundedReceiver<Message>,
    pub(crate) bookmarks: bool,
    pub(crate) timeout: Option<Duration>,
}

impl State {
    pub(crate) fn new(version: KubernetesVersion, users: Vec<User>, objects: Arc<Objects>, window: usize) -> Self {
        let resource_version = objects.newest().unwrap_or_default().max(FIRST_VERSION);
        Self {
            version,
            users,
            objects,
            leases: Leases::default(),
            resource_version,
            oldest_token: 0,
            expired_watch: ExpiredWatch::default(),
            window,
            histories: BTreeMap::new(),
            forgotten: resource_version,
            losing: BTreeSet::new(),
            watchers: Vec::new(),
            next_watcher: 0,
        }
    }

    /// The next resource version.
    pub(crate) fn advance(&mut self) -> u64 {
        self.resource_version += 1;
        self.resource_version
    }

    /// Makes or changes an object, and gives back the resource version of that.
    pub(crate) fn apply(&mut self, kind: Kind, object: &Object) -> u64 {
        let version = self.advance();
        let object = object.with_version(version);
        let old = Arc::make_mut(&mut self.objects).put(kind, object.clone());
        let event = if old.is_some() { EventType::Modified } else { EventType::Added };
        self.record(kind, Change { event, version, object });
        version
    }

    /// Deletes an object, and gives back the resource version of that; `None` when there is none.
    pub(crate) fn delete(&mut self, kind: Kind, namespace: &str, name: &str) -> Option<u64> {
        let old = Arc::make_mut(&mut self.objects).remove(kind, namespace, name)?;
        let version = self.advance();
        let object = old.with_version(version);
        self.record(kind, Change { event: EventType::Deleted, version, object });
        Some(version)
    }

    /// Makes these the objects, by as many changes as there are differences.
    pub(crate) fn replace(&mut self, objects: Arc<Objects>) {
        let mut new = Arc::unwrap_or_clone(objects);
        let old = std::mem::take(&mut self.objects);
        for kind in old.kinds().chain(new.kinds()).collect::<BTreeSet<_>>() {
            for gone in old.of(kind).iter().filter(|it| new.find(kind, &it.namespace, &it.name).is_none()) {
                let version = self.advance();
                let object = gone.with_version(version);
                self.record(kind, Change { event: EventType::Deleted, version, object });
            }
            for object in new.of_mut(kind) {
                let before = old.find(kind, &object.namespace, &object.name);
                match before {
                    Some(before) if before.same_but_version(object) => object.clone_from(before),
                    _ => {
                        let version = self.advance();
                        *object = object.with_version(version);
                        let event = if before.is_some() { EventType::Modified } else { EventType::Added };
                        self.record(kind, Change { event, version, object: object.clone() });
                    }
                }
            }
        }
        self.objects = Arc::new(new);
    }

    /// Forgets what has changed, so that only watches from the present on are possible.
    pub(crate) fn compact(&mut self) {
        self.histories.clear();
        self.forgotten = self.resource_version;
    }

    /// Goes on counting from here, as an etcd that was restored from a backup: nothing that changed is known.
    pub(crate) fn restore(&mut self, version: u64) {
        self.resource_version = version;
        self.compact();
    }

    /// Lets the next change of a kind happen without anyone being told.
    pub(crate) fn lose_next(&mut self, kind: Kind) {
        self.losing.insert(kind);
    }

    /// Begins a watch.
    pub(crate) fn subscribe(
        &mut self,
        kind: Kind,
        namespace: &str,
        query: &ListQuery,
    ) -> Result<Subscription, Failure> {
        let since = match query.resource_version.as_deref() {
            None | Some("0") => None,
            Some(text) => {
                let cause = format!("strconv.ParseUint: parsing \"{text}\": invalid syntax");
                let message = format!("resourceVersion: Invalid value: \"{text}\": {cause}");
                Some(text.parse().map_err(|_| Failure::unexpected(message))?)
            }
        };
        let (sender, messages) = mpsc::unbounded_channel();
        let initial = if since.is_none() { self.objects.range(kind, namespace) } else { 0..0 };
        let id = self.next_watcher;
        self.next_watcher += 1;
        let subscription = Subscription {
            id,
            initial,
            objects: self.objects.clone(),
            messages,
            bookmarks: query.bookmarks,
            timeout: query.timeout,
        };
        let watcher = Watcher {
            id,
            kind,
            namespace: namespace.to_owned(),
            since: since.unwrap_or(self.resource_version),
            bookmarks: query.bookmarks,
            sender,
        };
        let expired_watch = self.expired_watch;
        match self.history(kind).since(watcher.since) {
            Ok(changes) => changes.for_each(|change| watcher.tell_change(change)),
            Err(oldest) => {
                let failure = Failure::too_old(watcher.since, oldest);
                return match expired_watch {
                    ExpiredWatch::Status => Err(failure),
                    ExpiredWatch::Event => {
                        watcher.tell(Message::Error(failure));
                        Ok(subscription)
                    }
                };
            }
        }
        self.watchers.push(watcher);
        Ok(subscription)
    }

    /// Tells nothing more to a watch; what it was told before still arrives.
    pub(crate) fn unsubscribe(&mut self, id: u64) {
        self.watchers.retain(|watcher| watcher.id != id);
    }

    /// Tells nothing more to any watch. All of them have an id below the one that is given back.
    pub(crate) fn unsubscribe_all(&mut self) -> u64 {
        self.watchers.clear();
        self.next_watcher
    }

    /// Tells the watches with these ids that want to know it that they have heard of all changes so far. A real server says
    /// so only when its resource version has moved since the watch began, which some lease or other mostly sees to.
    pub(crate) fn bookmark(&self, ids: impl Fn(u64) -> bool) {
        let version = self.resource_version;
        for watcher in self.watchers.iter().filter(|it| it.bookmarks && ids(it.id) && version >= it.since) {
            watcher.tell(Message::Bookmark(version));
        }
    }

    /// Tells all watches of an error, which ends them.
    pub(crate) fn fail_watches(&mut self, failure: &Failure) {
        for watcher in std::mem::take(&mut self.watchers) {
            watcher.tell(Message::Error(failure.clone()));
        }
    }

    /// How many watches of a kind are open.
    pub(crate) fn watch_count(&self, kind: Kind) -> usize {
        self.watchers.iter().filter(|watcher| watcher.kind == kind).count()
    }

    fn record(&mut self, kind: Kind, change: Change) {
        if self.losing.remove(&kind) {
            return;
        }
        for watcher in self.watchers.iter().filter(|watcher| watcher.kind == kind) {
            watcher.tell_change(&change);
        }
        let window = self.window;
        self.history(kind).add(change, window);
    }

    fn history(&mut self, kind: Kind) -> &mut History {
        let forgotten = self.forgotten;
        self.histories.entry(kind).or_insert_with(|| History::after(forgotten))
    }
}

impl Watcher {
    fn tell_change(&self, change: &Change) {
        let concerned = self.namespace.is_empty() || *self.namespace == *change.object.namespace;
        if concerned && change.version > self.since {
            self.tell(Message::Change(change.clone()));
        }
    }

    fn tell(&self, message: Message) {
        // A watch whose client is gone is about to end.
        let _ = self.sender.send(message);
    }
}
