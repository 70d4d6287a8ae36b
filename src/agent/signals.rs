//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends at once.

use tokio_util::sync::CancellationToken;

/// Cancels `stop` at the first signal and gives the number of the second.
///
/// Where signals cannot be listened to, this waits for ever: the system's default, ending at once, stays in force.
pub(crate) async fn until_second(stop: &CancellationToken) -> u8 {
    let Some(mut signals) = Signals::listen() else { return std::future::pending().await };
    signals.next().await;
    tracing::info!("told to stop: the request in flight may finish, a second signal ends at once");
    stop.cancel();
    signals.next().await
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> Option<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let terminate = signal(SignalKind::terminate()).ok()?;
        let interrupt = signal(SignalKind::interrupt()).ok()?;
        Some(Self { terminate, interrupt })
    }

    /// The number of the next signal.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            Some(()) = self.terminate.recv() => 15,
            Some(()) = self.interrupt.recv() => 2,
            else => std::future::pending().await,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "listening can fail on other systems")]
    fn listen() -> Option<Self> {
        Some(Self)
    }

    async fn next(&mut self) -> u8 {
        match tokio::signal::ctrl_c().await {
            Ok(()) => 2,
            Err(_) => std::future::pending().await,
        }
    }
}
