//! Tests of receivers and buckets, before an integration is registered and after.

use std::time::Duration;

use domain::calls::{TestBucket, TestReceiver, Verdict};
use domain::event::check_name;
use domain::filter::Filter;
use domain::integration::{Integration, Target};
use http::Response;
#[cfg(test)]
use schemars::JsonSchema;
use serde::Serialize;

use crate::bodies::{self, Registration, TestBody};
use crate::error::ApiError;
use crate::integrations::{find, new};
use crate::request::Request;
use crate::{App, responses};

/// How many tests a tenant can make in a minute (docs/api.md): each sends something to an address that the caller names.
const MOST_A_MINUTE: u64 = 20;
const MINUTE: Duration = Duration::from_secs(60);
/// The name of a sample event where neither the caller nor a filter names one.
const NAME: &str = "order.created";

/// Ours: what came of a test.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Verdict"))]
pub struct VerdictResponse {
    /// Whether the receiver has taken the sample event, or the object is in the bucket.
    is_delivered: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The id of the sample event.
    event_id: String,
    /// The name of the sample event.
    event_name: String,
    /// How long it took until the response had been read.
    latency_ms: u64,
    /// The HTTP status code of the receiver's response.
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    /// The start of the receiver's response.
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsAnswer>,
    /// The key of the object in the bucket. It can be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// Ours: the TLS of a receiver, whether or not it is good enough for webhooks.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "VerdictTls"))]
struct TlsAnswer {
    /// `TLS 1.2` or `TLS 1.3`.
    version: String,
    /// When the certificate ends, or ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_expires_at: Option<String>,
}

impl VerdictResponse {
    fn of(verdict: Verdict, name: String) -> VerdictResponse {
        let expires_at = verdict.certificate_expires_at;
        VerdictResponse {
            is_delivered: verdict.reason.is_none(),
            reason: verdict.reason,
            event_id: verdict.event_id,
            event_name: name,
            latency_ms: verdict.latency_ms,
            status_code: verdict.status_code,
            response: verdict.response,
            tls: verdict.tls_version.map(|version| TlsAnswer {
                version,
                certificate_expires_at: expires_at.map(|at| at.to_string()),
            }),
            key: verdict.key,
        }
    }
}

/// `POST /_test`
pub async fn unregistered(
    app: &App,
    tenant: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    let body: Registration = bodies::json(request)?;
    let integration = new(app, tenant, body).await?;
    carry_out(app, integration, None).await
}

/// `POST /{integration_id}/_test`
pub async fn registered(
    app: &App,
    tenant: &str,
    id: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    let TestBody { name } = bodies::optional(request)?;
    if let Some(name) = &name {
        check_name(name).map_err(|reason| ApiError::bad_field("name", reason))?;
    }
    let integration = find(app, tenant, id).await?;
    carry_out(app, integration, name).await
}

async fn carry_out(
    app: &App,
    integration: Integration,
    name: Option<String>,
) -> Result<Response<String>, ApiError> {
    let Integration {
        tenant,
        id: integration_id,
        target,
        filter,
        ..
    } = integration;
    let now = app.clock.now();
    let counted = app
        .integrations
        .count_test(&tenant, now, MINUTE, MOST_A_MINUTE);
    if !counted.await? {
        return Err(ApiError::too_many_tests(MOST_A_MINUTE));
    }
    let name = name.or_else(|| filter.and_then(of_filter));
    let name = name.unwrap_or_else(|| NAME.to_owned());
    let verdict = match target {
        Target::Webhook { callback, .. } => {
            let test = TestReceiver {
                tenant,
                integration_id,
                callback,
                name: name.clone(),
            };
            app.delivery_function.test(&test).await?
        }
        Target::S3 { bucket, .. } => {
            let test = TestBucket {
                tenant,
                integration_id,
                bucket,
                name: name.clone(),
            };
            app.export_function.test(&test).await?
        }
    };
    responses::ok(&VerdictResponse::of(verdict, name))
}

/// The first name that a filter lets pass.
fn of_filter(filter: Filter) -> Option<String> {
    filter.event_filter?.into_iter().next()
}
