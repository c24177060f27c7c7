//! An event, what is noted of one that was rejected, and what is said of it.

use crate::log::position::{EventRef, Position};
use crate::time::Millis;

/// What has become of an event.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, strum::AsRefStr, strum::EnumString, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum EventStatus {
    /// The receiver has taken it.
    Delivered,
    /// It was published a moment ago: it is on its way, or has just been taken.
    Sending,
    /// At least one attempt failed, and another one follows.
    Retrying,
    /// It is to be sent, and no attempt of it is known to have failed.
    Waiting,
    /// The receiver has refused it for good, or it was given up.
    Rejected,
    /// It is in a file.
    Exported,
    /// It is not sent: it lies outside of the integration's range, or did not pass its filter.
    Skipped,
}

/// What is known of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// What has become of it.
    pub status: EventStatus,
    /// Whether that is known, and not only likely.
    pub is_certain: bool,
    /// How many attempts of it are known to have failed.
    pub attempts: u32,
    /// When the next attempt is due.
    pub next_attempt_at: Option<Millis>,
    /// Why the last attempt failed, why it was rejected, or why it is skipped.
    pub reason: Option<String>,
    /// The key of the file that covers its position.
    pub file: Option<String>,
}

/// An event of the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Where it is.
    pub event: EventRef,
    /// Its id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl Event<'_> {
    /// When it was published.
    pub fn published_at(&self) -> Millis {
        Millis(self.event.segment.timestamp_ms())
    }

    /// Its position.
    pub(super) fn position(&self) -> Position {
        Position {
            segment: self.event.segment,
            index: self.event.index,
        }
    }
}

/// A note of an event that was rejected: it stays when the rejected event itself has to make room, or is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where the event is.
    pub event: EventRef,
    /// Its id.
    pub id: String,
    /// When it was rejected.
    pub at: Millis,
    /// The start of the receiver's response, or why it was given up.
    pub reason: String,
}
