//! The event log: the rules that all its writers and readers share.

use std::time::Duration;

use crate::time::Millis;

pub mod position;
pub mod repeats;
pub mod segment;

/// How many seals readers stay behind the clock: an append is given up half a seal after its millisecond, and what was given
/// up takes effect within a seal, or never; the rest is for clocks that differ.
pub const SEALS_BEHIND: u32 = 2;

/// A publisher or a queue that repeats an event's id within this time repeats the same event (docs/api.md, Files).
pub const REPEAT_WINDOW: Duration = Duration::from_secs(20 * 60);

/// How many seals exports stay behind the clock. Nothing waits for a file as it does for a webhook, and an append that takes
/// effect later than it may is in a file all the same, as long as it comes before this.
pub const EXPORT_SEALS_BEHIND: u32 = 6;

/// The end of what is sealed at `now`: so many seals behind it, at least [`SEALS_BEHIND`]. Nothing appears before it any more.
pub fn horizon(now: Millis, seal: Duration, seals_behind: u32) -> Millis {
    now.before(seal * seals_behind.max(SEALS_BEHIND))
}
