//! The places of a webhook's stream: what ingest sends live, and what is owed from the event log.
//!
//! Ingest sends a segment live if and only if its millisecond lies at or past the **floor** and in no **gap**. A gap is a
//! range of the event log that ingest leaves out; the last one may be open, which pauses the stream. What lies in a gap is
//! **owed** and is sent by replay, from the event log, once it is sealed.
//!
//! Gaps begin and end a seal ahead of the clock. A write that is confirmed within half a seal is therefore seen by every
//! ingest that handles an event past the boundary, since ingest reads the integration after it has appended the segment.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::log::position::Position;

pub mod chunk;
pub mod health;
pub mod schedule;

use crate::stream::health::Health;
use crate::stream::schedule::Schedule;
use crate::time::Millis;

/// The longest that one invocation of ingest can take, as in template.yaml. A gap is kept for this time and a seal past its
/// end: until then an ingest may still be at work on a segment that lies in it.
pub const INGEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How many gaps and how many owed ranges are remembered. One more is made one with the last, and what lay between the two
/// is sent again: twice, rather than an item that grows without end.
pub const MAX_RANGES: usize = 20;

/// The state of a webhook's stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Nothing before this instant is ever sent: `starts_at`, or a restart after more than 30 days.
    pub floor: Millis,
    /// The ranges that ingest leaves out, oldest first; only the last one may be open.
    pub gaps: Vec<Gap>,
    /// Whether the write that ended the last gap is not known to have been confirmed in time. Replay moves the end then.
    pub unconfirmed: bool,
    /// What replay still has to read and send, oldest first.
    pub owed: Vec<Owed>,
    /// The chunk whose tasks are not known to have been sent.
    pub unsent: Option<Ulid>,
    /// Whether replay has left because too much is outstanding, or to see the last of it: who settles a chunk wakes it.
    pub waits: bool,
    /// When replay has to look at this stream, and which of its tasks count.
    #[serde(rename = "duty")]
    pub schedule: Schedule,
    /// How the receiver has been answering.
    pub health: Health,
    /// Counts starts. The result of an attempt carries the one it was made for, and counts for no other: in between the
    /// receiver may have become another one.
    #[serde(default)]
    pub epoch: u64,
}

/// A range `[from, until)` of the event log that ingest does not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first instant of the gap.
    pub from: Millis,
    /// The first instant behind it; none while it is open.
    pub until: Option<Millis>,
}

/// A range of the event log that replay sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// Where the range began: repeats of an event are looked for from here on.
    pub start: Millis,
    /// The position from which replay goes on.
    pub from: Position,
    /// The end of the range, itself excluded; none while the gap is open.
    pub until: Option<Millis>,
}

impl Owed {
    fn new(start: Millis, until: Option<Millis>) -> Owed {
        Owed {
            start,
            from: Position::at(start.first_id()),
            until,
        }
    }

    fn is_empty(&self) -> bool {
        self.until
            .is_some_and(|until| self.from.segment >= until.first_id())
    }
}

impl Stream {
    /// A stream registered at `now`, which owes everything since `starts_at`.
    ///
    /// A permanent one begins with an open gap that replay ends (see [`Stream::resume`]); a temporary one is a single gap
    /// that stays open, owes up to `ends_at`, and is never live.
    pub fn registered(now: Millis, starts_at: Millis, ends_at: Option<Millis>) -> Stream {
        Stream {
            floor: starts_at,
            gaps: vec![Gap {
                from: starts_at,
                until: None,
            }],
            unconfirmed: false,
            owed: vec![Owed::new(starts_at, ends_at)],
            unsent: None,
            waits: false,
            schedule: Schedule::asked(now),
            health: Health::default(),
            epoch: 0,
        }
    }

    /// Starts again where it stood.
    pub fn start(&mut self, now: Millis) {
        self.epoch += 1;
        self.health.start(now);
    }

    /// Starts afresh at `now`, too late to catch up: nothing before is sent any more.
    pub fn restart(&mut self, now: Millis) {
        *self = Stream {
            unsent: self.unsent,
            schedule: self.schedule,
            epoch: self.epoch + 1,
            ..Stream::registered(now, now, None)
        };
    }

    /// Whether ingest sends an event of this millisecond at once.
    pub fn is_live(&self, published_at: Millis) -> bool {
        published_at >= self.floor
            && !self.gaps.iter().any(|gap| {
                gap.from <= published_at && gap.until.is_none_or(|until| published_at < until)
            })
    }

    /// Whether ingest sends nothing from some instant on.
    pub fn is_paused(&self) -> bool {
        self.gaps.last().is_some_and(|gap| gap.until.is_none())
    }

    /// Whether the receiver failed so often that nothing is sent but probes.
    pub fn is_interrupted(&self) -> bool {
        self.health.interruption.is_some()
    }

    /// Whether events wait to be sent from the event log, or parked ones to be looked for.
    pub fn is_catching_up(&self) -> bool {
        self.schedule.wake_at.is_some() || !self.owed.is_empty()
    }

    /// How much of the event log is owed, in time: of open ranges what lies before `now`.
    pub fn backlog(&self, now: Millis) -> Duration {
        let owed = self.owed.iter().map(|owed| {
            let until = owed.until.map_or(now, |until| until.min(now));
            until.since(Millis(owed.from.segment.timestamp_ms()))
        });
        owed.sum()
    }

    /// Opens a gap a seal from `now`, unless one is open.
    pub fn pause(&mut self, now: Millis, seal: Duration) {
        if self.is_paused() {
            return;
        }
        if self.unconfirmed || self.gaps.len() >= MAX_RANGES {
            return self.reopen();
        }
        // By a clock that is behind, the last gap may not have ended: what lies in it is owed once.
        let ended = self.gaps.last().and_then(|gap| gap.until);
        let from = ended.max(Some(now.after(seal))).unwrap_or_default();
        self.gaps.push(Gap { from, until: None });
        self.owe(from);
    }

    /// Opens the last gap again: its end may have come too late and nobody has found out, or there are too many.
    fn reopen(&mut self) {
        self.unconfirmed = false;
        let Some(gap) = self.gaps.last_mut() else {
            return;
        };
        let Some(ended) = gap.until.take() else {
            return;
        };
        match self
            .owed
            .last_mut()
            .filter(|owed| owed.until == Some(ended))
        {
            Some(owed) => owed.until = None,
            None => self.owe(ended),
        }
    }

    /// Owes everything from `from` on, as a range of its own or, when there are too many, as the rest of the last one.
    fn owe(&mut self, from: Millis) {
        let is_full = self.owed.len() >= MAX_RANGES;
        match self.owed.last_mut() {
            Some(last) if is_full => last.until = None,
            _ => self.owed.push(Owed::new(from, None)),
        }
    }

    /// Ends the open gap of a permanent stream, if there is one, a seal from `now`.
    ///
    /// The end stays unconfirmed until [`Stream::confirm`]: the writer has to check that its write was confirmed within half
    /// a seal of `now`, and otherwise to call [`Stream::resume_later`], since an ingest could have missed a late write.
    pub fn resume(&mut self, now: Millis, seal: Duration) {
        let Some(gap) = self.gaps.last_mut().filter(|gap| gap.until.is_none()) else {
            return;
        };
        let until = now.after(seal).max(gap.from);
        gap.until = Some(until);
        self.unconfirmed = true;
        if let Some(owed) = self.owed.last_mut().filter(|owed| owed.until.is_none()) {
            owed.until = Some(until);
        }
        // Stopped and started within a millisecond, or by clocks that differ, there is nothing to owe. The gap stays all the same:
        // where this write comes late, its end is moved.
        self.owed.retain(|owed| !owed.is_empty());
    }

    /// Takes note that the write that ended the last gap was confirmed in time.
    pub fn confirm(&mut self) {
        self.unconfirmed = false;
        self.gaps
            .retain(|gap| gap.until.is_none_or(|until| gap.from < until));
    }

    /// Moves the end of the last gap to a seal from `now`, after the write that had ended it was confirmed too late.
    ///
    /// What an ingest had sent live in between is sent again: twice, never lost.
    pub fn resume_later(&mut self, now: Millis, seal: Duration) {
        let Some(gap) = self.gaps.last_mut() else {
            return;
        };
        let Some(ended) = gap.until else { return };
        let until = now.after(seal).max(ended);
        gap.until = Some(until);
        match self
            .owed
            .last_mut()
            .filter(|owed| owed.until == Some(ended))
        {
            Some(owed) => owed.until = Some(until),
            None => self.owed.push(Owed::new(ended, Some(until))),
        }
        // By a clock that is behind, the end may not move at all.
        self.owed.retain(|owed| !owed.is_empty());
    }

    /// Forgets the gaps at which no ingest can be at work any more. One whose end is unconfirmed stays: that end may have to be
    /// moved.
    pub fn forget_old_gaps(&mut self, now: Millis, seal: Duration) {
        if self.unconfirmed {
            return;
        }
        self.gaps.retain(|gap| {
            gap.until
                .is_none_or(|until| until.after(INGEST_TIMEOUT + seal) > now)
        });
    }

    /// The range that replay can read now: from its position up to `horizon`, the end of what is sealed.
    pub fn readable(&self, horizon: Millis) -> Option<Readable> {
        let owed = self.owed.first()?;
        let until = owed
            .until
            .map_or(horizon, |until| until.min(horizon))
            .first_id();
        (owed.from.segment < until).then_some(Readable {
            start: owed.start,
            from: owed.from,
            until,
        })
    }

    /// Moves replay's position to `to`, and drops the first range when that was all of it.
    pub fn advance(&mut self, to: Position) {
        let Some(owed) = self.owed.first_mut() else {
            return;
        };
        owed.from = owed.from.max(to);
        if owed.is_empty() {
            self.owed.remove(0);
        }
    }
}

/// A part of the event log, sealed, that replay is to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readable {
    /// Where the owed range began.
    pub start: Millis,
    /// The first event to read.
    pub from: Position,
    /// The first place not to read.
    pub until: Ulid,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAL: Duration = Duration::from_millis(10);

    fn at(millis: u64) -> Millis {
        Millis(1_000_000 + millis)
    }

    #[test]
    fn a_new_stream_is_live_from_a_seal_after_its_gap_was_ended() {
        let mut stream = Stream::registered(at(0), at(0), None);
        assert!(stream.is_paused());
        assert!(!stream.is_live(at(50)));
        stream.resume(at(5), SEAL);
        assert!(!stream.is_live(at(14)));
        assert!(stream.is_live(at(15)));
        assert_eq!(
            stream.readable(at(100)),
            Some(Readable {
                start: at(0),
                from: Position::at(at(0).first_id()),
                until: at(15).first_id()
            })
        );
    }

    #[test]
    fn a_stop_is_live_until_a_seal_later_and_owes_the_rest() {
        let mut stream = Stream::registered(at(0), at(0), None);
        stream.resume(at(0), SEAL);
        stream.confirm();
        stream.advance(Position::at(at(10).first_id()));
        assert!(stream.owed.is_empty());
        stream.pause(at(100), SEAL);
        assert!(stream.is_live(at(109)));
        assert!(!stream.is_live(at(110)));
        stream.resume(at(200), SEAL);
        assert!(!stream.is_live(at(209)));
        assert!(stream.is_live(at(210)));
        assert_eq!(
            stream.owed,
            [Owed {
                start: at(110),
                from: Position::at(at(110).first_id()),
                until: Some(at(210))
            }]
        );
    }

    #[test]
    fn a_gap_whose_end_is_unconfirmed_is_remembered_until_it_has_been_moved() {
        let mut stream = Stream::registered(at(0), at(0), None);
        stream.resume(at(0), SEAL);
        let late = at(100).after(INGEST_TIMEOUT);
        stream.forget_old_gaps(late, SEAL);
        stream.resume_later(late, SEAL);
        assert!(!stream.is_live(late));
        let owed = stream.owed.iter().map(|owed| (owed.start, owed.until));
        let owed: Vec<_> = owed.collect();
        assert_eq!(owed, [(at(0), Some(late.after(SEAL)))]);
    }

    #[test]
    fn a_start_right_behind_a_stop_owes_what_was_left_out_until_it_was_confirmed() {
        let mut stream = Stream::registered(at(0), at(0), None);
        stream.resume(at(0), SEAL);
        stream.confirm();
        stream.advance(Position::at(at(10).first_id()));
        stream.pause(at(20), SEAL);
        stream.resume(at(20), SEAL);
        assert!(stream.is_live(at(30)) && stream.owed.is_empty());
        // The start was written at 80: until then the stop's gap was what ingest saw.
        stream.resume_later(at(80), SEAL);
        let owed = stream.owed.iter().map(|owed| (owed.start, owed.until));
        let owed: Vec<_> = owed.collect();
        assert_eq!(owed, [(at(30), Some(at(90)))]);
        assert!(!stream.is_live(at(80)) && stream.is_live(at(90)));
    }

    #[test]
    fn an_end_that_is_moved_by_a_clock_that_is_behind_owes_no_empty_range() {
        let mut stream = Stream::registered(at(0), at(0), None);
        stream.resume(at(5), SEAL);
        stream.advance(Position::at(at(15).first_id()));
        stream.resume_later(at(3), SEAL);
        assert_eq!(stream.owed, []);
        assert!(stream.is_live(at(15)));
    }

    #[test]
    fn a_stop_by_a_clock_that_is_behind_owes_nothing_twice() {
        let mut stream = Stream::registered(at(0), at(0), None);
        stream.resume(at(5), SEAL);
        stream.confirm();
        stream.pause(at(3), SEAL);
        let ranges = stream.owed.iter().map(|owed| (owed.start, owed.until));
        let ranges: Vec<_> = ranges.collect();
        assert_eq!(ranges, [(at(0), Some(at(15))), (at(15), None)]);
    }

    #[test]
    fn live_and_owed_cover_every_instant_whatever_stops_and_starts_come() {
        proptest::proptest!(|(steps in proptest::collection::vec((0u64..40, 0u8..5), 1..40))| {
            let mut stream = Stream::registered(at(0), at(0), None);
            let mut worked = Vec::new();
            let mut now = 0;
            for (pause, step) in steps {
                now += pause;
                match step {
                    0 => stream.pause(at(now), SEAL),
                    1 => stream.resume(at(now), SEAL),
                    2 => stream.resume_later(at(now), SEAL),
                    3 => stream.confirm(),
                    _ => if let Some(readable) = stream.readable(at(now.saturating_sub(10))) {
                        worked.push(readable);
                        stream.advance(Position::at(readable.until));
                    },
                }
                stream.forget_old_gaps(at(now), SEAL);
                // Past instants that are sealed: each is live, worked off or still owed.
                for instant in 0..now {
                    let place = at(instant).first_id();
                    let covered = stream.is_live(at(instant))
                        || worked.iter().any(|range| range.from.segment <= place && place < range.until)
                        || stream.owed.iter().any(|owed| owed.from.segment <= place && owed.until.is_none_or(|until| place < until.first_id()));
                    proptest::prop_assert!(covered, "{instant} at {now}: {stream:?}");
                }
            }
        });
    }

    #[test]
    fn a_late_confirmation_moves_the_end_even_when_the_range_was_worked_off() {
        let mut stream = Stream::registered(at(0), at(0), None);
        stream.resume(at(0), SEAL);
        stream.advance(Position::at(at(10).first_id()));
        stream.resume_later(at(30), SEAL);
        assert_eq!(
            stream.owed,
            [Owed {
                start: at(10),
                from: Position::at(at(10).first_id()),
                until: Some(at(40))
            }]
        );
        assert!(!stream.is_live(at(39)));
        assert!(stream.is_live(at(40)));
    }

    #[test]
    fn a_stop_before_the_end_of_a_gap_was_confirmed_opens_the_gap_again() {
        let mut stream = Stream::registered(at(0), at(0), None);
        stream.resume(at(0), SEAL);
        stream.pause(at(30), SEAL);
        assert!(!stream.is_live(at(20)));
        assert_eq!(
            stream.owed,
            [Owed {
                start: at(0),
                from: Position::at(at(0).first_id()),
                until: None
            }]
        );
        stream.resume(at(50), SEAL);
        stream.confirm();
        stream.pause(at(70), SEAL);
        assert!(stream.is_live(at(79)));
    }

    #[test]
    fn a_gap_of_no_length_leaves_nothing_behind() {
        let mut stream = Stream::registered(at(0), at(0), None);
        stream.resume(at(0), SEAL);
        stream.confirm();
        stream.advance(Position::at(at(10).first_id()));
        for started_at in [100, 95] {
            stream.pause(at(100), SEAL);
            stream.resume(at(started_at), SEAL);
            stream.confirm();
            assert!(stream.owed.is_empty(), "{stream:?}");
            assert!(!stream.is_paused());
            assert!(stream.is_live(at(110)));
        }
    }

    #[test]
    fn a_temporary_stream_is_never_live_and_owes_its_range() {
        let mut stream = Stream::registered(at(100), at(0), Some(at(50)));
        assert!(!stream.is_live(at(20)));
        assert!(!stream.is_live(at(200)));
        assert_eq!(
            stream.readable(at(90)),
            Some(Readable {
                start: at(0),
                from: Position::at(at(0).first_id()),
                until: at(50).first_id()
            })
        );
        stream.advance(Position::at(at(50).first_id()));
        assert_eq!(stream.readable(at(90)), None);
        assert!(stream.owed.is_empty());
    }

    #[test]
    fn gaps_are_remembered_while_an_ingest_may_be_at_work_on_them() {
        let mut stream = Stream::registered(at(0), at(0), None);
        stream.resume(at(0), SEAL);
        stream.confirm();
        let end = at(10);
        stream.forget_old_gaps(end.after(INGEST_TIMEOUT), SEAL);
        assert_eq!(stream.gaps.len(), 1);
        stream.forget_old_gaps(end.after(INGEST_TIMEOUT + SEAL), SEAL);
        assert!(stream.gaps.is_empty());
    }

    #[test]
    fn a_stream_that_is_stopped_and_started_without_end_does_not_grow_without_end() {
        let mut stream = Stream::registered(at(0), at(0), None);
        for round in 0..1_000 {
            stream.resume(at(round * 40), SEAL);
            stream.confirm();
            stream.pause(at(round * 40 + 20), SEAL);
            if round % 3 == 0 {
                stream.forget_old_gaps(at(round * 40).after(INGEST_TIMEOUT * 2), SEAL);
            }
        }
        assert!(stream.gaps.len() <= MAX_RANGES && stream.owed.len() <= MAX_RANGES);
        let first = stream.owed[0].from.segment;
        assert_eq!(first, at(0).first_id(), "what was owed first is owed still");
    }

    #[test]
    fn nothing_is_live_below_the_floor() {
        let mut stream = Stream::registered(at(100), at(100), None);
        stream.resume(at(100), SEAL);
        stream.confirm();
        stream.forget_old_gaps(at(100_000), SEAL);
        assert!(!stream.is_live(at(99)));
        assert!(stream.is_live(at(100)));
    }
}
