//! The operations of the document. A new endpoint does not compile without one.

use serde_json::{Value, json};

use super::examples;
use super::schemas::reference;
use crate::routes::Endpoint;

/// The responses of the service to any call that needs a token.
const ALWAYS: [(&str, &str); 5] = [
    ("401", "Unauthorized"),
    ("403", "Forbidden"),
    ("429", "TooManyRequests"),
    ("500", "InternalServerError"),
    ("503", "Unavailable"),
];

/// An operation under construction.
struct Operation(Value);

impl Operation {
    fn new(id: &str, tag: &str, summary: &str, description: impl Into<String>) -> Operation {
        Operation(json!({
            "operationId": id,
            "tags": [tag],
            "summary": summary,
            "description": description.into(),
            "responses": {},
        }))
    }

    /// Its path names an integration: 404 where there is none.
    fn of_integration(self) -> Operation {
        self.parameter("IntegrationId").error("404", "NotFound")
    }

    /// It can be made to depend on the settings that the caller has seen.
    fn if_match(self) -> Operation {
        self.parameter("IfMatch")
            .error("400", "BadRequest")
            .error("412", "PreconditionFailed")
    }

    /// Its path names a rejected event.
    fn of_event(self) -> Operation {
        self.of_integration().parameter("EventId")
    }

    fn parameter(mut self, name: &str) -> Operation {
        let reference = json!({ "$ref": format!("#/components/parameters/{name}") });
        match &mut self.0["parameters"] {
            Value::Array(parameters) => parameters.push(reference),
            none => *none = json!([reference]),
        }
        self
    }

    fn body(mut self, schema: &str, examples: Value) -> Operation {
        self.0["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": reference(schema), "examples": examples } },
        });
        self.error("400", "BadRequest")
            .error("413", "TooLarge")
            .error("415", "UnsupportedMediaType")
    }

    /// Its body may be left out.
    fn optional(mut self) -> Operation {
        self.0["requestBody"]["required"] = json!(false);
        self
    }

    /// It takes no body, or an empty object.
    fn empty_body(mut self) -> Operation {
        self.0["requestBody"] = json!({
            "required": false,
            "description": "Nothing, or an empty object.",
            "content": { "application/json": { "schema": { "type": "object", "additionalProperties": false }, "example": {} } },
        });
        self.error("400", "BadRequest")
            .error("413", "TooLarge")
            .error("415", "UnsupportedMediaType")
    }

    fn responses(
        mut self,
        status: &str,
        description: &str,
        schema: Value,
        example: Value,
    ) -> Operation {
        let mut headers = request_id();
        if schema == reference("Integration") {
            headers["ETag"] = json!({ "$ref": "#/components/headers/ETag" });
        }
        self.0["responses"][status] = json!({
            "description": description,
            "headers": headers,
            "content": { "application/json": { "schema": schema, "example": example } },
        });
        self
    }

    fn answers_nothing(mut self, description: &str) -> Operation {
        self.0["responses"]["204"] = json!({ "description": description, "headers": request_id() });
        self
    }

    fn error(mut self, status: &str, response: &str) -> Operation {
        self.0["responses"][status] =
            json!({ "$ref": format!("#/components/responses/{response}") });
        self
    }

    fn links(mut self, status: &str, links: Value) -> Operation {
        self.0["responses"][status]["links"] = links;
        self
    }

    fn done(mut self) -> Value {
        for (status, response) in ALWAYS {
            self = self.error(status, response);
        }
        self.0
    }

    /// Needs no token.
    fn public(mut self) -> Value {
        self.0["security"] = json!([]);
        self.error("429", "TooManyRequests")
            .error("500", "InternalServerError")
            .error("503", "Unavailable")
            .0
    }
}

/// The operation of an endpoint; `method` distinguishes those that one endpoint serves.
pub fn operation(method: &str, endpoint: Endpoint) -> Value {
    match endpoint {
        Endpoint::Health => {
            let schema = json!({ "type": "object", "properties": { "status": { "const": "ok" } }, "required": ["status"] });
            Operation::new("getHealth", "Service", "Health", "Responds if the API does.")
                .responses("200", "The API responds.", schema, json!({ "status": "ok" }))
                .public()
        }
        Endpoint::Document => {
            Operation::new("getDocument", "Service", "This document", "The OpenAPI document of this API.")
                .responses("200", "OpenAPI 3.1.", json!({ "type": "object" }), json!({ "openapi": "3.1.1" }))
                .public()
        }
        Endpoint::Publish => publish(),
        Endpoint::List => {
            let schema = list_of("integrations", "Integration", 25, "Sorted by id.");
            Operation::new("listIntegrations", INTEGRATIONS, "List registered integrations", "Lists all configured integrations.")
                .responses("200", "All integrations.", schema, examples::integrations())
                .done()
        }
        Endpoint::Register => register(),
        Endpoint::Preview => Operation::new(
            "previewEvents",
            INTEGRATIONS,
            "Preview events",
            "Counts what an integration with this filter and range of dates would be sent, from the event log: how many events pass, of how many, by name, how many bytes they have, and how long a replay takes. Nothing is registered. It reads for some seconds at the most, and says how far it got.",
        )
        .body("PreviewRequest", examples::previews())
        .optional()
        .responses("200", "What was counted.", reference("Preview"), examples::preview())
        .done(),
        Endpoint::Get => {
            Operation::new("getIntegration", INTEGRATIONS, "Get integration details", "Returns details about an existing integration.")
                .of_integration()
                .responses("200", "The integration.", reference("Integration"), examples::temporary("running"))
                .done()
        }
        Endpoint::Update => {
            let id = if method == "PUT" { "putIntegration" } else { "updateIntegration" };
            Operation::new(id, INTEGRATIONS, "Update the integration", UPDATE)
                .of_integration()
                .if_match()
                .body("IntegrationUpdate", examples::updates())
                .error("409", "Conflict")
                .responses("200", "The integration as it now is.", reference("Integration"), examples::switched("stopped"))
                .done()
        }
        Endpoint::Delete => {
            Operation::new("deleteIntegration", INTEGRATIONS, "Delete the integration", "Deletes an existing integration, in any state, with its log, its rejected events and what was not delivered yet.")
                .of_integration()
                .if_match()
                .error("409", "Conflict")
                .answers_nothing("It is gone.")
                .done()
        }
        Endpoint::Start => {
            Operation::new("startIntegration", INTEGRATIONS, "Start the integration", START)
                .of_integration()
                .empty_body()
                .error("409", "Conflict")
                .responses("200", "The integration as it now is.", reference("Integration"), examples::switched("running"))
                .done()
        }
        Endpoint::Stop => {
            Operation::new("stopIntegration", INTEGRATIONS, "Stop the integration", "Stops the specified integration. No events are sent after the response. Stopping a stopped integration changes nothing.")
                .of_integration()
                .empty_body()
                .error("409", "Conflict")
                .responses("200", "The integration as it now is.", reference("Integration"), examples::switched("stopped"))
                .done()
        }
        Endpoint::RotateSecret => Operation::new(
            "rotateSigningSecret",
            INTEGRATIONS,
            "Rotate the signing secret",
            "Replaces the secret that the webhooks of the integration are signed with, and shows the new one, this once. The one before signs as well for `overlap_hours`, so that no webhook arrives that its receiver cannot verify. An integration that has none yet, since it is older than signatures, gets its first one.",
        )
        .of_integration()
        .body("SigningSecretRotation", examples::rotations())
        .optional()
        .error("409", "Conflict")
        .responses("200", "The new secret.", reference("SigningSecret"), examples::signing_secret())
        .done(),
        Endpoint::Log => {
            let schema = list_of("entries", "LogEntry", 50, "Newest first.");
            Operation::new("getIntegrationLog", INTEGRATIONS, "Get integration log", "Returns the last 50 integration log entries.")
                .of_integration()
                .responses("200", "The log.", schema, examples::log())
                .done()
        }
        Endpoint::TestNew => Operation::new(
            "testRegistration",
            INTEGRATIONS,
            "Test a registration",
            "Takes what a registration takes, and tests the receiver or the bucket as it would be registered: see *Test the integration*. Nothing is registered.",
        )
        .body("NewIntegration", examples::registrations())
        .responses("200", "What came of it.", reference("Verdict"), examples::verdict())
        .done(),
        Endpoint::Test => Operation::new("testIntegration", INTEGRATIONS, "Test the integration", TEST)
            .of_integration()
            .body("TestRequest", examples::tests())
            .optional()
            .responses("200", "What came of it.", reference("Verdict"), examples::verdict())
            .done(),
        Endpoint::Activity => Operation::new(
            "getActivity",
            INTEGRATIONS,
            "Get activity",
            "Returns what the receiver of a webhook integration has been sent in the last 24 hours, counted: how many events it has taken and rejected, how many attempts failed, and how long events took from their publication, for each five minutes. These are figures for a chart: a function that is killed loses what it counted within the last minute.",
        )
        .of_integration()
        .error("400", "BadRequest")
        .responses("200", "What was counted.", reference("Activity"), examples::activity())
        .done(),
        Endpoint::ListEvents => {
            let mut operation = Operation::new("listEvents", INTEGRATIONS, "List events", LIST_EVENTS).of_integration();
            for parameter in ["From", "To", "EventName", "EventStatus", "PayloadId", "Limit", "EventCursor"] {
                operation = operation.parameter(parameter);
            }
            operation
                .error("400", "BadRequest")
                .responses("200", "Events, newest first.", reference("Events"), examples::events())
                .done()
        }
        Endpoint::GetEvent => {
            Operation::new("getEvent", INTEGRATIONS, "Get event", "Returns an event, what became of it, and its payload. Without `published_at` it is looked for among what was published last.")
                .of_event()
                .parameter("PublishedAt")
                .error("400", "BadRequest")
                .responses("200", "The event.", reference("EventDetails"), examples::event_details())
                .done()
        }
        Endpoint::ListFiles => {
            Operation::new("listFiles", INTEGRATIONS, "List files", "Lists the files of an S3 integration, newest first, for as long as their events are kept. Consecutive files meet: where `from` of one is `until` of the one before, every event in between that passed the filter is in one of them.")
                .of_integration()
                .parameter("Cursor")
                .error("400", "BadRequest")
                .responses("200", "Up to 100 files.", reference("Files"), examples::files())
                .done()
        }
        Endpoint::ListRejected => {
            let schema = list_of("rejected_events", "RejectedEvent", 30, "Newest first.");
            Operation::new("listRejectedEvents", REJECTED, "List rejected events", "Lists the events that were rejected by the receiver (HTTP status code 400), up to 30.")
                .of_integration()
                .responses("200", "The rejected events.", schema, examples::rejected_events())
                .done()
        }
        Endpoint::ClearRejected => {
            Operation::new("clearRejectedEvents", REJECTED, "Delete all rejected events", "Deletes all rejected events of the integration permanently. One that is rejected meanwhile stays.")
                .of_integration()
                .answers_nothing("They are gone.")
                .done()
        }
        Endpoint::RetryAllRejected => {
            Operation::new("retryRejectedEvents", REJECTED, "Retry all rejected events", "Sends all rejected events to the receiver of the integration again, one after the other, in the order in which they were rejected. Those that it accepts (2xx) are no longer rejected events; those that it rejects again (400) stay. It stops at the first attempt that fails for another reason, and after some seconds: `left` says how many were not sent.")
                .of_integration()
                .empty_body()
                .responses("200", "What came of it.", reference("RetriedEvents"), examples::retried_events())
                .done()
        }
        Endpoint::GetRejected => {
            Operation::new("getRejectedEvent", REJECTED, "Get rejected event", "Returns the rejected event, byte for byte as it was sent.")
                .of_event()
                .responses("200", "The event.", reference("Event"), examples::envelope())
                .done()
        }
        Endpoint::RetryRejected => Operation::new(
            "retryRejectedEvent",
            REJECTED,
            "Retry rejected event",
            "Sends the rejected event to the receiver of the integration again, and waits for the response. If the receiver accepts it (2xx), it is no longer a rejected event.",
        )
        .of_event()
        .empty_body()
        .answers_nothing("The receiver has accepted it.")
        .error("502", "DeliveryFailed")
        .done(),
        Endpoint::DeleteRejected => {
            Operation::new("deleteRejectedEvent", REJECTED, "Delete rejected event", "Deletes the rejected event permanently.")
                .of_event()
                .answers_nothing("It is gone.")
                .done()
        }
    }
}

const INTEGRATIONS: &str = "Integrations";
const REJECTED: &str = "Rejected events";

const UPDATE: &str = "Updates the specified integration and returns the updated state. PATCH and PUT do the same: what is given is changed, field by field, the rest stays.

Stop the integration first, and start it again afterwards; a running one is a 400 with the code `integration_running`. Temporary integrations cannot be updated. A webhook cannot become an S3 integration, nor the other way round. A changed filter holds for everything that was not sent yet.";

const START: &str = "Starts the specified integration. Starting a running one changes nothing.

An integration that is started within 30 days of its stop receives everything that it missed. Later than that, it receives what comes from its start on.

As many integrations may send what is more than a day old at a time as temporary ones may run; one more is a 409 with the code `limit_exceeded`.";

const TEST: &str = "Tests the receiver or the bucket of the integration, whether or not it runs, and waits for what comes of it.

- **Webhook**: the receiver is sent a sample event. The header `webhook-test: 1` and the payload say that it is one; everything else is as in any other webhook.
- **S3**: an object with a sample event is put next to the files: `{timestamp}-test-{random_string}.export`. Delete it when you like.

Nothing is logged or counted, and nothing is tried again. There can be 20 tests a minute.";

const LIST_EVENTS: &str = "Lists what was published for the integration, newest first, and what became of each event: of a webhook integration `delivered`, `sending` (on its way), `retrying`, `waiting` (to be sent), `rejected`; of an S3 integration `exported` or `waiting`; of either `skipped` (outside of its range, or not passed by its filter).

An event that is delivered is written down nowhere: that it is follows from what is known of those that are not. Where that is not certain yet, `is_certain` is false: right after it was published, or while other events are on their way. It may have been sent more than once.

A page reads 1 MB of the event log at the most, and the next one continues where it ended.";

const REGISTER: &str = "Registers a new integration and starts it. There are two ways for events to reach you:

- **Webhook**: one POST per event, as it happens.
- **S3**: files in your bucket, every 5 minutes, at most 50 MiB each: `s3://{bucket}/{key_prefix}/{tenant}/{timestamp}-data-{random_string}.export`, where `timestamp` is the time of the file's creation in epoch milliseconds. A file has one event a line, in the form that webhooks have.

Without `filter_conditions` you receive all events.

To replay events by date, register a temporary integration with `starts_at` and `ends_at`: it receives the events in between and stops by itself. Delete it when you no longer need its log and its rejected events.

At most 25 integrations can be registered, temporary and stopped ones included; a 26th is a 409 with the code `limit_exceeded`, and so is one integration more than may send the past at a time: temporary ones, and permanent ones that begin more than a day ago or are as far behind.";

const PUBLISH: &str = "Publishes one event, a JSON array of events, or newline-delimited JSON: up to 500 events. One bad event refuses them all.

A 202 means that they are stored. After a 5xx some may have been: publish again with the same ids, which is safe. Where events have none, give the request an `Idempotency-Key`: it makes their ids, the same ones whenever you send the request again.";

fn register() -> Value {
    let link = |operation: &str, description: &str| json!({ "operationId": operation, "parameters": { "integration_id": "$response.body#/id" }, "description": description });
    Operation::new(
        "registerIntegration",
        INTEGRATIONS,
        "Register new integration",
        REGISTER,
    )
    .body("NewIntegration", examples::registrations())
    .error("409", "Conflict")
    .responses(
        "200",
        "The integration, which runs.",
        reference("Integration"),
        examples::temporary("running"),
    )
    .links(
        "200",
        json!({
            "get": link("getIntegration", "Its details."),
            "log": link("getIntegrationLog", "Its log."),
            "stop": link("stopIntegration", "Stop it."),
            "start": link("startIntegration", "Start it again."),
            "update": link("updateIntegration", "Change it, once it is stopped."),
            "rejected": link("listRejectedEvents", "What its receiver refused."),
            "delete": link("deleteIntegration", "Delete it."),
        }),
    )
    .done()
}

fn publish() -> Value {
    let accepted = json!({ "type": "object", "properties": { "id": { "type": "string", "format": "uuid" } }, "required": ["id"] });
    let schema = json!({
        "type": "object",
        "properties": { "accepted": { "type": "array", "maxItems": 500, "items": accepted, "description": "The ids of the events, in their order." } },
        "required": ["accepted"],
    });
    let mut operation = Operation::new("publishEvents", "Events", "Publish events", PUBLISH)
        .parameter("IdempotencyKey")
        .body("NewEvent", examples::publications())
        .responses(
            "202",
            "All events are stored.",
            schema,
            examples::accepted(),
        )
        .done();
    let content = &mut operation["requestBody"]["content"];
    content["application/json"]["schema"] = json!({
        "oneOf": [
            reference("NewEvent"),
            { "type": "array", "minItems": 1, "maxItems": 500, "items": reference("NewEvent") },
        ],
    });
    for lines in ["application/x-ndjson", "application/ndjson"] {
        content[lines] = json!({
            "schema": { "type": "string", "description": "One event a line." },
            "example": "{\"name\":\"order.created\",\"payload\":{\"number\":\"R1\"}}\n{\"name\":\"order.opened\",\"payload\":{\"number\":\"R2\"}}\n",
        });
    }
    operation
}

fn list_of(field: &str, item: &str, max: usize, description: &str) -> Value {
    json!({
        "type": "object",
        "properties": { field: { "type": "array", "maxItems": max, "items": reference(item), "description": description } },
        "required": [field],
    })
}

/// The header that every response has.
pub fn request_id() -> Value {
    json!({ "x-request-id": { "$ref": "#/components/headers/RequestId" } })
}
