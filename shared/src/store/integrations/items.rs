//! The items of integrations and of their tombstones, and how they are read.

use std::collections::HashMap;

use domain::integration::{Integration, Owner, Target};

use crate::store::{
    Item, StoreError, Table, number, number_of, partition, text, text_of, unavailable, unreadable,
};

/// The sort keys of integrations begin with this; the id follows.
pub(super) const INTEGRATION: &str = "integration#";
/// The sort keys of tombstones begin with this; id and generation follow.
pub(super) const DELETED: &str = "deleted#";
/// The one partition of each sparse index; both hold keys only, of what is due or running.
pub(super) const INDEX_PARTITION: &str = "all";

/// The integrations of all tenants.
#[derive(Clone, Debug)]
pub struct Integrations {
    pub(super) table: Table,
}

impl Integrations {
    /// The store in a table.
    pub fn new(table: Table) -> Integrations {
        Integrations { table }
    }

    /// All integrations of a tenant, sorted by id; read consistently.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn list(&self, tenant: &str) -> Result<Vec<Integration>, StoreError> {
        let mut integrations = Vec::new();
        let pages = self.table.list(tenant, INTEGRATION).into_paginator();
        let mut items = pages.items().send();
        while let Some(item) = items.try_next().await.map_err(unavailable)? {
            integrations.push(read(&item)?);
        }
        Ok(integrations)
    }

    /// One integration; read consistently.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] and those of [`Integrations::list`].
    pub async fn get(&self, tenant: &str, id: &str) -> Result<Integration, StoreError> {
        let found = self
            .table
            .get(tenant, &format!("{INTEGRATION}{id}"))
            .await?;
        read(&found.ok_or(StoreError::NotFound)?)
    }

    /// Removes everything that a deleted integration left: log entries, rejected and parked events, then its tombstone.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; a second call continues.
    pub async fn purge(&self, owner: &Owner) -> Result<(), StoreError> {
        let pages = self
            .table
            .query()
            .key_condition_expression("pk = :owner")
            .expression_attribute_values(":owner", text(partition(owner)))
            .projection_expression("pk, sk")
            .into_paginator();
        let mut items = pages.items().send();
        while let Some(item) = items.try_next().await.map_err(unavailable)? {
            let (pk, sk) = (text_of(&item, "pk")?, text_of(&item, "sk")?);
            self.table.delete(&pk, &sk).await?;
        }
        self.table.delete(&owner.tenant, &tombstone(owner)).await
    }
}

/// The sort key of the tombstone that a deleted integration leaves.
pub(super) fn tombstone(owner: &Owner) -> String {
    format!("{DELETED}{}#{}", owner.integration_id, owner.generation)
}

fn read(item: &Item) -> Result<Integration, StoreError> {
    let mut integration: Integration =
        serde_json::from_str(&text_of(item, "document")?).map_err(unreadable)?;
    integration.version = number_of(item, "version")?;
    Ok(integration)
}

/// The item of an integration.
pub(super) fn item(integration: &Integration) -> Result<Item, StoreError> {
    let document = serde_json::to_string(integration).map_err(unreadable)?;
    let key = format!("{INTEGRATION}{}", integration.id);
    let mut item: Item = HashMap::from([
        ("pk".into(), text(integration.tenant.as_str())),
        ("sk".into(), text(key)),
        (
            "generation".into(),
            text(integration.generation.to_string()),
        ),
        ("version".into(), number(integration.version)),
        ("document".into(), text(document)),
    ]);
    if let Some(wake_at) = integration.stream().and_then(|stream| stream.duty.wake_at) {
        item.insert("wake_partition".into(), text(INDEX_PARTITION));
        item.insert("wake_at".into(), number(wake_at.0));
    }
    if matches!(integration.target, Target::S3 { .. }) && integration.is_running() {
        let key = format!("{}#{}", integration.tenant, integration.id);
        item.insert("export_partition".into(), text(INDEX_PARTITION));
        item.insert("export_key".into(), text(key));
    }
    Ok(item)
}
