//! Batches of SQS messages: record by record, so that one that fails holds up none beside it.

use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use domain::tasks::Message;

use crate::queue::{Queue, SendError, decode};
use crate::telemetry::chain;

/// How long a record that was handed back is held, by how often it has been received: what fails on our side is mostly over
/// in a moment. Beyond the last, as long as the last; a thousand receives are ten days then.
const PAUSES: [u64; 8] = [2, 10, 30, 60, 120, 300, 600, 900];

/// A received message.
#[derive(Clone, Debug)]
pub struct Record {
    /// What goes back where it could not be handled.
    pub receipt: Receipt,
    /// Its text, as [`Queue::send`] was given it.
    pub body: String,
}

/// One receipt of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// What SQS calls the message.
    pub message_id: String,
    /// What SQS calls this receipt of it.
    pub handle: String,
    /// How often it has been received, this time included.
    pub count: u32,
}

/// The records of a batch. A text that cannot be decoded is handed on as it is: no one will be able to read it.
pub fn records(event: SqsEvent) -> Vec<Record> {
    let record = |message: SqsMessage| {
        let text = message.body.unwrap_or_default();
        let body = decode(&text).map(|body| body.into_owned()).unwrap_or(text);
        let count = message.attributes.get("ApproximateReceiveCount");
        Record {
            receipt: Receipt {
                message_id: message.message_id.unwrap_or_default(),
                handle: message.receipt_handle.unwrap_or_default(),
                count: count.and_then(|count| count.parse().ok()).unwrap_or(1),
            },
            body,
        }
    };
    event.records.into_iter().map(record).collect()
}

/// The answer to Lambda: these messages were not handled, the others are done. Each comes again after a pause that grows from
/// 2 seconds with its receives, in place of the queue's visibility time-out, which lasts for minutes. Where SQS does not
/// accept that, the time-out holds.
pub async fn hand_back(queue: &Queue, failed: Vec<Receipt>) -> SqsBatchResponse {
    let pauses = failed.iter().map(|receipt| {
        let pause = pause(receipt.count, rand::random());
        (receipt.handle.clone(), pause)
    });
    if let Err(error) = queue.hide(pauses.collect()).await {
        tracing::warn!(
            error = chain(&error),
            "records come again only after the queue's visibility time-out"
        );
    }
    let mut response = SqsBatchResponse::default();
    for receipt in failed {
        response.add_failure(receipt.message_id);
    }
    response
}

/// The pause before a record is received again that has been received `count` times; `jitter`, in `0.0..1.0`, takes off up to a
/// quarter, so that what failed together does not come back together.
fn pause(count: u32, jitter: f64) -> Duration {
    let index = (count.max(1) as usize - 1).min(PAUSES.len() - 1);
    Duration::from_secs(PAUSES[index]).mul_f64(1.0 - jitter / 4.0)
}

/// Sends records that no one can read to the dead-letter queue, at once rather than in circles.
///
/// # Errors
/// [`SendError`]: the records have to be handed out again.
pub async fn bury(dead_letters: &Queue, bodies: Vec<String>) -> Result<(), SendError> {
    if bodies.is_empty() {
        return Ok(());
    }
    dead_letters
        .send(
            bodies
                .into_iter()
                .map(|body| Message {
                    body,
                    delay_seconds: 0,
                    group: None,
                })
                .collect(),
        )
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_two_seconds_to_a_quarter_of_an_hour() {
        for (count, seconds) in [
            (0, 2),
            (1, 2),
            (2, 10),
            (3, 30),
            (4, 60),
            (8, 900),
            (900, 900),
        ] {
            assert_eq!(pause(count, 0.0), Duration::from_secs(seconds), "{count}");
            let least = Duration::from_secs(seconds).mul_f64(0.75);
            assert!(pause(count, 0.999) >= least, "{count}");
        }
    }

    #[test]
    fn a_record_knows_its_receipt() {
        let event: SqsEvent = serde_json::from_str(
            r#"{"Records":[{"messageId":"m","receiptHandle":"r","body":"b","attributes":{"ApproximateReceiveCount":"3"}},{"messageId":"n"}]}"#,
        )
        .unwrap();
        let receipts: Vec<Receipt> = records(event).into_iter().map(|it| it.receipt).collect();
        let receipt = |id: &str, handle: &str, count| Receipt {
            message_id: id.to_owned(),
            handle: handle.to_owned(),
            count,
        };
        assert_eq!(receipts, [receipt("m", "r", 3), receipt("n", "", 1)]);
    }
}
