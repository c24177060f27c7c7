//! Delivery: one POST for each task; the receiver's response decides what becomes of the event.

mod effects;
mod rejected;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use domain::attempt::{Admission, Attempt, admit, judge};
use domain::integration::{Callback, Integration, IntegrationRef, Target};
use domain::lifecycle::Rules;
use domain::secret::{Secret, StoredSecret};
use domain::tasks::{DeliveryTask, Retried, RetryRejected};
use receivers::{Post, Receivers};
use serde::{Deserialize, Serialize};
use shared::batch;
use shared::clock::Clock;
use shared::lifecycle::Lifecycle;
use shared::queue::{Queue, SendError};
use shared::secrets::{SecretError, Secrets};
use shared::services::Services;
use shared::store::StoreError;
use shared::store::chunks::Chunks;
use shared::store::integration_log::IntegrationLog;
use shared::store::integrations::Integrations;
use shared::store::parked_events::ParkedEvents;
use shared::store::rejected_events::RejectedEvents;
use ulid::Ulid;

/// How often an integration is read again because its key changed while it was decrypted.
const MAX_READS: usize = 4;

/// What delivery works with.
#[derive(Debug)]
pub struct App {
    /// The current time.
    pub clock: Clock,
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
    /// What could not be sent because of a stop or an interruption.
    pub parked_events: ParkedEvents,
    /// What replay has under way.
    pub chunks: Chunks,
    /// Their API keys.
    pub secrets: Secrets,
    /// The receivers.
    pub receivers: Receivers,
    /// Where tasks go for the next attempt.
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
            rules: services.rules(),
            lifecycle: services.lifecycle(),
            integrations: services.integrations(),
            integration_log: services.integration_log(),
            rejected_events: services.rejected_events(),
            parked_events: services.parked_events(),
            chunks: services.chunks(),
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
    #[error("the api_key could not be decrypted")]
    Secret(#[from] SecretError),
    /// A task could not be written.
    #[error("a task could not be written")]
    Task(#[from] serde_json::Error),
    /// SQS failed.
    #[error("a task could not be sent")]
    Send(#[from] SendError),
}

/// What invokes this function: its queue, or the API.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Invocation {
    /// Try a rejected event again, now.
    Retry {
        /// Which one.
        retry: RetryRejected,
    },
    /// A batch of tasks.
    Batch(SqsEvent),
}

/// What this function returns.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// What became of the rejected event.
    Retried(Retried),
    /// The messages to be handed out again.
    Batch(SqsBatchResponse),
}

/// Handles an invocation.
///
/// # Errors
/// When a rejected event cannot be tried again for a reason of ours; tasks that fail are named in the response instead.
pub async fn handle(app: &App, invocation: Invocation) -> Result<Answer, DeliveryError> {
    Ok(match invocation {
        Invocation::Retry { retry } => Answer::Retried(rejected::retry(app, &retry).await?),
        Invocation::Batch(event) => {
            let deliver = async |task: &DeliveryTask| deliver(app, task).await;
            let (queue, dead_letters) = (&app.delivery_queue, &app.dead_letters);
            Answer::Batch(batch::each(event, queue, dead_letters, deliver).await)
        }
    })
}

/// Carries out one task. The integration is read right before the attempt: a stop holds from the moment it is answered.
async fn deliver(app: &App, task: &DeliveryTask) -> Result<(), DeliveryError> {
    let Some(Read {
        integration,
        admission,
        api_key,
    }) = read(app, task).await?
    else {
        return Ok(());
    };
    let Target::Webhook { callback, .. } = &integration.target else {
        return Ok(());
    };
    let effects = match admission {
        Admission::Instead(effects) => effects,
        Admission::Post => {
            let post = Post {
                url: &callback.callback_url,
                api_key: api_key.as_ref(),
                event_id: &task.dispatch.event_id,
                body: task.body.get(),
            };
            let outcome = app.receivers.post(&post, app.clock.now()).await;
            let attempt = Attempt {
                integration: &integration,
                dispatch: &task.dispatch,
                url: &callback.callback_url,
                body: task.body.get(),
                now: app.clock.now(),
                rules: &app.rules,
                jitter: rand::random(),
                token: app.clock.ulid(),
            };
            judge(&attempt, &outcome)
        }
    };
    effects::carry_out(app, task, &IntegrationRef::from(&integration), effects).await
}

/// An integration as it was read right now, whether an event is sent to it, and with which key.
struct Read {
    integration: Integration,
    admission: Admission,
    api_key: Option<Secret>,
}

/// Reads the integration of a task; none when it is gone. Decrypting its key can take a while, so that the integration is read
/// once more behind it.
async fn read(app: &App, task: &DeliveryTask) -> Result<Option<Read>, DeliveryError> {
    let mut decrypted: Option<(StoredSecret, Secret)> = None;
    for _ in 0..MAX_READS {
        let found = find(app, &task.tenant, &task.integration_id, task.generation);
        let Some(integration) = found.await? else {
            return Ok(None);
        };
        let (tenant, id) = (&integration.tenant, &integration.id);
        let admission = admit(&integration, &task.dispatch, app.clock.ulid());
        let stored = match &integration.target {
            Target::Webhook { callback, .. } if admission == Admission::Post => &callback.api_key,
            _ => &None,
        };
        let api_key = match (stored, decrypted.take()) {
            (None, _) => None,
            (Some(stored), Some((known, secret))) if *stored == known => Some(secret),
            (Some(stored), _) => match app.secrets.at_hand(tenant, id, stored) {
                Some(secret) => Some(secret),
                None => {
                    let secret = app.secrets.decrypt(tenant, id, stored).await?;
                    decrypted = Some((stored.clone(), secret));
                    continue;
                }
            },
        };
        return Ok(Some(Read {
            integration,
            admission,
            api_key,
        }));
    }
    Err(StoreError::Changed.into())
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

async fn api_key(
    app: &App,
    integration: &Integration,
    callback: &Callback,
) -> Result<Option<Secret>, SecretError> {
    let Some(stored) = &callback.api_key else {
        return Ok(None);
    };
    let decrypted = app
        .secrets
        .decrypt(&integration.tenant, &integration.id, stored);
    decrypted.await.map(Some)
}
