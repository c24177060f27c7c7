//! Events that are published and delivered to all integrations of a tenant. What is counted is a delivery: one event to one of them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bench::event_log::EventLog;
use bench::function::Function;
use bench::loads;
use bench::measure::Failure;
use bench::stored::Stored;

use crate::{Point, Series};
use bench::run::{World, drive};

const EVENTS: usize = 2_000;
/// Events in a request.
const EACH: usize = 100;
/// The most messages that Lambda hands over at a time.
const BATCH: usize = 10;
const DONE: &str = r#""batchItemFailures":[]"#;

/// Publishes, appends and delivers, with 1, 5 and 25 integrations.
pub async fn measure(binaries: &Path) -> Result<Series, Failure> {
    let mut points = Vec::new();
    for size in [1, 5, 25] {
        points.push(with(binaries, size).await?);
    }
    Ok(Series {
        name: "a delivery, by integrations",
        points,
    })
}

async fn with(binaries: &Path, integrations: usize) -> Result<Point, Failure> {
    let world = World::new(&Arc::new(EventLog::default()), None, |url| {
        let live = (0..integrations).map(|n| loads::live(format!("erp-{n:02}"), url.clone()));
        Stored::new(&live.collect::<Vec<_>>())
    })
    .await?;
    let mut bodies = loads::requests(EVENTS, EACH);
    let (mut cpu, mut received) = (Duration::ZERO, 0);
    for (name, queue, expected) in [
        ("api", "ingest", r#""statusCode":202"#),
        ("ingest", "delivery", DONE),
        ("delivery", "none", DONE),
    ] {
        let function = Function::start(&binaries.join(name), &world.endpoint, &[]).await?;
        // The first invocation, which makes connections, is made twice: only the second one counts.
        if name == "api" {
            bodies.insert(0, loads::requests(EACH, EACH).concat());
        }
        let invocations = bodies.len();
        let load = drive(&function, &world, bodies, queue, expected).await?;
        cpu += load.cpu * invocations as u32 / (invocations as u32 - 1);
        received += if name == "api" { 0 } else { invocations };
        let sent = load.sent.concat();
        bodies = match name {
            "api" => sent
                .iter()
                .map(|message| loads::batch(std::slice::from_ref(message)))
                .collect(),
            _ => sent.chunks(BATCH).map(loads::batch).collect(),
        };
    }
    let stored = world.cloud.stored();
    let deliveries: usize = stored.webhooks.values().sum();
    assert_eq!(
        deliveries,
        (EVENTS + EACH) * integrations,
        "every event was delivered"
    );
    let billed = stored.billed;
    let per = |count: usize| count as f64 / deliveries as f64;
    Ok(Point {
        size: integrations,
        cpu: cpu.as_secs_f64() * 1e6 / deliveries as f64,
        writes: per(billed.write_units),
        reads: per(billed.log_read_units + billed.other_read_units),
        // Each batch is received and deleted by a request of Lambda's.
        sqs: per(billed.sqs_requests + 2 * received),
    })
}
