//! Bugs of exports to be put in, one at a time.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The position moves before the upload.
    CommittedFirst,
    /// A plan is dropped, and another one made, though its upload is in doubt.
    PlannedAgainInDoubt,
    /// A later attempt that is refused counts as the only one.
    EarlierAttemptForgotten,
    /// The position moves behind a file that was refused.
    MovedOnRefusal,
    /// The position moves behind all that is sealed, though the file ended before.
    MovedTooFar,
    /// A run plans files of its own whatever plan another one has stored.
    PlanIgnored,
    /// A run begins whoever holds the lease.
    LeaseIgnored,
    /// A run that was held up uploads whatever time it is.
    UploadedLate,
    /// The state is not read once more before an earlier run's plan is finished.
    StateUnread,
    /// What is not sealed is read.
    UnsealedRead,
    /// A plan is stored whatever was changed since the integration was read.
    ChangesUnseen,
    /// The ids before a file are not read.
    RepeatsForgotten,
    /// Each attempt has a key of its own.
    KeyRenewed,
    /// An object is put whether it is there or not.
    Overwritten,
    /// Integrations are written whoever came in between.
    VersionIgnored,
    /// A task that comes again is taken for a new one.
    TasksRenewed,
    /// The last segment of a range is left out.
    LastSegmentUnread,
    /// Files are as large as they come.
    SizeIgnored,
}

/// Every bug.
pub const ALL: [Mutant; 18] = [
    Mutant::CommittedFirst,
    Mutant::PlannedAgainInDoubt,
    Mutant::EarlierAttemptForgotten,
    Mutant::MovedOnRefusal,
    Mutant::MovedTooFar,
    Mutant::PlanIgnored,
    Mutant::LeaseIgnored,
    Mutant::UploadedLate,
    Mutant::StateUnread,
    Mutant::UnsealedRead,
    Mutant::ChangesUnseen,
    Mutant::RepeatsForgotten,
    Mutant::KeyRenewed,
    Mutant::Overwritten,
    Mutant::VersionIgnored,
    Mutant::TasksRenewed,
    Mutant::LastSegmentUnread,
    Mutant::SizeIgnored,
];
