//! Carries out a step: what its sender orders, on the stores and on the receiver.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::integration::{IntegrationRef, Target};
use domain::lifecycle::{Applied, Input, StepInput};
use domain::log::position::EventRef;
use domain::metric::Metric;
use domain::replay::sender::{LIMITS, Sender};
use domain::sending::{Do, Holder, Machine, Posted, Seen};
use domain::time::Millis;
use receivers::Post;
use shared::recent::Ready;
use shared::sending::drive;

use crate::segments::{Event, lock};
use crate::work::Work;
use crate::{App, ReplayError};

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
/// [`ReplayError::HandedBack`] when it cannot begin, for a reason of ours.
pub async fn step(
    app: &App,
    integration_ref: &IntegrationRef,
    turn: u64,
    left: Duration,
    batch: &Batch,
) -> Result<(), ReplayError> {
    let _step = batch.begin();
    let work = Work::new(app, integration_ref, left);
    let now = work.sending.watch.now();
    let over = now.wall.after(left);
    let holder = app.clock.ulid();
    let mut sender = Sender::new(turn, holder, now, over, app.rules, LIMITS);
    let between = |sender: &mut Sender| {
        if work.began.elapsed() >= LAST_OF_BATCH && batch.has_one_left() {
            sender.leave_early(work.sending.watch.now());
        }
        let skipped = sender.take_skipped().into_iter();
        skipped.for_each(|event| work.segments.release(event));
    };
    drive(&mut sender, &work.sending, between, |order, holder| {
        Box::pin(work.carry_out(order, holder))
    })
    .await;
    if sender.waiting() > 0 {
        let waiting = sender.waiting() as u64;
        app.metrics.measure(Metric::RetriesWaiting, waiting);
    }
    work.sending.end().await;
    if sender.is_handed_back() {
        Err(ReplayError::HandedBack)
    } else {
        Ok(())
    }
}

impl Work<'_> {
    async fn carry_out(&self, order: Do, holder: Holder) -> Seen {
        let name = order.order();
        match self.answer(order, holder).await {
            Ok(seen) => seen,
            Err(error) => self.sending.failed(name, &error),
        }
    }

    async fn answer(&self, order: Do, holder: Holder) -> Result<Seen, ReplayError> {
        let (app, integration_ref) = (self.app, self.integration_ref);
        Ok(match order {
            Do::Look => Seen::Looked(self.sending.look(|_| false).await?),
            Do::Apply(input) => {
                let applied = self.sending.apply(&input).await?;
                if let Some(applied) = &applied {
                    self.measure_backlog(&input, applied);
                    *lock(&self.integration) = Some(applied.integration.clone());
                }
                Seen::Applied(applied.map(Box::new))
            }
            Do::List => {
                let first = app.waiting_events.first(integration_ref, LIMITS.listed());
                Seen::Waiting(first.await?)
            }
            Do::Put(items) => {
                self.sending.put(&items).await?;
                Seen::Put
            }
            Do::Drop(keys) => {
                app.waiting_events.delete(integration_ref, &keys).await?;
                Seen::Dropped
            }
            Do::Read { from, until, limit } => self.read(from, until, limit).await?,
            Do::Post { id, event, attempt } => self.post((id, attempt), event, holder).await?,
            Do::Reject {
                id,
                event,
                reason,
                answer,
            } => {
                // The event log may have forgotten it by now: then there is nothing to keep.
                if let Some(found) = self.segments.get(event).await? {
                    let rejected = as_sent(event, &found);
                    self.sending.reject(rejected, reason, answer).await;
                    // Before the position moves past it.
                    self.sending.note().await;
                }
                Seen::Rejected { id }
            }
        })
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
        (id, attempt): (u64, u32),
        event: EventRef,
        holder: Holder,
    ) -> Result<Seen, ReplayError> {
        let Some(found) = self.segments.get(event).await? else {
            return Ok(Seen::Posted {
                id,
                posted: Posted::Unwanted,
                took: 0,
                is_failing: false,
                jitter: 0.0,
            });
        };
        let (app, found) = (self.app, &found);
        let post = async |ready: Ready| {
            let url = match &ready.integration.target {
                Target::Webhook { callback, .. } => callback.callback_url.as_str(),
                Target::S3 { .. } => "",
            };
            let post = Post {
                url,
                credentials: &ready.credentials,
                event_id: &found.id,
                body: &found.body,
            };
            let (now, begins) = (app.clock.now(), || self.sending.begun(id));
            app.receivers.post_noting(&post, now, begins).await
        };
        let event = as_sent(event, found);
        let posted = self.sending.post((id, attempt), holder, event, post);
        Ok(posted.await?)
    }
}

/// An event of an unpacked segment, to be sent.
fn as_sent(event: EventRef, found: &Event) -> shared::sending::Event<'_> {
    shared::sending::Event {
        event,
        id: &found.id,
        name: &found.name,
        body: &found.body,
    }
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
