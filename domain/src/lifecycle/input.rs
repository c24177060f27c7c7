//! Everything that can happen to an integration.

use std::time::Duration;

use ulid::Ulid;

use crate::export::Plan;
use crate::filter::Filter;
use crate::integration::Bucket;
use crate::log::position::Position;
use crate::log::{SEALS_BEHIND, horizon};
use crate::stream::Because;
use crate::stream::health::Health;
use crate::stream::pace::Pace;
use crate::time::Millis;

/// What a deployment decides.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The seal of the event log.
    pub seal: Duration,
    /// For how long all attempts have to fail before an integration is stopped, or one event's before it is rejected.
    pub give_up: Duration,
    /// For how long events are kept.
    pub retention: Duration,
}

impl Rules {
    /// The end of what is sealed at `now`.
    pub fn horizon(&self, now: Millis) -> Millis {
        horizon(now, self.seal, SEALS_BEHIND)
    }

    /// The first instant of which events are kept at `now`.
    pub fn oldest(&self, now: Millis) -> Millis {
        now.before(self.retention)
    }
}

/// Something that happened to an integration.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The API was asked to start it.
    Start,
    /// The API was asked to stop it.
    Stop {
        /// For the integration log.
        reason: String,
    },
    /// The receiver wants nothing any more (410).
    Gone {
        /// The start for which the attempt was made ([`crate::stream::Stream::epoch`]).
        epoch: u64,
        /// For the integration log.
        reason: String,
    },
    /// Delivery has worked off a run, or has to say something about the receiver before it is done.
    Ran(Ran),
    /// A step of replay.
    Step {
        /// The turn that the step holds; at its beginning, the one of its task.
        turn: u64,
        /// What the step does.
        step: StepInput,
    },
    /// A run of the export.
    Export {
        /// The run: a ULID of its own, under which it holds the lease.
        holder: Ulid,
        /// What the run does.
        run: Box<ExportInput>,
    },
}

/// What came of a run, as far as it changes anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ran {
    /// The start for which its attempts were made.
    pub epoch: u64,
    /// Whether the receiver has taken an event, or refused one for good.
    pub is_taken: bool,
    /// The attempts that failed.
    pub failed: Option<RanFailed>,
    /// Whether the receiver takes no more requests now, or does not answer, and that is no hiccup.
    pub is_refused: bool,
    /// Whether it refused some in a row: three runs that see that within two seconds are no hiccup.
    pub is_strike: bool,
    /// What it asked for then.
    pub hold: Option<Duration>,
    /// Whether it is slow.
    pub is_slow: bool,
    /// When the first of the events is due that were put down as waiting ones; they are stored already.
    pub due_at: Option<Millis>,
}

/// Attempts of a run that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct RanFailed {
    /// Their events, by a text for each: only those that have failed since one was taken, and for the first time since then. The
    /// others may never be taken, and show nothing.
    pub events: Vec<String>,
    /// When the first of these failed.
    pub since: Millis,
    /// For the integration log.
    pub reason: String,
}

/// What a step of replay does to a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum StepInput {
    /// It begins.
    Begin {
        /// A ULID of its own.
        holder: Ulid,
        /// When it will be over for certain.
        until: Millis,
    },
    /// It ends the gap of a permanent stream, or moves an end that was confirmed too late.
    Open,
    /// It writes down how far it is.
    Checkpoint(Box<Checkpoint>),
    /// It leaves.
    Leave {
        /// Whether the end of the gap is known to have been confirmed in time.
        confirmed: bool,
        /// What it leaves behind.
        rest: Rest,
    },
}

/// How far a sender is, and what it has seen of the receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The start for which its attempts were made.
    pub epoch: u64,
    /// Where the first owed range stood on which the next two go; none while nothing of it was read.
    pub from: Option<Position>,
    /// Everything before is done with or is in a waiting item.
    pub to: Position,
    /// The same, but only as far as events were sent: where the filter may have changed, what it refused behind them is read again.
    pub sent: Position,
    /// Whether it is this sender that judges the receiver: the stream was served when it looked last. Otherwise delivery does.
    pub is_judge: bool,
    /// How the receiver has been responding, as the judge says.
    pub health: Health,
    /// What this sender has seen since its last checkpoint, for the judge.
    pub ran: Ran,
    /// What it takes.
    pub pace: Pace,
    /// How many events wait.
    pub waiting: u32,
    /// The last failure since the checkpoint before, for the integration log.
    pub failure: Option<String>,
    /// Why the stream has to be served from now on, if it is live.
    pub serve: Option<Because>,
    /// Whether waiting events are listed again after this.
    pub hears: bool,
    /// Whether the end of the gap is known to have been confirmed in time.
    pub confirmed: bool,
}

/// What a step leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// When there is something to do next, besides reading what is sealed by then.
    pub next: Option<Millis>,
    /// Whether any event waits for another attempt.
    pub waits: bool,
    /// Whether the step has sent anything, or moved on.
    pub has_moved: bool,
    /// Whether something of ours failed.
    pub has_failed: bool,
}

/// What a run of the export does.
#[derive(Clone, Debug, PartialEq)]
pub enum ExportInput {
    /// It takes the lease.
    Begin {
        /// Until when the lease is held at the most.
        until: Millis,
    },
    /// It plans a file, before it uploads it.
    Plan {
        /// The plan.
        plan: Plan,
        /// What the plan was made of.
        read: ExportRead,
    },
    /// It moves on over a range in which no event passes the filter.
    Skip {
        /// The position to move to.
        until: Ulid,
        /// What was read.
        read: ExportRead,
    },
    /// The file of a plan is in the bucket.
    Finish {
        /// The plan.
        plan: Plan,
    },
    /// An upload has failed.
    Fail {
        /// The plan.
        plan: Plan,
        /// Why, as a part of a sentence.
        reason: String,
        /// Whether the file is not in the bucket for certain: this was its only attempt, and it was refused.
        is_absent: bool,
    },
    /// The file of a plan cannot be made again.
    GiveUp {
        /// The plan.
        plan: Plan,
    },
    /// It gives the lease back.
    Release {
        /// Whether it failed for a reason of ours.
        has_failed: bool,
    },
}

/// What a file was made of. What an update has changed since holds for the next file already.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportRead {
    /// The bucket.
    pub bucket: Bucket,
    /// The filter.
    pub filter: Option<Filter>,
    /// The position from which it was read.
    pub position: Ulid,
}
