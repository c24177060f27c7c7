//! What a sender posts next, and what it makes of what came of it.

use std::time::Duration;

use ulid::Ulid;

use super::held::Tried;
use super::machine::Sender;
use super::under_way::Sending;
use crate::backoff;
use crate::lifecycle::RanFailed;
use crate::log::position::{EventRef, Position};
use crate::receiver::outcome::{Failure, Outcome};
use crate::sending::{Do, Now, Posted};
use crate::stream::Because;
use crate::stream::health::{FAILURES, Interruption};
use crate::stream::pace::Verdict;
use crate::time::Millis;

/// After how many attempts an event may be given up.
const PROVEN: u32 = 10;
/// How many refusals in a row, over two events, take a stream out of live delivery; and the longest pause that is no wish.
const ROW: u32 = 3;
const SHORT_WISH: Duration = Duration::from_secs(1);
/// How long nothing begins where there was no socket: milliseconds.
const NO_SOCKET: u64 = 1_000;
/// Why an event is given up though it may be taken some day.
pub const FULL: &str = "too many events wait for another attempt";

impl Sender {
    /// Takes note of what came of an attempt.
    pub(super) fn posted(
        &mut self,
        (id, took): (u64, u64),
        posted: Posted,
        is_failing: bool,
        jitter: f64,
        now: Now,
    ) {
        let Some(sending) = self.under_way.remove(id) else {
            return;
        };
        if sending.tried.is_tired() {
            self.under_way.tired_for += now.tick - sending.began;
        }
        let verdict = match &posted {
            Posted::Made(Outcome::Delivered | Outcome::Rejected(_), _) => Verdict::Taken,
            Posted::Made(Outcome::Failed(failure), _) if failure.is_refusal => {
                Verdict::Refused(failure.retry_after)
            }
            Posted::Made(..) => Verdict::Failed,
            Posted::Unwanted | Posted::Over | Posted::Unmade => Verdict::Void,
        };
        self.pacer.end(id, verdict, took, now.tick);
        if matches!(posted, Posted::Made(..)) {
            self.has_moved = true;
            self.saving.changed();
        }
        match posted {
            Posted::Over => {
                let Sending { event, tried, .. } = sending;
                if !tried.is_open {
                    self.held.wait(event, tried, Ulid(0));
                }
                self.end();
            }
            Posted::Unmade => self.unmade(sending, now),
            Posted::Unwanted => {
                self.saving.changed();
                self.finish(sending.event, sending.tried);
            }
            Posted::Made(Outcome::Delivered, _) => {
                self.taken(&sending, is_failing, now);
                self.finish(sending.event, sending.tried);
            }
            Posted::Made(Outcome::Rejected(answer), reason) => {
                self.taken(&sending, is_failing, now);
                self.reject(id, sending, reason, answer);
            }
            Posted::Made(Outcome::Gone, reason) => {
                let mut tried = sending.tried;
                (tried.attempt, tried.failing_since) = (1, None);
                (tried.due_at, tried.is_stored) = (now.wall, false);
                self.held.wait(sending.event, tried, Ulid(0));
                self.saving.is_gone(reason);
                self.end();
            }
            Posted::Made(Outcome::Failed(failure), reason) => {
                self.failed(id, sending, &failure, reason, jitter, now);
            }
        }
    }

    /// There was no socket: the event is sent a moment later, as though nothing had been. So is all else, since what is under way has
    /// to give sockets back first.
    fn unmade(&mut self, sending: Sending, now: Now) {
        self.rests_until = self.rests_until.max(now.tick + NO_SOCKET);
        let Sending {
            event, mut tried, ..
        } = sending;
        let is_working = self.is_working();
        let is_as_read = tried.failing_since.is_none() && tried.keys.is_empty();
        if tried.is_open && is_working && is_as_read {
            let at = self.ahead.partition_point(|other| *other < event);
            self.ahead.insert(at, event);
        } else if is_working || !tried.is_open {
            // An item that says an earlier time is as good.
            tried.due_at = now.wall.after(Duration::from_millis(NO_SOCKET));
            self.held.wait(event, tried, Ulid(0));
        }
    }

    /// No request was made, for a reason of ours.
    pub(super) fn not_posted(&mut self, id: u64, now: Now) {
        if let Some(sending) = self.under_way.remove(id) {
            self.pacer.end(id, Verdict::Void, 0, now.tick);
            // One of the owed range stays open: the next step reads it again.
            if !sending.tried.is_open {
                self.held.wait(sending.event, sending.tried, Ulid(0));
            }
        }
        self.give_in();
    }

    /// An event that is to be given up is not among the rejected ones: it waits, and comes to this again.
    pub(super) fn not_rejected(&mut self, id: u64, now: Now) {
        let Some(mut sending) = self.under_way.remove(id) else {
            return;
        };
        sending.tried.due_at = now.wall.after(backoff::pause(1, None, 0.0));
        sending.tried.is_stored = false;
        self.held.wait(sending.event, sending.tried, Ulid(0));
        self.saving.changed();
    }

    /// The receiver has taken an event, or refused it for good.
    fn taken(&mut self, sending: &Sending, is_failing: bool, now: Now) {
        let before = self.taken_wall.max(self.health.last_success_at);
        self.taken_wall = Some(now.wall);
        self.row.end();
        self.saving.taken_at(sending.began, now.tick);
        if std::mem::take(&mut self.is_troubled) {
            // What failed because of the receiver has nothing to wait for.
            self.held.hasten(before.unwrap_or_default(), now.wall);
        }
        if !self.is_judge {
            self.ran.is_taken = true;
            if let Some(failed) = &mut self.ran.failed {
                failed.events.clear();
            }
            // Delivery counts failures at the same time: this clears them.
            if is_failing {
                self.saving.request();
            }
            return;
        }
        if self.health.notes_success(now.wall) {
            self.health.succeed_of(now.wall);
        }
        if self.is_probing() {
            self.health.succeed_of(now.wall);
            self.resumed(now, true);
        }
    }

    /// The stream is not interrupted any more.
    pub(super) fn resumed(&mut self, now: Now, is_taken: bool) {
        if is_taken {
            self.health.last_success_at = Some(now.wall);
        }
        self.health.resume(now.wall, self.rules.give_up);
        self.pacer.resume(now.tick);
        self.saving.request();
    }

    /// An attempt has failed: the event waits for the next one, or is given up.
    fn failed(
        &mut self,
        id: u64,
        sending: Sending,
        failure: &Failure,
        reason: String,
        jitter: f64,
        now: Now,
    ) {
        let Sending {
            event,
            tried,
            began,
            is_probe,
        } = &sending;
        let pause = backoff::pause(tried.attempt, failure.retry_after, jitter);
        let failing_since = tried.failing_since.unwrap_or(now.wall);
        let due_at = now.wall.after(pause);
        // An event that has failed before the last one was taken may never be taken: it shows nothing. What was taken before the last
        // start was taken by another receiver, perhaps.
        let taken_at = self.taken_wall.max(self.health.last_success_at);
        let since = Some(failing_since).max(self.health.started_at);
        let counts = taken_at <= since;
        if failure.is_refusal {
            self.was_refused = true;
            self.row.refuse(*event, *began, now.tick);
            if self.row.count >= 2 {
                self.pace.refused_at = Some(now.wall);
            }
        }
        self.is_troubled |= counts && failure.is_refusal;
        // What began before something was taken says nothing about now.
        let is_since_taken = self.saving.is_since_taken(*began);
        let name = format!("{}/{}", event.segment, event.index);
        if !self.is_judge {
            let counts = counts && is_since_taken;
            self.witness(counts.then_some(name), failure, &reason, due_at, now);
        } else if is_since_taken && self.is_probing() {
            if *is_probe {
                self.probed(failure, jitter, now);
                self.saving.failed(reason.clone());
            }
        } else if is_since_taken && counts {
            if self.health.notes_failure(now.wall, due_at) {
                self.saving.failed(reason.clone());
                self.health.fail(now.wall, &name, due_at);
            } else {
                self.health.count(now.wall, &name);
            }
            if self.health.is_down(now.wall) {
                self.interrupted(failure, jitter, now);
            }
        } else if self.health.notes_failure(now.wall, due_at) {
            self.saving.failed(reason.clone());
            self.health.retry(due_at);
        }
        let give_up = self.rules.give_up;
        let is_long = self.health.is_of_event(failing_since, now.wall, give_up);
        if tried.attempt >= PROVEN && is_long {
            let reason = self.given_up_reason(&reason, failure, tried, failing_since);
            return self.reject(id, sending, reason, failure.reason.clone());
        }
        let (event, mut tried) = (sending.event, sending.tried);
        tried.attempt = tried.attempt.saturating_add(1);
        tried.failing_since = Some(failing_since);
        tried.due_at = due_at;
        tried.reason = Some(failure.reason.clone());
        tried.is_stored = false;
        self.held.wait(event, tried, Ulid(0));
        self.make_room(now);
        if self.held.fresh() >= self.limits.waiting
            && self
                .stream()
                .is_some_and(|stream| stream.served().is_none())
        {
            self.saving.serve(Because::Full);
        }
    }

    /// Of events that are never taken only so many wait: the oldest go to the rejected ones.
    fn make_room(&mut self, now: Now) {
        for _ in 0..2 {
            if self.held.tired() <= self.limits.waiting {
                return;
            }
            let Some(event) = self.held.oldest_tired() else {
                return;
            };
            let Some(tried) = self.held.take(event) else {
                return;
            };
            let since = tried.failing_since.unwrap_or(now.wall);
            let last = tried.reason.clone().unwrap_or_default();
            let reason = format!(
                "An event was given up, after {} attempts since {since}: {FULL}. The last attempt: {last}.",
                tried.attempt.saturating_sub(1)
            );
            let id = self.next_id;
            self.next_id += 1;
            let sending = Sending {
                event,
                tried,
                began: now.tick,
                is_probe: false,
            };
            self.reject(id, sending, reason, FULL.to_owned());
        }
    }

    /// What a failure shows of a stream that is live, for delivery. `counts` is the event's name, where it is one that counts.
    fn witness(
        &mut self,
        counts: Option<String>,
        failure: &Failure,
        reason: &str,
        due_at: Millis,
        now: Now,
    ) {
        let ran = &mut self.ran;
        ran.epoch = self.epoch;
        ran.due_at = ran.due_at.max(Some(due_at));
        let failed = ran.failed.get_or_insert_with(|| RanFailed {
            events: Vec::new(),
            since: now.wall,
            reason: String::new(),
        });
        reason.clone_into(&mut failed.reason);
        let Some(name) = counts else { return };
        if failed.events.is_empty() {
            failed.since = now.wall;
        }
        if failed.events.len() < FAILURES as usize {
            failed.events.push(name);
        }
        if !failure.is_refusal {
            return;
        }
        let is_wish = failure.retry_after > Some(SHORT_WISH);
        if is_wish || self.row.count >= ROW && self.row.events.len() >= 2 {
            ran.is_refused = true;
            ran.hold = ran.hold.max(failure.retry_after);
            self.saving.request();
        }
    }

    /// A probe has failed.
    fn probed(&mut self, failure: &Failure, jitter: f64, now: Now) {
        let Some(it) = &mut self.health.interruption else {
            return;
        };
        it.probes = it.probes.saturating_add(1);
        it.is_refused = failure.is_refusal;
        let mut pause = backoff::probe_pause(it.probes + 1, failure.retry_after, jitter);
        if !it.is_refused {
            pause = pause.min(backoff::LONGEST_OF_EVENTS);
        }
        it.next_probe_at = now.wall.after(pause);
        self.health.last_failure_at = Some(now.wall);
        self.health.next_attempt_at = Some(now.wall.after(pause));
        self.pacer.interrupt(now.tick, pause);
        self.saving.request();
    }

    /// The receiver is considered down.
    fn interrupted(&mut self, failure: &Failure, jitter: f64, now: Now) {
        let pause = backoff::probe_pause(1, failure.retry_after, jitter);
        self.health.interruption = Some(Interruption {
            since: now.wall,
            probes: 0,
            cursor: None,
            next_probe_at: now.wall.after(pause),
            is_refused: failure.is_refusal,
        });
        self.is_troubled = true;
        self.pacer.interrupt(now.tick, pause);
        self.saving.request();
    }

    fn given_up_reason(
        &self,
        reason: &str,
        failure: &Failure,
        tried: &Tried,
        failing_since: Millis,
    ) -> String {
        let longer = format!(
            "{}, after {} attempts since {failing_since}",
            failure.reason, tried.attempt
        );
        reason.replacen(&failure.reason, &longer, 1)
    }

    /// The event goes to the rejected ones; it is done with when it is there.
    fn reject(&mut self, id: u64, sending: Sending, reason: String, answer: String) {
        let event = sending.event;
        self.under_way.insert(id, sending);
        self.pending.push_back(Do::Reject {
            id,
            event,
            reason,
            answer,
        });
    }

    /// An event is done with.
    pub(super) fn finish(&mut self, event: EventRef, tried: Tried) {
        self.held.finish(event, &tried);
        self.saving.finished();
        if let Some(range) = &mut self.range
            && tried.is_open
        {
            let behind = Position {
                segment: event.segment,
                index: event.index + 1,
            };
            range.sent = range.sent.max(behind);
        }
    }
}
