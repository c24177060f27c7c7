//! The right of one worker to do something that no other may do at the same time.

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::time::Millis;

/// A lease: of a run of the export, or of a step of replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who holds it: a ULID of its own, by which a worker recognises a write of its own that was reported as failed.
    pub holder: Ulid,
    /// From this instant on another worker may take it, whatever became of the holder.
    pub until: Millis,
}

impl Lease {
    /// Whether `holder` has it at `now`.
    pub fn is_held_by(&self, holder: Ulid, now: Millis) -> bool {
        self.holder == holder && self.is_held(now)
    }

    /// Whether any worker has it at `now`.
    pub fn is_held(&self, now: Millis) -> bool {
        self.until > now
    }
}
