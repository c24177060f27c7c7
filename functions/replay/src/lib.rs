//! Replay: sends what streams owe from the event log and what waits, and lets them go live. Every minute it sweeps up what is due.

mod reading;
mod segments;
mod sending;
mod sweep;
mod work;

use std::sync::Mutex;
use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use domain::lifecycle::Rules;
use domain::metric::Metric;
use domain::replay::sweep::Sent;
use domain::tasks::ReplayTask;
use receivers::Receivers;
use serde::Deserialize;
use shared::activity::Counter;
use shared::batch;
use shared::clock::Clock;
use shared::lifecycle::Lifecycle;
use shared::metrics::Metrics;
use shared::queue::{Queue, SendError};
use shared::recent::{Recent, RecentError};
use shared::services::Services;
use shared::store::StoreError;
use shared::store::event_log::EventLog;
use shared::store::fates::Fates;
use shared::store::integration_log::IntegrationLog;
use shared::store::integrations::{Due, Integrations};
use shared::store::rejected_events::RejectedEvents;
use shared::store::waiting_events::WaitingEvents;
use shared::trace::Trace;

/// What replay works with.
#[derive(Debug)]
pub struct App {
    /// The current time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Metrics,
    /// What is counted of each integration.
    pub counter: Counter,
    /// What the deployment decides.
    pub rules: Rules,
    /// What is read.
    pub event_log: EventLog,
    /// What happens to integrations.
    pub lifecycle: Lifecycle,
    /// The integrations.
    pub integrations: Integrations,
    /// The integrations as they are right before a request.
    pub recent: Recent,
    /// Their logs.
    pub integration_log: IntegrationLog,
    /// What receivers refused.
    pub rejected_events: RejectedEvents,
    /// What is noted of it for good.
    pub fates: Fates,
    /// What could not be sent, or has to be sent again.
    pub waiting_events: WaitingEvents,
    /// What the sweeps of this process have sent.
    pub swept: Mutex<Sent<Due>>,
    /// The receivers.
    pub receivers: Receivers,
    /// Where replay's own tasks go.
    pub replay_queue: Queue,
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
            rules: services.rules(),
            event_log: services.event_log(),
            lifecycle: services.lifecycle(),
            integrations: services.integrations(),
            recent: services.recent(),
            integration_log: services.integration_log(),
            rejected_events: services.rejected_events(),
            fates: services.fates(),
            waiting_events: services.waiting_events(),
            swept: Mutex::default(),
            receivers: Receivers::new(allow_private),
            replay_queue: services.queue("REPLAY_QUEUE_URL"),
            dead_letters: services.queue("REPLAY_DEAD_LETTER_QUEUE_URL"),
        }
    }
}

/// What invokes this function: the schedule, or its queue.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Invocation {
    /// The sweep is due.
    Tick {
        /// `sweep`.
        tick: String,
    },
    /// A batch of tasks.
    Batch(SqsEvent),
}

/// Why something could not be carried out. The queue hands it out again; the sweep comes again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A store failed.
    #[error("the event log or the integrations could not be used")]
    Store(#[from] StoreError),
    /// The integration could not be read right before a request.
    #[error("the integration could not be read")]
    Recent(#[from] RecentError),
    /// A step could not begin; the log says why.
    #[error("a step could not begin")]
    HandedBack,
    /// A segment is not what was stored.
    #[error("a segment could not be decompressed")]
    Segment(#[from] std::io::Error),
    /// A task could not be written.
    #[error("a task could not be written")]
    Task(#[from] serde_json::Error),
    /// A task could not be sent.
    #[error("the tasks could not be sent")]
    Send(#[from] SendError),
}

/// Handles an invocation that has `left` to live.
///
/// # Errors
/// When the sweep fails; tasks that fail are named in the response instead.
pub async fn handle(
    app: &App,
    invocation: Invocation,
    left: Duration,
) -> Result<SqsBatchResponse, ReplayError> {
    app.recent.forget();
    match invocation {
        Invocation::Tick { .. } => {
            sweep::sweep(app, left).await?;
            app.metrics.count(Metric::Sweeps, 1);
            Ok(SqsBatchResponse::default())
        }
        Invocation::Batch(event) => {
            let steps = sending::Batch::default();
            let carry_out = async |task: &ReplayTask, _: Option<&Trace>| {
                carry_out(app, task, left, &steps).await
            };
            let (queue, dead_letters) = (&app.replay_queue, &app.dead_letters);
            let answer = batch::each(event, queue, dead_letters, &app.metrics, carry_out).await;
            app.counter.flush().await;
            Ok(answer)
        }
    }
}

async fn carry_out(
    app: &App,
    task: &ReplayTask,
    left: Duration,
    steps: &sending::Batch,
) -> Result<(), ReplayError> {
    match task {
        ReplayTask::Step {
            integration_ref,
            turn,
        } => sending::step(app, integration_ref, *turn, left, steps).await,
        ReplayTask::Purge { integration_ref } => {
            Ok(app.integrations.purge(integration_ref).await?)
        }
    }
}
