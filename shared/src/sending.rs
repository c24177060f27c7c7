//! Drives what sends events, a run or a step of replay, and carries out the orders that both give.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::integration::{Integration, IntegrationRef, Target};
use domain::integration_log::reason_of;
use domain::lifecycle::{Applied, Input};
use domain::log::position::EventRef;
use domain::metric::Metric;
use domain::receiver::outcome::Exchange;
use domain::sending::{Do, Holder, Look, Machine, Now, Order, Posted, Seen, look};
use domain::stream::waiting::StoredWaiting;
use domain::time::Millis;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::activity::Counter;
use crate::attempts::{Attempted, Attempts};
use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::recent::{Ready, Recent, RecentError};
use crate::rejections::Rejections;
use crate::store::StoreError;
use crate::store::waiting_events::WaitingEvents;
use crate::telemetry::chain;

/// Measures the time of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    clock: &'a Clock,
    began: Instant,
}

impl<'a> Watch<'a> {
    /// One that begins now.
    pub fn new(clock: &'a Clock) -> Watch<'a> {
        let began = Instant::now();
        Watch { clock, began }
    }

    /// The time.
    pub fn now(&self) -> Now {
        Now {
            wall: self.clock.now(),
            tick: self.began.elapsed().as_millis() as u64,
        }
    }
}

/// Carries out what a machine orders until it is over. Each order is begun at once, and nothing is waited for but the next answer:
/// none can hold up another one. The machine is shown to `between` before it is asked for its next orders.
pub async fn drive<'f, M: Machine>(
    machine: &mut M,
    sending: &Sending<'_>,
    between: impl Fn(&mut M),
    carry_out: impl Fn(Do, Holder) -> BoxFuture<'f, Seen>,
) {
    let watch = sending.watch;
    let mut under_way = FuturesUnordered::new();
    while !machine.is_over() {
        between(machine);
        while let Some(order) = machine.next(watch.now(), watch.clock.ulid()) {
            under_way.push(carry_out(order, machine.holder()));
        }
        if machine.is_over() {
            break;
        }
        let now = watch.now();
        let pause = Duration::from_millis(machine.wake(now).saturating_sub(now.tick));
        let seen = if under_way.is_empty() {
            tokio::time::sleep(pause).await;
            None
        } else {
            let next = tokio::time::timeout(pause, under_way.next()).await;
            next.ok().flatten()
        };
        for (id, at) in sending.take_begun() {
            machine.seen(Seen::Begun { id, at }, watch.now());
        }
        if let Some(seen) = seen {
            machine.seen(seen, watch.now());
        }
    }
}

/// An event that is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Event<'e> {
    /// Where it is in the event log.
    pub event: EventRef,
    /// Its id.
    pub id: &'e str,
    /// Its name.
    pub name: &'e str,
    /// The envelope.
    pub body: &'e str,
}

/// With what the orders of one run or one step are carried out.
#[derive(Debug)]
pub struct Sending<'a> {
    /// Its time.
    pub watch: Watch<'a>,
    /// Its integration.
    pub integration_ref: &'a IntegrationRef,
    metrics: &'a Metrics,
    lifecycle: &'a Lifecycle,
    recent: &'a Recent,
    waiting_events: &'a WaitingEvents,
    attempts: Attempts<'a>,
    rejections: Rejections<'a>,
    /// Attempts whose requests have begun, and when, that the machine has not been shown yet.
    begun: Mutex<Vec<(u64, u64)>>,
}

/// The stores that orders are carried out on.
#[derive(Clone, Copy, Debug)]
pub struct Stores<'a> {
    /// The current time.
    pub clock: &'a Clock,
    /// What is counted.
    pub metrics: &'a Metrics,
    /// What is counted of each integration.
    pub counter: &'a Counter,
    /// What happens to integrations.
    pub lifecycle: &'a Lifecycle,
    /// Integrations as they are right before a request.
    pub recent: &'a Recent,
    /// What waits for another attempt.
    pub waiting_events: &'a WaitingEvents,
}

impl<'a> Sending<'a> {
    /// For an integration. What is rejected goes to `rejections`.
    pub fn new(
        stores: Stores<'a>,
        rejections: Rejections<'a>,
        integration_ref: &'a IntegrationRef,
    ) -> Sending<'a> {
        Sending {
            watch: Watch::new(stores.clock),
            integration_ref,
            metrics: stores.metrics,
            lifecycle: stores.lifecycle,
            recent: stores.recent,
            waiting_events: stores.waiting_events,
            attempts: Attempts::new(stores.metrics, stores.counter, integration_ref),
            rejections,
            begun: Mutex::default(),
        }
    }

    /// Nothing more is sent: what is rejected is noted and logged.
    pub async fn end(&self) {
        self.rejections.end(self.integration_ref).await;
    }

    /// The integration as it is now; [`Do::Look`].
    ///
    /// # Errors
    /// When it cannot be read, or its secrets cannot be decrypted where `is_sent`.
    pub async fn look(
        &self,
        is_sent: impl Fn(&Integration) -> bool,
    ) -> Result<Option<Arc<Integration>>, RecentError> {
        let ready = self.recent.ready(self.integration_ref, is_sent).await?;
        Ok(ready.map(|ready| ready.integration))
    }

    /// Applies an input; [`Do::Apply`].
    ///
    /// # Errors
    /// Those of [`Lifecycle::apply`].
    pub async fn apply(&self, input: &Input) -> Result<Option<Applied>, StoreError> {
        let asked_at = Instant::now();
        let applied = self.lifecycle.apply(self.integration_ref, input).await?;
        if let (Input::Step { .. }, Some(applied)) = (input, &applied) {
            // What was read before this turn began would end it.
            self.recent.note(&applied.integration, asked_at).await;
        }
        Ok(applied)
    }

    /// Stores waiting events; [`Do::Put`].
    ///
    /// # Errors
    /// Those of [`WaitingEvents::put`].
    pub async fn put(&self, items: &[StoredWaiting]) -> Result<(), StoreError> {
        let now = self.watch.now().wall;
        let put = self.waiting_events.put(self.integration_ref, items, now);
        put.await?;
        let parked = items.iter().map(|it| it.waiting.indices.len()).sum();
        self.metrics.count(Metric::EventsParked, parked);
        Ok(())
    }

    /// Posts an event, if the integration as it is at this moment lets it be sent; [`Do::Post`]. `post` makes the request, and calls
    /// [`Sending::begun`] when it begins.
    ///
    /// # Errors
    /// When the integration cannot be read, or its secrets cannot be decrypted.
    pub async fn post<F: Future<Output = Exchange>>(
        &self,
        (id, attempt): (u64, u32),
        holder: Holder,
        event: Event<'_>,
        post: impl FnOnce(Ready) -> F,
    ) -> Result<Seen, RecentError> {
        let (name, mut took, mut is_failing) = (event.name, 0, false);
        let is_sent = |integration: &Integration| look(integration, holder, name) == Look::Send;
        let ready = self.recent.ready(self.integration_ref, is_sent).await?;
        let looked = ready.as_ref().map(|it| look(&it.integration, holder, name));
        let posted = match (ready, looked) {
            (Some(ready), Some(Look::Send)) => {
                let integration = ready.integration.clone();
                let stream = integration.stream();
                is_failing = stream.is_some_and(|it| it.health.failing_since.is_some());
                let exchange = post(ready).await;
                took = exchange.took.as_millis() as u64;
                self.made(&integration, event, attempt, exchange)
            }
            (Some(_), Some(Look::Unwanted)) => Posted::Unwanted,
            _ => Posted::Over,
        };
        Ok(Seen::Posted {
            id,
            posted,
            took,
            is_failing,
            jitter: rand::random(),
        })
    }

    /// The request of an attempt begins.
    pub fn begun(&self, id: u64) {
        let Now { tick, .. } = self.watch.now();
        lock(&self.begun).push((id, tick));
    }

    /// Takes note of an attempt that was made, or could not be.
    fn made(
        &self,
        integration: &Integration,
        event: Event<'_>,
        attempt: u32,
        exchange: Exchange,
    ) -> Posted {
        if exchange.is_ours() {
            self.metrics.exchange(&exchange);
            return Posted::Unmade;
        }
        let attempted = Attempted {
            id: event.id,
            published_at: Millis(event.event.segment.timestamp_ms()),
            attempt,
        };
        self.attempts
            .ended(attempted, &exchange, self.watch.now().wall);
        let url = match &integration.target {
            Target::Webhook { callback, .. } => callback.callback_url.as_str(),
            Target::S3 { .. } => "",
        };
        let reason = reason_of(url, &exchange.outcome, event.body);
        Posted::Made(exchange.outcome, reason)
    }

    /// Keeps an event among the rejected ones; [`Do::Reject`].
    pub async fn reject(&self, event: Event<'_>, reason: String, answer: String) {
        let rejected = (event.event, event.id);
        let kept = self
            .rejections
            .keep(self.integration_ref, rejected, event.body, reason, answer);
        kept.await;
    }

    /// Notes what was rejected so far.
    pub async fn note(&self) {
        self.rejections.note(self.integration_ref).await;
    }

    /// The answer where an order has failed; what went wrong is logged.
    pub fn failed(&self, order: Order, error: &(dyn std::error::Error + 'static)) -> Seen {
        tracing::warn!(
            tenant = self.integration_ref.tenant,
            integration = self.integration_ref.integration_id,
            order = ?order,
            error = chain(error),
            "an order failed"
        );
        Seen::Failed(order)
    }

    fn take_begun(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *lock(&self.begun))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
