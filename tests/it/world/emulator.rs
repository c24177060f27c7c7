//! Tables and queues on the emulator.

use std::collections::HashMap;

use aws_lambda_events::sqs::SqsEvent;
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName, QueueAttributeName,
};
use serde_json::{Value, json};

/// The tables' names.
pub struct Tables {
    pub integrations: String,
    pub events: String,
}

/// The queues' URLs.
pub struct Queues {
    pub ingest: String,
    pub delivery: String,
    pub replay: String,
    pub export: String,
    pub dead_letters: String,
}

pub fn event(messages: &[Message]) -> SqsEvent {
    let records: Vec<Value> =
        messages.iter().map(|message| json!({"messageId": message.message_id(), "receiptHandle": message.receipt_handle(), "body": message.body(), "attributes": attributes(message), "eventSource": "aws:sqs"})).collect();
    serde_json::from_value(json!({ "Records": records })).unwrap()
}

/// As Lambda hands them over.
fn attributes(message: &Message) -> HashMap<String, String> {
    let attributes = message.attributes.iter().flatten();
    let attributes = attributes.map(|(name, value)| (name.as_str().to_owned(), value.clone()));
    attributes.collect()
}

pub async fn receive(sqs: &aws_sdk_sqs::Client, queue: &str, wait_seconds: i32) -> Vec<Message> {
    let answer = sqs
        .receive_message()
        .queue_url(queue)
        .max_number_of_messages(10)
        .wait_time_seconds(wait_seconds)
        .message_system_attribute_names(MessageSystemAttributeName::AwsTraceHeader)
        .send()
        .await
        .unwrap();
    answer.messages.unwrap_or_default()
}

pub async fn delete(sqs: &aws_sdk_sqs::Client, queue: &str, messages: &[Message]) {
    let entries = messages.iter().enumerate().map(|(index, message)| {
        DeleteMessageBatchRequestEntry::builder()
            .id(index.to_string())
            .receipt_handle(message.receipt_handle().unwrap())
            .build()
            .unwrap()
    });
    sqs.delete_message_batch()
        .queue_url(queue)
        .set_entries(Some(entries.collect()))
        .send()
        .await
        .unwrap();
}

pub async fn create_queue(sqs: &aws_sdk_sqs::Client, world: &str, name: &str) -> String {
    sqs.create_queue()
        .queue_name(format!("{world}-{name}"))
        .send()
        .await
        .unwrap()
        .queue_url
        .unwrap()
}

/// What SQS says of a queue.
pub async fn queue_attribute(
    sqs: &aws_sdk_sqs::Client,
    queue: &str,
    name: QueueAttributeName,
) -> String {
    let answer = sqs
        .get_queue_attributes()
        .queue_url(queue)
        .attribute_names(name.clone())
        .send()
        .await
        .unwrap();
    answer.attributes.unwrap()[&name].clone()
}

/// Makes an empty table with the keys and indexes of the one that the template deployed.
pub async fn copy_table(
    dynamodb: &aws_sdk_dynamodb::Client,
    variable: &str,
    world: &str,
) -> String {
    use aws_sdk_dynamodb::types::{BillingMode, GlobalSecondaryIndex};
    let deployed = shared::env::required(variable);
    let table = dynamodb
        .describe_table()
        .table_name(&deployed)
        .send()
        .await
        .unwrap()
        .table
        .unwrap();
    let name = format!("{world}-{deployed}");
    let indexes: Vec<GlobalSecondaryIndex> = table
        .global_secondary_indexes()
        .iter()
        .map(|index| {
            GlobalSecondaryIndex::builder()
                .index_name(index.index_name().unwrap())
                .set_key_schema(index.key_schema.clone())
                .set_projection(index.projection.clone())
                .build()
                .unwrap()
        })
        .collect();
    dynamodb
        .create_table()
        .table_name(&name)
        .set_key_schema(table.key_schema)
        .set_attribute_definitions(table.attribute_definitions)
        .set_global_secondary_indexes((!indexes.is_empty()).then_some(indexes))
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
        .unwrap();
    name
}
