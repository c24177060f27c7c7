//! The way of an event: published, appended, delivered to one webhook, with the messages that the functions themselves send.

use std::path::Path;
use std::sync::Arc;

use bench::event_log::EventLog;
use bench::function::Function;
use bench::loads;
use bench::measure::Failure;
use bench::stored::Stored;

use crate::table::Sample;
use bench::run::{World, drive, floor};

/// How many events are published, after those of the first requests.
const EVENTS: usize = 5_000;
/// The messages of an ingest batch where each has one event. Where each has a hundred, a batch is one message: at 1,000 events a
/// second, one comes every 100 ms, and finds no other.
const BATCH: usize = 10;
/// An answer of SQS's batches.
const DONE: &str = r#""batchItemFailures":[]"#;

/// Publishes events, so many in a request, and carries them to a webhook: each function by itself. Delivery gets at a time what one
/// batch of ingest has sent.
pub async fn measure(
    binaries: &Path,
    each: usize,
    with_floor: bool,
    note: &mut impl FnMut(Sample),
) -> Result<(), Failure> {
    let world = World::new(&Arc::new(EventLog::default()), None, |url| {
        Stored::new(&[loads::live("erp-1".to_owned(), url)])
    })
    .await?;
    let batch = if each == 1 { BATCH } else { 1 };
    let events = EVENTS + each * batch;
    let mut bodies = loads::requests(events, each);
    let mut published: Vec<String> = Vec::new();
    for (name, queue, expected, invocations) in [
        ("api", "ingest", r#""statusCode":202"#, events / each),
        ("ingest", "delivery", DONE, events / each / batch),
        ("delivery", "none", DONE, events / each / batch),
    ] {
        assert_eq!(bodies.len(), invocations, "{name}");
        let events = events - events / invocations;
        let sizes: Vec<usize> = bodies.iter().map(String::len).collect();
        let function = Function::start(&binaries.join(name), &world.endpoint, &[]).await?;
        let load = drive(&function, &world, bodies.clone(), queue, expected).await?;
        let peak = function.peak()?;
        drop(function);
        if with_floor && (name, each) == ("api", 1) {
            note(alone(&world, &bodies).await?);
        }
        let floor = match with_floor {
            true => Some(
                floor(
                    Path::new(env!("CARGO_BIN_EXE_floor")),
                    &world,
                    &load.plan,
                    &sizes,
                )
                .await?,
            ),
            false => None,
        };
        note(Sample {
            function: name,
            load: if each == 1 {
                "1 event a request"
            } else {
                "100 events a request"
            },
            events,
            bytes: None,
            cpu: load.cpu,
            floor,
            peak,
        });
        bodies = match name {
            "api" => {
                published = load.sent.concat();
                published.chunks(batch).map(loads::batch).collect()
            }
            _ => load.sent.iter().map(|sent| loads::batch(sent)).collect(),
        };
    }
    let stored = world.cloud.stored();
    assert_eq!(published.len(), EVENTS / each + batch);
    assert_eq!(stored.webhooks.len(), events, "every event was delivered");
    assert!(
        stored.webhooks.values().all(|times| *times == 1),
        "and once"
    );
    Ok(())
}

/// Lambda's runtime and one call of the SDK, with what the api function gets as the message: near the least that a function takes which
/// makes one call.
async fn alone(world: &World, bodies: &[String]) -> Result<Sample, Failure> {
    let queue = format!("{}/123456789012/alone", world.endpoint);
    let program = Path::new(env!("CARGO_BIN_EXE_idle"));
    let function = Function::start(program, &world.endpoint, &[("BENCH_QUEUE", queue)]).await?;
    let load = drive(&function, world, bodies.to_vec(), "alone", "").await?;
    assert!(load.sent.iter().all(|sent| sent.len() == 1), "each is sent");
    Ok(Sample {
        function: "SDK and runtime alone",
        load: "1 call a request",
        events: bodies.len() - 1,
        bytes: None,
        cpu: load.cpu,
        floor: None,
        peak: function.peak()?,
    })
}

/// Batches of a hundred entries of integration logs, as fast as they are taken.
pub async fn notify(binaries: &Path, note: &mut impl FnMut(Sample)) -> Result<(), Failure> {
    let none = Arc::new(EventLog::default());
    let world = World::new(&none, None, |_| Stored::default()).await?;
    let function = Function::start(&binaries.join("notify"), &world.endpoint, &[]).await?;
    let bodies = vec![loads::changes(100); 101];
    let load = drive(&function, &world, bodies, "none", "null").await?;
    assert!(
        load.plan.iter().all(|(_, exchanges)| exchanges.len() == 10),
        "each entry is published"
    );
    note(Sample {
        function: "notify",
        load: "100 log entries a batch",
        events: 10_000,
        bytes: None,
        cpu: load.cpu,
        floor: None,
        peak: function.peak()?,
    });
    Ok(())
}
