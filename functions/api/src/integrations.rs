//! The endpoints of integrations.

use std::time::Duration;

use domain::export::Export;
use domain::integration::{
    Integration, IntegrationType, MAX_INTEGRATIONS, Owner, Status, Target, is_replay,
};
use domain::integration_log::{Action, Entry, started};
use domain::lifecycle::{Effect, Input};
use domain::stream::Stream;
use domain::tasks::{self, ReplayTask};
use futures_util::future::try_join_all;
use http::Response;
use shared::store::StoreError;
use shared::store::integrations::Decision;

use crate::bodies::{self, Changes, Registration};
use crate::error::ApiError;
use crate::request::Request;
use crate::{App, answers, buckets, limits, replays, targets};

/// How long after a deletion its children are removed: later than any attempt or export that was under way
/// can write one.
const PURGE_AFTER: Duration = Duration::from_secs(900);

/// How often an update is decided again because another writer changed the integration in between: where as many calls come at
/// once, one of them is written each time. With its pauses, which grow up to [`MAX_PAUSE`], it takes some seconds at the most.
const MAX_UPDATES: u32 = 40;
/// The longest pause before an update is decided again.
const MAX_PAUSE: Duration = Duration::from_millis(200);

/// `GET /`
pub async fn list(app: &App, tenant: &str) -> Result<Response<String>, ApiError> {
    let integrations = app.integrations.list(tenant).await?;
    let integrations = integrations
        .iter()
        .map(|integration| answers::integration(app, integration));
    let integrations = try_join_all(integrations).await?;
    answers::ok(&serde_json::json!({ "integrations": integrations }))
}

/// `GET /{integration_id}`
pub async fn get(app: &App, tenant: &str, id: &str) -> Result<Response<String>, ApiError> {
    let integration = find(app, tenant, id).await?;
    answers::ok(&answers::integration(app, &integration).await?)
}

/// `POST /`
pub async fn register(
    app: &App,
    tenant: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    let body: Registration = bodies::json(request)?;
    limits::id(&body.id).map_err(|reason| ApiError::bad_field("id", reason))?;
    let now = app.clock.now();
    let (starts_at, ends_at) = limits::range(
        body.integration_type,
        body.starts_at.as_deref(),
        body.ends_at.as_deref(),
        now,
    )
    .map_err(|(field, reason)| ApiError::bad_field(field, reason))?;
    if is_replay(body.integration_type, starts_at, now) {
        replays::check(app, tenant, &body.id).await?;
    }
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
    let integration = Integration {
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
    };
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
        let task = ReplayTask::step(&Owner::from(&integration), stream.duty.turn);
        short_cut(app, &task, Duration::ZERO).await;
    }
    answers::ok(&answers::integration(app, &integration).await?)
}

/// `PATCH /{integration_id}`, `PUT /{integration_id}`
pub async fn update(
    app: &App,
    tenant: &str,
    id: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    for attempt in 1..=MAX_UPDATES {
        if let Some(integration) = try_update(app, tenant, id, bodies::json(request)?).await? {
            return answers::ok(&answers::integration(app, &integration).await?);
        }
        let pause = MAX_PAUSE.min(Duration::from_millis(15) * attempt);
        tokio::time::sleep(pause.mul_f64(rand::random())).await;
    }
    Err(ApiError::busy())
}

/// Makes the changes to the integration as it is read; `None` when somebody else changed it in between.
async fn try_update(
    app: &App,
    tenant: &str,
    id: &str,
    changes: Changes,
) -> Result<Option<Integration>, ApiError> {
    let current = find(app, tenant, id).await?;
    let callback = targets::with_legacy_url(changes.callback_parameters, changes.callback_url)?;
    let filter = changes.filter_conditions;
    // Secrets are encrypted before the write: what is decided on is the integration as it was read here, or nothing.
    let target = match (&current.target, callback, changes.s3_parameters) {
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
    let mut is_stale = false;
    let decide = |integration: &mut Integration| {
        is_stale =
            integration.version != current.version || integration.generation != current.generation;
        if is_stale {
            return Ok(Decision::Keep);
        }
        if integration.integration_type == IntegrationType::Temporary {
            return Err(ApiError::bad_request(
                "A temporary integration cannot be updated; register another one.",
            ));
        }
        if integration.is_running() {
            return Err(ApiError::integration_running());
        }
        if let Some(filter) = &filter {
            integration.filter =
                targets::changed_filter(integration.filter.take(), filter.as_ref())?;
        }
        integration.target = target.clone();
        let updated = entry(app, Action::IntegrationUpdated, "Updated via API.");
        Ok(Decision::WriteWith(vec![updated], None))
    };
    let (integration, _) = app.integrations.change(tenant, id, decide).await?;
    Ok((!is_stale).then_some(integration))
}

/// `DELETE /{integration_id}`
pub async fn delete(app: &App, tenant: &str, id: &str) -> Result<Response<String>, ApiError> {
    limits::id(id).map_err(|_| ApiError::no_such_integration(id))?;
    let deleted = app
        .integrations
        .delete(tenant, id, app.clock.now().after(PURGE_AFTER))
        .await;
    let owner = deleted.map_err(|error| not_found(error, id))?;
    short_cut(app, &ReplayTask::purge(owner), PURGE_AFTER).await;
    answers::no_content()
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
    answers::ok(&answers::integration(app, &integration).await?)
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
    answers::ok(&answers::integration(app, &integration).await?)
}

/// `GET /{integration_id}/log`
pub async fn log(app: &App, tenant: &str, id: &str) -> Result<Response<String>, ApiError> {
    let integration = find(app, tenant, id).await?;
    let entries = app.integration_log.list(&Owner::from(&integration)).await?;
    let entries: Vec<answers::EntryAnswer> = entries.into_iter().map(Into::into).collect();
    answers::ok(&serde_json::json!({ "entries": entries }))
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

/// Applies what the caller wants to an integration that was found, and sends replay the steps that come of it.
async fn apply(app: &App, found: &Integration, input: &Input) -> Result<Integration, ApiError> {
    let owner = Owner::from(found);
    let applied = app
        .integrations
        .apply(&owner, input, None, &app.clock, &app.rules);
    let applied = applied
        .await?
        .ok_or_else(|| ApiError::no_such_integration(&found.id))?;
    for effect in applied.effects {
        if let Effect::SendStep { turn, delay } = effect {
            short_cut(app, &ReplayTask::step(&owner, turn), delay).await;
        }
    }
    Ok(applied.integration)
}

fn entry(app: &App, action: Action, reason: impl Into<String>) -> Entry {
    Entry {
        id: app.clock.ulid(),
        action,
        reason: reason.into(),
    }
}

/// Sends replay a task at once. What is to be done is stored already, and the sweep finds it a little later: a message that
/// cannot be sent fails no request.
async fn short_cut(app: &App, task: &ReplayTask, delay: Duration) {
    let Ok(message) = tasks::message(task, delay) else {
        return;
    };
    if let Err(error) = app.replay_queue.send(vec![message]).await {
        tracing::warn!(
            error = shared::telemetry::chain(&error),
            "the sweep will send this task"
        );
    }
}
