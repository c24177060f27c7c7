//! Carries out what was decided about an event.

use std::collections::VecDeque;

use domain::attempt::Effect;
use domain::integration::IntegrationRef;
use domain::integration_log::{Action, Entry};
use domain::lifecycle::Input;
use domain::tasks::{DeliveryTask, Dispatch};
use domain::time::Millis;
use shared::store::rejected_events::Rejected;
use shared::telemetry::chain;
use ulid::Ulid;

use crate::{App, DeliveryError};

/// Carries out effects in their order. Where one fails, the message has to be handed out again.
pub async fn carry_out(
    app: &App,
    task: &DeliveryTask,
    integration_ref: &IntegrationRef,
    effects: Vec<Effect>,
) -> Result<(), DeliveryError> {
    let mut effects = VecDeque::from(effects);
    while let Some(effect) = effects.pop_front() {
        match effect {
            Effect::Park(parked) => {
                let now = app.clock.now();
                app.parked_events
                    .park(integration_ref, &parked, now)
                    .await?;
            }
            Effect::Unpark { event, token } => {
                app.parked_events
                    .delete(integration_ref, &event, token)
                    .await?;
            }
            Effect::Settle { chunk, index } => {
                if app.chunks.settle(integration_ref, chunk, index).await? {
                    effects.push_front(Effect::Apply(Input::ChunkDone));
                }
            }
            Effect::Retry { dispatch, delay } => {
                let next = DeliveryTask {
                    dispatch,
                    ..task.clone()
                };
                app.delivery_queue.send(vec![next.message(delay)?]).await?;
            }
            Effect::Reject { reason, answer } => {
                reject(
                    app,
                    integration_ref,
                    &task.dispatch,
                    task.body.get(),
                    reason,
                    answer,
                )
                .await?;
            }
            Effect::Apply(input) => {
                match app.lifecycle.apply(integration_ref, &input, None).await {
                    Ok(_) => {}
                    // Counting goes by samples anyway. To hand the message back would send the event twice.
                    Err(error)
                        if matches!(input, Input::Succeeded { .. } | Input::Failed { .. }) =>
                    {
                        tracing::warn!(error = chain(&error), "an attempt is not counted");
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(())
}

async fn reject(
    app: &App,
    integration_ref: &IntegrationRef,
    dispatch: &Dispatch,
    envelope: &str,
    reason: String,
    answer: String,
) -> Result<(), DeliveryError> {
    let id = app.clock.ulid();
    let rejected = Rejected {
        event_id: dispatch.event_id.clone(),
        created_at: Millis(id.timestamp_ms()),
        answer,
    };
    let evicted = app
        .rejected_events
        .put(integration_ref, &rejected, envelope)
        .await?;
    let mut entries = vec![(Action::EventRejected, reason)];
    entries.extend(evicted.into_iter().map(|event_id| {
        let reason = format!(
            "Rejected event {event_id} was removed to make room: only the last 30 are kept."
        );
        (Action::RejectedEventEvicted, reason)
    }));
    for (id, (action, reason)) in (id.0..).map(Ulid).zip(entries) {
        let entry = Entry { id, action, reason };
        app.integration_log.append(integration_ref, &entry).await?;
    }
    Ok(())
}
