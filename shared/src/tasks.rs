//! What travels in the queues: JSON, one task a message.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use ulid::Ulid;

use crate::clock::Millis;
use crate::event::Event;
use crate::queue::Message;

/// Events of one tenant, accepted by the API, for ingest.
#[derive(Debug, Serialize, Deserialize)]
pub struct IngestTask {
    /// The tenant that published them.
    pub tenant: String,
    /// Events, at most about 256 KiB of them unless it is a single larger one.
    pub events: Vec<Event>,
}

/// Where an event stands in the event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRef {
    /// The segment's ULID.
    pub segment: Ulid,
    /// The segment's shard.
    pub shard: u32,
    /// The event's position in the segment, from 0.
    pub index: u32,
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
    /// Where the event stands in the event log.
    pub event: EventRef,
    /// The event's id, for `webhook-id`.
    pub event_id: String,
    /// The event's name: the filter may have changed since the task was made.
    pub name: String,
    /// Which attempt this will be, from 1.
    pub attempt: u32,
    /// Live or from the event log.
    pub lane: Lane,
    /// The envelope, byte for byte the body of every attempt.
    pub body: Box<RawValue>,
}

/// Which way an event came. Each lane of an integration is a message group of its own, so that a large replay does not
/// hold up what is live (SQS fair queues).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Sent by ingest as it came.
    Live,
    /// Sent by replay from the event log.
    Backfill,
}

impl DeliveryTask {
    /// The message that carries this task, to be received after `delay_seconds` (0 to 900).
    ///
    /// # Errors
    /// Never in practice: every part can be written as JSON.
    pub fn message(&self, delay_seconds: u32) -> Result<Message, serde_json::Error> {
        let lane = match self.lane {
            Lane::Live => "live",
            Lane::Backfill => "backfill",
        };
        let group = format!("{}/{}/{lane}", self.tenant, self.integration_id);
        Ok(Message {
            body: serde_json::to_string(self)?,
            delay_seconds,
            group: Some(group),
        })
    }
}

/// Work for the replay function.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayTask {
    /// Go on with a stream: end its gap, send what is parked and owed.
    Step {
        /// The tenant.
        tenant: String,
        /// The integration's id.
        integration_id: String,
        /// The integration's generation.
        generation: Ulid,
        /// The turn for which this task was sent.
        turn: u64,
    },
    /// Remove what a deleted integration left.
    Purge {
        /// The tenant.
        tenant: String,
        /// The integration's id.
        integration_id: String,
        /// The generation that was deleted.
        generation: Ulid,
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

/// The message that carries a task which is neither delayed nor in a group.
///
/// # Errors
/// Never in practice: every part can be written as JSON.
pub fn message(task: &impl Serialize, delay_seconds: u32) -> Result<Message, serde_json::Error> {
    Ok(Message {
        body: serde_json::to_string(task)?,
        delay_seconds,
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
            event: EventRef {
                segment: Ulid(2),
                shard: 0,
                index: 3,
            },
            event_id: "e".into(),
            name: "order.created".into(),
            attempt: 1,
            lane: Lane::Live,
            body: RawValue::from_string(body.to_owned()).unwrap(),
        };
        let message = task.message(5).unwrap();
        assert_eq!(message.group.as_deref(), Some("acme/erp-1/live"));
        assert_eq!(message.delay_seconds, 5);
        let read: DeliveryTask = serde_json::from_str(&message.body).unwrap();
        assert_eq!(read.body.get(), body);
        assert_eq!(read.event, task.event);
    }
}
