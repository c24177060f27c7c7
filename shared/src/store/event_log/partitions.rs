//! The partitions of the event log, one for each tenant, day and shard, and the items in them.

use std::time::Duration;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use domain::log::segment::Segment;
use domain::time::Millis;
use ulid::Ulid;

use crate::store::{Item, StoreError, Table, text, text_of, unreadable};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The table of the event log, and how many partitions a tenant's day has.
#[derive(Clone, Debug)]
pub(super) struct Partitions {
    pub table: Table,
    pub shards: u32,
}

impl Partitions {
    /// The shard of a segment: its ULID's random part, evenly spread.
    pub fn shard(&self, segment: Ulid) -> u32 {
        (segment.random() % u128::from(self.shards)) as u32
    }

    /// The segments `from <= id <= last` of a partition, in order, read consistently.
    pub fn range(&self, partition: String, from: Ulid, last: Ulid) -> QueryFluentBuilder {
        self.table
            .query()
            .key_condition_expression("pk = :partition AND sk BETWEEN :from AND :last")
            .expression_attribute_values(":partition", text(partition))
            .expression_attribute_values(":from", text(from.to_string()))
            .expression_attribute_values(":last", text(last.to_string()))
            .consistent_read(true)
    }
}

/// The key of a partition.
pub(super) fn partition(tenant: &str, instant: Millis, shard: u32) -> String {
    format!("{tenant}#{}#{shard}", instant.day())
}

/// What is read of each segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Whole,
    Ids,
}

/// The last id before `until`: DynamoDB's ranges include their ends.
pub(super) fn last_before(until: Ulid) -> Ulid {
    Ulid(until.0.saturating_sub(1))
}

pub(super) fn next_day(day: Millis) -> Millis {
    Millis((day.0 / DAY.as_millis() as u64 + 1) * DAY.as_millis() as u64)
}

pub(super) fn read(mut item: Item, content: Content) -> Result<Segment, StoreError> {
    let id = Ulid::from_string(&text_of(&item, "sk")?).map_err(unreadable)?;
    let missing =
        |name: &str| unreadable(format!("the attribute {name} of segment {id} is missing"));
    let mut take = |name: &str| match item.remove(name) {
        Some(AttributeValue::S(value)) => Ok(value),
        _ => Err(missing(name)),
    };
    let ids = take("ids")?;
    if content == Content::Ids {
        return Ok(Segment {
            id,
            ids,
            names: String::new(),
            envelopes: Vec::new(),
        });
    }
    let names = take("names")?;
    match item.remove("envelopes") {
        Some(AttributeValue::B(envelopes)) => Ok(Segment {
            id,
            ids,
            names,
            envelopes: envelopes.into_inner(),
        }),
        _ => Err(missing("envelopes")),
    }
}
