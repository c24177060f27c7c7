//! What sends events: delivery's run ([`crate::run::Posting`]) and replay's step ([`crate::replay::sender::Sender`]).
//!
//! Both are machines without I/O. A driver asks a machine for orders until there is none, begins each at once, and gives back what
//! came of it; when nothing is left to begin it waits for the next answer, or until [`Machine::wake`]. Any order may fail, before or
//! after its effect: that is an answer, too.

mod look;

use std::sync::Arc;

use ulid::Ulid;

use crate::integration::Integration;
use crate::lifecycle::{Applied, Input};
use crate::log::position::{EventRef, Position};
use crate::receiver::outcome::Outcome;
use crate::stream::waiting::{StoredWaiting, WaitingKey};
use crate::time::Millis;

pub use look::{Admission, Holder, Look, admit, look};

/// The time of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// By the wall clock, which everyone shares.
    pub wall: Millis,
    /// Milliseconds since the machine began, by a clock that only moves forward.
    pub tick: u64,
}

/// An order.
#[derive(Clone, Debug, PartialEq)]
pub enum Do {
    /// Read the integration as it is right now; then [`Seen::Looked`].
    Look,
    /// Apply this to the integration; then [`Seen::Applied`].
    Apply(Input),
    /// List waiting events, those of the oldest segments first, read consistently: all, or at least
    /// [`crate::replay::sender::Limits::listed`]; then [`Seen::Waiting`].
    List,
    /// Read what is owed, without what repeats in this step's own reading, as far as it passes the filter; then [`Seen::Read`].
    Read {
        /// The first event.
        from: Position,
        /// The first id not to read.
        until: Ulid,
        /// How many events at most.
        limit: usize,
    },
    /// Post an event, if [`look`] says so of the integration as it is right now; [`Seen::Begun`] when the request begins, then
    /// [`Seen::Posted`].
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

/// Which order it was, of one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// [`Do::Look`].
    Look,
    /// [`Do::Apply`].
    Apply,
    /// [`Do::List`].
    List,
    /// [`Do::Read`].
    Read,
    /// [`Do::Post`], of this attempt. No request was made.
    Post(u64),
    /// [`Do::Reject`], of this attempt.
    Reject(u64),
    /// [`Do::Put`].
    Put,
    /// [`Do::Drop`].
    Drop,
}

impl Do {
    /// Which order it is.
    pub fn order(&self) -> Order {
        match self {
            Do::Look => Order::Look,
            Do::Apply(_) => Order::Apply,
            Do::List => Order::List,
            Do::Read { .. } => Order::Read,
            Do::Post { id, .. } => Order::Post(*id),
            Do::Reject { id, .. } => Order::Reject(*id),
            Do::Put(_) => Order::Put,
            Do::Drop(_) => Order::Drop,
        }
    }
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Posted {
    /// It was made. The text says what went wrong, for the integration log; empty where nothing did.
    Made(Outcome, String),
    /// It was not: the filter does not let the event pass any more, or the event log has forgotten it.
    Unwanted,
    /// It was not: the integration is stopped, was started again since, or is gone, or somebody else sends its events now.
    Over,
    /// It was not, for a reason of ours: this process had no socket for it. It says nothing about the receiver, and is no attempt.
    Unmade,
}

/// The answer to an order.
#[derive(Clone, Debug)]
pub enum Seen {
    /// The integration; none when it is gone.
    Looked(Option<Arc<Integration>>),
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
    /// The request of an attempt begins: what came before was our own.
    Begun {
        /// The attempt.
        id: u64,
        /// When, by the clock of [`Now::tick`].
        at: u64,
    },
    /// What came of an attempt.
    Posted {
        /// The attempt.
        id: u64,
        /// What came of it.
        posted: Posted,
        /// How long the receiver took, in milliseconds, from its request to the status of its response: no body, and nothing of ours.
        took: u64,
        /// Whether the integration, as it was looked at for this attempt, shows failures that a success clears.
        is_failing: bool,
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
    /// Something of ours failed. The order may have had its effect all the same.
    Failed(Order),
}

/// A machine that sends events.
pub trait Machine {
    /// The next order; none until something is seen, or [`Machine::wake`] has come. `id` is a new ULID.
    fn next(&mut self, now: Now, id: Ulid) -> Option<Do>;
    /// Takes note of an answer.
    fn seen(&mut self, seen: Seen, now: Now);
    /// When to call [`Machine::next`] again at the latest, by the clock of [`Now::tick`]: later than `now`.
    fn wake(&self, now: Now) -> u64;
    /// Whether it has ended.
    fn is_over(&self) -> bool;
    /// Whether its task has to come again, for a reason of ours.
    fn is_handed_back(&self) -> bool;
    /// For what its attempts are made.
    fn holder(&self) -> Holder;
}
