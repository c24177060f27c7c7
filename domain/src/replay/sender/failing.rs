//! What a sender makes of orders that fail.

use super::machine::{Phase, Sender};
use crate::sending::{Now, Order};

/// How often an order is given again that has failed, and after how long: milliseconds.
const AGAIN: (u32, u64) = (3, 1_000);
/// After how long items of waiting events are stored or deleted again, at first and, doubled each time, at most: milliseconds.
const STORED_AGAIN: (u64, u64) = (100, 2_000);
/// How often the same items are stored or deleted at most: that fills the time limit of a step.
const MAX_STORED: u32 = 50;

/// An order that has failed is given again a few times.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Again {
    failures: u32,
    at: Option<u64>,
}

impl Again {
    /// Takes note that it has failed; whether it is given again.
    pub(super) fn fail(&mut self, now: u64) -> bool {
        self.failures += 1;
        let is_again = self.failures <= AGAIN.0;
        self.at = is_again.then_some(now + AGAIN.1);
        is_again
    }

    /// Takes note that items could not be stored or deleted; whether they are once more, before `last`. What was sent counts as sent
    /// only once that is stored: a step that gave up here would send it again.
    pub(super) fn fail_to_store(&mut self, now: u64, last: u64) -> bool {
        let doubled = STORED_AGAIN.0 << self.failures.min(6);
        self.failures += 1;
        let at = now + doubled.min(STORED_AGAIN.1);
        let is_again = self.failures < MAX_STORED && at < last;
        self.at = is_again.then_some(at);
        is_again
    }

    /// When it is given again, if it has failed.
    pub(super) fn at(&self) -> Option<u64> {
        self.at
    }

    /// Takes note that it went well.
    pub(super) fn succeed(&mut self) {
        *self = Again::default();
    }

    /// It is out.
    pub(super) fn wait(&mut self) {
        self.at = None;
    }

    /// Whether it is to be given again, now.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.at.is_some_and(|at| now >= at)
    }

    /// Whether it has failed and is not to be given again yet.
    pub(super) fn is_paused(&self, now: u64) -> bool {
        self.at.is_some_and(|at| now < at)
    }
}

impl Sender {
    /// Something of ours has failed, and again and again where it may be tried again: what is under way ends, what is known is
    /// written down if it can be, and another step is due soon.
    pub(super) fn give_in(&mut self) {
        self.has_failed = true;
        self.end();
    }

    pub(super) fn failed_of_ours(&mut self, order: Order, now: Now) {
        match order {
            Order::Apply => self.apply_failed(),
            Order::List => {
                self.is_listing = false;
                if !self.listing.fail(now.tick) {
                    self.give_in();
                }
            }
            Order::Read => {
                self.is_reading = false;
                if !self.reading.fail(now.tick) {
                    self.give_in();
                }
            }
            Order::Post(id) => self.not_posted(id, now),
            Order::Reject(id) => self.not_rejected(id, now),
            Order::Put | Order::Drop => {
                if !self.saving.fails(now.tick, self.last_stored) {
                    self.is_lost = true;
                    self.give_in();
                }
            }
            Order::Look => debug_assert!(false, "a step does not look"),
        }
    }

    fn apply_failed(&mut self) {
        self.is_applying = false;
        match self.phase {
            // Its message begins this turn again.
            Phase::Beginning => {
                self.is_handed_back = true;
                self.phase = Phase::Over;
            }
            Phase::Leaving => self.phase = Phase::Over,
            _ => {
                self.is_lost = self.has_failed;
                self.opening = false;
                self.saving.is_unwritten();
                self.give_in();
            }
        }
    }
}
