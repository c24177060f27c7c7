//! Reading the event log from its end, a piece at a time: for callers who look at what was published last.

use domain::log::segment::Segment;
use domain::time::Millis;
use futures_util::future::try_join_all;
use ulid::Ulid;

use super::partitions::{Content, Partitions, last_before, partition, read};
use crate::store::{StoreError, unavailable};

/// A piece of the event log.
#[derive(Debug)]
pub struct Piece {
    /// Its segments and their shards, newest first.
    pub segments: Vec<(Segment, u32)>,
    /// Where it begins: every segment from here on is in it.
    pub from: Ulid,
    /// How much was read for it, in bytes as they are stored.
    pub bytes: usize,
}

/// As [`super::EventLog::latest`].
pub(super) async fn latest(
    partitions: &Partitions,
    tenant: &str,
    from: Ulid,
    until: Ulid,
    most: i32,
) -> Result<Piece, StoreError> {
    let last = last_before(until);
    let day = Millis(last.timestamp_ms());
    let first = from.max(day.midnight().first_id());
    let queries = (0..partitions.shards).map(|shard| {
        let range = partitions.range(partition(tenant, day, shard), first, last);
        range.scan_index_forward(false).limit(most).send()
    });
    let answers = try_join_all(queries).await.map_err(unavailable)?;
    // Of each shard all is known down to the last that it gave, or down to `first` where it gave all.
    let (mut segments, mut known_from, mut bytes) = (Vec::new(), first, 0);
    for (shard, answer) in (0..).zip(answers) {
        let has_more = answer.last_evaluated_key.is_some();
        let items = answer.items.unwrap_or_default().into_iter();
        let items = items.map(|item| read(item, Content::Whole));
        let items: Vec<Segment> = items.collect::<Result<_, _>>()?;
        if let Some(oldest) = items.last().filter(|_| has_more) {
            known_from = known_from.max(oldest.id);
        }
        bytes += items.iter().map(Segment::stored_bytes).sum::<usize>();
        segments.extend(items.into_iter().map(|segment| (segment, shard)));
    }
    segments.retain(|(segment, _)| segment.id >= known_from);
    segments.sort_by_key(|(segment, _)| std::cmp::Reverse(segment.id));
    Ok(Piece {
        segments,
        from: known_from,
        bytes,
    })
}
