//! The events that a sender knows of: what waits for an attempt, in which items it is stored, and what of the owed range is open.

use std::collections::{BTreeMap, BTreeSet};

use ulid::Ulid;

use crate::log::position::EventRef;
use crate::stream::waiting::{StoredWaiting, WaitingKey};
use crate::time::Millis;

/// From this attempt on an event is one of those that may fail for ever.
const TIRED: u32 = 3;

/// An event that waits for an attempt, or is under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// Which attempt is the next one, from 1.
    pub attempt: u32,
    /// When its first attempt failed.
    pub failing_since: Option<Millis>,
    /// When the next one is due.
    pub due_at: Millis,
    /// Why the last one failed.
    pub reason: Option<String>,
    /// The items that it is in.
    pub keys: Vec<WaitingKey>,
    /// Whether one of them says all of the above.
    pub is_stored: bool,
    /// Whether the position may not pass it.
    pub is_open: bool,
}

impl Tried {
    /// An event that is in no item, for this attempt.
    pub fn new(attempt: u32, failing_since: Option<Millis>, due_at: Millis) -> Tried {
        Tried {
            attempt,
            failing_since,
            due_at,
            reason: None,
            keys: Vec::new(),
            is_stored: false,
            is_open: false,
        }
    }

    /// Whether it has failed so often that it may be one of those that are never taken.
    pub fn is_tired(&self) -> bool {
        self.attempt >= TIRED
    }
}

/// An item that is stored.
#[derive(Clone, Copy, Debug)]
struct Item {
    left: usize,
    all: usize,
}

/// What a sender knows of.
#[derive(Clone, Debug, Default)]
pub struct Held {
    waits: BTreeMap<EventRef, Tried>,
    /// Those of them that no item says all of.
    fresh: BTreeSet<EventRef>,
    /// By due time: those that are not tired, and those that are.
    due: [BTreeSet<(Millis, EventRef)>; 2],
    /// How many events are in each item that is stored, and how many of them are not done with.
    items: BTreeMap<WaitingKey, Item>,
    /// Items some of whose events are done with.
    partly: BTreeSet<WaitingKey>,
    /// Items of which nothing is needed any more.
    to_drop: Vec<WaitingKey>,
    /// Items that are deleted, or are about to be: a list may still show them.
    dropped: BTreeSet<WaitingKey>,
    /// Events of the owed range that are neither done with nor in an item.
    open: BTreeSet<EventRef>,
    /// Events that are done with and were not of the owed range, as far as it was read: there they come again.
    done: BTreeSet<EventRef>,
}

impl Held {
    /// How many events wait.
    pub fn len(&self) -> usize {
        self.waits.len()
    }

    /// Whether this event waits.
    pub fn waits(&self, event: EventRef) -> bool {
        self.waits.contains_key(&event)
    }

    /// How many events of the owed range are open.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Whether this event of the owed range is open.
    pub fn is_open(&self, event: EventRef) -> bool {
        self.open.contains(&event)
    }

    /// The first event of the owed range that is open.
    pub fn lowest(&self) -> Option<EventRef> {
        self.open.first().copied()
    }

    /// When the first event is due.
    pub fn first_due(&self) -> Option<Millis> {
        let first = |is_tired| self.first_due_of(is_tired);
        [false, true].into_iter().filter_map(first).min()
    }

    /// When the first event is due, of those that are tired or of the others.
    pub fn first_due_of(&self, is_tired: bool) -> Option<Millis> {
        let first = self.due[usize::from(is_tired)].first();
        first.map(|(at, _)| *at)
    }

    /// An event waits from now on. One of before `floor` is not to be sent any more.
    pub fn wait(&mut self, event: EventRef, tried: Tried, floor: Ulid) {
        if event.segment < floor {
            return self.finish(event, &tried);
        }
        let mut tried = tried;
        if let Some(other) = self.take(event) {
            // It is in two items: it was stored twice.
            tried.keys.extend(other.keys);
            tried.is_open |= other.is_open;
            tried.is_stored |= other.is_stored;
        }
        self.due[usize::from(tried.is_tired())].insert((tried.due_at, event));
        self.insert(event, tried);
    }

    /// Takes an event that waits, to send it.
    pub fn take(&mut self, event: EventRef) -> Option<Tried> {
        let tried = self.waits.remove(&event)?;
        self.fresh.remove(&event);
        self.due[usize::from(tried.is_tired())].remove(&(tried.due_at, event));
        Some(tried)
    }

    fn insert(&mut self, event: EventRef, tried: Tried) {
        if tried.is_stored {
            self.fresh.remove(&event);
        } else {
            self.fresh.insert(event);
        }
        self.waits.insert(event, tried);
    }

    /// The event that is due first, of those that are tired or of the others.
    pub fn due(&self, now: Millis, is_tired: bool) -> Option<EventRef> {
        let (at, event) = self.due[usize::from(is_tired)].first()?;
        (*at <= now).then_some(*event)
    }

    /// How many wait that are not tired.
    pub fn fresh(&self) -> usize {
        self.due[0].len()
    }

    /// How many wait that are.
    pub fn tired(&self) -> usize {
        self.due[1].len()
    }

    /// The first of those that are tired.
    pub fn oldest_tired(&self) -> Option<EventRef> {
        let mut waits = self.waits.iter();
        let found = waits.find(|(_, tried)| tried.is_tired())?;
        Some(*found.0)
    }

    /// The first event that waits and was never tried.
    pub fn untried(&self) -> Option<EventRef> {
        let mut due = self.due[0].iter().map(|(_, event)| event);
        due.find(|event| self.waits.get(event).is_some_and(|it| it.attempt == 1))
            .copied()
    }

    /// What failed first at `since` or later is due now: it is the receiver that did not take it.
    pub fn hasten(&mut self, since: Millis, now: Millis) {
        for (event, tried) in &mut self.waits {
            let is_of_receiver = tried.failing_since.is_some_and(|at| at >= since);
            if is_of_receiver && tried.due_at > now {
                let due = &mut self.due[usize::from(tried.is_tired())];
                due.remove(&(tried.due_at, *event));
                due.insert((now, *event));
                (tried.due_at, tried.is_stored) = (now, false);
                self.fresh.insert(*event);
            }
        }
    }

    /// Whether every event that waits is tired.
    pub fn is_all_tired(&self) -> bool {
        self.due[0].is_empty()
    }

    /// The next waiting event behind `cursor`, due or not, and round again: to probe with.
    pub fn behind(&self, cursor: Option<EventRef>) -> Option<EventRef> {
        use std::ops::Bound::{Excluded, Unbounded};
        let behind = cursor.and_then(|cursor| {
            let mut behind = self.waits.range((Excluded(cursor), Unbounded));
            behind.next()
        });
        let first = self.waits.first_key_value();
        behind.or(first).map(|(event, _)| *event)
    }

    /// Items were listed: what of them waits, and how many events each has in all.
    pub fn found(&mut self, items: Vec<(StoredWaiting, usize)>, floor: Ulid) {
        for (StoredWaiting { key, waiting }, all) in items {
            if self.items.contains_key(&key) || self.dropped.contains(&key) {
                continue;
            }
            self.stored(key, all);
            if all == 0 {
                self.release(key);
            }
            for event in waiting.events() {
                let tried = Tried {
                    reason: waiting.reason.clone(),
                    keys: vec![key],
                    is_stored: true,
                    ..Tried::new(waiting.attempt, waiting.failing_since, waiting.due_at)
                };
                self.wait(event, tried, floor);
            }
        }
    }

    /// An event of the owed range was read; `false` when it waits already, is under way, or is done with.
    pub fn read(&mut self, event: EventRef, is_under_way: bool) -> bool {
        if is_under_way || self.waits.contains_key(&event) || self.done.contains(&event) {
            return false;
        }
        self.open.insert(event)
    }

    /// An event is done with.
    pub fn finish(&mut self, event: EventRef, tried: &Tried) {
        self.open.remove(&event);
        if !tried.is_open {
            self.done.insert(event);
        }
        for key in &tried.keys {
            self.release(*key);
        }
    }

    /// Events that wait and have to be stored: no item says since when and until when, or the item that does has others that are
    /// done with, which the next sender would send again.
    pub fn unstored(&self) -> impl Iterator<Item = (EventRef, &Tried)> {
        let of_partly_done = self.partly.iter().flat_map(|key| {
            let place = |index| EventRef {
                segment: key.segment,
                index,
                shard: 0,
            };
            let last = EventRef {
                shard: u32::MAX,
                ..place(u32::MAX)
            };
            let of_segment = self.waits.range(place(0)..=last);
            of_segment.filter(|(_, tried)| tried.keys.contains(key))
        });
        let fresh = self.fresh.iter();
        let fresh = fresh.filter_map(|event| self.waits.get_key_value(event));
        let all: BTreeMap<EventRef, &Tried> = of_partly_done
            .chain(fresh)
            .map(|(event, tried)| (*event, tried))
            .collect();
        debug_assert!(
            self.waits.len() > 100 || all.len() == self.unstored_by_scan(),
            "the sets say what the events say"
        );
        all.into_iter()
    }

    fn unstored_by_scan(&self) -> usize {
        let is_partly_done = |key: &WaitingKey| {
            let item = self.items.get(key);
            item.is_some_and(|item| item.left < item.all)
        };
        let waits = self.waits.values();
        waits
            .filter(|tried| !tried.is_stored || tried.keys.iter().any(is_partly_done))
            .count()
    }

    /// An event that waits is in this item now, as it was for `attempt`. Whether there is such an event.
    pub fn is_stored(&mut self, event: EventRef, key: WaitingKey, attempt: u32) -> bool {
        let Some(mut tried) = self.waits.remove(&event) else {
            return false;
        };
        self.move_to(event, &mut tried, key, attempt);
        self.insert(event, tried);
        true
    }

    /// Notes that `tried` is in item `key`, and in no other one any more.
    pub fn move_to(&mut self, event: EventRef, tried: &mut Tried, key: WaitingKey, attempt: u32) {
        for old in std::mem::replace(&mut tried.keys, vec![key]) {
            self.release(old);
        }
        tried.is_stored = tried.attempt == attempt;
        tried.is_open = false;
        self.open.remove(&event);
    }

    /// Items are stored, with so many events each.
    pub fn stored(&mut self, key: WaitingKey, count: usize) {
        let (left, all) = (count, count);
        self.items.insert(key, Item { left, all });
        self.partly.remove(&key);
    }

    /// An event does not need this item any more.
    pub fn release(&mut self, key: WaitingKey) {
        let Some(item) = self.items.get_mut(&key) else {
            return;
        };
        item.left = item.left.saturating_sub(1);
        self.partly.insert(key);
        if item.left == 0 {
            self.partly.remove(&key);
            self.items.remove(&key);
            self.dropped.insert(key);
            self.to_drop.push(key);
        }
    }

    /// The items to delete.
    pub fn take_dropped(&mut self) -> Vec<WaitingKey> {
        std::mem::take(&mut self.to_drop)
    }

    /// Whether there are items to delete.
    pub fn has_dropped(&self) -> bool {
        !self.to_drop.is_empty()
    }
}
