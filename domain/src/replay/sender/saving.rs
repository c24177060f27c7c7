//! What a sender writes down, and in which order: first the items of what waits, then the position, never the other way round.

use ulid::Ulid;

use super::{Do, Now, Phase, Sender};
use crate::lifecycle::{Checkpoint, Input, StepInput};
use crate::log::position::{EventRef, Position};
use crate::stream::Because;
use crate::stream::waiting::{StoredWaiting, WaitingKey, items};

/// How long an attempt holds the position at the least before its event is stored as a waiting one: milliseconds.
const STRAGGLES: u64 = 1_000;

/// How far the current checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Nothing,
    Putting,
    HasPut,
    Dropping,
    HasDropped,
    Writing,
}

/// What is to be written down.
#[derive(Clone, Debug)]
pub struct Saving {
    at: At,
    /// When the last checkpoint was written.
    written_at: u64,
    finished: usize,
    is_changed: bool,
    is_requested: bool,
    /// The events that are being stored: in which item, and for which attempt.
    putting: Vec<(EventRef, WaitingKey, u32)>,
    failure: Option<String>,
    serve: Option<Because>,
    drained: Option<Ulid>,
    gone: Option<String>,
    /// When the attempt began that was taken last.
    taken_began: Option<u64>,
    taken_ended: u64,
    is_nudged: bool,
    hears: bool,
    heard_at: u64,
}

impl Saving {
    /// Nothing is to be written down yet.
    pub fn new(now: u64) -> Saving {
        Saving {
            at: At::Nothing,
            written_at: now,
            finished: 0,
            is_changed: false,
            is_requested: false,
            putting: Vec::new(),
            failure: None,
            serve: None,
            drained: None,
            gone: None,
            taken_began: None,
            taken_ended: 0,
            is_nudged: false,
            hears: false,
            heard_at: now,
        }
    }

    /// Whether a checkpoint is under way.
    pub fn is_at_work(&self) -> bool {
        self.at != At::Nothing
    }

    /// A checkpoint is due at once.
    pub fn request(&mut self) {
        self.is_requested = true;
        self.is_changed = true;
    }

    /// Whether there is something to write down.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// There is something to write down.
    pub fn changed(&mut self) {
        self.is_changed = true;
    }

    /// An event is done with.
    pub fn finished(&mut self) {
        self.finished += 1;
        self.is_changed = true;
    }

    /// An attempt has failed: the reason is for the integration log.
    pub fn failed(&mut self, reason: String) {
        self.failure = Some(reason);
    }

    /// The stream is to be served from now on.
    pub fn serve(&mut self, because: Because) {
        self.serve = Some(because);
        self.request();
    }

    /// The events of this chunk are made waiting ones.
    pub fn drains(&mut self, chunk: Ulid) {
        self.drained = Some(chunk);
    }

    /// The receiver wants nothing any more: the reason is for the integration log.
    pub fn is_gone(&mut self, reason: String) {
        self.gone.get_or_insert(reason);
    }

    /// An attempt that began at `began` was taken.
    pub fn taken_at(&mut self, began: u64, ended: u64) {
        self.taken_began = self.taken_began.max(Some(began));
        self.taken_ended = ended;
    }

    /// Whether an attempt that began then began after all that were taken.
    pub fn is_since_taken(&self, began: u64) -> bool {
        self.taken_began.is_none() || began >= self.taken_ended
    }

    /// Whether delivery has stored waiting events meanwhile.
    pub fn heard(&mut self, is_nudged: bool, _now: u64) {
        self.is_nudged = is_nudged;
    }

    /// An input was applied. Whether it was a checkpoint after which waiting events are to be listed.
    pub fn wrote(&mut self, now: u64) -> bool {
        if self.at != At::Writing {
            return false;
        }
        self.at = At::Nothing;
        let hears = std::mem::take(&mut self.hears);
        if hears {
            self.heard_at = now;
        }
        hears
    }

    /// Items were deleted.
    pub fn dropped(&mut self) {
        self.at = At::HasDropped;
    }

    fn is_due(&self, now: Now, is_ending: bool, limit: usize, pause: u64) -> bool {
        let wants_to_hear = self.is_nudged && !is_ending && now.tick >= self.heard_at + pause;
        let is_old = self.is_changed && now.tick >= self.written_at + pause;
        self.is_requested || self.finished >= limit || is_old || wants_to_hear
    }
}

impl Sender {
    /// The next write of a checkpoint, if one is due.
    pub(super) fn save(&mut self, now: Now, id: Ulid) -> Option<Do> {
        match self.saving.at {
            At::Nothing => {
                if self.is_applying {
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
                    false => {
                        self.saving
                            .is_due(now, self.is_ending(), limits.events, limits.checkpoint)
                    }
                };
                if !is_due {
                    return None;
                }
                self.put(now, id).or_else(|| self.drop_or_write(now))
            }
            At::HasPut => self.drop_or_write(now),
            At::HasDropped => Some(self.write(now)),
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
        let is_like = |one: &StoredWaiting, (event, tried): &(EventRef, &super::Tried)| {
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
                        parked: None,
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
        Some(Do::Put(stored))
    }

    /// The items are stored: what is in them does not hold the position any more.
    pub(super) fn stored(&mut self) {
        self.saving.at = At::HasPut;
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
            return Some(Do::Drop(self.held.take_dropped()));
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
        self.pace.refused_at = self.pace.refused_at.max(refused_at);
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
            health: self.health.clone(),
            pace: self.pace,
            waiting: u32::try_from(self.held.len()).unwrap_or(u32::MAX),
            failure: saving.failure.take(),
            serve: saving.serve.take(),
            drained: saving.drained.take(),
            hears: saving.hears,
            confirmed: self.confirmed,
        };
        self.apply(StepInput::Checkpoint(Box::new(checkpoint)))
    }
}
