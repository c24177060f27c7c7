//! Sending to SQS: in batches, as large as SQS takes them.

use std::error::Error;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, MessageSystemAttributeNameForSends,
    MessageSystemAttributeValue, QueueAttributeName, SendMessageBatchRequestEntry,
};
use domain::message::{Message, encode, needs_encoding};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::trace::Trace;

/// The most messages that a batch can have (SQS).
const MAX_BATCH: usize = 10;
/// The largest batch, and the largest message, in bytes (SQS since August 2025: 1 MiB).
const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// How many batches are on their way at a time.
const CONCURRENCY: usize = 16;
/// How often messages that SQS refused one by one are sent again before the whole call fails.
const MAX_TRIES: usize = 3;

/// A queue to send to.
#[derive(Clone, Debug)]
pub struct Queue {
    client: Client,
    url: String,
}

/// SQS failed: of messages to be sent, some may have been.
#[derive(Debug, thiserror::Error)]
#[error("SQS failed")]
pub struct SendError(#[source] Box<dyn Error + Send + Sync>);

impl Queue {
    /// The queue at `url`.
    pub fn new(client: Client, url: String) -> Queue {
        Queue { client, url }
    }

    /// Sends all messages. Where it fails, some may have been sent.
    ///
    /// # Errors
    /// [`SendError`] when SQS does not respond, or refuses messages several times.
    pub async fn send(&self, messages: Vec<Message>) -> Result<(), SendError> {
        self.send_in(messages, None).await
    }

    /// As [`Queue::send`], within a trace.
    ///
    /// # Errors
    /// Those of [`Queue::send`].
    pub async fn send_in(
        &self,
        mut messages: Vec<Message>,
        trace: Option<&Trace>,
    ) -> Result<(), SendError> {
        let header = trace.map(Trace::header);
        for message in &mut messages {
            if needs_encoding(&message.body) {
                message.body = encode(&message.body);
            }
        }
        stream::iter(batches(messages))
            .map(|batch| self.send_batch(batch, header.as_deref()))
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await
    }

    /// Whether SQS counts no message in it: none to be received, none received and not deleted, none delayed. It counts
    /// approximately: a message of the last minute may be missed.
    ///
    /// # Errors
    /// [`SendError`] when SQS does not respond.
    pub async fn is_empty(&self) -> Result<bool, SendError> {
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessagesDelayed)
            .send()
            .await
            .map_err(|error| SendError(Box::new(error)))?;
        let mut counts = answer.attributes.unwrap_or_default().into_values();
        Ok(counts.all(|count| count == "0"))
    }

    /// Hides received messages for so long from now on, by their receipt handles. What SQS refuses, since the message has been
    /// received again or is gone, is left as it is.
    ///
    /// # Errors
    /// [`SendError`] when SQS does not respond.
    pub async fn hide(&self, pauses: Vec<(String, Duration)>) -> Result<(), SendError> {
        for batch in pauses.chunks(MAX_BATCH) {
            let entries = batch.iter().enumerate().map(|(index, (handle, pause))| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(handle)
                    .visibility_timeout(pause.as_secs_f64().ceil() as i32)
                    .build()
            });
            let entries = entries.collect::<Result<_, _>>();
            self.client
                .change_message_visibility_batch()
                .queue_url(&self.url)
                .set_entries(Some(entries.map_err(|error| SendError(Box::new(error)))?))
                .send()
                .await
                .map_err(|error| SendError(Box::new(error)))?;
        }
        Ok(())
    }

    async fn send_batch(
        &self,
        mut batch: Vec<Message>,
        trace: Option<&str>,
    ) -> Result<(), SendError> {
        let mut refusal = String::new();
        for _ in 0..MAX_TRIES {
            let entries = batch
                .iter()
                .enumerate()
                .map(|(index, message)| entry(index, message, trace))
                .collect::<Result<_, _>>();
            let answer = self
                .client
                .send_message_batch()
                .queue_url(&self.url)
                .set_entries(Some(entries.map_err(|error| SendError(Box::new(error)))?))
                .send()
                .await
                .map_err(|error| SendError(Box::new(error)))?;
            let refused: Vec<usize> = answer
                .failed()
                .iter()
                .filter_map(|failed| failed.id().parse().ok())
                .collect();
            let Some(first) = answer.failed().first() else {
                return Ok(());
            };
            refusal = format!("{}: {}", first.code(), first.message().unwrap_or_default());
            let mut index = 0;
            batch.retain(|_| {
                index += 1;
                refused.contains(&(index - 1))
            });
        }
        Err(SendError(refusal.into()))
    }
}

fn entry(
    index: usize,
    message: &Message,
    trace: Option<&str>,
) -> Result<SendMessageBatchRequestEntry, aws_sdk_sqs::error::BuildError> {
    let mut entry = SendMessageBatchRequestEntry::builder();
    if let Some(trace) = trace {
        let header = MessageSystemAttributeValue::builder().data_type("String");
        let header = header.string_value(trace).build()?;
        let name = MessageSystemAttributeNameForSends::AwsTraceHeader;
        entry = entry.message_system_attributes(name, header);
    }
    entry
        .id(index.to_string())
        .message_body(&message.body)
        .delay_seconds(message.delay_seconds.min(900) as i32)
        .set_message_group_id(message.group.clone())
        .build()
}

/// Puts messages, as SQS carries them, into batches of at most [`MAX_BATCH`] and [`MAX_BATCH_BYTES`], in order.
fn batches(messages: Vec<Message>) -> Vec<Vec<Message>> {
    let mut batches: Vec<Vec<Message>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        let size = message.body.len();
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_BATCH && bytes + size <= MAX_BATCH_BYTES => {
                bytes += size;
                batch.push(message);
            }
            _ => {
                bytes = size;
                batches.push(vec![message]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Message {
        Message {
            body: "x".repeat(bytes),
            delay_seconds: 0,
            group: None,
        }
    }

    #[test]
    fn batches_keep_to_sqss_limits() {
        let sizes =
            |messages: Vec<Message>| batches(messages).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(vec![]), Vec::<usize>::new());
        assert_eq!(sizes(vec![message(1); 25]), [10, 10, 5]);
        assert_eq!(sizes(vec![message(400_000); 5]), [2, 2, 1]);
        assert_eq!(sizes(vec![message(MAX_BATCH_BYTES), message(1)]), [1, 1]);
    }
}
