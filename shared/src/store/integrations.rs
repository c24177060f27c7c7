//! Integrations: one item each under their tenant, beside what is known of the tenant, and the traces that deleted ones leave.
//!
//! An item is a JSON document with the attributes that keys, conditions and indexes need beside it. Every write of an item
//! is made on condition that its version is the one that was read.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, Put, ReturnValue, TransactWriteItem, Update,
};
use domain::integration::{Integration, MAX_INTEGRATIONS, Owner, Target};
use domain::integration_log::Entry;
use domain::lifecycle::{self, Effect, Input, Rules, Verdict};
use domain::stream::chunk::Chunk;
use domain::time::Millis;
use ulid::Ulid;
use uuid::Uuid;

use super::integration_log::IntegrationLog;
use super::{
    Item, StoreError, chunks, delete_all, failure, integration_log, number, partition, text,
    text_of, unavailable, unreadable,
};
use crate::clock::Clock;

const INTEGRATION: &str = "integration#";
const DELETED: &str = "deleted#";
/// How many integrations the tenant has, and its external id.
const COUNTER: &str = "counter";
/// The one partition of each sparse index; both hold keys only, of what is due or running.
const INDEX_PARTITION: &str = "all";
/// Why DynamoDB cancelled a transaction: the condition of this item did not hold.
const REFUSED: &str = "ConditionalCheckFailed";
/// How often a losing writer reads and decides again before it gives up.
const MAX_TRIES: u32 = 12;

/// The integrations of all tenants.
#[derive(Clone, Debug)]
pub struct Integrations {
    client: Client,
    table: String,
}

/// What to do with an integration that was read.
#[derive(Debug)]
pub enum Decision {
    /// Leave it as it is stored.
    Keep,
    /// Write it as it now is.
    Write,
    /// Write it, together with entries of its log and a chunk.
    WriteWith(Vec<Entry>, Option<Chunk>),
}

/// What became of an input.
#[derive(Debug)]
pub struct Applied {
    /// The integration as it is now.
    pub integration: Integration,
    /// Whether the input was written, superfluous or refused.
    pub verdict: Verdict,
    /// When it was decided.
    pub decided_at: Millis,
    /// What is left to be done: entries of the log have been written.
    pub effects: Vec<Effect>,
}

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
    Purge(Owner),
}

impl Integrations {
    /// The store in table `table`.
    pub fn new(client: Client, table: String) -> Integrations {
        Integrations { client, table }
    }

    /// All integrations of a tenant, sorted by id; read consistently.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn list(&self, tenant: &str) -> Result<Vec<Integration>, StoreError> {
        let mut integrations = Vec::new();
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :tenant AND begins_with(sk, :prefix)")
            .expression_attribute_values(":tenant", text(tenant))
            .expression_attribute_values(":prefix", text(INTEGRATION))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        while let Some(item) = pages.try_next().await.map_err(unavailable)? {
            integrations.push(read(&item)?);
        }
        Ok(integrations)
    }

    /// One integration; read consistently.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] and those of [`Integrations::list`].
    pub async fn get(&self, tenant: &str, id: &str) -> Result<Integration, StoreError> {
        let found = super::get(
            &self.client,
            &self.table,
            tenant,
            format!("{INTEGRATION}{id}"),
        );
        read(&found.await?.ok_or(StoreError::NotFound)?)
    }

    /// Registers an integration, with the first entry of its log. One transaction with the tenant's counter, so that
    /// neither the id nor the limit gives way to concurrent calls.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], [`StoreError::LimitReached`], [`StoreError::Changed`] when a concurrent transaction
    /// was in the way, [`StoreError::Unavailable`].
    pub async fn register(
        &self,
        integration: &Integration,
        entry: Entry,
    ) -> Result<(), StoreError> {
        for attempt in 1.. {
            let put = self
                .put(integration)?
                .condition_expression("attribute_not_exists(pk)");
            let count = self
                .count(&integration.tenant, 1)
                .condition_expression("attribute_not_exists(#count) OR #count < :limit")
                .expression_attribute_names("#count", "count")
                .expression_attribute_values(":limit", number(MAX_INTEGRATIONS as u64));
            let result = self
                .client
                .transact_write_items()
                .transact_items(
                    TransactWriteItem::builder()
                        .put(build(put.build())?)
                        .build(),
                )
                .transact_items(
                    TransactWriteItem::builder()
                        .update(build(count.build())?)
                        .build(),
                )
                .transact_items(
                    TransactWriteItem::builder()
                        .put(self.entry(integration, entry.clone())?)
                        .build(),
                )
                .send()
                .await;
            let Err(error) = result else { return Ok(()) };
            match cancelled(&error).as_deref() {
                Some([taken, ..]) if taken == REFUSED => return Err(StoreError::AlreadyExists),
                Some([_, full, ..]) if full == REFUSED => return Err(StoreError::LimitReached),
                Some(_) if attempt < MAX_TRIES => back_off(attempt).await,
                Some(_) => break,
                None => return Err(unavailable(error)),
            }
        }
        Err(StoreError::Changed)
    }

    /// Reads an integration, lets `decide` change it, and writes it on condition that nobody else wrote in between; where
    /// somebody did, it reads and decides again.
    ///
    /// Returns the integration as it now is, and whether it was written.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Changed`] when others won every time, [`StoreError::Unavailable`], and what
    /// `decide` answers.
    pub async fn change<E: From<StoreError>>(
        &self,
        tenant: &str,
        id: &str,
        mut decide: impl FnMut(&mut Integration) -> Result<Decision, E>,
    ) -> Result<(Integration, bool), E> {
        for attempt in 1.. {
            let mut integration = self.get(tenant, id).await?;
            let (entries, chunk) = match decide(&mut integration)? {
                Decision::Keep => return Ok((integration, false)),
                Decision::Write => (Vec::new(), None),
                Decision::WriteWith(entries, chunk) => (entries, chunk),
            };
            match self.replace(&mut integration, &entries, chunk).await {
                Ok(()) => return Ok((integration, true)),
                Err(StoreError::Changed) if attempt < MAX_TRIES => back_off(attempt).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Changed.into())
    }

    /// Applies an input to an integration (see [`lifecycle::apply`]) and writes the result, with the entries of its log, on
    /// condition that nobody else wrote in between; where somebody did, it reads and applies again. `chunk` is written with
    /// it. None when the integration is gone, or is one of another generation.
    ///
    /// # Errors
    /// [`StoreError::Changed`] when others won every time, [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn apply(
        &self,
        owner: &Owner,
        input: &Input,
        chunk: Option<&Chunk>,
        clock: &Clock,
        rules: &Rules,
    ) -> Result<Option<Applied>, StoreError> {
        let (mut verdict, mut effects, mut decided_at) = (None, Vec::new(), clock.now());
        let decide = |integration: &mut Integration| {
            if integration.generation != owner.generation {
                verdict = None;
                return Ok(Decision::Keep);
            }
            decided_at = clock.now();
            let before = integration.clone();
            let change = lifecycle::apply(integration, input, decided_at, rules);
            let is_written = change.verdict == Verdict::Write;
            verdict = Some(change.verdict);
            if !is_written {
                *integration = before;
                effects.clear();
                return Ok(Decision::Keep);
            }
            let (mut entries, id) = (Vec::new(), clock.ulid());
            effects = change.effects;
            effects.retain(|effect| match effect {
                Effect::Log(action, reason) => {
                    entries.push(Entry {
                        id: Ulid(id.0 + entries.len() as u128),
                        action: *action,
                        reason: reason.clone(),
                    });
                    false
                }
                Effect::SendStep { .. } => true,
            });
            Ok(Decision::WriteWith(entries, chunk.cloned()))
        };
        let changed = self
            .change(&owner.tenant, &owner.integration_id, decide)
            .await;
        let integration = match changed {
            Ok((integration, _)) => integration,
            Err(StoreError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(verdict.map(|verdict| Applied {
            integration,
            verdict,
            decided_at,
            effects,
        }))
    }

    async fn replace(
        &self,
        integration: &mut Integration,
        entries: &[Entry],
        chunk: Option<Chunk>,
    ) -> Result<(), StoreError> {
        let read_version = integration.version;
        integration.version += 1;
        let put = self
            .put(integration)?
            .condition_expression("generation = :generation AND #version = :version")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":generation", text(integration.generation.to_string()))
            .expression_attribute_values(":version", number(read_version));
        let put = build(put.build())?;
        if entries.is_empty() && chunk.is_none() {
            let result = self
                .client
                .put_item()
                .table_name(&self.table)
                .set_item(Some(put.item))
                .set_condition_expression(put.condition_expression)
                .set_expression_attribute_names(put.expression_attribute_names)
                .set_expression_attribute_values(put.expression_attribute_values)
                .send()
                .await;
            // What somebody else's transaction is at is changed, or will not be: either way it is read again.
            return result.map(drop).map_err(|error| match error.code() {
                Some("TransactionConflictException") => StoreError::Changed,
                _ => failure(error, StoreError::Changed),
            });
        }
        let owner = Owner::from(&*integration);
        let mut puts = vec![put];
        for entry in entries {
            puts.push(self.entry(integration, entry.clone())?);
        }
        if let Some(chunk) = chunk {
            let put = Put::builder().table_name(&self.table);
            puts.push(build(
                put.set_item(Some(chunks::item(&owner, &chunk)?)).build(),
            )?);
        }
        let puts = puts
            .into_iter()
            .map(|put| TransactWriteItem::builder().put(put).build());
        let result = self
            .client
            .transact_write_items()
            .set_transact_items(Some(puts.collect()))
            .send()
            .await;
        result.map_err(|error| {
            if cancelled(&error).is_some() {
                StoreError::Changed
            } else {
                unavailable(error)
            }
        })?;
        let log = IntegrationLog::new(self.client.clone(), self.table.clone());
        for entry in entries {
            // The next entries will do what this one could not.
            let _ = log.trim(&owner, entry).await;
        }
        Ok(())
    }

    /// The external id with which roles of a tenant are assumed: `fresh`, unless the tenant has one already. It stays for
    /// good, so that a role's trust policy fits every integration to come.
    ///
    /// # Errors
    /// [`StoreError::Changed`] when others were in the way every time, [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn external_id(&self, tenant: &str, fresh: Uuid) -> Result<String, StoreError> {
        for attempt in 1.. {
            let update = self
                .client
                .update_item()
                .table_name(&self.table)
                .key("pk", text(tenant))
                .key("sk", text(COUNTER))
                .update_expression("SET external_id = if_not_exists(external_id, :fresh)")
                .expression_attribute_values(":fresh", text(fresh.to_string()))
                .return_values(ReturnValue::UpdatedNew);
            let error = match update.send().await {
                Ok(answer) => {
                    return text_of(&answer.attributes.unwrap_or_default(), "external_id");
                }
                Err(error) => error,
            };
            // A registration of the same tenant is in the middle of its transaction. The SDK does not try again by itself.
            if error.code() != Some("TransactionConflictException") {
                return Err(unavailable(error));
            }
            if attempt == MAX_TRIES {
                break;
            }
            back_off(attempt).await;
        }
        Err(StoreError::Changed)
    }

    /// Deletes an integration and counts it out, in one transaction, and leaves a trace that is due at `purge_at`: by it
    /// the sweep finds what else has to go.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Changed`] when others won every time, [`StoreError::Unavailable`].
    pub async fn delete(
        &self,
        tenant: &str,
        id: &str,
        purge_at: Millis,
    ) -> Result<Owner, StoreError> {
        for attempt in 1.. {
            let integration = self.get(tenant, id).await?;
            let owner = Owner::from(&integration);
            let delete = Delete::builder()
                .table_name(&self.table)
                .key("pk", text(tenant))
                .key("sk", text(format!("{INTEGRATION}{id}")))
                .condition_expression("generation = :generation")
                .expression_attribute_values(":generation", text(owner.generation.to_string()));
            let trace = Put::builder()
                .table_name(&self.table)
                .set_item(Some(HashMap::from([
                    ("pk".into(), text(tenant)),
                    (
                        "sk".into(),
                        text(format!("{DELETED}{id}#{}", owner.generation)),
                    ),
                    ("wake_partition".into(), text(INDEX_PARTITION)),
                    ("wake_at".into(), number(purge_at.0)),
                ])));
            let result = self
                .client
                .transact_write_items()
                .transact_items(
                    TransactWriteItem::builder()
                        .delete(build(delete.build())?)
                        .build(),
                )
                .transact_items(
                    TransactWriteItem::builder()
                        .update(build(self.count(tenant, -1).build())?)
                        .build(),
                )
                .transact_items(
                    TransactWriteItem::builder()
                        .put(build(trace.build())?)
                        .build(),
                )
                .send()
                .await;
            let Err(error) = result else { return Ok(owner) };
            match cancelled(&error) {
                Some(_) if attempt < MAX_TRIES => back_off(attempt).await,
                Some(_) => break,
                None => return Err(unavailable(error)),
            }
        }
        Err(StoreError::Changed)
    }

    /// Removes everything that a deleted integration left: log entries, rejected and parked events, then its trace.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; calling it again goes on.
    pub async fn purge(&self, owner: &Owner) -> Result<(), StoreError> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :owner")
            .expression_attribute_values(":owner", text(partition(owner)))
            .projection_expression("pk, sk")
            .into_paginator()
            .items()
            .send();
        while let Some(item) = pages.try_next().await.map_err(unavailable)? {
            delete_all(
                &self.client,
                &self.table,
                [(text_of(&item, "pk")?, text_of(&item, "sk")?)],
            )
            .await?;
        }
        let trace = format!("{DELETED}{}#{}", owner.integration_id, owner.generation);
        delete_all(&self.client, &self.table, [(owner.tenant.clone(), trace)]).await
    }

    /// Up to `limit` of what was due at `now`, the longest waiting first. The index is read eventually consistently: what
    /// is missed is found by the next sweep.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn due(&self, now: Millis, limit: i32) -> Result<Vec<Due>, StoreError> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
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

    /// Tenant and id of every running S3 integration, a page at a time: `from` is the place that the page before gave back.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn running_exports(
        &self,
        from: Option<ExportsPage>,
    ) -> Result<(Vec<(String, String)>, Option<ExportsPage>), StoreError> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
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

    fn put(
        &self,
        integration: &Integration,
    ) -> Result<aws_sdk_dynamodb::types::builders::PutBuilder, StoreError> {
        let document = serde_json::to_string(integration).map_err(unreadable)?;
        let mut item: Item = HashMap::from([
            ("pk".into(), text(integration.tenant.as_str())),
            (
                "sk".into(),
                text(format!("{INTEGRATION}{}", integration.id)),
            ),
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
            item.insert("export_partition".into(), text(INDEX_PARTITION));
            item.insert(
                "export_key".into(),
                text(format!("{}#{}", integration.tenant, integration.id)),
            );
        }
        Ok(Put::builder().table_name(&self.table).set_item(Some(item)))
    }

    fn count(&self, tenant: &str, by: i64) -> aws_sdk_dynamodb::types::builders::UpdateBuilder {
        Update::builder()
            .table_name(&self.table)
            .key("pk", text(tenant))
            .key("sk", text(COUNTER))
            .update_expression("ADD #count :by")
            .expression_attribute_names("#count", "count")
            .expression_attribute_values(":by", AttributeValue::N(by.to_string()))
    }

    fn entry(&self, integration: &Integration, entry: Entry) -> Result<Put, StoreError> {
        let item = integration_log::item(&Owner::from(integration), &entry);
        build(
            Put::builder()
                .table_name(&self.table)
                .set_item(Some(item))
                .build(),
        )
    }
}

/// Waits a little longer each time, and never as long as the other losers.
async fn back_off(attempt: u32) {
    let pause = rand::random_range(1..=15) * u64::from(attempt);
    tokio::time::sleep(Duration::from_millis(pause)).await;
}

/// Where the next page of [`Integrations::running_exports`] begins.
#[derive(Debug)]
pub struct ExportsPage(Item);

fn read(item: &Item) -> Result<Integration, StoreError> {
    let mut integration: Integration =
        serde_json::from_str(&text_of(item, "document")?).map_err(unreadable)?;
    integration.version = super::number_of(item, "version")?;
    Ok(integration)
}

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
    Ok(Due::Purge(Owner {
        tenant,
        integration_id,
        generation,
    }))
}

/// The reasons for which DynamoDB cancelled a transaction, one per item; none when it failed for another reason.
fn cancelled(
    error: &aws_sdk_dynamodb::error::SdkError<
        aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError,
    >,
) -> Option<Vec<String>> {
    use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(cancelled) => Some(
            cancelled
                .cancellation_reasons()
                .iter()
                .map(|reason| reason.code().unwrap_or("None").to_owned())
                .collect(),
        ),
        TransactWriteItemsError::TransactionInProgressException(_) => Some(Vec::new()),
        _ => None,
    }
}

fn build<T>(built: Result<T, aws_sdk_dynamodb::error::BuildError>) -> Result<T, StoreError> {
    built.map_err(unreadable)
}
