//! What a run of the export asks for, and what it is given.

use std::io;
use std::time::Duration;

use ulid::Ulid;

use crate::export::Plan;
use crate::integration::{Bucket, Integration, IntegrationRef};
use crate::lifecycle::{Applied, Input};
use crate::log::segment::Segment;

/// What bounds a run and its files.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The time limit of the invocation.
    pub time_limit: Duration,
    /// The largest file, in bytes.
    pub max_file_bytes: usize,
}

/// What to do next. Each is answered by the [`Seen`] that is named, or by [`super::Exporting::failed`].
#[derive(Debug)]
pub enum Do {
    /// Read the integration of the task, consistently: [`Seen::Integration`].
    Get,
    /// See whether the event log has anything in this range: [`Seen::HasAny`].
    HasAny {
        /// The first id.
        from: Ulid,
        /// The first id behind it.
        until: Ulid,
    },
    /// Apply this input to the integration, on condition that no other writer comes in between: [`Seen::Applied`].
    Apply(IntegrationRef, Box<Input>),
    /// Read the first segment of a range of the event log: [`Seen::Segment`].
    Read {
        /// How much of each segment.
        content: Content,
        /// The first id.
        from: Ulid,
        /// The first id behind it.
        until: Ulid,
    },
    /// Read the next segment of the same range: [`Seen::Segment`].
    ReadOn,
    /// Get what lets us write into a bucket, for the upload that follows: [`Seen::Granted`]. An owner who refuses that refuses
    /// the upload.
    Grant(Box<Bucket>, Box<Plan>),
    /// Create an object, if it is not there yet: [`Seen::Uploaded`].
    Upload(Upload),
    /// Report this as the error of the run: [`super::Exporting::failed`].
    Report(Problem),
}

/// How much of a segment is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// All of it.
    Whole,
    /// Its id and those of its events.
    Ids,
}

/// An upload of a plan's file.
#[derive(Debug)]
pub struct Upload {
    /// The plan.
    pub plan: Box<Plan>,
    /// The bytes of the file.
    pub body: Vec<u8>,
    /// How long the upload may take.
    pub time_limit: Duration,
}

/// Why a run fails for a reason of ours that is none of a request's.
#[derive(Debug)]
pub enum Problem {
    /// A segment is not what was stored, or there is no memory to decompress it.
    Segment(io::Error),
    /// The event log no longer gives the bytes that a plan was made of. The plan's key.
    PlanMismatch(String),
}

/// What was seen.
#[derive(Debug)]
pub enum Seen {
    /// The integration; none where there is no such.
    Integration(Option<Box<Integration>>),
    /// Whether there is a segment.
    HasAny(bool),
    /// What became of an input; none where the integration is gone.
    Applied(Option<Box<Applied>>),
    /// A segment; none at the end of the range.
    Segment(Option<Segment>),
    /// Credentials, or that there are none for a reason that the bucket's owner has to mend.
    Granted,
    /// An upload is over.
    Uploaded {
        /// Why the file is not in the bucket, or not known to be; none where it is there, by this attempt or an earlier one.
        refusal: Option<Refusal>,
        /// The memory in which the file was, to make the next one in.
        buffer: Vec<u8>,
    },
}

/// Why a file is not in the bucket, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why, as the end of a sentence that begins with `Reason: `.
    pub reason: String,
    /// Whether this attempt was refused, so that it stored nothing; where S3 failed or did not respond, it may have.
    pub is_certain: bool,
}
