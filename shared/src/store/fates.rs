//! What is noted of events that were not delivered, and of filters that were changed: with positions and waiting events, it says what
//! became of every event ([`domain::fate`]). An item each, kept as long as the events.
//!
//! They have a partition of their own, as files have: each goes by itself. An event that is rejected costs one write unit here, in
//! the order of the event log, so that a page of it reads those of its range.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use domain::fate::{PastFilter, Refused};
use domain::integration::IntegrationRef;
use domain::integration_log::clip;
use domain::log::position::EventRef;
use domain::stream::waiting::MAX_REASON_BYTES;
use domain::time::Millis;
use ulid::Ulid;

use super::{Item, StoreError, Table, number, number_of, partition, text, text_of, unreadable};

/// Sort keys of rejected events begin with this; segment and index follow.
const REFUSED: &str = "refused#";
/// Sort keys of filters that were changed begin with this; a ULID follows.
const FILTER: &str = "filter#";

/// What is noted of the events of all integrations.
#[derive(Clone, Debug)]
pub struct Fates {
    table: Table,
    retention: Duration,
}

impl Fates {
    /// The store in a table. Notes are kept for the `retention` of events.
    pub fn new(table: Table, retention: Duration) -> Fates {
        Fates { table, retention }
    }

    /// Notes rejected events.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: some may have been noted.
    pub async fn note(
        &self,
        integration_ref: &IntegrationRef,
        refused: &[Refused],
    ) -> Result<(), StoreError> {
        let puts = refused.iter().map(|note| {
            let put = PutRequest::builder();
            let put = put.set_item(Some(item(integration_ref, note, self.retention)));
            let put = put.build().map_err(unreadable)?;
            Ok(WriteRequest::builder().put_request(put).build())
        });
        let puts = puts.collect::<Result<_, StoreError>>()?;
        self.table.write_batch(puts).await
    }

    /// A rejected event was taken after all.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn forget(
        &self,
        integration_ref: &IntegrationRef,
        event: &EventRef,
    ) -> Result<(), StoreError> {
        self.table
            .delete(&fates(integration_ref), &refused_key(event))
            .await
    }

    /// The rejected events of the segments `from <= segment < until`, in their order, read consistently.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn refused(
        &self,
        integration_ref: &IntegrationRef,
        from: Ulid,
        until: Ulid,
    ) -> Result<Vec<Refused>, StoreError> {
        let (first, last) = (format!("{REFUSED}{from}"), format!("{REFUSED}{until}"));
        let query = self.table.between(&fates(integration_ref), &first, &last);
        self.table.all(query, read).await
    }

    /// The filters that an integration had before, oldest first, read consistently.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn past_filters(
        &self,
        integration_ref: &IntegrationRef,
    ) -> Result<Vec<PastFilter>, StoreError> {
        let query = self.table.list(&fates(integration_ref), FILTER);
        let read = |item: &Item| {
            let filter = text_of(item, "filter")?;
            serde_json::from_str(&filter).map_err(unreadable)
        };
        self.table.all(query, read).await
    }
}

/// The item of a filter that is changed under the ULID `id`.
pub(super) fn filter_item(
    integration_ref: &IntegrationRef,
    past: &PastFilter,
    id: Ulid,
    retention: Duration,
) -> Result<Item, StoreError> {
    let filter = serde_json::to_string(past).map_err(unreadable)?;
    let expires_at = Millis(id.timestamp_ms()).after(retention);
    Ok(HashMap::from([
        ("pk".into(), text(fates(integration_ref))),
        ("sk".into(), text(format!("{FILTER}{id}"))),
        ("filter".into(), text(filter)),
        ("expires_at".into(), number(expires_at.epoch_seconds())),
    ]))
}

fn fates(integration_ref: &IntegrationRef) -> String {
    format!("{}#fates", partition(integration_ref))
}

fn refused_key(event: &EventRef) -> String {
    format!("{REFUSED}{}#{:05}", event.segment, event.index)
}

fn item(integration_ref: &IntegrationRef, note: &Refused, retention: Duration) -> Item {
    let expires_at = note.at.after(retention);
    HashMap::from([
        ("pk".into(), text(fates(integration_ref))),
        ("sk".into(), text(refused_key(&note.event))),
        ("shard".into(), number(u64::from(note.event.shard))),
        ("id".into(), text(note.id.as_str())),
        ("at".into(), number(note.at.0)),
        ("reason".into(), text(clip(&note.reason, MAX_REASON_BYTES))),
        ("expires_at".into(), number(expires_at.epoch_seconds())),
    ])
}

fn read(item: &Item) -> Result<Refused, StoreError> {
    let sk = text_of(item, "sk")?;
    let place = sk.strip_prefix(REFUSED).and_then(|it| it.split_once('#'));
    let (segment, index) = place.ok_or_else(|| unreadable("a rejected event's key"))?;
    Ok(Refused {
        event: EventRef {
            segment: Ulid::from_string(segment).map_err(unreadable)?,
            index: index.parse().map_err(unreadable)?,
            shard: u32::try_from(number_of(item, "shard")?).map_err(unreadable)?,
        },
        id: text_of(item, "id")?,
        at: Millis(number_of(item, "at")?),
        reason: text_of(item, "reason")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_and_takes_less_than_a_kilobyte() {
        let integration_ref = IntegrationRef {
            tenant: "acme".into(),
            integration_id: "erp-1".into(),
            generation: Ulid(9),
        };
        let note = Refused {
            event: EventRef {
                segment: Ulid::from_parts(1_700_000_000_001, 5),
                index: 3,
                shard: 1,
            },
            id: "x".repeat(64),
            at: Millis(1_700_000_000_123),
            reason: "y".repeat(MAX_REASON_BYTES),
        };
        let item = item(&integration_ref, &note, Duration::from_secs(90 * 24 * 3600));
        let sk = "refused#01HF7YAT010000000000000005#00003";
        assert_eq!(item["sk"], text(sk));
        assert_eq!(item["expires_at"], number(1_707_776_000));
        assert_eq!(read(&item).unwrap(), note);
        let texts = item.values().filter_map(|value| value.as_s().ok());
        let bytes: usize = texts.map(String::len).sum();
        assert!(bytes < 900, "{bytes}");
    }
}
