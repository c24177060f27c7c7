//! What receivers have been sent lately, counted: an item for each integration and five minutes, kept for a week. It is less than 300
//! bytes, and each write of it a write unit.

use aws_sdk_dynamodb::types::AttributeValue;
use domain::activity::{Activity, BOUNDS};
use domain::integration::IntegrationRef;
use domain::time::Millis;
use std::time::Duration;

use super::{
    Item, StoreError, Table, number, number_of, partition, text_of, unavailable, unreadable,
};

/// How long what was counted is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Sort keys begin with this; the milliseconds of the stretch's first instant follow.
const PREFIX: &str = "activity#";

/// What was counted of all integrations.
#[derive(Clone, Debug)]
pub struct Activities {
    table: Table,
}

impl Activities {
    /// The store in a table.
    pub fn new(table: Table) -> Activities {
        Activities { table }
    }

    /// Adds what was counted of the stretch that begins at `from`. Where it is not known whether it was added, it may be added twice:
    /// these are figures for a chart.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn add(
        &self,
        integration_ref: &IntegrationRef,
        from: Millis,
        activity: &Activity,
    ) -> Result<(), StoreError> {
        let counts = counts(activity);
        let added: Vec<String> = (0..counts.len()).map(|at| format!("#{at} :{at}")).collect();
        let mut update = self
            .table
            .update(&activities(integration_ref), &key(from))
            .update_expression(format!(
                "ADD {} SET expires_at = :expires_at",
                added.join(", ")
            ))
            .expression_attribute_values(":expires_at", number(from.after(KEPT).epoch_seconds()));
        for (at, (name, count)) in counts.into_iter().enumerate() {
            update = update
                .expression_attribute_names(format!("#{at}"), name)
                .expression_attribute_values(
                    format!(":{at}"),
                    AttributeValue::N(count.to_string()),
                );
        }
        update.send().await.map(drop).map_err(unavailable)
    }

    /// What was counted of the stretches `from <= first instant < until`, in their order.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn list(
        &self,
        integration_ref: &IntegrationRef,
        from: Millis,
        until: Millis,
    ) -> Result<Vec<(Millis, Activity)>, StoreError> {
        let last = until.before(Duration::from_millis(1));
        let query = self
            .table
            .between(&activities(integration_ref), &key(from), &key(last));
        self.table.all(query, read).await
    }
}

fn activities(integration_ref: &IntegrationRef) -> String {
    format!("{}#activity", partition(integration_ref))
}

fn key(from: Millis) -> String {
    format!("{PREFIX}{:015}", from.0)
}

/// The attributes of what is not zero.
fn counts(activity: &Activity) -> Vec<(String, u64)> {
    let named = [
        ("delivered".to_owned(), activity.delivered),
        ("failed".to_owned(), activity.failed),
        ("rejected".to_owned(), activity.rejected),
    ];
    let latencies = activity.latencies.iter().enumerate();
    let latencies = latencies.map(|(at, count)| (latency(at), *count));
    let all = named.into_iter().chain(latencies);
    all.filter(|(_, count)| *count > 0).collect()
}

/// The attribute of the latencies within a bound: named by it, so that bounds can be others one day.
fn latency(at: usize) -> String {
    match BOUNDS.get(at) {
        Some(bound) => format!("within_{bound}"),
        None => "longer".to_owned(),
    }
}

fn read(item: &Item) -> Result<(Millis, Activity), StoreError> {
    let sk = text_of(item, "sk")?;
    let from = sk.strip_prefix(PREFIX).and_then(|from| from.parse().ok());
    let from = from.ok_or_else(|| unreadable("the key of what was counted"))?;
    let count = |name: &str| number_of(item, name).unwrap_or_default();
    let mut activity = Activity {
        delivered: count("delivered"),
        failed: count("failed"),
        rejected: count("rejected"),
        ..Activity::default()
    };
    for (at, latencies) in activity.latencies.iter_mut().enumerate() {
        *latencies = count(&latency(at));
    }
    Ok((Millis(from), activity))
}
