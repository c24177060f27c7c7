//! Notify: what happens to integrations is published on the bus, so that operators can alarm and automate on it.
//!
//! It reads the change stream of the integrations table. Writing a log entry is enough to publish it: no function
//! needs a second call after its write, and none can crash between the two.

use std::collections::HashSet;
use std::error::Error;
use std::time::Duration;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use domain::integration_log::{Action, cause};
use domain::metric::Metric;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::env::{self, Environment};
use shared::metrics::Metrics;
use shared::store::changes::{self, TableChange};
use shared::telemetry::chain;

/// The source of notifications; the rule of ingest leaves it out, so that the stream never takes them in.
pub const SOURCE: &str = "event-stream";
/// How many events one call of `PutEvents` takes (AWS).
const MAX_ENTRIES: usize = 10;
/// How often an event that the bus refuses is put before the batch is handed back.
const MAX_ATTEMPTS: u32 = 3;
/// The pause before the second attempt; it grows by as much.
const PAUSE: Duration = Duration::from_millis(200);

/// What notify works with.
#[derive(Debug)]
pub struct App {
    /// EventBridge.
    pub client: Client,
    /// The name of the bus.
    pub bus: String,
    /// What is counted.
    pub metrics: Metrics,
}

impl App {
    /// Builds the client from the environment that template.yaml gives this function.
    pub fn from_env() -> App {
        App {
            client: Client::new(&shared::aws::config()),
            bus: env::required("EVENT_BUS_NAME"),
            metrics: Metrics::of(&Environment::of_process()),
        }
    }
}

/// A batch of records of the table's stream. Each is read by itself, so that none holds up the others.
#[derive(Debug, Deserialize)]
pub struct Records {
    #[serde(rename = "Records")]
    records: Vec<Value>,
}

/// Why a batch was not published. Lambda hands it over again, whole: a notification may come twice.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// EventBridge failed, or could not be reached.
    #[error("EventBridge failed")]
    Bus(#[source] Box<dyn Error + Send + Sync>),
    /// EventBridge did not take some of the events.
    #[error("EventBridge refused {count} events, the first with {code}")]
    Refused {
        /// How many.
        count: usize,
        /// The error code of the first.
        code: String,
    },
}

/// An event of ours.
#[derive(Debug, PartialEq, Eq)]
pub struct Notification {
    /// `integration.started`, for example.
    pub detail_type: &'static str,
    /// When it happened.
    pub at: domain::time::Millis,
    /// JSON: `id`, `tenant`, `integration_id`, `created_at`, and a `reason` or the `event_id`. No secrets, no payloads.
    pub detail: String,
    /// Those of one batch that have the same text here are published once: of a storm of rejections, one a second.
    pub paced_by: Option<String>,
}

/// Tells what the records of a batch say: all that the bus takes, whatever else it refuses.
///
/// # Errors
/// [`NotifyError`], where the batch has to be published again.
pub async fn handle(app: &App, changes: Records) -> Result<(), NotifyError> {
    let mut paced = HashSet::new();
    let mut notifications: Vec<Notification> =
        changes.records.iter().filter_map(notification).collect();
    notifications.retain(|it| {
        let paced_by = it.paced_by.clone();
        paced_by.is_none_or(|paced_by| paced.insert(paced_by))
    });
    let mut result = Ok(());
    for some in notifications.chunks(MAX_ENTRIES) {
        let put = put(app, some.iter().collect()).await;
        let metric = match put {
            Ok(()) => Metric::Notified,
            Err(_) => Metric::NotificationsFailed,
        };
        app.metrics.count(metric, some.len());
        if let Err(error) = put {
            tracing::error!(
                error = chain(&error),
                "some of a batch could not be published"
            );
            result = Err(error);
        }
    }
    result
}

/// Puts some on the bus; those that it does not take once more, a few times.
async fn put(app: &App, mut some: Vec<&Notification>) -> Result<(), NotifyError> {
    for attempt in 1.. {
        let entries = some.iter().map(|notification| {
            PutEventsRequestEntry::builder()
                .event_bus_name(&app.bus)
                .source(SOURCE)
                .time(DateTime::from_millis(notification.at.0 as i64))
                .detail_type(notification.detail_type)
                .detail(&notification.detail)
                .build()
        });
        let call = app.client.put_events().set_entries(Some(entries.collect()));
        let answer = call
            .send()
            .await
            .map_err(|error| NotifyError::Bus(Box::new(error)))?;
        let answers = some.into_iter().zip(answer.entries());
        let refused: Vec<(&Notification, &str)> = answers
            .filter_map(|(notification, entry)| Some((notification, entry.error_code()?)))
            .collect();
        let Some((_, code)) = refused.first() else {
            break;
        };
        if attempt == MAX_ATTEMPTS {
            return Err(NotifyError::Refused {
                count: refused.len(),
                code: (*code).to_owned(),
            });
        }
        some = refused
            .into_iter()
            .map(|(notification, _)| notification)
            .collect();
        tokio::time::sleep(PAUSE * attempt).await;
    }
    Ok(())
}

/// The notification of a record of the stream; none for one that is of no interest, or cannot be read.
pub fn notification(record: &Value) -> Option<Notification> {
    let Some(change) = changes::read(record) else {
        // The event source lets nothing else through: this is of a form that this code does not know.
        let keys = record.pointer("/dynamodb/Keys").map(Value::to_string);
        tracing::error!(keys, "a record of the change stream cannot be read");
        return None;
    };
    match change {
        TableChange::Entry(integration_ref, entry) => {
            let at = entry.created_at();
            Some(Notification {
                detail_type: detail_type(entry.action)?,
                at,
                detail: json!({
                    "id": entry.id, "tenant": integration_ref.tenant, "integration_id": integration_ref.integration_id,
                    "created_at": at.to_string(), "reason": cause(&entry.reason),
                })
                .to_string(),
                paced_by: None,
            })
        }
        TableChange::Rejected(integration_ref, event_id, at) => Some(Notification {
            detail_type: "event.rejected",
            at,
            detail: json!({
                "id": format!("{}-{event_id}-{}", integration_ref.generation, at.0), "tenant": integration_ref.tenant,
                "integration_id": integration_ref.integration_id, "created_at": at.to_string(), "event_id": event_id,
            })
            .to_string(),
            paced_by: Some(format!("{}#{}", integration_ref.generation, at.epoch_seconds())),
        }),
    }
}

/// The name of an entry's notification (docs/api.md, Publishing). The other entries are the tenant's affair alone.
fn detail_type(action: Action) -> Option<&'static str> {
    match action {
        Action::IntegrationStarted => Some("integration.started"),
        Action::IntegrationStopped => Some("integration.stopped"),
        Action::DeliveryInterrupted => Some("integration.interrupted"),
        Action::DeliveryResumed => Some("integration.resumed"),
        Action::ExportFailed => Some("integration.export_failed"),
        Action::IntegrationUpdated
        | Action::RetryTriggered
        | Action::DeliveryPaced
        | Action::DeliveryLive
        | Action::EventRejected
        | Action::RejectedEventEvicted => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: &str = "acme#erp-1#01KB3DXZZZABCDEFGHJKMNPQRS";

    fn entry(action: &str, reason: &str) -> Value {
        json!({"eventName": "INSERT", "dynamodb": {"NewImage": {
            "pk": {"S": OWNER}, "sk": {"S": "entry#01D1CT4WC0ABCDEFGHJKMNPQRS"},
            "action": {"S": action}, "reason": {"S": reason},
        }}})
    }

    #[test]
    fn entries_that_operators_care_for_are_told_without_payloads() {
        let sent = notification(&entry("integration_started", "Started via API.")).unwrap();
        assert_eq!(sent.detail_type, "integration.started");
        assert_eq!(
            sent.detail,
            r#"{"created_at":"2019-01-17T02:27:24.672Z","id":"01D1CT4WC0ABCDEFGHJKMNPQRS","integration_id":"erp-1","reason":"Started via API.","tenant":"acme"}"#
        );
        let gone = "Request to URL https://a.example/?key=hunter2 failed. Reason: gone (HTTP status code 410), so the integration was stopped. Payload: {\"tenant\":\"acme\"}";
        let sent = notification(&entry("integration_stopped", gone)).unwrap();
        assert_eq!(sent.detail_type, "integration.stopped");
        let detail: Value = serde_json::from_str(&sent.detail).unwrap();
        assert_eq!(
            detail["reason"],
            "gone (HTTP status code 410), so the integration was stopped"
        );
        for action in ["retry_triggered", "event_rejected", "integration_updated"] {
            assert_eq!(notification(&entry(action, "r")), None, "{action}");
        }
    }

    #[test]
    fn a_rejected_event_is_told_with_its_id_and_nothing_of_its_content() {
        let record = json!({"eventName": "INSERT", "dynamodb": {"NewImage": {
            "pk": {"S": OWNER}, "sk": {"S": "rejected#6a7e8feb"},
            "created_at": {"N": "1547726400000"}, "answer": {"S": "my key is hunter2"},
        }}});
        let sent = notification(&record).unwrap();
        // Rejected again, its item is written again.
        let mut again = record;
        again["eventName"] = json!("MODIFY");
        assert_eq!(notification(&again).as_ref(), Some(&sent));
        assert_eq!(sent.detail_type, "event.rejected");
        assert_eq!(
            sent.detail,
            r#"{"created_at":"2019-01-17T12:00:00.000Z","event_id":"6a7e8feb","id":"01KB3DXZZZABCDEFGHJKMNPQRS-6a7e8feb-1547726400000","integration_id":"erp-1","tenant":"acme"}"#
        );
    }

    #[test]
    fn what_is_changed_or_removed_or_cannot_be_read_is_told_by_nothing() {
        let mut changed = entry("integration_started", "r");
        changed["eventName"] = json!("MODIFY");
        let mut elsewhere = entry("integration_started", "r");
        elsewhere["dynamodb"]["NewImage"]["pk"]["S"] = json!("acme");
        let integration = json!({"eventName": "INSERT", "dynamodb": {"NewImage": {
            "pk": {"S": "acme"}, "sk": {"S": "integration#erp-1"}, "document": {"S": "{}"},
        }}});
        for record in [changed, elsewhere, integration, json!(7), json!({})] {
            assert_eq!(notification(&record), None, "{record}");
        }
    }
}
