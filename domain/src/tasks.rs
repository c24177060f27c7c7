//! The tasks that travel in the queues: JSON, one task per message.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use ulid::Ulid;

use crate::event::Event;
use crate::integration::IntegrationRef;
use crate::log::position::EventRef;
use crate::time::Millis;

/// A message to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The text.
    pub body: String,
    /// For how long it is hidden: 0 to 900 seconds.
    pub delay_seconds: u32,
    /// The message group: on a standard queue, messages of one group share a fair part of the queue.
    pub group: Option<String>,
}

/// Events of one tenant, accepted by the API, for ingest.
#[derive(Debug, Serialize, Deserialize)]
pub struct IngestTask {
    /// The tenant that published them.
    pub tenant: String,
    /// Events, at most about 256 KiB of them unless it is a single larger one.
    pub events: Vec<Event>,
}

/// One event for one webhook integration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeliveryTask {
    /// The tenant.
    pub tenant: String,
    /// The integration's id.
    pub integration_id: String,
    /// The integration's generation; a task of another one is dropped.
    pub generation: Ulid,
    /// Which event, and which attempt.
    pub dispatch: Dispatch,
    /// The envelope, byte for byte the body of every attempt.
    pub body: Box<RawValue>,
}

/// An event on its way to a receiver, without its envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispatch {
    /// Where the event is in the event log.
    pub event: EventRef,
    /// The event's id, for `webhook-id`.
    pub event_id: String,
    /// The event's name: the filter may have changed since the task was made.
    pub name: String,
    /// Which attempt this will be, from 1.
    pub attempt: u32,
    /// When its first attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Millis>,
    /// Which way it came, and so where its result is noted.
    pub origin: Origin,
}

/// Which way an event came. Each lane of an integration is a message group of its own, so that a large replay does not
/// hold up what is live (SQS fair queues).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Sent by ingest as it came.
    Live,
    /// Sent by replay, as part of a chunk.
    Chunk {
        /// The chunk.
        chunk: Ulid,
        /// The event's number in it.
        index: u32,
    },
    /// A probe of an interrupted stream, with a parked event.
    Probe {
        /// When the interruption began: a probe of another one is dropped.
        since: Millis,
        /// The parked event's token.
        token: Ulid,
    },
}

impl DeliveryTask {
    /// The message that carries this task, to be received after `delay` (up to 900 seconds).
    ///
    /// # Errors
    /// Never in practice: every part can be written as JSON.
    pub fn message(&self, delay: Duration) -> Result<Message, serde_json::Error> {
        let lane = match self.dispatch.origin {
            Origin::Live => "live",
            Origin::Chunk { .. } => "backfill",
            Origin::Probe { .. } => "probe",
        };
        let group = format!("{}/{}/{lane}", self.tenant, self.integration_id);
        Ok(Message {
            body: serde_json::to_string(self)?,
            delay_seconds: whole_seconds(delay),
            group: Some(group),
        })
    }
}

/// Whose task it is, for traces: tenant and integration.
pub trait Subject {
    /// The tenant, and the integration's id.
    fn subject(&self) -> (&str, &str);
}

impl Subject for DeliveryTask {
    fn subject(&self) -> (&str, &str) {
        (&self.tenant, &self.integration_id)
    }
}

impl Subject for ReplayTask {
    fn subject(&self) -> (&str, &str) {
        let (ReplayTask::Step {
            integration_ref, ..
        }
        | ReplayTask::Purge { integration_ref }) = self;
        (&integration_ref.tenant, &integration_ref.integration_id)
    }
}

impl Subject for ExportTask {
    fn subject(&self) -> (&str, &str) {
        (&self.tenant, &self.integration_id)
    }
}

/// A delay as SQS takes it: whole seconds, never early.
fn whole_seconds(delay: Duration) -> u32 {
    delay.as_secs_f64().ceil() as u32
}

/// Work for the replay function.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayTask {
    /// Continue with a stream: end its gap, send what is parked and owed.
    Step {
        /// The integration.
        #[serde(flatten)]
        integration_ref: IntegrationRef,
        /// The turn for which this task was sent.
        turn: u64,
    },
    /// Remove what a deleted integration left.
    Purge {
        /// The integration, of the generation that was deleted.
        #[serde(flatten)]
        integration_ref: IntegrationRef,
    },
}

/// Write the files that are due for one S3 integration.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportTask {
    /// The tenant.
    pub tenant: String,
    /// The integration's id.
    pub integration_id: String,
    /// The tick for which this task was sent.
    pub sent_at: Millis,
}

/// A call of the delivery function by the API, which waits for the response: try a rejected event again.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryRejected {
    /// The tenant.
    pub tenant: String,
    /// The integration's id.
    pub integration_id: String,
    /// The integration's generation.
    pub generation: Ulid,
    /// The event's id.
    pub event_id: String,
}

/// What came of [`RetryRejected`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retried {
    /// Delivered, and no longer among the rejected events.
    Delivered,
    /// Still refused, and kept: why, as a part of a sentence.
    Refused(String),
    /// There is no such integration, or no such rejected event.
    NotFound,
}

/// The longest delay of an SQS message.
pub const LONGEST_DELAY: Duration = Duration::from_secs(900);

/// The message that carries a task which is in no group, to be received after `delay` (up to 900 seconds).
///
/// # Errors
/// Never in practice: every part can be written as JSON.
pub fn message(task: &impl Serialize, delay: Duration) -> Result<Message, serde_json::Error> {
    Ok(Message {
        body: serde_json::to_string(task)?,
        delay_seconds: whole_seconds(delay),
        group: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_task_keeps_the_bodys_bytes() {
        let body = r#"{"tenant":"acme","payload":{"price":1.10,"big":12345678901234567890,"e":1e400,"u":"\u00e9 é"}}"#;
        let task = DeliveryTask {
            tenant: "acme".into(),
            integration_id: "erp-1".into(),
            generation: Ulid(1),
            dispatch: Dispatch {
                event: EventRef {
                    segment: Ulid(2),
                    index: 3,
                    shard: 0,
                },
                event_id: "e".into(),
                name: "order.created".into(),
                attempt: 1,
                failing_since: Some(Millis(7)),
                origin: Origin::Probe {
                    since: Millis(9),
                    token: Ulid(5),
                },
            },
            body: RawValue::from_string(body.to_owned()).unwrap(),
        };
        let message = task.message(Duration::from_millis(4_001)).unwrap();
        assert_eq!(message.group.as_deref(), Some("acme/erp-1/probe"));
        assert_eq!(message.delay_seconds, 5);
        let read: DeliveryTask = serde_json::from_str(&message.body).unwrap();
        assert_eq!(read.body.get(), body);
        assert_eq!(read.dispatch, task.dispatch);
    }
}
