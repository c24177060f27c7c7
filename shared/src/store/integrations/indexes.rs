//! The sparse indexes of the integrations table: what is due for replay, and which exports run.

use domain::integration::IntegrationRef;
use domain::time::Millis;
use ulid::Ulid;

use super::items::{DELETED, INDEX_PARTITION, INTEGRATION, Integrations};
use crate::store::{Item, StoreError, number, text, text_of, unavailable, unreadable};

/// Something that is due: its key in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Replay has to look at this integration.
    Wake {
        /// The tenant.
        tenant: String,
        /// The integration's id.
        integration_id: String,
    },
    /// What this deleted integration left has to be removed.
    Purge(IntegrationRef),
}

impl Integrations {
    /// Up to `limit` of what was due at `now`, the longest waiting first. The index is read eventually consistently: what
    /// is missed is found by the next sweep.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn due(&self, now: Millis, limit: i32) -> Result<Vec<Due>, StoreError> {
        let answer = self
            .table
            .query()
            .index_name("wake")
            .key_condition_expression("wake_partition = :all AND wake_at <= :now")
            .expression_attribute_values(":all", text(INDEX_PARTITION))
            .expression_attribute_values(":now", number(now.0))
            .limit(limit)
            .send()
            .await
            .map_err(unavailable)?;
        answer.items().iter().map(due).collect()
    }

    /// Tenant and id of every running S3 integration, a page at a time: `from` is the position that the page before gave back.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn running_exports(
        &self,
        from: Option<ExportsPage>,
    ) -> Result<(Vec<(String, String)>, Option<ExportsPage>), StoreError> {
        let answer = self
            .table
            .query()
            .index_name("exports")
            .key_condition_expression("export_partition = :all")
            .expression_attribute_values(":all", text(INDEX_PARTITION))
            .set_exclusive_start_key(from.map(|page| page.0))
            .send()
            .await
            .map_err(unavailable)?;
        let found = answer.items().iter().map(|item| {
            let sk = text_of(item, "sk")?;
            let id = sk
                .strip_prefix(INTEGRATION)
                .ok_or_else(|| unreadable("a key of the index exports is not an integration's"))?;
            Ok((text_of(item, "pk")?, id.to_owned()))
        });
        Ok((
            found.collect::<Result<_, StoreError>>()?,
            answer.last_evaluated_key.map(ExportsPage),
        ))
    }
}

/// Where the next page of [`Integrations::running_exports`] begins.
#[derive(Debug)]
pub struct ExportsPage(Item);

fn due(item: &Item) -> Result<Due, StoreError> {
    let (tenant, sk) = (text_of(item, "pk")?, text_of(item, "sk")?);
    if let Some(id) = sk.strip_prefix(INTEGRATION) {
        return Ok(Due::Wake {
            tenant,
            integration_id: id.to_owned(),
        });
    }
    let (integration_id, generation) = sk
        .strip_prefix(DELETED)
        .and_then(|rest| rest.split_once('#'))
        .and_then(|(id, generation)| Some((id.to_owned(), Ulid::from_string(generation).ok()?)))
        .ok_or_else(|| {
            unreadable("a key of the index wake is neither an integration's nor a deleted one's")
        })?;
    Ok(Due::Purge(IntegrationRef {
        tenant,
        integration_id,
        generation,
    }))
}
