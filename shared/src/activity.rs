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

    /// Writes down what is due: of each integration of which nothing was written for a minute.
    pub async fn flush(&self) {
        let due = self.lock().due();
        let writes = due.into_iter().map(|((of, from), activity)| async move {
            if let Err(error) = self.store.add(&of, from, &activity).await {
                tracing::warn!(
                    tenant = of.tenant,
                    integration = of.integration_id,
                    error = chain(&error),
                    "what was counted is not written down"
                );
            }
        });
        let writes = stream::iter(writes).buffer_unordered(CONCURRENCY);
        writes.collect::<()>().await;
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    #[test]
    fn what_was_counted_is_due_once_a_minute() {
        let of = IntegrationRef {
            tenant: "acme".into(),
            integration_id: "erp-1".into(),
            generation: Ulid(7),
        };
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
