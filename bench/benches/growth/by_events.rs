//! The last 5,000 events of an event log that holds ever more: caught up on by a webhook, and exported into files.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bench::corpus::{Corpus, TENANT};
use bench::event_log::EventLog;
use bench::function::Function;
use bench::loads;
use bench::measure::Failure;
use bench::stored::Stored;
use domain::time::Millis;
use serde_json::json;
use shared::clock::Clock;

use crate::{Point, Series};
use bench::run::World;

/// An event of the corpus.
const EVENT_BYTES: usize = 2_500;
const RECENT: usize = 5_000;
const EVENTS_PER_SEGMENT: usize = 100;
const LIMIT: Duration = Duration::from_secs(90);

/// Catches up and exports, with 10,000, 100,000 and 1,000,000 events in the event log.
pub async fn measure(binaries: &Path) -> Result<[Series; 2], Failure> {
    let now = Clock::system().now();
    let (from, until) = (Millis(now.0 - 45 * 60_000), Millis(now.0 - 15 * 60_000));
    let oldest = from.before(Duration::from_secs(29 * 24 * 3600));
    let recent = Corpus::new(RECENT * EVENT_BYTES, EVENTS_PER_SEGMENT, from, until);
    let (mut caught_up, mut exports) = (Vec::new(), Vec::new());
    for size in [10_000, 100_000, 1_000_000] {
        let old = (size - RECENT) * EVENT_BYTES;
        let mut event_log = EventLog::new(&Corpus::new(old, EVENTS_PER_SEGMENT, oldest, from));
        event_log.append(&recent);
        let event_log = Arc::new(event_log);
        caught_up.push(catch_up(binaries, &event_log, from, size, recent.events).await?);
        exports.push(export(binaries, &event_log, from, size, &recent).await?);
    }
    Ok([
        Series {
            name: "an event caught up on, by events in the event log",
            points: caught_up,
        },
        Series {
            name: "an event exported, by events in the event log",
            points: exports,
        },
    ])
}

async fn catch_up(
    binaries: &Path,
    event_log: &Arc<EventLog>,
    from: Millis,
    size: usize,
    events: usize,
) -> Result<Point, Failure> {
    let until = from.after(Duration::from_secs(44 * 60));
    let world = World::new(event_log, None, |url| {
        Stored::new(&[loads::temporary("erp-1".to_owned(), url, from, until)])
    })
    .await?;
    let function = Function::start(&binaries.join("replay"), &world.endpoint, &[]).await?;
    let mut received = 0;
    loop {
        let document = world.cloud.stored().document();
        let Some(step) = loads::next_step(&document)? else {
            break;
        };
        function.invoke(step, LIMIT).await?;
        received += 1;
    }
    assert_eq!(
        world.cloud.stored().webhooks.len(),
        events,
        "every event was delivered"
    );
    point(&function, &world, size, events, received)
}

async fn export(
    binaries: &Path,
    event_log: &Arc<EventLog>,
    from: Millis,
    size: usize,
    recent: &Corpus,
) -> Result<Point, Failure> {
    let world = World::new(event_log, None, |_| {
        Stored::new(&[loads::exported("sap-1".to_owned(), from)])
    })
    .await?;
    let function = Function::start(&binaries.join("export"), &world.endpoint, &[]).await?;
    let now = Clock::system().now();
    let task = json!({"tenant": TENANT, "integration_id": "sap-1", "sent_at": now}).to_string();
    function.invoke(loads::batch(&[task]), LIMIT).await?;
    assert_eq!(
        world.cloud.stored().uploads.bytes,
        recent.bytes,
        "every event is in a file"
    );
    point(&function, &world, size, recent.events, 1)
}

/// What all invocations of a process have cost, its start left out.
fn point(
    function: &Function,
    world: &World,
    size: usize,
    events: usize,
    received: usize,
) -> Result<Point, Failure> {
    let cpu = function.cpu()? - function.start.0;
    let billed = world.cloud.stored().billed;
    let per = |count: usize| count as f64 / events as f64;
    Ok(Point {
        size,
        cpu: cpu.as_secs_f64() * 1e6 / events as f64,
        writes: per(billed.write_units),
        reads: per(billed.log_read_units + billed.other_read_units),
        sqs: per(billed.sqs_requests + 2 * received),
    })
}
