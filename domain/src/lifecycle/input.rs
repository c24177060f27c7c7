//! Everything that can happen to an integration.

use std::time::Duration;

use ulid::Ulid;

use crate::export::Plan;
use crate::filter::Filter;
use crate::integration::Bucket;
use crate::log::position::{EventRef, Position};
use crate::log::{SEALS_BEHIND, horizon};
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
    /// Delivery has parked an event.
    Parked,
    /// Delivery has settled the last event of a chunk.
    ChunkDone,
    /// The receiver has taken an event, or rejected it.
    Succeeded {
        /// The start for which the attempt was made.
        epoch: u64,
    },
    /// An attempt has failed.
    Failed {
        /// The start for which the attempt was made.
        epoch: u64,
        /// The event.
        event_id: String,
        /// For the integration log.
        reason: String,
        /// After which pause the event is sent again.
        pause: Duration,
    },
    /// The receiver has taken a probe, or rejected its event.
    ProbeSucceeded {
        /// When the interruption began.
        since: Millis,
    },
    /// A probe has failed.
    ProbeFailed {
        /// When the interruption began.
        since: Millis,
        /// For the integration log.
        reason: String,
        /// What the receiver asked for.
        retry_after: Option<Duration>,
        /// In `0.0..1.0`.
        jitter: f64,
    },
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
    /// It takes on a chunk of events, or moves past some that are not wanted.
    Take {
        /// The chunk; its item is written together with the state.
        chunk: Option<Ulid>,
        /// The position behind what was owed of it; none when it comes from the parked events.
        to: Option<Position>,
        /// Whether the end of the gap is known to have been confirmed in time.
        confirmed: bool,
    },
    /// It sends a probe, and leaves.
    Probe {
        /// The parked event.
        event: EventRef,
        /// The position behind the event, when it had been owed.
        to: Option<Position>,
    },
    /// It has found nothing to probe with.
    NothingToProbe,
    /// It leaves.
    Leave {
        /// Whether the end of the gap is known to have been confirmed in time.
        confirmed: bool,
        /// The chunk that it sent last.
        sent: Option<Ulid>,
        /// What it leaves behind.
        rest: Rest,
    },
}

/// What a step leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// There is more to send, at once.
    More,
    /// What was sent has to be settled first: there is too much of it to send more.
    Outstanding,
    /// All that could be read was sent, and not all of it is settled.
    Unsettled,
    /// All that could be read was sent and settled, and nothing is parked.
    Nothing,
    /// Something of ours failed.
    Failed,
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
