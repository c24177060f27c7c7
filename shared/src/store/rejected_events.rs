//! Events that a receiver refused with 400, or for days: the last 30 of each integration.
//!
//! An event has two items: what the list shows, and its envelope, so that to list and to count reads no envelopes.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{Delete, ReturnValue, TransactWriteItem};
use domain::integration::IntegrationRef;
use domain::time::Millis;

use super::{
    Item, StoreError, Table, failure, number, number_of, partition, text, text_of, unavailable,
    unreadable,
};

/// How many are kept (docs/api.md).
pub const MAX_REJECTED: usize = 30;

pub(super) const PREFIX: &str = "rejected#";
const ENVELOPE: &str = "envelope#";
/// That an envelope belongs to the rejection that was read. Those that an earlier version stored carry no time.
const ENVELOPE_OF: &str = "attribute_not_exists(created_at) OR created_at = :read";

/// The rejected events of all integrations.
#[derive(Clone, Debug)]
pub struct RejectedEvents {
    table: Table,
}

/// A rejected event without its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The event's id.
    pub event_id: String,
    /// When it was rejected.
    pub created_at: Millis,
    /// The start of the receiver's response.
    pub answer: String,
}

impl RejectedEvents {
    /// The store in a table.
    pub fn new(table: Table) -> RejectedEvents {
        RejectedEvents { table }
    }

    /// Those that are kept, newest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn list(
        &self,
        integration_ref: &IntegrationRef,
    ) -> Result<Vec<Rejected>, StoreError> {
        let mut rejected = self.all(integration_ref).await?;
        rejected.truncate(MAX_REJECTED);
        Ok(rejected)
    }

    /// The envelope of a rejected event.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn get(
        &self,
        integration_ref: &IntegrationRef,
        event_id: &str,
    ) -> Result<String, StoreError> {
        let key = format!("{ENVELOPE}{event_id}");
        let found = self.table.get(&partition(integration_ref), &key).await?;
        text_of(&found.ok_or(StoreError::NotFound)?, "envelope")
    }

    /// Keeps a rejected event, and returns the ids of those that had to make room for it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn put(
        &self,
        integration_ref: &IntegrationRef,
        rejected: &Rejected,
        envelope: &str,
    ) -> Result<Vec<String>, StoreError> {
        // The envelope first: what is listed can be read.
        let items = [
            (ENVELOPE, ("envelope", envelope)),
            (PREFIX, ("answer", &rejected.answer)),
        ];
        for (prefix, (name, value)) in items {
            let mut item: Item = HashMap::from([(name.into(), text(value))]);
            item.insert("created_at".into(), number(rejected.created_at.0));
            item.insert("pk".into(), text(partition(integration_ref)));
            item.insert("sk".into(), text(format!("{prefix}{}", rejected.event_id)));
            self.table.put(item).await?;
        }
        self.evict(integration_ref).await
    }

    /// Deletes a rejected event.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn delete(
        &self,
        integration_ref: &IntegrationRef,
        event_id: &str,
    ) -> Result<(), StoreError> {
        let listed = self
            .table
            .deletion(&partition(integration_ref), &format!("{PREFIX}{event_id}"))
            .condition_expression("attribute_exists(pk)")
            .return_values(ReturnValue::AllOld)
            .send()
            .await
            .map_err(|error| failure(error, StoreError::NotFound))?;
        let created_at = number_of(&listed.attributes.unwrap_or_default(), "created_at")?;
        let envelope = self
            .table
            .deletion(
                &partition(integration_ref),
                &format!("{ENVELOPE}{event_id}"),
            )
            .condition_expression(ENVELOPE_OF)
            .expression_attribute_values(":read", number(created_at))
            .send()
            .await;
        match envelope.map_err(|error| failure(error, StoreError::Changed)) {
            // Rejected again meanwhile: its envelope stays.
            Ok(_) | Err(StoreError::Changed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn evict(&self, integration_ref: &IntegrationRef) -> Result<Vec<String>, StoreError> {
        let mut evicted = Vec::new();
        for rejected in self
            .all(integration_ref)
            .await?
            .into_iter()
            .skip(MAX_REJECTED)
        {
            if self.evict_one(integration_ref, &rejected).await? {
                evicted.push(rejected.event_id);
            }
        }
        Ok(evicted)
    }

    /// Deletes both items of a rejected event, as long as they are those of the rejection that was read: the same event may be
    /// rejected again meanwhile, and has to stay then. Returns whether this call deleted it, and no other one.
    async fn evict_one(
        &self,
        integration_ref: &IntegrationRef,
        rejected: &Rejected,
    ) -> Result<bool, StoreError> {
        let conditions = [(PREFIX, "created_at = :read"), (ENVELOPE, ENVELOPE_OF)];
        let mut deletions = Vec::new();
        for (prefix, condition) in conditions {
            let deletion = Delete::builder()
                .table_name(&self.table.name)
                .key("pk", text(partition(integration_ref)))
                .key("sk", text(format!("{prefix}{}", rejected.event_id)))
                .condition_expression(condition)
                .expression_attribute_values(":read", number(rejected.created_at.0))
                .build()
                .map_err(unreadable)?;
            deletions.push(TransactWriteItem::builder().delete(deletion).build());
        }
        let result = self
            .table
            .client
            .transact_write_items()
            .set_transact_items(Some(deletions))
            .send()
            .await;
        let Err(error) = result else { return Ok(true) };
        match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(_)) => Ok(false),
            _ => Err(unavailable(error)),
        }
    }

    async fn all(&self, integration_ref: &IntegrationRef) -> Result<Vec<Rejected>, StoreError> {
        let mut rejected = Vec::new();
        let mut pages = self
            .table
            .list(&partition(integration_ref), PREFIX)
            .into_paginator()
            .items()
            .send();
        while let Some(item) = pages.try_next().await.map_err(unavailable)? {
            rejected.push(read(&item)?);
        }
        rejected.sort_by(|one, other| {
            other
                .created_at
                .cmp(&one.created_at)
                .then_with(|| other.event_id.cmp(&one.event_id))
        });
        Ok(rejected)
    }
}

fn read(item: &Item) -> Result<Rejected, StoreError> {
    let sk = text_of(item, "sk")?;
    let event_id = sk
        .strip_prefix(PREFIX)
        .ok_or_else(|| unreadable("a rejected event's key"))?;
    Ok(Rejected {
        event_id: event_id.to_owned(),
        created_at: Millis(number_of(item, "created_at")?),
        answer: text_of(item, "answer")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_item_of_a_rejected_event_keeps_its_form() {
        let stored = HashMap::from([
            (
                "pk".to_owned(),
                text("acme#erp-1#00000000000000000000000009"),
            ),
            ("sk".to_owned(), text("rejected#an-id")),
            ("created_at".to_owned(), number(5)),
            ("answer".to_owned(), text("no such item")),
        ]);
        let rejected = Rejected {
            event_id: "an-id".into(),
            created_at: Millis(5),
            answer: "no such item".into(),
        };
        assert_eq!(read(&stored).unwrap(), rejected);
    }
}
