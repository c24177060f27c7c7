//! Events that a receiver refused with 400, or for days: the last 30 of each integration.
//!
//! An event is one item, with its envelope compressed in it: an ordinary one takes less than 1 KB, which is one write unit.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use domain::integration::IntegrationRef;
use domain::log::position::EventRef;
use domain::time::Millis;
use ulid::Ulid;

use super::{
    Item, StoreError, Table, failure, number, number_of, partition, text, text_of, unavailable,
    unreadable,
};

/// How many are kept (docs/api.md).
pub const MAX_REJECTED: usize = 30;

pub(super) const PREFIX: &str = "rejected#";
/// zstd's level: its default.
const LEVEL: i32 = 3;
/// The largest envelope: a payload of 256 KiB and what is around it.
const MAX_ENVELOPE_BYTES: usize = 512 * 1024;

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
    /// Where it is in the event log, where that is known.
    pub event: Option<EventRef>,
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
        let all = self.all(integration_ref).await?;
        let newest = all.into_iter().take(MAX_REJECTED);
        Ok(newest.collect())
    }

    /// The envelope of a rejected event.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unreadable`], [`StoreError::Unavailable`].
    pub async fn get(
        &self,
        integration_ref: &IntegrationRef,
        event_id: &str,
    ) -> Result<String, StoreError> {
        let pk = partition(integration_ref);
        let found = self.table.get(&pk, &format!("{PREFIX}{event_id}")).await?;
        let mut found = found.ok_or(StoreError::NotFound)?;
        let Some(AttributeValue::B(compressed)) = found.remove("body") else {
            return Err(unreadable("the envelope of a rejected event"));
        };
        let envelope = zstd::bulk::decompress(compressed.as_ref(), MAX_ENVELOPE_BYTES);
        String::from_utf8(envelope.map_err(unreadable)?).map_err(unreadable)
    }

    /// Where a rejected event is in the event log, if that is known.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn place(
        &self,
        integration_ref: &IntegrationRef,
        event_id: &str,
    ) -> Result<Option<EventRef>, StoreError> {
        let (pk, sk) = (partition(integration_ref), format!("{PREFIX}{event_id}"));
        Ok(self.table.get(&pk, &sk).await?.as_ref().and_then(event_of))
    }

    /// Keeps a rejected event, in place of an earlier rejection of the same one. Others that are too many now stay until
    /// [`RejectedEvents::evict`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn put(
        &self,
        integration_ref: &IntegrationRef,
        rejected: &Rejected,
        envelope: &str,
    ) -> Result<(), StoreError> {
        let compressed = zstd::bulk::compress(envelope.as_bytes(), LEVEL).map_err(unreadable)?;
        let mut item: Item = HashMap::from([
            ("pk".into(), text(partition(integration_ref))),
            ("sk".into(), text(format!("{PREFIX}{}", rejected.event_id))),
            ("created_at".into(), number(rejected.created_at.0)),
            ("answer".into(), text(rejected.answer.as_str())),
            ("body".into(), AttributeValue::B(Blob::new(compressed))),
        ]);
        if let Some(event) = rejected.event {
            item.insert("segment".into(), text(event.segment.to_string()));
            item.insert("index".into(), number(u64::from(event.index)));
            item.insert("shard".into(), number(u64::from(event.shard)));
        }
        self.table.put(item).await
    }

    /// Deletes a rejected event, and returns where it is in the event log, if that is known.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn delete(
        &self,
        integration_ref: &IntegrationRef,
        event_id: &str,
    ) -> Result<Option<EventRef>, StoreError> {
        let pk = partition(integration_ref);
        let deleted = self
            .table
            .deletion(&pk, &format!("{PREFIX}{event_id}"))
            .condition_expression("attribute_exists(pk)")
            .return_values(ReturnValue::AllOld)
            .send()
            .await
            .map_err(|error| failure(error, StoreError::NotFound))?;
        Ok(event_of(&deleted.attributes.unwrap_or_default()))
    }

    /// Deletes the oldest of those that are too many, and returns their ids.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn evict(&self, integration_ref: &IntegrationRef) -> Result<Vec<String>, StoreError> {
        self.keep(integration_ref, MAX_REJECTED).await
    }

    /// Deletes all of them; what is rejected meanwhile stays.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn clear(&self, integration_ref: &IntegrationRef) -> Result<(), StoreError> {
        self.keep(integration_ref, 0).await.map(drop)
    }

    /// Deletes all but the newest `count`, and returns the ids of the others.
    async fn keep(
        &self,
        integration_ref: &IntegrationRef,
        count: usize,
    ) -> Result<Vec<String>, StoreError> {
        let mut evicted = Vec::new();
        let all = self.all(integration_ref).await?;
        for rejected in all.into_iter().skip(count) {
            if self.evict_one(integration_ref, &rejected).await? {
                evicted.push(rejected.event_id);
            }
        }
        Ok(evicted)
    }

    /// Deletes a rejected event, as long as it is the rejection that was read: the same event may be rejected again meanwhile, and
    /// has to stay then. Returns whether this call deleted it, and no other one.
    async fn evict_one(
        &self,
        integration_ref: &IntegrationRef,
        rejected: &Rejected,
    ) -> Result<bool, StoreError> {
        let deleted = self
            .table
            .deletion(
                &partition(integration_ref),
                &format!("{PREFIX}{}", rejected.event_id),
            )
            .condition_expression("created_at = :read")
            .expression_attribute_values(":read", number(rejected.created_at.0))
            .send()
            .await;
        match deleted.map_err(|error| failure(error, StoreError::Changed)) {
            Ok(_) => Ok(true),
            Err(StoreError::Changed) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All of them, newest first.
    async fn all(&self, integration_ref: &IntegrationRef) -> Result<Vec<Rejected>, StoreError> {
        let mut rejected = Vec::new();
        let mut pages = self
            .table
            .list(&partition(integration_ref), PREFIX)
            .projection_expression("sk, created_at, answer, #segment, #index, #shard")
            .expression_attribute_names("#segment", "segment")
            .expression_attribute_names("#index", "index")
            .expression_attribute_names("#shard", "shard")
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
        event: event_of(item),
    })
}

fn event_of(item: &Item) -> Option<EventRef> {
    let number32 = |name| u32::try_from(number_of(item, name).ok()?).ok();
    Some(EventRef {
        segment: Ulid::from_string(&text_of(item, "segment").ok()?).ok()?,
        index: number32("index")?,
        shard: number32("shard")?,
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
            event: None,
        };
        assert_eq!(read(&stored).unwrap(), rejected);
    }
}
