//! What became of the events of an integration.

use std::collections::{BTreeSet, HashSet};

use domain::event::payload_of;
use domain::fate::{Event, EventStatus, Fate, View};
use domain::integration::{IntegrationRef, Target};
use domain::log::REPEAT_WINDOW;
use domain::log::position::{EventRef, Position};
use domain::time::Millis;
use http::Response;
#[cfg(test)]
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use ulid::Ulid;

use crate::error::ApiError;
use crate::integrations::find;
use crate::request::Request;
use crate::{App, responses};

mod asked;
mod search;

use asked::Asked;
use search::{Found, search};

/// In how many segments copies of the events of a page are looked for that wait for another attempt.
const MAX_LOOKED_UP: usize = 20;
/// How many files are read for a page.
const MAX_FILES: usize = 1_000;

/// Ours: events of an integration and what became of them, newest first.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Events"))]
pub struct EventsResponse {
    events: Vec<EventAnswer>,
    /// When it was looked what became of them.
    as_of: String,
    /// How far back the event log was read for this page.
    read_from: String,
    /// Where the list continues: the parameter `cursor` of the next call. A page may have fewer events than asked for, or none, and
    /// still have it. Not there at the end of the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// Ours: an event and what became of it.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "EventFate"))]
pub struct EventAnswer {
    id: String,
    name: String,
    published_at: String,
    #[cfg_attr(test, schemars(schema_with = "crate::openapi::fields::event_status"))]
    status: String,
    /// Whether `status` is known, and not only likely.
    is_certain: bool,
    /// How many attempts are known to have failed.
    #[serde(skip_serializing_if = "is_none")]
    #[cfg_attr(test, schemars(default))]
    attempts: u32,
    /// When the next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
    /// Why the last attempt failed, why it was rejected, or why it is skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The key of the file that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

/// Ours: an event, what became of it, and its payload.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "EventDetails"))]
pub struct EventResponse {
    #[serde(flatten)]
    event: EventAnswer,
    /// When it was looked what became of it.
    as_of: String,
    /// As it was published.
    #[cfg_attr(test, schemars(with = "serde_json::Map<String, serde_json::Value>"))]
    payload: Box<RawValue>,
}

fn is_none(number: &u32) -> bool {
    *number == 0
}

impl EventAnswer {
    fn of(found: Found, fate: Fate) -> EventAnswer {
        EventAnswer {
            published_at: found.published_at().to_string(),
            id: found.id,
            name: found.name,
            status: fate.status.as_ref().to_owned(),
            is_certain: fate.is_certain,
            attempts: fate.attempts,
            next_attempt_at: fate.next_attempt_at.map(|at| at.to_string()),
            reason: fate.reason,
            file: fate.file,
        }
    }
}

/// `GET /{integration_id}/events`
pub async fn list(
    app: &App,
    tenant: &str,
    id: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    let asked = Asked::of(app, request)?;
    let mut view = begin(app, tenant, id).await?;
    let page = search(app, tenant, &asked, |event| view.is_listed(event)).await?;
    let mut cursor = page.rest;
    let mut rows = fates(app, tenant, &mut view, page.found).await?;
    rows.retain(|(_, fate)| asked.status.is_none_or(|status| fate.status == status));
    if let Some((last, _)) = rows.get(asked.limit.saturating_sub(1))
        && (rows.len() > asked.limit || cursor.is_some())
    {
        cursor = Some(last.position());
    }
    rows.truncate(asked.limit);
    responses::ok(&EventsResponse {
        as_of: view.now.to_string(),
        read_from: Millis(page.from.timestamp_ms()).to_string(),
        events: rows
            .into_iter()
            .map(|(found, fate)| EventAnswer::of(found, fate))
            .collect(),
        cursor: cursor.map(asked::cursor),
    })
}

/// `GET /{integration_id}/events/{event_id}`
pub async fn get(
    app: &App,
    tenant: &str,
    id: &str,
    event_id: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    let asked = Asked::for_one(app, event_id, request)?;
    let mut view = begin(app, tenant, id).await?;
    let page = search(app, tenant, &asked, |_| true).await?;
    let from = Millis(page.from.timestamp_ms());
    let mut rows = fates(app, tenant, &mut view, page.found).await?;
    let Some((found, fate)) = rows.pop() else {
        let shown: String = event_id.chars().take(64).collect();
        return Err(ApiError::not_found(format!(
            "There is no event \"{shown}\" in what was looked through: what was published from {from} on. Give its published_at, as the list of events has it.",
        )));
    };
    let payload = payload_of(found.envelope.as_deref().unwrap_or_default());
    responses::ok(&EventResponse {
        payload: payload.map_err(ApiError::internal)?,
        event: EventAnswer::of(found, fate),
        as_of: view.now.to_string(),
    })
}

/// Looks whether the queues are empty, and then at the integration: in this order (see [`View`]).
async fn begin(app: &App, tenant: &str, id: &str) -> Result<View, ApiError> {
    let settled_at = app.clock.now();
    let is_settled = app.live_queues.are_empty().await;
    let integration = find(app, tenant, id).await?;
    let integration_ref = IntegrationRef::from(&integration);
    Ok(View {
        past_filters: app.fates.past_filters(&integration_ref).await?,
        integration,
        waiting: Vec::new(),
        refused: Vec::new(),
        files: Vec::new(),
        settled_at: is_settled.then_some(settled_at),
        seal: app.rules.seal,
        now: app.clock.now(),
    })
}

/// Looks at what is noted of these events, newest first, and says what became of each. Of copies the first is left.
async fn fates(
    app: &App,
    tenant: &str,
    view: &mut View,
    mut found: Vec<Found>,
) -> Result<Vec<(Found, Fate)>, ApiError> {
    let (Some(newest), Some(oldest)) = (found.first(), found.last()) else {
        return Ok(Vec::new());
    };
    let (oldest, until) = (oldest.event.segment, Ulid(newest.event.segment.0 + 1));
    let of = IntegrationRef::from(&view.integration);
    // Copies may have been published so much earlier.
    let from = Millis(oldest.timestamp_ms()).before(REPEAT_WINDOW);
    let from = from.first_id();
    match view.integration.target {
        Target::Webhook { .. } => {
            let waiting = app.waiting_events.of_segments(&of, from, until).await?;
            view.waiting = waiting.into_iter().map(|it| it.waiting).collect();
            view.refused = app.fates.refused(&of, from, until).await?;
        }
        Target::S3 { .. } => {
            let files = app.exported_files.covering(&of, oldest, until, MAX_FILES);
            view.files = files.await?;
        }
    }
    let shown = found.len();
    let is_known = copies(app, tenant, view, oldest, &mut found).await?;
    let events: Vec<Event<'_>> = found.iter().map(Found::as_event).collect();
    let mut fates = view.fates(&events);
    for fate in fates.iter_mut().filter(|_| !is_known) {
        fate.is_certain &= fate.status != EventStatus::Delivered;
    }
    found.truncate(shown);
    let mut rows: Vec<(Found, Fate)> = found.into_iter().zip(fates).collect();
    // From the oldest on: what was seen before is a copy.
    let mut seen = HashSet::new();
    rows.reverse();
    rows.retain(|(found, _)| seen.insert(found.id.clone()));
    rows.reverse();
    Ok(rows)
}

/// Adds the events that wait and were published before the `oldest` segment: one of them may be a copy of an event at hand. `false`
/// where there are too many segments to look at.
async fn copies(
    app: &App,
    tenant: &str,
    view: &View,
    oldest: Ulid,
    found: &mut Vec<Found>,
) -> Result<bool, ApiError> {
    let waiting = view.waiting.iter().flat_map(|item| item.events());
    let before: BTreeSet<EventRef> = waiting.filter(|event| event.segment < oldest).collect();
    let segments: BTreeSet<Ulid> = before.iter().map(|event| event.segment).collect();
    for segment in segments.iter().take(MAX_LOOKED_UP) {
        let until = Ulid(segment.0 + 1);
        let mut reader = app.event_log.read_ids(tenant, *segment, until);
        while let Some((read, _)) = reader.next().await? {
            let ids: Vec<&str> = read.ids.lines().collect();
            for event in before.iter().filter(|event| event.segment == read.id) {
                let id = ids.get(event.index as usize).copied().unwrap_or_default();
                found.push(Found {
                    event: *event,
                    id: id.to_owned(),
                    name: String::new(),
                    envelope: None,
                });
            }
        }
    }
    Ok(segments.len() <= MAX_LOOKED_UP)
}

impl Found {
    fn published_at(&self) -> Millis {
        Millis(self.event.segment.timestamp_ms())
    }

    fn position(&self) -> Position {
        Position {
            segment: self.event.segment,
            index: self.event.index,
        }
    }

    fn as_event(&self) -> Event<'_> {
        Event {
            event: self.event,
            id: &self.id,
            name: &self.name,
        }
    }
}
