//! What the receiver of an integration has been sent lately, counted.

use std::time::Duration;

use domain::activity::{Activity, STRETCH};
use domain::integration::{IntegrationRef, Target};
use domain::time::Millis;
use http::Response;
#[cfg(test)]
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::ApiError;
use crate::integrations::find;
use crate::{App, responses};

/// How far back it goes (docs/api.md).
const BACK: Duration = Duration::from_secs(24 * 3600);

/// Ours: what the receiver of an integration has been sent in the last 24 hours.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Activity"))]
pub struct ActivityResponse {
    activity: Vec<StretchAnswer>,
    /// What was counted within the last minute or two may be missing.
    as_of: String,
}

/// Ours: five minutes of it. Where nothing was sent, there are none.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "ActivityStretch"))]
struct StretchAnswer {
    from: String,
    until: String,
    /// Events that the receiver has taken.
    delivered: u64,
    /// Attempts that failed.
    failed: u64,
    /// Events that it has rejected.
    rejected: u64,
    /// Half of the events were taken within so many milliseconds of their publication: the upper end of those that are counted
    /// together, such as 50, 100 or 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p50_ms: Option<u64>,
    /// As `latency_p50_ms`, of 99 in a hundred.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p99_ms: Option<u64>,
}

impl From<(Millis, Activity)> for StretchAnswer {
    fn from((from, activity): (Millis, Activity)) -> StretchAnswer {
        StretchAnswer {
            from: from.to_string(),
            until: from.after(STRETCH).to_string(),
            latency_p50_ms: activity.percentile(50),
            latency_p99_ms: activity.percentile(99),
            delivered: activity.delivered,
            failed: activity.failed,
            rejected: activity.rejected,
        }
    }
}

/// `GET /{integration_id}/activity`
pub async fn get(app: &App, tenant: &str, id: &str) -> Result<Response<String>, ApiError> {
    let integration = find(app, tenant, id).await?;
    if let Target::S3 { .. } = integration.target {
        return Err(ApiError::bad_request(
            "This is an S3 integration: its files say what was written.",
        ));
    }
    let (now, of) = (app.clock.now(), IntegrationRef::from(&integration));
    let found = app
        .activities
        .list(&of, now.before(BACK), now.after(STRETCH));
    responses::ok(&ActivityResponse {
        activity: found.await?.into_iter().map(Into::into).collect(),
        as_of: now.to_string(),
    })
}
