//! The items of integrations and of their tombstones, and how they are read.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{DeleteRequest, WriteRequest};
use domain::integration::{Integration, IntegrationRef, Target};

use crate::store::{
    Item, StoreError, Table, number, number_of, partition, text, text_of, unavailable, unreadable,
};

/// The sort keys of integrations begin with this; the id follows.
pub(super) const INTEGRATION: &str = "integration#";
/// The sort keys of tombstones begin with this; id and generation follow.
pub(super) const DELETED: &str = "deleted#";
/// The one partition of the sparse index of running exports; it holds keys only.
pub(super) const EXPORT_PARTITION: &str = "all";
/// How many partitions the sparse index of what is due has; it holds keys only. Each step of replay changes `wake_at` twice, 4
/// write units of a partition's 1,000 a second, and what the index cannot keep up with is refused in the table as well.
pub(super) const WAKE_PARTITIONS: u32 = 16;

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

    /// Removes everything that a deleted integration left: log entries, rejected and waiting events, what was noted, counted and
    /// listed of it, then its tombstone.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; a second call continues.
    pub async fn purge(&self, integration_ref: &IntegrationRef) -> Result<(), StoreError> {
        let partition = partition(integration_ref);
        for of_it in ["", "#fates", "#activity", "#files"] {
            self.purge_partition(format!("{partition}{of_it}")).await?;
        }
        self.table
            .delete(&integration_ref.tenant, &tombstone(integration_ref))
            .await
    }

    /// Deletes a partition's items, as many at a time as DynamoDB accepts: there may be a note for each event.
    async fn purge_partition(&self, pk: String) -> Result<(), StoreError> {
        let pages = self
            .table
            .query()
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(pk))
            .projection_expression("pk, sk")
            .into_paginator();
        let mut pages = pages.send();
        while let Some(page) = pages.try_next().await.map_err(unavailable)? {
            let deletions = page.items.unwrap_or_default().into_iter().map(|key| {
                let delete = DeleteRequest::builder().set_key(Some(key));
                let delete = delete.build().map_err(unreadable)?;
                Ok(WriteRequest::builder().delete_request(delete).build())
            });
            let deletions = deletions.collect::<Result<_, StoreError>>()?;
            self.table.write_batch(deletions).await?;
        }
        Ok(())
    }
}

/// The sort key of the tombstone that a deleted integration leaves.
pub(super) fn tombstone(integration_ref: &IntegrationRef) -> String {
    format!(
        "{DELETED}{}#{}",
        integration_ref.integration_id, integration_ref.generation
    )
}

/// The partition of an integration in the index of what is due: the same for as long as it exists, by FNV-1a.
pub(super) fn wake_partition(tenant: &str, id: &str) -> String {
    let bytes = tenant.bytes().chain([b'#']).chain(id.bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (hash % WAKE_PARTITIONS).to_string()
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
    if let Some(wake_at) = integration
        .stream()
        .and_then(|stream| stream.schedule.wake_at)
    {
        let partition = wake_partition(&integration.tenant, &integration.id);
        item.insert("wake_partition".into(), text(partition));
        item.insert("wake_at".into(), number(wake_at.0));
    }
    if matches!(integration.target, Target::S3 { .. }) && integration.is_running() {
        let key = format!("{}#{}", integration.tenant, integration.id);
        item.insert("export_partition".into(), text(EXPORT_PARTITION));
        item.insert("export_key".into(), text(key));
    }
    Ok(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document of this integration.
    const DOCUMENT: &str = r#"{"tenant":"acme","id":"erp-1","generation":"01HF7YAT000000000000000007","version":12,"integration_type":"permanent","target":{"webhook":{"callback":{"callback_url":"https://erp.example/","api_key":null},"stream":{"floor":1,"gaps":[],"unconfirmed":false,"owed":[],"schedule":{"wake_at":5,"turn":7,"lease":null,"nudged":false},"health":{"failures":0,"first_failed":null,"several_since":null,"failing_since":null,"last_failure_at":null,"next_attempt_at":null,"last_success_at":null,"interruption":null,"resumed_at":null,"retrying_until":null},"epoch":0,"served":null,"live_hold":null,"pace":{"window":0,"ceiling":null,"rate":null,"last_rate":0,"hold_until":null,"refused_at":null,"usual":0},"waiting":0,"strikes":[],"slow_at":null}}},"starts_at":1,"ends_at":null,"filter":null,"status":"running","stopped_at":null,"is_finished":false}"#;

    #[test]
    fn the_item_of_an_integration_keeps_its_form() {
        let stored: Item = HashMap::from([
            ("pk".into(), text("acme")),
            ("sk".into(), text("integration#erp-1")),
            ("generation".into(), text("01HF7YAT000000000000000007")),
            ("version".into(), number(12)),
            ("document".into(), text(DOCUMENT)),
            ("wake_partition".into(), text("7")),
            ("wake_at".into(), number(5)),
        ]);
        let integration = read(&stored).unwrap();
        assert_eq!(item(&integration).unwrap(), stored);
        let tombstone = tombstone(&IntegrationRef::from(&integration));
        assert_eq!(tombstone, "deleted#erp-1#01HF7YAT000000000000000007");
    }

    #[test]
    fn what_is_due_is_spread_over_all_partitions() {
        let mut counts = [0; WAKE_PARTITIONS as usize];
        for number in 0..1_600 {
            // One webhook of each of many tenants, and many of one.
            let one = wake_partition(&format!("tenant-{number}"), "erp");
            let many = wake_partition("acme", &format!("erp-{number}"));
            for partition in [one, many] {
                counts[partition.parse::<usize>().unwrap()] += 1;
            }
        }
        assert!(
            counts.iter().all(|count| (120..=280).contains(count)),
            "{counts:?}"
        );
    }
}
