//! The sparse indexes of the integrations table: what is due for replay, and which exports run.

use domain::integration::IntegrationRef;
use domain::time::Millis;
use futures_util::future::try_join_all;
use ulid::Ulid;

use super::items::{DELETED, EXPORT_PARTITION, INTEGRATION, Integrations, WAKE_PARTITIONS};
use crate::store::{Item, StoreError, number, number_of, text, text_of, unavailable, unreadable};
use crate::telemetry::chain;

/// Something that is due: its key in the table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Due {
    /// Replay has to look at this integration.
    Wake {
        /// The tenant.
        tenant: String,
        /// The integration's id.
        integration_id: String,
        /// Since when.
        wake_at: Millis,
    },
    /// What this deleted integration left has to be removed.
    Purge {
        /// The integration.
        integration_ref: IntegrationRef,
        /// Since when.
        wake_at: Millis,
    },
}

impl Due {
    /// Since when it is due.
    pub fn wake_at(&self) -> Millis {
        match self {
            Due::Wake { wake_at, .. } | Due::Purge { wake_at, .. } => *wake_at,
        }
    }

    /// Tenant and id of the integration.
    pub fn subject(&self) -> (&str, &str) {
        match self {
            Due::Wake {
                tenant,
                integration_id,
                ..
            } => (tenant, integration_id),
            Due::Purge {
                integration_ref, ..
            } => (&integration_ref.tenant, &integration_ref.integration_id),
        }
    }
}

impl Integrations {
    /// What was due at `now`, the longest waiting first, up to `limit` of each partition of the index. The index is read
    /// eventually consistently: what is missed is found by the next sweep. A key that cannot be read is reported and left out.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn due(&self, now: Millis, limit: i32) -> Result<Vec<Due>, StoreError> {
        let pages = (0..WAKE_PARTITIONS).map(|partition| {
            self.table
                .query()
                .index_name("wake")
                .key_condition_expression("wake_partition = :partition AND wake_at <= :now")
                .expression_attribute_values(":partition", text(partition.to_string()))
                .expression_attribute_values(":now", number(now.0))
                .limit(limit)
                .send()
        });
        let pages = try_join_all(pages).await.map_err(unavailable)?;
        let items = pages.iter().flat_map(|page| page.items());
        let mut found: Vec<Due> = items
            .filter_map(|item| {
                due(item)
                    .inspect_err(|error| {
                        tracing::error!(error = chain(error), "a key of the index wake")
                    })
                    .ok()
            })
            .collect();
        found.sort_by_key(Due::wake_at);
        Ok(found)
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
            .expression_attribute_values(":all", text(EXPORT_PARTITION))
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
    let wake_at = Millis(number_of(item, "wake_at")?);
    if let Some(id) = sk.strip_prefix(INTEGRATION) {
        return Ok(Due::Wake {
            tenant,
            integration_id: id.to_owned(),
            wake_at,
        });
    }
    let (integration_id, generation) = sk
        .strip_prefix(DELETED)
        .and_then(|rest| rest.split_once('#'))
        .and_then(|(id, generation)| Some((id.to_owned(), Ulid::from_string(generation).ok()?)))
        .ok_or_else(|| {
            unreadable("a key of the index wake is neither an integration's nor a deleted one's")
        })?;
    Ok(Due::Purge {
        integration_ref: IntegrationRef {
            tenant,
            integration_id,
            generation,
        },
        wake_at,
    })
}
