//! What was done to the agent, and when: that alone excuses what it does not report.

use jiff::{SignedDuration, Timestamp};

/// How long news may take from the API server into the agent's memory while nothing is in the way.
pub(crate) const LAG: SignedDuration = SignedDuration::from_millis(1500);

/// All that was done.
#[derive(Debug, Default)]
pub(crate) struct Chronicle {
    pub(crate) windows: Vec<Window>,
    pub(crate) downtimes: Vec<Downtime>,
    /// Reports that were answered by 400.
    pub(crate) rejections: usize,
}

/// A time in which the agent did not hear of changes as they happened.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pub(crate) from: Timestamp,
    /// From here on all is watched again.
    pub(crate) until: Timestamp,
    pub(crate) effect: Effect,
    pub(crate) what: String,
}

/// What such a time excuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// News came late, and all of them.
    Delays,
    /// What both began and ended in it was not to be known.
    Blinds,
}

/// The agent was killed, and started again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Downtime {
    pub(crate) killed: Timestamp,
    /// From here on the new process watches everything.
    pub(crate) until: Timestamp,
}

/// A time, both ends included, in which all that began and ended may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

impl Chronicle {
    pub(crate) fn window(&mut self, from: Timestamp, effect: Effect, what: impl Into<String>) {
        self.windows.push(Window { from, until: Timestamp::now(), effect, what: what.into() });
    }

    /// When the agent, if it runs, has heard of what happened at `at`, at the latest.
    pub(crate) fn heard_by(&self, at: Timestamp) -> Timestamp {
        let mut heard = at + LAG;
        // News that are on their way when a window begins are caught in it.
        while let Some(window) = self.windows.iter().find(|window| window.from <= heard && heard < window.until + LAG) {
            heard = window.until + LAG;
        }
        heard
    }

    /// Whether something that happened at `at` may never be heard of.
    pub(crate) fn is_blind(&self, at: Timestamp) -> bool {
        let blind = self.windows.iter().filter(|window| window.effect == Effect::Blinds);
        let times = blind.map(|window| (window.from, window.until));
        let downtimes = self.downtimes.iter().map(|downtime| (downtime.killed, downtime.until));
        times.chain(downtimes).any(|(from, until)| from - LAG <= at && at <= until + LAG)
    }

    /// The gaps of an account, of whose reports these are the times, in order.
    pub(crate) fn gaps(&self, reports: &[Timestamp]) -> Vec<Gap> {
        let blind = self.windows.iter().filter(|window| window.effect == Effect::Blinds);
        let blind = blind.map(|window| Gap { from: window.from - LAG, until: window.until });
        let down = self.downtimes.iter().map(|downtime| {
            // What the last report of the killed process could not hold was in its memory alone.
            let last = reports.iter().rev().find(|report| **report <= downtime.killed);
            Gap { from: last.map_or(Timestamp::MIN, |last| self.unheard_from(*last)), until: downtime.until }
        });
        let mut gaps: Vec<Gap> = blind.chain(down).collect();
        gaps.sort_by_key(|gap| gap.from);
        gaps.dedup_by(|next, gap| {
            let touches = next.from <= gap.until;
            if touches {
                gap.until = gap.until.max(next.until);
            }
            touches
        });
        gaps
    }

    /// What happened after this may not have been heard of at `at`.
    fn unheard_from(&self, at: Timestamp) -> Timestamp {
        let mut from = at - LAG;
        while let Some(window) =
            self.windows.iter().find(|window| window.from - LAG < from && from < window.until + LAG)
        {
            from = window.from - LAG;
        }
        from
    }

    /// What was done between these times.
    pub(crate) fn told(&self, from: Timestamp, until: Timestamp) -> String {
        let mut lines: Vec<(Timestamp, String)> = Vec::new();
        let near = |start: Timestamp, end: Timestamp| start <= until + LAG && from - LAG <= end;
        for window in self.windows.iter().filter(|window| near(window.from, window.until)) {
            lines.push((window.from, format!("until {:.3}: {} ({:?})", window.until, window.what, window.effect)));
        }
        for downtime in self.downtimes.iter().filter(|downtime| near(downtime.killed, downtime.until)) {
            lines.push((downtime.killed, format!("killed, watches again from {:.3}", downtime.until)));
        }
        lines.sort();
        lines.iter().fold(String::new(), |text, (at, line)| text + &format!("\n      {at:.3} {line}"))
    }
}
