//! Schemas of single fields, which the types of bodies and responses name.

use domain::event::{MAX_NAME_CHARS, MAX_PAYLOAD_BYTES, MAX_PAYLOAD_DEPTH};
use domain::fate::EventStatus;
use domain::integration::{IntegrationType, Status};
use schemars::generate::SchemaGenerator;
use schemars::{Schema, json_schema};
use serde::Serialize;
use serde_json::json;
use strum::VariantArray;

/// The name of an event.
pub const EVENT_NAME: &str = r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$";
/// A role, as [`crate::limits::role_arn`] takes it.
pub const ROLE_ARN: &str =
    r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/([A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]{1,64}$";
/// The name of an entity.
pub const ENTITY_NAME: &str = r"^[a-z][a-z0-9_]*$";

/// The words of a type that this crate does not own.
fn words<T: Serialize>(values: &[T], description: &str) -> Schema {
    let values = json!(values);
    json_schema!({ "type": "string", "enum": values, "description": description })
}

/// `integration_type`.
pub fn integration_type(_: &mut SchemaGenerator) -> Schema {
    let all = [IntegrationType::Permanent, IntegrationType::Temporary];
    words(
        &all,
        "Temporary integrations replay a range of dates and stop by themselves; they cannot be updated.",
    )
}

/// `status`.
pub fn status(_: &mut SchemaGenerator) -> Schema {
    let all = [Status::Running, Status::Stopped];
    words(&all, "Whether events are sent.")
}

/// What became of an event.
pub fn event_status(_: &mut SchemaGenerator) -> Schema {
    let all: Vec<&str> = EventStatus::VARIANTS.iter().map(AsRef::as_ref).collect();
    json_schema!({ "type": "string", "enum": all, "description": "What became of it." })
}

/// A list of the names of events.
pub fn event_names(_: &mut SchemaGenerator) -> Schema {
    names(EVENT_NAME, "Names of events. An empty list adds nothing.")
}

/// A list of the names of entities.
pub fn entity_names(_: &mut SchemaGenerator) -> Schema {
    names(
        ENTITY_NAME,
        "Names of entities: all of their events pass. An empty list adds nothing.",
    )
}

fn names(pattern: &str, description: &str) -> Schema {
    json_schema!({
        "type": ["array", "null"],
        "maxItems": domain::filter::MAX_NAMES,
        "items": { "type": "string", "pattern": pattern, "maxLength": MAX_NAME_CHARS },
        "description": description,
    })
}

/// Headers of an integration's own, by name.
pub fn headers(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["object", "null"],
        "maxProperties": crate::limits::MAX_HEADERS,
        "propertyNames": { "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", "maxLength": 100 },
        "additionalProperties": { "type": "string", "pattern": "^[!-~]([ \\t!-~]*[!-~])?$", "maxLength": 4096 },
        "description": "Ours: headers of your own, at most 10, sent with every request. Names that every request has already, or that are a connection's own, are refused, and so are those that begin with `webhook-`. Values are treated as secrets. In an update they replace those before; a masked value keeps the stored one, and `null` removes all.",
    })
}

/// An event's payload.
pub fn payload(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": true,
        "description": format!("The event's data: at most {} KiB, nested at most {MAX_PAYLOAD_DEPTH} levels.", MAX_PAYLOAD_BYTES / 1024),
    })
}
