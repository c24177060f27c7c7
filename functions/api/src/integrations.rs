//! The endpoints of integrations.

use std::time::Duration;

use lambda_http::{Request, Response};
use shared::export::Export;
use shared::filter::Filter;
use shared::history::Action;
use shared::integration::{
    Bucket, CATCH_UP, Callback, Integration, IntegrationType, MAX_INTEGRATIONS, Status,
    StoredSecret, Target,
};
use shared::store::integrations::Decision;
use shared::store::{Entry, Owner, StoreError};
use shared::stream::Stream;
use shared::tasks::{self, ReplayTask};
use shared::webhook::check_url;

use crate::bodies::{
    self, BucketBody, CallbackBody, Changes, FilterChanges, Registration, SecretText,
};
use crate::error::ApiError;
use crate::{App, answers, limits};

/// How long after a deletion its children are removed: later than any attempt that was under way can write one.
const PURGE_AFTER: Duration = Duration::from_secs(120);

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
    if let Some(filter) = &body.filter_conditions {
        check_filter(filter)?;
    }
    let callback = with_legacy_url(body.callback_parameters, body.callback_url)?;
    let target = match (callback, body.s3_parameters) {
        (Some(callback), None) => Target::Webhook {
            callback: new_callback(app, tenant, &body.id, callback).await?,
            stream: Stream::registered(now, starts_at, ends_at),
        },
        (None, Some(bucket)) => Target::S3 {
            bucket: new_bucket(app, tenant, &body.id, bucket).await?,
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
    let changes: Changes = bodies::json(request)?;
    let current = find(app, tenant, id).await?;
    let callback = with_legacy_url(changes.callback_parameters, changes.callback_url)?;
    let filter = changes.filter_conditions;
    // Secrets are encrypted once, before the write that may have to be decided several times.
    let (target, stored) = match (&current.target, callback, changes.s3_parameters) {
        (_, None, None) => (current.target.clone(), None),
        (
            Target::Webhook {
                callback: before,
                stream,
            },
            Some(body),
            None,
        ) => {
            let callback = changed_callback(app, &current, before, body).await?;
            (
                Target::Webhook {
                    callback,
                    stream: stream.clone(),
                },
                Some(()),
            )
        }
        (
            Target::S3 {
                bucket: before,
                export,
            },
            None,
            Some(body),
        ) => {
            let bucket = changed_bucket(app, &current, before, body).await?;
            (
                Target::S3 {
                    bucket,
                    export: export.clone(),
                },
                Some(()),
            )
        }
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
    let decide = |integration: &mut Integration| {
        if integration.integration_type == IntegrationType::Temporary {
            return Err(ApiError::bad_request(
                "A temporary integration cannot be updated; register another one.",
            ));
        }
        if integration.is_running() {
            return Err(ApiError::integration_running());
        }
        if let Some(filter) = &filter {
            integration.filter = changed_filter(integration.filter.take(), filter.as_ref())?;
        }
        if stored.is_some() {
            match (&mut integration.target, &target) {
                (
                    Target::Webhook { callback, .. },
                    Target::Webhook {
                        callback: changed, ..
                    },
                ) => *callback = changed.clone(),
                (
                    Target::S3 { bucket, .. },
                    Target::S3 {
                        bucket: changed, ..
                    },
                ) => *bucket = changed.clone(),
                // Deleted and registered as the other kind in between.
                _ => return Err(ApiError::no_such_integration(id)),
            }
        }
        Ok(Decision::WriteWith(entry(
            app,
            Action::IntegrationUpdated,
            "Updated via API.",
        )))
    };
    let integration = change(app, tenant, id, decide).await?;
    answers::ok(&answers::integration(app, &integration).await?)
}

/// `DELETE /{integration_id}`
pub async fn delete(app: &App, tenant: &str, id: &str) -> Result<Response<String>, ApiError> {
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

fn check_filter(filter: &Filter) -> Result<(), ApiError> {
    filter.check().map_err(|(field, reason)| {
        ApiError::bad_field(&format!("filter_conditions.{field}"), reason)
    })
}

/// Legacy clients put `callback_url` beside `callback_parameters`.
fn with_legacy_url(
    callback: Option<CallbackBody>,
    legacy: Option<String>,
) -> Result<Option<CallbackBody>, ApiError> {
    let Some(legacy) = legacy else {
        return Ok(callback);
    };
    let mut callback = callback.unwrap_or_default();
    if callback
        .callback_url
        .as_ref()
        .is_some_and(|url| *url != legacy)
    {
        return Err(ApiError::bad_field(
            "callback_url",
            "differs from callback_parameters.callback_url; leave it out",
        ));
    }
    callback.callback_url = Some(legacy);
    Ok(Some(callback))
}

async fn new_callback(
    app: &App,
    tenant: &str,
    id: &str,
    body: CallbackBody,
) -> Result<Callback, ApiError> {
    let callback_url = required("callback_parameters.callback_url", body.callback_url)?;
    check_callback_url(app, &callback_url)?;
    let api_key = match body.api_key.flatten() {
        Some(key) => Some(
            encrypt(
                app,
                tenant,
                id,
                "callback_parameters.api_key",
                &key,
                limits::api_key,
            )
            .await?,
        ),
        None => None,
    };
    Ok(Callback {
        callback_url,
        api_key,
    })
}

async fn changed_callback(
    app: &App,
    current: &Integration,
    before: &Callback,
    body: CallbackBody,
) -> Result<Callback, ApiError> {
    let callback_url = body
        .callback_url
        .unwrap_or_else(|| before.callback_url.clone());
    check_callback_url(app, &callback_url)?;
    let api_key = match body.api_key {
        None => before.api_key.clone(),
        Some(None) => None,
        Some(Some(key)) => match &before.api_key {
            Some(stored) if stored.mask == key.0.expose() => Some(stored.clone()),
            _ => Some(
                encrypt(
                    app,
                    &current.tenant,
                    &current.id,
                    "callback_parameters.api_key",
                    &key,
                    limits::api_key,
                )
                .await?,
            ),
        },
    };
    Ok(Callback {
        callback_url,
        api_key,
    })
}

fn check_callback_url(app: &App, url: &str) -> Result<(), ApiError> {
    let checked = check_url(url, app.allow_private_receivers);
    checked
        .map(drop)
        .map_err(|reason| ApiError::bad_field("callback_parameters.callback_url", reason))
}

async fn new_bucket(
    app: &App,
    tenant: &str,
    id: &str,
    body: BucketBody,
) -> Result<Bucket, ApiError> {
    let secret = required(
        "s3_parameters.aws_secret_access_key",
        body.aws_secret_access_key,
    )?;
    let bucket = BucketFields {
        aws_access_key_id: required("s3_parameters.aws_access_key_id", body.aws_access_key_id)?,
        aws_region: required("s3_parameters.aws_region", body.aws_region)?,
        bucket: required("s3_parameters.bucket", body.bucket)?,
        key_prefix: body.key_prefix.flatten(),
    };
    bucket.check()?;
    let stored = encrypt(
        app,
        tenant,
        id,
        "s3_parameters.aws_secret_access_key",
        &secret,
        limits::credential,
    )
    .await?;
    Ok(bucket.with(stored))
}

async fn changed_bucket(
    app: &App,
    current: &Integration,
    before: &Bucket,
    body: BucketBody,
) -> Result<Bucket, ApiError> {
    let before = before.clone();
    let bucket = BucketFields {
        aws_access_key_id: body.aws_access_key_id.unwrap_or(before.aws_access_key_id),
        aws_region: body.aws_region.unwrap_or(before.aws_region),
        bucket: body.bucket.unwrap_or(before.bucket),
        key_prefix: body.key_prefix.unwrap_or(before.key_prefix),
    };
    bucket.check()?;
    let stored = match body.aws_secret_access_key {
        Some(secret) if secret.0.expose() != before.aws_secret_access_key.mask => {
            encrypt(
                app,
                &current.tenant,
                &current.id,
                "s3_parameters.aws_secret_access_key",
                &secret,
                limits::credential,
            )
            .await?
        }
        _ => before.aws_secret_access_key,
    };
    Ok(bucket.with(stored))
}

/// `s3_parameters` without the secret.
struct BucketFields {
    aws_access_key_id: String,
    aws_region: String,
    bucket: String,
    key_prefix: Option<String>,
}

impl BucketFields {
    fn check(&self) -> Result<(), ApiError> {
        let check = |field: &str, result: Result<(), String>| {
            result.map_err(|reason| ApiError::bad_field(&format!("s3_parameters.{field}"), reason))
        };
        check(
            "aws_access_key_id",
            limits::credential(&self.aws_access_key_id),
        )?;
        check("aws_region", limits::region(&self.aws_region))?;
        check("bucket", limits::bucket(&self.bucket))?;
        self.key_prefix.as_deref().map_or(Ok(()), |prefix| {
            check("key_prefix", limits::key_prefix(prefix))
        })
    }

    fn with(self, aws_secret_access_key: StoredSecret) -> Bucket {
        let BucketFields {
            aws_access_key_id,
            aws_region,
            bucket,
            key_prefix,
        } = self;
        Bucket {
            aws_access_key_id,
            aws_secret_access_key,
            aws_region,
            bucket,
            key_prefix,
        }
    }
}

fn required<T>(field: &str, value: Option<T>) -> Result<T, ApiError> {
    value.ok_or_else(|| ApiError::bad_field(field, "is required"))
}

async fn encrypt(
    app: &App,
    tenant: &str,
    id: &str,
    field: &str,
    secret: &SecretText,
    rule: fn(&str) -> Result<(), String>,
) -> Result<StoredSecret, ApiError> {
    rule(secret.0.expose()).map_err(|reason| ApiError::bad_field(field, reason))?;
    Ok(app.secrets.encrypt(tenant, id, &secret.0).await?)
}

/// The filter after an update: `None` removes it, lists that are not given stay.
fn changed_filter(
    before: Option<Filter>,
    changes: Option<&FilterChanges>,
) -> Result<Option<Filter>, ApiError> {
    let Some(changes) = changes else {
        return Ok(None);
    };
    let mut filter = before.unwrap_or_default();
    if let Some(events) = &changes.event_filter {
        filter.event_filter.clone_from(events);
    }
    if let Some(entities) = &changes.entity_filter {
        filter.entity_filter.clone_from(entities);
    }
    check_filter(&filter)?;
    Ok(Some(filter))
}
