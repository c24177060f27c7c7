//! What the responses to a run show of its receiver: whether a refusal is a hiccup, and whether several are more than that.

use super::{Attempt, Posting, Repeat, WIDEST};
use crate::lifecycle::Ran;
use crate::receiver::outcome::Failure;
use crate::sending::Now;

/// A pause that a receiver asks for is waited for in the run if it is no longer: milliseconds. A longer one is an explicit wish, which
/// no hiccup sends.
const SHORT_WISH: u64 = 1_000;
/// How long nothing begins after the first refusal in a row, and after each further one: milliseconds.
const PAUSES: (u64, u64) = (100, 300);
/// After how long an event is posted again that was refused, at least, and at most as much later: milliseconds. And how often.
const REPEAT: (u64, u64) = (250, 250);
const REPEATS: u8 = 2;
/// How many refusals in a row, over two events, take a stream out of live delivery.
const ROW: u8 = 3;
/// How long after a strike none is said again: milliseconds.
const STRIKE_EVERY: u64 = 2_000;
impl Posting {
    /// An event waits for another attempt.
    pub(super) fn fail(&mut self, number: usize, failure: Failure, reason: String, now: Now) {
        self.failed.push((number, failure, reason));
        self.counted.push(number);
        self.counted_since.get_or_insert(now.wall);
    }

    /// The receiver takes no more requests now, or does not answer. That may be a hiccup: the event is posted again in this run. Where
    /// it is none, that shows within three attempts.
    pub(super) fn refused(&mut self, attempt: Attempt, failure: Failure, reason: String, now: Now) {
        let number = attempt.number;
        let asked = failure.retry_after.map(|it| it.as_millis() as u64);
        if asked > Some(SHORT_WISH) {
            self.is_refused = true;
            self.is_halted = true;
            self.hold = self.hold.max(failure.retry_after);
            return self.fail(number, failure, reason, now);
        }
        let began = attempt.began.unwrap_or(now.tick);
        if self.row_at.is_none_or(|at| began >= at) {
            self.row = self.row.saturating_add(1);
            self.row_events.insert(number);
            self.row_at = Some(now.tick);
        }
        (self.width, self.taken) = (1, 0);
        let pause = if self.row <= 1 { PAUSES.0 } else { PAUSES.1 };
        let until = now.tick + pause.max(asked.unwrap_or_default());
        self.pause_until = self.pause_until.max(until);
        let repeated = self.repeated.entry(number).or_default();
        if *repeated < REPEATS && !self.is_halted {
            *repeated += 1;
            let due = now.tick + REPEAT.0 + (self.jitter * REPEAT.1 as f64) as u64;
            self.repeats.push_back(Repeat {
                due,
                number,
                failure,
                reason,
            });
        } else {
            self.fail(number, failure, reason, now);
        }
        let is_over_two = self.row_events.len() >= 2;
        if self.row >= ROW && is_over_two {
            self.is_refused = true;
            self.is_halted = true;
        } else if self.row == 2 && is_over_two || self.row == ROW && self.events.len() == 1 {
            self.strike(now.tick);
        }
    }

    /// Says at once that refusals came in a row: three runs that do within two seconds are no hiccup.
    fn strike(&mut self, now: u64) {
        if self.struck_at.is_some_and(|at| now < at + STRIKE_EVERY) {
            return;
        }
        self.struck_at = Some(now);
        self.say(Ran {
            is_strike: true,
            ..Ran::default()
        });
    }

    pub(super) fn taken(&mut self, attempt: Attempt) {
        self.is_taken = true;
        self.failures = 0;
        self.taken_began = self.taken_began.max(attempt.began);
        if self.row_at.is_none_or(|at| attempt.began > Some(at)) {
            self.row = 0;
            self.row_events.clear();
        }
        self.counted.clear();
        self.counted_since = None;
        self.taken += 1;
        if self.taken >= self.width {
            self.width = (self.width * 2).min(WIDEST);
            self.taken = 0;
        }
        // Others count failures at the same time: this clears them.
        if self.is_failing && !std::mem::replace(&mut self.has_said_taken, true) {
            self.say(Ran {
                is_taken: true,
                ..Ran::default()
            });
        }
    }
}
