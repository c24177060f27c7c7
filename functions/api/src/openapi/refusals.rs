//! The refusals of the document, each of which several operations have.

use serde_json::{Map, Value, json};

use super::examples;
use super::operations::request_id;
use super::schemas::reference;
use crate::bodies::{MAX_BODY_BYTES, MAX_EVENTS_BYTES};

/// All of them, by name.
pub fn responses() -> Value {
    let error = |description: &str, code: &str, message: &str| {
        json!({
            "description": description,
            "headers": request_id(),
            "content": { "application/json": { "schema": reference("Error"), "example": examples::error(code, message) } },
        })
    };
    let gateway = |description: &str, message: &str| {
        json!({
            "description": description,
            "content": { "application/json": { "schema": reference("GatewayError"), "example": { "message": message } } },
        })
    };
    let either = |description: &str, example: Value| {
        json!({
            "description": description,
            "content": { "application/json": { "schema": { "anyOf": [reference("Error"), reference("GatewayError")] }, "example": example } },
        })
    };
    let mut responses = Map::new();
    let mut add = |name: &str, response: Value| responses.insert(name.to_owned(), response);
    add(
        "BadRequest",
        error(
            "`bad_request`: the message names the field. `integration_running`: stop it first. For events, `errors` has the index of each bad one, and none was accepted.",
            "bad_request",
            "id must have 1 to 50 lower-case letters, digits and dashes, such as erp-1",
        ),
    );
    add(
        "Unauthorized",
        either(
            "The access token is missing, expired or not valid. The body is API Gateway's.",
            json!({ "message": "Unauthorized" }),
        ),
    );
    add(
        "Forbidden",
        either(
            "`forbidden`: the access token names no tenant, or several.",
            examples::error("forbidden", "The access token names no tenant."),
        ),
    );
    add(
        "NotFound",
        either(
            "`resource_not_found`: there is no such integration or event, or it is another tenant's.",
            examples::error("resource_not_found", "There is no integration \"erp-1\"."),
        ),
    );
    add(
        "Conflict",
        error(
            "`conflict`: the id is taken, or other calls are changing the integration at the same time: try again. `limit_exceeded`: there are 25 integrations already, or as many run that send the past as may.",
            "conflict",
            "id \"erp-1\" is taken by another integration; choose another one, or delete that one first.",
        ),
    );
    add(
        "PreconditionFailed",
        error(
            "`precondition_failed`: the integration has been changed since you read it.",
            "precondition_failed",
            "The integration has been changed since you read it: its ETag is not the one in If-Match. Read it again, and update that.",
        ),
    );
    add(
        "TooLarge",
        either(
            &format!(
                "`payload_too_large`: the body is larger than {} KiB; of events, than {} MiB.",
                MAX_BODY_BYTES / 1024,
                MAX_EVENTS_BYTES / 1024 / 1024
            ),
            examples::error(
                "payload_too_large",
                "The body is larger than 4194304 bytes; send it in several requests.",
            ),
        ),
    );
    add(
        "UnsupportedMediaType",
        error(
            "`unsupported_media_type`: the body is not said to be JSON.",
            "unsupported_media_type",
            "The body must be JSON: send the header content-type: application/json.",
        ),
    );
    add(
        "TooManyRequests",
        either(
            "More requests than the API accepts: try again later. `limit_exceeded`: more tests than there may be in a minute.",
            json!({ "message": "Too Many Requests" }),
        ),
    );
    add(
        "InternalServerError",
        either(
            "`internal_server_error`: something went wrong on our side.",
            examples::error(
                "internal_server_error",
                "Something went wrong on our side. Try again; report the request_id if it persists.",
            ),
        ),
    );
    add(
        "DeliveryFailed",
        error(
            "`delivery_failed`: the event was sent to the receiver again, and was not accepted.",
            "delivery_failed",
            "The receiver has not accepted the event: bad request (HTTP status code 400). It stays among the rejected events.",
        ),
    );
    add(
        "Unavailable",
        gateway(
            "No capacity is left, or the service took too long. Try again later.",
            "Service Unavailable",
        ),
    );
    Value::Object(responses)
}
