//! Carries out what a sender wants, on the stores and on the receiver.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use domain::integration::{Integration, IntegrationRef, Target};
use domain::integration_log::reason_of;
use domain::lifecycle::{Applied, Input, StepInput};
use domain::log::position::EventRef;
use domain::metric::Metric;
use domain::receiver::outcome::Outcome;
use domain::replay::sender::{Do, LIMITS, Now, Posted, Seen, Sender};
use domain::time::Millis;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use receivers::Post;
use shared::attempts::{Attempted, Attempts};
use shared::rejections::Rejections;
use shared::store::StoreError;
use shared::telemetry::chain;

use crate::reading::Read;
use crate::segments::{Event, Segments, lock};
use crate::{App, ReplayError};

/// The pause before waiting events are stored or deleted again, at first; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often one such call is made at most: that fills the time limit of a step.
const MAX_TRIES: u32 = 50;
/// How long before the end of a step no call is made again: what follows it needs that time.
const LAST_CALLS: Duration = Duration::from_secs(5);
/// How long a step may keep the others of its batch waiting that are over.
const LAST_OF_BATCH: Duration = Duration::from_secs(20);

/// The steps of a batch, which are begun together. Lambda hands out the next ones when all of them are over.
#[derive(Debug, Default)]
pub struct Batch {
    begun: AtomicUsize,
    over: AtomicUsize,
}

impl Batch {
    /// Whether one of several steps is the only one that is at work.
    fn has_one_left(&self) -> bool {
        let (begun, over) = (
            self.begun.load(Ordering::Relaxed),
            self.over.load(Ordering::Relaxed),
        );
        begun > 1 && over + 1 == begun
    }

    /// Counts a step of the batch, until what is returned is dropped.
    fn begin(&self) -> Step<'_> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Step(&self.over)
    }
}

/// A step that is at work.
struct Step<'a>(&'a AtomicUsize);

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Carries out the step of the task of `turn`, in an invocation that has `left` to live.
///
/// # Errors
/// When it cannot begin, or cannot even leave, for a reason of ours.
pub async fn step(
    app: &App,
    integration_ref: &IntegrationRef,
    turn: u64,
    left: Duration,
    batch: &Batch,
) -> Result<(), ReplayError> {
    let _step = batch.begin();
    let began = Instant::now();
    let now = || Now {
        wall: app.clock.now(),
        tick: began.elapsed().as_millis() as u64,
    };
    let over = app.clock.now().after(left);
    let holder = app.clock.ulid();
    let mut sender = Sender::new(turn, holder, now(), over, app.rules, LIMITS);
    let work = Work::new(app, integration_ref, left);
    let mut under_way: FuturesUnordered<BoxFuture<'_, Result<Seen, ReplayError>>> =
        FuturesUnordered::new();
    while !sender.is_over() {
        if began.elapsed() >= LAST_OF_BATCH && batch.has_one_left() {
            sender.leave_early(now());
        }
        while let Some(todo) = sender.next(now(), app.clock.ulid()) {
            let (turn, epoch) = (sender.turn(), sender.epoch());
            under_way.push(Box::pin(work.carry_out(todo, turn, epoch)));
        }
        if sender.is_over() {
            break;
        }
        let tick = now();
        let pause = Duration::from_millis(sender.wake(tick) - tick.tick);
        if under_way.is_empty() {
            tokio::time::sleep(pause).await;
            continue;
        }
        let Ok(Some(done)) = tokio::time::timeout(pause, under_way.next()).await else {
            continue;
        };
        match done {
            Ok(seen) => {
                let read = match &seen {
                    Seen::Read { events, .. } => events.clone(),
                    _ => Vec::new(),
                };
                sender.seen(seen, now());
                let skipped = read.into_iter().filter(|event| !sender.is_ahead(*event));
                skipped.for_each(|event| work.segments.release(event));
            }
            // Its message cannot begin this turn again, so the step leaves, and another one is due soon.
            Err(error) => {
                let Some(leave) = sender.fail() else {
                    return Err(error);
                };
                tracing::error!(
                    tenant = integration_ref.tenant,
                    integration = integration_ref.integration_id,
                    error = chain(&error),
                    "a step failed, and leaves"
                );
                let (turn, epoch) = (sender.turn(), sender.epoch());
                return work.carry_out(leave, turn, epoch).await.map(drop);
            }
        }
    }
    if sender.waiting() > 0 {
        let waiting = sender.waiting() as u64;
        app.metrics.measure(Metric::RetriesWaiting, waiting);
    }
    Ok(work.rejections.end(integration_ref).await?)
}

/// What a step needs while it is at work.
pub struct Work<'a> {
    /// What replay works with.
    pub app: &'a App,
    /// The integration.
    pub integration_ref: &'a IntegrationRef,
    /// When the step began.
    pub began: Instant,
    /// How long it had then.
    pub left: Duration,
    /// The integration as it was written last: which filter it reads under.
    pub integration: Mutex<Option<Integration>>,
    /// What is unpacked.
    pub segments: Segments<'a>,
    /// Where the last read ended, to continue there.
    pub reading: Mutex<Option<Read>>,
    attempts: Attempts<'a>,
    rejections: Rejections<'a>,
}

impl<'a> Work<'a> {
    fn new(app: &'a App, integration_ref: &'a IntegrationRef, left: Duration) -> Work<'a> {
        Work {
            app,
            integration_ref,
            began: Instant::now(),
            left,
            integration: Mutex::default(),
            segments: Segments::new(&app.event_log, &integration_ref.tenant),
            reading: Mutex::default(),
            attempts: Attempts::new(&app.metrics, &app.counter, integration_ref),
            rejections: Rejections::new(
                &app.rejected_events,
                &app.fates,
                &app.integration_log,
                &app.clock,
            ),
        }
    }

    async fn carry_out(&self, todo: Do, turn: u64, epoch: u64) -> Result<Seen, ReplayError> {
        let (app, integration_ref) = (self.app, self.integration_ref);
        Ok(match todo {
            Do::Apply(input) => {
                let asked_at = Instant::now();
                let applied = app.lifecycle.apply(integration_ref, &input).await?;
                if let Some(applied) = &applied {
                    self.measure_backlog(&input, applied);
                    // What was read before this turn began would end it.
                    app.recent.note(&applied.integration, asked_at).await;
                    *lock(&self.integration) = Some(applied.integration.clone());
                }
                Seen::Applied(applied.map(Box::new))
            }
            Do::List => {
                let first = app.waiting_events.first(integration_ref, LIMITS.listed());
                Seen::Waiting(first.await?)
            }
            Do::Put(items) => {
                let parked = items.iter().map(|it| it.waiting.indices.len()).sum();
                app.metrics.count(Metric::EventsParked, parked);
                let now = app.clock.now();
                let put = || app.waiting_events.put(integration_ref, &items, now);
                self.persist(put).await?;
                Seen::Put
            }
            Do::Drop(keys) => {
                let delete = || app.waiting_events.delete(integration_ref, &keys);
                self.persist(delete).await?;
                Seen::Dropped
            }
            Do::Read { from, until, limit } => self.read(from, until, limit).await?,
            Do::Post { id, event, attempt } => {
                let posted = self.post(event, attempt, turn, epoch).await?;
                let jitter = rand::random();
                Seen::Posted { id, posted, jitter }
            }
            Do::Reject {
                id,
                event,
                reason,
                answer,
            } => {
                // The event log may have forgotten it by now: then there is nothing to keep.
                if let Some(found) = self.segments.get(event).await? {
                    let kept = self.rejections.keep(
                        integration_ref,
                        (event, &found.id),
                        &found.body,
                        reason,
                        answer,
                    );
                    kept.await?;
                    // Before the position moves past it.
                    self.rejections.note(integration_ref).await;
                }
                Seen::Rejected { id }
            }
        })
    }

    /// Makes a call that may be repeated again until it succeeds: what was sent counts as sent only once this is stored, and a step
    /// that failed here would send it again. At most until the lease ends, and not for ever by a clock that stands still.
    async fn persist<F>(&self, call: impl Fn() -> F) -> Result<(), StoreError>
    where
        F: Future<Output = Result<(), StoreError>>,
    {
        let mut pause = FIRST_PAUSE;
        for _ in 1..MAX_TRIES {
            let Err(error) = call().await else {
                return Ok(());
            };
            if self.began.elapsed() + pause + LAST_CALLS >= self.left {
                return Err(error);
            }
            tracing::warn!(
                tenant = self.integration_ref.tenant,
                integration = self.integration_ref.integration_id,
                error = chain(&error),
                "waiting events are stored or deleted once more"
            );
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        call().await
    }

    /// How old what is owed is when the step begins.
    fn measure_backlog(&self, input: &Input, applied: &Applied) {
        let is_begin = matches!(
            input,
            Input::Step {
                step: StepInput::Begin { .. },
                ..
            }
        );
        let owed = applied.integration.stream().and_then(|it| it.owed.first());
        if let Some(owed) = owed.filter(|_| is_begin) {
            let oldest = Millis(owed.from.segment.timestamp_ms());
            let age = applied.decided_at.since(oldest);
            self.app.metrics.time(Metric::BacklogAge, age);
        }
    }

    /// Posts one event, if the integration as it is at this moment lets it be sent.
    async fn post(
        &self,
        event: EventRef,
        attempt: u32,
        turn: u64,
        epoch: u64,
    ) -> Result<Posted, ReplayError> {
        let Some(found) = self.segments.get(event).await? else {
            return Ok(Posted::Unwanted);
        };
        let is_ours = |integration: &Integration| {
            integration.is_running()
                && integration
                    .stream()
                    .is_some_and(|it| it.epoch == epoch && it.schedule.turn == turn)
        };
        let is_sent =
            |integration: &Integration| is_ours(integration) && integration.passes(&found.name);
        let ready = self.app.recent.ready(self.integration_ref, is_sent).await?;
        let Some(ready) = ready.filter(|ready| is_ours(&ready.integration)) else {
            return Ok(Posted::Over);
        };
        let Target::Webhook { callback, .. } = &ready.integration.target else {
            return Ok(Posted::Over);
        };
        if !ready.integration.passes(&found.name) {
            return Ok(Posted::Unwanted);
        }
        let post = Post {
            url: &callback.callback_url,
            credentials: &ready.credentials,
            event_id: &found.id,
            body: &found.body,
        };
        let clock = &self.app.clock;
        let exchange = self.app.receivers.post(&post, clock.now()).await;
        let attempted = Attempted {
            id: &found.id,
            published_at: Millis(event.segment.timestamp_ms()),
            attempt,
        };
        self.attempts.ended(attempted, &exchange, clock.now());
        Ok(made(exchange.outcome, &callback.callback_url, &found))
    }
}

/// An attempt that was made.
fn made(outcome: Outcome, url: &str, event: &Event) -> Posted {
    let reason = reason_of(url, &outcome, &event.body);
    Posted::Made(outcome, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_of_a_batch_is_known_and_a_single_one_is_none() {
        let batch = Batch::default();
        let first = batch.begin();
        assert!(!batch.has_one_left(), "it keeps no other one waiting");
        let second = batch.begin();
        assert!(!batch.has_one_left());
        drop(first);
        assert!(batch.has_one_left());
        drop(second);
        assert!(!batch.has_one_left());
    }
}
