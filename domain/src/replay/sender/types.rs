//! How much a sender takes on.

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
