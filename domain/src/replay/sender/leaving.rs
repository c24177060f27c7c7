//! The end of a step: when there is nothing more to do, or no time, and what the next one is for.

use std::time::Duration;

use super::machine::Sender;
use super::types::LONGEST_HOLD;
use crate::lifecycle::{Rest, StepInput};
use crate::sending::{Do, Now};
use crate::time::Millis;

impl Sender {
    /// Whether there is nothing to do for this step, or no time.
    pub(super) fn is_done_for_now(&mut self, now: Now) -> bool {
        if now.tick >= self.last_request {
            self.end();
            return true;
        }
        if self.pacer.hold_until() > now.tick + LONGEST_HOLD && !self.is_reading {
            self.end();
            return true;
        }
        let is_at_work = self.is_applying
            || self.is_reading
            || self.is_listing
            || self.listing.is_paused(now.tick)
            || self.saving.is_at_work()
            || !self.pending.is_empty()
            || !self.under_way.is_empty();
        if is_at_work || self.has_owed() || self.can_read() {
            return false;
        }
        if self.is_probing() && self.held.len() > 0 {
            return false;
        }
        if self.is_probing() {
            // Nothing to probe with: what comes next shows how the receiver is.
            self.resumed(now, false);
            return false;
        }
        let soon = now.wall.after(Duration::from_millis(LONGEST_HOLD));
        let is_done = self.held.first_due().is_none_or(|due| due > soon);
        if is_done && self.saving.is_changed() {
            // Written down first: a stream that has caught up may go live in this step.
            self.saving.request();
            return false;
        }
        is_done
    }

    /// Nothing is begun from `now` on: what is under way ends, and the next step continues at once.
    pub fn leave_early(&mut self, now: Now) {
        self.last_request = self.last_request.min(now.tick);
    }

    pub(super) fn leaving(&mut self) -> Do {
        let rest = Rest {
            next: self.next_at(),
            waits: !self.has_listed || self.lists_more || self.held.len() > 0,
            has_moved: self.has_moved,
            has_failed: self.has_failed,
        };
        let confirmed = self.confirmed;
        self.apply(StepInput::Leave { confirmed, rest })
    }

    /// When there is something to do next: at once where this step had no time for it, when a pause ends, or when the first event is
    /// due.
    fn next_at(&self) -> Option<Millis> {
        let stream = self.stream()?;
        if let Some(it) = self.health.interruption {
            return Some(it.next_probe_at);
        }
        let has_more = !self.has_listed
            || self.lists_more && self.held.fresh() < self.resumes_below()
            || stream.readable(self.horizon).is_some() && !self.is_full();
        let due = match has_more {
            true => Some(Millis(0)),
            false => self.held.first_due(),
        };
        due.map(|due| due.max(self.pace.hold_until.unwrap_or_default()))
    }
}
