//! What a sender wants, and what it sees.

use ulid::Ulid;

use crate::lifecycle::{Applied, Input};
use crate::log::position::{EventRef, Position};
use crate::receiver::outcome::Outcome;
use crate::stream::waiting::{StoredWaiting, WaitingKey};
use crate::time::Millis;

/// A hold that is longer is waited for by the next step: milliseconds.
pub(super) const LONGEST_HOLD: u64 = 2_000;

/// How much a sender takes on. Parameters, so that the simulation reaches every bound with a few events.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many events are finished between two checkpoints at the most; with twice the window, how far it reads ahead.
    pub events: usize,
    /// How many events are asked for in one read.
    pub read: usize,
    /// How many events wait at the most before nothing else is sent.
    pub waiting: usize,
    /// How many owed ranges a stream may have that goes live.
    pub ranges: usize,
    /// How long a checkpoint may be put off: milliseconds.
    pub checkpoint: u64,
}

impl Limits {
    /// After how many waiting events a list may end; where it has as many, there may be more.
    pub fn listed(&self) -> usize {
        2 * self.waiting
    }
}

/// Those of a deployment.
pub const LIMITS: Limits = Limits {
    events: 500,
    read: 500,
    waiting: 10_000,
    ranges: 10,
    checkpoint: 5_000,
};

/// The time of a step.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// By the wall clock, which everyone shares.
    pub wall: Millis,
    /// Milliseconds since the step began, by a clock that only moves forward.
    pub tick: u64,
}

/// What a sender wants to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Do {
    /// Apply this to the integration; then [`Seen::Applied`].
    Apply(Input),
    /// List waiting events, those of the oldest segments first, read consistently: all, or at least [`Limits::listed`]; then
    /// [`Seen::Waiting`].
    List,
    /// Read what is owed, without what repeats in this step's own reading, as far as it passes the filter; then [`Seen::Read`].
    Read {
        /// The first event.
        from: Position,
        /// The first id not to read.
        until: Ulid,
        /// How many events at the most.
        limit: usize,
    },
    /// Post an event, if the integration as it is right now lets it be sent; then [`Seen::Posted`].
    Post {
        /// The attempt: new for each.
        id: u64,
        /// The event.
        event: EventRef,
        /// Which attempt of this event it is, from 1.
        attempt: u32,
    },
    /// Keep an event among the rejected ones; then [`Seen::Rejected`].
    Reject {
        /// The attempt.
        id: u64,
        /// The event.
        event: EventRef,
        /// For the integration log.
        reason: String,
        /// The start of the receiver's response.
        answer: String,
    },
    /// Store items of waiting events, each under a token; then [`Seen::Put`].
    Put(Vec<StoredWaiting>),
    /// Delete items of waiting events; then [`Seen::Dropped`].
    Drop(Vec<WaitingKey>),
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Posted {
    /// It was made. The text says what went wrong, for the integration log; empty where nothing did.
    Made(Outcome, String),
    /// It was not: the filter does not let the event pass any more, or the event log has forgotten it.
    Unwanted,
    /// It was not: the integration is stopped, was started again since, or is gone, or another step is at work.
    Over,
}

/// What a sender has seen.
#[derive(Clone, Debug)]
pub enum Seen {
    /// The integration as it is now, and what became of the input; none when it is gone.
    Applied(Option<Box<Applied>>),
    /// What waits.
    Waiting(Vec<StoredWaiting>),
    /// What was read.
    Read {
        /// The events to send, in order.
        events: Vec<EventRef>,
        /// The position behind what was read.
        next: Position,
    },
    /// What came of an attempt.
    Posted {
        /// The attempt.
        id: u64,
        /// What came of it.
        posted: Posted,
        /// In `0.0..1.0`.
        jitter: f64,
    },
    /// An event is among the rejected ones.
    Rejected {
        /// The attempt.
        id: u64,
    },
    /// The items are stored.
    Put,
    /// The items are deleted.
    Dropped,
}
