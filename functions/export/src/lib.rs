//! Export: at each tick, files with what is new go into the buckets of the running S3 integrations.

pub mod buffer;
mod grant;
pub mod roles;
mod run;
mod test;
mod upload;

use std::time::Duration;

use aws_config::SdkConfig;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use domain::calls::{TestBucket, Verdict};
use domain::export::MAX_FILE_BYTES;
use domain::exporting::Problem;
use domain::lifecycle::Rules;
use domain::metric::Metric;
use domain::tasks::{self, ExportTask};
use serde::{Deserialize, Serialize};
use shared::batch;
use shared::clock::Clock;
use shared::metrics::Metrics;
use shared::queue::{Queue, SendError};
use shared::secrets::{SecretError, Secrets};
use shared::services::Services;
use shared::store::StoreError;
use shared::store::event_log::EventLog;
use shared::store::integrations::Integrations;
use shared::trace::Trace;

use crate::roles::{RoleError, Roles};

/// What export works with.
#[derive(Debug)]
pub struct App {
    /// The current time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Metrics,
    /// What the deployment decides.
    pub rules: Rules,
    /// The time limit of one invocation.
    pub time_limit: Duration,
    /// The largest file.
    pub max_file_bytes: usize,
    /// What the last file was made in.
    pub buffer: buffer::Buffer,
    /// What is read.
    pub event_log: EventLog,
    /// The integrations.
    pub integrations: Integrations,
    /// Their secret keys.
    pub secrets: Secrets,
    /// Their roles.
    pub roles: Roles,
    /// The endpoint of uploads; the credentials in it are never used for them.
    pub sdk_config: SdkConfig,
    /// Where the tick sends its tasks.
    pub export_queue: Queue,
    /// Where tasks go that cannot be read.
    pub dead_letters: Queue,
}

impl App {
    /// Made of what template.yaml gives this function.
    pub fn new(services: &Services) -> App {
        App {
            clock: services.clock.clone(),
            metrics: services.metrics.clone(),
            rules: services.rules(),
            time_limit: services.time_limit(),
            max_file_bytes: MAX_FILE_BYTES,
            buffer: buffer::Buffer::default(),
            event_log: services.event_log(),
            integrations: services.integrations(),
            secrets: services.secrets(),
            roles: Roles::new(&services.config),
            sdk_config: services.config.clone(),
            export_queue: services.queue("EXPORT_QUEUE_URL"),
            dead_letters: services.queue("EXPORT_DEAD_LETTER_QUEUE_URL"),
        }
    }
}

/// What invokes this function: the schedule, the API, or its queue.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Invocation {
    /// Files are due.
    Tick {
        /// `export`.
        tick: String,
    },
    /// Put an object into a bucket, now.
    Test {
        /// Which one.
        test: Box<TestBucket>,
    },
    /// A batch of tasks.
    Batch(SqsEvent),
}

/// What this function returns.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// What came of a test.
    Tested(Verdict),
    /// The messages to be handed out again.
    Batch(SqsBatchResponse),
}

/// Why something could not be carried out. The next tick comes to it again.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A store failed.
    #[error("the event log or the integrations could not be used")]
    Store(#[from] StoreError),
    /// A segment is not what was stored.
    #[error("a segment could not be decompressed")]
    Segment(#[source] std::io::Error),
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

impl From<Problem> for ExportError {
    fn from(problem: Problem) -> ExportError {
        match problem {
            Problem::Segment(error) => ExportError::Segment(error),
            Problem::PlanMismatch(key) => ExportError::PlanMismatch(key),
        }
    }
}

/// Handles an invocation.
///
/// # Errors
/// When the tick or a test fails; tasks that fail are named in the response instead.
pub async fn handle(app: &App, invocation: Invocation) -> Result<Answer, ExportError> {
    match invocation {
        Invocation::Tick { .. } => {
            tick(app).await?;
            app.metrics.count(Metric::Ticks, 1);
            Ok(Answer::Batch(SqsBatchResponse::default()))
        }
        Invocation::Test { test } => Ok(Answer::Tested(test::test(app, &test).await?)),
        Invocation::Batch(event) => {
            let run = async |task: &ExportTask, _: Option<&Trace>| run::run(app, task).await;
            let (queue, dead_letters) = (&app.export_queue, &app.dead_letters);
            let answer = batch::each(event, queue, dead_letters, &app.metrics, run).await;
            Ok(Answer::Batch(answer))
        }
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
