//! What is written down of a run that has ended.

use std::collections::VecDeque;

use ulid::Ulid;

use super::{Phase, Posting};
use crate::backoff;
use crate::lifecycle::{Input, Ran, RanFailed};
use crate::log::position::EventRef;
use crate::sending::{Do, Now};
use crate::stream::waiting::{Waiting, items, named};

/// How often a write is tried again that failed, and after how long: milliseconds.
const AGAIN: (u32, u64) = (3, 1_000);

impl Posting {
    /// The orders, in order: a sender that is asked for finds what waits.
    pub(super) fn written(&self, now: Now, id: Ulid) -> VecDeque<Do> {
        let (items, ran) = self.left_over(now);
        let mut orders = VecDeque::new();
        if !items.is_empty() {
            orders.push_back(Do::Put(named(items, id)));
        }
        if let Some(reason) = self.gone.clone() {
            let epoch = self.epoch;
            orders.push_back(Do::Apply(Input::Gone { epoch, reason }));
        }
        if self.says_something(&ran, now) {
            orders.push_back(Do::Apply(Input::Ran(ran)));
        }
        orders
    }

    /// The events that wait, and what the run says about the receiver.
    fn left_over(&self, now: Now) -> (Vec<Waiting>, Ran) {
        let event = |number: usize| self.events[number];
        let mut failed: Vec<usize> = self.failed.iter().map(|(number, ..)| *number).collect();
        failed.sort_unstable();
        let asked = self.failed.iter().filter_map(|(_, it, _)| it.retry_after);
        let due_at = now.wall.after(backoff::pause(1, asked.max(), self.jitter));
        let last = self.failed.last();
        let mut waiting = items(
            failed.iter().map(|number| event(*number)),
            2,
            Some(now.wall),
            due_at,
            last.map(|(_, failure, _)| failure.reason.as_str()),
        );
        let untried = self
            .left
            .iter()
            .copied()
            .chain(self.next..self.events.len());
        let untried = items(untried.map(event), 1, None, now.wall, None);
        let due_at = if untried.is_empty() {
            last.map(|_| due_at)
        } else {
            Some(now.wall)
        };
        waiting.extend(untried);
        let text = |event: EventRef| format!("{}/{}", event.segment, event.index);
        let ran = Ran {
            epoch: self.epoch,
            is_taken: self.is_taken,
            failed: last.map(|(_, _, reason)| RanFailed {
                events: self
                    .counted
                    .iter()
                    .map(|number| text(event(*number)))
                    .collect(),
                since: self.counted_since.unwrap_or(now.wall),
                reason: reason.clone(),
            }),
            is_refused: self.is_refused,
            is_strike: false,
            hold: self.hold,
            is_slow: self.is_slow && !self.has_said_slow,
            due_at,
        };
        (waiting, ran)
    }

    /// Whether the integration has to be read to know what a run changes: one that runs and is healthy changes nothing.
    fn says_something(&self, ran: &Ran, now: Now) -> bool {
        let integration = self.integration.as_deref();
        let stream = integration.and_then(|it| it.stream());
        let notes = stream.is_some_and(|it| it.health.notes_success(now.wall));
        let is_news = ran.is_taken && !self.has_said_taken && (notes || self.is_failing);
        is_news || ran.failed.is_some() || ran.is_refused || ran.is_slow || ran.due_at.is_some()
    }

    /// A write has its answer: the next one, or the same again, or there is no time and the task has to come again.
    pub(super) fn wrote(&mut self, is_done: bool, now: u64) {
        debug_assert!(self.phase == Phase::Writing && self.under_way.is_empty());
        if is_done {
            self.writes.pop_front();
            self.failures_of_ours = 0;
            return;
        }
        self.failures_of_ours += 1;
        if self.failures_of_ours <= AGAIN.0 && now + AGAIN.1 < self.over {
            self.again_at = Some(now + AGAIN.1);
            return;
        }
        // Where events wait, that has to be known. Anything else goes by samples: to hand the run back would send it again.
        let is_needed = match self.writes.pop_front() {
            Some(Do::Put(_)) => true,
            Some(Do::Apply(Input::Ran(ran))) => ran.due_at.is_some(),
            _ => false,
        };
        if is_needed {
            self.is_handed_back = true;
            self.phase = Phase::Over;
        }
        self.failures_of_ours = 0;
    }
}
