//! The attempts that a sender has under way.

use std::collections::{BTreeMap, BTreeSet};

use super::held::{Held, Tried};
use crate::log::position::EventRef;
use crate::stream::waiting::StoredWaiting;

/// An attempt under way, or its event on its way to the rejected ones.
#[derive(Clone, Debug)]
pub struct Sending {
    /// The event.
    pub event: EventRef,
    /// What is known of it.
    pub tried: Tried,
    /// When the attempt began.
    pub began: u64,
    /// Whether the stream was interrupted when it began.
    pub(super) is_probe: bool,
}

/// The attempts under way.
#[derive(Clone, Debug, Default)]
pub struct UnderWay {
    attempts: BTreeMap<u64, Sending>,
    events: BTreeSet<EventRef>,
    /// How many of them are tired, and for how many milliseconds such attempts have lasted that have ended.
    pub(super) tired: u32,
    pub(super) tired_for: u64,
}

impl UnderWay {
    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// Whether this event is.
    pub fn has(&self, event: EventRef) -> bool {
        self.events.contains(&event)
    }

    /// An attempt begins.
    pub fn insert(&mut self, id: u64, sending: Sending) {
        self.tired += u32::from(sending.tried.is_tired());
        self.events.insert(sending.event);
        self.attempts.insert(id, sending);
    }

    /// An attempt has ended.
    pub fn remove(&mut self, id: u64) -> Option<Sending> {
        let sending = self.attempts.remove(&id)?;
        self.events.remove(&sending.event);
        self.tired -= u32::from(sending.tried.is_tired());
        Some(sending)
    }

    /// Attempts that began before this instant, of events that the position may not pass.
    pub fn stragglers(&self, before: u64) -> impl Iterator<Item = (EventRef, &Tried)> {
        let late = move |sending: &&Sending| sending.began <= before && sending.tried.is_open;
        let late = self.attempts.values().filter(late);
        late.map(|sending| (sending.event, &sending.tried))
    }

    /// An item that was listed, without the events that are under way: these are known, and may have been stored meanwhile.
    pub fn without(&mut self, item: StoredWaiting) -> (StoredWaiting, usize) {
        let (key, mut waiting) = (item.key, item.waiting);
        let all = waiting.indices.len();
        let events: Vec<EventRef> = waiting.events().collect();
        let mut others = events.iter().map(|event| match self.tried_mut(*event) {
            Some(tried) => {
                if !tried.keys.contains(&key) {
                    tried.keys.push(key);
                }
                false
            }
            None => true,
        });
        waiting.indices.retain(|_| others.next().unwrap_or(true));
        (StoredWaiting { key, waiting }, all)
    }

    /// Whether none of them waits as well.
    pub fn is_apart_from(&self, held: &Held) -> bool {
        !self.events.iter().any(|event| held.waits(*event))
    }

    /// What is known of an event that is under way.
    pub fn tried_mut(&mut self, event: EventRef) -> Option<&mut Tried> {
        if !self.has(event) {
            return None;
        }
        let mut attempts = self.attempts.values_mut();
        attempts
            .find(|sending| sending.event == event)
            .map(|sending| &mut sending.tried)
    }
}
