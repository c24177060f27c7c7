//! What a sender reads ahead, and how far its position may move.

use super::machine::{Phase, Range, Sender};
use crate::log::position::{EventRef, Position};
use crate::sending::{Do, Now};

impl Sender {
    /// The part of the event log to read next.
    pub(super) fn can_read(&self) -> bool {
        if self.is_reading || self.is_full() {
            return false;
        }
        let room = self.limits.events + 2 * self.pacer.window() as usize;
        if self.held.open() >= room || self.ahead.len() > self.pacer.window() as usize {
            return false;
        }
        match self.range {
            Some(range) => range.next.segment < range.until,
            None => self
                .stream()
                .is_some_and(|stream| stream.readable(self.horizon).is_some()),
        }
    }

    pub(super) fn read(&mut self, now: Now) -> Option<Do> {
        if !self.can_read() || self.reading.is_paused(now.tick) {
            return None;
        }
        let range = match self.range {
            Some(range) => range,
            None => {
                let found = self.stream()?.readable(self.horizon)?;
                *self.range.insert(Range {
                    from: found.from,
                    next: found.from,
                    until: found.until,
                    sent: found.from,
                })
            }
        };
        let room = self.limits.events + 2 * self.pacer.window() as usize;
        self.is_reading = true;
        Some(Do::Read {
            from: range.next,
            until: range.until,
            limit: (room - self.held.open()).min(self.limits.read).max(1),
        })
    }

    /// The events that were read and are not sent by this step, since it was asked last: nothing has to be kept in memory for them.
    pub fn take_skipped(&mut self) -> Vec<EventRef> {
        std::mem::take(&mut self.skipped)
    }

    pub(super) fn has_read(&mut self, events: Vec<EventRef>, next: Position) {
        self.is_reading = false;
        let is_working = self.phase == Phase::Working;
        let Some(range) = self.range.as_mut().filter(|_| is_working) else {
            // Read again by the next step.
            self.skipped.extend(events);
            return;
        };
        if next > range.next {
            range.next = next;
            self.has_moved = true;
            self.saving.changed();
        }
        for event in events {
            // What waits already is sent as that: a sender was killed between storing it and moving on.
            let is_under_way = self.under_way.has(event);
            if self.held.read(event, is_under_way) {
                self.ahead.push_back(event);
            } else {
                self.skipped.push(event);
            }
        }
    }

    /// The position up to which everything is done with, and the same as far as events were sent.
    pub(super) fn reached(&self) -> Option<(Position, Position, Position)> {
        let range = self.range?;
        let lowest = self.held.lowest().map(|event| Position {
            segment: event.segment,
            index: event.index,
        });
        let to = lowest.unwrap_or(range.next).min(range.next);
        Some((range.from, to, range.sent.min(to)))
    }
}
