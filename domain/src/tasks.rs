//! The tasks that travel in the queues: JSON, one task per message.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use ulid::Ulid;

use crate::event::Event;
use crate::integration::IntegrationRef;
use crate::log::position::EventRef;
use crate::message::{Message, needs_encoding};
use crate::time::Millis;

/// Events of one tenant, accepted by the API, for ingest.
#[derive(Debug, Serialize, Deserialize)]
pub struct IngestTask {
    /// The tenant that published them.
    pub tenant: String,
    /// The request that published them, for the log; none where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Events, at most about 256 KiB of them unless it is a single larger one.
    pub events: Vec<Event>,
}

/// Live events of one segment for one webhook integration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The tenant.
    pub tenant: String,
    /// The integration's id.
    pub integration_id: String,
    /// The integration's generation; a run of another one is dropped.
    pub generation: Ulid,
    /// The segment of its events.
    pub segment: Ulid,
    /// The segment's shard.
    pub shard: u32,
    /// Its events, at most [`MAX_RUN_EVENTS`] of them and [`MAX_RUN_BYTES`] unless it is a single larger one.
    pub events: Vec<RunEvent>,
}

/// An event of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunEvent {
    /// Its position in the segment, from 0.
    pub index: u32,
    /// Its id, for `webhook-id`.
    pub id: String,
    /// Its name: the filter may have changed since the run was made.
    pub name: String,
    /// The envelope, byte for byte the body of every attempt.
    pub body: Box<RawValue>,
}

/// The most events of a run.
pub const MAX_RUN_EVENTS: usize = 50;
/// The most bytes of a run's events, so that SQS bills it as one message of 64 KB.
pub const MAX_RUN_BYTES: usize = 60_000;
/// What an event of a run takes besides its texts.
const RUN_EVENT_BYTES: usize = 60;

impl Run {
    /// The runs of live events of one segment, in order. One of which SQS does not take the text is a run of its own, since the
    /// whole message is encoded for it.
    pub fn of(
        integration_ref: &IntegrationRef,
        segment: Ulid,
        shard: u32,
        events: impl IntoIterator<Item = RunEvent>,
    ) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut bytes, mut is_closed) = (0, true);
        for event in events {
            let size = event.id.len() + event.name.len() + event.body.get().len() + RUN_EVENT_BYTES;
            let is_alone = needs_encoding(event.body.get());
            match runs.last_mut() {
                Some(run)
                    if !is_closed
                        && !is_alone
                        && run.events.len() < MAX_RUN_EVENTS
                        && bytes + size <= MAX_RUN_BYTES =>
                {
                    bytes += size;
                    run.events.push(event);
                }
                _ => {
                    bytes = size;
                    runs.push(Run {
                        tenant: integration_ref.tenant.clone(),
                        integration_id: integration_ref.integration_id.clone(),
                        generation: integration_ref.generation,
                        segment,
                        shard,
                        events: vec![event],
                    });
                }
            }
            is_closed = is_alone;
        }
        runs
    }

    /// The integration that it is for.
    pub fn integration_ref(&self) -> IntegrationRef {
        IntegrationRef {
            tenant: self.tenant.clone(),
            integration_id: self.integration_id.clone(),
            generation: self.generation,
        }
    }

    /// Where the event of this number in it is in the event log.
    pub fn event(&self, number: usize) -> EventRef {
        EventRef {
            segment: self.segment,
            index: self.events[number].index,
            shard: self.shard,
        }
    }

    /// The message that carries it. Each integration is a message group, so that one with many events does not hold up the others
    /// (SQS fair queues).
    ///
    /// # Errors
    /// Never in practice: every part can be written as JSON.
    pub fn message(&self) -> Result<Message, serde_json::Error> {
        Ok(Message {
            body: serde_json::to_string(self)?,
            delay_seconds: 0,
            group: Some(format!("{}/{}/live", self.tenant, self.integration_id)),
        })
    }
}

/// What travels in a queue, and whose it is.
pub trait Subject {
    /// The tenant, and the integration's id, if it is for one.
    fn subject(&self) -> (&str, &str);
}

impl Subject for Run {
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

impl Subject for IngestTask {
    fn subject(&self) -> (&str, &str) {
        (&self.tenant, "")
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
    /// Continue with a stream: end its gap, send what waits and what is owed.
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

/// The longest delay of an SQS message.
pub const LONGEST_DELAY: Duration = Duration::from_secs(900);

/// The message that carries a task, to be received after `delay` (up to 900 seconds). Each tenant is a message group: one with much
/// work does not hold up the others (SQS fair queues).
///
/// # Errors
/// Never in practice: every part can be written as JSON.
pub fn message(
    task: &(impl Serialize + Subject),
    delay: Duration,
) -> Result<Message, serde_json::Error> {
    Ok(Message {
        body: serde_json::to_string(task)?,
        delay_seconds: whole_seconds(delay),
        group: Some(task.subject().0.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(index: u32, body: &str) -> RunEvent {
        RunEvent {
            index,
            id: "e".into(),
            name: "order.created".into(),
            body: RawValue::from_string(body.to_owned()).unwrap(),
        }
    }

    fn runs(events: Vec<RunEvent>) -> Vec<Run> {
        let integration_ref = IntegrationRef {
            tenant: "acme".into(),
            integration_id: "erp-1".into(),
            generation: Ulid(1),
        };
        Run::of(&integration_ref, Ulid(2), 3, events)
    }

    #[test]
    fn a_run_keeps_the_bodies_bytes() {
        let body = r#"{"tenant":"acme","payload":{"price":1.10,"big":12345678901234567890,"e":1e400,"u":"\u00e9 é"}}"#;
        let run = runs(vec![event(7, body)]).pop().unwrap();
        let message = run.message().unwrap();
        assert_eq!(message.group.as_deref(), Some("acme/erp-1/live"));
        let read: Run = serde_json::from_str(&message.body).unwrap();
        assert_eq!(read.events[0].body.get(), body);
        assert_eq!(
            (read.segment, read.shard, read.events[0].index),
            (Ulid(2), 3, 7)
        );
    }

    #[test]
    fn runs_have_fifty_events_and_sixty_kilobytes_at_the_most() {
        let sizes =
            |events| -> Vec<usize> { runs(events).iter().map(|run| run.events.len()).collect() };
        assert_eq!(
            sizes((0..120).map(|n| event(n, "{}")).collect()),
            [50, 50, 20]
        );
        let large = format!("\"{}\"", "x".repeat(25_000));
        assert_eq!(sizes((0..5).map(|n| event(n, &large)).collect()), [2, 2, 1]);
        let larger = format!("\"{}\"", "x".repeat(200_000));
        assert_eq!(
            sizes(vec![event(0, "{}"), event(1, &larger), event(2, "{}")]),
            [1, 1, 1]
        );
        let encoded = vec![
            event(0, "1"),
            event(1, "\"\u{ffff}\""),
            event(2, "3"),
            event(3, "4"),
        ];
        assert_eq!(sizes(encoded), [1, 1, 2]);
        for run in runs((0..120).map(|n| event(n, "{\"payload\":1}")).collect()) {
            assert!(run.message().unwrap().body.len() < 64_000);
        }
    }
}
