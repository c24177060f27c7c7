//! Tests of receivers, on request.

use domain::calls::{TestReceiver, Verdict};
use domain::event::sample;
use receivers::Post;
use uuid::Uuid;

use crate::{App, DeliveryError};

/// Sends a sample event to a receiver, and says what came of it. Nothing is written: neither a log nor the stream's health.
///
/// # Errors
/// When the secrets cannot be decrypted.
pub async fn test(app: &App, asked: &TestReceiver) -> Result<Verdict, DeliveryError> {
    let TestReceiver {
        tenant,
        integration_id,
        callback,
        name,
    } = asked;
    let credentials = app.secrets.credentials(tenant, integration_id, callback);
    let credentials = credentials.await?;
    let (now, event_id) = (app.clock.now(), Uuid::new_v4().to_string());
    let post = Post {
        url: &callback.callback_url,
        credentials: &credentials,
        event_id: &event_id,
        body: &sample(tenant, name, now),
    };
    let tested = app.receivers.test(&post, now).await;
    let exchange = tested.exchange;
    let latency_ms = exchange.took.as_millis() as u64;
    tracing::info!(
        tenant,
        integration = integration_id,
        event = event_id,
        status = exchange.status,
        latency_ms,
        "tested"
    );
    let reason = exchange.outcome.reason().map(str::to_owned);
    let (response, tls) = (tested.response, tested.tls);
    Ok(Verdict {
        event_id,
        reason,
        status_code: exchange.status,
        latency_ms,
        response: Some(response).filter(|response| !response.is_empty()),
        tls_version: tls.as_ref().map(|tls| tls.version.to_owned()),
        certificate_expires_at: tls.and_then(|tls| tls.certificate_expires_at),
        key: None,
    })
}
