//! Waiting events: references into the event log, kept until a sender has sent them. One item has up to 50 events of a segment.
//!
//! Each item is less than 1 KB: a write unit. All of an integration are in one partition, which takes 1,000 of them a second.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, PutRequest, WriteRequest};
use domain::integration::IntegrationRef;
use domain::stream::waiting::{StoredWaiting, Waiting, WaitingKey};
use domain::time::Millis;
use ulid::Ulid;

use super::{
    Item, StoreError, Table, number, number_of, partition, text, text_of, unavailable, unreadable,
};

const PREFIX: &str = "waiting#";

/// The waiting events of all integrations.
#[derive(Clone, Debug)]
pub struct WaitingEvents {
    table: Table,
    retention: Duration,
}

impl WaitingEvents {
    /// The store in a table. Items are kept for the `retention` of events: a longer one would name events that are gone.
    pub fn new(table: Table, retention: Duration) -> WaitingEvents {
        WaitingEvents { table, retention }
    }

    /// Stores items at `now`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: some may have been stored.
    pub async fn put(
        &self,
        integration_ref: &IntegrationRef,
        items: &[StoredWaiting],
        now: Millis,
    ) -> Result<(), StoreError> {
        let mut writes = Vec::with_capacity(items.len());
        for stored in items {
            let put = PutRequest::builder().set_item(Some(item(
                integration_ref,
                stored,
                now.after(self.retention),
            )));
            let put = put.build().map_err(unreadable)?;
            writes.push(WriteRequest::builder().put_request(put).build());
        }
        self.table.write_batch(writes).await
    }

    /// Deletes items.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: some may have been deleted.
    pub async fn delete(
        &self,
        integration_ref: &IntegrationRef,
        keys: &[WaitingKey],
    ) -> Result<(), StoreError> {
        let pk = partition(integration_ref);
        let mut writes = Vec::with_capacity(keys.len());
        for key in keys {
            let delete = DeleteRequest::builder()
                .key("pk", text(pk.as_str()))
                .key("sk", text(sort_key(key)));
            let delete = delete.build().map_err(unreadable)?;
            writes.push(WriteRequest::builder().delete_request(delete).build());
        }
        self.table.write_batch(writes).await
    }

    /// All items of an integration, read consistently.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn list(
        &self,
        integration_ref: &IntegrationRef,
    ) -> Result<Vec<StoredWaiting>, StoreError> {
        let query = self.table.list(&partition(integration_ref), PREFIX);
        self.table.all(query, read).await
    }

    /// The items of an integration, those of the oldest segments first, read consistently: all of them, or the first with at least
    /// so many events.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn first(
        &self,
        integration_ref: &IntegrationRef,
        events: usize,
    ) -> Result<Vec<StoredWaiting>, StoreError> {
        let query = self.table.list(&partition(integration_ref), PREFIX);
        let mut items = query.into_paginator().items().send();
        let (mut found, mut count) = (Vec::new(), 0);
        while count < events
            && let Some(item) = items.try_next().await.map_err(unavailable)?
        {
            let stored = read(&item)?;
            count += stored.waiting.indices.len();
            found.push(stored);
        }
        Ok(found)
    }

    /// The items of the segments `from <= segment < until`, read consistently.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn of_segments(
        &self,
        integration_ref: &IntegrationRef,
        from: Ulid,
        until: Ulid,
    ) -> Result<Vec<StoredWaiting>, StoreError> {
        let (first, last) = (format!("{PREFIX}{from}"), format!("{PREFIX}{until}"));
        let query = self
            .table
            .between(&partition(integration_ref), &first, &last);
        self.table.all(query, read).await
    }

    /// When the first of the waiting events was published; none where none waits.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn oldest(
        &self,
        integration_ref: &IntegrationRef,
    ) -> Result<Option<Millis>, StoreError> {
        let first = self.table.list(&partition(integration_ref), PREFIX);
        let found = first.limit(1).send().await.map_err(unavailable)?;
        let stored = found.items().first().map(read).transpose()?;
        Ok(stored.map(|stored| Millis(stored.key.segment.timestamp_ms())))
    }
}

fn sort_key(key: &WaitingKey) -> String {
    format!("{PREFIX}{}#{}", key.segment, key.token)
}

fn item(integration_ref: &IntegrationRef, stored: &StoredWaiting, expires_at: Millis) -> Item {
    let StoredWaiting { key, waiting } = stored;
    let indices = waiting.indices.iter().map(u32::to_string).collect();
    let mut item: Item = HashMap::from([
        ("pk".into(), text(partition(integration_ref))),
        ("sk".into(), text(sort_key(key))),
        ("indices".into(), AttributeValue::Ns(indices)),
        ("shard".into(), number(u64::from(waiting.shard))),
        ("attempt".into(), number(u64::from(waiting.attempt))),
        ("due_at".into(), number(waiting.due_at.0)),
        ("expires_at".into(), number(expires_at.epoch_seconds())),
    ]);
    if let Some(failing_since) = waiting.failing_since {
        item.insert("failing_since".into(), number(failing_since.0));
    }
    if let Some(reason) = &waiting.reason {
        item.insert("reason".into(), text(reason.as_str()));
    }
    item
}

fn read(item: &Item) -> Result<StoredWaiting, StoreError> {
    let sk = text_of(item, "sk")?;
    let key = sk.strip_prefix(PREFIX).and_then(key);
    let key = key.ok_or_else(|| unreadable("a waiting item's key"))?;
    let mut indices = Vec::new();
    if let Some(AttributeValue::Ns(numbers)) = item.get("indices") {
        for number in numbers {
            indices.push(number.parse().map_err(unreadable)?);
        }
        indices.sort_unstable();
    }
    let number32 = |name| u32::try_from(number_of(item, name)?).map_err(unreadable);
    Ok(StoredWaiting {
        key,
        waiting: Waiting {
            segment: key.segment,
            shard: number32("shard")?,
            indices,
            attempt: number32("attempt")?,
            failing_since: number_of(item, "failing_since").ok().map(Millis),
            due_at: Millis(number_of(item, "due_at")?),
            reason: text_of(item, "reason").ok(),
        },
    })
}

fn key(rest: &str) -> Option<WaitingKey> {
    let (segment, token) = rest.split_once('#')?;
    Some(WaitingKey {
        segment: Ulid::from_string(segment).ok()?,
        token: Ulid::from_string(token).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::config::{Credentials, Region};
    use serde_json::json;

    use super::*;
    use crate::testing::serve;

    fn integration_ref() -> IntegrationRef {
        IntegrationRef {
            tenant: "acme".into(),
            integration_id: "erp-1".into(),
            generation: Ulid(9),
        }
    }

    #[test]
    fn an_item_is_read_as_it_was_stored_and_takes_less_than_a_kilobyte() {
        let segment = Ulid::from_parts(1_700_000_000_001, 5);
        let stored = StoredWaiting {
            key: WaitingKey {
                segment,
                token: Ulid(7),
            },
            waiting: Waiting {
                segment,
                shard: 1,
                indices: (10_000..10_050).collect(),
                attempt: 2,
                failing_since: Some(Millis(8)),
                due_at: Millis(1_700_000_000_000),
                reason: Some("x".repeat(200)),
            },
        };
        let written = item(&integration_ref(), &stored, Millis(0));
        let sk = "waiting#01HF7YAT010000000000000005#00000000000000000000000007";
        assert_eq!(written["sk"], text(sk));
        assert_eq!(read(&written).unwrap(), stored);
        let bytes: usize = written
            .iter()
            .map(|(name, value)| {
                name.len()
                    + match value {
                        AttributeValue::S(text) => text.len(),
                        // Two digits to a byte, and one more for each number.
                        AttributeValue::Ns(numbers) => {
                            numbers.iter().map(|it| it.len() / 2 + 2).sum()
                        }
                        _ => 10,
                    }
            })
            .sum();
        assert!(bytes < 1_000, "{bytes}");
    }

    #[tokio::test]
    async fn a_list_ends_where_enough_is_found() {
        // Pages of two items of two events, without end.
        let endpoint = serve(|request| {
            let first = request["ExclusiveStartKey"]["sk"]["S"].as_str();
            let first: u128 = first.map_or(0, |sk| sk.rsplit('#').next().unwrap().parse().unwrap());
            let key = |number: u128| {
                let token = format!("{number:026}");
                json!({"S": format!("waiting#01HF7YAT010000000000000005#{token}")})
            };
            let item = |number| {
                json!({
                    "pk": {"S": "acme#erp-1#00000000000000000000000009"}, "sk": key(number), "indices": {"NS": ["0", "1"]},
                    "shard": {"N": "0"}, "attempt": {"N": "2"}, "due_at": {"N": "7"},
                })
            };
            let last =
                json!({"pk": {"S": "acme#erp-1#00000000000000000000000009"}, "sk": key(first + 2)});
            (
                200,
                json!({"Items": [item(first + 1), item(first + 2)], "LastEvaluatedKey": last}),
            )
        });
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version_latest()
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("a", "b", None, None, "test"))
            .endpoint_url(endpoint);
        let client = aws_sdk_dynamodb::Client::from_conf(config.build());
        let store = WaitingEvents::new(Table::new(client, "t".to_owned()), Duration::from_secs(9));
        let found = store.first(&integration_ref(), 9).await.unwrap();
        assert_eq!(found.len(), 5);
    }
}
