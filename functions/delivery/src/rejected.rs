//! Rejected events are tried again on request.

use std::time::{Duration, Instant};

use domain::calls::{Retried, RetriedAll, RetryRejected};
use domain::integration::{Integration, IntegrationRef, Target};
use domain::receiver::credentials::Credentials;
use domain::receiver::outcome::Outcome;
use receivers::Post;
use shared::store::StoreError;

use crate::{App, DeliveryError, find};

/// After how long no further one of many is sent: the API waits for 25 s, and an attempt may take 15.
const LAST_ATTEMPT: Duration = Duration::from_secs(8);

/// Sends a rejected event once, also while the integration is stopped, and forgets it when the receiver has taken it.
///
/// The attempt says nothing about the stream: it neither counts as a failure nor ends an interruption.
///
/// # Errors
/// When the event or the secrets cannot be read, or the event cannot be deleted: it is kept then.
pub async fn retry(app: &App, asked: &RetryRejected) -> Result<Retried, DeliveryError> {
    let found = find(app, &asked.tenant, &asked.integration_id, asked.generation);
    let Some(receiver) = Receiver::of(app, found.await?).await? else {
        return Ok(Retried::NotFound);
    };
    let Some(outcome) = receiver.send(&asked.event_id).await? else {
        return Ok(Retried::NotFound);
    };
    Ok(match outcome.reason() {
        None => Retried::Delivered,
        Some(reason) => Retried::Refused(reason.to_owned()),
    })
}

/// As [`retry`], for all rejected events, in the order in which they were rejected. Stops where an attempt fails for another reason
/// than 400: the next ones would fail as well.
///
/// # Errors
/// Those of [`retry`].
pub async fn retry_all(app: &App, asked: &IntegrationRef) -> Result<RetriedAll, DeliveryError> {
    let found = find(app, &asked.tenant, &asked.integration_id, asked.generation);
    let mut retried = RetriedAll::default();
    let Some(receiver) = Receiver::of(app, found.await?).await? else {
        return Ok(retried);
    };
    let began = Instant::now();
    let mut rejected = app.rejected_events.list(&receiver.integration_ref).await?;
    while let Some(oldest) = rejected.pop() {
        if began.elapsed() >= LAST_ATTEMPT || retried.failed.is_some() {
            retried.left += 1;
            continue;
        }
        match receiver.send(&oldest.event_id).await? {
            // Deleted or retried by another call in the meantime.
            None => {}
            Some(Outcome::Delivered) => retried.delivered += 1,
            Some(Outcome::Rejected(_)) => retried.rejected += 1,
            Some(outcome) => {
                retried.failed = outcome.reason().map(str::to_owned);
            }
        }
    }
    Ok(retried)
}

/// The receiver of an integration.
struct Receiver<'a> {
    app: &'a App,
    integration_ref: IntegrationRef,
    url: String,
    credentials: Credentials,
}

impl Receiver<'_> {
    /// None where there is no such integration, or it is not one of webhooks.
    async fn of(
        app: &App,
        integration: Option<Integration>,
    ) -> Result<Option<Receiver<'_>>, DeliveryError> {
        let Some(integration) = integration else {
            return Ok(None);
        };
        let integration_ref = IntegrationRef::from(&integration);
        let Target::Webhook { callback, .. } = integration.target else {
            return Ok(None);
        };
        let (tenant, id) = (&integration.tenant, &integration.id);
        let credentials = app.secrets.credentials(tenant, id, &callback).await?;
        Ok(Some(Receiver {
            app,
            integration_ref,
            url: callback.callback_url,
            credentials,
        }))
    }

    /// Sends a rejected event, and forgets it when it is taken. None where there is no such event.
    async fn send(&self, event_id: &str) -> Result<Option<Outcome>, DeliveryError> {
        let (app, integration_ref) = (self.app, &self.integration_ref);
        let envelope = match app.rejected_events.get(integration_ref, event_id).await {
            Ok(envelope) => envelope,
            Err(StoreError::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let post = Post {
            url: &self.url,
            credentials: &self.credentials,
            event_id,
            body: &envelope,
        };
        let exchange = app.receivers.post(&post, app.clock.now()).await;
        app.metrics.exchange(&exchange);
        tracing::info!(
            tenant = integration_ref.tenant,
            integration = integration_ref.integration_id,
            event = event_id,
            status = exchange.status,
            latency_ms = exchange.took.as_millis() as u64,
            "retried on request"
        );
        if exchange.outcome == Outcome::Delivered {
            // The note goes first: what is not among the rejected events any more is not looked at again, and of an event that was
            // delivered it would be said for certain that it was rejected.
            let place = app.rejected_events.place(integration_ref, event_id).await?;
            if let Some(event) = place {
                app.fates.forget(integration_ref, &event).await?;
            }
            match app.rejected_events.delete(integration_ref, event_id).await {
                // Deleted or retried by another call in the meantime; or by this one, whose response was lost.
                Ok(_) | Err(StoreError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(exchange.outcome))
    }
}
