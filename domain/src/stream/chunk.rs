//! Chunks of events that replay has taken on, and parked events.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::log::position::EventRef;
use crate::time::Millis;

/// The most events that a chunk has.
pub const MAX_EVENTS: usize = 100;

/// Events that replay sends together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its name.
    pub id: Ulid,
    /// Its events, at most [`MAX_EVENTS`].
    pub events: Vec<ChunkEvent>,
    /// The indices of those events that have not been settled.
    pub outstanding: BTreeSet<u32>,
}

/// An event of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkEvent {
    /// Where it is in the event log.
    pub event: EventRef,
    /// Which attempt is the next one, from 1.
    pub attempt: u32,
    /// When its first attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Millis>,
}

impl Chunk {
    /// A new chunk, all of which is outstanding.
    pub fn new(id: Ulid, events: Vec<ChunkEvent>) -> Chunk {
        Chunk {
            id,
            outstanding: (0..events.len() as u32).collect(),
            events,
        }
    }
}

/// A parked event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Where it is in the event log.
    pub event: EventRef,
    /// New each time the event is parked: only a caller that has read it may delete the item.
    pub token: Ulid,
    /// Which attempt is the next one, from 1.
    pub attempt: u32,
    /// When its first attempt failed.
    pub failing_since: Option<Millis>,
}

impl From<Parked> for ChunkEvent {
    fn from(parked: Parked) -> ChunkEvent {
        ChunkEvent {
            event: parked.event,
            attempt: parked.attempt,
            failing_since: parked.failing_since,
        }
    }
}
