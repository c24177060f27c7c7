//! Bodies of requests: JSON, read strictly. What does not fit is a 400 that names the field.

use lambda_http::Request;
use lambda_http::http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use shared::filter::Filter;
use shared::integration::IntegrationType;
use shared::secrets::Secret;

use crate::error::ApiError;

/// The largest body: 4 MiB (contract, section 4).
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// The body of a registration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The integration's id.
    pub id: String,
    /// Permanent or temporary.
    pub integration_type: IntegrationType,
    /// A webhook's parameters.
    pub callback_parameters: Option<CallbackBody>,
    /// An S3 integration's parameters.
    pub s3_parameters: Option<BucketBody>,
    /// Where legacy clients put `callback_parameters.callback_url`.
    pub callback_url: Option<String>,
    /// The first instant of which events are sent.
    pub starts_at: Option<String>,
    /// The end of a temporary integration.
    pub ends_at: Option<String>,
    /// Which events are sent.
    pub filter_conditions: Option<Filter>,
}

/// `callback_parameters`, in a registration and in an update.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallbackBody {
    /// The receiver's address.
    pub callback_url: Option<String>,
    /// The receiver's key; `null` in an update removes it.
    #[serde(default, deserialize_with = "given")]
    pub api_key: Option<Option<SecretText>>,
}

/// `s3_parameters`, in a registration and in an update.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketBody {
    /// The customer's access key.
    pub aws_access_key_id: Option<String>,
    /// The customer's secret key.
    pub aws_secret_access_key: Option<SecretText>,
    /// The bucket's region.
    pub aws_region: Option<String>,
    /// The bucket's name.
    pub bucket: Option<String>,
    /// The first part of keys; `null` in an update removes it.
    #[serde(default, deserialize_with = "given")]
    pub key_prefix: Option<Option<String>>,
}

/// A secret in a body: never printed.
#[derive(Debug)]
pub struct SecretText(pub Secret);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SecretText, D::Error> {
        Ok(SecretText(Secret::new(String::deserialize(deserializer)?)))
    }
}

/// The body of an update: what is given is changed, the rest stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// A webhook's parameters.
    pub callback_parameters: Option<CallbackBody>,
    /// An S3 integration's parameters.
    pub s3_parameters: Option<BucketBody>,
    /// Where legacy clients put `callback_parameters.callback_url`.
    pub callback_url: Option<String>,
    /// Which events are sent; `null` removes the filter.
    #[serde(default, deserialize_with = "given")]
    pub filter_conditions: Option<Option<FilterChanges>>,
}

/// `filter_conditions` of an update.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterChanges {
    /// Replaces the list; `null` removes it.
    #[serde(default, deserialize_with = "given")]
    pub event_filter: Option<Option<Vec<String>>>,
    /// Replaces the list; `null` removes it.
    #[serde(default, deserialize_with = "given")]
    pub entity_filter: Option<Option<Vec<String>>>,
}

/// An event as a publisher writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedEvent {
    /// A UUID that the publisher gives, to be able to publish again safely.
    pub id: Option<String>,
    /// `entity.event`.
    pub name: String,
    /// Any JSON object; its bytes are kept.
    pub payload: Box<RawValue>,
}

/// Tells `null`, which becomes `Some(None)`, from a field that is not there.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// The body of a request as text.
///
/// # Errors
/// 413 where it is too large, 415 where its `content-type` is none of `accepted`, 400 where it is not UTF-8.
pub fn text<'a>(request: &'a Request, accepted: &[&str]) -> Result<&'a str, ApiError> {
    let bytes: &[u8] = request.body();
    if bytes.len() > MAX_BODY_BYTES {
        return Err(ApiError::payload_too_large(MAX_BODY_BYTES));
    }
    if !bytes.is_empty() {
        let media_type = media_type(request);
        if !media_type.is_empty() && !accepted.contains(&media_type.as_str()) {
            return Err(ApiError::unsupported_media_type(&accepted.join(" or ")));
        }
    }
    str::from_utf8(bytes).map_err(|_| ApiError::bad_request("The body is not UTF-8."))
}

/// The media type of the body, without its parameters, in lower case; empty where none is given.
pub fn media_type(request: &Request) -> String {
    let value = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// Reads a JSON body.
///
/// # Errors
/// Those of [`text`]; 400, naming the field, where the JSON is not what is expected.
pub fn json<T: DeserializeOwned>(request: &Request) -> Result<T, ApiError> {
    let text = text(request, &["application/json"])?;
    if text.trim().is_empty() {
        return Err(ApiError::bad_request(
            "The body is empty; a JSON object is required.",
        ));
    }
    parse(text).map_err(ApiError::bad_request)
}

/// Reads JSON text; the error is a sentence that names the field.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.inner().to_string();
        // The library's words would show the value, which may be a secret, and names of our types.
        if reason.starts_with("invalid type") || reason.starts_with("invalid value") {
            return if path == "." {
                "The body has the wrong form".to_owned()
            } else {
                format!("{path} has the wrong type")
            };
        }
        if path == "." || error.inner().is_syntax() || error.inner().is_eof() {
            reason
        } else {
            format!("{path}: {reason}")
        }
    })?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// Checks the body of a call that takes none: nothing, or an empty object.
///
/// # Errors
/// 400 where it is anything else.
pub fn none(request: &Request) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    let bytes: &[u8] = request.body();
    let text =
        str::from_utf8(bytes).map_err(|_| ApiError::bad_request("The body is not UTF-8."))?;
    if text.trim().is_empty() {
        return Ok(());
    }
    parse::<Nothing>(text).map(|_| ()).map_err(|reason| {
        ApiError::bad_request(format!("The body must be empty or {{}}: {reason}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_named() {
        for (body, named) in [
            (r#"{"integration_type":"permanent"}"#, "id"),
            (r#"{"id":7,"integration_type":"permanent"}"#, "id"),
            (r#"{"id":"a"}"#, "integration_type"),
            (
                r#"{"id":"a","integration_type":"eternal"}"#,
                "integration_type",
            ),
            (
                r#"{"id":"a","integration_type":"permanent","colour":1}"#,
                "colour",
            ),
            (
                r#"{"id":"a","integration_type":"permanent","callback_parameters":{"url":"x"}}"#,
                "callback_parameters.url",
            ),
            (
                r#"{"id":"a","integration_type":"permanent","callback_parameters":{"api_key":1}}"#,
                "callback_parameters.api_key",
            ),
            (
                r#"{"id":"a","integration_type":"permanent","filter_conditions":{"event_filter":["a.b",3]}}"#,
                "filter_conditions.event_filter[1]",
            ),
            (
                r#"{"id":"a","id":"b","integration_type":"permanent"}"#,
                "id",
            ),
        ] {
            let error = parse::<Registration>(body).unwrap_err();
            assert!(error.contains(named), "{body}: {error}");
        }
        for body in ["", "{", "[]", "7", "{} {}", "null"] {
            assert!(parse::<Registration>(body).is_err(), "{body}");
        }
    }

    #[test]
    fn null_is_told_from_nothing() {
        let changes: Changes = parse(r#"{"filter_conditions":null}"#).unwrap();
        assert!(matches!(changes.filter_conditions, Some(None)));
        let changes: Changes = parse("{}").unwrap();
        assert!(changes.filter_conditions.is_none());
        let changes: Changes = parse(r#"{"callback_parameters":{"api_key":null}}"#).unwrap();
        assert!(matches!(
            changes.callback_parameters.unwrap().api_key,
            Some(None)
        ));
    }

    #[test]
    fn a_secret_is_not_printed_with_its_body() {
        let body = r#"{"id":"a","integration_type":"permanent","callback_parameters":{"callback_url":"https://a","api_key":"hunter2"}}"#;
        let printed = format!("{:?}", parse::<Registration>(body).unwrap());
        assert!(!printed.contains("hunter2"), "{printed}");
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_it_panic(body in r#"[{}\[\]":,a-z0-9_\\ ]{0,80}"#) {
            let _ = parse::<Registration>(&body);
            let _ = parse::<Changes>(&body);
            let _ = parse::<PublishedEvent>(&body);
        }
    }
}
