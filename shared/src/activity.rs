//! Counts what receivers are sent, in memory, and writes it down once a minute for each integration: one write for as many events as
//! there were, and never one for each. What a process has counted since is lost with it: these are figures for a chart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use domain::activity::{self, Activity};
use domain::integration::IntegrationRef;
use domain::receiver::outcome::Outcome;
use domain::time::Millis;
use futures_util::stream::{self, StreamExt};

use crate::store::activities::Activities;
use crate::telemetry::chain;

/// How often what was counted of an integration is written down.
const EVERY: Duration = Duration::from_secs(60);
/// How long writing down may take: a batch of messages is acknowledged behind it. What is not written then is counted on.
const LONGEST_FLUSH: Duration = Duration::from_secs(2);
/// How many writes are on their way at a time.
const CONCURRENCY: usize = 8;
/// How many stretches of integrations are counted at a time; beyond, all are written down.
const MAX_COUNTED: usize = 1_000;

/// What this process has counted.
#[derive(Clone, Debug)]
pub struct Counter {
    store: Activities,
    counted: Arc<Mutex<Counted>>,
}

#[derive(Debug, Default)]
struct Counted {
    /// By integration and stretch.
    entries: HashMap<(IntegrationRef, Millis), Activity>,
    written: HashMap<IntegrationRef, Instant>,
}

impl Counter {
    /// Nothing yet.
    pub fn new(store: Activities) -> Counter {
        Counter {
            store,
            counted: Arc::default(),
        }
    }

    /// Counts an attempt that ended at `now`, so long after the publication of its event.
    pub fn count(
        &self,
        integration_ref: &IntegrationRef,
        now: Millis,
        outcome: &Outcome,
        latency: Duration,
    ) {
        let key = (integration_ref.clone(), activity::stretch(now));
        let mut counted = self.lock();
        counted
            .entries
            .entry(key)
            .or_default()
            .count(outcome, latency);
    }

    /// Writes down what is due: of each integration of which nothing was written for a minute. What cannot be written down within two
    /// seconds is due again after a minute. Of a write whose response is missing it is not known whether it counts: it is written
    /// again, so that rather too much is shown than too little.
    pub async fn flush(&self) {
        self.flush_within(LONGEST_FLUSH).await;
    }

    async fn flush_within(&self, longest: Duration) {
        let due = self.lock().due();
        let left = Mutex::new(due.clone().into_iter().collect::<HashMap<_, _>>());
        let writes = due.into_iter().map(|(key, activity)| {
            let left = &left;
            async move {
                let (of, from) = &key;
                match self.store.add(of, *from, &activity).await {
                    Ok(()) => {
                        lock(left).remove(&key);
                    }
                    Err(error) => tracing::warn!(
                        tenant = of.tenant,
                        integration = of.integration_id,
                        error = chain(&error),
                        "what was counted is not written down"
                    ),
                }
            }
        });
        let writes = stream::iter(writes).buffer_unordered(CONCURRENCY);
        let _ = tokio::time::timeout(longest, writes.collect::<()>()).await;
        self.lock().put_back(lock(&left).drain());
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        lock(&self.counted)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counted {
    fn due(&mut self) -> Vec<((IntegrationRef, Millis), Activity)> {
        let is_full = self.entries.len() > MAX_COUNTED;
        let Counted { entries, written } = self;
        written.retain(|_, at| at.elapsed() < EVERY);
        let due: Vec<_> = entries
            .extract_if(|(of, _), _| is_full || !written.contains_key(of))
            .collect();
        let now = Instant::now();
        written.extend(due.iter().map(|((of, _), _)| (of.clone(), now)));
        due
    }

    /// What could not be written down counts on. Beyond what is kept, it is lost: these are figures for a chart.
    fn put_back(&mut self, left: impl IntoIterator<Item = ((IntegrationRef, Millis), Activity)>) {
        for (key, activity) in left {
            if self.entries.len() < MAX_COUNTED || self.entries.contains_key(&key) {
                self.entries.entry(key).or_default().add(&activity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::config::{Credentials, Region};
    use ulid::Ulid;

    use super::*;
    use crate::store::Table;

    fn integration_ref() -> IntegrationRef {
        IntegrationRef {
            tenant: "acme".into(),
            integration_id: "erp-1".into(),
            generation: Ulid(7),
        }
    }

    #[tokio::test]
    async fn writes_that_hang_hold_up_no_batch_and_what_was_counted_counts_on() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version_latest()
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("a", "b", None, None, "test"))
            .endpoint_url(format!("http://{}", listener.local_addr().unwrap()));
        let client = aws_sdk_dynamodb::Client::from_conf(config.build());
        let counter = Counter::new(Activities::new(Table::new(client, "t".into())));
        let (of, now) = (integration_ref(), Millis(7));
        counter.count(&of, now, &Outcome::Delivered, Duration::ZERO);
        counter.count(&of, now, &Outcome::Gone, Duration::ZERO);
        let flushed = counter.flush_within(Duration::from_millis(50));
        let flushed = tokio::time::timeout(Duration::from_secs(10), flushed).await;
        flushed.expect("it ends by itself");
        counter.count(&of, now, &Outcome::Delivered, Duration::ZERO);
        assert_eq!(counter.lock().due().len(), 0, "within the minute");
        counter.lock().written.clear();
        let due = counter.lock().due();
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].1.delivered, due[0].1.failed), (2, 1));
    }

    #[test]
    fn what_was_counted_is_due_once_a_minute() {
        let of = integration_ref();
        let mut counted = Counted::default();
        let count = |counted: &mut Counted, from: u64| {
            let entry = counted
                .entries
                .entry((of.clone(), Millis(from)))
                .or_default();
            entry.count(&Outcome::Delivered, Duration::ZERO);
        };
        count(&mut counted, 0);
        count(&mut counted, 0);
        let due = counted.due();
        assert_eq!((due.len(), due[0].1.delivered), (1, 2));
        count(&mut counted, 0);
        count(&mut counted, 300_000);
        assert_eq!(counted.due().len(), 0, "within the minute");
        counted.written.clear();
        assert_eq!(counted.due().len(), 2);
        assert!(counted.entries.is_empty());
    }
}
