//! Whether the agent does what it is there for, told by who knows it and asked by the kubelet's probes.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Looks at what nobody tells, such as the age of the cluster's state.
type Check = Box<dyn Fn() -> Ready + Send + Sync>;

/// Whether the agent is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// It is.
    Ready,
    /// It is not, for this reason, of one line.
    NotReady(String),
}

/// What `/readyz` answers.
pub struct Readiness {
    state: Mutex<State>,
    check: OnceLock<Check>,
}

#[derive(Debug)]
struct State {
    told: Ready,
    is_draining: bool,
    /// Whether the last answer was that it is ready.
    was_ready: bool,
}

impl Readiness {
    /// The agent is ready from now on, or not.
    pub fn set(&self, ready: Ready) {
        self.state().told = ready;
    }

    /// Has `check` asked at each probe while the agent was told to be ready. The first one that is given stays.
    pub fn check_with(&self, check: Box<dyn Fn() -> Ready + Send + Sync>) {
        let _ = self.check.set(check);
    }

    /// The agent ends: it is not ready any more, whatever it is told.
    pub fn drain(&self) {
        self.state().is_draining = true;
    }

    /// Whether the agent is ready now. A change is logged.
    pub fn answer(&self) -> Ready {
        let (told, is_draining) = {
            let state = self.state();
            (state.told.clone(), state.is_draining)
        };
        if is_draining {
            return Ready::NotReady("stopping".to_owned());
        }
        let ready = match (told, self.check.get()) {
            (Ready::Ready, Some(check)) => check(),
            (told, _) => told,
        };
        let was_ready = std::mem::replace(&mut self.state().was_ready, ready == Ready::Ready);
        match &ready {
            Ready::Ready if !was_ready => tracing::info!("ready"),
            Ready::NotReady(reason) if was_ready => tracing::warn!(reason, "not ready any more"),
            _ => {}
        }
        ready
    }

    /// The value behind this lock is whole at any time, so a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Readiness {
    fn default() -> Self {
        let state = State { told: Ready::NotReady("starting".to_owned()), is_draining: false, was_ready: false };
        Self { state: Mutex::new(state), check: OnceLock::new() }
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").field("state", &self.state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use pretty_assertions::assert_eq;

    use super::*;

    fn not(reason: &str) -> Ready {
        Ready::NotReady(reason.to_owned())
    }

    #[test]
    fn it_is_ready_when_both_who_tells_and_who_checks_say_so() {
        let readiness = Readiness::default();
        let fresh = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&fresh);
        readiness.check_with(Box::new(move || if seen.load(Relaxed) { Ready::Ready } else { not("stale") }));
        assert_eq!(readiness.answer(), not("starting"));
        readiness.set(Ready::Ready);
        assert_eq!(readiness.answer(), not("stale"));
        fresh.store(true, Relaxed);
        assert_eq!(readiness.answer(), Ready::Ready);
        readiness.set(not("blind"));
        assert_eq!(readiness.answer(), not("blind"));
    }

    #[test]
    fn an_end_is_final() {
        let readiness = Readiness::default();
        readiness.drain();
        readiness.set(Ready::Ready);
        assert_eq!(readiness.answer(), not("stopping"));
    }
}
