//! Many histories of exports, on all processors.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::report::Report;
use super::{mutant, run};
use crate::Broken;

/// Runs the histories of these seeds.
///
/// # Errors
/// The seed of a history that broke a promise, and which one.
pub fn run_all(seeds: Range<u64>, trace: Option<fn(&str)>) -> Result<Report, (u64, Broken)> {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut total = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(total);
            }
            match run(seed, None, trace) {
                Ok(report) => total.add(report),
                Err(broken) => {
                    next.store(seeds.end, Ordering::Relaxed);
                    return Err((seed, broken));
                }
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    let mut total = Report::default();
    for result in results {
        match result {
            Ok(report) => total.add(report?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    Ok(total)
}

/// Puts in every bug, or the one of this name: for each a line that says what found it, and whether anything did.
pub fn find_mutants(seeds: Range<u64>, only: Option<&str>) -> Vec<(String, bool)> {
    let wanted = |mutant: &mutant::Mutant| only.is_none_or(|name| name == format!("{mutant:?}"));
    let find = |mutant| {
        let found = seeds.clone().find_map(|seed| {
            let broken = run(seed, Some(mutant), None).err()?;
            Some(format!("{mutant:?}: seed {seed}: {}", broken.0))
        });
        let missed = || {
            format!(
                "{mutant:?}: not found in {} histories",
                seeds.end - seeds.start
            )
        };
        (found.clone().unwrap_or_else(missed), found.is_some())
    };
    mutant::ALL.into_iter().filter(wanted).map(find).collect()
}
