//! Reads what a stream owes from the event log, ahead of what is sent.

use std::time::{Duration, Instant};

use domain::integration_log::skipped;
use domain::log::position::Position;
use domain::replay::reading::{Next, Reading};
use domain::sending::Seen;
use shared::telemetry::chain;
use ulid::Ulid;

use crate::ReplayError;
use crate::segments::lock;
use crate::work::{Read, Work};

/// How long the event log is read for one read of a sender: a range may have much that does not pass the filter.
const LONGEST_READ: Duration = Duration::from_secs(2);
/// How long a read waits for what is unpacked to be sent, before it looks again.
const ROOM_PAUSE: Duration = Duration::from_millis(20);

impl Work<'_> {
    /// Reads on, from where the last read ended if that is where to continue. A read that fails is begun again by the next one.
    pub async fn read(
        &self,
        from: Position,
        until: Ulid,
        limit: usize,
    ) -> Result<Seen, ReplayError> {
        let known = lock(&self.reading).take();
        let known = known.filter(|read| read.reading.continues(from, until));
        let mut read = match known {
            Some(read) => read,
            None => self.begin_reading(from, until).await,
        };
        let began = Instant::now();
        while !self.segments.has_room() && began.elapsed() < LONGEST_READ {
            tokio::time::sleep(ROOM_PAUSE).await;
        }
        read.reading.begin(limit);
        let filled = self.fill(&mut read, began).await;
        let (events, next) = read.reading.finish();
        if let Err(error) = filled {
            events
                .into_iter()
                .for_each(|event| self.segments.release(event));
            return Err(error);
        }
        *lock(&self.reading) = Some(read);
        Ok(Seen::Read { events, next })
    }

    async fn fill(&self, read: &mut Read, began: Instant) -> Result<(), ReplayError> {
        let Read { reading, pages } = read;
        loop {
            let is_in_time = began.elapsed() < LONGEST_READ && self.began.elapsed() < self.left;
            let (segment, shard) = match reading.next(self.segments.has_room(), is_in_time) {
                Next::Over => return Ok(()),
                Next::Select(segment, shard) => (segment, shard),
                Next::Read => match pages.next().await? {
                    Some(next) => next,
                    None => {
                        reading.end();
                        return Ok(());
                    }
                },
            };
            let taken = {
                let integration = lock(&self.integration);
                let passes = |name: &str| integration.as_ref().is_some_and(|it| it.passes(name));
                reading.select(&segment, shard, passes)
            };
            self.segments.hold(&segment, &taken.indices)?;
            if !taken.is_used_up {
                reading.put_back(segment, shard);
            }
        }
    }

    /// What the event log has forgotten is not read, and the integration log says so once a day.
    async fn begin_reading(&self, from: Position, until: Ulid) -> Read {
        let log = &self.app.event_log;
        let oldest = log.oldest();
        if from.segment < oldest.first_id() {
            let entry = skipped(oldest, self.app.clock.now());
            let appended = self
                .app
                .integration_log
                .append(self.integration_ref, &entry);
            if let Err(error) = appended.await {
                tracing::warn!(
                    tenant = self.integration_ref.tenant,
                    integration = self.integration_ref.integration_id,
                    error = chain(&error),
                    "the integration log does not say that events are no longer kept"
                );
            }
        }
        let first = from.segment.max(oldest.first_id());
        Read {
            reading: Reading::new(from, until),
            pages: log.read(&self.integration_ref.tenant, first, until),
        }
    }
}
