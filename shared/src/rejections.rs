//! Keeps events that a receiver has refused for good, and logs them: of a storm only as much as anyone can read.
//!
//! A receiver that refuses everything refuses as many events a second as there are. Of those of one run or one sender, 30 a second
//! are kept, which is as many as are shown, and an entry a second is logged. The others are counted. Each is noted, so that it can be
//! said of every event what became of it: one write unit, in batches of 25.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use domain::fate::Refused;
use domain::integration::IntegrationRef;
use domain::integration_log::{Action, Entry};
use domain::log::position::EventRef;
use ulid::Ulid;

use crate::clock::Clock;
use crate::per_second::{PerSecond, SECOND};
use crate::store::StoreError;
use crate::store::fates::Fates;
use crate::store::integration_log::IntegrationLog;
use crate::store::rejected_events::{MAX_REJECTED, Rejected, RejectedEvents};
use crate::telemetry::chain;

/// How many notes that could not be stored are tried again.
const MAX_UNNOTED: usize = 1_000;

/// The rejections of one run or one sender.
#[derive(Debug)]
pub struct Rejections<'a> {
    rejected_events: &'a RejectedEvents,
    fates: &'a Fates,
    integration_log: &'a IntegrationLog,
    clock: &'a Clock,
    counts: Mutex<Counts>,
    /// Notes that are to be stored; who stores them holds the second lock until they are.
    unnoted: Mutex<Vec<Refused>>,
    noting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Counts {
    /// How many are kept.
    kept: PerSecond,
    /// Kept since others were evicted.
    unevicted: usize,
    /// Since the last entry: how many were rejected, why the last one was, and how many of them are not kept.
    unlogged: usize,
    reason: String,
    dropped: usize,
    logged: Option<Instant>,
}

impl<'a> Rejections<'a> {
    /// None yet.
    pub fn new(
        rejected_events: &'a RejectedEvents,
        fates: &'a Fates,
        integration_log: &'a IntegrationLog,
        clock: &'a Clock,
    ) -> Rejections<'a> {
        Rejections {
            rejected_events,
            fates,
            integration_log,
            clock,
            counts: Mutex::default(),
            unnoted: Mutex::default(),
            noting: tokio::sync::Mutex::default(),
        }
    }

    /// Keeps an event, or counts it where too many are; `reason` is for the integration log. It is noted by [`Rejections::note`],
    /// or at the end. What cannot be kept, logged or evicted is a warning: to send the event again would be refused again.
    pub async fn keep(
        &self,
        integration_ref: &IntegrationRef,
        rejected: (EventRef, &str),
        envelope: &str,
        reason: String,
        answer: String,
    ) {
        let ((event, event_id), now) = (rejected, self.clock.now());
        let note = Refused {
            event,
            id: event_id.to_owned(),
            at: now,
            reason: answer.clone(),
        };
        lock(&self.unnoted).push(note);
        if self.count(reason) {
            let rejected = Rejected {
                event_id: event_id.to_owned(),
                created_at: now,
                answer,
                event: Some(event),
            };
            let put = self
                .rejected_events
                .put(integration_ref, &rejected, envelope);
            if let Err(error) = put.await {
                // It is evicted at once, so to say: to send it again would be refused again.
                tracing::warn!(
                    tenant = integration_ref.tenant,
                    integration = integration_ref.integration_id,
                    event = event_id,
                    error = chain(&error),
                    "a rejected event is not kept"
                );
                self.lock().dropped += 1;
            }
        }
        let (is_due, is_full) = {
            let counts = self.lock();
            let is_due = counts.logged.is_none_or(|at| at.elapsed() >= SECOND);
            (is_due, counts.unevicted >= MAX_REJECTED)
        };
        if is_full {
            self.evict(integration_ref).await;
        }
        if is_due {
            self.log(integration_ref).await;
        }
    }

    /// Notes what was rejected so far. When it returns, all of it is stored, by this call or another one.
    pub async fn note(&self, integration_ref: &IntegrationRef) {
        let _noting = self.noting.lock().await;
        let unnoted = std::mem::take(&mut *lock(&self.unnoted));
        let noted = self.fates.note(integration_ref, &unnoted).await;
        if let Err(error) = noted {
            // Sent again, they would be refused again: it is their fate that is not known. The next call notes them as well.
            tracing::warn!(
                tenant = integration_ref.tenant,
                integration = integration_ref.integration_id,
                events = unnoted.len(),
                error = chain(&error),
                "rejected events are not noted"
            );
            let mut left = lock(&self.unnoted);
            left.extend(unnoted);
            left.truncate(MAX_UNNOTED);
        }
    }

    /// Counts a rejection; whether its event is kept.
    fn count(&self, reason: String) -> bool {
        let mut counts = self.lock();
        counts.unlogged += 1;
        counts.reason = reason;
        let is_kept = counts.kept.takes(MAX_REJECTED);
        match is_kept {
            true => counts.unevicted += 1,
            false => counts.dropped += 1,
        }
        is_kept
    }

    /// Nothing more is rejected: logs what is not logged yet, and makes room.
    pub async fn end(&self, integration_ref: &IntegrationRef) {
        self.note(integration_ref).await;
        self.log(integration_ref).await;
        let is_to_evict = self.lock().unevicted > 0;
        if is_to_evict {
            self.evict(integration_ref).await;
        }
    }

    async fn log(&self, integration_ref: &IntegrationRef) {
        let (reason, dropped) = {
            let mut counts = self.lock();
            if counts.unlogged == 0 {
                return;
            }
            let others = std::mem::take(&mut counts.unlogged) - 1;
            let mut reason = std::mem::take(&mut counts.reason);
            if others > 0 {
                reason += &format!(" {others} more events were rejected since the entry before.");
            }
            counts.logged = Some(Instant::now());
            (reason, std::mem::take(&mut counts.dropped))
        };
        let entry = (Action::EventRejected, reason);
        let evicted = (dropped > 0).then(|| {
            let reason = format!(
                "{dropped} rejected events were not kept, since {MAX_REJECTED} a second are. {AGAIN}"
            );
            (Action::RejectedEventEvicted, reason)
        });
        self.append(integration_ref, [entry].into_iter().chain(evicted))
            .await
    }

    async fn evict(&self, integration_ref: &IntegrationRef) {
        self.lock().unevicted = 0;
        let evicted = match self.rejected_events.evict(integration_ref).await {
            Ok(evicted) => evicted,
            Err(error) => return warn(integration_ref, &error, "rejected events are not evicted"),
        };
        if evicted.is_empty() {
            return;
        }
        let (what, were) = match evicted.len() {
            1 => ("event", "was"),
            _ => ("events", "were"),
        };
        let ids = evicted.join(", ");
        let reason = format!(
            "Rejected {what} {ids} {were} removed to make room: only the last {MAX_REJECTED} are kept. {AGAIN}"
        );
        self.append(integration_ref, [(Action::RejectedEventEvicted, reason)])
            .await
    }

    async fn append(
        &self,
        integration_ref: &IntegrationRef,
        entries: impl IntoIterator<Item = (Action, String)>,
    ) {
        let first = self.clock.ulid().0;
        for (id, (action, reason)) in (first..).map(Ulid).zip(entries) {
            let entry = Entry { id, action, reason };
            if let Err(error) = self.integration_log.append(integration_ref, &entry).await {
                warn(integration_ref, &error, "a rejection is not logged");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        lock(&self.counts)
    }
}

fn warn(integration_ref: &IntegrationRef, error: &StoreError, message: &str) {
    tracing::warn!(
        tenant = integration_ref.tenant,
        integration = integration_ref.integration_id,
        error = chain(error),
        "{message}"
    );
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How an event is sent again that is not kept.
const AGAIN: &str = "To send such events again, register a temporary integration whose range of dates and filter include them.";
