//! The outcome of an attempt.

use std::time::Duration;

/// An attempt as it was made: what came of it, and what is measured of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What came of it.
    pub outcome: Outcome,
    /// The status of the response; none where none came.
    pub status: Option<u16>,
    /// Why no response came; none where one did.
    pub lack: Option<Lack>,
    /// How long the receiver took, from the request, connecting included, to the status of the response or to what failed. Neither
    /// what was waited for before, nor the body.
    pub took: Duration,
}

/// Why no response came, as metrics distinguish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Nothing was sent: the address is not allowed, or the request cannot be made.
    Blocked,
    /// The host name could not be resolved.
    Name,
    /// No connection was made, or it broke.
    Connection,
    /// TLS failed: the certificate, or the negotiation.
    Tls,
    /// Time ran out.
    Time,
    /// What came is not HTTP.
    Protocol,
    /// Nothing was sent: this process had no socket for it. A failure of ours, which says nothing about the receiver.
    Socket,
}

impl Exchange {
    /// Whether it was never made, for a reason of ours: the event is tried again, as if it had not been tried, and nothing is counted
    /// against the receiver.
    pub fn is_ours(&self) -> bool {
        self.lack == Some(Lack::Socket)
    }
}

/// What came of an attempt. A receiver's response is a value, never an error of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx: the receiver has it.
    Delivered,
    /// 400: the receiver will never take this event. The start of its response, without control characters.
    Rejected(String),
    /// 410: the receiver wants nothing any more.
    Gone,
    /// Anything else: to be tried again.
    Failed(Failure),
}

impl Outcome {
    /// Why the event was not taken, as a part of a sentence; none where it was.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Outcome::Delivered => None,
            Outcome::Rejected(_) => Some("bad request (HTTP status code 400)"),
            Outcome::Gone => Some("gone (HTTP status code 410)"),
            Outcome::Failed(failure) => Some(&failure.reason),
        }
    }
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For the integration log: `too many requests (HTTP status code 429)`.
    pub reason: String,
    /// How long the receiver asks us to wait.
    pub retry_after: Option<Duration>,
    /// Whether it says that the receiver takes no more requests now, or that there is none: it has responded with 429, 502, 503 or
    /// 504, or not at all. Any other failure may be this event's own.
    pub is_refusal: bool,
}
