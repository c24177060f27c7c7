//! Chunks: the events that replay has taken on, and which of them are still outstanding.
//!
//! A chunk is written in one transaction with the position behind it, before anything of it is sent. An event is settled when
//! it has been delivered, rejected, parked or filtered out; settling twice does nothing.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use domain::integration::{CATCH_UP, IntegrationRef};
use domain::stream::chunk::Chunk;
use domain::time::Millis;
use ulid::Ulid;

use super::{
    Item, StoreError, Table, failure, number, partition, text, text_of, unavailable, unreadable,
};

const PREFIX: &str = "chunk#";

/// The chunks of all integrations.
#[derive(Clone, Debug)]
pub struct Chunks {
    table: Table,
}

impl Chunks {
    /// The store in a table.
    pub fn new(table: Table) -> Chunks {
        Chunks { table }
    }

    /// A chunk; none when all of it has been settled. Read consistently.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn get(
        &self,
        integration_ref: &IntegrationRef,
        id: Ulid,
    ) -> Result<Option<Chunk>, StoreError> {
        let key = format!("{PREFIX}{id}");
        let found = self.table.get(&partition(integration_ref), &key).await?;
        let Some(item) = found else {
            return Ok(None);
        };
        Ok(Some(Chunk {
            id,
            events: serde_json::from_str(&text_of(&item, "events")?).map_err(unreadable)?,
            outstanding: outstanding(&item)?,
        }))
    }

    /// How many events are outstanding, in all chunks of an integration; read consistently.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn count_outstanding(
        &self,
        integration_ref: &IntegrationRef,
    ) -> Result<usize, StoreError> {
        let mut pages = self.of(integration_ref).into_paginator().items().send();
        let mut count = 0;
        while let Some(item) = pages.try_next().await.map_err(unavailable)? {
            count += outstanding(&item)?.len();
        }
        Ok(count)
    }

    /// Whether any event of an integration is outstanding; read consistently.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn has_any(&self, integration_ref: &IntegrationRef) -> Result<bool, StoreError> {
        let found = self.of(integration_ref).limit(1).send().await;
        Ok(!found.map_err(unavailable)?.items().is_empty())
    }

    /// What is outstanding of each chunk of an integration.
    fn of(&self, integration_ref: &IntegrationRef) -> QueryFluentBuilder {
        let chunks = self.table.list(&partition(integration_ref), PREFIX);
        chunks.projection_expression("outstanding")
    }

    /// Settles an event of a chunk, and removes the chunk when that was the last one.
    ///
    /// Returns whether nothing of the chunk is outstanding now: also when this had been done before.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn settle(
        &self,
        integration_ref: &IntegrationRef,
        id: Ulid,
        index: u32,
    ) -> Result<bool, StoreError> {
        let key = format!("{PREFIX}{id}");
        let settled = self
            .table
            .update(&partition(integration_ref), &key)
            .update_expression("DELETE outstanding :index")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":index", AttributeValue::Ns(vec![index.to_string()]))
            .return_values(ReturnValue::AllNew)
            .send()
            .await;
        match settled.map_err(|error| failure(error, StoreError::NotFound)) {
            Ok(answer) => {
                if !outstanding(&answer.attributes.unwrap_or_default())?.is_empty() {
                    return Ok(false);
                }
            }
            Err(StoreError::NotFound) => return Ok(true),
            Err(error) => return Err(error),
        }
        self.table.delete(&partition(integration_ref), &key).await?;
        Ok(true)
    }
}

/// The item of a chunk, which is written with the integration's.
pub(super) fn item(integration_ref: &IntegrationRef, chunk: &Chunk) -> Result<Item, StoreError> {
    let events = serde_json::to_string(&chunk.events).map_err(unreadable)?;
    let outstanding = chunk.outstanding.iter().map(u32::to_string).collect();
    let created_at = Millis(chunk.id.timestamp_ms());
    Ok(HashMap::from([
        ("pk".into(), text(partition(integration_ref))),
        ("sk".into(), text(format!("{PREFIX}{}", chunk.id))),
        ("events".into(), text(events)),
        ("outstanding".into(), AttributeValue::Ns(outstanding)),
        (
            "expires_at".into(),
            number(created_at.after(CATCH_UP * 4).epoch_seconds()),
        ),
    ]))
}

fn outstanding(item: &Item) -> Result<BTreeSet<u32>, StoreError> {
    let Some(AttributeValue::Ns(numbers)) = item.get("outstanding") else {
        return Ok(BTreeSet::new());
    };
    numbers
        .iter()
        .map(|number| number.parse().map_err(unreadable))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_item_of_a_chunk_keeps_its_form() {
        let integration_ref = IntegrationRef {
            tenant: "acme".into(),
            integration_id: "erp-1".into(),
            generation: Ulid(9),
        };
        let id = Ulid::from_parts(1_700_000_000_000, 4);
        let events = r#"[{"event":{"segment":"01HF7YAT010000000000000005","index":3,"shard":1},"attempt":2}]"#;
        let chunk = Chunk {
            id,
            events: serde_json::from_str(events).unwrap(),
            outstanding: BTreeSet::from([0]),
        };
        let stored = HashMap::from([
            (
                "pk".to_owned(),
                text("acme#erp-1#00000000000000000000000009"),
            ),
            ("sk".to_owned(), text("chunk#01HF7YAT000000000000000004")),
            ("events".to_owned(), text(events)),
            (
                "outstanding".to_owned(),
                AttributeValue::Ns(vec!["0".into()]),
            ),
            ("expires_at".to_owned(), number(1_710_368_000)),
        ]);
        assert_eq!(item(&integration_ref, &chunk).unwrap(), stored);
        assert_eq!(outstanding(&stored).unwrap(), chunk.outstanding);
    }
}
