//! How what an event costs grows: with 1, 5 and 25 integrations that all get it, and with 10,000 to 1,000,000 events in the event log.
//! Request units as DynamoDB bills them, requests of SQS, processor time; as a table, and as a picture in `docs/pictures`.

#![expect(clippy::print_stdout, reason = "what is measured is printed")]

#[path = "growth/by_events.rs"]
mod by_events;
#[path = "growth/by_integrations.rs"]
mod by_integrations;
#[path = "growth/picture.rs"]
mod picture;

use std::path::{Path, PathBuf};
use std::{env, fs};

use bench::measure::Failure;

/// What an event costs at one size.
pub struct Point {
    /// How many integrations, or events in the event log.
    pub size: usize,
    /// Processor milliseconds for 1,000 events.
    pub cpu: f64,
    /// Write units of DynamoDB for an event.
    pub writes: f64,
    /// Read units of DynamoDB for an event.
    pub reads: f64,
    /// Requests of SQS for an event, with those that Lambda makes.
    pub sqs: f64,
}

/// What is measured at several sizes.
pub struct Series {
    /// What it is, and what is counted as one event.
    pub name: &'static str,
    /// By size.
    pub points: Vec<Point>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let binaries = env::var_os("BENCH_FUNCTIONS").ok_or("BENCH_FUNCTIONS is not set")?;
    let binaries = PathBuf::from(binaries);
    let by_integrations = by_integrations::measure(&binaries).await?;
    let by_events = by_events::measure(&binaries).await?;
    println!("| | size | CPU ms per 1,000 | write units | read units | SQS requests |");
    println!("|---|---|---|---|---|---|");
    for Series { name, points } in [&by_integrations].into_iter().chain(&by_events) {
        for point in points {
            println!(
                "| {name} | {} | {:.1} | {:.4} | {:.4} | {:.4} |",
                point.size, point.cpu, point.writes, point.reads, point.sqs
            );
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures/growth.svg");
    fs::write(path, picture::draw(&by_integrations, &by_events))?;
    Ok(())
}
