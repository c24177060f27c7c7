//! Publishing: events go straight to the ingest queue, in batches, each payload byte for byte.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::digest;
use domain::event::{Event, check_name, check_payload, names_an_event};
use domain::metric::Metric;
use domain::tasks::{self, IngestTask};
use http::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::bodies::{self, Object, PublishedEvent};
use crate::error::{ApiError, EventError};
use crate::request::Request;
use crate::{App, responses};

/// How many events one request can have (docs/api.md, Integrations).
const MAX_EVENTS: usize = 500;
/// How much of events goes into one message, unless a single one is larger.
const MAX_TASK_BYTES: usize = 256 * 1024;
/// What an event takes in a message besides its payload: id, name and punctuation.
const EVENT_OVERHEAD_BYTES: usize = 256;

#[derive(Serialize)]
struct Accepted {
    id: String,
}

/// `POST /api/v1/org/events`: one event, a JSON array of events, or newline-delimited JSON.
pub async fn publish(
    app: &App,
    tenant: &str,
    request: &Request,
    request_id: &str,
) -> Result<Response<String>, ApiError> {
    let text = bodies::text(
        request,
        &[
            "application/json",
            "application/x-ndjson",
            "application/ndjson",
        ],
        bodies::MAX_EVENTS_BYTES,
    )?;
    let is_lines = bodies::media_type(request).ends_with("ndjson");
    let key = idempotency_key(request)?;
    let ids = |index, name: &str, payload: &str| match key {
        Some(key) => derived_id(tenant, key, index, name, payload),
        None => Uuid::now_v7(),
    };
    let events = read_with(&text, is_lines, ids)?;
    let accepted: Vec<Accepted> = events
        .iter()
        .map(|event| Accepted {
            id: event.id.clone(),
        })
        .collect();
    let mut messages = Vec::new();
    for events in chunks(events) {
        messages.push(tasks::message(
            &IngestTask {
                tenant: tenant.to_owned(),
                request_id: Some(request_id.to_owned()),
                events,
            },
            Duration::ZERO,
        )?);
    }
    let trace = request.trace();
    app.ingest_queue.send_in(messages, trace.as_ref()).await?;
    app.metrics.concern(tenant, "");
    app.metrics.count(Metric::EventsAccepted, accepted.len());
    let ids: Vec<&str> = accepted.iter().map(|it| it.id.as_str()).collect();
    let (count, event) = (ids.len(), ids.join(" "));
    tracing::info!(tenant, request_id, count, event, "accepted");
    responses::accepted(&serde_json::json!({ "accepted": accepted }))
}

/// Reads and checks every event of a body, newline-delimited where `is_lines`; one that is bad refuses them all.
///
/// # Errors
/// 400 with the index of each bad event.
pub fn read(text: &str, is_lines: bool) -> Result<Vec<Event>, ApiError> {
    read_with(text, is_lines, |_, _, _| Uuid::now_v7())
}

/// As [`read`]; an event without an id gets the one that `new_id` makes of its index, name and payload.
fn read_with(
    text: &str,
    is_lines: bool,
    new_id: impl Fn(usize, &str, &str) -> Uuid,
) -> Result<Vec<Event>, ApiError> {
    let parsed = parse(text, is_lines)?;
    let count = parsed.len();
    let (mut events, mut errors) = (Vec::with_capacity(count), Vec::new());
    for (index, parsed) in parsed.into_iter().enumerate() {
        let new_id = |name: &str, payload: &str| new_id(index, name, payload);
        match parsed.and_then(|published| event(published, new_id)) {
            Ok(event) => events.push(event),
            Err(message) => errors.push(EventError { index, message }),
        }
    }
    if errors.is_empty() {
        errors.extend(reused_ids(&events));
    }
    let Some(first) = errors.first() else {
        return Ok(events);
    };
    let message = format!(
        "{} of {count} events are bad, and none was accepted. Event {}: {}",
        errors.len(),
        first.index,
        first.message
    );
    Err(ApiError::bad_events(message, errors))
}

/// The events of a body, 1 to [`MAX_EVENTS`], each with what is wrong with its JSON.
fn parse(text: &str, is_lines: bool) -> Result<Vec<Result<PublishedEvent, String>>, ApiError> {
    if is_lines {
        let lines: Vec<&str> = text.lines().filter(|it| !it.trim().is_empty()).collect();
        check_count(lines.len())?;
        return Ok(lines.into_iter().map(bodies::parse).collect());
    }
    if !text.trim_start().starts_with('[') {
        return Ok(vec![bodies::parse(text)]);
    }
    // At once, and one by one only to say which of them are wrong.
    if let Ok(objects) = serde_json::from_str::<Vec<Object<PublishedEvent>>>(text) {
        check_count(objects.len())?;
        return Ok(objects.into_iter().map(|Object(event)| Ok(event)).collect());
    }
    let texts: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|error| ApiError::bad_request(error.to_string()))?;
    check_count(texts.len())?;
    Ok(texts.iter().map(|it| bodies::parse(it.get())).collect())
}

fn check_count(count: usize) -> Result<(), ApiError> {
    match count {
        0 => Err(ApiError::bad_request("The body has no events.")),
        1..=MAX_EVENTS => Ok(()),
        _ => Err(ApiError::bad_request(format!(
            "The body has {count} events; a request takes at most {MAX_EVENTS}."
        ))),
    }
}

/// Checks an event.
fn event(published: PublishedEvent, new_id: impl Fn(&str, &str) -> Uuid) -> Result<Event, String> {
    let PublishedEvent { id, name, payload } = published;
    let id = match id {
        Some(id) => Uuid::try_parse(&id)
            .ok()
            .filter(names_an_event)
            .ok_or_else(|| {
                "id must be a UUID of the event's own, such as 6a7e8feb-b491-4cf7-a9f1-bf3703467718; or leave it out"
                    .to_owned()
            })?,
        None => new_id(&name, payload.get()),
    };
    check_name(&name).map_err(|reason| format!("name {reason}"))?;
    check_payload(&payload).map_err(|reason| format!("payload {reason}"))?;
    Ok(Event {
        id: id.to_string(),
        name,
        payload,
    })
}

/// The longest `Idempotency-Key`.
const MAX_KEY_CHARS: usize = 255;

/// The header `Idempotency-Key`; none where it is not there.
fn idempotency_key(request: &Request) -> Result<Option<&str>, ApiError> {
    let Some(key) = request.given("idempotency-key") else {
        return Ok(None);
    };
    let is_key = (1..=MAX_KEY_CHARS).contains(&key.len());
    if !is_key || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ApiError::bad_field(
            "Idempotency-Key",
            format!("must have 1 to {MAX_KEY_CHARS} visible ASCII characters"),
        ));
    }
    Ok(Some(key))
}

/// The id of an event of a request with an idempotency key: the same whenever that request is sent again, so that nothing has to be
/// remembered. It is made of the event as well, since a key that is used for another one must not make it a repeat.
fn derived_id(tenant: &str, key: &str, index: usize, name: &str, payload: &str) -> Uuid {
    let mut digest = digest::Context::new(&digest::SHA256);
    for part in [tenant, key, &index.to_string(), name, payload] {
        digest.update(part.len().to_string().as_bytes());
        digest.update(b":");
        digest.update(part.as_bytes());
    }
    let digest = digest.finish();
    let bytes = digest.as_ref().first_chunk().copied().unwrap_or_default();
    Uuid::new_v8(bytes)
}

/// The events of a request whose id another event before them has. The same event twice is taken once; two different ones
/// could not be distinguished later, and one would be lost.
fn reused_ids(events: &[Event]) -> Vec<EventError> {
    let mut seen: HashMap<&str, (usize, &Event)> = HashMap::new();
    let mut errors = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let (first, before) = *seen.entry(&event.id).or_insert((index, event));
        if before.name != event.name || before.payload.get() != event.payload.get() {
            let message =
                format!("id is that of event {first}, which is another event; give each its own");
            errors.push(EventError { index, message });
        }
    }
    errors
}

/// Puts events into parts of at most [`MAX_TASK_BYTES`], in order.
fn chunks(events: Vec<Event>) -> Vec<Vec<Event>> {
    let mut chunks: Vec<Vec<Event>> = Vec::new();
    let mut bytes = 0;
    for event in events {
        let size = event.payload.get().len() + EVENT_OVERHEAD_BYTES;
        match chunks.last_mut() {
            Some(chunk) if bytes + size <= MAX_TASK_BYTES => {
                bytes += size;
                chunk.push(event);
            }
            _ => {
                bytes = size;
                chunks.push(vec![event]);
            }
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str, is_lines: bool) -> Vec<String> {
        read(text, is_lines)
            .unwrap()
            .into_iter()
            .map(|event| event.name)
            .collect()
    }

    #[test]
    fn an_id_names_one_event() {
        let id = "6a7e8feb-b491-4cf7-a9f1-bf3703467718";
        let event = |id: &str, payload: &str| {
            format!(r#"{{"id":"{id}","name":"a.b","payload":{payload}}}"#)
        };
        let indexes = |events: &[String]| -> Vec<usize> {
            let Err(error) = read(&events.join("\n"), true) else {
                return Vec::new();
            };
            let answer = error.render("r");
            assert_eq!(answer.status(), 400);
            let body: serde_json::Value = serde_json::from_str(answer.body()).unwrap();
            let errors = body["errors"].as_array().unwrap();
            let index = |error: &serde_json::Value| error["index"].as_u64().unwrap() as usize;
            errors.iter().map(index).collect()
        };
        for nothing in [Uuid::nil(), Uuid::max()] {
            for text in [nothing.to_string(), nothing.simple().to_string()] {
                let events = [event(id, "{}"), event(&text, "{}")];
                assert_eq!(indexes(&events), [1], "{text}");
            }
        }
        assert_eq!(indexes(&[event(id, "{}"), event(id, "{}")]), [0; 0]);
        let upper = id.to_uppercase();
        let events = [event(id, "{}"), event(&upper, "{\"a\":1}"), event(id, "{}")];
        assert_eq!(indexes(&events), [1]);
    }

    #[test]
    fn an_idempotency_key_gives_the_same_events_the_same_ids() {
        let ids = |key: &str, text: &str| -> Vec<String> {
            let id =
                |index, name: &str, payload: &str| derived_id("acme", key, index, name, payload);
            let events = read_with(text, true, id).unwrap();
            events.into_iter().map(|event| event.id).collect()
        };
        let one = r#"{"name":"a.b","payload":{"n":1}}"#;
        let twice = format!("{one}\n{one}");
        let first = ids("k", &twice);
        assert_eq!(first, ids("k", &twice));
        assert_ne!(first[0], first[1], "two events that look the same are two");
        assert_ne!(first[0], ids("other", one)[0]);
        assert_ne!(first[0], ids("k", &one.replace('1', "2"))[0]);
        assert_eq!(Uuid::try_parse(&first[0]).unwrap().get_version_num(), 8);
        let given = r#"{"id":"6a7e8feb-b491-4cf7-a9f1-bf3703467718","name":"a.b","payload":{}}"#;
        assert_eq!(ids("k", given), ["6a7e8feb-b491-4cf7-a9f1-bf3703467718"]);
        let key = |key: &str| {
            let event = serde_json::json!({"headers": {"idempotency-key": key}});
            let request: Request = serde_json::from_value(event).unwrap();
            idempotency_key(&request)
                .map(|key| key.map(str::to_owned))
                .ok()
        };
        assert_eq!(key(""), None);
        let none: Request = serde_json::from_str("{}").unwrap();
        assert_eq!(idempotency_key(&none).ok(), Some(None));
        assert_eq!(key("4f-1"), Some(Some("4f-1".to_owned())));
        assert_eq!(key(&"k".repeat(256)), None);
        assert_eq!(key("with a blank"), None);
    }

    #[test]
    fn one_event_an_array_or_lines() {
        assert_eq!(names(r#"{"name":"a.b","payload":{}}"#, false), ["a.b"]);
        assert_eq!(
            names(
                r#" [{"name":"a.b","payload":{}},{"name":"c.d","payload":{}}]"#,
                false
            ),
            ["a.b", "c.d"]
        );
        assert_eq!(
            names(
                "{\"name\":\"a.b\",\"payload\":{}}\r\n\n{\"name\":\"c.d\",\"payload\":{}}\n",
                true
            ),
            ["a.b", "c.d"]
        );
    }

    #[test]
    fn payloads_keep_their_bytes_and_ids_their_value() {
        let payload =
            r#"{"price":1.10,"big":12345678901234567890,"e":1e400,"u":"\u00e9 é","z":1,"a":2}"#;
        let text = format!(
            r#"[{{"id":"6A7E8FEB-B491-4CF7-A9F1-BF3703467718","name":"a.b","payload":{payload}}}]"#
        );
        let events = read(&text, false).unwrap();
        assert_eq!(events[0].payload.get(), payload);
        assert_eq!(events[0].id, "6a7e8feb-b491-4cf7-a9f1-bf3703467718");
    }

    #[test]
    fn one_bad_event_refuses_all() {
        for text in [
            "",
            "[]",
            "null",
            "7",
            "{}",
            r#"[{"name":"a.b","payload":{}},{"name":"A","payload":{}}]"#,
            r#"{"name":"a.b"}"#,
            r#"{"name":"a.b","payload":[]}"#,
            r#"{"name":"a.b","payload":{},"id":"7"}"#,
            r#"{"name":"a.b","payload":{},"tenant":"x"}"#,
            r#"[{"name":"a.b","payload":{}}"#,
            r#"[{"name":"a.b","payload":{}},null]"#,
        ] {
            assert!(read(text, false).is_err(), "{text}");
        }
        let many = format!(
            "[{}]",
            vec![r#"{"name":"a.b","payload":{}}"#; 501].join(",")
        );
        assert!(read(&many, false).is_err());
        let lines = "{\"name\":\"a.b\",\"payload\":{}}\n".repeat(501);
        assert!(read(&lines, true).is_err());
    }

    #[test]
    fn a_bad_event_of_an_array_is_named() {
        let message = |text: &str| {
            let error = read(text, false).expect_err(text).render("r");
            let body: serde_json::Value = serde_json::from_str(error.body()).unwrap();
            body["message"].as_str().unwrap().to_owned()
        };
        let good = r#"{"name":"a.b","payload":{}}"#;
        let second = message(&format!(r#"[{good},{{"name":"a.b"}},{good}]"#));
        assert!(second.contains("1 of 3 events are bad"), "{second}");
        assert!(second.contains("Event 1: "), "{second}");
        // By itself serde reads a struct from an array, too.
        let array = message(r#"[[null,"a.b",{}]]"#);
        assert!(array.contains("1 of 1 events are bad"), "{array}");
        let many = message(&format!("[{},null]", vec![good; 500].join(",")));
        assert!(many.contains("501 events"), "{many}");
    }

    #[test]
    fn messages_are_filled_up_to_their_size() {
        let event = |bytes: usize| Event {
            id: "1".into(),
            name: "a.b".into(),
            payload: RawValue::from_string(format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes))).unwrap(),
        };
        let sizes: Vec<usize> = chunks(vec![
            event(100_000),
            event(100_000),
            event(100_000),
            event(262_000),
            event(1),
        ])
        .iter()
        .map(Vec::len)
        .collect();
        assert_eq!(sizes, [2, 1, 1, 1]);
    }
}
