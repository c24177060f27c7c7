//! Batches of SQS messages: record by record, so that one that fails holds up none beside it.

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};

use crate::queue::{Message, Queue, SendError, decode};

/// A received message.
#[derive(Clone, Debug)]
pub struct Record {
    /// What SQS calls it; goes back where it could not be handled.
    pub message_id: String,
    /// Its text, as [`Queue::send`] was given it.
    pub body: String,
}

/// The records of a batch. A text that cannot be decoded is handed on as it is: nobody will be able to read it.
pub fn records(event: SqsEvent) -> Vec<Record> {
    let record = |message: SqsMessage| {
        let text = message.body.unwrap_or_default();
        let body = decode(&text).map(|body| body.into_owned()).unwrap_or(text);
        Record {
            message_id: message.message_id.unwrap_or_default(),
            body,
        }
    };
    event.records.into_iter().map(record).collect()
}

/// The answer to Lambda: these messages are to be handed out again, the others are done.
pub fn response(failed: impl IntoIterator<Item = String>) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    for message_id in failed {
        response.add_failure(message_id);
    }
    response
}

/// Sends records that nobody can read to the dead-letter queue, at once rather than in circles.
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
