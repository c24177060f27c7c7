//! What functions cost: each release binary as a process of its own, beside Lambda's Runtime API and services of AWS with canned
//! responses. Processor time per 1,000 events, peak memory, and cold starts, each beside its floor in the same run.
//!
//! `BENCH_FUNCTIONS` is the folder of the binaries; with `BENCH_BASE`, the folder of another build, both are measured in turn.
//! `BENCH_ONLY` is a part to be measured alone: `way`, `ranges` or `starts`.

#![expect(clippy::print_stdout, reason = "what is measured is printed")]

#[path = "functions/export.rs"]
mod export;
#[path = "functions/pipeline.rs"]
mod pipeline;
#[path = "functions/starts.rs"]
mod starts;
#[path = "functions/table.rs"]
mod table;

use std::env;
use std::path::PathBuf;

use bench::measure::Failure;

use crate::table::Table;

/// How often each load is measured.
const ROUNDS: usize = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let folder = |name| env::var_os(name).map(PathBuf::from);
    let ours = folder("BENCH_FUNCTIONS").ok_or("BENCH_FUNCTIONS is not set")?;
    let sides: Vec<PathBuf> = [Some(ours), folder("BENCH_BASE")]
        .into_iter()
        .flatten()
        .collect();
    let only = env::var("BENCH_ONLY").unwrap_or_default();
    let is_asked = |part: &str| only.is_empty() || only == part;
    let mut table = Table::new(sides.len());
    let turns = || (0..ROUNDS).flat_map(|_| sides.iter().enumerate());
    if is_asked("way") {
        for (side, binaries) in turns() {
            let with_floor = side == 0;
            let mut note = |sample| table.note(side, sample);
            for each in [1, 100] {
                pipeline::measure(binaries, each, with_floor, &mut note).await?;
            }
            pipeline::notify(binaries, &mut note).await?;
        }
    }
    if is_asked("ranges") {
        let corpora = export::Corpora::new()?;
        for (side, binaries) in turns() {
            let with_floor = side == 0;
            let mut note = |sample| table.note(side, sample);
            export::measure(binaries, &corpora, with_floor, &mut note).await?;
        }
    }
    if is_asked("starts") {
        starts::measure(&sides, &mut table).await?;
    }
    println!("{table}");
    Ok(())
}
