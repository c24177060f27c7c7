//! Delivery: posts the events of runs as they come; the receiver's response decides what becomes of each.

mod rejected;
mod run;
mod test;

use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use domain::calls::{Retried, RetriedAll, RetryRejected, TestReceiver, Verdict};
use domain::integration::{Integration, IntegrationRef};
use domain::lifecycle::Rules;
use domain::tasks::Run;
use receivers::Receivers;
use serde::{Deserialize, Serialize};
use shared::activity::Counter;
use shared::batch;
use shared::clock::Clock;
use shared::lifecycle::Lifecycle;
use shared::metrics::Metrics;
use shared::queue::Queue;
use shared::recent::Recent;
use shared::secrets::{SecretError, Secrets};
use shared::services::Services;
use shared::store::StoreError;
use shared::store::fates::Fates;
use shared::store::integration_log::IntegrationLog;
use shared::store::integrations::Integrations;
use shared::store::rejected_events::RejectedEvents;
use shared::store::waiting_events::WaitingEvents;
use shared::trace::{Trace, Tracer};
use ulid::Ulid;

/// What delivery works with.
#[derive(Debug)]
pub struct App {
    /// The current time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Metrics,
    /// What is counted of each integration.
    pub counter: Counter,
    /// Where segments of traces go.
    pub tracer: Tracer,
    /// What the deployment decides.
    pub rules: Rules,
    /// What happens to integrations.
    pub lifecycle: Lifecycle,
    /// The integrations.
    pub integrations: Integrations,
    /// Their logs.
    pub integration_log: IntegrationLog,
    /// What receivers refused.
    pub rejected_events: RejectedEvents,
    /// What is noted of it for good.
    pub fates: Fates,
    /// What could not be sent, or has to be sent again.
    pub waiting_events: WaitingEvents,
    /// The integrations as they are right before a request.
    pub recent: Recent,
    /// What their receivers know us by.
    pub secrets: Secrets,
    /// The receivers.
    pub receivers: Receivers,
    /// Where tasks come from.
    pub delivery_queue: Queue,
    /// Where tasks go that cannot be read.
    pub dead_letters: Queue,
}

impl App {
    /// Made of what template.yaml gives this function.
    pub fn new(services: &Services) -> App {
        let allow_private = services.environment.parsed("ALLOW_PRIVATE_RECEIVERS");
        App {
            clock: services.clock.clone(),
            metrics: services.metrics.clone(),
            counter: Counter::new(services.activities()),
            tracer: services.tracer(),
            rules: services.rules(),
            lifecycle: services.lifecycle(),
            integrations: services.integrations(),
            integration_log: services.integration_log(),
            rejected_events: services.rejected_events(),
            fates: services.fates(),
            waiting_events: services.waiting_events(),
            recent: services.recent(),
            secrets: services.secrets(),
            receivers: Receivers::new(allow_private),
            delivery_queue: services.queue("DELIVERY_QUEUE_URL"),
            dead_letters: services.queue("DELIVERY_DEAD_LETTER_QUEUE_URL"),
        }
    }
}

/// Why a task could not be carried out. The queue hands it out again.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// A store failed.
    #[error("the integration could not be read or written")]
    Store(#[from] StoreError),
    /// KMS failed.
    #[error("the secrets of the receiver could not be decrypted")]
    Secret(#[from] SecretError),
    /// Its integration could not be read, or what is left of a run could not be written down; the log says why.
    #[error("a run could not be carried out")]
    HandedBack,
}

/// What invokes this function: its queue, or the API.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Form")]
pub enum Invocation {
    /// Try a rejected event again, now.
    Retry {
        /// Which one.
        retry: RetryRejected,
    },
    /// Try all rejected events of an integration again, now.
    RetryAll {
        /// Whose.
        retry_all: IntegrationRef,
    },
    /// Send a sample event to a receiver, now.
    Test {
        /// Which one.
        test: Box<TestReceiver>,
    },
    /// A batch of tasks.
    Batch(SqsEvent),
}

/// The fields of all invocations, so that a batch is read once: to try one form after the other, serde would keep it, and copy it.
#[derive(Deserialize)]
struct Form {
    retry: Option<RetryRejected>,
    retry_all: Option<IntegrationRef>,
    test: Option<Box<TestReceiver>>,
    #[serde(rename = "Records")]
    records: Option<Vec<SqsMessage>>,
}

impl TryFrom<Form> for Invocation {
    type Error = &'static str;

    fn try_from(form: Form) -> Result<Invocation, &'static str> {
        match form {
            Form {
                retry: Some(retry), ..
            } => Ok(Invocation::Retry { retry }),
            Form {
                retry_all: Some(retry_all),
                ..
            } => Ok(Invocation::RetryAll { retry_all }),
            Form {
                test: Some(test), ..
            } => Ok(Invocation::Test { test }),
            Form {
                records: Some(records),
                ..
            } => {
                let mut batch = SqsEvent::default();
                batch.records = records;
                Ok(Invocation::Batch(batch))
            }
            _ => Err("an invocation is a batch of tasks, a retry or a test"),
        }
    }
}

/// What this function returns.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// What became of the rejected event.
    Retried(Retried),
    /// What became of all of them.
    RetriedAll(RetriedAll),
    /// What came of a test.
    Tested(Verdict),
    /// The messages to be handed out again.
    Batch(SqsBatchResponse),
}

/// Handles an invocation that has `left` to live.
///
/// # Errors
/// When a rejected event cannot be tried again for a reason of ours; tasks that fail are named in the response instead.
pub async fn handle(
    app: &App,
    invocation: Invocation,
    left: Duration,
) -> Result<Answer, DeliveryError> {
    app.recent.forget();
    Ok(match invocation {
        Invocation::Retry { retry } => Answer::Retried(rejected::retry(app, &retry).await?),
        Invocation::RetryAll { retry_all } => {
            Answer::RetriedAll(rejected::retry_all(app, &retry_all).await?)
        }
        Invocation::Test { test } => Answer::Tested(test::test(app, &test).await?),
        Invocation::Batch(event) => {
            let deliver = async |task: &Run, trace: Option<&Trace>| {
                let segment = app.tracer.begin("delivery", trace);
                let delivered = run::deliver(app, task, left).await;
                let (tenant, integration) = (&task.tenant, &task.integration_id);
                let is_fault = delivered.is_err();
                app.tracer.end(segment, tenant, integration, is_fault);
                delivered
            };
            let (queue, dead_letters) = (&app.delivery_queue, &app.dead_letters);
            let answer = batch::each(event, queue, dead_letters, &app.metrics, deliver).await;
            app.counter.flush().await;
            Answer::Batch(answer)
        }
    })
}

/// The integration of this id, as it is now; none when it is gone, or is one of another generation.
async fn find(
    app: &App,
    tenant: &str,
    id: &str,
    generation: Ulid,
) -> Result<Option<Integration>, StoreError> {
    match app.integrations.get(tenant, id).await {
        Ok(found) => Ok(Some(found).filter(|found| found.generation == generation)),
        Err(StoreError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocation_is_known_by_its_field() {
        let of =
            r#""tenant":"acme","integration_id":"erp-1","generation":"01J00000000000000000000000""#;
        let read = |text: &str| serde_json::from_str::<Invocation>(text);
        let retry = read(&format!(r#"{{"retry":{{{of},"event_id":"e"}}}}"#)).unwrap();
        assert!(matches!(retry, Invocation::Retry { retry } if retry.event_id == "e"));
        let all = read(&format!(r#"{{"retry_all":{{{of}}}}}"#)).unwrap();
        assert!(matches!(all, Invocation::RetryAll { retry_all } if retry_all.tenant == "acme"));
        let test = r#"{"test":{"tenant":"acme","integration_id":"erp-1","callback":{"callback_url":"https://erp.example.com/"},"name":"a.b"}}"#;
        assert!(matches!(read(test).unwrap(), Invocation::Test { test } if test.name == "a.b"));
        let batch = read(r#"{"Records":[{"messageId":"m","body":"b"},{"messageId":"n"}]}"#);
        assert!(matches!(batch.unwrap(), Invocation::Batch(batch) if batch.records.len() == 2));
        for text in ["{}", "[]", "null", r#"{"Records":7}"#, r#"{"retry":{}}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
