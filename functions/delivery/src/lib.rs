//! Delivery: one POST for each task; the receiver's answer decides what becomes of the event.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use futures_util::future::join_all;
use shared::clock::{Clock, Millis};
use shared::history::{Action, request_failed};
use shared::integration::{CATCH_UP, Callback, Integration, Target};
use shared::queue::{Queue, SendError};
use shared::secrets::{SecretError, Secrets};
use shared::store::integration_log::IntegrationLog;
use shared::store::integrations::{Decision, Integrations};
use shared::store::parked_events::{Parked, ParkedEvents};
use shared::store::rejected_events::RejectedEvents;
use shared::store::{Entry, Owner, StoreError};
use shared::tasks::{self, DeliveryTask, ReplayTask};
use shared::telemetry::chain;
use shared::webhook::{Outcome, Post, Receivers};
use shared::{batch, env, retry};
use ulid::Ulid;

/// How often one container writes `retry_triggered` into the log of one integration: a receiver that refuses a thousand
/// events a minute does not cost a thousand writes.
const RETRY_ENTRY_EVERY: Duration = Duration::from_secs(2);
/// How many integrations the pacing of log entries remembers.
const MAX_PACED: usize = 10_000;

/// What delivery works with.
#[derive(Debug)]
pub struct App {
    /// The current time.
    pub clock: Clock,
    /// The seal of the event log.
    pub seal: Duration,
    /// Whose events they are.
    pub integrations: Integrations,
    /// Their logs.
    pub integration_log: IntegrationLog,
    /// What receivers refused.
    pub rejected_events: RejectedEvents,
    /// What met a paused stream.
    pub parked_events: ParkedEvents,
    /// Their API keys.
    pub secrets: Secrets,
    /// Who is called.
    pub receivers: Receivers,
    /// Where tasks go for the next attempt.
    pub delivery_queue: Queue,
    /// Where parked events are reported to.
    pub replay_queue: Queue,
    /// Where tasks go that nobody can read.
    pub dead_letters: Queue,
    /// When this container last wrote `retry_triggered`, by generation.
    pub last_retry_entry: Mutex<HashMap<Ulid, Millis>>,
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
            seal: env::seal(),
            integrations: Integrations::new(dynamodb.clone(), table.clone()),
            integration_log: IntegrationLog::new(dynamodb.clone(), table.clone()),
            rejected_events: RejectedEvents::new(dynamodb.clone(), table.clone()),
            parked_events: ParkedEvents::new(dynamodb, table),
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
            last_retry_entry: Mutex::default(),
        }
    }
}

/// Why a task could not be carried out. The queue hands it out again.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    #[error("the integration could not be read or written")]
    Store(#[from] StoreError),
    #[error("the api_key could not be decrypted")]
    Secret(#[from] SecretError),
    #[error("a task could not be written")]
    Task(#[from] serde_json::Error),
    #[error("a task could not be sent")]
    Send(#[from] SendError),
}

/// Handles a batch of the delivery queue, its tasks side by side. What fails on our side is handed out again; what cannot
/// be read goes to the dead-letter queue.
pub async fn handle(app: &App, event: SqsEvent) -> SqsBatchResponse {
    let (mut tasks, mut unreadable, mut unreadable_ids) = (Vec::new(), Vec::new(), Vec::new());
    for record in batch::records(event) {
        match serde_json::from_str::<DeliveryTask>(&record.body) {
            Ok(task) => tasks.push((record.message_id, task)),
            Err(error) => {
                tracing::warn!(
                    message_id = record.message_id,
                    error = chain(&error),
                    "a task cannot be read"
                );
                unreadable.push(record.body);
                unreadable_ids.push(record.message_id);
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
            unreadable_ids
        }
    };
    let results = join_all(tasks.iter().map(|(_, task)| deliver(app, task))).await;
    for ((message_id, task), result) in tasks.iter().zip(results) {
        if let Err(error) = result {
            tracing::error!(
                tenant = task.tenant,
                integration = task.integration_id,
                error = chain(&error),
                "a task is handed back"
            );
            failed.push(message_id.clone());
        }
    }
    batch::response(failed)
}

/// Carries out one task. The integration is read right before the attempt: a stop holds from the moment it is answered.
async fn deliver(app: &App, task: &DeliveryTask) -> Result<(), DeliveryError> {
    let integration = match app
        .integrations
        .get(&task.tenant, &task.integration_id)
        .await
    {
        Ok(integration) if integration.generation == task.generation => integration,
        Ok(_) | Err(StoreError::NotFound) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let Target::Webhook { callback, .. } = &integration.target else {
        return Ok(());
    };
    // Parked first, filtered when it is sent: the filter may change again while the integration is stopped.
    if !integration.is_running() {
        return park(app, task).await;
    }
    if !integration.passes(&task.name) {
        return Ok(());
    }
    let api_key = match &callback.api_key {
        Some(stored) => Some(
            app.secrets
                .decrypt(&task.tenant, &task.integration_id, stored)
                .await?,
        ),
        None => None,
    };
    let post = Post {
        url: &callback.callback_url,
        api_key: api_key.as_ref(),
        event_id: &task.event_id,
        body: task.body.get(),
    };
    match app.receivers.post(&post, app.clock.now()).await {
        Outcome::Delivered => Ok(()),
        Outcome::Rejected => reject(app, task, &integration, callback).await,
        Outcome::Gone => {
            stop(app, task, callback).await?;
            park(app, task).await
        }
        Outcome::Failed(failure) => {
            let pause = retry::pause(task.attempt, failure.retry_after, rand::random());
            let next = DeliveryTask {
                attempt: task.attempt.saturating_add(1),
                ..task.clone()
            };
            app.delivery_queue
                .send(vec![next.message(pause.as_secs_f64().ceil() as u32)?])
                .await?;
            if is_due(app, task.generation) {
                let reason =
                    request_failed(&callback.callback_url, &failure.reason, task.body.get());
                let owner = Owner::from(&integration);
                // The next attempt is on its way: handing this task back as well would make two of it.
                if let Err(error) = append(
                    app,
                    &owner,
                    app.clock.ulid(),
                    Action::RetryTriggered,
                    reason,
                )
                .await
                {
                    tracing::warn!(error = chain(&error), "a log entry is lost");
                }
            }
            Ok(())
        }
    }
}

/// Keeps an event that must not be sent now, then looks again: is the stream open by now, replay is woken to send it.
async fn park(app: &App, task: &DeliveryTask) -> Result<(), DeliveryError> {
    let owner = Owner {
        tenant: task.tenant.clone(),
        integration_id: task.integration_id.clone(),
        generation: task.generation,
    };
    let parked = Parked {
        event: task.event,
        token: app.clock.ulid(),
    };
    app.parked_events
        .park(&owner, &parked, app.clock.now().after(CATCH_UP * 2))
        .await?;
    let now = app.clock.now();
    let woken = app
        .integrations
        .change(&task.tenant, &task.integration_id, |integration| {
            let open = integration.generation == task.generation && integration.is_running();
            Ok::<_, StoreError>(match integration.stream_mut() {
                Some(stream) if open => {
                    stream.wake(now);
                    Decision::Write
                }
                _ => Decision::Keep,
            })
        })
        .await;
    match woken {
        Ok((integration, true)) => {
            let turn = integration.stream().map_or(0, |stream| stream.turn);
            let step = ReplayTask::Step {
                tenant: owner.tenant,
                integration_id: owner.integration_id,
                generation: owner.generation,
                turn,
            };
            Ok(app
                .replay_queue
                .send(vec![tasks::message(&step, 0)?])
                .await?)
        }
        Ok((_, false)) | Err(StoreError::NotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn reject(
    app: &App,
    task: &DeliveryTask,
    integration: &Integration,
    callback: &Callback,
) -> Result<(), DeliveryError> {
    let owner = Owner::from(integration);
    let evicted = app
        .rejected_events
        .put(&owner, &task.event_id, task.body.get(), app.clock.ulid())
        .await?;
    let reason = request_failed(
        &callback.callback_url,
        "bad request (HTTP status code 400)",
        task.body.get(),
    );
    let id = app.clock.ulid();
    append(app, &owner, id, Action::EventRejected, reason).await?;
    for (id, event_id) in (id.0 + 1..).map(Ulid).zip(evicted) {
        let reason = format!(
            "Rejected event {event_id} was removed to make room: only the last 30 are kept."
        );
        append(app, &owner, id, Action::RejectedEventEvicted, reason).await?;
    }
    Ok(())
}

/// Stops an integration whose receiver answered 410.
async fn stop(app: &App, task: &DeliveryTask, callback: &Callback) -> Result<(), DeliveryError> {
    let reason = request_failed(
        &callback.callback_url,
        "gone (HTTP status code 410), so the integration was stopped",
        task.body.get(),
    );
    app.integrations
        .change(&task.tenant, &task.integration_id, |integration| {
            let ours = integration.generation == task.generation;
            let stopped = ours && integration.stop(app.clock.now(), app.seal);
            let entry = Entry {
                id: app.clock.ulid(),
                action: Action::IntegrationStopped,
                reason: reason.clone(),
            };
            Ok::<_, StoreError>(if stopped {
                Decision::WriteWith(entry)
            } else {
                Decision::Keep
            })
        })
        .await?;
    Ok(())
}

async fn append(
    app: &App,
    owner: &Owner,
    id: Ulid,
    action: Action,
    reason: String,
) -> Result<(), DeliveryError> {
    Ok(app
        .integration_log
        .append(owner, &Entry { id, action, reason })
        .await?)
}

/// Whether this container may write `retry_triggered` for this integration again.
fn is_due(app: &App, generation: Ulid) -> bool {
    let now = app.clock.now();
    let mut last = app
        .last_retry_entry
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if last.len() >= MAX_PACED {
        last.retain(|_, at| now.since(*at) < RETRY_ENTRY_EVERY);
    }
    let due = last
        .get(&generation)
        .is_none_or(|at| now.since(*at) >= RETRY_ENTRY_EVERY);
    if due {
        last.insert(generation, now);
    }
    due
}
