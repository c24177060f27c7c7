//! The log of an integration: its last 50 entries.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;

use domain::integration::IntegrationRef;
use domain::integration_log::{Action, Entry};
use ulid::Ulid;

use super::{Item, StoreError, Table, partition, text, text_of, unavailable, unreadable};

/// How many entries a reader sees (docs/api.md).
pub const MAX_ENTRIES: usize = 50;

/// The sort keys of entries begin with this; a ULID follows.
pub(super) const PREFIX: &str = "entry#";

/// One in so many appends removes the entries beyond the last [`MAX_ENTRIES`].
const TRIM_EVERY: u128 = 16;

/// The logs of all integrations.
#[derive(Clone, Debug)]
pub struct IntegrationLog {
    table: Table,
}

impl IntegrationLog {
    /// The store in a table.
    pub fn new(table: Table) -> IntegrationLog {
        IntegrationLog { table }
    }

    /// The last entries, newest first, at most [`MAX_ENTRIES`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn list(&self, integration_ref: &IntegrationRef) -> Result<Vec<Entry>, StoreError> {
        let answer = self
            .newest_first(integration_ref)
            .limit(MAX_ENTRIES as i32)
            .send()
            .await
            .map_err(unavailable)?;
        answer.items().iter().map(read).collect()
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn append(
        &self,
        integration_ref: &IntegrationRef,
        entry: &Entry,
    ) -> Result<(), StoreError> {
        self.table.put(item(integration_ref, entry)).await?;
        self.trim(integration_ref, entry).await
    }

    /// Removes the entries beyond the last [`MAX_ENTRIES`], one time in [`TRIM_EVERY`] that an entry was written.
    pub(super) async fn trim(
        &self,
        integration_ref: &IntegrationRef,
        written: &Entry,
    ) -> Result<(), StoreError> {
        if !written.id.random().is_multiple_of(TRIM_EVERY) {
            return Ok(());
        }
        let mut pages = self
            .newest_first(integration_ref)
            .projection_expression("pk, sk")
            .into_paginator()
            .items()
            .send();
        let mut position = 0;
        while let Some(item) = pages.try_next().await.map_err(unavailable)? {
            position += 1;
            if position > MAX_ENTRIES {
                let (pk, sk) = (text_of(&item, "pk")?, text_of(&item, "sk")?);
                self.table.delete(&pk, &sk).await?;
            }
        }
        Ok(())
    }

    fn newest_first(&self, integration_ref: &IntegrationRef) -> QueryFluentBuilder {
        let entries = self.table.list(&partition(integration_ref), PREFIX);
        entries.scan_index_forward(false)
    }
}

/// The item of an entry.
pub(super) fn item(integration_ref: &IntegrationRef, entry: &Entry) -> Item {
    HashMap::from([
        ("pk".into(), text(partition(integration_ref))),
        ("sk".into(), text(format!("{PREFIX}{}", entry.id))),
        ("action".into(), text(entry.action.as_str())),
        ("reason".into(), text(entry.reason.as_str())),
    ])
}

fn read(item: &Item) -> Result<Entry, StoreError> {
    let sk = text_of(item, "sk")?;
    let id = sk
        .strip_prefix(PREFIX)
        .and_then(|id| Ulid::from_string(id).ok())
        .ok_or_else(|| unreadable("an entry's key"))?;
    let action =
        Action::parse(&text_of(item, "action")?).ok_or_else(|| unreadable("an entry's action"))?;
    Ok(Entry {
        id,
        action,
        reason: text_of(item, "reason")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_item_of_an_entry_keeps_its_form() {
        let integration_ref = IntegrationRef {
            tenant: "acme".into(),
            integration_id: "erp-1".into(),
            generation: Ulid(9),
        };
        let entry = Entry {
            id: Ulid(4),
            action: Action::DeliveryResumed,
            reason: "because".into(),
        };
        let stored = HashMap::from([
            (
                "pk".to_owned(),
                text("acme#erp-1#00000000000000000000000009"),
            ),
            ("sk".to_owned(), text("entry#00000000000000000000000004")),
            ("action".to_owned(), text("delivery_resumed")),
            ("reason".to_owned(), text("because")),
        ]);
        assert_eq!(item(&integration_ref, &entry), stored);
        assert_eq!(read(&stored).unwrap(), entry);
    }
}
