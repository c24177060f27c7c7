//! What an integration would be sent, before it is registered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use domain::integration::IntegrationType;
use domain::log::SEALS_BEHIND;
use domain::preview::{Preview, replay_seconds};
use http::Response;
#[cfg(test)]
use schemars::JsonSchema;
use serde::Serialize;

use crate::bodies::{self, PreviewBody};
use crate::error::ApiError;
use crate::request::Request;
use crate::{App, limits, responses, targets};

/// For how long one preview reads: API Gateway waits for 30 seconds.
const LONGEST: Duration = Duration::from_secs(8);
/// How much of the event log one preview reads, in bytes as it is stored: 2,000 read units.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// How far back a preview begins that does not say where.
const BACK: Duration = Duration::from_secs(24 * 3600);
/// How far ahead one ends that does not say where: that it may begin now.
const MOMENT: Duration = Duration::from_millis(1);

/// Ours: what an integration with this filter and range would be sent.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Preview"))]
pub struct PreviewResponse {
    /// How many events pass the filter.
    matching: u64,
    /// How many events there are.
    events: u64,
    /// How many bytes those are that pass, as bodies of webhooks.
    bytes: u64,
    /// How many pass, by name.
    names: BTreeMap<String, u64>,
    /// The first five that pass.
    first: Vec<PreviewedEvent>,
    /// From when on events were counted.
    counted_from: String,
    /// Until when, itself excluded. What was published in the last seconds is not counted yet.
    counted_until: String,
    /// Whether the whole range was counted. If not, ask for the rest with `starts_at` as `counted_until` is.
    is_complete: bool,
    /// How many seconds a replay takes with a receiver that takes 500 events a second.
    replay_seconds: u64,
}

/// Ours: an event that would be sent.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema))]
struct PreviewedEvent {
    id: String,
    name: String,
    published_at: String,
}

/// `POST /_preview`
pub async fn preview(
    app: &App,
    tenant: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    let body: PreviewBody = bodies::optional(request)?;
    if let Some(filter) = &body.filter_conditions {
        targets::check_filter(filter)?;
    }
    let (now, horizon) = (app.clock.now(), app.event_log.horizon(SEALS_BEHIND));
    // As a temporary integration's, whose range has both ends.
    let starts_at = body.starts_at.unwrap_or(now.before(BACK).to_string());
    let ends_at = body.ends_at.unwrap_or(now.after(MOMENT).to_string());
    let range = limits::range(
        IntegrationType::Temporary,
        Some(&starts_at),
        Some(&ends_at),
        now,
    );
    let (starts_at, ends_at) =
        range.map_err(|(field, reason)| ApiError::bad_field(field, reason))?;
    let ends_at = ends_at.unwrap_or(now);
    let from = starts_at.max(app.event_log.oldest());
    let until = ends_at.min(horizon).max(from);

    let began = Instant::now();
    let (mut preview, mut read, mut reached) = (Preview::new(body.filter_conditions), 0, until);
    let mut last = from;
    let mut reader = app
        .event_log
        .read(tenant, from.first_id(), until.first_id());
    while let Some((segment, _)) = reader.next().await? {
        let is_spent = read >= MOST_BYTES || began.elapsed() >= LONGEST;
        // A millisecond is counted whole: what comes next begins with another one.
        if is_spent && segment.published_at() > last {
            reached = segment.published_at();
            break;
        }
        last = segment.published_at();
        read += segment.stored_bytes();
        preview.add(&segment).map_err(ApiError::internal)?;
    }
    let first = preview.first.into_iter().map(|event| PreviewedEvent {
        id: event.id,
        name: event.name,
        published_at: event.published_at.to_string(),
    });
    responses::ok(&PreviewResponse {
        matching: preview.matching,
        events: preview.events,
        bytes: preview.bytes,
        names: preview.names,
        first: first.collect(),
        counted_from: from.to_string(),
        counted_until: reached.to_string(),
        is_complete: reached == until,
        replay_seconds: replay_seconds(preview.matching),
    })
}
