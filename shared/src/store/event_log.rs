//! The event log: segments in DynamoDB, a partition for each tenant, day and shard, ordered by ULID.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use domain::log::horizon;
use domain::log::position::EventRef;
use domain::log::segment::Segment;
use domain::time::Millis;
use futures_util::future::try_join_all;
use ulid::Ulid;

use super::{Item, StoreError, Table, number, text, unavailable};
use crate::clock::Clock;

mod latest;
mod partitions;
mod reader;

pub use latest::Piece;
pub use reader::Reader;

use partitions::{Content, Partitions, last_before, next_day, partition, read};

/// How long an item outlives the retention, so that DynamoDB's lazy deletion shows nowhere.
const MARGIN: Duration = Duration::from_secs(3 * 24 * 3600);
/// The pause before a refused append is tried again, at first: a tenant whose partition is throttled is handed back within a
/// fraction of a second, and comes again by itself, so that it does not hold up the other tenants of its batch.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How long one attempt to append may take before the same item is sent again.
const ATTEMPT: Duration = Duration::from_millis(1_000);

/// The event log of all tenants.
#[derive(Clone, Debug)]
pub struct EventLog {
    partitions: Partitions,
    clock: Clock,
    seal: Duration,
    retention: Duration,
}

/// How the event log is set up; the same for all who read or write it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long after its millisecond a segment can still appear.
    pub seal: Duration,
    /// How long events are kept.
    pub retention: Duration,
    /// How many partitions a tenant's day has. Only ever raised: readers look into as many.
    pub shards: u32,
}

/// Whether a segment is in the event log for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It was confirmed within half a seal of its millisecond: every reader sees it.
    Confirmed,
    /// It was not. It may be there or not: its events have to be appended again, under a new ULID.
    InDoubt,
}

fn retries() -> RetryConfig {
    RetryConfig::standard().with_initial_backoff(FIRST_PAUSE)
}

impl EventLog {
    /// The store in a table.
    pub fn new(table: Table, clock: Clock, settings: Settings) -> EventLog {
        let Settings {
            seal,
            retention,
            shards,
        } = settings;
        let shards = shards.max(1);
        EventLog {
            partitions: Partitions { table, shards },
            clock,
            seal,
            retention,
        }
    }

    /// The shard of a segment.
    pub fn shard(&self, segment: Ulid) -> u32 {
        self.partitions.shard(segment)
    }

    /// The instant that lies so many seals behind: at least [`domain::log::SEALS_BEHIND`], before which nothing appears any more.
    pub fn horizon(&self, seals_behind: u32) -> Millis {
        horizon(self.clock.now(), self.seal, seals_behind)
    }

    /// The earliest instant of which events are kept.
    pub fn oldest(&self) -> Millis {
        self.clock.now().before(self.retention)
    }

    /// Appends a segment, trying the same item again until half a seal past its millisecond.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when DynamoDB refuses the item for good.
    pub async fn append(&self, tenant: &str, segment: &Segment) -> Result<Appended, StoreError> {
        let deadline = segment.published_at().after(self.seal / 2);
        let left = deadline.since(self.clock.now());
        if left.is_zero() {
            return Ok(Appended::InDoubt);
        }
        let expires_at = segment.published_at().after(self.retention + MARGIN);
        let item: Item = HashMap::from([
            (
                "pk".into(),
                text(partition(
                    tenant,
                    segment.published_at(),
                    self.shard(segment.id),
                )),
            ),
            ("sk".into(), text(segment.id.to_string())),
            ("ids".into(), text(segment.ids.as_str())),
            ("names".into(), text(segment.names.as_str())),
            (
                "envelopes".into(),
                AttributeValue::B(Blob::new(segment.envelopes.as_slice())),
            ),
            ("expires_at".into(), number(expires_at.epoch_seconds())),
        ]);
        let timeouts = TimeoutConfig::builder()
            .operation_timeout(left)
            .operation_attempt_timeout(ATTEMPT.min(left))
            .build();
        let put = self
            .partitions
            .table
            .client
            .put_item()
            .table_name(&self.partitions.table.name)
            .set_item(Some(item));
        match put
            .customize()
            .config_override(
                aws_sdk_dynamodb::config::Builder::new()
                    .timeout_config(timeouts)
                    .retry_config(retries()),
            )
            .send()
            .await
        {
            Ok(_) if self.clock.now() < deadline => Ok(Appended::Confirmed),
            Ok(_) => Ok(Appended::InDoubt),
            Err(error) if error.as_service_error().is_some() => Err(unavailable(error)),
            Err(_) => Ok(Appended::InDoubt),
        }
    }

    /// The segment of an event.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the event log has forgotten it, [`StoreError::Unavailable`],
    /// [`StoreError::Unreadable`].
    pub async fn get(&self, tenant: &str, event: &EventRef) -> Result<Segment, StoreError> {
        let published_at = Millis(event.segment.timestamp_ms());
        let partition = partition(tenant, published_at, event.shard);
        let table = &self.partitions.table;
        let found = table.get(&partition, &event.segment.to_string()).await?;
        read(found.ok_or(StoreError::NotFound)?, Content::Whole)
    }

    /// Reads the segments `from <= id < until`, in order, consistently. The caller keeps `until` within the
    /// [`EventLog::horizon`], and `from` not before [`EventLog::oldest`], since it is read day by day.
    ///
    /// While the caller works on a page of up to 1 MB, the next one of each shard is on its way: two pages a shard are in
    /// memory at the most.
    pub fn read(&self, tenant: &str, from: Ulid, until: Ulid) -> Reader {
        self.reader(tenant, from, until, Content::Whole)
    }

    /// As [`EventLog::read`], but of each segment only its id and the ids of its events: names and envelopes are empty.
    pub fn read_ids(&self, tenant: &str, from: Ulid, until: Ulid) -> Reader {
        self.reader(tenant, from, until, Content::Ids)
    }

    fn reader(&self, tenant: &str, from: Ulid, until: Ulid, content: Content) -> Reader {
        Reader::new(self.partitions.clone(), tenant, from, until, content)
    }

    /// The last segments `from <= id < until` of one day, read consistently: at most `most` of each shard, and 1 MB of each. `from`
    /// has to be below `until`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn latest(
        &self,
        tenant: &str,
        from: Ulid,
        until: Ulid,
        most: i32,
    ) -> Result<Piece, StoreError> {
        latest::latest(&self.partitions, tenant, from, until, most).await
    }

    /// Whether there is a segment `from <= id < until`; read consistently. For ranges of hours: it asks day by day.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn has_any(&self, tenant: &str, from: Ulid, until: Ulid) -> Result<bool, StoreError> {
        let (mut day, last) = (Millis(from.timestamp_ms()), last_before(until));
        while from < until && day.0 <= last.timestamp_ms() {
            let answers = try_join_all((0..self.partitions.shards).map(|shard| {
                self.partitions
                    .range(partition(tenant, day, shard), from, last)
                    .projection_expression("sk")
                    .limit(1)
                    .send()
            }));
            let answers = answers.await.map_err(unavailable)?;
            if answers.iter().any(|answer| !answer.items().is_empty()) {
                return Ok(true);
            }
            day = next_day(day);
        }
        Ok(false)
    }
}
