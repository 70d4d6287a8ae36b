//! When the ticks of a resident agent are due.
//!
//! The first as soon as there is something to tell. The second comes up to a tenth of the interval late, by the
//! cluster's name, so that the agents of many clusters that were started together do not report in the same second.
//! From then on one is due each interval, counted from the second and not from the end of the last, so that they do not
//! drift. A tick that is still at work when the next is due makes that one be skipped.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

/// How much later than an interval the second tick may be.
const LARGEST_SHIFT: f64 = 0.1;

/// The ticks that are still to come.
#[derive(Debug)]
pub(crate) struct Schedule {
    interval: Duration,
    shift: Duration,
    next: Instant,
}

impl Schedule {
    /// A schedule whose first tick is due at `first`. `interval` is not zero.
    pub(crate) fn new(first: Instant, interval: Duration, cluster_name: &str) -> Self {
        // Any hash does that is the same in each process.
        let [first_byte, second_byte, ..] = Uuid::new_v5(&Uuid::NAMESPACE_OID, cluster_name.as_bytes()).into_bytes();
        let fraction = f64::from(u16::from_be_bytes([first_byte, second_byte])) / f64::from(u16::MAX);
        Self { interval, shift: interval.mul_f64(LARGEST_SHIFT * fraction), next: first }
    }

    /// When the next tick is due.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// The tick that was due is done at `now`. Gives how many were due meanwhile and are skipped.
    pub(crate) fn advance(&mut self, now: Instant) -> u64 {
        self.next += self.interval + std::mem::take(&mut self.shift);
        let late = now.saturating_duration_since(self.next);
        if late.is_zero() {
            return 0;
        }
        let skipped = late.as_nanos() / self.interval.as_nanos().max(1) + 1;
        // An interval is at least a second: more than so many have not passed since the universe began.
        let skipped = u32::try_from(skipped).unwrap_or(u32::MAX);
        self.next += self.interval.saturating_mul(skipped);
        u64::from(skipped)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_mins(5);

    #[tokio::test]
    async fn the_second_tick_is_shifted_by_the_name_and_the_others_follow_it_exactly() {
        let start = Instant::now();
        let mut seconds = Vec::new();
        for name in ["edge-1", "edge-2", "edge-3"] {
            let mut schedule = Schedule::new(start, INTERVAL, name);
            assert_eq!(schedule.next(), start);
            schedule.advance(start);
            let second = schedule.next();
            assert!((INTERVAL..=INTERVAL.mul_f64(1.1)).contains(&(second - start)));
            schedule.advance(second + Duration::from_secs(7));
            assert_eq!(schedule.next(), second + INTERVAL);
            seconds.push(second);
        }
        seconds.dedup();
        assert_eq!(seconds.len(), 3, "clusters differ");
        let mut again = Schedule::new(start, INTERVAL, "edge-3");
        again.advance(start);
        assert_eq!(Some(&again.next()), seconds.last(), "a cluster has its own shift for ever");
    }

    #[tokio::test]
    async fn ticks_that_were_due_while_one_was_at_work_are_skipped_and_counted() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, INTERVAL, "edge");
        schedule.advance(start);
        let second = schedule.next();
        assert_eq!(schedule.advance(second + INTERVAL), 0, "due at this very moment is not late");
        assert_eq!(schedule.next(), second + INTERVAL);
        assert_eq!(schedule.advance(second + INTERVAL.mul_f64(3.5)), 2);
        assert_eq!(schedule.next(), second + INTERVAL * 4);
    }

    proptest! {
        #[test]
        fn ticks_are_never_due_in_the_past_and_never_drift(works in prop::collection::vec(0_u64..2_000, 1..50)) {
            let start = Instant::now();
            let mut schedule = Schedule::new(start, INTERVAL, "edge");
            schedule.advance(start);
            let second = schedule.next();
            for work in works {
                let now = schedule.next() + Duration::from_secs(work);
                schedule.advance(now);
                prop_assert!(schedule.next() >= now);
                prop_assert!(schedule.next() - now <= INTERVAL);
                prop_assert_eq!((schedule.next() - second).as_secs() % INTERVAL.as_secs(), 0);
            }
        }
    }
}
