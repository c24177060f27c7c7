//! The endpoints of integrations.

use std::time::Duration;

use lambda_http::{Request, Response};
use shared::export::Export;
use shared::history::Action;
use shared::integration::{
    CATCH_UP, Integration, IntegrationType, MAX_INTEGRATIONS, Status, Target,
};
use shared::store::integrations::Decision;
use shared::store::{Entry, Owner, StoreError};
use shared::stream::Stream;
use shared::tasks::{self, ReplayTask};

use crate::bodies::{self, Changes, Registration};
use crate::error::ApiError;
use crate::{App, answers, limits, replays, targets};

/// How long after a deletion its children are removed: later than any attempt or export that was under way
/// can write one.
const PURGE_AFTER: Duration = Duration::from_secs(900);

/// How often an update is decided again because somebody else changed the integration in between.
const MAX_UPDATES: usize = 5;

/// `GET /`
pub async fn list(app: &App, tenant: &str) -> Result<Response<String>, ApiError> {
    let mut integrations = Vec::new();
    for integration in app.integrations.list(tenant).await? {
        integrations.push(answers::integration(app, &integration).await?);
    }
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
    replays::check(app, tenant, body.integration_type).await?;
    if let Some(filter) = &body.filter_conditions {
        targets::check_filter(filter)?;
    }
    let callback = targets::with_legacy_url(body.callback_parameters, body.callback_url)?;
    let target = match (callback, body.s3_parameters) {
        (Some(callback), None) => Target::Webhook {
            callback: targets::new_callback(app, tenant, &body.id, callback).await?,
            stream: Stream::registered(now, starts_at, ends_at),
        },
        (None, Some(bucket)) => Target::S3 {
            bucket: targets::new_bucket(app, tenant, &body.id, bucket).await?,
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
    };
    app.integrations
        .register(
            &integration,
            entry(app, Action::IntegrationStarted, "Started via API."),
        )
        .await
        .map_err(|error| match error {
            StoreError::AlreadyExists => ApiError::conflict(&integration.id),
            StoreError::LimitReached => ApiError::limit_exceeded(MAX_INTEGRATIONS),
            error => error.into(),
        })?;
    wake(app, &integration).await;
    answers::ok(&answers::integration(app, &integration).await?)
}

/// `PATCH /{integration_id}`, `PUT /{integration_id}`
pub async fn update(
    app: &App,
    tenant: &str,
    id: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    for _ in 0..MAX_UPDATES {
        if let Some(integration) = try_update(app, tenant, id, bodies::json(request)?).await? {
            return answers::ok(&answers::integration(app, &integration).await?);
        }
    }
    Err(StoreError::Changed.into())
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
            bucket: targets::changed_bucket(app, &current, bucket, body).await?,
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
        Ok(Decision::WriteWith(entry(
            app,
            Action::IntegrationUpdated,
            "Updated via API.",
        )))
    };
    let integration = change(app, tenant, id, decide).await?;
    Ok((!is_stale).then_some(integration))
}

/// `DELETE /{integration_id}`
pub async fn delete(app: &App, tenant: &str, id: &str) -> Result<Response<String>, ApiError> {
    limits::id(id).map_err(|_| ApiError::no_such_integration(id))?;
    let deleted = app
        .integrations
        .delete(tenant, id, app.clock.now().after(PURGE_AFTER))
        .await;
    let Owner {
        tenant,
        integration_id,
        generation,
    } = deleted.map_err(|error| not_found(error, id))?;
    let purge = ReplayTask::Purge {
        tenant,
        integration_id,
        generation,
    };
    short_cut(app, &purge, PURGE_AFTER.as_secs() as u32).await;
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
    let integration = change(app, tenant, id, |integration| {
        let now = app.clock.now();
        let days = CATCH_UP.as_secs() / (24 * 3600);
        let reason = match integration.is_start_afresh(now) {
            true => format!(
                "Started via API. It had been stopped for more than {days} days: only events from now on are sent."
            ),
            false => "Started via API.".to_owned(),
        };
        let started = integration.start(now);
        Ok(if started {
            Decision::WriteWith(entry(app, Action::IntegrationStarted, reason))
        } else {
            Decision::Keep
        })
    });
    let integration = integration.await?;
    wake(app, &integration).await;
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
    let integration = change(app, tenant, id, |integration| {
        let stopped = integration.stop(app.clock.now(), app.seal);
        Ok(if stopped {
            Decision::WriteWith(entry(app, Action::IntegrationStopped, "Stopped via API."))
        } else {
            Decision::Keep
        })
    });
    answers::ok(&answers::integration(app, &integration.await?).await?)
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

async fn change(
    app: &App,
    tenant: &str,
    id: &str,
    decide: impl FnMut(&mut Integration) -> Result<Decision, ApiError>,
) -> Result<Integration, ApiError> {
    find(app, tenant, id).await?;
    let (integration, _) = app.integrations.change(tenant, id, decide).await?;
    Ok(integration)
}

fn entry(app: &App, action: Action, reason: impl Into<String>) -> Entry {
    Entry {
        id: app.clock.ulid(),
        action,
        reason: reason.into(),
    }
}

/// Sends replay the task that the state asks for.
async fn wake(app: &App, integration: &Integration) {
    let Some(stream) = integration
        .stream()
        .filter(|stream| stream.wake_at.is_some())
    else {
        return;
    };
    let Owner {
        tenant,
        integration_id,
        generation,
    } = Owner::from(integration);
    short_cut(
        app,
        &ReplayTask::Step {
            tenant,
            integration_id,
            generation,
            turn: stream.turn,
        },
        0,
    )
    .await;
}

/// Sends replay a task at once. What is to be done is stored already, and the sweep finds it a little later: a message that
/// cannot be sent fails no request.
async fn short_cut(app: &App, task: &ReplayTask, delay_seconds: u32) {
    let Ok(message) = tasks::message(task, delay_seconds) else {
        return;
    };
    if let Err(error) = app.replay_queue.send(vec![message]).await {
        tracing::warn!(
            error = shared::telemetry::chain(&error),
            "the sweep will send this task"
        );
    }
}
