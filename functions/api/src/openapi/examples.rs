//! Examples of the document: those of the API page, with the URLs and masks that this service asks for and shows.

use serde_json::{Value, json};

/// Registrations.
pub fn registrations() -> Value {
    json!({
        "webhook": {
            "summary": "Create a webhook integration",
            "value": {
                "id": "erp-netsuite-integration-002",
                "integration_type": "permanent",
                "starts_at": "2019-01-17T12:00:00Z",
                "callback_parameters": {
                    "callback_url": "https://erp.example.com/events",
                    "api_key": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
                },
            },
        },
        "s3": {
            "summary": "Create an S3 integration",
            "value": {
                "id": "sap-s3-integration-002",
                "integration_type": "permanent",
                "starts_at": "2019-01-17T12:00:00Z",
                "s3_parameters": {
                    "aws_access_key_id": "some_s3_access_key_id",
                    "aws_secret_access_key": "some_s3_secret_key",
                    "aws_region": "us-east-1",
                    "bucket": "sap_export",
                    "key_prefix": "newstore_integration_002",
                },
            },
        },
        "s3_role": {
            "summary": "Create an S3 integration that writes through a role",
            "value": {
                "id": "sap-s3-integration-003",
                "integration_type": "permanent",
                "s3_parameters": {
                    "role_arn": "arn:aws:iam::123456789012:role/event-stream-exports",
                    "aws_region": "us-east-1",
                    "bucket": "sap_export",
                    "key_prefix": "newstore_integration_003",
                },
            },
        },
        "replay": {
            "summary": "Replay events by date",
            "value": {
                "id": "sap-integration-001",
                "integration_type": "temporary",
                "starts_at": "2019-01-17T12:00:00Z",
                "ends_at": "2019-02-21T23:59:00Z",
                "callback_parameters": {
                    "callback_url": "https://sap.example.com/events",
                    "api_key": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
                },
            },
        },
        "filtered": {
            "summary": "Only some events",
            "value": {
                "id": "erp-returns",
                "integration_type": "permanent",
                "callback_parameters": { "callback_url": "https://erp.example.com/events" },
                "filter_conditions": {
                    "event_filter": ["order.created", "order.items_cancelled"],
                    "entity_filter": ["return"],
                },
            },
        },
    })
}

/// Updates.
pub fn updates() -> Value {
    json!({
        "key": {
            "summary": "Another key",
            "value": {
                "callback_parameters": {
                    "callback_url": "https://erp.example.com/events",
                    "api_key": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
                },
            },
        },
        "filter": {
            "summary": "Only events of orders",
            "value": { "filter_conditions": { "entity_filter": ["order"] } },
        },
        "no_filter": {
            "summary": "All events again",
            "value": { "filter_conditions": null },
        },
    })
}

/// What is previewed.
pub fn previews() -> Value {
    json!({
        "day": { "summary": "All events of the last day", "value": {} },
        "replay": {
            "summary": "Orders of a month",
            "value": {
                "filter_conditions": { "entity_filter": ["order"] },
                "starts_at": "2019-01-17T12:00:00Z",
                "ends_at": "2019-02-17T12:00:00Z",
            },
        },
    })
}

/// What a preview counts.
pub fn preview() -> Value {
    json!({
        "matching": 1520,
        "events": 4711,
        "bytes": 3_891_200,
        "names": { "order.created": 1000, "order.paid": 520 },
        "first": [{ "id": "1a8a5052-8741-4daf-982e-e0a12990335a", "name": "order.created", "published_at": "2019-01-17T12:00:03.125Z" }],
        "counted_from": "2019-01-17T12:00:00.000Z",
        "counted_until": "2019-02-17T12:00:00.000Z",
        "is_complete": true,
        "replay_seconds": 8,
    })
}

/// Files of an integration.
pub fn files() -> Value {
    json!({
        "files": [{
            "bucket": "sap_export",
            "key": "newstore_integration_002/acme/1547726700000-data-01d1d6k8e0v5m3n1q2r4s6t8w0.export",
            "created_at": "2019-01-17T12:05:02.250Z",
            "lines": 1520,
            "bytes": 3_891_200,
            "crc64": "9a6c2f1b3d4e5f60",
            "from": "01D1D6A3R00000000000000000",
            "until": "01D1D6K8C00000000000000000",
            "published_from": "2019-01-17T11:59:40.000Z",
            "published_until": "2019-01-17T12:04:40.000Z",
        }],
    })
}

/// Tests of an integration.
pub fn tests() -> Value {
    json!({
        "default": { "summary": "A sample of the first event of the filter", "value": {} },
        "named": { "summary": "A sample of another event", "value": { "name": "return.processed" } },
    })
}

/// What came of a test.
pub fn verdict() -> Value {
    json!({
        "is_delivered": false,
        "reason": "unauthorized (HTTP status code 401)",
        "event_id": "0b5d2c0e-6d3c-4f43-9d0e-6f4d7c1b2a90",
        "event_name": "order.created",
        "latency_ms": 84,
        "status_code": 401,
        "response": "{\"error\":\"unknown api key\"}",
        "tls": { "version": "TLS 1.3", "certificate_expires_at": "2019-04-17T12:00:00.000Z" },
    })
}

/// What a receiver has been sent.
pub fn activity() -> Value {
    json!({
        "activity": [{
            "from": "2019-01-17T12:00:00.000Z",
            "until": "2019-01-17T12:05:00.000Z",
            "delivered": 1520,
            "failed": 3,
            "rejected": 1,
            "latency_p50_ms": 100,
            "latency_p99_ms": 500,
        }],
        "as_of": "2019-01-17T12:04:10.250Z",
    })
}

/// Events of an integration.
pub fn events() -> Value {
    json!({
        "events": [
            {
                "id": "1a8a5052-8741-4daf-982e-e0a12990335a",
                "name": "order.created",
                "published_at": "2019-01-17T12:00:03.125Z",
                "status": "retrying",
                "is_certain": true,
                "attempts": 2,
                "next_attempt_at": "2019-01-17T12:00:31.000Z",
                "reason": "internal server error (HTTP status code 500)",
            },
            {
                "id": "7c9a2f4e-3d51-4d0a-8a3b-2f1f0f6f9d11",
                "name": "order.paid",
                "published_at": "2019-01-17T12:00:01.500Z",
                "status": "delivered",
                "is_certain": true,
            },
        ],
        "as_of": "2019-01-17T12:00:20.000Z",
        "read_from": "2019-01-17T11:59:58.250Z",
        "cursor": "01D1D6A3R00000000000000000",
    })
}

/// An event with its payload.
pub fn event_details() -> Value {
    json!({
        "id": "1a8a5052-8741-4daf-982e-e0a12990335a",
        "name": "order.created",
        "published_at": "2019-01-17T12:00:03.125Z",
        "status": "delivered",
        "is_certain": true,
        "as_of": "2019-01-17T12:00:20.000Z",
        "payload": { "number": "R1" },
    })
}

/// Rotations of a signing secret.
pub fn rotations() -> Value {
    json!({
        "default": { "summary": "The secret before signs for a day longer", "value": {} },
        "at_once": { "summary": "The secret before signs no more", "value": { "overlap_hours": 0 } },
    })
}

/// What came of trying all rejected events again.
pub fn retried_events() -> Value {
    json!({ "retried": 12, "delivered": 11, "rejected": 1, "left": 0 })
}

/// A signing secret as it is shown once.
pub fn signing_secret() -> Value {
    json!({
        "signing_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=",
        "signing": { "created_at": "2026-11-28T12:00:00.000Z", "overlap_ends_at": "2026-11-29T12:00:00.000Z" },
    })
}

fn webhook(id: &str, status: &str, key: &str) -> Value {
    json!({
        "id": id,
        "status": status,
        "integration_type": "permanent",
        "starts_at": "2019-01-17T12:00:00.000Z",
        "callback_parameters": { "callback_url": "https://erp.example.com/events", "api_key": key },
        "pending": { "catching_up": false },
    })
}

/// A temporary webhook integration.
pub fn temporary(status: &str) -> Value {
    let mut answer = webhook("sap-integration-001", status, KEY);
    answer["integration_type"] = json!("temporary");
    answer["ends_at"] = json!("2019-02-21T23:59:00.000Z");
    answer
}

/// A key as responses show it.
const KEY: &str = "********************************VCJ9";

/// An integration that was just started, or stopped.
pub fn switched(status: &str) -> Value {
    let mut answer = webhook("webhook-integration-1", status, KEY);
    answer["starts_at"] = json!("2019-07-07T00:00:00.000Z");
    answer
}

/// The list of integrations.
pub fn integrations() -> Value {
    let s3 = json!({
        "id": "sap-s3-integration-002",
        "status": "stopped",
        "integration_type": "permanent",
        "starts_at": "2019-01-17T12:00:00.000Z",
        "s3_parameters": {
            "aws_access_key_id": "some_s3_access_key_id",
            "aws_secret_access_key": "**************_key",
            "aws_region": "us-east-1",
            "bucket": "sap_export",
            "key_prefix": "newstore_integration_002",
        },
        "pending": { "catching_up": false },
    });
    let role = json!({
        "id": "sap-s3-integration-003",
        "status": "running",
        "integration_type": "permanent",
        "starts_at": "2019-01-17T12:00:00.000Z",
        "s3_parameters": {
            "role_arn": "arn:aws:iam::123456789012:role/event-stream-exports",
            "aws_region": "us-east-1",
            "bucket": "sap_export",
            "key_prefix": "newstore_integration_003",
        },
        "role_trust": {
            "principal": "arn:aws:iam::210987654321:role/event-stream-export",
            "external_id": "0f2f6a4e-5b1c-4f43-9d8e-0d7c0a2b9f11",
        },
        "pending": { "catching_up": false },
    });
    json!({ "integrations": [
        webhook("erp-netsuite-integration-001", "running", KEY),
        webhook("erp-netsuite-integration-002", "running", KEY),
        temporary("stopped"),
        s3,
        role,
    ] })
}

/// An integration log.
pub fn log() -> Value {
    let failed = "Request to URL http://example.com/webhook failed. Reason: too many requests (HTTP status code 429). Payload: {\"tenant\":\"businessname\",\"name\":\"order.created\",\"published_at\":\"2019-09-12T15:20:00.000Z\",\"payload\":{\"id\":\"1\"}}";
    json!({ "entries": [
        { "action": "integration_stopped", "reason": "Stopped via API.", "created_at": "2019-09-13T08:04:00.000Z" },
        { "action": "retry_triggered", "reason": failed, "created_at": "2019-09-12T15:21:00.000Z" },
        { "action": "retry_triggered", "reason": failed, "created_at": "2019-09-12T15:20:00.000Z" },
        { "action": "integration_started", "reason": "Started via API.", "created_at": "2019-09-12T12:00:00.000Z" },
    ] })
}

/// The list of rejected events.
pub fn rejected_events() -> Value {
    json!({ "rejected_events": [
        { "created_at": "2019-09-13T08:04:00.000Z", "id": "1a8a5052-8741-4daf-982e-e0a12990335a", "answer": "{\"error\":\"no such product\"}" },
        { "created_at": "2019-09-13T08:01:00.000Z", "id": "045cb397-9dca-4305-81e5-4ad0b6ad242c", "answer": "{\"error\":\"no such product\"}" },
        { "created_at": "2019-09-13T06:52:00.000Z", "id": "c35e7a43-cad2-4f2a-8c54-ad1328373b41", "answer": "{\"error\":\"no such product\"}" },
    ] })
}

/// An event as receivers see it.
pub fn envelope() -> Value {
    json!({
        "tenant": "businessname",
        "name": "order.items_cancelled",
        "published_at": "2010-01-01T12:00:00.000Z",
        "payload": {
            "id": "1431b891-c056-4f80-9d34-06479b383417",
            "items": [
                {
                    "id": "8c2a657e-e8c7-4f1b-b6d5-ab27d2ec87a1",
                    "product_id": "ASDF1000",
                    "fulfillment_location_id": "US01",
                },
                {
                    "id": "9c027c6f-2918-457e-9051-0c6a349701df",
                    "product_id": "ASDF1001",
                    "fulfillment_location_id": "US01",
                },
            ],
        },
    })
}

/// Bodies that publish events.
pub fn publications() -> Value {
    let one = json!({ "name": "order.created", "payload": { "number": "R1", "price": 1.1 } });
    let named = json!({ "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718", "name": "return.processed", "payload": { "number": "R1" } });
    json!({
        "one": { "summary": "One event", "value": one },
        "many": { "summary": "Several, one of them with an id of its own", "value": [one, named] },
    })
}

/// The ids of published events.
pub fn accepted() -> Value {
    json!({ "accepted": [
        { "id": "019b2c4e-7d7b-7c41-a1f4-3f3b54d6a1c0" },
        { "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718" },
    ] })
}

/// An error of this service.
pub fn error(code: &str, message: &str) -> Value {
    json!({ "error_code": code, "message": message, "request_id": "7f0c8f1e-3c1b-4b7e-9d59-0a5b7d5f6a11" })
}
