//! What a sender writes down, and in which order: first the items of what waits, then the position, never the other way round.

use ulid::Ulid;

use super::held::Tried;
use super::machine::{Phase, Sender};
use super::progress::At;
use crate::lifecycle::{Checkpoint, Input, StepInput};
use crate::log::position::{EventRef, Position};
use crate::sending::{Do, Now};
use crate::stream::waiting::{StoredWaiting, WaitingKey, items};

/// How long an attempt holds the position at the least before its event is stored as a waiting one: milliseconds.
const STRAGGLES: u64 = 1_000;

impl Sender {
    /// The next write of a checkpoint, if one is due.
    pub(super) fn save(&mut self, now: Now, id: Ulid) -> Option<Do> {
        if self.is_lost {
            return None;
        }
        match self.saving.at {
            At::Nothing => {
                // What is stored while a list is on its way would be taken for what waits.
                if self.is_applying || self.is_listing {
                    return None;
                }
                if let Some(reason) = self.saving.gone.take() {
                    self.is_applying = true;
                    let epoch = self.epoch;
                    return Some(Do::Apply(Input::Gone { epoch, reason }));
                }
                let is_last = self.phase == Phase::Ending && self.under_way.is_empty();
                let limits = self.limits;
                let is_due = match self.phase == Phase::Ending {
                    true => is_last && !self.is_reading && self.saving.is_changed,
                    false => self.saving.is_due(now, limits.events, limits.checkpoint),
                };
                if !is_due {
                    return None;
                }
                self.put(now, id).or_else(|| self.drop_or_write(now))
            }
            At::HasPut => self.drop_or_write(now),
            At::HasDropped => Some(self.write(now)),
            At::Putting if self.saving.again.is_due(now.tick) => {
                self.saving.again.wait();
                Some(Do::Put(self.saving.out.put.clone()))
            }
            At::Dropping if self.saving.again.is_due(now.tick) => {
                self.saving.again.wait();
                Some(Do::Drop(self.saving.out.dropped.clone()))
            }
            At::Putting | At::Dropping | At::Writing => None,
        }
    }

    /// Stores what waits and is in no item, and what is under way for so long that it holds the position.
    fn put(&mut self, now: Now, id: Ulid) -> Option<Do> {
        let straggles = STRAGGLES.max(4 * self.pacer.usual());
        let before = now.tick.checked_sub(straggles);
        let late = before
            .into_iter()
            .flat_map(|it| self.under_way.stragglers(it));
        let mut events: Vec<_> = self.held.unstored().chain(late).collect();
        events.sort_by_key(|(event, tried)| {
            (
                event.segment,
                tried.attempt,
                tried.failing_since,
                tried.due_at,
                event.index,
            )
        });
        let mut stored: Vec<StoredWaiting> = Vec::new();
        let is_like = |one: &StoredWaiting, (event, tried): &(EventRef, &Tried)| {
            one.waiting.segment == event.segment
                && one.waiting.attempt == tried.attempt
                && one.waiting.failing_since == tried.failing_since
                && one.waiting.due_at == tried.due_at
                && one.waiting.indices.len() < crate::stream::waiting::MAX_EVENTS
        };
        for found in &events {
            let (event, tried) = found;
            match stored.last_mut().filter(|last| is_like(last, found)) {
                Some(last) => last.waiting.indices.push(event.index),
                None => {
                    let token = Ulid(id.0.wrapping_add(stored.len() as u128));
                    let key = WaitingKey {
                        segment: event.segment,
                        token,
                    };
                    let reason = tried.reason.as_deref();
                    let one = items(
                        [*event],
                        tried.attempt,
                        tried.failing_since,
                        tried.due_at,
                        reason,
                    );
                    stored.extend(
                        one.into_iter()
                            .map(|waiting| StoredWaiting { key, waiting }),
                    );
                }
            }
            if let Some(last) = stored.last() {
                self.saving.putting.push((*event, last.key, tried.attempt));
            }
        }
        if stored.is_empty() {
            return None;
        }
        self.saving.at = At::Putting;
        self.saving.out.put = stored.clone();
        Some(Do::Put(stored))
    }

    /// The items are stored: what is in them does not hold the position any more.
    pub(super) fn stored(&mut self) {
        self.saving.at = At::HasPut;
        self.saving.again.succeed();
        self.saving.out.put.clear();
        let putting = std::mem::take(&mut self.saving.putting);
        let mut counts: Vec<(WaitingKey, usize)> = Vec::new();
        for (_, key, _) in &putting {
            match counts.last_mut().filter(|(last, _)| last == key) {
                Some((_, count)) => *count += 1,
                None => counts.push((*key, 1)),
            }
        }
        for (key, count) in counts {
            self.held.stored(key, count);
        }
        for (event, key, attempt) in putting {
            if self.held.is_stored(event, key, attempt) {
                continue;
            }
            match self.under_way.tried_mut(event) {
                Some(tried) => self.held.move_to(event, tried, key, attempt),
                // It was taken meanwhile.
                None => self.held.release(key),
            }
        }
    }

    fn drop_or_write(&mut self, now: Now) -> Option<Do> {
        if self.held.has_dropped() {
            self.saving.at = At::Dropping;
            self.saving.out.dropped = self.held.take_dropped();
            return Some(Do::Drop(self.saving.out.dropped.clone()));
        }
        Some(self.write(now))
    }

    /// The checkpoint itself.
    fn write(&mut self, now: Now) -> Do {
        let nowhere = Position::at(Ulid(0));
        let reached = self.reached();
        let (to, sent) = reached.map_or((nowhere, nowhere), |(_, to, sent)| (to, sent));
        let refused_at = self.pace.refused_at;
        self.pace = self.pacer.kept(&self.pace, now.tick, now.wall);
        // A refusal alone is no reason to stay behind.
        self.pace.refused_at = refused_at;
        // What has ended since its items were stored or deleted is for the next one.
        let is_changed = self.held.has_dropped() || self.held.unstored().next().is_some();
        let saving = &mut self.saving;
        saving.at = At::Writing;
        saving.written_at = now.tick;
        saving.finished = 0;
        (saving.is_changed, saving.is_requested) = (is_changed, false);
        saving.hears = saving.is_nudged && self.phase == Phase::Working;
        let checkpoint = Checkpoint {
            epoch: self.epoch,
            from: reached.map(|(from, ..)| from),
            to,
            sent,
            is_judge: self.is_judge,
            health: self.health.clone(),
            ran: std::mem::take(&mut self.ran),
            pace: self.pace,
            waiting: u32::try_from(self.held.len()).unwrap_or(u32::MAX),
            failure: saving.failure.take(),
            serve: saving.serve.take(),
            hears: saving.hears,
            confirmed: self.confirmed,
        };
        self.apply(StepInput::Checkpoint(Box::new(checkpoint)))
    }
}
