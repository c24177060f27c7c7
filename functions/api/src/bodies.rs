//! Bodies of requests: JSON, read strictly. What does not fit is a 400 that names the field.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::marker::PhantomData;

use domain::filter::Filter;
use domain::integration::IntegrationType;
use domain::secret::Secret;
use flate2::read::MultiGzDecoder;
#[cfg(test)]
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::error::ApiError;
#[cfg(test)]
use crate::limits;
#[cfg(test)]
use crate::openapi::fields;
use crate::request::Request;

/// The largest body of events: 4 MiB (docs/api.md, Publishing).
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
    #[cfg_attr(test, schemars(schema_with = "fields::integration_type"))]
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
#[derive(Clone, Debug, Default, Deserialize)]
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
    /// Ours: the most requests at a time, 1 to 1,000. The integration is then sent events from the event log, at the receiver's own
    /// pace. In an update, `null` removes it.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(test, schemars(range(min = 1, max = 1000)))]
    pub max_in_flight: Option<Option<u32>>,
    /// Ours: headers of your own, at most 10, sent with every request. Their values are treated as secrets. In an update they
    /// replace those before; a masked value keeps the stored one, and `null` removes all.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(test, schemars(schema_with = "fields::headers"))]
    pub headers: Option<Option<BTreeMap<String, SecretText>>>,
}

/// Where files go, and what lets us write them: an access key, or `role_arn` instead of both of its parts. Key or role need
/// `s3:PutObject` on `{key_prefix}/{tenant}/*`, and nothing else.
#[derive(Clone, Debug, Default, Deserialize)]
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
    /// the response assume it, on condition that `sts:ExternalId` is the `external_id` there. The key prefix then has letters,
    /// digits and `/!-_.'()=+@:,` only, since a session policy names it.
    #[cfg_attr(test, schemars(extend("pattern" = fields::ROLE_ARN, "maxLength" = limits::MAX_ROLE_ARN_CHARS)))]
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
#[derive(Clone, Debug)]
pub struct SecretText(pub Secret);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SecretText, D::Error> {
        Ok(SecretText(Secret::new(String::deserialize(deserializer)?)))
    }
}

/// What to change of an integration; what is left out stays as it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "IntegrationUpdate"))]
pub struct Update {
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
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "FilterConditions"))]
pub struct FilterChanges {
    /// Replaces the list; `null` removes it.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(test, schemars(schema_with = "fields::event_names"))]
    pub event_filter: Option<Option<Vec<String>>>,
    /// Replaces the list; `null` removes it.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(test, schemars(schema_with = "fields::entity_names"))]
    pub entity_filter: Option<Option<Vec<String>>>,
}

/// What to preview: a registration's filter and range of dates.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "PreviewRequest"))]
pub struct PreviewBody {
    /// Which events are counted; without it, all.
    #[serde(default, deserialize_with = "object")]
    #[cfg_attr(test, schemars(with = "Option<FilterChanges>"))]
    pub filter_conditions: Option<Filter>,
    /// UTC timestamp from which events are counted. Must not be in the future; without it, a day ago.
    pub starts_at: Option<String>,
    /// UTC timestamp until which events are counted, itself excluded; after `starts_at`; without it, now.
    pub ends_at: Option<String>,
}

/// A test of an integration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "TestRequest"))]
pub struct TestBody {
    /// The name of the sample event; without it, the first of the filter's, or `order.created`.
    #[cfg_attr(test, schemars(extend("pattern" = fields::EVENT_NAME, "maxLength" = 128)))]
    pub name: Option<String>,
}

/// Replaces the secret that webhooks are signed with.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "SigningSecretRotation"))]
pub struct Rotation {
    /// For how many hours the secret before signs as well; without it, 24.
    #[cfg_attr(test, schemars(range(min = 0, max = 168)))]
    pub overlap_hours: Option<u32>,
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
    #[cfg_attr(test, schemars(extend("pattern" = fields::EVENT_NAME, "maxLength" = 128)))]
    pub name: String,
    /// Any JSON object; its bytes are kept.
    #[cfg_attr(test, schemars(schema_with = "fields::payload"))]
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
pub struct Object<T>(pub T);

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

/// The body of a request as text, decompressed, at most `max_bytes` of it.
///
/// # Errors
/// 413 where it is larger, 415 where its `content-type` is none of `accepted` or its `content-encoding` is another one than gzip,
/// 400 where it is not UTF-8.
pub fn text<'a>(
    request: &'a Request,
    accepted: &[&str],
    max_bytes: usize,
) -> Result<Cow<'a, str>, ApiError> {
    let text = untyped(request, max_bytes)?;
    let media_type = media_type(request);
    if !text.is_empty() && !media_type.is_empty() && !accepted.contains(&media_type.as_str()) {
        return Err(ApiError::unsupported_media_type(&accepted.join(" or ")));
    }
    Ok(text)
}

fn untyped(request: &Request, max_bytes: usize) -> Result<Cow<'_, str>, ApiError> {
    let bytes = request
        .body()
        .ok_or_else(|| ApiError::bad_request("The body cannot be read: it is not base64."))?;
    let coding = request.header("content-encoding").trim();
    let bytes = match coding.to_ascii_lowercase().as_str() {
        "" | "identity" => bytes,
        // The same coding by its old name (RFC 9110, section 8.4.1.3).
        "gzip" | "x-gzip" => Cow::Owned(gunzip(&bytes, max_bytes)?),
        _ => return Err(ApiError::unsupported_encoding()),
    };
    if bytes.len() > max_bytes {
        return Err(ApiError::payload_too_large(max_bytes));
    }
    if is_utf16(&bytes) {
        return Err(ApiError::bad_request(
            "The body is UTF-16; send it as UTF-8.",
        ));
    }
    // Editors and .NET write a byte order mark before UTF-8, and a parser may ignore it (RFC 8259, section 8.1).
    let is_marked = bytes.starts_with(BYTE_ORDER_MARK);
    let start = if is_marked { BYTE_ORDER_MARK.len() } else { 0 };
    let text = match bytes {
        Cow::Borrowed(bytes) => str::from_utf8(&bytes[start..]).ok().map(Cow::Borrowed),
        Cow::Owned(mut bytes) => {
            bytes.drain(..start);
            String::from_utf8(bytes).ok().map(Cow::Owned)
        }
    };
    text.ok_or_else(|| ApiError::bad_request("The body is not UTF-8."))
}

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a gzip body holds: never more than a byte beyond `max_bytes` is decompressed, whatever it would come to.
fn gunzip(bytes: &[u8], max_bytes: usize) -> Result<Vec<u8>, ApiError> {
    let mut plain = Vec::new();
    let mut decoder = MultiGzDecoder::new(bytes).take(max_bytes as u64 + 1);
    match decoder.read_to_end(&mut plain) {
        Ok(_) => Ok(plain),
        Err(_) => Err(ApiError::bad_request(
            "The body is not gzip, though content-encoding says so.",
        )),
    }
}

/// Whether bytes are UTF-16: by its byte order mark, or by the zero next to the first character of any JSON.
fn is_utf16(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 1..=127, ..] | [1..=127, 0, ..]
    )
}

/// The media type of the body, without its parameters, in lower case; empty where none is given.
pub fn media_type(request: &Request) -> String {
    request
        .header("content-type")
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
    parse(&text).map_err(ApiError::bad_request)
}

/// Reads a JSON object; the error is a sentence that names the field.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    // Only an error needs the field's name, which takes as long to keep as all the rest.
    if let Ok(Object(value)) = serde_json::from_str(text) {
        return Ok(value);
    }
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

/// Reads a JSON body that may be left out: what it would say then is the default.
///
/// # Errors
/// Those of [`json`].
pub fn optional<T: DeserializeOwned + Default>(request: &Request) -> Result<T, ApiError> {
    let text = untyped(request, MAX_BODY_BYTES)?;
    match text.trim().is_empty() {
        true => Ok(T::default()),
        false => json(request),
    }
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
    parse::<Nothing>(&text).map(|_| ()).map_err(|reason| {
        ApiError::bad_request(format!("The body must be empty or {{}}: {reason}"))
    })
}

#[cfg(test)]
mod tests;
