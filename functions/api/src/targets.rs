//! Checks callback parameters and filters, and encrypts their secrets. Buckets are in
//! [`crate::buckets`].

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use domain::filter::Filter;
use domain::integration::{Callback, Integration};
use domain::receiver::url::check_url;
use domain::secret::{Secret, StoredSecret, is_mask};
use domain::signing::Signing;

use crate::bodies::{CallbackBody, FilterChanges, SecretText};
use crate::error::ApiError;
use crate::{App, limits};

/// Checks a filter; the error names its field.
pub fn check_filter(filter: &Filter) -> Result<(), ApiError> {
    filter.check().map_err(|(field, reason)| {
        ApiError::bad_field(&format!("filter_conditions.{field}"), reason)
    })
}

/// Older clients put `callback_url` next to `callback_parameters`.
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
    let max_in_flight = body.max_in_flight.flatten();
    check_max_in_flight(max_in_flight)?;
    let given = body.headers.flatten().unwrap_or_default();
    let headers = headers(app, tenant, id, &BTreeMap::new(), given).await?;
    checked(Callback {
        callback_url,
        api_key,
        max_in_flight,
        signing: None,
        headers,
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
    let max_in_flight = body.max_in_flight.unwrap_or(before.max_in_flight);
    check_max_in_flight(max_in_flight)?;
    let headers = match body.headers {
        None => before.headers.clone(),
        Some(given) => {
            let (tenant, id) = (&current.tenant, &current.id);
            headers(app, tenant, id, &before.headers, given.unwrap_or_default()).await?
        }
    };
    checked(Callback {
        callback_url,
        api_key,
        max_in_flight,
        signing: before.signing.clone(),
        headers,
    })
}

fn checked(callback: Callback) -> Result<Callback, ApiError> {
    let secrets = limits::secrets(&callback);
    secrets.map_err(|reason| ApiError::bad_field("callback_parameters", reason))?;
    Ok(callback)
}

/// Headers of an integration's own as they are given, checked, their values encrypted; a mask that comes back keeps the stored
/// value.
async fn headers(
    app: &App,
    tenant: &str,
    id: &str,
    before: &BTreeMap<String, StoredSecret>,
    given: BTreeMap<String, SecretText>,
) -> Result<BTreeMap<String, StoredSecret>, ApiError> {
    const FIELD: &str = "callback_parameters.headers";
    if given.len() > limits::MAX_HEADERS {
        let reason = format!("must be at most {}", limits::MAX_HEADERS);
        return Err(ApiError::bad_field(FIELD, reason));
    }
    let mut headers = BTreeMap::new();
    for (name, value) in given {
        let name = limits::header_name(&name)
            .map_err(|reason| ApiError::bad_field(FIELD, format!("{name:?} {reason}")))?;
        let field = format!("{FIELD}.{name}");
        let stored = match before.get(&name) {
            Some(stored) if stored.mask == value.0.expose() => stored.clone(),
            _ => encrypt(app, tenant, id, &field, &value, limits::header_value).await?,
        };
        if headers.insert(name, stored).is_some() {
            let reason = "is there twice: case makes no difference in names of headers";
            return Err(ApiError::bad_field(&field, reason));
        }
    }
    Ok(headers)
}

/// A new signing secret for the integration of this tenant and id: how it is stored, after `before`, and what its owner has to see
/// now or never.
///
/// # Errors
/// When KMS fails.
pub async fn signing(
    app: &App,
    tenant: &str,
    id: &str,
    before: Option<Signing>,
    overlap: Duration,
) -> Result<(Signing, Secret), ApiError> {
    let bytes: [u8; 32] = rand::random();
    let secret = Secret::new(format!("whsec_{}", BASE64_STANDARD.encode(bytes)));
    let stored = app.secrets.encrypt(tenant, id, &secret).await?;
    let signing = Signing::rotated(before, stored, app.clock.now(), overlap);
    Ok((signing, secret))
}

fn check_max_in_flight(limit: Option<u32>) -> Result<(), ApiError> {
    match limit {
        Some(limit) if !(1..=1_000).contains(&limit) => Err(ApiError::bad_field(
            "callback_parameters.max_in_flight",
            "must be between 1 and 1000",
        )),
        _ => Ok(()),
    }
}

fn check_callback_url(app: &App, url: &str) -> Result<(), ApiError> {
    let checked = check_url(url, app.allow_private_receivers);
    checked
        .map(drop)
        .map_err(|reason| ApiError::bad_field("callback_parameters.callback_url", reason))
}

/// The value of a field that has to be there; the error names it.
pub fn required<T>(field: &str, value: Option<T>) -> Result<T, ApiError> {
    value.ok_or_else(|| ApiError::bad_field(field, "is required"))
}

/// Checks a secret, and encrypts it for the integration of this tenant and id.
pub async fn encrypt(
    app: &App,
    tenant: &str,
    id: &str,
    field: &str,
    secret: &SecretText,
    rule: fn(&str) -> Result<(), String>,
) -> Result<StoredSecret, ApiError> {
    rule(secret.0.expose()).map_err(|reason| ApiError::bad_field(field, reason))?;
    // The mask of a secret that was replaced meanwhile, or of another integration.
    if is_mask(secret.0.expose()) {
        let reason = "is masked, and no such secret is stored; give the whole secret";
        return Err(ApiError::bad_field(field, reason));
    }
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
