//! Bugs to be put in, one at a time: a simulation that does not find them proves nothing.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Gaps are forgotten as soon as they end.
    GapsForgotten,
    /// There is no sweep.
    NoSweep,
    /// Steps go on whatever turn it is.
    TurnsIgnored,
    /// The end of a gap counts however late it was confirmed.
    UnconfirmedEnds,
    /// Replay reads what is not sealed.
    UnsealedRead,
    /// A request for a step while one is at work is ignored.
    NudgesIgnored,
    /// Ingest acknowledges before it has sent the tasks.
    AcknowledgedFirst,
    /// Ingest leaves out what the filter refuses after a stop, too, though the filter may be changed then.
    FilteredAfterStop,
    /// An event that fails for long is given up though no other one was taken since, and whatever time it was stopped.
    AloneUnproven,
    /// The result of an attempt counts whatever the integration was started with since.
    LateResults,
    /// The position is stored before the waiting items of what it passes.
    PositionFirst,
    /// The position moves to the highest event that is done with.
    HighestPosition,
    /// A step is asked for before the waiting item is stored.
    AskedFirst,
    /// A nudge is taken note of, and waiting events are not listed again.
    NudgeUnlisted,
    /// A waiting item is stored under its segment alone.
    KeysReused,
    /// Attempts begin until the lease ends, and later.
    LateAttempts,
    /// The integration is read once by each worker.
    StaleStatus,
    /// A stop is answered as soon as it is written.
    StopAnsweredAtOnce,
    /// Delivery posts the runs of a stream that is served.
    ServedPosted,
    /// A put is taken for done though its items were not processed.
    PutUnprocessed,
    /// A pause that a receiver asked for is forgotten by the next step.
    HoldForgotten,
    /// A probe only ever takes waiting events.
    ProbesWaitingOnly,
    /// A checkpoint is refused once the integration was stopped.
    RefusedOnceStopped,
    /// A step that begins in the middle of a segment begins behind it.
    MidSegment,
    /// A waiting event is deleted before it is stored again.
    DroppedFirst,
    /// Of the fate of events it is said that they are delivered while queues still hold some.
    QueuesUnread,
    /// The filter before is forgotten when it is changed.
    FiltersForgotten,
    /// A rejected event is not noted.
    RejectionsUnnoted,
    /// A run is handed back after its posts since one of its events was rejected.
    RunHandedBack,
    /// A step in which something of ours fails ends at once: nothing is written down.
    FailsUnsaved,
    /// A checkpoint of a stream that is live replaces what delivery has found.
    HealthOverwritten,
    /// A sender of a stream that is live judges the receiver by its own attempts alone.
    OwnAttemptsJudged,
    /// A pause that a receiver asked for has no bound.
    PauseUnbounded,
}

/// Every bug.
pub const ALL: [Mutant; 33] = [
    Mutant::GapsForgotten,
    Mutant::NoSweep,
    Mutant::TurnsIgnored,
    Mutant::UnconfirmedEnds,
    Mutant::UnsealedRead,
    Mutant::NudgesIgnored,
    Mutant::AcknowledgedFirst,
    Mutant::FilteredAfterStop,
    Mutant::AloneUnproven,
    Mutant::LateResults,
    Mutant::PositionFirst,
    Mutant::HighestPosition,
    Mutant::AskedFirst,
    Mutant::NudgeUnlisted,
    Mutant::KeysReused,
    Mutant::LateAttempts,
    Mutant::StaleStatus,
    Mutant::StopAnsweredAtOnce,
    Mutant::ServedPosted,
    Mutant::PutUnprocessed,
    Mutant::HoldForgotten,
    Mutant::ProbesWaitingOnly,
    Mutant::RefusedOnceStopped,
    Mutant::MidSegment,
    Mutant::DroppedFirst,
    Mutant::QueuesUnread,
    Mutant::FiltersForgotten,
    Mutant::RejectionsUnnoted,
    Mutant::RunHandedBack,
    Mutant::FailsUnsaved,
    Mutant::HealthOverwritten,
    Mutant::OwnAttemptsJudged,
    Mutant::PauseUnbounded,
];
