//! When a stream that is served goes live.

use std::time::Duration;

use super::machine::Sender;
use crate::lifecycle::StepInput;
use crate::sending::Now;
use crate::stream::Because;
use crate::time::Millis;

/// How long after its beginning a stream that catches up, and that nothing limits, goes live before it has caught up: milliseconds.
const LIVE_AFTER: u64 = 30_000;

impl Sender {
    pub(super) fn open(&mut self) {
        self.opening = true;
        let todo = self.apply(StepInput::Open);
        self.pending.push_back(todo);
    }

    /// The gap is ended, if it was open: readers of the integration that come late do not count if the write was confirmed in time.
    pub(super) fn opened(&mut self, is_written: bool, decided_at: Millis, now: Now) {
        self.opening = false;
        if is_written {
            self.has_moved = true;
            self.confirmed = now.wall < decided_at.after(self.rules.seal / 2);
        }
    }

    /// Whether the stream may go live at this moment.
    pub(super) fn may_open_now(&self, now: Now) -> bool {
        let Some(integration) = &self.integration else {
            return false;
        };
        let Some(stream) = integration.stream().filter(|_| integration.may_go_live()) else {
            return false;
        };
        if self.is_probing() || self.confirmed || now.tick >= self.last_request {
            return false;
        }
        let Some(served) = stream.served() else {
            // An end of which it is not known whether it came in time is moved.
            return stream.unconfirmed;
        };
        if stream.owed.len() > self.limits.ranges {
            return false;
        }
        let is_caught_up = self.range.is_none()
            && self.ahead.is_empty()
            && stream.readable(self.horizon).is_none();
        match served.because {
            Because::Start | Because::Down => {
                is_caught_up || now.tick >= LIVE_AFTER && !self.was_refused
            }
            Because::Full => is_caught_up && !self.is_full(),
            Because::Refused | Because::Slow => {
                // What live delivery finds of a receiver takes the stream back at once, and for longer each time.
                is_caught_up
                    && self
                        .pace
                        .refused_at
                        .is_none_or(|at| now.wall.since(at) >= Duration::from_secs(10))
                    && stream.live_again_at().is_none_or(|at| at <= now.wall)
            }
        }
    }
}
