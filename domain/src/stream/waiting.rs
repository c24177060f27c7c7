//! Waiting events: those that are not delivered, and lie in no owed range any more.
//!
//! One item holds up to 50 events of one segment that wait for the same attempt. Its key is never used again: no write can
//! replace another one, and an event that stands in two items is sent once by the sender that lists both.

use ulid::Ulid;

use crate::log::position::EventRef;
use crate::time::Millis;

/// The most events of one item: it stays below 1 KB, which DynamoDB writes as one unit.
pub const MAX_EVENTS: usize = 50;
/// How much of a reason is kept, in bytes.
pub const MAX_REASON_BYTES: usize = 200;

/// Events that wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Their segment.
    pub segment: Ulid,
    /// The segment's shard.
    pub shard: u32,
    /// Their indices in it.
    pub indices: Vec<u32>,
    /// Which attempt is the next one, from 1.
    pub attempt: u32,
    /// When the first attempt failed.
    pub failing_since: Option<Millis>,
    /// When the next attempt is due.
    pub due_at: Millis,
    /// Why the last one failed.
    pub reason: Option<String>,
}

impl Waiting {
    /// Its events.
    pub fn events(&self) -> impl Iterator<Item = EventRef> {
        self.indices.iter().map(|index| EventRef {
            segment: self.segment,
            index: *index,
            shard: self.shard,
        })
    }
}

/// The name of a stored item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaitingKey {
    /// The segment of its events.
    pub segment: Ulid,
    /// New for each item.
    pub token: Ulid,
}

/// A stored item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWaiting {
    /// Its name.
    pub key: WaitingKey,
    /// Its events.
    pub waiting: Waiting,
}

/// Puts events that wait for the same into items, each of one segment. They have to be in order.
pub fn items(
    events: impl IntoIterator<Item = EventRef>,
    attempt: u32,
    failing_since: Option<Millis>,
    due_at: Millis,
    reason: Option<&str>,
) -> Vec<Waiting> {
    let mut items: Vec<Waiting> = Vec::new();
    for event in events {
        match items.last_mut() {
            Some(last) if last.segment == event.segment && last.indices.len() < MAX_EVENTS => {
                last.indices.push(event.index);
            }
            _ => items.push(Waiting {
                segment: event.segment,
                shard: event.shard,
                indices: vec![event.index],
                attempt,
                failing_since,
                due_at,
                reason: reason.map(|reason| {
                    crate::integration_log::clip(reason, MAX_REASON_BYTES).to_owned()
                }),
            }),
        }
    }
    items
}

/// Names items that are stored for the first time: each by a token of its own, from `first` on, which is a new ULID.
pub fn named(items: Vec<Waiting>, first: Ulid) -> Vec<StoredWaiting> {
    let tokens = (0..).map(|n| Ulid(first.0.wrapping_add(n)));
    let named = items.into_iter().zip(tokens).map(|(waiting, token)| {
        let segment = waiting.segment;
        let key = WaitingKey { segment, token };
        StoredWaiting { key, waiting }
    });
    named.collect()
}
