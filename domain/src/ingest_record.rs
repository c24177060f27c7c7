//! What a record of the ingest queue holds, in the two forms in which events reach it: EventBridge's envelope, and the API's task.

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::event::{Event, check_name, check_payload, is_tenant, names_an_event};
use crate::tasks::IngestTask;

/// The longest event id; EventBridge's and the API's are UUIDs of 36 characters.
const MAX_ID_CHARS: usize = 64;

/// What a record holds.
#[derive(Debug, Default)]
pub struct Read {
    /// The tenant of the events.
    pub tenant: String,
    /// The request in which the API accepted them.
    pub request_id: Option<String>,
    /// Events to be taken in.
    pub events: Vec<Event>,
    /// What cannot be taken in, each as a text for the dead-letter queue: the record, or single events of it.
    pub unreadable: Vec<String>,
    /// Why.
    pub reasons: Vec<String>,
}

/// The fields of both forms, so that a record is read once: `detail-type` distinguishes them.
#[derive(Deserialize)]
struct Form {
    tenant: Option<String>,
    request_id: Option<String>,
    events: Option<Vec<Event>>,
    #[serde(rename = "detail-type")]
    detail_type: Option<String>,
    id: Option<String>,
    detail: Option<Detail>,
}

/// What the platform puts on the bus.
#[derive(Deserialize)]
struct Detail {
    tenant: String,
    payload: Box<RawValue>,
}

/// Reads a record of the ingest queue. Of the API's task, bad events are left out and the others are kept.
pub fn read(body: &str) -> Read {
    let task = match task(body) {
        Ok(task) => task,
        Err(reason) => {
            return Read {
                unreadable: vec![body.to_owned()],
                reasons: vec![reason],
                ..Read::default()
            };
        }
    };
    let mut read = Read {
        tenant: task.tenant,
        request_id: task.request_id,
        ..Read::default()
    };
    for event in task.events {
        match check(&read.tenant, &event) {
            Ok(()) => read.events.push(event),
            Err(reason) => {
                let single = IngestTask {
                    tenant: read.tenant.clone(),
                    request_id: read.request_id.clone(),
                    events: vec![event],
                };
                read.unreadable
                    .push(serde_json::to_string(&single).unwrap_or_else(|_| body.to_owned()));
                read.reasons.push(reason);
            }
        }
    }
    read
}

fn task(body: &str) -> Result<IngestTask, String> {
    let missing = |name: &str| format!("missing field `{name}`");
    let form: Form = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let Some(name) = form.detail_type else {
        return Ok(IngestTask {
            tenant: form.tenant.ok_or_else(|| missing("tenant"))?,
            request_id: form.request_id,
            events: form.events.ok_or_else(|| missing("events"))?,
        });
    };
    let Detail { tenant, payload } = form.detail.ok_or_else(|| missing("detail"))?;
    let id = form.id.ok_or_else(|| missing("id"))?;
    let event = Event { id, name, payload };
    Ok(IngestTask {
        tenant,
        request_id: None,
        events: vec![event],
    })
}

fn check(tenant: &str, event: &Event) -> Result<(), String> {
    if !is_tenant(tenant) {
        return Err("the tenant's name is not one".to_owned());
    }
    if event.id.is_empty()
        || event.id.len() > MAX_ID_CHARS
        || !event.id.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err("the id is not 1 to 64 visible ASCII characters".to_owned());
    }
    // Any text may be an id here; one that is a UUID has to name something.
    if Uuid::try_parse(&event.id).is_ok_and(|id| !names_an_event(&id)) {
        return Err("the id names nothing".to_owned());
    }
    check_name(&event.name).map_err(|reason| format!("the name {reason}"))?;
    check_payload(&event.payload).map_err(|reason| format!("the payload {reason}"))
}

#[cfg(test)]
mod tests {
    use properties::{Random, RngExt};

    use super::*;

    #[test]
    fn both_forms_are_read_with_their_payloads_bytes() {
        let payload =
            r#"{"price":1.10,"big":12345678901234567890,"e":1e400,"u":"\u00e9 é","z":1,"a":2}"#;
        let bus = format!(
            r#"{{"version":"0","id":"6a7e8feb-b491-4cf7-a9f1-bf3703467718","detail-type":"order.created","source":"shop","account":"1","time":"2026-01-01T00:00:00Z","region":"eu-west-1","resources":[],"detail":{{"tenant":"acme","payload":{payload}}}}}"#
        );
        let api = format!(
            r#"{{"tenant":"acme","events":[{{"id":"6a7e8feb-b491-4cf7-a9f1-bf3703467718","name":"order.created","payload":{payload}}}]}}"#
        );
        for body in [bus, api] {
            let read = read(&body);
            assert_eq!(read.tenant, "acme");
            assert_eq!(read.events.len(), 1, "{:?}", read.reasons);
            assert_eq!(read.events[0].id, "6a7e8feb-b491-4cf7-a9f1-bf3703467718");
            assert_eq!(read.events[0].name, "order.created");
            assert_eq!(read.events[0].payload.get(), payload);
            assert!(read.unreadable.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_read_is_kept_as_it_came() {
        for body in [
            "",
            "null",
            "[]",
            "{",
            "{}",
            r#"{"tenant":"acme"}"#,
            r#"{"detail-type":"order.created","id":"1","detail":{}}"#,
            r#"{"detail-type":"order.created","id":"1","detail":{"tenant":7,"payload":{}}}"#,
        ] {
            let read = read(body);
            assert_eq!(read.unreadable, [body], "{body}");
            assert!(read.events.is_empty());
        }
    }

    #[test]
    fn a_bad_event_is_left_out_and_the_others_are_kept() {
        let read = read(
            r#"{"tenant":"acme","events":[{"id":"1","name":"order.created","payload":{}},{"id":"2","name":"Order","payload":{}},{"id":"3","name":"a.b","payload":[]},{"id":"","name":"a.b","payload":{}}]}"#,
        );
        assert_eq!(
            read.events
                .iter()
                .map(|event| event.id.as_str())
                .collect::<Vec<_>>(),
            ["1"]
        );
        assert_eq!(
            read.unreadable[0],
            r#"{"tenant":"acme","events":[{"id":"2","name":"Order","payload":{}}]}"#
        );
        assert_eq!(read.unreadable.len(), 3);
    }

    #[test]
    fn an_id_that_names_nothing_is_refused() {
        for id in [Uuid::nil(), Uuid::max()] {
            let body = format!(
                r#"{{"detail-type":"a.b","id":"{id}","detail":{{"tenant":"acme","payload":{{}}}}}}"#
            );
            let read = read(&body);
            assert!(read.events.is_empty());
            assert_eq!(read.reasons, ["the id names nothing"]);
        }
    }

    #[test]
    fn events_of_no_tenant_are_refused() {
        let body = |tenant: &str| {
            format!(
                r#"{{"detail-type":"a.b","id":"1","detail":{{"tenant":"{tenant}","payload":{{}}}}}}"#
            )
        };
        assert_eq!(read(&body("acme")).events.len(), 1);
        for tenant in ["", "Acme", "a#b", "a/b"] {
            assert_eq!(read(&body(tenant)).unreadable.len(), 1, "{tenant}");
        }
    }

    #[test]
    fn no_record_makes_it_panic_or_lose_an_event() {
        const WHOLE: [&str; 2] = [
            r#"{"detail-type":"a.b","id":"1","detail":{"tenant":"acme","payload":{"a":1}}}"#,
            r#"{"tenant":"acme","request_id":"r","events":[{"id":"1","name":"a.b","payload":{}},{"id":"2","name":"c","payload":[]}]}"#,
        ];
        let body = |random: &mut Random| {
            if random.random() {
                properties::spelled(
                    random,
                    "{}[]\":,abcdefghijklmnopqrstuvwxyz0123456789\\ ",
                    80,
                )
            } else {
                let whole = properties::one_of(random, &WHOLE);
                properties::damaged(random, whole, 4)
            }
        };
        properties::holds(body, |body| {
            let read = read(body);
            assert_eq!(read.reasons.len(), read.unreadable.len());
            match task(body) {
                Ok(task) => {
                    assert_eq!(read.events.len() + read.unreadable.len(), task.events.len())
                }
                Err(_) => assert!(read.events.is_empty() && read.unreadable == [body.as_str()]),
            }
        });
    }
}
