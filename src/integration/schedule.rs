//! When the next request is due: after failures later and later, health reports at fixed moments.

use std::time::Duration;

use tokio::time::Instant;

use super::decision::Wait;
use crate::delivery::retry::{LONGEST_REQUESTED_WAIT, jittered, random_fraction};

const FIRST_WAIT: Duration = Duration::from_secs(2);

const SLOW_FIRST_WAIT: Duration = Duration::from_mins(1);

const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// How often is looked whether what keeps a request from being sent has gone: another process leads, or the user is
/// refused; and whether refused credentials have changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The times that the requests keep to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// From one health report to the next.
    pub(super) health_report: Duration,
    /// After a first failure.
    pub(super) first: Duration,
    /// After a first failure that somebody has to mend.
    pub(super) slow_first: Duration,
    /// After many failures.
    pub(super) longest: Duration,
    /// Between two looks at what may have changed.
    pub(super) look: Duration,
}

impl Pace {
    pub(super) fn of(health_report: Duration) -> Self {
        let (first, slow_first, longest, look) = (FIRST_WAIT, SLOW_FIRST_WAIT, LONGEST_WAIT, LOOK_INTERVAL);
        Self { health_report, first, slow_first, longest, look }
    }
}

/// The waits after failures in a row: doubling, each shortened by up to a half at random, so that many agents do not
/// come back at the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    pace: Pace,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, next: pace.first }
    }

    /// How long to wait now.
    pub(super) fn next_wait(&mut self, wait: Wait) -> Duration {
        let (is_slow, requested) = match wait {
            Wait::Backoff { is_slow, requested } => (is_slow, requested),
            Wait::Requested(requested) => return requested.unwrap_or_default().min(LONGEST_REQUESTED_WAIT),
        };
        let whole = if is_slow { self.next.max(self.pace.slow_first) } else { self.next };
        self.next = whole.saturating_mul(2).min(self.pace.longest);
        jittered(whole, random_fraction()).max(requested.unwrap_or_default().min(LONGEST_REQUESTED_WAIT))
    }

    /// All is well again.
    pub(super) fn reset(&mut self) {
        self.next = self.pace.first;
    }
}

/// Moments at the same distance from each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    start: Instant,
    every: Duration,
}

impl Schedule {
    /// The first moment is `start`.
    pub(super) fn starting(start: Instant, every: Duration) -> Self {
        Self { start, every }
    }

    /// The first one after `moment`; those before it that were missed are not made up for.
    pub(super) fn next_after(&self, moment: Instant) -> Instant {
        let elapsed = moment.saturating_duration_since(self.start).as_nanos();
        let every = self.every.as_nanos().max(1);
        let into = u64::try_from(elapsed % every).unwrap_or_default();
        moment + self.every.saturating_sub(Duration::from_nanos(into))
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    use super::*;

    const SLOW: Wait = Wait::Backoff { is_slow: true, requested: None };

    fn waits<const N: usize>(backoff: &mut Backoff, wait: Wait, expected_seconds: [u64; N]) {
        for whole in expected_seconds.map(Duration::from_secs) {
            let waited = backoff.next_wait(wait);
            assert!(whole / 2 <= waited && waited <= whole, "{waited:?} of {whole:?}");
        }
    }

    fn backoff() -> Backoff {
        Backoff::new(Pace::of(Duration::from_mins(1)))
    }

    #[test]
    fn the_wait_doubles_from_two_seconds_to_five_minutes_and_starts_again_when_all_is_well() {
        let mut backoff = backoff();
        waits(&mut backoff, Wait::BACKOFF, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        backoff.reset();
        waits(&mut backoff, Wait::BACKOFF, [2, 4]);
    }

    #[test]
    fn what_somebody_has_to_mend_starts_at_a_minute() {
        let mut backoff = backoff();
        waits(&mut backoff, Wait::BACKOFF, [2]);
        waits(&mut backoff, SLOW, [60, 120, 240, 300, 300]);
    }

    #[test]
    fn a_server_is_given_the_time_it_asks_for_within_reason() {
        let mut backoff = backoff();
        let requested = |seconds| Some(Duration::from_secs(seconds));
        let wait = backoff.next_wait(Wait::Backoff { is_slow: false, requested: requested(90) });
        assert_eq!(wait, Duration::from_secs(90));
        assert_eq!(backoff.next_wait(Wait::Requested(requested(86_400))), Duration::from_mins(10));
        assert_eq!(backoff.next_wait(Wait::Requested(None)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn moments_are_whole_intervals_from_the_start_and_the_next_is_within_one(
            elapsed in 0_u64..10_000_000, every in 1_u64..600_000,
        ) {
            let start = Instant::now();
            let moment = start + Duration::from_millis(elapsed);
            let next = Schedule::starting(start, Duration::from_millis(every)).next_after(moment);
            prop_assert!(next > moment && next <= moment + Duration::from_millis(every));
            let from_start = u64::try_from((next - start).as_millis()).expect("small");
            prop_assert_eq!(from_start % every, 0);
        }
    }
}
