//! Bugs to be put in, one at a time: a simulation that does not find them proves nothing.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Gaps are forgotten as soon as they end.
    GapsForgotten,
    /// There is no sweep.
    NoSweep,
    /// A parked event is deleted without regard to its token.
    TokensIgnored,
    /// A probe only ever takes parked events.
    ProbesParkedOnly,
    /// Steps go on whatever turn it is.
    TurnsIgnored,
    /// The end of a gap counts however late it was confirmed.
    UnconfirmedEnds,
    /// Replay reads what is not sealed.
    UnsealedRead,
    /// A chunk that was written and not sent is forgotten.
    UnsentForgotten,
    /// A request for a step while one is at work is ignored.
    NudgesIgnored,
    /// Ingest acknowledges before it has sent the tasks.
    AcknowledgedFirst,
    /// A parked event is not looked after once it is parked.
    ParkedUnheard,
    /// The status is read before the queue is, not right before the attempt.
    StaleStatus,
    /// What there is to read grows with the clock while a step is at work.
    HorizonMoves,
    /// A read takes no notice of the time that is left.
    DeadlineIgnored,
    /// Ingest leaves out what the filter refuses after a stop, too, though the filter may be changed then.
    FilteredAfterStop,
    /// An event that fails for long is given up though no other one was taken since, and whatever time it was stopped.
    AloneUnproven,
    /// The result of an attempt counts whatever the integration was started with since.
    LateResults,
    /// Failures at one moment are an outage, whatever was accepted in between.
    ConcurrentFailures,
}

/// Every bug.
pub const ALL: [Mutant; 18] = [
    Mutant::GapsForgotten,
    Mutant::NoSweep,
    Mutant::TokensIgnored,
    Mutant::ProbesParkedOnly,
    Mutant::TurnsIgnored,
    Mutant::UnconfirmedEnds,
    Mutant::UnsealedRead,
    Mutant::UnsentForgotten,
    Mutant::NudgesIgnored,
    Mutant::AcknowledgedFirst,
    Mutant::ParkedUnheard,
    Mutant::StaleStatus,
    Mutant::HorizonMoves,
    Mutant::DeadlineIgnored,
    Mutant::FilteredAfterStop,
    Mutant::AloneUnproven,
    Mutant::LateResults,
    Mutant::ConcurrentFailures,
];
