//! The event log: segments in DynamoDB, a partition for each tenant, day and shard, ordered by ULID.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use ulid::Ulid;

use super::{Item, StoreError, number, text, text_of, unavailable, unreadable};
use crate::clock::{Clock, Millis};
use crate::segment::Segment;
use crate::stream::SEALS_BEHIND;
use crate::tasks::EventRef;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long an item outlives the retention, so that DynamoDB's lazy deletion shows nowhere.
const MARGIN: Duration = Duration::from_secs(3 * 24 * 3600);
/// How long one attempt to append may take before the same item is sent again.
const ATTEMPT: Duration = Duration::from_millis(1_000);

/// The event log of all tenants.
#[derive(Clone, Debug)]
pub struct EventLog {
    client: Client,
    table: String,
    clock: Clock,
    seal: Duration,
    retention: Duration,
    shards: u32,
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

impl Settings {
    /// From `SEAL_MILLIS`, `RETENTION_DAYS` and `EVENT_LOG_SHARDS`.
    pub fn from_env() -> Settings {
        Settings {
            seal: crate::env::seal(),
            retention: DAY * crate::env::parsed::<u32>("RETENTION_DAYS"),
            shards: crate::env::parsed("EVENT_LOG_SHARDS"),
        }
    }
}

/// Whether a segment is in the event log for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It was confirmed within half a seal of its millisecond: every reader sees it.
    Confirmed,
    /// It was not. It may be there or not: its events have to be appended again, under a new ULID.
    InDoubt,
}

impl EventLog {
    /// The store in table `table`.
    pub fn new(client: Client, table: String, clock: Clock, settings: Settings) -> EventLog {
        let Settings {
            seal,
            retention,
            shards,
        } = settings;
        EventLog {
            client,
            table,
            clock,
            seal,
            retention,
            shards: shards.max(1),
        }
    }

    /// The shard of a segment: its ULID's random part, evenly spread.
    pub fn shard(&self, place: Ulid) -> u32 {
        (place.random() % u128::from(self.shards)) as u32
    }

    /// The end of what is sealed: nothing appears before this instant any more (see [`SEALS_BEHIND`]).
    pub fn horizon(&self) -> Millis {
        self.clock.now().before(self.seal * SEALS_BEHIND)
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
                text(self.partition(tenant, segment.published_at(), self.shard(segment.place))),
            ),
            ("sk".into(), text(segment.place.to_string())),
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
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item));
        match put
            .customize()
            .config_override(aws_sdk_dynamodb::config::Builder::new().timeout_config(timeouts))
            .send()
            .await
        {
            Ok(_) if self.clock.now() < deadline => Ok(Appended::Confirmed),
            Ok(_) => Ok(Appended::InDoubt),
            Err(error) if error.as_service_error().is_some() => Err(unavailable(error)),
            Err(_) => Ok(Appended::InDoubt),
        }
    }

    /// The segment in which an event stands.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the event log has forgotten it, [`StoreError::Unavailable`],
    /// [`StoreError::Unreadable`].
    pub async fn get(&self, tenant: &str, event: &EventRef) -> Result<Segment, StoreError> {
        let published_at = Millis(event.segment.timestamp_ms());
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(
                "pk",
                text(self.partition(tenant, published_at, event.shard)),
            )
            .key("sk", text(event.segment.to_string()))
            .consistent_read(true)
            .send()
            .await
            .map_err(unavailable)?;
        read(answer.item.ok_or(StoreError::NotFound)?)
    }

    /// Reads the segments `from <= place < until`, in order, consistently. The caller keeps `until` within the
    /// [`EventLog::horizon`], and `from` not before [`EventLog::oldest`], since it is read day by day.
    pub fn read(&self, tenant: &str, from: Ulid, until: Ulid) -> Reader {
        let shards = (0..self.shards)
            .map(|shard| Shard {
                shard,
                day: Millis(from.timestamp_ms()),
                after: None,
                buffer: VecDeque::new(),
                ended: from >= until,
            })
            .collect();
        Reader {
            log: self.clone(),
            tenant: tenant.to_owned(),
            from,
            until,
            shards,
        }
    }

    fn partition(&self, tenant: &str, instant: Millis, shard: u32) -> String {
        format!("{tenant}#{}#{shard}", instant.day())
    }
}

/// Segments of a range of the event log, one after another.
#[derive(Debug)]
pub struct Reader {
    log: EventLog,
    tenant: String,
    from: Ulid,
    until: Ulid,
    shards: Vec<Shard>,
}

/// One shard's part of the range: the segments that were read ahead, and where the next page begins.
#[derive(Debug)]
struct Shard {
    shard: u32,
    day: Millis,
    after: Option<Item>,
    buffer: VecDeque<Segment>,
    ended: bool,
}

impl Reader {
    /// The next segment and its shard; none when the range has been read.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`].
    pub async fn next(&mut self) -> Result<Option<(Segment, u32)>, StoreError> {
        for index in 0..self.shards.len() {
            while self.shards[index].buffer.is_empty() && !self.shards[index].ended {
                self.fill(index).await?;
            }
        }
        let first = self
            .shards
            .iter_mut()
            .filter(|shard| !shard.buffer.is_empty())
            .min_by_key(|shard| shard.buffer[0].place);
        Ok(first.and_then(|shard| {
            shard
                .buffer
                .pop_front()
                .map(|segment| (segment, shard.shard))
        }))
    }

    /// Reads one page of one shard, or goes on to its next day.
    async fn fill(&mut self, index: usize) -> Result<(), StoreError> {
        let shard = &mut self.shards[index];
        // The range without its end: a ULID below `until` is the largest that counts.
        let last = Ulid(self.until.0.saturating_sub(1));
        let answer = self
            .log
            .client
            .query()
            .table_name(&self.log.table)
            .key_condition_expression("pk = :partition AND sk BETWEEN :from AND :last")
            .expression_attribute_values(
                ":partition",
                text(self.log.partition(&self.tenant, shard.day, shard.shard)),
            )
            .expression_attribute_values(":from", text(self.from.to_string()))
            .expression_attribute_values(":last", text(last.to_string()))
            .set_exclusive_start_key(shard.after.take())
            .consistent_read(true)
            .send()
            .await
            .map_err(unavailable)?;
        for item in answer.items.unwrap_or_default() {
            shard.buffer.push_back(read(item)?);
        }
        shard.after = answer.last_evaluated_key;
        if shard.after.is_none() {
            shard.day = Millis((shard.day.0 / DAY.as_millis() as u64 + 1) * DAY.as_millis() as u64);
            shard.ended = shard.day.0 > last.timestamp_ms();
        }
        Ok(())
    }
}

fn read(mut item: Item) -> Result<Segment, StoreError> {
    let place = Ulid::from_string(&text_of(&item, "sk")?).map_err(unreadable)?;
    let mut take = |name: &str| match item.remove(name) {
        Some(AttributeValue::S(value)) => Ok(value),
        _ => Err(unreadable(format!(
            "the attribute {name} of segment {place} is missing"
        ))),
    };
    let (ids, names) = (take("ids")?, take("names")?);
    match item.remove("envelopes") {
        Some(AttributeValue::B(envelopes)) => Ok(Segment {
            place,
            ids,
            names,
            envelopes: envelopes.into_inner(),
        }),
        _ => Err(unreadable(format!(
            "the attribute envelopes of segment {place} is missing"
        ))),
    }
}
