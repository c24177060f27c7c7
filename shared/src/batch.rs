//! Batches of SQS messages: record by record, so that one that fails holds up no other.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use domain::message::{Message, decode};
use domain::metric::Metric;
use domain::tasks::Subject;
use futures_util::future::join_all;
use serde::de::DeserializeOwned;

use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::telemetry::chain;
use crate::trace::Trace;

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
    /// The trace that it was sent in, if that is sampled.
    pub trace: Option<Trace>,
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
        // Hardly any is encoded: the others are what they came as, and not copied.
        let decoded = match decode(&text) {
            Ok(Cow::Owned(body)) => Some(body),
            Ok(Cow::Borrowed(_)) | Err(_) => None,
        };
        let body = decoded.unwrap_or(text);
        let count = message.attributes.get("ApproximateReceiveCount");
        Record {
            receipt: Receipt {
                message_id: message.message_id.unwrap_or_default(),
                handle: message.receipt_handle.unwrap_or_default(),
                count: count.and_then(|count| count.parse().ok()).unwrap_or(1),
            },
            body,
            trace: message
                .attributes
                .get("AWSTraceHeader")
                .and_then(|header| Trace::read(header)),
        }
    };
    event.records.into_iter().map(record).collect()
}

/// The response to Lambda: these messages were not handled, the others are done. Each comes again after a pause that grows from
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

/// At which receive a task that cannot be read is given up. Before, it may be one of a newer version, sent while a deployment is
/// under way or before it was rolled back: the first five receives take two minutes.
const BURIED_AT: u32 = 5;

/// Carries out a batch of tasks side by side. What fails is handed back to `queue`; so is what cannot be read, until it goes to
/// `dead_letters` at its fifth receive, rather than in circles.
pub async fn each<T, E>(
    event: SqsEvent,
    queue: &Queue,
    dead_letters: &Queue,
    metrics: &Metrics,
    carry_out: impl AsyncFn(&T, Option<&Trace>) -> Result<(), E>,
) -> SqsBatchResponse
where
    T: Subject + DeserializeOwned,
    E: Error + 'static,
{
    let (mut tasks, mut failed) = (Vec::new(), Vec::new());
    let (mut unreadable, mut buried) = (Vec::new(), Vec::new());
    for Record {
        receipt,
        body,
        trace,
    } in records(event)
    {
        match serde_json::from_str::<T>(&body) {
            Ok(task) => tasks.push((receipt, task, trace)),
            Err(error) => {
                let (message_id, receives) = (&receipt.message_id, receipt.count);
                tracing::warn!(
                    message_id,
                    receives,
                    error = chain(&error),
                    "a task cannot be read"
                );
                if receives < BURIED_AT {
                    failed.push(receipt);
                } else {
                    unreadable.push(body);
                    buried.push(receipt);
                }
            }
        }
    }
    metrics.count(Metric::TasksUnreadable, buried.len());
    failed.extend(bury(dead_letters, unreadable, buried).await);
    let results = join_all(
        tasks
            .iter()
            .map(|(_, task, trace)| carry_out(task, trace.as_ref())),
    )
    .await;
    for ((receipt, task, _), result) in tasks.into_iter().zip(results) {
        if let Err(error) = result {
            let (tenant, integration) = task.subject();
            tracing::error!(
                tenant,
                integration,
                message_id = receipt.message_id,
                error = chain(&error),
                "a task is handed back"
            );
            metrics.count(Metric::TasksHandedBack, 1);
            failed.push(receipt);
        }
    }
    hand_back(queue, failed).await
}

/// Sends records that no one can read to the dead-letter queue. Returns their receipts where it cannot be reached: they have to
/// be handed out again.
pub async fn bury(
    dead_letters: &Queue,
    bodies: Vec<String>,
    receipts: Vec<Receipt>,
) -> Vec<Receipt> {
    let messages = bodies.into_iter().map(|body| Message {
        body,
        delay_seconds: 0,
        group: None,
    });
    match dead_letters.send(messages.collect()).await {
        Ok(()) => Vec::new(),
        Err(error) => {
            let error = chain(&error);
            tracing::error!(error, "the dead-letter queue cannot be reached");
            receipts
        }
    }
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
