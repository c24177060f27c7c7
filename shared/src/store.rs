//! The stores in DynamoDB, one module per kind of item. No SDK type leaves them.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::builders::DeleteItemFluentBuilder;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, WriteRequest};
use domain::integration::IntegrationRef;
use ulid::Ulid;

pub mod activities;
pub mod changes;
pub mod event_log;
pub mod exported_files;
pub mod fates;
pub mod integration_log;
pub mod integrations;
pub mod rejected_events;
pub mod waiting_events;

/// Why a store could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such item.
    #[error("there is no such item")]
    NotFound,
    /// The key is taken.
    #[error("the key is taken")]
    AlreadyExists,
    /// The tenant has as many integrations as it can have.
    #[error("the limit is reached")]
    LimitReached,
    /// Another writer came in between; reading and deciding again may help.
    #[error("the item was changed by another writer")]
    Changed,
    /// What is stored cannot be read.
    #[error("a stored item cannot be read")]
    Unreadable(#[source] Box<dyn Error + Send + Sync>),
    /// DynamoDB did not respond, or refused.
    #[error("DynamoDB failed")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

/// The most requests of a batch (DynamoDB).
const MAX_BATCH: usize = 25;
/// How often in a row DynamoDB may process nothing of a batch before the whole call fails.
const MAX_TRIES: u32 = 8;

/// A DynamoDB item.
type Item = HashMap<String, AttributeValue>;

/// Turns a failed call into [`StoreError`]: a condition that did not hold becomes `conditional`.
fn failure<E>(error: SdkError<E>, conditional: StoreError) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code)
    {
        Some("ConditionalCheckFailedException") => conditional,
        _ => StoreError::Unavailable(Box::new(error)),
    }
}

/// Turns a failed call without conditions into [`StoreError`].
fn unavailable<E>(error: SdkError<E>) -> StoreError
where
    E: Error + Send + Sync + 'static,
{
    StoreError::Unavailable(Box::new(error))
}

fn unreadable(what: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::Unreadable(what.into())
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn text_of(item: &Item, name: &str) -> Result<String, StoreError> {
    let value = item.get(name).and_then(|value| value.as_s().ok());
    value
        .cloned()
        .ok_or_else(|| unreadable(format!("the attribute {name} is missing")))
}

fn number_of(item: &Item, name: &str) -> Result<u64, StoreError> {
    let value = item
        .get(name)
        .and_then(|value| value.as_n().ok())
        .and_then(|value| value.parse().ok());
    value.ok_or_else(|| unreadable(format!("the attribute {name} is missing")))
}

/// The partition of everything that belongs to one generation of an integration: log entries, rejected and waiting events.
/// The generation is part of it, so nothing of a deleted integration can be seen in a later one of the same id.
fn partition(integration_ref: &IntegrationRef) -> String {
    format!(
        "{}#{}#{}",
        integration_ref.tenant, integration_ref.integration_id, integration_ref.generation
    )
}

/// The integration whose partition this is.
fn integration_of(partition: &str) -> Option<IntegrationRef> {
    let mut parts = partition.split('#');
    let (tenant, integration_id, generation) = (parts.next()?, parts.next()?, parts.next()?);
    Some(IntegrationRef {
        tenant: tenant.to_owned(),
        integration_id: integration_id.to_owned(),
        generation: Ulid::from_string(generation).ok()?,
    })
}

/// A table whose items have the keys `pk` and `sk`.
#[derive(Clone, Debug)]
pub struct Table {
    client: Client,
    name: String,
}

impl Table {
    /// The table of this name.
    pub fn new(client: Client, name: String) -> Table {
        Table { client, name }
    }

    /// An item, read consistently; none where there is none.
    async fn get(&self, pk: &str, sk: &str) -> Result<Option<Item>, StoreError> {
        let get = self.client.get_item().table_name(&self.name);
        let get = get.key("pk", text(pk)).key("sk", text(sk));
        let found = get.consistent_read(true).send().await;
        Ok(found.map_err(unavailable)?.item)
    }

    /// Writes an item, in place of one of the same key.
    async fn put(&self, item: Item) -> Result<(), StoreError> {
        let put = self.client.put_item().table_name(&self.name);
        let put = put.set_item(Some(item)).send().await;
        put.map(drop).map_err(unavailable)
    }

    /// Sends writes in batches, and what was not processed of them again: an item that is not processed is not stored.
    async fn write_batch(&self, mut writes: Vec<WriteRequest>) -> Result<(), StoreError> {
        let mut attempt = 0;
        while !writes.is_empty() {
            let rest = writes.split_off(writes.len().min(MAX_BATCH));
            let sent = writes.len();
            let answer = self
                .client
                .batch_write_item()
                .request_items(&self.name, writes)
                .send()
                .await
                .map_err(unavailable)?;
            let unprocessed = answer.unprocessed_items.unwrap_or_default();
            let mut left: Vec<WriteRequest> = unprocessed.into_values().flatten().collect();
            if left.len() < sent {
                attempt = 0;
            }
            if !left.is_empty() {
                attempt += 1;
                if attempt > MAX_TRIES {
                    return Err(StoreError::Unavailable("a batch is throttled".into()));
                }
                tokio::time::sleep(Duration::from_millis(25 << attempt)).await;
            }
            left.extend(rest);
            writes = left;
        }
        Ok(())
    }

    /// All that a query gives, page by page, each item as `read` reads it.
    async fn all<T>(
        &self,
        query: QueryFluentBuilder,
        read: impl Fn(&Item) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        let mut pages = query.into_paginator().items().send();
        while let Some(item) = pages.try_next().await.map_err(unavailable)? {
            found.push(read(&item)?);
        }
        Ok(found)
    }

    /// The items of a partition whose sort keys lie between two others, these included; read consistently.
    fn between(&self, pk: &str, first: &str, last: &str) -> QueryFluentBuilder {
        self.query()
            .consistent_read(true)
            .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
            .expression_attribute_values(":pk", text(pk))
            .expression_attribute_values(":first", text(first))
            .expression_attribute_values(":last", text(last))
    }

    /// Deletes an item, if there is one.
    async fn delete(&self, pk: &str, sk: &str) -> Result<(), StoreError> {
        let deleted = self.deletion(pk, sk).send().await;
        deleted.map(drop).map_err(unavailable)
    }

    /// A deletion, to be given a condition.
    fn deletion(&self, pk: &str, sk: &str) -> DeleteItemFluentBuilder {
        let delete = self.client.delete_item().table_name(&self.name);
        delete.key("pk", text(pk)).key("sk", text(sk))
    }

    /// An update, to be given its expressions.
    fn update(&self, pk: &str, sk: &str) -> UpdateItemFluentBuilder {
        let update = self.client.update_item().table_name(&self.name);
        update.key("pk", text(pk)).key("sk", text(sk))
    }

    /// The items of a partition whose sort keys begin with `prefix`, in order, read consistently.
    fn list(&self, pk: &str, prefix: &str) -> QueryFluentBuilder {
        self.query()
            .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
            .expression_attribute_values(":pk", text(pk))
            .expression_attribute_values(":prefix", text(prefix))
            .consistent_read(true)
    }

    /// A query, to be given its expressions.
    fn query(&self) -> QueryFluentBuilder {
        self.client.query().table_name(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_sdk_dynamodb::config::{Credentials, Region};
    use aws_sdk_dynamodb::types::PutRequest;
    use serde_json::json;

    use super::*;
    use crate::testing::serve;

    #[tokio::test]
    async fn a_table_that_stores_a_part_of_each_batch_stores_all() {
        let stored = Arc::new(AtomicUsize::new(0));
        let count = stored.clone();
        let endpoint = serve(move |request| {
            let writes = request["RequestItems"]["t"].as_array().unwrap();
            // All but the last one, of which one alone is stored.
            let processed = (writes.len() - 1).max(1);
            count.fetch_add(processed, Ordering::SeqCst);
            let left = match &writes[processed..] {
                [] => json!({}),
                left => json!({"t": left}),
            };
            (200, json!({"UnprocessedItems": left}))
        });
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version_latest()
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("a", "b", None, None, "test"))
            .endpoint_url(endpoint);
        let table = Table::new(Client::from_conf(config.build()), "t".to_owned());
        let put = |number: usize| {
            let item = Item::from([("pk".to_owned(), text(number.to_string()))]);
            let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
            WriteRequest::builder().put_request(put).build()
        };
        // More batches with a rest than a call may be throttled in a row.
        let items = 12 * MAX_BATCH;
        table
            .write_batch((0..items).map(put).collect())
            .await
            .unwrap();
        assert_eq!(stored.load(Ordering::SeqCst), items);
    }
}
