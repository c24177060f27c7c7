//! Delivery: one POST for each task; the receiver's answer decides what becomes of the event.

mod carry_out;
mod rejected;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use domain::attempt::{Admission, Attempt, admit, judge};
use domain::integration::{Callback, Integration, Owner, Target};
use domain::lifecycle::Rules;
use domain::secret::{Secret, StoredSecret};
use domain::tasks::{DeliveryTask, Retried, RetryRejected};
use futures_util::future::join_all;
use receivers::{Post, Receivers};
use serde::{Deserialize, Serialize};
use shared::clock::Clock;
use shared::queue::{Queue, SendError};
use shared::secrets::{SecretError, Secrets};
use shared::store::StoreError;
use shared::store::chunks::Chunks;
use shared::store::integration_log::IntegrationLog;
use shared::store::integrations::Integrations;
use shared::store::parked_events::ParkedEvents;
use shared::store::rejected_events::RejectedEvents;
use shared::telemetry::chain;
use shared::{batch, env};
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
    /// Whose events they are.
    pub integrations: Integrations,
    /// Their logs.
    pub integration_log: IntegrationLog,
    /// What receivers refused.
    pub rejected_events: RejectedEvents,
    /// What met a stopped integration or an interrupted stream.
    pub parked_events: ParkedEvents,
    /// What replay has under way.
    pub chunks: Chunks,
    /// Their API keys.
    pub secrets: Secrets,
    /// Who is called.
    pub receivers: Receivers,
    /// Where tasks go for the next attempt.
    pub delivery_queue: Queue,
    /// Where replay is told that it is needed.
    pub replay_queue: Queue,
    /// Where tasks go that nobody can read.
    pub dead_letters: Queue,
}

impl App {
    /// Builds the clients from the environment that template.yaml gives this function.
    pub async fn from_env() -> App {
        let config = shared::aws::config().await;
        let dynamodb = aws_sdk_dynamodb::Client::new(&config);
        let sqs = aws_sdk_sqs::Client::new(&config);
        let clock = Clock::system();
        let table = env::required("INTEGRATIONS_TABLE");
        App {
            rules: env::rules(),
            integrations: Integrations::new(dynamodb.clone(), table.clone()),
            integration_log: IntegrationLog::new(dynamodb.clone(), table.clone()),
            rejected_events: RejectedEvents::new(dynamodb.clone(), table.clone()),
            parked_events: ParkedEvents::new(dynamodb.clone(), table.clone()),
            chunks: Chunks::new(dynamodb, table),
            secrets: Secrets::new(
                aws_sdk_kms::Client::new(&config),
                env::required("SECRETS_KEY_ID"),
                clock.clone(),
            ),
            clock,
            receivers: Receivers::new(env::parsed("ALLOW_PRIVATE_RECEIVERS")),
            delivery_queue: Queue::new(sqs.clone(), env::required("DELIVERY_QUEUE_URL")),
            replay_queue: Queue::new(sqs.clone(), env::required("REPLAY_QUEUE_URL")),
            dead_letters: Queue::new(sqs, env::required("DELIVERY_DEAD_LETTER_QUEUE_URL")),
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

/// What this function answers.
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
/// When a rejected event cannot be tried again for a reason of ours; tasks that fail are named in the answer instead.
pub async fn handle(app: &App, invocation: Invocation) -> Result<Answer, DeliveryError> {
    Ok(match invocation {
        Invocation::Retry { retry } => Answer::Retried(rejected::retry(app, &retry).await?),
        Invocation::Batch(event) => Answer::Batch(tasks_of(app, event).await),
    })
}

/// Handles a batch of the delivery queue, its tasks side by side. What fails on our side is handed out again; what cannot
/// be read goes to the dead-letter queue.
async fn tasks_of(app: &App, event: SqsEvent) -> SqsBatchResponse {
    let (mut tasks, mut unreadable, mut buried) = (Vec::new(), Vec::new(), Vec::new());
    for record in batch::records(event) {
        match serde_json::from_str::<DeliveryTask>(&record.body) {
            Ok(task) => tasks.push((record.receipt, task)),
            Err(error) => {
                tracing::warn!(
                    message_id = record.receipt.message_id,
                    error = chain(&error),
                    "a task cannot be read"
                );
                unreadable.push(record.body);
                buried.push(record.receipt);
            }
        }
    }
    let mut failed = match batch::bury(&app.dead_letters, unreadable).await {
        Ok(()) => Vec::new(),
        Err(error) => {
            tracing::error!(
                error = chain(&error),
                "the dead-letter queue cannot be reached"
            );
            buried
        }
    };
    let results = join_all(tasks.iter().map(|(_, task)| deliver(app, task))).await;
    for ((receipt, task), result) in tasks.iter().zip(results) {
        if let Err(error) = result {
            tracing::error!(
                tenant = task.tenant,
                integration = task.integration_id,
                error = chain(&error),
                "a task is handed back"
            );
            failed.push(receipt.clone());
        }
    }
    batch::hand_back(&app.delivery_queue, failed).await
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
    carry_out::effects(app, task, &Owner::from(&integration), effects).await
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
