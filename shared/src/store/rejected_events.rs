//! Events that a receiver refused with 400, or for days: the last 30 of each integration.
//!
//! An event has two items: what the list shows, and its envelope, so that to list and to count reads no envelopes.

use std::collections::HashMap;

use super::{
    Item, Owner, StoreError, delete_all, failure, number, number_of, text, text_of, unavailable,
};
use crate::clock::Millis;
use aws_sdk_dynamodb::Client;

/// How many are kept (the API page).
pub const MAX_REJECTED: usize = 30;

pub(super) const PREFIX: &str = "rejected#";
const ENVELOPE: &str = "envelope#";

/// The rejected events of all integrations.
#[derive(Clone, Debug)]
pub struct RejectedEvents {
    client: Client,
    table: String,
}

/// A rejected event without its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The event's id.
    pub event_id: String,
    /// When it was rejected.
    pub created_at: Millis,
    /// The start of what the receiver answered.
    pub answer: String,
}

impl RejectedEvents {
    /// The store in table `table`.
    pub fn new(client: Client, table: String) -> RejectedEvents {
        RejectedEvents { client, table }
    }

    /// Those that are kept, newest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn list(&self, owner: &Owner) -> Result<Vec<Rejected>, StoreError> {
        let mut rejected = self.all(owner).await?;
        rejected.truncate(MAX_REJECTED);
        Ok(rejected)
    }

    /// The envelope of a rejected event.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn get(&self, owner: &Owner, event_id: &str) -> Result<String, StoreError> {
        let key = format!("{ENVELOPE}{event_id}");
        let found = super::get(&self.client, &self.table, &owner.partition(), key).await?;
        text_of(&found.ok_or(StoreError::NotFound)?, "envelope")
    }

    /// Keeps a rejected event, and returns the ids of those that had to make room for it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn put(
        &self,
        owner: &Owner,
        rejected: &Rejected,
        envelope: &str,
    ) -> Result<Vec<String>, StoreError> {
        // The envelope first: what is listed can be read.
        let envelope = ("envelope".into(), text(envelope));
        let listed = [
            ("created_at".into(), number(rejected.created_at.0)),
            ("answer".into(), text(rejected.answer.as_str())),
        ];
        let items: [(&str, Item); 2] = [
            (ENVELOPE, HashMap::from([envelope])),
            (PREFIX, HashMap::from(listed)),
        ];
        for (prefix, mut item) in items {
            item.insert("pk".into(), text(owner.partition()));
            item.insert("sk".into(), text(format!("{prefix}{}", rejected.event_id)));
            super::put(&self.client, &self.table, item).await?;
        }
        self.evict(owner).await
    }

    /// Deletes a rejected event.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn delete(&self, owner: &Owner, event_id: &str) -> Result<(), StoreError> {
        self.client
            .delete_item()
            .table_name(&self.table)
            .key("pk", text(owner.partition()))
            .key("sk", text(format!("{PREFIX}{event_id}")))
            .condition_expression("attribute_exists(pk)")
            .send()
            .await
            .map_err(|error| failure(error, StoreError::NotFound))?;
        let envelope = (owner.partition(), format!("{ENVELOPE}{event_id}"));
        delete_all(&self.client, &self.table, [envelope]).await
    }

    async fn evict(&self, owner: &Owner) -> Result<Vec<String>, StoreError> {
        let evicted: Vec<String> = self
            .all(owner)
            .await?
            .into_iter()
            .skip(MAX_REJECTED)
            .map(|rejected| rejected.event_id)
            .collect();
        delete_all(
            &self.client,
            &self.table,
            evicted
                .iter()
                .flat_map(|id| [PREFIX, ENVELOPE].map(|prefix| format!("{prefix}{id}")))
                .map(|key| (owner.partition(), key)),
        )
        .await?;
        Ok(evicted)
    }

    async fn all(&self, owner: &Owner) -> Result<Vec<Rejected>, StoreError> {
        let mut rejected = Vec::new();
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :owner AND begins_with(sk, :prefix)")
            .expression_attribute_values(":owner", text(owner.partition()))
            .expression_attribute_values(":prefix", text(PREFIX))
            .consistent_read(true)
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
    Ok(Rejected {
        event_id: sk[PREFIX.len()..].to_owned(),
        created_at: Millis(number_of(item, "created_at")?),
        answer: text_of(item, "answer")?,
    })
}
