//! What has changed, as far back as a server remembers it.

use std::collections::VecDeque;

use crate::objects::Object;

/// What has become of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventType {
    Added,
    Modified,
    Deleted,
}

/// A change of one object.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) event: EventType,
    /// The resource version that the change made.
    pub(crate) version: u64,
    /// The object after it; before it, but with the version of its deletion, when it was deleted.
    pub(crate) object: Object,
}

/// The changes of a kind.
#[derive(Debug)]
pub(crate) struct History {
    changes: VecDeque<Change>,
    /// Everything up to this resource version is forgotten.
    oldest: u64,
}

impl EventType {
    /// The name in watch events.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

impl History {
    /// Knows nothing of what was up to this resource version.
    pub(crate) fn after(version: u64) -> Self {
        Self { changes: VecDeque::new(), oldest: version }
    }

    /// Adds a change, and forgets the oldest of more than `window` ones.
    pub(crate) fn add(&mut self, change: Change, window: usize) {
        self.changes.push_back(change);
        while self.changes.len() > window {
            self.oldest = self.changes.pop_front().map_or(self.oldest, |change| change.version);
        }
    }

    /// The changes after a resource version; `Err` with the oldest that is known when it is before that.
    pub(crate) fn since(&self, version: u64) -> Result<impl Iterator<Item = &Change>, u64> {
        if version < self.oldest {
            return Err(self.oldest);
        }
        Ok(self.changes.iter().filter(move |change| change.version > version))
    }
}
