//! A rejected event is tried again on request.

use domain::integration::{IntegrationRef, Target};
use domain::metric::Metric;
use domain::receiver::outcome::Outcome;
use domain::tasks::{Retried, RetryRejected};
use receivers::Post;
use shared::store::StoreError;

use crate::{App, DeliveryError, api_key, find};

/// Sends a rejected event once, also while the integration is stopped, and forgets it when the receiver has taken it.
///
/// The attempt says nothing about the stream: it neither counts as a failure nor ends an interruption.
///
/// # Errors
/// When the event or the secrets cannot be read, or the event cannot be deleted: it is kept then.
pub async fn retry(app: &App, asked: &RetryRejected) -> Result<Retried, DeliveryError> {
    let found = find(app, &asked.tenant, &asked.integration_id, asked.generation);
    let Some(integration) = found.await? else {
        return Ok(Retried::NotFound);
    };
    let Target::Webhook { callback, .. } = &integration.target else {
        return Ok(Retried::NotFound);
    };
    let integration_ref = IntegrationRef::from(&integration);
    let envelope = match app
        .rejected_events
        .get(&integration_ref, &asked.event_id)
        .await
    {
        Ok(envelope) => envelope,
        Err(StoreError::NotFound) => return Ok(Retried::NotFound),
        Err(error) => return Err(error.into()),
    };
    let api_key = api_key(app, &integration, callback).await?;
    let post = Post {
        url: &callback.callback_url,
        api_key: api_key.as_ref(),
        event_id: &asked.event_id,
        body: &envelope,
    };
    let exchange = app.receivers.post(&post, app.clock.now()).await;
    app.metrics.time(Metric::ReceiverLatency, exchange.took);
    if let Some(class) = Metric::of_failure(&exchange) {
        app.metrics.count(class, 1);
    }
    tracing::info!(
        tenant = asked.tenant,
        integration = asked.integration_id,
        event = asked.event_id,
        status = exchange.status,
        latency_ms = exchange.took.as_millis() as u64,
        "retried on request"
    );
    Ok(match exchange.outcome {
        Outcome::Delivered => {
            match app
                .rejected_events
                .delete(&integration_ref, &asked.event_id)
                .await
            {
                // Deleted or retried by another call in the meantime.
                Ok(()) | Err(StoreError::NotFound) => Retried::Delivered,
                Err(error) => return Err(error.into()),
            }
        }
        Outcome::Rejected(_) => Retried::Refused("bad request (HTTP status code 400)".to_owned()),
        Outcome::Gone => Retried::Refused("gone (HTTP status code 410)".to_owned()),
        Outcome::Failed(failure) => Retried::Refused(failure.reason),
    })
}
