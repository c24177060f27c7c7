//! Answers: JSON, and the form in which callers see an integration.

use lambda_http::Response;
use lambda_http::http::StatusCode;
use lambda_http::http::header::{CONTENT_TYPE, HeaderValue};
#[cfg(test)]
use schemars::JsonSchema;
use serde::Serialize;
use shared::filter::Filter;
use shared::integration::{Integration, IntegrationType, Status, StoredSecret, Target};
use shared::store::Entry;
use shared::store::rejected_events::Rejected;

use crate::App;
use crate::error::ApiError;

/// 200 with a JSON body.
pub fn ok(body: &impl Serialize) -> Result<Response<String>, ApiError> {
    json(StatusCode::OK, serde_json::to_string(body)?)
}

/// 202 with a JSON body.
pub fn accepted(body: &impl Serialize) -> Result<Response<String>, ApiError> {
    json(StatusCode::ACCEPTED, serde_json::to_string(body)?)
}

/// 200 with a body that is JSON already, byte for byte.
pub fn verbatim(body: String) -> Result<Response<String>, ApiError> {
    json(StatusCode::OK, body)
}

/// 204.
pub fn no_content() -> Result<Response<String>, ApiError> {
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn json(status: StatusCode, body: String) -> Result<Response<String>, ApiError> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// An integration as callers see it.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Integration"))]
pub struct IntegrationAnswer {
    id: String,
    #[cfg_attr(test, schemars(schema_with = "crate::openapi::schemas::status"))]
    status: Status,
    #[cfg_attr(
        test,
        schemars(schema_with = "crate::openapi::schemas::integration_type")
    )]
    integration_type: IntegrationType,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_parameters: Option<CallbackAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s3_parameters: Option<BucketAnswer>,
    starts_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<crate::bodies::FilterChanges>"))]
    filter_conditions: Option<Filter>,
    pending: PendingAnswer,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "IntegrationCallback"))]
struct CallbackAnswer {
    callback_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "IntegrationBucket"))]
struct BucketAnswer {
    aws_access_key_id: String,
    aws_secret_access_key: String,
    aws_region: String,
    bucket: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_prefix: Option<String>,
}

/// Ours: whether older events are still on their way.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Pending"))]
struct PendingAnswer {
    catching_up: bool,
}

/// The answer for one integration.
pub async fn integration(
    app: &App,
    integration: &Integration,
) -> Result<IntegrationAnswer, ApiError> {
    let mut answer = IntegrationAnswer {
        id: integration.id.clone(),
        status: integration.status,
        integration_type: integration.integration_type,
        callback_parameters: None,
        s3_parameters: None,
        starts_at: integration.starts_at.to_string(),
        ends_at: integration.ends_at.map(|ends_at| ends_at.to_string()),
        filter_conditions: integration.filter.clone(),
        pending: PendingAnswer {
            catching_up: integration
                .stream()
                .is_some_and(shared::stream::Stream::is_catching_up),
        },
    };
    match &integration.target {
        Target::Webhook { callback, .. } => {
            let api_key = match &callback.api_key {
                Some(stored) => Some(shown(app, integration, stored).await?),
                None => None,
            };
            answer.callback_parameters = Some(CallbackAnswer {
                callback_url: callback.callback_url.clone(),
                api_key,
            });
        }
        Target::S3 { bucket, .. } => {
            answer.s3_parameters = Some(BucketAnswer {
                aws_access_key_id: bucket.aws_access_key_id.clone(),
                aws_secret_access_key: shown(app, integration, &bucket.aws_secret_access_key)
                    .await?,
                aws_region: bucket.aws_region.clone(),
                bucket: bucket.bucket.clone(),
                key_prefix: bucket.key_prefix.clone(),
            });
        }
    }
    Ok(answer)
}

/// A secret as answers show it: its mask, or the secret itself where the deployment asks for it.
async fn shown(
    app: &App,
    integration: &Integration,
    stored: &StoredSecret,
) -> Result<String, ApiError> {
    if !app.plain_secrets {
        return Ok(stored.mask.clone());
    }
    Ok(app
        .secrets
        .decrypt(&integration.tenant, &integration.id, stored)
        .await?
        .expose()
        .to_owned())
}

/// An entry of an integration's log.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "LogEntry"))]
pub struct EntryAnswer {
    action: &'static str,
    reason: String,
    created_at: String,
}

impl From<Entry> for EntryAnswer {
    fn from(entry: Entry) -> EntryAnswer {
        EntryAnswer {
            action: entry.action.as_str(),
            created_at: entry.created_at().to_string(),
            reason: entry.reason,
        }
    }
}

/// A rejected event in the list of them.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "RejectedEvent"))]
pub struct RejectedAnswer {
    id: String,
    created_at: String,
}

impl From<Rejected> for RejectedAnswer {
    fn from(rejected: Rejected) -> RejectedAnswer {
        RejectedAnswer {
            id: rejected.event_id,
            created_at: rejected.created_at.to_string(),
        }
    }
}
