//! Bodies of requests: JSON, read strictly. What does not fit is a 400 that names the field.

use std::fmt;
use std::marker::PhantomData;

use lambda_http::Request;
use lambda_http::http::header::CONTENT_TYPE;
#[cfg(test)]
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use shared::filter::Filter;
use shared::integration::IntegrationType;
use shared::secrets::Secret;

use crate::error::ApiError;
#[cfg(test)]
use crate::limits;
#[cfg(test)]
use crate::openapi::schemas;

/// The largest body of events: 4 MiB (contract, section 4).
pub const MAX_EVENTS_BYTES: usize = 4 * 1024 * 1024;
/// The largest body of any other call. The largest registration that the rules allow has about 60 KiB.
pub const MAX_BODY_BYTES: usize = 128 * 1024;

/// Registers an integration. Exactly one of `callback_parameters` and `s3_parameters` is required.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "NewIntegration"))]
pub struct Registration {
    /// The identifier for this integration, unique among yours, for example `erp-1`.
    #[cfg_attr(test, schemars(extend("pattern" = "^[a-z0-9-]+$", "minLength" = 1, "maxLength" = 50)))]
    pub id: String,
    /// Permanent or temporary.
    #[cfg_attr(test, schemars(schema_with = "schemas::integration_type"))]
    pub integration_type: IntegrationType,
    /// Configuration parameters for the webhook.
    #[serde(default, deserialize_with = "object")]
    pub callback_parameters: Option<CallbackBody>,
    /// Configuration parameters for upload to Amazon S3.
    #[serde(default, deserialize_with = "object")]
    pub s3_parameters: Option<BucketBody>,
    /// Where legacy clients put `callback_parameters.callback_url`.
    #[cfg_attr(test, schemars(extend("deprecated" = true, "format" = "uri", "maxLength" = 2048)))]
    pub callback_url: Option<String>,
    /// UTC timestamp from which events are sent. Must not be in the future. Optional for permanent integrations (now),
    /// required for temporary ones.
    pub starts_at: Option<String>,
    /// UTC timestamp until which events are sent, itself excluded; after `starts_at`. Required for temporary integrations,
    /// refused for permanent ones.
    pub ends_at: Option<String>,
    /// Which events are sent; without it, all.
    #[serde(default, deserialize_with = "object")]
    #[cfg_attr(test, schemars(with = "Option<FilterChanges>"))]
    pub filter_conditions: Option<Filter>,
}

/// How the receiver of a webhook is called.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "CallbackParameters"))]
pub struct CallbackBody {
    /// The receiver's address: https, a host of the public internet, no user name, no fragment. Required in a registration.
    #[cfg_attr(test, schemars(extend("format" = "uri", "maxLength" = 2048)))]
    pub callback_url: Option<String>,
    /// Sent as `Authorization: Bearer <api_key>`: visible ASCII characters, no spaces. In an update, `null` removes it, and a
    /// masked value keeps the stored one.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(test, schemars(with = "Option<SecretText>", extend("pattern" = "^[!-~]+$", "maxLength" = 4096)))]
    pub api_key: Option<Option<SecretText>>,
}

/// Where files go, and what lets us write them: an access key, or `role_arn` instead of both of its parts. Key or role need
/// `s3:PutObject` on `{key_prefix}/{tenant}/*`, and nothing else.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "S3Parameters"))]
pub struct BucketBody {
    /// Your access key.
    #[cfg_attr(test, schemars(extend("pattern" = "^[!-~]+$", "maxLength" = 128)))]
    pub aws_access_key_id: Option<String>,
    /// Your secret key. In an update, a masked value keeps the stored one.
    #[cfg_attr(test, schemars(extend("pattern" = "^[!-~]+$", "maxLength" = 128)))]
    pub aws_secret_access_key: Option<SecretText>,
    /// Ours: a role of your account, in place of an access key. Its trust policy has to let the `principal` of `role_trust` in
    /// the answer assume it, on condition that `sts:ExternalId` is the `external_id` there. The key prefix then has letters,
    /// digits and `/!-_.'()=+@:,` only, since a session policy names it.
    #[cfg_attr(test, schemars(extend("pattern" = schemas::ROLE_ARN, "maxLength" = limits::MAX_ROLE_ARN_CHARS)))]
    pub role_arn: Option<String>,
    /// The bucket's region, for example `eu-west-1`.
    pub aws_region: Option<String>,
    /// The bucket's name.
    #[cfg_attr(test, schemars(extend("pattern" = "^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$")))]
    pub bucket: Option<String>,
    /// The first part of every file's key, without a slash at its beginning. In an update, `null` removes it.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(test, schemars(with = "Option<String>", extend("maxLength" = 512)))]
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

/// Changes an integration: what is given is changed, the rest stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "IntegrationUpdate"))]
pub struct Changes {
    /// Configuration parameters for the webhook.
    #[serde(default, deserialize_with = "object")]
    pub callback_parameters: Option<CallbackBody>,
    /// Configuration parameters for upload to Amazon S3.
    #[serde(default, deserialize_with = "object")]
    pub s3_parameters: Option<BucketBody>,
    /// Where legacy clients put `callback_parameters.callback_url`.
    #[cfg_attr(test, schemars(extend("deprecated" = true, "format" = "uri", "maxLength" = 2048)))]
    pub callback_url: Option<String>,
    /// Which events are sent; `null` removes the filter.
    #[serde(default, deserialize_with = "given_object")]
    #[cfg_attr(test, schemars(with = "Option<FilterChanges>"))]
    pub filter_conditions: Option<Option<FilterChanges>>,
}

/// An event passes when its name is in `event_filter` **or** its entity, the part before the dot, is in `entity_filter`.
/// Without names in either list, everything passes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "FilterConditions"))]
pub struct FilterChanges {
    /// Replaces the list; `null` removes it.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(test, schemars(schema_with = "schemas::event_names"))]
    pub event_filter: Option<Option<Vec<String>>>,
    /// Replaces the list; `null` removes it.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(test, schemars(schema_with = "schemas::entity_names"))]
    pub entity_filter: Option<Option<Vec<String>>>,
}

/// An event as a publisher writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "NewEvent"))]
pub struct PublishedEvent {
    /// A UUID that you give, so that publishing again is safe; without one, the service makes one.
    #[cfg_attr(test, schemars(extend("format" = "uuid")))]
    pub id: Option<String>,
    /// Entity and event, for example `order.created`.
    #[cfg_attr(test, schemars(extend("pattern" = schemas::EVENT_NAME, "maxLength" = 128)))]
    pub name: String,
    /// Any JSON object; its bytes are kept.
    #[cfg_attr(test, schemars(schema_with = "schemas::payload"))]
    pub payload: Box<RawValue>,
}

/// Tells `null`, which becomes `Some(None)`, from a field that is not there.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// A value that is read from a JSON object only. By itself serde reads a struct from an array, too, field by field in the
/// order of our source.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|object| object.0))
}

fn given_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    object(deserializer).map(Some)
}

/// The body of a request as text, at most `max_bytes` of it.
///
/// # Errors
/// 413 where it is larger, 415 where its `content-type` is none of `accepted`, 400 where it is not UTF-8.
pub fn text<'a>(
    request: &'a Request,
    accepted: &[&str],
    max_bytes: usize,
) -> Result<&'a str, ApiError> {
    let text = untyped(request, max_bytes)?;
    let media_type = media_type(request);
    if !text.is_empty() && !media_type.is_empty() && !accepted.contains(&media_type.as_str()) {
        return Err(ApiError::unsupported_media_type(&accepted.join(" or ")));
    }
    Ok(text)
}

fn untyped(request: &Request, max_bytes: usize) -> Result<&str, ApiError> {
    let bytes: &[u8] = request.body();
    if bytes.len() > max_bytes {
        return Err(ApiError::payload_too_large(max_bytes));
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
    let text = text(request, &["application/json"], MAX_BODY_BYTES)?;
    if text.trim().is_empty() {
        return Err(ApiError::bad_request(
            "The body is empty; a JSON object is required.",
        ));
    }
    parse(text).map_err(ApiError::bad_request)
}

/// Reads a JSON object; the error is a sentence that names the field.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut deserializer);
    let Object(value) = read.map_err(|error| {
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

/// Checks the body of a call that takes none: nothing, or an empty object, whatever its media type is said to be.
///
/// # Errors
/// 413 where it is too large, 400 where it is anything else.
pub fn none(request: &Request) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    let text = untyped(request, MAX_BODY_BYTES)?;
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
    fn an_array_is_no_object() {
        for (body, named) in [
            (r#"["a","permanent"]"#, "form"),
            (
                r#"{"id":"a","integration_type":"permanent","callback_parameters":["https://a.example/"]}"#,
                "callback_parameters",
            ),
            (
                r#"{"id":"a","integration_type":"permanent","s3_parameters":["a","b","c","d"]}"#,
                "s3_parameters",
            ),
            (
                r#"{"id":"a","integration_type":"permanent","filter_conditions":[["a.b"]]}"#,
                "filter_conditions",
            ),
        ] {
            let error = parse::<Registration>(body).unwrap_err();
            assert!(error.contains(named), "{body}: {error}");
        }
        for body in [
            r#"[null]"#,
            r#"{"callback_parameters":[null,null]}"#,
            r#"{"filter_conditions":[["a.b"]]}"#,
        ] {
            assert!(parse::<Changes>(body).is_err(), "{body}");
        }
        assert!(parse::<PublishedEvent>(r#"[null,"a.b",{}]"#).is_err());
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
