//! When a request may be made, how long one may take, and what ends a wait before its time.

use std::future::{self, Future};
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Integration, Stopped};
use crate::anchore::BasicAuth;

/// How long a request in flight may still take when the agent is told to stop.
const STOP_LIMIT: Duration = Duration::from_secs(20);

impl Integration {
    /// Waits until this process has the mandate.
    pub(super) async fn wait_for_mandate(&self) -> Result<(), Stopped> {
        while !self.mandate.holds() {
            self.pause_for(self.pace.look, None).await?;
        }
        if self.stop.is_cancelled() { Err(Stopped) } else { Ok(()) }
    }

    /// The result of a request, or `None` when the mandate was lost meanwhile.
    pub(super) async fn bounded<T>(&self, request: impl Future<Output = T>) -> Result<Option<T>, Stopped> {
        tokio::select! {
            biased;
            () = self.mandate.lost() => Ok(None),
            result = request => Ok(Some(result)),
            () = self.stop_limit() => Err(Stopped),
        }
    }

    async fn stop_limit(&self) {
        self.stop.cancelled().await;
        sleep(STOP_LIMIT).await;
    }

    /// Waits so long, or until there are other credentials than the refused ones.
    pub(super) async fn pause_for(&self, wait: Duration, refused: Option<&BasicAuth>) -> Result<(), Stopped> {
        self.pause_until(Instant::now() + wait, refused).await
    }

    /// Waits until that moment, or until there are other credentials.
    pub(super) async fn pause_until(&self, moment: Instant, refused: Option<&BasicAuth>) -> Result<(), Stopped> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Stopped),
            () = sleep_until(moment) => Ok(()),
            () = self.replaced(refused) => Ok(()),
        }
    }

    /// Ends when the credentials are others than those; never without any.
    async fn replaced(&self, refused: Option<&BasicAuth>) {
        let Some(refused) = refused else { return future::pending().await };
        loop {
            sleep(self.pace.look).await;
            if self.recipient.sender().await.is_ok_and(|sender| !is_same(&sender, refused)) {
                tracing::info!("refused credentials have changed, trying the new ones");
                return;
            }
        }
    }
}

fn is_same(one: &BasicAuth, other: &BasicAuth) -> bool {
    one.user == other.user && one.password.expose_secret() == other.password.expose_secret()
}
