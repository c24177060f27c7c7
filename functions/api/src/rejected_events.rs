//! The endpoints of rejected events.

use domain::calls::{Retried, RetriedAll, RetryRejected};
use domain::integration::IntegrationRef;
use http::Response;
#[cfg(test)]
use schemars::JsonSchema;
use serde::Serialize;
use shared::store::StoreError;
use shared::store::rejected_events::Rejected;

use crate::error::ApiError;
use crate::integrations::find;
use crate::request::Request;
use crate::{App, bodies, responses};

/// A rejected event in the list of them.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "RejectedEvent"))]
pub struct RejectedResponse {
    id: String,
    created_at: String,
    /// Ours: the start of the receiver's response, or why the event was given up.
    answer: String,
}

/// What came of trying all rejected events again.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "RetriedEvents"))]
pub struct RetriedAllResponse {
    /// How many were sent.
    retried: usize,
    /// How many of them the receiver has taken: these are no longer rejected events.
    delivered: usize,
    /// How many it has rejected again.
    rejected: usize,
    /// How many were not sent, since an attempt before them failed for another reason, or since time ran out: ask again.
    left: usize,
    /// Why an attempt failed for another reason than 400.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<RetriedAll> for RetriedAllResponse {
    fn from(all: RetriedAll) -> RetriedAllResponse {
        RetriedAllResponse {
            retried: all.delivered + all.rejected + usize::from(all.failed.is_some()),
            delivered: all.delivered,
            rejected: all.rejected,
            left: all.left,
            reason: all.failed,
        }
    }
}

impl From<Rejected> for RejectedResponse {
    fn from(rejected: Rejected) -> RejectedResponse {
        RejectedResponse {
            id: rejected.event_id,
            created_at: rejected.created_at.to_string(),
            answer: rejected.answer,
        }
    }
}

/// `GET /{integration_id}/rejected_events`
pub async fn list(app: &App, tenant: &str, id: &str) -> Result<Response<String>, ApiError> {
    let integration = find(app, tenant, id).await?;
    let rejected = app
        .rejected_events
        .list(&IntegrationRef::from(&integration))
        .await?;
    let rejected: Vec<RejectedResponse> = rejected.into_iter().map(Into::into).collect();
    responses::ok(&serde_json::json!({ "rejected_events": rejected }))
}

/// The longest id of an event.
const MAX_EVENT_ID_BYTES: usize = 64;

/// `GET /{integration_id}/rejected_events/{event_id}`
pub async fn get(
    app: &App,
    tenant: &str,
    id: &str,
    event_id: &str,
) -> Result<Response<String>, ApiError> {
    let integration_ref = of(app, tenant, id, event_id).await?;
    let envelope = app.rejected_events.get(&integration_ref, event_id).await;
    responses::verbatim(envelope.map_err(|error| not_found(error, event_id))?)
}

/// `DELETE /{integration_id}/rejected_events/{event_id}`
pub async fn delete(
    app: &App,
    tenant: &str,
    id: &str,
    event_id: &str,
) -> Result<Response<String>, ApiError> {
    let integration_ref = of(app, tenant, id, event_id).await?;
    let deleted = app.rejected_events.delete(&integration_ref, event_id).await;
    deleted.map_err(|error| not_found(error, event_id))?;
    responses::no_content()
}

/// `POST /{integration_id}/rejected_events/{event_id}/_retry`
pub async fn retry(
    app: &App,
    tenant: &str,
    id: &str,
    event_id: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    bodies::none(request)?;
    let integration_ref = of(app, tenant, id, event_id).await?;
    let asked = RetryRejected {
        tenant: integration_ref.tenant,
        integration_id: integration_ref.integration_id,
        generation: integration_ref.generation,
        event_id: event_id.to_owned(),
    };
    match app.delivery_function.retry(&asked).await? {
        Retried::Delivered => responses::no_content(),
        Retried::Refused(reason) => Err(ApiError::delivery_failed(&reason)),
        Retried::NotFound => Err(not_found(StoreError::NotFound, event_id)),
    }
}

/// `POST /{integration_id}/rejected_events/_retry`
pub async fn retry_all(
    app: &App,
    tenant: &str,
    id: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    bodies::none(request)?;
    let integration = find(app, tenant, id).await?;
    let integration_ref = IntegrationRef::from(&integration);
    let retried = app.delivery_function.retry_all(&integration_ref).await?;
    responses::ok(&RetriedAllResponse::from(retried))
}

/// `DELETE /{integration_id}/rejected_events`
pub async fn clear(app: &App, tenant: &str, id: &str) -> Result<Response<String>, ApiError> {
    let integration = find(app, tenant, id).await?;
    let integration_ref = IntegrationRef::from(&integration);
    app.rejected_events.clear(&integration_ref).await?;
    responses::no_content()
}

/// The integration of a rejected event. An event's id that is too long is not looked for: it would be part of a key.
async fn of(app: &App, tenant: &str, id: &str, event_id: &str) -> Result<IntegrationRef, ApiError> {
    let integration = find(app, tenant, id).await?;
    match event_id.len() <= MAX_EVENT_ID_BYTES {
        true => Ok(IntegrationRef::from(&integration)),
        false => Err(not_found(StoreError::NotFound, event_id)),
    }
}

fn not_found(error: StoreError, event_id: &str) -> ApiError {
    match error {
        StoreError::NotFound => ApiError::not_found(format!(
            "There is no rejected event \"{}\".",
            event_id.chars().take(64).collect::<String>()
        )),
        error => error.into(),
    }
}
