//! Writes of integrations: each on condition, in one transaction with what belongs to it, and again where another writer came
//! in between.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::builders::{TransactWriteItemBuilder, UpdateBuilder};
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, Put, ReturnValue, ReturnValuesOnConditionCheckFailure,
    TransactWriteItem, Update,
};
use domain::fate::PastFilter;
use domain::integration::{Integration, IntegrationRef, MAX_INTEGRATIONS};
use domain::integration_log::{Action, Entry};
use domain::lifecycle::{self, Applied, Input, Rules, StepRequest};
use domain::time::Millis;
use ulid::Ulid;
use uuid::Uuid;

use super::items::{INTEGRATION, Integrations, item, tombstone, wake_partition};
use crate::clock::Clock;
use crate::store::exported_files;
use crate::store::fates;
use crate::store::integration_log::{self, IntegrationLog};
use crate::store::{Item, StoreError, failure, number, text, text_of, unavailable, unreadable};

/// How many integrations the tenant has, and its external id.
const COUNTER: &str = "counter";
/// How many tests a tenant has made; the number of the minute follows.
const TESTS: &str = "tests#";
/// Why DynamoDB cancelled a transaction: the condition of this item did not hold.
const REFUSED: &str = "ConditionalCheckFailed";
/// How often a losing writer reads and decides again before it gives up.
const MAX_TRIES: u32 = 12;

impl Integrations {
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
            let put = Put::builder()
                .table_name(&self.table.name)
                .set_item(Some(item(integration)?))
                .condition_expression("attribute_not_exists(pk)");
            let count = self
                .count(&integration.tenant, 1)
                .condition_expression("attribute_not_exists(#count) OR #count < :limit")
                .expression_attribute_values(":limit", number(MAX_INTEGRATIONS as u64));
            let written = self.transact([
                TransactWriteItem::builder().put(build(put.build())?),
                TransactWriteItem::builder().update(build(count.build())?),
                self.entry(&IntegrationRef::from(integration), &entry)?,
            ]);
            let Err(error) = written.await else {
                return Ok(());
            };
            // The reasons are in the order of the items above.
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

    /// Applies an input to an integration (see [`lifecycle::apply`]) and writes the result, with the entries of its log, on
    /// condition that no other writer came in between; where one did, it reads and applies again.
    /// Returns what became of the input and the step to ask for; none when the integration is gone, or is one of another
    /// generation.
    ///
    /// # Errors
    /// [`StoreError::Changed`] when others won every time, [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn apply(
        &self,
        integration_ref: &IntegrationRef,
        input: &Input,
        clock: &Clock,
        rules: &Rules,
    ) -> Result<Option<(Applied, Option<StepRequest>)>, StoreError> {
        for attempt in 1.. {
            let integration = match self
                .get(&integration_ref.tenant, &integration_ref.integration_id)
                .await
            {
                Ok(found) if found.generation == integration_ref.generation => found,
                Ok(_) | Err(StoreError::NotFound) => return Ok(None),
                Err(error) => return Err(error),
            };
            let decided_at = clock.now();
            let change = lifecycle::apply(&integration, input, decided_at, rules);
            let actions = change.entries.iter().map(|(action, _)| *action);
            let actions: Vec<Action> = actions.collect();
            let applied = |integration, actions| Applied {
                integration,
                verdict: change.verdict,
                decided_at,
                actions,
            };
            let Some(next) = change.next else {
                return Ok(Some((applied(integration, Vec::new()), None)));
            };
            let first = clock.ulid().0;
            let entries = (first..).zip(change.entries);
            let entries: Vec<Entry> = entries
                .map(|(id, (action, reason))| Entry {
                    id: Ulid(id),
                    action,
                    reason,
                })
                .collect();
            let file = change.file.as_ref();
            let file = file.map(|file| exported_files::item(integration_ref, file));
            match self.write(next, &entries, file).await {
                Ok(written) => return Ok(Some((applied(written, actions), change.step))),
                Err(StoreError::Changed) if attempt < MAX_TRIES => back_off(attempt).await,
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Changed)
    }

    /// Writes an integration that was read and changed, with entries of its log, on condition that no other writer
    /// came in between. Returns it as it is stored now: its version counts the write.
    ///
    /// # Errors
    /// [`StoreError::Changed`] when another writer came in between, [`StoreError::Unavailable`].
    pub async fn replace(
        &self,
        integration: Integration,
        entries: &[Entry],
    ) -> Result<Integration, StoreError> {
        self.write(integration, entries, None).await
    }

    /// As [`Integrations::replace`], where the integration had another filter before: it is kept for the `retention` of events.
    ///
    /// # Errors
    /// Those of [`Integrations::replace`].
    pub async fn replace_filter(
        &self,
        integration: Integration,
        entry: &Entry,
        past: &PastFilter,
        retention: Duration,
    ) -> Result<Integration, StoreError> {
        let integration_ref = IntegrationRef::from(&integration);
        let past = fates::filter_item(&integration_ref, past, entry.id, retention)?;
        let entries = std::slice::from_ref(entry);
        self.write(integration, entries, Some(past)).await
    }

    /// As [`Integrations::replace`], with one item that belongs to the write.
    async fn write(
        &self,
        mut integration: Integration,
        entries: &[Entry],
        also: Option<Item>,
    ) -> Result<Integration, StoreError> {
        let read_version = integration.version;
        integration.version += 1;
        let put = Put::builder()
            .table_name(&self.table.name)
            .set_item(Some(item(&integration)?))
            .condition_expression("generation = :generation AND #version = :version")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":generation", text(integration.generation.to_string()))
            .expression_attribute_values(":version", number(read_version));
        let put = build(put.build())?;
        if entries.is_empty() && also.is_none() {
            self.put_alone(put).await?;
            return Ok(integration);
        }
        let integration_ref = IntegrationRef::from(&integration);
        let mut items = vec![TransactWriteItem::builder().put(put)];
        for entry in entries {
            items.push(self.entry(&integration_ref, entry)?);
        }
        if let Some(also) = also {
            items.push(self.put(also)?);
        }
        let written = self.transact(items).await;
        written.map_err(|error| match cancelled(&error) {
            Some(_) => StoreError::Changed,
            None => unavailable(error),
        })?;
        let log = IntegrationLog::new(self.table.clone());
        for entry in entries {
            // Not its reason, which may show the start of a payload.
            let (tenant, integration) = (&integration_ref.tenant, &integration_ref.integration_id);
            let action = entry.action.as_str();
            tracing::info!(tenant, integration, action, "the integration changes");
            // The next entries will do what this one could not.
            let _ = log.trim(&integration_ref, entry).await;
        }
        Ok(integration)
    }

    /// A conditional put that needs no transaction. One that took effect though its response was lost is sent again by the SDK, and
    /// finds itself: it has succeeded then, and what it counts is not counted twice.
    async fn put_alone(&self, put: Put) -> Result<(), StoreError> {
        let mine = put.item.clone();
        let written = self
            .table
            .client
            .put_item()
            .table_name(&self.table.name)
            .set_item(Some(put.item))
            .set_condition_expression(put.condition_expression)
            .set_expression_attribute_names(put.expression_attribute_names)
            .set_expression_attribute_values(put.expression_attribute_values)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = written else {
            return Ok(());
        };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failed))
                if failed.item() == Some(&mine) =>
            {
                Ok(())
            }
            // What another writer's transaction is at is changed, or will not be: either way it is read again.
            Some(PutItemError::TransactionConflictException(_)) => Err(StoreError::Changed),
            _ => Err(failure(error, StoreError::Changed)),
        }
    }

    /// The external id with which roles of a tenant are assumed: `fresh`, unless the tenant has one already. It stays for
    /// good, so that a role's trust policy fits every integration to come.
    ///
    /// # Errors
    /// [`StoreError::Changed`] when others were in the way every time, [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn external_id(&self, tenant: &str, fresh: Uuid) -> Result<String, StoreError> {
        for attempt in 1.. {
            let update = self
                .table
                .update(tenant, COUNTER)
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

    /// Deletes an integration and counts it out, in one transaction, and leaves a tombstone that is due at `purge_at`: by it
    /// the sweep finds what else has to go.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Changed`] when others won every time, [`StoreError::Unavailable`].
    pub async fn delete(
        &self,
        tenant: &str,
        id: &str,
        purge_at: Millis,
    ) -> Result<IntegrationRef, StoreError> {
        for attempt in 1.. {
            let integration_ref = IntegrationRef::from(&self.get(tenant, id).await?);
            let delete = Delete::builder()
                .table_name(&self.table.name)
                .key("pk", text(tenant))
                .key("sk", text(format!("{INTEGRATION}{id}")))
                .condition_expression("generation = :generation")
                .expression_attribute_values(
                    ":generation",
                    text(integration_ref.generation.to_string()),
                );
            let tombstone = HashMap::from([
                ("pk".into(), text(tenant)),
                ("sk".into(), text(tombstone(&integration_ref))),
                ("wake_partition".into(), text(wake_partition(tenant, id))),
                ("wake_at".into(), number(purge_at.0)),
            ]);
            let deleted = self.transact([
                TransactWriteItem::builder().delete(build(delete.build())?),
                TransactWriteItem::builder().update(build(self.count(tenant, -1).build())?),
                self.put(tombstone)?,
            ]);
            let Err(error) = deleted.await else {
                return Ok(integration_ref);
            };
            match cancelled(&error) {
                Some(_) if attempt < MAX_TRIES => back_off(attempt).await,
                Some(_) => break,
                None => return Err(unavailable(error)),
            }
        }
        Err(StoreError::Changed)
    }

    /// Counts a test of a tenant's at `now`. `false`, and not counted, where there were `most` in the same `window`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn count_test(
        &self,
        tenant: &str,
        now: Millis,
        window: Duration,
        most: u64,
    ) -> Result<bool, StoreError> {
        let number = now.0 / window.as_millis() as u64;
        let expires_at = now.after(window * 2).epoch_seconds();
        let counted = self
            .table
            .update(tenant, &format!("{TESTS}{number}"))
            .update_expression("ADD #count :one SET expires_at = :expires_at")
            .condition_expression("attribute_not_exists(#count) OR #count < :most")
            .expression_attribute_names("#count", "count")
            .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
            .expression_attribute_values(":most", self::number(most))
            .expression_attribute_values(":expires_at", self::number(expires_at))
            .send()
            .await;
        match counted.map_err(|error| failure(error, StoreError::LimitReached)) {
            Ok(_) => Ok(true),
            Err(StoreError::LimitReached) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn transact(
        &self,
        items: impl IntoIterator<Item = TransactWriteItemBuilder>,
    ) -> Result<(), SdkError<TransactWriteItemsError>> {
        let items = items.into_iter().map(TransactWriteItemBuilder::build);
        let transaction = self.table.client.transact_write_items();
        let transaction = transaction.set_transact_items(Some(items.collect()));
        transaction.send().await.map(drop)
    }

    /// The part of a transaction that writes an item.
    fn put(&self, item: Item) -> Result<TransactWriteItemBuilder, StoreError> {
        let put = Put::builder().table_name(&self.table.name);
        let put = build(put.set_item(Some(item)).build())?;
        Ok(TransactWriteItem::builder().put(put))
    }

    /// The part of a transaction that writes an entry of an integration's log.
    fn entry(
        &self,
        integration_ref: &IntegrationRef,
        entry: &Entry,
    ) -> Result<TransactWriteItemBuilder, StoreError> {
        self.put(integration_log::item(integration_ref, entry))
    }

    /// An update of the number of a tenant's integrations.
    fn count(&self, tenant: &str, by: i64) -> UpdateBuilder {
        Update::builder()
            .table_name(&self.table.name)
            .key("pk", text(tenant))
            .key("sk", text(COUNTER))
            .update_expression("ADD #count :by")
            .expression_attribute_names("#count", "count")
            .expression_attribute_values(":by", AttributeValue::N(by.to_string()))
    }
}

/// Waits a little longer each time, and never as long as the other losers.
async fn back_off(attempt: u32) {
    let pause = rand::random_range(1..=15) * u64::from(attempt);
    tokio::time::sleep(Duration::from_millis(pause)).await;
}

/// The reasons for which DynamoDB cancelled a transaction, one per item; none when it failed for another reason.
fn cancelled(error: &SdkError<TransactWriteItemsError>) -> Option<Vec<String>> {
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

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::config::{Credentials, Region};
    use serde_json::{Value, json};

    use super::*;
    use crate::store::Table;
    use crate::testing::serve;

    /// What comes of a conditional put where DynamoDB has this item already.
    async fn put(stored: impl Fn(&Value) -> Value + Send + 'static) -> Result<(), StoreError> {
        let endpoint = serve(move |request| {
            assert_eq!(request["ReturnValuesOnConditionCheckFailure"], "ALL_OLD");
            let kind = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
            let item = stored(&request["Item"]);
            (400, json!({"__type": kind, "Item": item}))
        });
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version_latest()
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("a", "b", None, None, "test"))
            .endpoint_url(endpoint);
        let client = aws_sdk_dynamodb::Client::from_conf(config.build());
        let item: Item = HashMap::from([
            ("pk".to_owned(), text("acme")),
            ("version".to_owned(), number(7)),
        ]);
        let put = Put::builder().table_name("t").set_item(Some(item));
        let put = put.condition_expression("version = :version");
        let put = put.expression_attribute_values(":version", number(6));
        let integrations = Integrations::new(Table::new(client, "t".to_owned()));
        integrations.put_alone(put.build().unwrap()).await
    }

    #[tokio::test]
    async fn a_write_that_finds_itself_has_succeeded() {
        assert!(put(Value::clone).await.is_ok());
        let other = |_: &Value| json!({"pk": {"S": "acme"}, "version": {"N": "8"}});
        assert!(matches!(put(other).await, Err(StoreError::Changed)));
    }
}
