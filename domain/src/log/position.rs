//! Positions in the event log.

use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// Where an event is in the event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventRef {
    /// The segment's ULID.
    pub segment: Ulid,
    /// The event's position in the segment, from 0.
    pub index: u32,
    /// The segment's shard.
    pub shard: u32,
}

/// A position in the event log: an event of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The segment's id; there need not be a segment of it.
    pub segment: Ulid,
    /// The event's index in the segment.
    pub index: u32,
}

impl Position {
    /// The position before every event at or past `segment`.
    pub fn at(segment: Ulid) -> Position {
        Position { segment, index: 0 }
    }

    /// The position behind every event of this segment.
    pub fn behind(segment: Ulid) -> Position {
        Position::at(Ulid(segment.0 + 1))
    }
}
