//! Whether this process may send: always when it runs alone, and as one of several replicas only while it leads.
//!
//! A leader that was paused must find out before it sends, not after: the mandate ends by itself at a moment of the
//! monotonic clock, and whoever sends asks right before the first byte.

use tokio::sync::watch;
use tokio::time::Instant;

/// The right to send.
#[derive(Debug, Clone)]
pub struct Mandate {
    /// Until when it holds, for a process that leads; `None` inside while another one does. `None` outside: for ever.
    until: Option<watch::Receiver<Option<Instant>>>,
}

impl Mandate {
    /// The mandate of a process that runs alone.
    pub fn unlimited() -> Self {
        Self { until: None }
    }

    /// A mandate that holds until the moment in `until`, and not at all while that is `None`.
    pub fn until(until: watch::Receiver<Option<Instant>>) -> Self {
        Self { until: Some(until) }
    }

    /// Whether it can end.
    pub fn is_limited(&self) -> bool {
        self.until.is_some()
    }

    /// Whether it holds at this moment.
    pub fn holds(&self) -> bool {
        self.until.as_ref().is_none_or(|until| until.borrow().is_some_and(|until| Instant::now() < until))
    }

    /// Waits until it holds.
    pub async fn granted(&self) {
        let Some(until) = &self.until else { return };
        let mut until = until.clone();
        while !self.holds() {
            if until.changed().await.is_err() {
                // Nobody will ever grant it again.
                return std::future::pending().await;
            }
        }
    }

    /// Waits until it does not hold any more.
    pub async fn lost(&self) {
        let Some(until) = &self.until else { return std::future::pending().await };
        let mut until = until.clone();
        loop {
            let Some(end) = *until.borrow_and_update() else { return };
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                changed = until.changed() => {
                    if changed.is_err() {
                        // Nobody renews it any more; it ends when it would have.
                        return tokio::time::sleep_until(end).await;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_at_its_moment_unless_it_is_renewed() {
        let (renewals, until) = watch::channel(Some(Instant::now() + Duration::from_secs(10)));
        let mandate = Mandate::until(until);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(mandate.holds());
        renewals.send_replace(Some(Instant::now() + Duration::from_secs(10)));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(mandate.holds());
        let lost = mandate.lost();
        tokio::pin!(lost);
        assert!(lost.as_mut().now_or_never().is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!mandate.holds());
        lost.await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_lost_at_once_when_another_leads() {
        let (renewals, until) = watch::channel(Some(Instant::now() + Duration::from_secs(10)));
        let mandate = Mandate::until(until);
        renewals.send_replace(None);
        assert!(!mandate.holds());
        mandate.lost().await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_can_be_waited_for() {
        let (renewals, until) = watch::channel(None);
        let mandate = Mandate::until(until);
        let granted = mandate.granted();
        tokio::pin!(granted);
        assert!(granted.as_mut().now_or_never().is_none());
        renewals.send_replace(Some(Instant::now() + Duration::from_secs(10)));
        granted.await;
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(mandate.granted().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_process_alone_never_loses_it() {
        let mandate = Mandate::unlimited();
        assert!(mandate.holds());
        assert!(mandate.lost().now_or_never().is_none());
    }
}
