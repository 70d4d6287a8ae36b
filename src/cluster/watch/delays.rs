//! How long to wait before an API server is asked again. All waits are jittered: many agents lose one server together.

use std::time::Duration;

use crate::cluster::request::RequestError;
use crate::jitter;

/// The longest wait after failures is so many times the first one.
const LONGEST: u32 = 30;

/// The same for a server that cannot be reached: being refused costs it nothing, and it should be noticed soon when it
/// is back.
const LONGEST_UNREACHABLE: u32 = 4;

/// Longest wait that a busy server is granted at once.
const LONGEST_BUSY: Duration = Duration::from_mins(1);

/// The waits of one source.
#[derive(Debug)]
pub(crate) struct Delays {
    first: Duration,
    next: Duration,
    lists: u32,
}

impl Delays {
    /// The first wait after a failure is this long at most.
    pub(crate) fn new(first: Duration) -> Self {
        Self { first, next: first, lists: 0 }
    }

    /// The wait after a failure: the first one doubling to thirty times that, or what a busy server asks for.
    pub(crate) fn after(&mut self, error: &RequestError) -> Duration {
        let wait = self.step();
        match error {
            RequestError::Busy { retry_after: Some(told), .. } => (*told).min(LONGEST_BUSY) + jittered(self.first),
            RequestError::Unreachable { .. } => wait.min(jittered(self.first * LONGEST_UNREACHABLE)),
            _ => wait,
        }
    }

    /// The wait before a list is read anew: none to speak of for the first, longer for those after it while no watch
    /// works in between. A list that takes longer than the server remembers would else be read for ever.
    pub(crate) fn before_list(&mut self) -> Duration {
        self.lists += 1;
        if self.lists == 1 { self.first.mul_f64(jitter::fraction() / 2.0) } else { self.step() }
    }

    /// The wait before a watch is opened again that ended in order after it had lived for `lived`: none, where that was
    /// long enough to be of use.
    pub(crate) fn after_watch(&mut self, lived: Duration) -> Duration {
        if lived >= self.first { Duration::ZERO } else { self.step() }
    }

    /// Something works again.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.first);
    }

    fn step(&mut self) -> Duration {
        let wait = jittered(self.next);
        self.next = self.next.saturating_mul(2).min(self.first * LONGEST);
        wait
    }
}

/// A number of seconds in a range, at random.
pub(crate) fn seconds_within((least, most): (u64, u64)) -> u64 {
    let span = Duration::from_secs(most.saturating_sub(least));
    least + span.mul_f64(jitter::fraction()).as_secs()
}

/// Shortened by up to a half.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(1.0 - jitter::fraction() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(1);

    fn unreachable() -> RequestError {
        RequestError::Unreachable { server: String::new(), reason: String::new() }
    }

    #[test]
    fn waits_double_up_to_half_a_minute_and_start_again() {
        let mut delays = Delays::new(FIRST);
        let forbidden = RequestError::Forbidden(String::new());
        for longest in [1, 2, 4, 8, 16, 30, 30] {
            let wait = delays.after(&forbidden).as_secs_f64();
            assert!((f64::from(longest) / 2.0..=f64::from(longest)).contains(&wait), "{wait} for {longest}");
        }
        delays.reset();
        assert!(delays.after(&forbidden) <= FIRST);
    }

    #[test]
    fn a_server_that_is_away_is_asked_every_few_seconds() {
        let mut delays = Delays::new(FIRST);
        for _ in 0..10 {
            assert!(delays.after(&unreachable()) <= FIRST * LONGEST_UNREACHABLE);
        }
    }

    #[test]
    fn a_busy_server_is_left_alone_as_long_as_it_asks_for_within_reason() {
        let busy = |seconds| RequestError::Busy {
            status: 429,
            message: String::new(),
            retry_after: Some(Duration::from_secs(seconds)),
        };
        let mut delays = Delays::new(FIRST);
        assert!((10..=11).contains(&delays.after(&busy(10)).as_secs()));
        assert!(delays.after(&busy(86_400)) <= LONGEST_BUSY + FIRST);
    }

    #[test]
    fn lists_in_a_row_are_read_more_and_more_rarely() {
        let mut delays = Delays::new(FIRST);
        assert!(delays.before_list() <= FIRST / 2);
        assert!(delays.before_list() >= FIRST / 2);
        assert!(delays.before_list() >= FIRST);
    }
}
