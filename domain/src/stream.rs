//! The state of a webhook's stream: what ingest sends live, and what is owed from the event log.
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

pub mod health;
pub mod pace;
pub mod schedule;
pub mod waiting;

use crate::stream::health::Health;
use crate::stream::pace::Pace;
use crate::stream::schedule::Schedule;
use crate::time::Millis;

/// The longest that one invocation of ingest can take, as in template.yaml. A gap is kept for this time and a seal past its
/// end: until then an ingest may still be at work on a segment that lies in it.
pub const INGEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How many gaps and how many owed ranges are remembered. One more is made one with the last, and what lay between the two
/// is sent again: twice, rather than an item that grows without end.
pub const MAX_RANGES: usize = 20;

/// For how long a stream that was refused or slow is served before it goes live again, at the least and at the most: twice as long
/// each time that it happens again within an hour.
const LIVE_HOLD: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(32 * 60));
/// How far behind a stream is that is always served and has caught up: two seals, and a minute between two looks.
const NO_BACKLOG: Duration = Duration::from_secs(120);
/// How long an earlier hold counts.
const LIVE_HOLD_COUNTS: Duration = Duration::from_secs(3600);

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
    /// When replay has to look at this stream, and which of its tasks count.
    pub schedule: Schedule,
    /// How the receiver has been responding.
    pub health: Health,
    /// Counts starts. The result of an attempt carries the one it was made for, and counts for no other: in between the
    /// receiver may have become another one.
    pub epoch: u64,
    /// Why a sender works the event log instead of ingest; none while the stream is live.
    pub served: Option<Served>,
    /// For how long it is served when it has been refused or slow.
    pub live_hold: Option<LiveHold>,
    /// What its receiver takes.
    pub pace: Pace,
    /// How many events waited for another attempt when a sender looked last.
    pub waiting: u32,
    /// When runs saw refusals in a row: those of the last two seconds, oldest first.
    pub strikes: Vec<Millis>,
    /// When delivery found the receiver slow: at the second time within half a minute the stream is served.
    pub slow_at: Option<Millis>,
    /// What was owed when it was started afresh, too late to catch up, and is never sent: the last of these ranges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<(Position, Option<Millis>)>,
}

/// Why a stream is served: one sender works through the event log and posts, at the receiver's own pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Since when.
    pub since: Millis,
    /// Why.
    pub because: Because,
}

/// Why a stream is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// It was registered or started.
    Start,
    /// The receiver asked for fewer requests, or did not answer.
    Refused,
    /// The receiver is slow.
    Slow,
    /// Nothing but failures has been seen for some seconds.
    Down,
    /// Too many events wait for another attempt.
    Full,
}

/// For how long a stream is served that was refused or slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveHold {
    /// For how long.
    pub length: Duration,
    /// When it was served.
    pub served_at: Millis,
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
    /// The position from which replay continues.
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
            schedule: Schedule::asked(now),
            health: Health::default(),
            epoch: 0,
            served: Some(Served {
                since: now,
                because: Because::Start,
            }),
            live_hold: None,
            pace: Pace::default(),
            waiting: 0,
            strikes: Vec::new(),
            slow_at: None,
            skipped: Vec::new(),
        }
    }

    /// Starts again where it was. The receiver may be another one now: what the old one took counts for nothing.
    pub fn start(&mut self, now: Millis) {
        self.epoch += 1;
        self.health.start(now);
        self.pace = Pace::default();
        self.served = Some(Served {
            since: now,
            because: Because::Start,
        });
    }

    /// Has a sender serve the stream, from a seal from `now` on. `false` when one does already.
    pub fn serve(&mut self, because: Because, now: Millis, seal: Duration) -> bool {
        if self.served().is_some() {
            return false;
        }
        self.served = Some(Served {
            since: now,
            because,
        });
        self.strikes.clear();
        if matches!(because, Because::Refused | Because::Slow) {
            let again = self
                .live_hold
                .filter(|hold| now.since(hold.served_at) < LIVE_HOLD_COUNTS);
            let length = again.map_or(LIVE_HOLD.0, |hold| (hold.length * 2).min(LIVE_HOLD.1));
            self.live_hold = Some(LiveHold {
                length,
                served_at: now,
            });
        }
        self.pause(now, seal);
        true
    }

    /// Why the stream is served, if it is: a gap is open.
    pub fn served(&self) -> Option<Served> {
        self.served.filter(|_| self.is_paused())
    }

    /// When a stream may go live again that is served because it was refused or slow.
    pub fn live_again_at(&self) -> Option<Millis> {
        let served = self.served()?;
        let hold = self.live_hold?;
        matches!(served.because, Because::Refused | Because::Slow)
            .then(|| served.since.after(hold.length))
    }

    /// Starts afresh at `now`, too late to catch up: nothing before is sent any more.
    pub fn restart(&mut self, now: Millis) {
        let owed = self.owed.iter();
        let owed = owed.map(|it| (it.from, it.until.or(Some(now))));
        let mut skipped: Vec<_> = self.skipped.iter().copied().chain(owed).collect();
        skipped.drain(..skipped.len().saturating_sub(MAX_RANGES));
        *self = Stream {
            skipped,
            schedule: self.schedule,
            waiting: self.waiting,
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

    /// Whether events wait to be sent that were published before. A stream that is always served, since requests at a time
    /// `is_limited`, owes what is just published, too: that is no backlog.
    pub fn is_catching_up(&self, now: Millis, is_limited: bool) -> bool {
        let is_behind = |owed: &Owed| {
            let position = Millis(owed.from.segment.timestamp_ms());
            owed.until.is_some() || now.since(position) > NO_BACKLOG
        };
        let is_owed = match is_limited {
            true => self.owed.iter().any(is_behind),
            false => !self.owed.is_empty() || self.schedule.wake_at.is_some(),
        };
        is_owed || self.waiting > 0 || self.health.is_retrying(now)
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

    /// Opens the last gap again: its end may have come too late without being noticed, or there are too many.
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
        self.served = None;
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
    /// The first id not to read.
    pub until: Ulid,
}

#[cfg(test)]
mod tests;
