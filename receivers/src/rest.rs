//! What follows the status of a response: read as far as it is of use, and within bounds.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::connections::Used;
use crate::kept::Moment;
use crate::response::MAX_KEPT_BYTES;

/// How much of a response is read (docs/api.md, Webhooks).
pub const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// How long the body of a 400 is waited for: its start is kept with the event.
pub(crate) const TEXT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long any other body is waited for. Nothing of it counts, but behind its end the connection can be used again.
pub(crate) const REST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an exchange itself waits for a body that does not count; most come with their status.
const MOMENT: Duration = Duration::from_millis(50);

/// The body of a response, and the connection that it comes by.
pub(crate) struct Rest {
    body: Incoming,
    used: Used,
    /// How much was read.
    bytes: usize,
    /// Its start.
    start: Vec<u8>,
}

impl Rest {
    /// Nothing of it has been read.
    pub(crate) fn new(body: Incoming, used: Used) -> Rest {
        Rest {
            body,
            used,
            bytes: 0,
            start: Vec::new(),
        }
    }

    /// The start of the body, or of what has come of it after `longest`. The connection is kept if that was all.
    pub(crate) async fn text(mut self, longest: Duration, began: Moment) -> Vec<u8> {
        let is_whole = timeout(longest, self.read()).await == Ok(true);
        if is_whole {
            self.used.keep(began.later());
        }
        self.start
    }

    /// Reads a body of which nothing counts, so that the connection can be used again. One that does not come at once is left to a
    /// task of its own: the exchange has ended with its status.
    pub(crate) async fn read_out(mut self, began: Moment) {
        match timeout(MOMENT, self.read()).await {
            Ok(true) => self.used.keep(began.later()),
            Ok(false) => {}
            Err(_) => {
                tokio::spawn(self.text(REST_TIMEOUT, began));
            }
        }
    }

    /// Reads on; whether the end has come. A body that is too long is not read further.
    async fn read(&mut self) -> bool {
        while self.bytes < MAX_ANSWER_BYTES {
            let chunk = match self.body.frame().await {
                None => return true,
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(_)) => return false,
            };
            self.bytes += chunk.len();
            let room = (MAX_KEPT_BYTES - self.start.len()).min(chunk.len());
            self.start.extend_from_slice(&chunk[..room]);
        }
        false
    }
}
