//! Responses: JSON, and the form in which callers see an integration.

use std::collections::BTreeMap;

use domain::filter::Filter;
use domain::integration::{Access, Integration, IntegrationRef, IntegrationType, Status, Target};
use domain::integration_log::Entry;
use domain::secret::{Secret, StoredSecret};
use domain::stream::health::Health;
use domain::stream::{Because, Stream};
use domain::time::Millis;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue};
use http::{Response, StatusCode};
#[cfg(test)]
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::ApiError;
use crate::{App, etag};

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

/// 200 with a body that changes only with a deployment: caches may keep it for an hour.
pub fn cacheable(body: &str) -> Result<Response<String>, ApiError> {
    let mut response = json(StatusCode::OK, body.to_owned())?;
    let kept = HeaderValue::from_static("public, max-age=3600");
    response.headers_mut().insert(CACHE_CONTROL, kept);
    Ok(response)
}

/// 200 with an integration, and its entity tag.
pub async fn one(app: &App, of: &Integration) -> Result<Response<String>, ApiError> {
    registered(app, of, None).await
}

/// As [`one`]; the response to a registration alone shows the signing secret.
pub async fn registered(
    app: &App,
    of: &Integration,
    signing_secret: Option<&Secret>,
) -> Result<Response<String>, ApiError> {
    let mut answer = integration(app, of).await?;
    answer.signing_secret = signing_secret.map(|secret| secret.expose().to_owned());
    let mut response = ok(&answer)?;
    if let Ok(tag) = HeaderValue::try_from(etag::of(of)) {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
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
pub struct IntegrationResponse {
    id: String,
    #[cfg_attr(test, schemars(schema_with = "crate::openapi::fields::status"))]
    status: Status,
    #[cfg_attr(
        test,
        schemars(schema_with = "crate::openapi::fields::integration_type")
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
    #[serde(skip_serializing_if = "Option::is_none")]
    role_trust: Option<RoleTrustAnswer>,
    /// Ours: in the response to a registration alone, and never again: what webhooks are signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signing: Option<SigningAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failing_since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success_at: Option<String>,
    pending: PendingAnswer,
}

/// Ours: how the receiver of a running integration has been responding.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Health"))]
enum HealthAnswer {
    Healthy,
    /// Attempts have failed since the last one that was taken, and their events are tried again.
    Retrying,
    /// It is sent as many requests at a time as it takes, from the event log: more than a minute behind, perhaps.
    Paced,
    /// The receiver is down: only probes are sent.
    Interrupted,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "IntegrationCallback"))]
struct CallbackAnswer {
    callback_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
    /// Ours: the most requests at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_in_flight: Option<u32>,
    /// Ours: the headers of your own, their values masked.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
}

/// Ours: how webhooks are signed.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Signing"))]
struct SigningAnswer {
    /// Since when the newest secret signs.
    created_at: String,
    /// Until when the secret before signs as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap_ends_at: Option<String>,
}

/// What a rotation shows.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "SigningSecret"))]
pub struct RotationResponse {
    /// The new secret, shown this once: `whsec_` and the base64 of 32 bytes.
    signing_secret: String,
    /// How webhooks are signed now.
    signing: Option<SigningAnswer>,
}

impl RotationResponse {
    /// Of a webhook integration that has just been given `secret`.
    pub fn of(integration: &Integration, secret: &Secret) -> RotationResponse {
        RotationResponse {
            signing_secret: secret.expose().to_owned(),
            signing: signing_of(integration),
        }
    }
}

fn signing_of(integration: &Integration) -> Option<SigningAnswer> {
    let Target::Webhook { callback, .. } = &integration.target else {
        return None;
    };
    let signing = callback.signing.as_ref()?;
    let previous = signing.previous.as_ref();
    Some(SigningAnswer {
        created_at: signing.created_at.to_string(),
        overlap_ends_at: previous.map(|previous| previous.until.to_string()),
    })
}

#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "IntegrationBucket"))]
struct BucketAnswer {
    #[serde(skip_serializing_if = "Option::is_none")]
    aws_access_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aws_secret_access_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role_arn: Option<String>,
    aws_region: String,
    bucket: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_prefix: Option<String>,
}

/// Ours: what the trust policy of `role_arn` has to say.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "RoleTrust"))]
struct RoleTrustAnswer {
    principal: String,
    external_id: String,
}

/// Ours: what is still on its way.
#[derive(Default, Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Pending"))]
struct PendingAnswer {
    /// Whether events that were published before are still to be delivered: they wait, are being sent from the event log, or
    /// are being retried.
    catching_up: bool,
    /// No event that waits was published earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_published_at: Option<String>,
    /// How much of a temporary integration's range of time has been sent, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<f64>,
    /// How many seconds of the event log are still to be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    backlog_seconds: Option<u64>,
    /// How many events waited for another attempt when that was written down last.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_events: Option<u32>,
    /// How many requests at a time a receiver that is paced gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<u32>,
    /// How many requests a second it took last.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_per_second: Option<f64>,
}

/// The response for one integration.
pub async fn integration(
    app: &App,
    integration: &Integration,
) -> Result<IntegrationResponse, ApiError> {
    let mut answer = IntegrationResponse {
        id: integration.id.clone(),
        status: integration.status,
        integration_type: integration.integration_type,
        callback_parameters: None,
        s3_parameters: None,
        starts_at: integration.starts_at.to_string(),
        ends_at: integration.ends_at.map(|ends_at| ends_at.to_string()),
        filter_conditions: integration.filter.clone(),
        role_trust: None,
        signing_secret: None,
        signing: signing_of(integration),
        health: None,
        failing_since: None,
        next_attempt_at: None,
        last_success_at: None,
        pending: PendingAnswer::default(),
    };
    if let Some(stream) = integration.stream() {
        let health = &stream.health;
        let text = |at: Option<Millis>| at.map(|at| at.to_string());
        answer.health = integration
            .is_running()
            .then(|| health_of(integration, stream));
        answer.failing_since = text(health.failing_since);
        answer.next_attempt_at = text(health.next_attempt_at);
        answer.last_success_at = text(health.last_success_at);
        answer.pending = pending(app, integration, stream).await?;
    }
    match &integration.target {
        Target::Webhook { callback, .. } => {
            let api_key = match &callback.api_key {
                Some(stored) => Some(shown(app, integration, stored).await?),
                None => None,
            };
            let mut headers = BTreeMap::new();
            for (name, stored) in &callback.headers {
                headers.insert(name.clone(), shown(app, integration, stored).await?);
            }
            answer.callback_parameters = Some(CallbackAnswer {
                callback_url: callback.callback_url.clone(),
                api_key,
                max_in_flight: callback.max_in_flight,
                headers,
            });
        }
        Target::S3 { bucket, .. } => {
            let (mut key, mut secret, mut role) = (None, None, None);
            match &bucket.access {
                Access::Key {
                    aws_access_key_id,
                    aws_secret_access_key,
                } => {
                    key = Some(aws_access_key_id.clone());
                    secret = Some(shown(app, integration, aws_secret_access_key).await?);
                }
                Access::Role {
                    role_arn,
                    external_id,
                } => {
                    role = Some(role_arn.clone());
                    answer.role_trust = Some(RoleTrustAnswer {
                        principal: app.export_role_arn.clone(),
                        external_id: external_id.clone(),
                    });
                }
            }
            answer.s3_parameters = Some(BucketAnswer {
                aws_access_key_id: key,
                aws_secret_access_key: secret,
                role_arn: role,
                aws_region: bucket.aws_region.clone(),
                bucket: bucket.bucket.clone(),
                key_prefix: bucket.key_prefix.clone(),
            });
        }
    }
    Ok(answer)
}

/// How the receiver of a running integration has been responding.
fn health_of(integration: &Integration, stream: &Stream) -> HealthAnswer {
    let because = stream.served().map(|served| served.because);
    let is_paced = matches!(
        because,
        Some(Because::Refused | Because::Slow | Because::Full)
    );
    match &stream.health {
        Health {
            interruption: Some(_),
            ..
        } => HealthAnswer::Interrupted,
        Health {
            failing_since: Some(_),
            ..
        } => HealthAnswer::Retrying,
        _ if is_paced || integration.max_in_flight().is_some() => HealthAnswer::Paced,
        _ => HealthAnswer::Healthy,
    }
}

/// What of a stream is still on its way: owed from the event log, or waiting for another attempt.
async fn pending(
    app: &App,
    integration: &Integration,
    stream: &Stream,
) -> Result<PendingAnswer, ApiError> {
    let now = app.clock.now();
    let integration_ref = IntegrationRef::from(integration);
    let waiting = app.waiting_events.oldest(&integration_ref).await?;
    let is_limited = integration.is_running() && integration.max_in_flight().is_some();
    let catching_up =
        !integration.is_finished && (stream.is_catching_up(now, is_limited) || waiting.is_some());
    let owed = stream
        .owed
        .first()
        .map(|owed| Millis(owed.from.segment.timestamp_ms()).min(now));
    let oldest = owed.into_iter().chain(waiting).min();
    let oldest = oldest.filter(|_| catching_up || !is_limited);
    let is_paced = integration.is_running()
        && (is_limited
            || stream
                .served()
                .is_some_and(|it| it.because != Because::Start));
    let backlog = stream.backlog(now).as_secs();
    let progress = integration.ends_at.map(|ends_at| {
        let done = owed.unwrap_or(ends_at).since(integration.starts_at);
        let whole = ends_at.since(integration.starts_at);
        (done.as_secs_f64() / whole.as_secs_f64()).min(1.0)
    });
    Ok(PendingAnswer {
        catching_up,
        oldest_published_at: oldest.map(|oldest| oldest.to_string()),
        progress,
        backlog_seconds: (catching_up && backlog > 0).then_some(backlog),
        waiting_events: (stream.waiting > 0).then_some(stream.waiting),
        window: (is_paced && stream.pace.window > 0).then_some(stream.pace.window),
        rate_per_second: (is_paced && stream.pace.last_rate > 0)
            .then_some(stream.pace.last_rate as f64 / 1_000.0),
    })
}

/// A secret as responses show it: its mask, or the secret itself where the deployment asks for it.
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
pub struct EntryResponse {
    action: &'static str,
    reason: String,
    created_at: String,
}

impl From<Entry> for EntryResponse {
    fn from(entry: Entry) -> EntryResponse {
        EntryResponse {
            action: entry.action.as_str(),
            created_at: entry.created_at().to_string(),
            reason: entry.reason,
        }
    }
}
