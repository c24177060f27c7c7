//! The schedule of a stream: when a step of replay is due, and which of its tasks count.
//!
//! Replay works on a stream in **steps**, and each step is a task. No state waits for a message: what is to be done is written
//! down (`wake_at`) before a task is sent, and the sweep sends what is overdue. A task carries the **turn** for which it was
//! sent; to begin and to leave each take the next turn, so that a repeated or an older task does nothing: chains of tasks
//! neither fork nor die. A caller that needs replay while a step is at work leaves a **nudge**, and the step comes back at once.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::lease::Lease;
use crate::time::Millis;

/// How long a task that was asked for may take to be received before another one is sent.
pub const GRACE: Duration = Duration::from_secs(20);

/// When replay has to look at a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// When the next step is due; while one is at work, when it is given up for lost. None when there is nothing to do.
    pub wake_at: Option<Millis>,
    /// Counts beginnings and ends of steps, and requests for one. A task that carries another turn is dropped.
    pub turn: u64,
    /// The lease of the step that is at work.
    pub lease: Option<Lease>,
    /// Whether a step was asked for while one was at work.
    pub nudged: bool,
}

/// What came of a request for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// One is on its way, or will come back: nothing changed.
    Already,
    /// The step at work will come back.
    Nudged,
    /// A task of the schedule's turn is to be sent.
    Send,
}

impl Schedule {
    /// The schedule of a new stream: a step is due at `now`.
    pub fn asked(now: Millis) -> Schedule {
        Schedule {
            wake_at: Some(now),
            ..Schedule::default()
        }
    }

    /// Whether a step is at work.
    pub fn is_busy(&self, now: Millis) -> bool {
        self.lease.is_some_and(|lease| lease.is_held(now))
    }

    /// Asks for a step that is due at `due`.
    pub fn ask(&mut self, due: Millis, now: Millis) -> Asked {
        if self.is_busy(now) {
            return match std::mem::replace(&mut self.nudged, true) {
                true => Asked::Already,
                false => Asked::Nudged,
            };
        }
        let due = due.max(now);
        let asked_for = self.wake_at.filter(|at| self.lease.is_none() && *at <= due);
        match asked_for {
            Some(wake_at) if now < wake_at.after(GRACE) => Asked::Already,
            // Its task waits in a long queue, or is lost. A new turn would make it stale just before its time comes, and the
            // next one as well; that there are two tasks of one turn does no harm.
            Some(_) => {
                self.wake_at = Some(now);
                Asked::Send
            }
            None => {
                self.next(Some(due));
                Asked::Send
            }
        }
    }

    /// Begins the step of `turn`; `false` when that turn is over.
    pub fn begin(&mut self, turn: u64, holder: Ulid, now: Millis, until: Millis) -> bool {
        if self.lease.is_some_and(|lease| lease.holder == holder) {
            return true;
        }
        if self.turn != turn || self.is_busy(now) {
            return false;
        }
        self.next(Some(until));
        self.lease = Some(Lease { holder, until });
        true
    }

    /// Ends a step; the next one is due at `at`, if at all.
    pub fn leave(&mut self, at: Option<Millis>) {
        self.next(at);
    }

    fn next(&mut self, wake_at: Option<Millis>) {
        *self = Schedule {
            wake_at,
            turn: self.turn + 1,
            lease: None,
            nudged: false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDER: Ulid = Ulid(7);

    #[test]
    fn a_turn_begins_once() {
        let mut schedule = Schedule::asked(Millis(0));
        assert!(!schedule.begin(1, HOLDER, Millis(0), Millis(100)));
        assert!(schedule.begin(0, HOLDER, Millis(0), Millis(100)));
        assert!(
            schedule.begin(0, HOLDER, Millis(0), Millis(100)),
            "its own write, reported as failed"
        );
        assert!(!schedule.begin(0, Ulid(8), Millis(0), Millis(100)));
        assert!(!schedule.begin(schedule.turn, Ulid(8), Millis(99), Millis(200)));
        assert!(
            schedule.begin(schedule.turn, Ulid(8), Millis(100), Millis(200)),
            "the first one is given up for lost"
        );
    }

    #[test]
    fn who_asks_while_a_step_is_at_work_nudges_it() {
        let mut schedule = Schedule::asked(Millis(0));
        schedule.begin(0, HOLDER, Millis(0), Millis(100));
        let turn = schedule.turn;
        assert_eq!(schedule.ask(Millis(50), Millis(50)), Asked::Nudged);
        assert_eq!(schedule.ask(Millis(60), Millis(60)), Asked::Already);
        assert_eq!(schedule.turn, turn, "the step at work continues");
        assert_eq!(schedule.ask(Millis(100), Millis(100)), Asked::Send);
        assert!(!schedule.nudged);
    }

    #[test]
    fn a_step_that_is_under_way_is_not_asked_for_again() {
        let mut schedule = Schedule::asked(Millis(0));
        assert_eq!(schedule.ask(Millis(1), Millis(1)), Asked::Already);
        let late = Millis(0).after(GRACE);
        assert_eq!(schedule.ask(late, late), Asked::Send);
        assert_eq!(schedule.ask(late, late), Asked::Already, "once in a while");
        assert_eq!(schedule.turn, 0, "the first task, if it comes, is as good");
        assert!(schedule.begin(0, HOLDER, late, late.after(GRACE)));
        let mut schedule = Schedule::default();
        schedule.leave(Some(Millis(60_000)));
        assert_eq!(
            schedule.ask(Millis(10), Millis(10)),
            Asked::Send,
            "earlier than planned"
        );
        assert_eq!(schedule.wake_at, Some(Millis(10)));
    }
}
