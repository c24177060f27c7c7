//! Events that could not be delivered because of a stopped integration or an interrupted stream: references into the event
//! log, kept until replay sends them again.

use std::collections::HashMap;

use domain::integration::{CATCH_UP, IntegrationRef};
use domain::log::position::EventRef;
use domain::stream::chunk::Parked;
use domain::time::Millis;
use ulid::Ulid;

use super::{
    Item, StoreError, Table, failure, number, number_of, partition, text, text_of, unavailable,
    unreadable,
};

const PREFIX: &str = "parked#";

/// The parked events of all integrations.
#[derive(Clone, Debug)]
pub struct ParkedEvents {
    table: Table,
}

impl ParkedEvents {
    /// The store in a table.
    pub fn new(table: Table) -> ParkedEvents {
        ParkedEvents { table }
    }

    /// Parks an event at `now`, for as long as a stopped integration can be started again to catch up, and as long again.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn park(
        &self,
        integration_ref: &IntegrationRef,
        parked: &Parked,
        now: Millis,
    ) -> Result<(), StoreError> {
        let expires_at = now.after(CATCH_UP * 2);
        let mut item: Item = HashMap::from([
            ("pk".into(), text(partition(integration_ref))),
            ("sk".into(), text(sort_key(&parked.event))),
            ("token".into(), text(parked.token.to_string())),
            ("expires_at".into(), number(expires_at.epoch_seconds())),
            ("shard".into(), number(u64::from(parked.event.shard))),
            ("attempt".into(), number(u64::from(parked.attempt))),
        ]);
        if let Some(failing_since) = parked.failing_since {
            item.insert("failing_since".into(), number(failing_since.0));
        }
        self.table.put(item).await
    }

    /// Up to `limit` parked events behind `after`, in the order of the event log; read consistently.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn list(
        &self,
        integration_ref: &IntegrationRef,
        after: Option<&EventRef>,
        limit: usize,
    ) -> Result<Vec<Parked>, StoreError> {
        // A sort key with a character behind it is the next one; "$" comes right after "#" and ends the prefix.
        let from = after.map_or(PREFIX.to_owned(), |event| sort_key(event) + "!");
        let answer = self
            .table
            .query()
            .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :end")
            .expression_attribute_values(":pk", text(partition(integration_ref)))
            .expression_attribute_values(":from", text(from))
            .expression_attribute_values(":end", text(PREFIX.replace('#', "$")))
            .limit(limit as i32)
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
    pub async fn delete(
        &self,
        integration_ref: &IntegrationRef,
        event: &EventRef,
        token: Ulid,
    ) -> Result<(), StoreError> {
        let result = self
            .table
            .deletion(&partition(integration_ref), &sort_key(event))
            .condition_expression("#token = :token")
            .expression_attribute_names("#token", "token")
            .expression_attribute_values(":token", text(token.to_string()))
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
        attempt: u32::try_from(number_of(item, "attempt")?).map_err(unreadable)?,
        failing_since: number_of(item, "failing_since").ok().map(Millis),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_item_of_a_parked_event_keeps_its_form() {
        let mut stored: Item = HashMap::from([
            ("pk".into(), text("acme#erp-1#00000000000000000000000009")),
            ("sk".into(), text("parked#01HF7YAT010000000000000005#00003")),
            ("token".into(), text("00000000000000000000000007")),
            ("expires_at".into(), number(1_705_184_000)),
            ("shard".into(), number(1)),
            ("attempt".into(), number(2)),
        ]);
        let parked = Parked {
            event: EventRef {
                segment: Ulid::from_parts(1_700_000_000_001, 5),
                index: 3,
                shard: 1,
            },
            token: Ulid(7),
            attempt: 2,
            failing_since: None,
        };
        assert_eq!(read(&stored).unwrap(), parked);
        assert_eq!(text(sort_key(&parked.event)), stored["sk"]);
        stored.insert("failing_since".into(), number(8));
        assert_eq!(read(&stored).unwrap().failing_since, Some(Millis(8)));
    }
}
