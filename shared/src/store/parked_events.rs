//! Events whose delivery met a paused stream: references into the event log, kept until replay sends them again.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use ulid::Ulid;

use super::{
    Item, Owner, StoreError, failure, number, number_of, text, text_of, unavailable, unreadable,
};
use crate::clock::Millis;
use crate::tasks::EventRef;

const PREFIX: &str = "parked#";

/// The parked events of all integrations.
#[derive(Clone, Debug)]
pub struct ParkedEvents {
    client: Client,
    table: String,
}

/// A parked event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Where it stands in the event log.
    pub event: EventRef,
    /// Made anew each time the event is parked: only who has read it may delete the item.
    pub token: Ulid,
}

impl ParkedEvents {
    /// The store in table `table`.
    pub fn new(client: Client, table: String) -> ParkedEvents {
        ParkedEvents { client, table }
    }

    /// Parks an event until `expires_at` at the most: by then the event log has forgotten it too.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn park(
        &self,
        owner: &Owner,
        parked: &Parked,
        expires_at: Millis,
    ) -> Result<(), StoreError> {
        let item: Item = HashMap::from([
            ("pk".into(), text(owner.partition())),
            ("sk".into(), text(sort_key(&parked.event))),
            ("token".into(), text(parked.token.to_string())),
            ("expires_at".into(), number(expires_at.epoch_seconds())),
            ("shard".into(), number(u64::from(parked.event.shard))),
        ]);
        self.client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .send()
            .await
            .map_err(unavailable)?;
        Ok(())
    }

    /// Up to `limit` parked events, in the order of the event log; read consistently.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn list(&self, owner: &Owner, limit: i32) -> Result<Vec<Parked>, StoreError> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :owner AND begins_with(sk, :prefix)")
            .expression_attribute_values(":owner", text(owner.partition()))
            .expression_attribute_values(":prefix", text(PREFIX))
            .limit(limit)
            .consistent_read(true)
            .send()
            .await
            .map_err(unavailable)?;
        answer.items().iter().map(read).collect()
    }

    /// Deletes a parked event, unless it has been parked again since it was read.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn delete(&self, owner: &Owner, parked: &Parked) -> Result<(), StoreError> {
        let result = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("pk", text(owner.partition()))
            .key("sk", text(sort_key(&parked.event)))
            .condition_expression("#token = :token")
            .expression_attribute_names("#token", "token")
            .expression_attribute_values(":token", text(parked.token.to_string()))
            .send()
            .await;
        match result.map_err(|error| failure(error, StoreError::Changed)) {
            Ok(_) | Err(StoreError::Changed) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn sort_key(event: &EventRef) -> String {
    format!("{PREFIX}{}#{:05}", event.segment, event.index)
}

fn read(item: &Item) -> Result<Parked, StoreError> {
    let sk = text_of(item, "sk")?;
    let (segment, index) = sk
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('#'))
        .and_then(|(segment, index)| Some((Ulid::from_string(segment).ok()?, index.parse().ok()?)))
        .ok_or_else(|| unreadable("a parked event's key"))?;
    let token = Ulid::from_string(&text_of(item, "token")?).map_err(unreadable)?;
    let shard = u32::try_from(number_of(item, "shard")?).map_err(unreadable)?;
    Ok(Parked {
        event: EventRef {
            segment,
            shard,
            index,
        },
        token,
    })
}
