//! Who leads, decided from what the API server says and from the moments at which it was said. Asks nobody and reads
//! no clock.
//!
//! Clocks of machines differ, so times in the record are never compared with the own one. A holder counts as gone when
//! its record has not changed for its duration, counted from the moment this process first saw it as it is. The own
//! term ends a third of that earlier, counted from before the last renewal was sent: however long an answer took, or
//! this process was stopped, nobody else can have taken over by then.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::record::{Claimant, Record};

/// The three times of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timing {
    /// For how long a record counts that does not change, in whole seconds.
    pub(super) duration: Duration,
    /// How long the right to lead holds after a renewal.
    pub(super) renew_deadline: Duration,
    /// From one look or renewal to the next.
    pub(super) retry: Duration,
}

impl Timing {
    /// As in every Kubernetes component.
    pub(super) const USUAL: Self = Self {
        duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry: Duration::from_secs(2),
    };
}

/// The state of one candidate.
#[derive(Debug)]
pub(super) struct Election {
    namespace: String,
    name: String,
    identity: String,
    timing: Timing,
    /// The record now, if there is one.
    record: Option<Record>,
    /// The record as it was when it last changed.
    changed: Option<Record>,
    /// Until when another one holds it.
    held_until: Option<Instant>,
    /// Until when this one leads.
    leads_until: Option<Instant>,
    /// How often this one began to lead.
    terms: u64,
    /// Since when every attempt was forbidden.
    forbidden_since: Option<Instant>,
}

/// What to write to get or keep the Lease.
#[derive(Debug, PartialEq)]
pub(super) enum Claim {
    /// It does not exist.
    Create(Value),
    /// It exists.
    Replace(Value),
}

impl Election {
    pub(super) fn new(namespace: String, name: String, identity: String, timing: Timing) -> Self {
        Self {
            namespace,
            name,
            identity,
            timing,
            record: None,
            changed: None,
            held_until: None,
            leads_until: None,
            terms: 0,
            forbidden_since: None,
        }
    }

    /// Notes what the server has: `None` when there is no Lease.
    pub(super) fn see(&mut self, record: Option<Record>, now: Instant) {
        if let Some(record) = &record {
            if record.holder() != self.identity {
                self.leads_until = None;
            }
            if record.holder() == self.identity || record.holder().is_empty() {
                self.held_until = None;
            } else {
                let has_changed = self.changed.as_ref().is_none_or(|earlier| !record.is_unchanged_since(earlier));
                if has_changed || self.held_until.is_none() {
                    self.held_until = now.checked_add(record.duration());
                }
            }
            self.changed = Some(record.clone());
        }
        // A record that somebody deleted says nothing about its holder, who goes on until it finds out.
        self.record = record;
    }

    /// What to write, unless another one holds the Lease.
    pub(super) fn claim(&self, now: Instant, clock: Timestamp) -> Option<Claim> {
        if self.held_until.is_some_and(|until| now < until) {
            return None;
        }
        let claimant = Claimant { identity: &self.identity, duration: self.timing.duration };
        Some(match &self.record {
            None => Claim::Create(Record::first(&self.namespace, &self.name, claimant, clock)),
            Some(record) => Claim::Replace(record.claimed(claimant, clock)),
        })
    }

    /// Notes that the server took a claim which was sent at `sent`.
    pub(super) fn won(&mut self, record: Record, sent: Instant) {
        self.see(Some(record), sent);
        if self.holds_record() {
            self.terms += u64::from(self.leads_until.is_none());
            self.leads_until = Some(sent + self.timing.renew_deadline);
        }
    }

    /// Ends the own term when its time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        self.leads_until = self.leads_until.filter(|&until| now < until);
    }

    /// Notes that an attempt was let through, whatever came of it.
    pub(super) fn allowed(&mut self) {
        self.forbidden_since = None;
    }

    /// Notes that an attempt was forbidden. Whether that has lasted so long that it is no passing state of a server that
    /// has just started.
    pub(super) fn forbidden(&mut self, now: Instant) -> bool {
        let since = *self.forbidden_since.get_or_insert(now);
        now.duration_since(since) >= self.timing.duration
    }

    /// When to try again. `fraction`, in 0..=1, spreads the candidates.
    pub(super) fn next_attempt(&self, now: Instant, fraction: f64) -> Instant {
        let regular = now + self.timing.retry.mul_f64(1.0 + fraction.clamp(0.0, 1.0) / 5.0);
        let turning_point = self.leads_until.or(self.held_until).filter(|&at| now < at);
        turning_point.map_or(regular, |at| at.min(regular))
    }

    pub(super) fn timing(&self) -> Timing {
        self.timing
    }

    /// Until when this one leads; `None` while it does not.
    pub(super) fn leads_until(&self) -> Option<Instant> {
        self.leads_until
    }

    /// The term that this one leads in, or led in last; counted from 1.
    pub(super) fn term(&self) -> u64 {
        self.terms
    }

    /// Who holds the Lease, for messages.
    pub(super) fn holder(&self) -> &str {
        self.record.as_ref().map_or("", Record::holder)
    }

    /// The object that gives the Lease up, if this one holds it.
    pub(super) fn release(&mut self, clock: Timestamp) -> Option<Value> {
        self.leads_until = None;
        let record = self.record.as_ref().filter(|_| self.holds_record())?;
        Some(record.released(clock))
    }

    fn holds_record(&self) -> bool {
        self.holder() == self.identity
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// An API server with one Lease, as far as elections need it.
    #[derive(Default)]
    struct Server {
        lease: Option<Value>,
        version: u64,
    }

    impl Server {
        fn read(&self) -> Option<Record> {
            self.lease.clone().map(|lease| Record::from_object(lease).expect("versioned"))
        }

        /// Takes a claim unless something was written since it was read.
        fn write(&mut self, claim: Claim) -> Option<Record> {
            let mut object = match (claim, &self.lease) {
                (Claim::Create(object), None) => object,
                (Claim::Replace(object), Some(now))
                    if object["metadata"]["resourceVersion"] == now["metadata"]["resourceVersion"] =>
                {
                    object
                }
                _ => return None,
            };
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.lease = Some(object);
            self.read()
        }
    }

    fn candidate(identity: &str) -> Election {
        Election::new("anchore".to_owned(), "agent".to_owned(), identity.to_owned(), Timing::USUAL)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// One attempt up to the server's answer. The clock in the record is wrong on purpose.
    fn claim(candidate: &mut Election, server: &mut Server, now: Instant) -> Option<Record> {
        candidate.expire(now);
        let clock = Timestamp::from_second(i64::try_from(server.version).expect("small")).expect("a time");
        if candidate.leads_until().is_some()
            && let Some(record) = candidate.claim(now, clock).and_then(|claim| server.write(claim))
        {
            return Some(record);
        }
        candidate.see(server.read(), now);
        candidate.claim(now, clock).and_then(|claim| server.write(claim))
    }

    /// One complete attempt at one moment.
    fn attempt(candidate: &mut Election, server: &mut Server, now: Instant) {
        if let Some(record) = claim(candidate, server, now) {
            candidate.won(record, now);
        }
    }

    #[test]
    fn the_first_candidate_leads_and_the_second_stands_by() {
        let (mut server, now) = (Server::default(), Instant::now());
        let (mut one, mut other) = (candidate("one"), candidate("other"));
        attempt(&mut one, &mut server, now);
        attempt(&mut other, &mut server, now);
        assert_eq!((one.leads_until(), one.term()), (Some(now + seconds(10)), 1));
        assert_eq!((other.leads_until(), other.holder()), (None, "one"));
    }

    #[test]
    fn a_dead_leader_is_replaced_when_its_record_has_not_changed_for_its_duration() {
        let (mut server, start) = (Server::default(), Instant::now());
        let (mut one, mut other) = (candidate("one"), candidate("other"));
        attempt(&mut one, &mut server, start);
        attempt(&mut other, &mut server, start + seconds(2));
        attempt(&mut other, &mut server, start + seconds(16));
        assert_eq!(other.leads_until(), None);
        assert_eq!(other.next_attempt(start + seconds(16), 0.0), start + seconds(17), "no later than needed");
        attempt(&mut other, &mut server, start + seconds(17));
        assert_eq!(other.leads_until(), Some(start + seconds(27)));
    }

    #[test]
    fn a_leader_that_renews_is_never_replaced() {
        let (mut server, start) = (Server::default(), Instant::now());
        let (mut one, mut other) = (candidate("one"), candidate("other"));
        for second in (0..200).step_by(2) {
            attempt(&mut one, &mut server, start + seconds(second));
            attempt(&mut other, &mut server, start + seconds(second + 1));
        }
        assert_eq!((one.term(), other.term()), (1, 0));
    }

    #[test]
    fn a_leader_that_was_paused_has_lost_before_another_can_have_won() {
        let (mut server, start) = (Server::default(), Instant::now());
        let (mut one, mut other) = (candidate("one"), candidate("other"));
        attempt(&mut one, &mut server, start);
        attempt(&mut other, &mut server, start);
        attempt(&mut other, &mut server, start + seconds(15));
        assert_eq!(other.term(), 1);
        one.expire(start + seconds(10));
        assert_eq!(one.leads_until(), None);
        attempt(&mut one, &mut server, start + seconds(16));
        assert_eq!((one.leads_until(), one.holder()), (None, "other"));
    }

    #[test]
    fn a_leader_that_sees_another_one_stops_at_once() {
        let (mut server, now) = (Server::default(), Instant::now());
        let mut one = candidate("one");
        attempt(&mut one, &mut server, now);
        let mut lease = server.lease.clone().expect("claimed");
        lease["spec"]["holderIdentity"] = json!("somebody");
        server.write(Claim::Replace(lease)).expect("written");
        attempt(&mut one, &mut server, now + seconds(2));
        assert_eq!(one.leads_until(), None);
    }

    #[test]
    fn a_released_lease_is_taken_at_once_and_the_term_is_a_new_one() {
        let (mut server, now) = (Server::default(), Instant::now());
        let (mut one, mut other) = (candidate("one"), candidate("other"));
        attempt(&mut one, &mut server, now);
        attempt(&mut other, &mut server, now);
        let release = one.release(Timestamp::UNIX_EPOCH).expect("held");
        assert_eq!(one.leads_until(), None);
        server.write(Claim::Replace(release)).expect("released");
        attempt(&mut other, &mut server, now);
        assert_eq!(other.term(), 1);
        assert_eq!(
            other.release(Timestamp::UNIX_EPOCH).map(|lease| lease["spec"]["leaseTransitions"].clone()),
            Some(json!(1))
        );
        assert_eq!(candidate("third").release(Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn a_leader_that_finds_its_own_record_again_begins_a_new_term() {
        let (mut server, start) = (Server::default(), Instant::now());
        let mut one = candidate("one");
        attempt(&mut one, &mut server, start);
        attempt(&mut one, &mut server, start + seconds(9));
        assert_eq!(one.term(), 1);
        attempt(&mut one, &mut server, start + seconds(19));
        assert_eq!((one.leads_until(), one.term()), (Some(start + seconds(29)), 2));
    }

    #[test]
    fn a_lease_that_is_deleted_under_its_holder_is_not_taken_before_its_time() {
        let (mut server, start) = (Server::default(), Instant::now());
        let (mut one, mut other) = (candidate("one"), candidate("other"));
        attempt(&mut one, &mut server, start);
        attempt(&mut other, &mut server, start);
        server.lease = None;
        attempt(&mut other, &mut server, start + seconds(14));
        assert_eq!(server.lease, None);
        attempt(&mut other, &mut server, start + seconds(15));
        assert_eq!(other.term(), 1);
    }

    #[test]
    fn a_claim_that_a_webhook_turns_into_anothers_is_not_won() {
        let now = Instant::now();
        let mut one = candidate("one");
        let record = Record::from_object(json!({
            "metadata": {"resourceVersion": "1"},
            "spec": {"holderIdentity": "webhook", "leaseDurationSeconds": 15},
        }));
        one.won(record.expect("complete"), now);
        assert_eq!((one.leads_until(), one.term()), (None, 0));
    }

    #[test]
    fn a_right_is_missing_when_it_was_missing_for_a_while() {
        let (mut one, start) = (candidate("one"), Instant::now());
        assert!(!one.forbidden(start));
        assert!(!one.forbidden(start + seconds(14)));
        one.allowed();
        assert!(!one.forbidden(start + seconds(16)));
        assert!(one.forbidden(start + seconds(31)));
    }

    #[test]
    fn attempts_are_two_seconds_apart_and_spread() {
        let (one, now) = (candidate("one"), Instant::now());
        assert_eq!(one.next_attempt(now, 0.0), now + seconds(2));
        assert_eq!(one.next_attempt(now, 1.0), now + Duration::from_millis(2400));
        assert_eq!(one.next_attempt(now, f64::from(7)), now + Duration::from_millis(2400));
    }

    proptest! {
        /// Whatever pauses, lost and late answers and orders of events: no two of three lead at the same moment.
        #[test]
        fn never_do_two_lead(events in prop::collection::vec((0_usize..3, 0_u64..6_000, 0_u8..6), 1..200)) {
            let (mut server, mut now) = (Server::default(), Instant::now());
            let mut candidates = [candidate("a"), candidate("b"), candidate("c")];
            let mut late = [None, None, None];
            for (who, wait, kind) in events {
                now += Duration::from_millis(wait);
                let one = &mut candidates[who];
                if let Some((record, sent)) = late[who].take() {
                    one.won(record, sent);
                }
                match kind {
                    0 => drop(claim(one, &mut server, now)),
                    1 => late[who] = claim(one, &mut server, now).map(|record| (record, now)),
                    2 => {
                        if let Some(release) = one.release(Timestamp::UNIX_EPOCH) {
                            server.write(Claim::Replace(release));
                        }
                    }
                    _ => attempt(one, &mut server, now),
                }
                let leaders = candidates.iter().filter(|one| one.leads_until().is_some_and(|until| now < until));
                prop_assert!(leaders.count() <= 1);
            }
        }
    }
}
