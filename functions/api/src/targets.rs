//! What an integration is made of: callback and bucket parameters and the filter, checked, and their secrets encrypted.

use shared::filter::Filter;
use shared::integration::{Bucket, Callback, Integration, StoredSecret};
use shared::webhook::check_url;

use crate::bodies::{BucketBody, CallbackBody, FilterChanges, SecretText};
use crate::error::ApiError;
use crate::{App, limits};

/// Checks a filter; the error names its field.
pub fn check_filter(filter: &Filter) -> Result<(), ApiError> {
    filter.check().map_err(|(field, reason)| {
        ApiError::bad_field(&format!("filter_conditions.{field}"), reason)
    })
}

/// Legacy clients put `callback_url` beside `callback_parameters`.
pub fn with_legacy_url(
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

/// `callback_parameters` of a registration, checked, its key encrypted.
pub async fn new_callback(
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

/// `callback_parameters` after an update; a mask that comes back keeps the stored key.
pub async fn changed_callback(
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

/// `s3_parameters` of a registration, checked, the secret encrypted.
pub async fn new_bucket(
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

/// `s3_parameters` after an update; a mask that comes back keeps the stored secret.
pub async fn changed_bucket(
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
pub fn changed_filter(
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
