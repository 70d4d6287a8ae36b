//! An open watch: the body of an answer that goes on for as long as the watch does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use super::service::Service;
use super::state::Subscription;
use super::watch_frame::Frames;
use crate::server::body::Chunks;
use crate::server::lock;

/// How long a watch lasts whose client does not say.
const LONGEST: Duration = Duration::from_mins(30);

/// Events that are there at the same time are written in chunks of about this size.
const CHUNK: usize = 128 * 1024;

/// What becomes of all open watches.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Control {
    /// Nothing is written, but connections stay open.
    pub(crate) held: bool,
    /// Watches with an id below this one end, even if they are held.
    pub(crate) ended_below: u64,
    /// The connections of watches with an id below this one are reset.
    pub(crate) reset_below: u64,
}

/// A watch.
pub(crate) struct Watch {
    service: Arc<Service>,
    subscription: Subscription,
    frames: Frames,
    control: watch::Receiver<Control>,
    deadline: Instant,
    /// `None` for a client that does not want any.
    bookmarks: Option<Interval>,
    /// Set when the connection is to be reset.
    reset: Arc<AtomicBool>,
}

impl Watch {
    pub(crate) fn new(
        service: &Arc<Service>,
        subscription: Subscription,
        frames: Frames,
        reset: Arc<AtomicBool>,
    ) -> Self {
        let now = Instant::now();
        let deadline = now + subscription.timeout.unwrap_or(LONGEST).min(LONGEST);
        let bookmarks = subscription.bookmarks.then(|| {
            let mut interval = interval_at(now + service.bookmark_interval, service.bookmark_interval);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        Self {
            service: service.clone(),
            subscription,
            frames,
            control: service.control.subscribe(),
            deadline,
            bookmarks,
            reset,
        }
    }

    /// What is written.
    pub(crate) fn chunks(self) -> Chunks {
        stream::unfold(Some(self), async |watch| {
            let mut watch = watch?;
            let chunk = watch.next().await?;
            let going_on = chunk.is_ok();
            Some((chunk, going_on.then_some(watch)))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let id = self.subscription.id;
        loop {
            let control = *self.control.borrow_and_update();
            if id < control.reset_below {
                self.reset.store(true, Ordering::Relaxed);
                return Some(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if control.held {
                if id < control.ended_below {
                    return None;
                }
                self.control.changed().await.ok()?;
                continue;
            }
            if let Some(chunk) = self.initial() {
                return Some(Ok(chunk));
            }
            tokio::select! {
                biased;
                changed = self.control.changed() => changed.ok()?,
                message = self.subscription.messages.recv() => {
                    let mut chunk = BytesMut::new();
                    self.frames.write(&message?, &mut chunk);
                    self.add_waiting(&mut chunk);
                    return Some(Ok(chunk.freeze()));
                }
                () = tick(&mut self.bookmarks) => lock(&self.service.state).bookmark(|other| other == id),
                () = sleep_until(self.deadline) => self.expire(),
            }
        }
    }

    /// Some of the objects that were there before the watch.
    fn initial(&mut self) -> Option<Bytes> {
        let Subscription { initial, objects, .. } = &mut self.subscription;
        let mut chunk = BytesMut::new();
        while chunk.len() < CHUNK
            && let Some(object) = objects.of(self.frames.kind).get(initial.clone())?.first()
        {
            initial.start += 1;
            self.frames.initial(object, &mut chunk);
        }
        (!chunk.is_empty()).then(|| chunk.freeze())
    }

    fn add_waiting(&mut self, chunk: &mut BytesMut) {
        while chunk.len() < CHUNK
            && let Ok(message) = self.subscription.messages.try_recv()
        {
            self.frames.write(&message, chunk);
        }
    }

    /// Ends the watch, once all it was told is written: how far it has come, last of all.
    fn expire(&self) {
        let id = self.subscription.id;
        let mut state = lock(&self.service.state);
        state.bookmark(|other| other == id);
        state.unsubscribe(id);
        drop(state);
        self.service.watches_changed.send_replace(());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&self.service.state).unsubscribe(self.subscription.id);
        self.service.watches_changed.send_replace(());
    }
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}
