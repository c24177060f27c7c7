//! Ingest: takes events from the queue, appends them to the event log, and sends them to the integrations that are live.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use domain::event::Event;
use domain::ingest_record;
use domain::integration::IntegrationRef;
use domain::log::segment::{self, Built};
use domain::metric::Metric;
use domain::tasks::{Run, RunEvent};
use domain::time::Millis;
use futures_util::future::join_all;
use shared::batch::{self, Receipt};
use shared::clock::Clock;
use shared::metrics::Metrics;
use shared::queue::{Queue, SendError};
use shared::services::Services;
use shared::store::StoreError;
use shared::store::event_log::{Appended, EventLog};
use shared::store::integrations::Integrations;
use shared::telemetry::chain;
use shared::trace::{Segment, Trace, Tracer};

/// How often events whose append is in doubt are appended again before the batch is handed back to the queue.
const MAX_APPENDS: usize = 5;

/// What ingest works with.
#[derive(Debug)]
pub struct App {
    /// The current time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Metrics,
    /// Where segments of traces go.
    pub tracer: Tracer,
    /// Where events are appended.
    pub event_log: EventLog,
    /// Who receives them.
    pub integrations: Integrations,
    /// Where events for webhooks go.
    pub delivery_queue: Queue,
    /// Where events come from.
    pub ingest_queue: Queue,
    /// Where records go that no one can read.
    pub dead_letters: Queue,
    /// The seal of the event log.
    pub seal: Duration,
    /// The time limit of one invocation.
    pub time_limit: Duration,
}

impl App {
    /// Made of what template.yaml gives this function.
    pub fn new(services: &Services) -> App {
        App {
            clock: services.clock.clone(),
            metrics: services.metrics.clone(),
            tracer: services.tracer(),
            event_log: services.event_log(),
            integrations: services.integrations(),
            delivery_queue: services.queue("DELIVERY_QUEUE_URL"),
            ingest_queue: services.queue("INGEST_QUEUE_URL"),
            dead_letters: services.queue("INGEST_DEAD_LETTER_QUEUE_URL"),
            seal: services.seal(),
            time_limit: services.time_limit(),
        }
    }
}

/// Why the events of a tenant could not be taken in. The queue hands them out again.
#[derive(Debug, thiserror::Error)]
enum IngestError {
    #[error("the events could not be compressed")]
    Build(#[from] std::io::Error),
    #[error("the event log or the integrations could not be used")]
    Store(#[from] StoreError),
    #[error("no append was confirmed in time")]
    InDoubt,
    #[error("a task could not be written")]
    Task(#[from] serde_json::Error),
    #[error("the tasks could not be sent")]
    Send(#[from] SendError),
}

/// One tenant's part of a batch.
#[derive(Default)]
struct Part {
    receipts: Vec<Receipt>,
    events: Vec<Event>,
    /// The requests that published them.
    requests: Vec<String>,
    /// The first sampled trace of them: a run is in one at the most.
    trace: Option<Trace>,
}

/// Handles a batch of the ingest queue in an invocation that Lambda ends at `deadline`. What fails is handed out again; what
/// cannot be read goes to the dead-letter queue.
pub async fn handle(app: &App, event: SqsEvent, deadline: Millis) -> SqsBatchResponse {
    if !is_on_time(app.clock.now(), deadline.before(app.time_limit), app.seal) {
        tracing::error!(%deadline, "the clock is off: a batch is handed back");
        let receipts = batch::records(event).into_iter().map(|it| it.receipt);
        return batch::hand_back(&app.ingest_queue, receipts.collect()).await;
    }
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    let (mut unreadable, mut buried) = (Vec::new(), Vec::new());
    for record in batch::records(event) {
        let read = ingest_record::read(&record.body);
        if !read.unreadable.is_empty() {
            tracing::warn!(message_id = record.receipt.message_id, reasons = ?read.reasons, "events cannot be read");
            unreadable.extend(read.unreadable);
            buried.push(record.receipt.clone());
        }
        if !read.events.is_empty() {
            let part = parts.entry(read.tenant).or_default();
            part.receipts.push(record.receipt);
            part.events.extend(read.events);
            part.requests.extend(read.request_id);
            part.trace = part.trace.take().or(record.trace);
        }
    }
    app.metrics
        .count(Metric::EventsUnreadable, unreadable.len());
    let mut failed = batch::bury(&app.dead_letters, unreadable, buried).await;
    let results = join_all(parts.iter().map(|(tenant, part)| ingest(app, tenant, part))).await;
    for ((tenant, part), result) in parts.iter().zip(results) {
        if let Err(error) = result {
            tracing::error!(
                tenant,
                error = chain(&error),
                "events are handed back to the queue"
            );
            app.metrics
                .count(Metric::TasksHandedBack, part.receipts.len());
            failed.extend(part.receipts.iter().cloned());
        }
    }
    batch::hand_back(&app.ingest_queue, failed).await
}

/// Whether our clock can be trusted in an invocation that began at `began` by Lambda's. Readers rely on it: a segment that is
/// appended at an instant that they have passed is in no file. It may be behind by an eighth of a seal, and ahead by a
/// quarter, which is also how long the invocation may have been held up on its way here.
fn is_on_time(now: Millis, began: Millis, seal: Duration) -> bool {
    began.since(now) <= seal / 8 && now.since(began) <= seal / 4
}

/// Appends, then reads the integrations, then routes: in this order, so that an integration that changes in between either
/// is seen here or finds the events in the event log.
async fn ingest(app: &App, tenant: &str, part: &Part) -> Result<(), IngestError> {
    let segment = app.tracer.begin("ingest", part.trace.as_ref());
    let trace = segment.as_ref().map(Segment::trace);
    let ingested = append_and_route(app, tenant, part, trace.as_ref()).await;
    app.tracer.end(segment, tenant, "", ingested.is_err());
    ingested
}

async fn append_and_route(
    app: &App,
    tenant: &str,
    part: &Part,
    trace: Option<&Trace>,
) -> Result<(), IngestError> {
    app.metrics.concern(tenant, "");
    let built = append(app, tenant, &part.events).await?;
    note(app, tenant, &part.requests, &built);
    let mut messages = Vec::new();
    for integration in app.integrations.list(tenant).await? {
        let integration_ref = IntegrationRef::from(&integration);
        for Built { segment, events } in &built {
            let published_at = segment.published_at();
            let live = (0..)
                .zip(events)
                .filter(|(_, (event, _))| integration.takes_live(published_at, event.name));
            let live = live.map(|(index, (event, envelope))| RunEvent {
                index,
                id: event.id.to_owned(),
                name: event.name.to_owned(),
                body: envelope.to_owned(),
            });
            let shard = app.event_log.shard(segment.id);
            let runs = Run::of(&integration_ref, segment.id, shard, live);
            for run in runs {
                messages.push(run.message()?);
            }
        }
    }
    Ok(app.delivery_queue.send_in(messages, trace).await?)
}

/// Counts and logs what was appended: where each event is, and which request it came in.
fn note(app: &App, tenant: &str, requests: &[String], built: &[Built<'_>]) {
    for Built { segment, events } in built {
        let bytes = segment.stored_bytes();
        app.metrics.count(Metric::EventsAppended, events.len());
        app.metrics.measure(Metric::SegmentBytes, bytes as u64);
        let ids: Vec<&str> = events.iter().map(|(event, _)| event.id).collect();
        tracing::info!(
            tenant,
            segment = %segment.id,
            request_id = requests.join(" "),
            count = events.len(),
            event = ids.join(" "),
            "appended"
        );
    }
}

/// Appends events until each is in a segment that was confirmed in time.
async fn append<'a>(
    app: &App,
    tenant: &str,
    events: &'a [Event],
) -> Result<Vec<Built<'a>>, IngestError> {
    let mut pending: Vec<_> = events
        .iter()
        .map(|event| segment::NewEvent {
            id: &event.id,
            name: &event.name,
            payload: &event.payload,
        })
        .collect();
    let mut confirmed = Vec::new();
    for _ in 0..MAX_APPENDS {
        let built = segment::build(tenant, std::mem::take(&mut pending), || app.clock.ulid())?;
        // All come to their end, also when one fails: what is dropped half-way might still be sent when a frozen process is thawed.
        let results = join_all(
            built
                .iter()
                .map(|built| app.event_log.append(tenant, &built.segment)),
        )
        .await;
        for (built, result) in built.into_iter().zip(results) {
            match result? {
                Appended::Confirmed => confirmed.push(built),
                Appended::InDoubt => {
                    pending.extend(built.events.into_iter().map(|(event, _)| event))
                }
            }
        }
        if pending.is_empty() {
            return Ok(confirmed);
        }
        app.metrics.count(Metric::EventsRepeated, pending.len());
        tracing::warn!(
            tenant,
            events = pending.len(),
            "an append was not confirmed in time: appended again"
        );
    }
    Err(IngestError::InDoubt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_noticed() {
        let (seal, began) = (Duration::from_secs(10), Millis(1_700_000_000_000));
        for (now, expected) in [
            (began, true),
            (began.before(Duration::from_millis(1_250)), true),
            (began.before(Duration::from_millis(1_251)), false),
            (began.after(Duration::from_millis(2_500)), true),
            (began.after(Duration::from_millis(2_501)), false),
            // Thawed in the middle of an invocation that is over.
            (began.after(Duration::from_secs(3600)), false),
        ] {
            assert_eq!(is_on_time(now, began, seal), expected, "{now}");
        }
    }
}
