//! Schemas: made from the types that read bodies and write responses, with what types do not say.

use domain::event::MAX_NAME_CHARS;
use domain::integration_log::Action;
use schemars::generate::{Contract, SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::{Map, Value, json};

use crate::activity::ActivityResponse;
use crate::bodies::{PreviewBody, PublishedEvent, Registration, Rotation, TestBody, Update};
use crate::error::Body;
use crate::events::{EventResponse, EventsResponse};
use crate::files::FilesResponse;
use crate::openapi::fields::EVENT_NAME;
use crate::preview::PreviewResponse;
use crate::rejected_events::{RejectedResponse, RetriedAllResponse};
use crate::responses::{EntryResponse, IntegrationResponse, RotationResponse};
use crate::testing::VerdictResponse;

/// RFC 3339 in UTC, as [`domain::time::Millis::parse`] takes it.
pub const TIMESTAMP: &str = r"^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|\+00:00)$";
/// The prefix of files that are written through a role, as [`crate::limits::key_prefix_of_role`] takes it.
const ROLE_KEY_PREFIX: &str = r"^[A-Za-z0-9/!\-_.'()=+@:,]+$";
/// The actions of the integration log (docs/api.md, Integrations).
const ACTIONS: [&str; 11] = [
    "integration_started",
    "integration_stopped",
    "integration_updated",
    "retry_triggered",
    "event_rejected",
    "rejected_event_evicted",
    "delivery_interrupted",
    "delivery_resumed",
    "delivery_paced",
    "delivery_live",
    "export_failed",
];

/// Every schema that the document names.
pub fn components() -> Map<String, Value> {
    let mut requests = generator(Contract::Deserialize);
    requests.subschema_for::<Registration>();
    requests.subschema_for::<Update>();
    requests.subschema_for::<PublishedEvent>();
    requests.subschema_for::<Rotation>();
    requests.subschema_for::<PreviewBody>();
    requests.subschema_for::<TestBody>();
    let mut responses = generator(Contract::Serialize);
    responses.subschema_for::<IntegrationResponse>();
    responses.subschema_for::<EntryResponse>();
    responses.subschema_for::<RejectedResponse>();
    responses.subschema_for::<RotationResponse>();
    responses.subschema_for::<RetriedAllResponse>();
    responses.subschema_for::<PreviewResponse>();
    responses.subschema_for::<FilesResponse>();
    responses.subschema_for::<EventsResponse>();
    responses.subschema_for::<ActivityResponse>();
    responses.subschema_for::<EventResponse>();
    responses.subschema_for::<VerdictResponse>();
    responses.subschema_for::<Body<'static>>();

    let mut schemas = requests.take_definitions(true);
    registration(&mut schemas["NewIntegration"]);
    for (name, mut schema) in responses.take_definitions(true) {
        without_null(&mut schema);
        schemas.entry(name).or_insert(schema);
    }
    describe(&mut schemas);
    let actions = ACTIONS
        .into_iter()
        .filter(|name| Action::parse(name).is_some());
    schemas["LogEntry"]["properties"]["action"]["enum"] = actions.collect();
    schemas.insert("Event".to_owned(), envelope());
    schemas.insert("GatewayError".to_owned(), gateway_error());
    for schema in schemas.values_mut() {
        properties(schema);
    }
    schemas
}

fn generator(contract: Contract) -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.contract = contract;
    });
    settings.into_generator()
}

/// What the fields of responses mean.
fn describe(schemas: &mut Map<String, Value>) {
    let descriptions = [
        (
            "Integration",
            "id",
            "The identifier that it was registered with.",
        ),
        ("Integration", "starts_at", "From when on events are sent."),
        (
            "Integration",
            "ends_at",
            "Of a temporary integration: until when, itself excluded.",
        ),
        (
            "Integration",
            "callback_parameters",
            "Of a webhook integration.",
        ),
        ("Integration", "s3_parameters", "Of an S3 integration."),
        (
            "Integration",
            "filter_conditions",
            "Which events are sent; without it, all.",
        ),
        ("Integration", "pending", "What is still on its way."),
        (
            "Integration",
            "health",
            "Of a running integration. `healthy`: the last attempt succeeded, or none was made. `retrying`: attempts fail. `interrupted`: so many failed that nothing is sent but a probe; everything else waits.",
        ),
        (
            "Integration",
            "failing_since",
            "When the first of the attempts was made that have failed in a row.",
        ),
        (
            "Integration",
            "next_attempt_at",
            "When an interrupted integration is probed next.",
        ),
        (
            "Integration",
            "last_success_at",
            "When an event was last delivered; to about a minute.",
        ),
        (
            "RejectedEvent",
            "answer",
            "The start of the receiver's response, at most 1 KB, or why the event was given up.",
        ),
        (
            "IntegrationCallback",
            "callback_url",
            "The receiver's address.",
        ),
        (
            "IntegrationCallback",
            "api_key",
            "Masked: all but its last 4 characters, or all of a short one.",
        ),
        (
            "IntegrationBucket",
            "aws_secret_access_key",
            "Masked: all but its last 4 characters, or all of a short one.",
        ),
        (
            "Integration",
            "role_trust",
            "Of an S3 integration with a role: what the role's trust policy has to say.",
        ),
        (
            "RoleTrust",
            "principal",
            "Who assumes the role: the `Principal` of the trust policy, as `AWS`.",
        ),
        (
            "RoleTrust",
            "external_id",
            "What the trust policy has to compare `sts:ExternalId` with. It is the same for all of your integrations, and stays.",
        ),
        (
            "Pending",
            "catching_up",
            "Whether older events are still being sent from the event log.",
        ),
        ("LogEntry", "action", "What happened. New actions may come."),
        (
            "LogEntry",
            "reason",
            "A sentence. Of a failed request: its URL, why it failed, and at most 1 KB of the payload.",
        ),
        (
            "RejectedEvent",
            "id",
            "The event's id, as in the header `webhook-id`.",
        ),
        (
            "RejectedEvent",
            "created_at",
            "When the receiver rejected it.",
        ),
    ];
    for (schema, field, description) in descriptions {
        let field = &mut schemas[schema]["properties"][field];
        assert!(field.is_object(), "{schema} has changed");
        field["description"] = json!(description);
    }
}

/// A reference to a schema of [`components`].
pub fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// What the type of a registration does not say: which of its parts go together.
fn registration(schema: &mut Value) {
    let with = |title: &str, required: &[&str], left_out: &[&str]| {
        let required_ones = required
            .iter()
            .map(|name| (name, json!({ "type": "string" })));
        let left_out_ones = left_out
            .iter()
            .map(|name| (name, json!({ "type": "null" })));
        let properties: Map<String, Value> = required_ones
            .chain(left_out_ones)
            .map(|(name, schema)| ((*name).to_owned(), schema))
            .collect();
        let one = json!({ "required": required, "properties": properties });
        json!({ "title": title, "allOf": [reference("S3Parameters"), one] })
    };
    let key = ["aws_access_key_id", "aws_secret_access_key"];
    let mut role = with("Role", &["role_arn", "aws_region", "bucket"], &key);
    role["allOf"][1]["properties"]["key_prefix"] = json!({ "pattern": ROLE_KEY_PREFIX });
    schema["properties"]["s3_parameters"] = json!({
        "description": "Configuration parameters for upload to Amazon S3.",
        "anyOf": [
            with("Access key", &[key[0], key[1], "aws_region", "bucket"], &["role_arn"]),
            role,
            { "type": "null" },
        ],
    });
    schema["anyOf"] = json!([
        { "title": "Webhook", "required": ["callback_parameters"] },
        { "title": "S3", "required": ["s3_parameters"] },
        { "title": "Webhook of a legacy client", "required": ["callback_url"] },
    ]);
}

/// An event as receivers get it, as a file has it in a line, and as it is kept when it was rejected.
fn envelope() -> Value {
    json!({
        "type": "object",
        "description": "An event. The payload is what the producer wrote, byte for byte.",
        "properties": {
            "tenant": { "type": "string", "description": "The tenant to which the event belongs." },
            "name": { "type": "string", "pattern": EVENT_NAME, "maxLength": MAX_NAME_CHARS, "description": "Entity and event." },
            "published_at": { "type": "string", "description": "When the event stream accepted the event." },
            "payload": { "type": "object", "additionalProperties": true, "description": "The event's data." },
        },
        "required": ["tenant", "name", "published_at", "payload"],
    })
}

/// What API Gateway responds by itself.
fn gateway_error() -> Value {
    json!({
        "type": "object",
        "description": "API Gateway refused the request before it reached the service.",
        "properties": { "message": { "type": "string" } },
        "required": ["message"],
    })
}

/// What holds for properties of any schema: a name that ends in `_at` or `_since` is a timestamp's, and nothing has a default.
fn properties(schema: &mut Value) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, property) in properties {
        if name.ends_with("_at") || name.ends_with("_since") {
            property["format"] = json!("date-time");
            property["pattern"] = json!(TIMESTAMP);
        }
        // Not given and `null` are two things in an update.
        if property.get("default") == Some(&Value::Null) {
            property
                .as_object_mut()
                .map(|fields| fields.remove("default"));
        }
    }
}

/// A response leaves out what it does not have: where the type says `null`, there never is one.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Array(types)) = fields.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    fields.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
                choices.retain(|choice| *choice != json!({ "type": "null" }));
                if let [only] = choices.as_slice() {
                    let only = only.clone();
                    fields.remove("anyOf");
                    fields.extend(only.as_object().cloned().unwrap_or_default());
                }
            }
            fields.values_mut().for_each(without_null);
        }
        Value::Array(values) => values.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// A secret in a body.
impl JsonSchema for crate::bodies::SecretText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}
