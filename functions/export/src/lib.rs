//! Export: at each tick, files with what is new go into the buckets of the running S3 integrations.

pub mod file;
pub mod roles;
mod run;
mod upload;

use std::time::Duration;

use aws_config::SdkConfig;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use domain::export::MAX_FILE_BYTES;
use domain::tasks::{self, ExportTask};
use futures_util::future::join_all;
use serde::Deserialize;
use shared::clock::Clock;
use shared::queue::{Queue, SendError};
use shared::secrets::{SecretError, Secrets};
use shared::store::StoreError;
use shared::store::event_log::{EventLog, Settings};
use shared::store::integration_log::IntegrationLog;
use shared::store::integrations::Integrations;
use shared::telemetry::chain;
use shared::{batch, env};

use crate::roles::{RoleError, Roles};

/// What export works with.
#[derive(Debug)]
pub struct App {
    /// The current time.
    pub clock: Clock,
    /// The seal of the event log.
    pub seal: Duration,
    /// The time limit of one invocation.
    pub time_limit: Duration,
    /// The largest file.
    pub max_file_bytes: usize,
    /// What the last file was made in.
    pub buffer: file::Buffer,
    /// An integration whose uploads have done nothing but fail for so long is stopped.
    pub give_up: Duration,
    /// What is read.
    pub event_log: EventLog,
    /// Whose files they are.
    pub integrations: Integrations,
    /// Their logs.
    pub integration_log: IntegrationLog,
    /// Their secret keys.
    pub secrets: Secrets,
    /// Their roles.
    pub roles: Roles,
    /// The HTTP client and the endpoint of uploads; the credentials in it are never used for them.
    pub sdk_config: SdkConfig,
    /// Where the tick sends its tasks.
    pub export_queue: Queue,
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
            seal: env::seal(),
            time_limit: env::time_limit(),
            max_file_bytes: MAX_FILE_BYTES,
            buffer: file::Buffer::default(),
            give_up: env::rules().give_up,
            event_log: EventLog::new(
                dynamodb.clone(),
                env::required("EVENTS_TABLE"),
                clock.clone(),
                Settings::from_env(),
            ),
            integrations: Integrations::new(dynamodb.clone(), table.clone()),
            integration_log: IntegrationLog::new(dynamodb, table),
            secrets: Secrets::new(
                aws_sdk_kms::Client::new(&config),
                env::required("SECRETS_KEY_ID"),
                clock.clone(),
            ),
            roles: Roles::new(&config),
            clock,
            sdk_config: config,
            export_queue: Queue::new(sqs.clone(), env::required("EXPORT_QUEUE_URL")),
            dead_letters: Queue::new(sqs, env::required("EXPORT_DEAD_LETTER_QUEUE_URL")),
        }
    }
}

/// What invokes this function: the schedule, or its queue.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Invocation {
    /// Files are due.
    Tick {
        /// `export`.
        tick: String,
    },
    /// A batch of tasks.
    Batch(SqsEvent),
}

/// Why something could not be carried out. The next tick comes to it again.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A store failed.
    #[error("the event log or the integrations could not be used")]
    Store(#[from] StoreError),
    /// A segment is not what was stored.
    #[error("a segment could not be decompressed")]
    Segment(#[from] std::io::Error),
    /// A secret key could not be decrypted.
    #[error("a secret key could not be decrypted")]
    Secret(#[from] SecretError),
    /// A role could not be assumed.
    #[error("a role could not be assumed")]
    Role(#[from] RoleError),
    /// A task could not be written.
    #[error("a task could not be written")]
    Task(#[from] serde_json::Error),
    /// A task could not be sent.
    #[error("the tasks could not be sent")]
    Send(#[from] SendError),
    /// The event log does not give the bytes any more that a plan was made of.
    #[error("the file of a plan cannot be made again: {0}")]
    PlanMismatch(String),
}

/// Handles an invocation.
///
/// # Errors
/// When the tick fails; tasks that fail are named in the answer instead.
pub async fn handle(app: &App, invocation: Invocation) -> Result<SqsBatchResponse, ExportError> {
    match invocation {
        Invocation::Tick { .. } => {
            tick(app).await?;
            Ok(SqsBatchResponse::default())
        }
        Invocation::Batch(event) => Ok(tasks_of(app, event).await),
    }
}

/// Sends a task for every running S3 integration: the sparse index holds these and no others, and is read page by page.
async fn tick(app: &App) -> Result<(), ExportError> {
    let sent_at = app.clock.now();
    let mut page = None;
    loop {
        let (found, next) = app.integrations.running_exports(page).await?;
        let task = |(tenant, integration_id)| {
            tasks::message(
                &ExportTask {
                    tenant,
                    integration_id,
                    sent_at,
                },
                Duration::ZERO,
            )
        };
        app.export_queue
            .send(found.into_iter().map(task).collect::<Result<_, _>>()?)
            .await?;
        if next.is_none() {
            return Ok(());
        }
        page = next;
    }
}

async fn tasks_of(app: &App, event: SqsEvent) -> SqsBatchResponse {
    let results = join_all(batch::records(event).into_iter().map(|record| async move {
        let result = match serde_json::from_str::<ExportTask>(&record.body) {
            Ok(task) => run::run(app, &task).await,
            Err(error) => {
                tracing::warn!(
                    message_id = record.receipt.message_id,
                    error = chain(&error),
                    "a task cannot be read"
                );
                batch::bury(&app.dead_letters, vec![record.body])
                    .await
                    .map_err(ExportError::from)
            }
        };
        let error = result.err()?;
        tracing::error!(
            message_id = record.receipt.message_id,
            error = chain(&error),
            "a task is handed back"
        );
        Some(record.receipt)
    }));
    let failed = results.await.into_iter().flatten().collect();
    batch::hand_back(&app.export_queue, failed).await
}
