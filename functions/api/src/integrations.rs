//! The endpoints of integrations.

use std::time::Duration;

use domain::export::Export;
use domain::fate::PastFilter;
use domain::integration::{
    Integration, IntegrationRef, IntegrationType, MAX_INTEGRATIONS, Status, Target, is_replay,
};
use domain::integration_log::{Action, Entry, started};
use domain::lifecycle::Input;
use domain::stream::Stream;
use domain::tasks::ReplayTask;
use futures_util::future::try_join_all;
use http::Response;
use shared::recent::ANSWERED_AFTER;
use shared::store::StoreError;

use crate::bodies::{self, Registration, Update};
use crate::error::ApiError;
use crate::request::Request;
use crate::{App, buckets, etag, limits, replays, responses, targets};

/// How long after a deletion its children are removed: later than any attempt or export that was under way
/// can write one.
const PURGE_AFTER: Duration = Duration::from_secs(900);

/// How often an update is decided again because another writer changed the integration in between: where as many calls come at
/// once, one of them is written each time. With its pauses, which grow up to [`MAX_PAUSE`], it takes some seconds at the most.
pub const MAX_UPDATES: u32 = 40;
/// The longest pause before an update is decided again.
const MAX_PAUSE: Duration = Duration::from_millis(200);

/// `GET /`
pub async fn list(app: &App, tenant: &str) -> Result<Response<String>, ApiError> {
    let integrations = app.integrations.list(tenant).await?;
    let integrations = integrations
        .iter()
        .map(|integration| responses::integration(app, integration));
    let integrations = try_join_all(integrations).await?;
    responses::ok(&serde_json::json!({ "integrations": integrations }))
}

/// `GET /{integration_id}`
pub async fn get(app: &App, tenant: &str, id: &str) -> Result<Response<String>, ApiError> {
    let integration = find(app, tenant, id).await?;
    responses::one(app, &integration).await
}

/// `POST /`
pub async fn register(
    app: &App,
    tenant: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    let body: Registration = bodies::json(request)?;
    let mut integration = new(app, tenant, body).await?;
    let (starts_at, now) = (integration.starts_at, app.clock.now());
    if is_replay(integration.integration_type, starts_at, now) {
        replays::check(app, tenant, &integration.id).await?;
    }
    let mut signing_secret = None;
    if let Target::Webhook { callback, .. } = &mut integration.target {
        let made = targets::signing(app, tenant, &integration.id, None, Duration::ZERO).await?;
        callback.signing = Some(made.0);
        signing_secret = Some(made.1);
    }
    app.integrations
        .register(
            &integration,
            entry(
                app,
                Action::IntegrationStarted,
                started(starts_at, app.rules.oldest(now)),
            ),
        )
        .await
        .map_err(|error| match error {
            StoreError::AlreadyExists => ApiError::conflict(&integration.id),
            StoreError::LimitReached => ApiError::limit_exceeded(MAX_INTEGRATIONS),
            error => error.into(),
        })?;
    if let Some(stream) = integration.stream() {
        let task = ReplayTask::Step {
            integration_ref: IntegrationRef::from(&integration),
            turn: stream.schedule.turn,
        };
        app.lifecycle.send(&task, Duration::ZERO).await;
    }
    responses::registered(app, &integration, signing_secret.as_ref()).await
}

/// The integration that a registration asks for, checked, its secrets encrypted. It has no signing secret yet.
pub async fn new(app: &App, tenant: &str, body: Registration) -> Result<Integration, ApiError> {
    limits::id(&body.id).map_err(|reason| ApiError::bad_field("id", reason))?;
    let now = app.clock.now();
    let (starts_at, ends_at) = limits::range(
        body.integration_type,
        body.starts_at.as_deref(),
        body.ends_at.as_deref(),
        now,
    )
    .map_err(|(field, reason)| ApiError::bad_field(field, reason))?;
    if let Some(filter) = &body.filter_conditions {
        targets::check_filter(filter)?;
    }
    let callback = targets::with_legacy_url(body.callback_parameters, body.callback_url)?;
    let target = match (callback, body.s3_parameters) {
        (Some(callback), None) => Target::Webhook {
            callback: targets::new_callback(app, tenant, &body.id, callback).await?,
            stream: Box::new(Stream::registered(now, starts_at, ends_at)),
        },
        (None, Some(bucket)) => Target::S3 {
            bucket: buckets::new(app, tenant, &body.id, bucket).await?,
            export: Box::new(Export::registered(starts_at)),
        },
        _ => {
            return Err(ApiError::bad_request(
                "Exactly one of callback_parameters and s3_parameters is required.",
            ));
        }
    };
    Ok(Integration {
        tenant: tenant.to_owned(),
        id: body.id,
        generation: app.clock.ulid(),
        version: 1,
        integration_type: body.integration_type,
        target,
        starts_at,
        ends_at,
        filter: body.filter_conditions,
        status: Status::Running,
        stopped_at: None,
        is_finished: false,
    })
}

/// `PATCH /{integration_id}`, `PUT /{integration_id}`
pub async fn update(
    app: &App,
    tenant: &str,
    id: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    let update: Update = bodies::json(request)?;
    for attempt in 1..=MAX_UPDATES {
        let current = find(app, tenant, id).await?;
        etag::check(request, &current)?;
        let past = PastFilter::of(&current, app.clock.now());
        let next = updated(app, current, update.clone()).await?;
        let entry = entry(app, Action::IntegrationUpdated, "Updated via API.");
        let written = match next.filter == past.filter {
            true => app.integrations.replace(next, &[entry]).await,
            false => {
                let retention = app.rules.retention;
                let integrations = &app.integrations;
                let replaced = integrations.replace_filter(next, &entry, &past, retention);
                replaced.await
            }
        };
        match written {
            Ok(integration) => {
                return responses::one(app, &integration).await;
            }
            Err(StoreError::Changed) => {}
            Err(error) => return Err(error.into()),
        }
        pause(attempt).await;
    }
    Err(ApiError::busy())
}

/// Waits before a change is decided again, for a random time that grows with the attempts.
pub async fn pause(attempt: u32) {
    let pause = MAX_PAUSE.min(Duration::from_millis(15) * attempt);
    tokio::time::sleep(pause.mul_f64(rand::random())).await;
}

/// The integration as the update makes it. Its secrets are encrypted before the write: what is decided on is the integration as
/// it was read, or nothing.
async fn updated(app: &App, current: Integration, update: Update) -> Result<Integration, ApiError> {
    let callback = targets::with_legacy_url(update.callback_parameters, update.callback_url)?;
    let target = match (&current.target, callback, update.s3_parameters) {
        (unchanged, None, None) => unchanged.clone(),
        (Target::Webhook { callback, stream }, Some(body), None) => Target::Webhook {
            callback: targets::changed_callback(app, &current, callback, body).await?,
            stream: stream.clone(),
        },
        (Target::S3 { bucket, export }, None, Some(body)) => Target::S3 {
            bucket: buckets::changed(app, &current, bucket, body).await?,
            export: export.clone(),
        },
        (Target::Webhook { .. }, ..) => {
            return Err(ApiError::bad_field(
                "s3_parameters",
                "cannot be set: this is a webhook integration",
            ));
        }
        (Target::S3 { .. }, ..) => {
            return Err(ApiError::bad_field(
                "callback_parameters",
                "cannot be set: this is an S3 integration",
            ));
        }
    };
    if current.integration_type == IntegrationType::Temporary {
        return Err(ApiError::bad_request(
            "A temporary integration cannot be updated; register another one.",
        ));
    }
    if current.is_running() {
        return Err(ApiError::integration_running());
    }
    let filter = match update.filter_conditions {
        Some(changes) => targets::changed_filter(current.filter.clone(), changes.as_ref())?,
        None => current.filter.clone(),
    };
    Ok(Integration {
        target,
        filter,
        ..current
    })
}

/// `DELETE /{integration_id}`
pub async fn delete(
    app: &App,
    tenant: &str,
    id: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    etag::check(request, &find(app, tenant, id).await?)?;
    let deleted = app
        .integrations
        .delete(tenant, id, app.clock.now().after(PURGE_AFTER))
        .await;
    let integration_ref = deleted.map_err(|error| not_found(error, id))?;
    let task = ReplayTask::Purge { integration_ref };
    app.lifecycle.send(&task, PURGE_AFTER).await;
    tokio::time::sleep(ANSWERED_AFTER).await;
    responses::no_content()
}

/// `POST /{integration_id}/_start`
pub async fn start(
    app: &App,
    tenant: &str,
    id: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    bodies::none(request)?;
    let found = find(app, tenant, id).await?;
    if !found.is_running() && found.would_replay(app.clock.now()) {
        replays::check(app, tenant, id).await?;
    }
    let integration = apply(app, &found, &Input::Start).await?;
    responses::one(app, &integration).await
}

/// `POST /{integration_id}/_stop`
pub async fn stop(
    app: &App,
    tenant: &str,
    id: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    bodies::none(request)?;
    let stop = Input::Stop {
        reason: "Stopped via API.".to_owned(),
    };
    let found = find(app, tenant, id).await?;
    let integration = apply(app, &found, &stop).await?;
    // From now on nothing is sent: what was read before the stop is good no more. Another call may have written it a moment ago.
    tokio::time::sleep(ANSWERED_AFTER).await;
    responses::one(app, &integration).await
}

/// `GET /{integration_id}/log`
pub async fn log(app: &App, tenant: &str, id: &str) -> Result<Response<String>, ApiError> {
    let integration = find(app, tenant, id).await?;
    let entries = app
        .integration_log
        .list(&IntegrationRef::from(&integration))
        .await?;
    let entries: Vec<responses::EntryResponse> = entries.into_iter().map(Into::into).collect();
    responses::ok(&serde_json::json!({ "entries": entries }))
}

/// The integration of this tenant and id.
pub async fn find(app: &App, tenant: &str, id: &str) -> Result<Integration, ApiError> {
    // An id that cannot have been registered is not looked for: it would be part of a key.
    limits::id(id).map_err(|_| ApiError::no_such_integration(id))?;
    app.integrations
        .get(tenant, id)
        .await
        .map_err(|error| not_found(error, id))
}

fn not_found(error: StoreError, id: &str) -> ApiError {
    match error {
        StoreError::NotFound => ApiError::no_such_integration(id),
        error => error.into(),
    }
}

/// Applies what the caller wants to an integration that was found.
async fn apply(app: &App, found: &Integration, input: &Input) -> Result<Integration, ApiError> {
    let integration_ref = IntegrationRef::from(found);
    let applied = app.lifecycle.apply(&integration_ref, input);
    let applied = applied
        .await?
        .ok_or_else(|| ApiError::no_such_integration(&found.id))?;
    Ok(applied.integration)
}

/// An entry of an integration log, of now.
pub fn entry(app: &App, action: Action, reason: impl Into<String>) -> Entry {
    Entry {
        id: app.clock.ulid(),
        action,
        reason: reason.into(),
    }
}
