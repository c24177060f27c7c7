//! The whole document, and the tests that hold the committed file and the routes against it.

use std::collections::BTreeSet;

use domain::fate::EventStatus;
use serde_json::{Map, Value, json};
use strum::VariantArray;

use super::operations::operation;
use super::refusals::responses;
use super::schemas::{self, TIMESTAMP, reference};
use super::{DOCUMENT, examples};
use crate::routes::ROUTES;

const ABOUT: &str = "Delivers the events of a platform to its tenants: as webhooks, one POST per event, or as newline-delimited files in an S3 bucket.

**Tokens.** Every call but `/health` and `/openapi.json` needs an access token. The token names the tenant; there is no other way to name one.

**Errors.** The service responses `{\"error_code\", \"message\", \"request_id\"}`. Branch on `error_code`; `message` names the field and says how to mend it. What API Gateway refuses by itself has the body `{\"message\"}`: 401 without a valid token, 429 when there are too many requests, 503 when no capacity is left.

**Time.** RFC 3339 in UTC. Answers have milliseconds and `Z`.

**Additions.** Fields may be added to responses: ignore those that you do not know. Unknown fields in a body are a 400.";

/// Makes the document.
fn document() -> Value {
    let mut paths = Map::new();
    for (method, path, endpoint) in ROUTES {
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[method.to_lowercase()] = operation(method, endpoint);
    }
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Event stream configuration API",
            "version": "1.0.0",
            "summary": "Register webhooks and S3 exports, and publish events.",
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "Where this document came from." }],
        "security": [{ "accessToken": [] }],
        "tags": [
            { "name": "Integrations", "description": "Where events go, and which." },
            { "name": "Rejected events", "description": "Events that a receiver refused with 400. Up to 30 are kept for each integration; then the oldest is evicted." },
            { "name": "Events", "description": "Publishing." },
            { "name": "Service", "description": "The service itself. No token is needed." },
        ],
        "paths": paths,
        "webhooks": { "event": { "post": webhook() } },
        "components": {
            "securitySchemes": {
                "accessToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An OAuth 2.0 access token. The claim `tenant` names the tenant, or the one scope `tenant/<name>` of a machine client.",
                },
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`callback_parameters.api_key` of the integration, as it was registered.",
                },
            },
            "schemas": schemas::components(),
            "responses": responses(),
            "headers": {
                "ETag": {
                    "description": "Of the integration's settings: it changes when they do, and not with `status`, `health` or `pending`. For `If-Match`.",
                    "schema": { "type": "string" },
                },
                "RequestId": {
                    "description": "The request's id. It is also in the body of an error; include it when you report one.",
                    "schema": { "type": "string" },
                },
            },
            "parameters": {
                "IntegrationId": {
                    "name": "integration_id",
                    "in": "path",
                    "required": true,
                    "description": "Unique identifier of the integration.",
                    "schema": { "type": "string", "pattern": "^[a-z0-9-]+$", "minLength": 1, "maxLength": 50 },
                    "example": "erp-netsuite-integration-002",
                },
                "Cursor": {
                    "name": "cursor",
                    "in": "query",
                    "required": false,
                    "description": "Where the list continues: the `cursor` of the response before.",
                    "schema": { "type": "string", "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$" },
                },
                "From": query("from", "UTC timestamp from which on events are listed; without it, as long as events are kept.", json!({ "type": "string", "format": "date-time", "pattern": TIMESTAMP })),
                "To": query("to", "UTC timestamp until which events are listed, itself excluded; after `from`; without it, now.", json!({ "type": "string", "format": "date-time", "pattern": TIMESTAMP })),
                "PublishedAt": query("published_at", "When the event was published, as the list has it.", json!({ "type": "string", "format": "date-time", "pattern": TIMESTAMP })),
                "EventName": query("name", "Only events of this name.", json!({ "type": "string", "minLength": 1, "maxLength": 200 })),
                "EventStatus": query("status", "Only events of this status.", json!({ "type": "string", "enum": EventStatus::VARIANTS.iter().map(AsRef::as_ref).collect::<Vec<&str>>() })),
                "PayloadId": query("payload_id", "Only events whose payload has this `id`, as a text or as a number.", json!({ "type": "string", "minLength": 1, "maxLength": 200 })),
                "Limit": query("limit", "How many events a page has at the most.", json!({ "type": "integer", "minimum": 1, "maximum": 100, "default": 50 })),
                "EventCursor": query("cursor", "Where the list continues: the `cursor` of the response before. The other parameters have to be the same.", json!({ "type": "string", "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}(-[1-9][0-9]{0,8})?$" })),
                "IfMatch": {
                    "name": "If-Match",
                    "in": "header",
                    "required": false,
                    "description": "The `ETag` of the integration as you have read it: if its settings are others by now, nothing is changed, and the response is 412.",
                    "schema": { "type": "string", "pattern": "^(\\*|(W/)?\"[!#-+.-~-]*\"( *, *(W/)?\"[!#-+.-~-]*\")*)$" },
                },
                "IdempotencyKey": {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "required": false,
                    "description": "For events without ids: what makes their ids, together with each event's place, name and payload. Sent again, the request has the same events, which is safe.",
                    "schema": { "type": "string", "pattern": "^[!-~]+$", "minLength": 1, "maxLength": 255 },
                },
                "EventId": {
                    "name": "event_id",
                    "in": "path",
                    "required": true,
                    "description": "Unique identifier of the event.",
                    "schema": { "type": "string", "minLength": 1, "maxLength": 64 },
                    "example": "1a8a5052-8741-4daf-982e-e0a12990335a",
                },
            },
        },
    })
}

/// A parameter of a query.
fn query(name: &str, description: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "required": false, "description": description, "schema": schema })
}

/// What receivers get.
fn webhook() -> Value {
    let header = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "header", "required": true, "description": description, "schema": schema });
    json!({
        "summary": "An event",
        "operationId": "receiveEvent",
        "tags": ["Events"],
        "description": "Sent to the `callback_url` of every running webhook integration whose filter lets the event pass. At least once, in any order: recognise repeats by `webhook-id`. The body is the same, byte for byte, on every attempt. 5 seconds to connect, 15 for the whole exchange; redirects are not followed; of the answer's body 16 KiB are read.",
        "security": [{ "apiKey": [] }, {}],
        "parameters": [
            header("webhook-id", "The event's id: the same on every attempt.", json!({ "type": "string", "maxLength": 64 })),
            header("webhook-timestamp", "When this attempt was made, in seconds since 1970.", json!({ "type": "string", "pattern": "^[0-9]+$" })),
            json!({
                "name": "webhook-signature", "in": "header", "required": false, "schema": { "type": "string" },
                "description": "By Standard Webhooks 1.0: `v1,` and the base64 of HMAC-SHA256 over `webhook-id.webhook-timestamp.body`, with the bytes of the signing secret as the key. For a while after a rotation two of them, separated by a blank: one has to be right. Not there where the integration has no signing secret.",
                "example": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            }),
            json!({
                "name": "webhook-test", "in": "header", "required": false, "schema": { "const": "1" },
                "description": "Of sample events alone: this is a test of the integration, and nothing has happened.",
            }),
        ],
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": reference("Event"), "example": examples::envelope() } },
        },
        "responses": {
            "2XX": { "description": "Delivered." },
            "400": { "description": "The event is kept among the rejected events, and not sent again by itself." },
            "410": { "description": "The integration is stopped. Nothing is lost: it can be started again." },
            "default": { "description": "Anything else, or no response: the event is sent again after growing pauses of at most 15 minutes. `Retry-After` is honoured." },
        },
    })
}

/// The text of the file. What a reader looks for first comes first; below that, keys are sorted.
fn rendered() -> String {
    let document = document();
    let order = [
        "openapi",
        "info",
        "servers",
        "security",
        "tags",
        "paths",
        "webhooks",
        "components",
    ];
    assert_eq!(document.as_object().unwrap().len(), order.len());
    let parts = order.map(|key| {
        let value = serde_json::to_string_pretty(&document[key]).unwrap();
        format!("  \"{key}\": {}", value.replace('\n', "\n  "))
    });
    format!("{{\n{}\n}}\n", parts.join(",\n"))
}

/// Calls `visit` with every value in `value`, with the name that it has.
fn walk<'v>(name: &'v str, value: &'v Value, visit: &mut impl FnMut(&'v str, &'v Value)) {
    visit(name, value);
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, field)| walk(name, field, visit)),
        Value::Array(values) => values.iter().for_each(|value| walk(name, value, visit)),
        _ => {}
    }
}

mod tests {
    use super::*;

    #[test]
    fn the_committed_document_is_what_the_code_says() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi.json");
        if std::env::var_os("WRITE_OPENAPI").is_some() {
            std::fs::write(file, rendered()).unwrap();
            return;
        }
        assert!(
            DOCUMENT == rendered(),
            "openapi.json is not what the routes and types say. Write it again: make openapi"
        );
    }

    #[test]
    fn the_committed_document_and_the_route_table_name_the_same_operations() {
        let committed: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut documented = BTreeSet::new();
        for (path, item) in committed["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                documented.insert((method.to_uppercase(), path.clone()));
            }
        }
        let routed: BTreeSet<_> = ROUTES
            .into_iter()
            .map(|(method, path, _)| (method.to_owned(), path.to_owned()))
            .collect();
        assert_eq!(documented, routed);
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_component_is_used() {
        let document = document();
        let mut used = BTreeSet::new();
        walk("", &document, &mut |name, value| {
            if let ("$ref", Some(target)) = (name, value.as_str()) {
                let pointer = target.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{target}");
                used.insert(target.to_owned());
            }
        });
        for kind in ["schemas", "responses", "headers", "parameters"] {
            for name in document["components"][kind].as_object().unwrap().keys() {
                let target = format!("#/components/{kind}/{name}");
                assert!(used.contains(&target), "{target} is not used");
            }
        }
    }

    #[test]
    fn operations_have_ids_of_their_own() {
        let document = document();
        let mut ids = Vec::new();
        let groups = [&document["paths"], &document["webhooks"]];
        for item in groups
            .iter()
            .flat_map(|group| group.as_object().unwrap().values())
        {
            for operation in item.as_object().unwrap().values() {
                ids.push(operation["operationId"].as_str().unwrap());
            }
        }
        let distinct: BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        assert_eq!(ids.len(), ROUTES.len() + 1);
    }

    #[test]
    fn an_event_has_the_documented_fields() {
        let payload = serde_json::value::RawValue::from_string("{}".to_owned()).unwrap();
        let at = domain::time::Millis(0);
        let envelope = domain::event::envelope("acme", "a.b", at, &payload).unwrap();
        let event: Map<String, Value> = serde_json::from_str(envelope.get()).unwrap();
        let schemas = schemas::components();
        let documented: Vec<_> = schemas["Event"]["properties"]
            .as_object()
            .unwrap()
            .keys()
            .collect();
        assert_eq!(event.keys().collect::<Vec<_>>(), documented);
    }

    #[test]
    fn a_filter_in_an_answer_has_the_documented_fields() {
        let filter = domain::filter::Filter {
            event_filter: Some(Vec::new()),
            entity_filter: Some(Vec::new()),
        };
        let filter = json!(filter);
        let schemas = schemas::components();
        let documented = schemas["FilterConditions"]["properties"]
            .as_object()
            .unwrap();
        assert!(documented.keys().eq(filter.as_object().unwrap().keys()));
    }

    #[test]
    fn the_examples_of_bodies_are_read() {
        use crate::bodies::{Registration, Update, parse};
        for (_, example) in examples::registrations().as_object().unwrap() {
            parse::<Registration>(&example["value"].to_string()).unwrap();
        }
        for (_, example) in examples::updates().as_object().unwrap() {
            parse::<Update>(&example["value"].to_string()).unwrap();
        }
        for (_, example) in examples::publications().as_object().unwrap() {
            crate::publish::read(&example["value"].to_string(), false).unwrap();
        }
    }
}
