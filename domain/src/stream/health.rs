//! How a receiver has been responding: failures in a row, and the interruption of a stream whose receiver is down.
//!
//! Only failures are counted, and only so many of them: while a stream is interrupted nothing is sent but probes, before that
//! at most [`FAILURES`] attempts in a row are counted at once, and between successes at most one a second (`PACE`). So a storm
//! of failures costs an integration a handful of writes, however many attempts it takes part in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::log::position::EventRef;
use crate::time::Millis;

/// How many attempts in a row have to fail, over at least two events, before a stream is interrupted.
pub const FAILURES: u32 = 5;
/// How often failures are written down once there is nothing more to count, and how long after a success none is.
const PACE: Duration = Duration::from_secs(1);
/// How often a success is written down while there is no failure to clear.
const SUCCESS_EVERY: Duration = Duration::from_secs(60);
/// For how long nothing but failures, of several events, has to be seen before a stream is interrupted. A success that began
/// meanwhile has cleared them by then: failures among successes are no outage.
const OUTAGE: Duration = Duration::from_secs(3);
/// How often a receiver has to have come back before the time of interruptions is an event's own.
const PROOFS: usize = 3;
/// How much later than the next attempt an event counts as being retried: one write covers the retries of as long a time.
const RETRY_SLACK: Duration = Duration::from_secs(10);

/// How a receiver has been responding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Attempts that failed in a row, as far as they were counted.
    pub failures: u32,
    /// The id of the event that failed first of them.
    pub first_failed: Option<String>,
    /// When the second event failed first.
    pub several_since: Option<Millis>,
    /// When the first attempt since the last success failed.
    pub failing_since: Option<Millis>,
    /// When an attempt failed last, as far as that was written down.
    pub last_failure_at: Option<Millis>,
    /// When an attempt is made next, as far as that is known.
    pub next_attempt_at: Option<Millis>,
    /// When an attempt succeeded last, to the minute.
    pub last_success_at: Option<Millis>,
    /// The interruption, while the receiver is considered down.
    pub interruption: Option<Interruption>,
    /// When the integration was last started, or its last interruption ended.
    pub resumed_at: Option<Millis>,
    /// When the integration was last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Millis>,
    /// When its last interruptions ended, oldest first: at most [`PROOFS`], each a fiftieth of the give-up time behind the one
    /// before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumptions: Vec<Millis>,
    /// Until when an event may be in retry, waiting in the queue for its next attempt. A success does not clear it: the event
    /// that was taken is not the one that waits.
    pub retrying_until: Option<Millis>,
}

/// A stream whose receiver is considered down: only probes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interruption {
    /// When it began; its name in the tasks of its probes.
    pub since: Millis,
    /// How many probes have been sent.
    pub probes: u32,
    /// The waiting event that was probed with last: the next such probe takes one behind it.
    pub cursor: Option<EventRef>,
    /// When the next probe is due.
    pub next_probe_at: Millis,
    /// Whether the last failure was a refusal. Where it was none it may be the events' own: one that was never tried probes first, a
    /// minute after the last probe at most.
    pub is_refused: bool,
}

impl Health {
    /// Whether a failed attempt at `now`, of an event that is sent again at `next_attempt_at`, has to be written down.
    pub fn notes_failure(&self, now: Millis, next_attempt_at: Millis) -> bool {
        if self
            .retrying_until
            .is_none_or(|until| until < next_attempt_at)
        {
            return true;
        }
        let is_paced = |at: Option<Millis>| at.is_some_and(|at| now.since(at) < PACE);
        if self.failing_since.is_none() && is_paced(self.last_success_at) {
            return false;
        }
        self.failures < FAILURES || !is_paced(self.last_failure_at)
    }

    /// Counts a failed attempt of an event.
    pub fn fail(&mut self, now: Millis, event_id: &str, next_attempt_at: Millis) {
        self.failures = self.failures.saturating_add(1);
        let first = self.first_failed.get_or_insert_with(|| event_id.to_owned());
        if first != event_id {
            self.several_since.get_or_insert(now);
        }
        self.failing_since.get_or_insert(now);
        self.last_failure_at = Some(now);
        self.next_attempt_at = Some(next_attempt_at);
        self.retry(next_attempt_at);
    }

    /// Counts a failed attempt that need not be written down.
    pub fn count(&mut self, now: Millis, event: &str) {
        let next = self.next_attempt_at.unwrap_or(now);
        self.fail(now, event, next);
    }

    /// Takes note that an event waits until then.
    pub fn retry(&mut self, next_attempt_at: Millis) {
        let until = next_attempt_at.after(RETRY_SLACK);
        self.retrying_until = self.retrying_until.max(Some(until));
    }

    /// Whether the receiver is to be considered down: several failures in a row, over several events and several seconds.
    pub fn is_down(&self, now: Millis) -> bool {
        let is_long = |since| now.since(since) >= OUTAGE;
        self.failures >= FAILURES && self.several_since.is_some_and(is_long)
    }

    /// Whether an event may be waiting in the queue for its next attempt.
    pub fn is_retrying(&self, now: Millis) -> bool {
        self.retrying_until.is_some_and(|until| now < until)
    }

    /// Whether all attempts have failed for `give_up`.
    pub fn is_hopeless(&self, now: Millis, give_up: Duration) -> bool {
        self.failing_since
            .is_some_and(|since| now.since(since) >= give_up)
    }

    /// Whether it is the event that a receiver does not take: it has failed for `give_up`, and another one was taken since.
    ///
    /// Time before the last start is not the event's. Nor is time before the end of an interruption: the receiver was down. But
    /// where an interruption ends again and again and the event fails all the same, it is the events that wait which interrupt the
    /// stream; were their time to begin again with each of them, it would never end.
    pub fn is_of_event(&self, failing_since: Millis, now: Millis, give_up: Duration) -> bool {
        let began = self.started_at.max(Some(failing_since));
        let is_proven =
            self.resumptions.len() == PROOFS && began <= self.resumptions.first().copied();
        let since = match is_proven {
            true => began,
            false => began.max(self.resumed_at),
        };
        self.last_success_at > began && since.is_some_and(|since| now.since(since) >= give_up)
    }

    /// Whether a successful attempt at `now` has to be written down: there are failures to clear, or the last one that was is
    /// a minute old.
    pub fn notes_success(&self, now: Millis) -> bool {
        self.failing_since.is_some()
            || self
                .last_success_at
                .is_none_or(|at| now.since(at) >= SUCCESS_EVERY)
    }

    /// Clears what failed before.
    pub fn succeed(&mut self, now: Millis) {
        *self = Health {
            last_success_at: Some(now),
            resumed_at: self.resumed_at,
            started_at: self.started_at,
            resumptions: std::mem::take(&mut self.resumptions),
            retrying_until: self.retrying_until,
            ..Health::default()
        };
    }

    /// As [`Health::succeed`], but an interruption stays: it is ended by [`Health::resume`].
    pub fn succeed_of(&mut self, now: Millis) {
        let interruption = self.interruption;
        self.succeed(now);
        self.interruption = interruption;
    }

    /// Takes note that events are sent again after an interruption.
    pub fn resume(&mut self, now: Millis, give_up: Duration) {
        let last = self.resumptions.last();
        if last.is_none_or(|last| now.since(*last) >= give_up / 50) {
            self.resumptions.push(now);
            let too_many = self.resumptions.len().saturating_sub(PROOFS);
            self.resumptions.drain(..too_many);
        }
        self.interruption = None;
        self.failures = 0;
        self.first_failed = None;
        self.several_since = None;
        self.next_attempt_at = None;
        self.resumed_at = Some(now);
    }

    /// Takes the integration's stop: nothing is attempted any more. Since when it failed stays to be read.
    pub fn stop(&mut self) {
        self.interruption = None;
        self.next_attempt_at = None;
    }

    /// Takes the integration's start at `now`: what failed before does not count.
    pub fn start(&mut self, now: Millis) {
        *self = Health {
            last_success_at: self.last_success_at,
            resumed_at: Some(now),
            started_at: Some(now),
            retrying_until: self.retrying_until,
            ..Health::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Millis {
        Millis(1_000_000_000).after(Duration::from_secs(seconds))
    }

    #[test]
    fn five_failures_of_two_events_are_an_outage_and_of_one_event_are_not() {
        let mut health = Health::default();
        for n in 0..20 {
            health.fail(at(n), "a", at(n + 5));
        }
        assert!(!health.is_down(at(20)));
        health.fail(at(20), "b", at(25));
        assert!(!health.is_down(at(20)), "the other one may be taken");
        health.fail(at(23), "a", at(28));
        assert!(health.is_down(at(23)));
        health.succeed(at(21));
        for n in 22..26 {
            health.fail(at(n), &n.to_string(), at(n + 5));
            assert!(!health.is_down(at(n)));
        }
        health.fail(at(26), "e", at(31));
        assert!(health.is_down(at(26)));
    }

    #[test]
    fn failures_of_less_than_three_seconds_are_no_outage() {
        let mut health = Health::default();
        for n in 0..50 {
            let now = at(0).after(Duration::from_millis(n * 50));
            health.fail(now, &n.to_string(), now);
            assert!(!health.is_down(now), "{n}");
        }
        health.fail(at(4), "later", at(9));
        assert!(health.is_down(at(4)));
    }

    #[test]
    fn an_event_counts_as_retried_until_its_next_attempt_whatever_else_is_taken() {
        let mut health = Health::default();
        assert!(!health.is_retrying(at(0)));
        assert!(health.notes_failure(at(0), at(900)));
        health.fail(at(0), "a", at(900));
        health.succeed(at(1));
        assert!(health.is_retrying(at(900)));
        // Right behind a success, but of an event that waits for longer than any that was written down.
        assert!(!health.notes_failure(at(1), at(6)));
        assert!(health.notes_failure(at(1), at(911)));
        health.start(at(2));
        assert!(health.is_retrying(at(900)) && !health.is_retrying(at(910)));
    }

    #[test]
    fn a_storm_of_failures_is_written_down_a_handful_of_times() {
        let mut health = Health::default();
        let mut written = 0;
        for n in 0..10_000 {
            let now = at(0).after(Duration::from_micros(n * 300));
            if health.notes_failure(now, now) {
                health.fail(now, "a", now);
                written += 1;
            }
        }
        // Five at once, then one a second for three seconds.
        assert!((FAILURES..=FAILURES + 3).contains(&written), "{written}");
    }

    #[test]
    fn a_receiver_that_fails_every_second_event_costs_two_writes_a_second() {
        let mut health = Health::default();
        let mut written = 0;
        for n in 0..10_000_u64 {
            let now = at(0).after(Duration::from_millis(n));
            if n % 2 == 0 && health.notes_failure(now, now) {
                health.fail(now, &n.to_string(), now);
                written += 1;
            } else if n % 2 == 1 && health.notes_success(now) {
                health.succeed(now);
                written += 1;
            }
        }
        assert!(written <= 22, "{written} in ten seconds");
    }

    #[test]
    fn events_that_interrupt_a_stream_again_and_again_are_given_up() {
        let hours = |n: u64| at(0).after(Duration::from_secs(n * 3600));
        let give_up = Duration::from_secs(100 * 3600);
        let mut health = Health::default();
        health.start(at(0));
        let resume = |health: &mut Health, n| {
            health.succeed(hours(n));
            health.resume(hours(n), give_up);
        };
        for n in [1, 10, 11] {
            resume(&mut health, n);
        }
        // It came back twice: what came after an hour counts as the same.
        assert!(!health.is_of_event(at(0), hours(110), give_up));
        assert!(health.is_of_event(at(0), hours(111), give_up));
        resume(&mut health, 90);
        assert!(!health.is_of_event(at(0), hours(99), give_up));
        assert!(health.is_of_event(at(0), hours(100), give_up));
        // It has come back twice since this one began to fail.
        assert!(!health.is_of_event(hours(2), hours(110), give_up));
        // Before a start nothing counts.
        health.start(hours(120));
        assert!(!health.is_of_event(at(0), hours(219), give_up));
        assert!(
            !health.is_of_event(at(0), hours(220), give_up),
            "nothing was taken"
        );
        health.succeed(hours(130));
        assert!(health.is_of_event(at(0), hours(220), give_up));
    }

    #[test]
    fn giving_up_counts_from_the_first_failure_since_a_success() {
        let day = Duration::from_secs(24 * 3600);
        let mut health = Health::default();
        assert!(!health.is_hopeless(at(0), day * 5), "nothing has failed");
        health.fail(at(0), "a", at(5));
        assert!(!health.is_hopeless(at(0).after(day * 4), day * 5));
        assert!(health.is_hopeless(at(0).after(day * 5), day * 5));
        health.succeed(at(10));
        assert!(!health.is_hopeless(at(0).after(day * 50), day * 5));
    }
}
