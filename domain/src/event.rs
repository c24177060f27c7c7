//! Events: their names, ids, sizes, and the envelope that receivers see.

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use crate::time::Millis;

/// The largest payload of one event: 256 KiB (docs/api.md, Publishing).
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

/// How deep a payload may be nested. The strictest parsers in common use stop at 64 levels, and an envelope is one itself.
pub const MAX_PAYLOAD_DEPTH: usize = 50;

/// The longest event name; long enough for any `entity.event`, short enough for a DynamoDB attribute.
pub const MAX_NAME_CHARS: usize = 128;

/// An event as a publisher hands it over: not yet accepted, so without `published_at`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Event {
    /// The event's id: the publisher's, EventBridge's, or one made by the API. Goes into `webhook-id`.
    pub id: String,
    /// `entity.event`, for example `order.created`.
    pub name: String,
    /// The payload, byte for byte as the producer wrote it.
    pub payload: Box<RawValue>,
}

/// The envelope of a sample event: its payload says that it is one.
pub fn sample(tenant: &str, name: &str, now: Millis) -> String {
    const PAYLOAD: &str = r#"{"test":true,"message":"This is a sample event, sent by a test of the integration. Nothing has happened."}"#;
    let payload = serde_json::from_str(PAYLOAD);
    let sample = payload.and_then(|payload| envelope(tenant, name, now, payload));
    sample.map_or_else(|_| String::new(), |sample| sample.get().to_owned())
}

/// The payload of an envelope, byte for byte.
///
/// # Errors
/// When it is no envelope.
pub fn payload_of(envelope: &str) -> serde_json::Result<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Envelope {
        payload: Box<RawValue>,
    }
    serde_json::from_str(envelope).map(|envelope: Envelope| envelope.payload)
}

/// Checks an event's name: `^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$`, at most [`MAX_NAME_CHARS`].
///
/// # Errors
/// A sentence for the caller.
pub fn check_name(name: &str) -> Result<(), String> {
    let well_formed = name
        .split_once('.')
        .is_some_and(|(entity, event)| is_name_part(entity) && is_name_part(event));
    if !well_formed || name.len() > MAX_NAME_CHARS {
        return Err(format!(
            "must have the form entity.event in lower case, such as order.created, with at most {MAX_NAME_CHARS} characters"
        ));
    }
    Ok(())
}

/// Whether a UUID can be an event's id: the nil and the max UUID mean that there is none (RFC 9562, sections 5.9 and 5.10), so
/// that all events with such an id would count as one.
pub fn names_an_event(id: &Uuid) -> bool {
    !id.is_nil() && !id.is_max()
}

/// Whether `part` is one half of a name: `^[a-z][a-z0-9_]*$`.
pub fn is_name_part(part: &str) -> bool {
    let mut bytes = part.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Checks a tenant's name: `^[a-z0-9][a-z0-9-]{0,62}$`, since it becomes part of keys, scopes and object paths.
pub fn is_tenant(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes[0] != b'-'
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

/// Checks a payload: a JSON object of at most [`MAX_PAYLOAD_BYTES`] and [`MAX_PAYLOAD_DEPTH`].
///
/// # Errors
/// A sentence for the caller.
pub fn check_payload(payload: &RawValue) -> Result<(), String> {
    if !payload.get().starts_with('{') {
        return Err("must be a JSON object".to_owned());
    }
    if payload.get().len() > MAX_PAYLOAD_BYTES {
        return Err(format!(
            "must not be larger than {MAX_PAYLOAD_BYTES} bytes, but has {}",
            payload.get().len()
        ));
    }
    // A payload without so many brackets, strings included, cannot be nested so deeply.
    let mut brackets = memchr::memchr2_iter(b'{', b'[', payload.get().as_bytes());
    if brackets.nth(MAX_PAYLOAD_DEPTH).is_some() && depth(payload.get()) > MAX_PAYLOAD_DEPTH {
        return Err(format!(
            "must not be nested deeper than {MAX_PAYLOAD_DEPTH} levels"
        ));
    }
    Ok(())
}

/// How deep a JSON text is nested: 1 for `{}`. A scan without recursion: no depth can exhaust the stack.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_string,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The entity of an event's name: the text before the dot.
pub fn entity(name: &str) -> &str {
    name.split_once('.').map_or(name, |(entity, _)| entity)
}

/// The envelope of an event: the body of a webhook and, with a newline behind it, a line of an export.
///
/// The payload's bytes are as they were, but for CR and LF: JSON allows them only between tokens, where they mean as much as the
/// space that replaces them, and a line of a newline-delimited file cannot hold them.
///
/// # Errors
/// None that is known of: writing JSON may fail by its signature alone.
pub fn envelope(
    tenant: &str,
    name: &str,
    published_at: Millis,
    payload: &RawValue,
) -> serde_json::Result<Box<RawValue>> {
    #[derive(Serialize)]
    struct Envelope<'a> {
        tenant: &'a str,
        name: &'a str,
        published_at: String,
        payload: &'a RawValue,
    }
    let text = payload.get();
    let in_one_line;
    let payload = match memchr::memchr2(b'\n', b'\r', text.as_bytes()) {
        None => payload,
        Some(_) => {
            in_one_line = RawValue::from_string(text.replace(['\n', '\r'], " "))?;
            &in_one_line
        }
    };
    // Written as a value, it is known to be JSON, and not read once more to find out.
    to_raw_value(&Envelope {
        tenant,
        name,
        published_at: published_at.to_string(),
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn an_envelope_keeps_the_payloads_bytes() {
        let payload =
            r#"{"price":1.10,"big":12345678901234567890,"e":1e400,"u":"\u00e9 é","z":1,"a":2}"#;
        let at = Millis(1_262_347_200_000);
        assert_eq!(
            envelope("acme", "order.created", at, &raw(payload))
                .unwrap()
                .get(),
            format!(
                r#"{{"tenant":"acme","name":"order.created","published_at":"2010-01-01T12:00:00.000Z","payload":{payload}}}"#
            )
        );
    }

    #[test]
    fn line_breaks_between_tokens_become_spaces_and_escaped_ones_stay() {
        let payload = raw("{\r\n \"a\" :\n\"x\\ny\"}");
        let envelope = envelope("acme", "a.b", Millis(0), &payload).unwrap();
        let text = envelope.get();
        assert!(
            text.ends_with("\"payload\":{   \"a\" : \"x\\ny\"}}"),
            "{text}"
        );
    }

    #[test]
    fn nil_and_max_name_no_event() {
        assert!(!names_an_event(&Uuid::nil()) && !names_an_event(&Uuid::max()));
        assert!(names_an_event(&Uuid::from_u128(1)));
    }

    #[test]
    fn names_have_an_entity_and_an_event() {
        for name in [
            "order.created",
            "fulfillment_request.items_ready_for_handover",
            "a.b",
            "a1_.b_2",
        ] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in [
            "",
            "order",
            "order.",
            ".created",
            "Order.created",
            "1a.b",
            "a.b.c",
            "a-b.c",
            "a.b ",
            "_a.b",
            "a.é",
            &format!("a.{}", "b".repeat(127)),
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert_eq!(entity("order.created"), "order");
    }

    #[test]
    fn tenants_are_safe_in_keys_scopes_and_paths() {
        for name in ["acme", "0", "a-b", &"a".repeat(63)] {
            assert!(is_tenant(name), "{name}");
        }
        for name in ["", "-a", "Acme", "a#b", "a/b", "a b", "ä", &"a".repeat(64)] {
            assert!(!is_tenant(name), "{name}");
        }
    }

    #[test]
    fn payloads_are_objects_of_bounded_size() {
        assert_eq!(check_payload(&raw("{}")), Ok(()));
        assert!(check_payload(&raw("[]")).is_err());
        assert!(check_payload(&raw("null")).is_err());
        let largest = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_PAYLOAD_BYTES - 8));
        assert_eq!(check_payload(&raw(&largest)), Ok(()));
        assert!(check_payload(&raw(&largest.replace("\"a\"", "\"aa\""))).is_err());
    }

    #[test]
    fn payloads_are_nested_50_levels_at_the_most() {
        let nested = |levels: usize| {
            let inner = "[".repeat(levels - 1) + &"]".repeat(levels - 1);
            raw(&format!(
                r#"{{"a\\":"{{[\"{{","b":{}}}"#,
                if levels > 1 { &inner } else { "1" }
            ))
        };
        assert_eq!(check_payload(&nested(1)), Ok(()));
        assert_eq!(check_payload(&nested(50)), Ok(()));
        assert!(check_payload(&nested(51)).is_err());
        assert!(check_payload(&nested(100_000)).is_err());
        assert_eq!(depth(r#"{"a":[{}],"b":{"c":{}}}"#), 3);
    }
}
