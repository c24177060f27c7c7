//! Carries out a run: posts its events, and writes down what is left of it.

use std::time::{Duration, Instant};

use domain::integration::{Integration, IntegrationRef, Target};
use domain::integration_log::reason_of;
use domain::lifecycle::{Input, Ran};
use domain::log::position::EventRef;
use domain::metric::Metric;
use domain::receiver::outcome::Outcome;
use domain::run::{Admission, Next, Posting, Written, admit};
use domain::stream::waiting::{StoredWaiting, Waiting, WaitingKey};
use domain::tasks::{Run, RunEvent};
use domain::time::Millis;
use futures_util::stream::{FuturesUnordered, StreamExt};
use receivers::Post;
use shared::attempts::{Attempted, Attempts};
use shared::recent::Ready;
use shared::rejections::Rejections;
use shared::telemetry::chain;

use crate::{App, DeliveryError};

/// What came of an attempt; none where none was made.
enum Made {
    /// What came of it, and what went wrong, for the integration log.
    Outcome(Outcome, String),
    Skipped,
    Halted,
}

/// Carries out a run in an invocation that has `left` to live.
///
/// # Errors
/// When it cannot be read or written down for a reason of ours: the queue hands it out again.
pub async fn deliver(app: &App, run: &Run, left: Duration) -> Result<(), DeliveryError> {
    let integration_ref = run.integration_ref();
    let posts = |integration: &Integration| admit(integration, run) == Admission::Post;
    let Some(ready) = app.recent.ready(&integration_ref, posts).await? else {
        return Ok(());
    };
    let now = app.clock.now();
    match admit(&ready.integration, run) {
        Admission::Drop => Ok(()),
        Admission::Wait => {
            let ran = Ran {
                due_at: Some(now),
                ..Ran::default()
            };
            let items = Posting::all(run, now);
            write_down(app, &integration_ref, Written { items, ran }).await
        }
        Admission::Post => post_all(app, run, &integration_ref, &ready.integration, left).await,
    }
}

/// Posts the events of a run, several at a time, and writes down what came of it.
async fn post_all(
    app: &App,
    run: &Run,
    integration_ref: &IntegrationRef,
    integration: &Integration,
    left: Duration,
) -> Result<(), DeliveryError> {
    let epoch = epoch(integration);
    let began = Instant::now();
    let tick = || began.elapsed().as_millis() as u64;
    let mut posting = Posting::new(run.events.len(), left.as_millis() as u64);
    let attempts = Attempts::new(&app.metrics, &app.counter, integration_ref);
    let rejections = Rejections::new(
        &app.rejected_events,
        &app.fates,
        &app.integration_log,
        &app.clock,
    );
    let (mut under_way, mut gone) = (FuturesUnordered::new(), None);
    let mut failure = None;
    loop {
        let next = posting.next(tick());
        if posting.says_slow() {
            let ran = Ran {
                epoch,
                is_slow: true,
                ..Ran::default()
            };
            count(app, integration_ref, ran).await;
        }
        let until = match next {
            Next::Post(number) => {
                under_way.push(post(app, run, number, epoch, &attempts));
                continue;
            }
            Next::Wait(until) => Duration::from_millis(until.saturating_sub(tick())),
            Next::Done => break,
        };
        let ended = tokio::time::timeout(until, under_way.next()).await;
        let Ok(Some((number, made))) = ended else {
            continue;
        };
        match made {
            Ok(Made::Outcome(outcome, reason)) => {
                posting.ended(number, &outcome, reason.clone(), tick());
                match outcome {
                    Outcome::Rejected(answer) => {
                        let event = &run.events[number];
                        let place = EventRef {
                            segment: run.segment,
                            index: event.index,
                            shard: run.shard,
                        };
                        let rejected = (place, event.id.as_str());
                        let body = event.body.get();
                        let kept = rejections.keep(integration_ref, rejected, body, reason, answer);
                        if let Err(error) = kept.await {
                            failure = Some(error.into());
                        }
                    }
                    Outcome::Gone => gone = Some(reason),
                    _ => {}
                }
            }
            Ok(Made::Skipped) => posting.skipped(number),
            Ok(Made::Halted) => posting.halted(number),
            Err(error) => {
                // The rest of the run waits; what was sent is not sent again.
                let (tenant, integration) = (&run.tenant, &run.integration_id);
                let (event, error) = (&run.events[number].id, chain(&error));
                tracing::warn!(
                    tenant,
                    integration,
                    event,
                    error,
                    "an event could not be sent"
                );
                posting.halted(number);
            }
        }
    }
    rejections.end(integration_ref).await?;
    if let Some(error) = failure {
        return Err(error);
    }
    let written = posting.written(run, epoch, app.clock.now(), rand::random());
    let is_said = written.says_something(integration, app.clock.now());
    let (items, ran) = (written.items, written.ran);
    put(app, integration_ref, items).await?;
    if let Some(reason) = gone {
        let gone = Input::Gone { epoch, reason };
        app.lifecycle.apply(integration_ref, &gone).await?;
    }
    match is_said {
        true => said(app, integration_ref, ran).await,
        false => Ok(()),
    }
}

/// Posts one event, if the integration as it is at this moment lets it be sent.
async fn post(
    app: &App,
    run: &Run,
    number: usize,
    epoch: u64,
    attempts: &Attempts<'_>,
) -> (usize, Result<Made, DeliveryError>) {
    let event = &run.events[number];
    (number, attempt(app, run, event, epoch, attempts).await)
}

async fn attempt(
    app: &App,
    run: &Run,
    event: &RunEvent,
    epoch: u64,
    attempts: &Attempts<'_>,
) -> Result<Made, DeliveryError> {
    let integration_ref = run.integration_ref();
    let is_live = |integration: &Integration| {
        admit(integration, run) == Admission::Post && self::epoch(integration) == epoch
    };
    let is_sent =
        |integration: &Integration| is_live(integration) && integration.passes(&event.name);
    let Some(Ready {
        integration,
        credentials,
    }) = app.recent.ready(&integration_ref, is_sent).await?
    else {
        return Ok(Made::Halted);
    };
    if !is_live(&integration) {
        return Ok(Made::Halted);
    }
    let Target::Webhook { callback, .. } = &integration.target else {
        return Ok(Made::Halted);
    };
    if !integration.passes(&event.name) {
        return Ok(Made::Skipped);
    }
    let post = Post {
        url: &callback.callback_url,
        credentials: &credentials,
        event_id: &event.id,
        body: event.body.get(),
    };
    let exchange = app.receivers.post(&post, app.clock.now()).await;
    let attempted = Attempted {
        id: &event.id,
        published_at: Millis(run.segment.timestamp_ms()),
        attempt: 1,
    };
    attempts.ended(attempted, &exchange, app.clock.now());
    let outcome = exchange.outcome;
    let reason = reason_of(&callback.callback_url, &outcome, event.body.get());
    Ok(Made::Outcome(outcome, reason))
}

/// Stores what waits, then says what was seen: in this order, so that a sender that is asked for finds it.
async fn write_down(
    app: &App,
    integration_ref: &IntegrationRef,
    written: Written,
) -> Result<(), DeliveryError> {
    put(app, integration_ref, written.items).await?;
    said(app, integration_ref, written.ran).await
}

async fn put(
    app: &App,
    integration_ref: &IntegrationRef,
    items: Vec<Waiting>,
) -> Result<(), DeliveryError> {
    if items.is_empty() {
        return Ok(());
    }
    let now = app.clock.now();
    let parked = items.iter().map(|it| it.indices.len()).sum();
    app.metrics.count(Metric::EventsParked, parked);
    let named = items.into_iter().map(|waiting| {
        let (segment, token) = (waiting.segment, app.clock.ulid());
        let key = WaitingKey { segment, token };
        StoredWaiting { key, waiting }
    });
    let items: Vec<StoredWaiting> = named.collect();
    Ok(app.waiting_events.put(integration_ref, &items, now).await?)
}

async fn said(app: &App, integration_ref: &IntegrationRef, ran: Ran) -> Result<(), DeliveryError> {
    // Where events wait a sender has to be asked for. Anything else goes by samples, and to hand the run back would send it again.
    if ran.due_at.is_none() {
        count(app, integration_ref, ran).await;
        return Ok(());
    }
    let input = Input::Ran(ran);
    app.lifecycle.apply(integration_ref, &input).await?;
    Ok(())
}

async fn count(app: &App, integration_ref: &IntegrationRef, ran: Ran) {
    let applied = app.lifecycle.apply(integration_ref, &Input::Ran(ran)).await;
    if let Err(error) = applied {
        tracing::warn!(
            tenant = integration_ref.tenant,
            integration = integration_ref.integration_id,
            error = chain(&error),
            "a run is not counted"
        );
    }
}

/// The start for which an attempt is made.
fn epoch(integration: &Integration) -> u64 {
    integration.stream().map_or(0, |stream| stream.epoch)
}
