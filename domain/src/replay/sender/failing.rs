//! What a sender makes of orders that fail.

use super::machine::{Phase, Sender};
use crate::sending::{Now, Order};

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
