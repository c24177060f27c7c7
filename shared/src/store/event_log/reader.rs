//! Reading a range of the event log: the shards of its days merged by ULID, and pages fetched ahead.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::config::Builder;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use domain::log::segment::Segment;
use domain::time::Millis;
use tokio::task::JoinHandle;
use ulid::Ulid;

use super::partitions::{Content, Partitions, last_before, next_day, partition, read};
use crate::store::{Item, StoreError, unavailable};

/// How often a page is asked for before a reader gives up; with growing pauses, about half a minute.
const READ_ATTEMPTS: u32 = 8;
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(2);
/// How long one attempt for a page may take.
const PAGE: Duration = Duration::from_secs(10);
/// How long all attempts for a page may take.
const ALL_ATTEMPTS: Duration = Duration::from_secs(50);

/// Segments of a range of the event log, one after another.
#[derive(Debug)]
pub struct Reader {
    shards: Vec<Shard>,
    pages: Arc<Pages>,
}

/// One shard's part of the range: the page at hand, and the one behind it.
#[derive(Debug)]
struct Shard {
    shard: u32,
    segments: VecDeque<Segment>,
    next: Option<Next>,
}

/// The page behind the one at hand.
#[derive(Debug)]
enum Next {
    /// Nobody has asked for it yet.
    NotBegun(Position),
    /// It is on its way.
    Begun(Fetch),
}

/// A page on its way; given up when it is dropped, so that nothing reads on for a run that is gone.
#[derive(Debug)]
struct Fetch(JoinHandle<Result<Page, StoreError>>);

impl Drop for Fetch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A page of one shard, and where the one behind it begins.
#[derive(Debug)]
struct Page {
    segments: VecDeque<Segment>,
    next: Option<Position>,
}

/// Where a page begins: in a day's partition, behind the last item of the page before.
#[derive(Debug)]
struct Position {
    day: Millis,
    after: Option<Item>,
}

impl Position {
    fn at(segment: Ulid) -> Position {
        Position {
            day: Millis(segment.timestamp_ms()),
            after: None,
        }
    }
}

impl Reader {
    pub(super) fn new(
        partitions: Partitions,
        tenant: &str,
        from: Ulid,
        until: Ulid,
        content: Content,
    ) -> Reader {
        let shards = (0..partitions.shards).map(|shard| Shard {
            shard,
            segments: VecDeque::new(),
            next: (from < until).then(|| Next::NotBegun(Position::at(from))),
        });
        Reader {
            shards: shards.collect(),
            pages: Arc::new(Pages {
                tenant: tenant.to_owned(),
                from,
                last: last_before(until),
                content,
                partitions,
            }),
        }
    }

    /// The next segment and its shard; none when the range has been read.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Unreadable`]. The reader is of no use any more then.
    pub async fn next(&mut self) -> Result<Option<(Segment, u32)>, StoreError> {
        for shard in &mut self.shards {
            if let Some(Next::NotBegun(position)) =
                shard.next.take_if(|next| matches!(next, Next::NotBegun(_)))
            {
                shard.next = Some(Next::Begun(self.pages.begin(shard.shard, position)));
            }
        }
        for shard in &mut self.shards {
            while shard.segments.is_empty() {
                let Some(Next::Begun(mut fetch)) = shard.next.take() else {
                    break;
                };
                let page = (&mut fetch.0)
                    .await
                    .map_err(|error| StoreError::Unavailable(Box::new(error)))??;
                shard.segments = page.segments;
                let following = page
                    .next
                    .map(|position| self.pages.begin(shard.shard, position));
                shard.next = following.map(Next::Begun);
            }
        }
        // The caller computes between two segments: pages on their way get their turn here.
        tokio::task::yield_now().await;
        let first = self
            .shards
            .iter_mut()
            .filter(|shard| !shard.segments.is_empty())
            .min_by_key(|shard| shard.segments[0].id);
        Ok(first.and_then(|shard| {
            shard
                .segments
                .pop_front()
                .map(|segment| (segment, shard.shard))
        }))
    }
}

/// What all pages of a reader have in common.
#[derive(Debug)]
struct Pages {
    partitions: Partitions,
    tenant: String,
    from: Ulid,
    last: Ulid,
    content: Content,
}

impl Pages {
    fn begin(self: &Arc<Pages>, shard: u32, position: Position) -> Fetch {
        let pages = self.clone();
        Fetch(tokio::spawn(
            async move { pages.fetch(shard, position).await },
        ))
    }

    /// The first page from `position` on that is not empty; an empty one only at the end.
    async fn fetch(&self, shard: u32, position: Position) -> Result<Page, StoreError> {
        let Position { mut day, mut after } = position;
        loop {
            let partition = partition(&self.tenant, day, shard);
            let query = self
                .partitions
                .range(partition, self.from, self.last)
                .set_exclusive_start_key(after)
                .set_projection_expression(
                    (self.content == Content::Ids).then(|| "sk, ids".to_owned()),
                );
            let answer = query
                .customize()
                .config_override(patient())
                .send()
                .await
                .map_err(unavailable)?;
            let segments = answer.items.unwrap_or_default().into_iter();
            let segments: VecDeque<Segment> = segments
                .map(|item| read(item, self.content))
                .collect::<Result<_, _>>()?;
            after = answer.last_evaluated_key;
            if after.is_none() {
                day = next_day(day);
            }
            let ended = after.is_none() && day.0 > self.last.timestamp_ms();
            if ended || !segments.is_empty() {
                return Ok(Page {
                    segments,
                    next: (!ended).then_some(Position { day, after }),
                });
            }
        }
    }
}

/// A partition gives 3,000 read units a second, about 12 MB: a reader in a hurry is throttled, and waits. Its time-outs are
/// those of a page of 1 MB, and of all attempts for one.
fn patient() -> Builder {
    Builder::new()
        .retry_config(RetryConfig::standard().with_max_attempts(READ_ATTEMPTS))
        .timeout_config(crate::aws::timeouts(CONNECT, PAGE, ALL_ATTEMPTS))
}
