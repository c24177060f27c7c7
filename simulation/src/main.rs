//! `simulate`: random histories, as many and from which seed on as asked.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use simulation::{Report, exports, mutant, paces, run};

/// What the command line asks for.
struct Options {
    histories: u64,
    seed: u64,
    mutants: bool,
    trace: bool,
    /// Whether the histories are those of exports.
    exports: bool,
    /// The figures of the pace; of one receiver, second by second.
    paces: Option<Option<usize>>,
    /// The only bug to put in.
    mutant: Option<String>,
}

fn options() -> Result<Options, lexopt::Error> {
    use lexopt::prelude::*;
    let mut options = Options {
        histories: 100_000,
        seed: 0,
        mutants: false,
        trace: false,
        exports: false,
        mutant: None,
        paces: None,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("histories") => options.histories = parser.value()?.parse()?,
            Long("seed") => options.seed = parser.value()?.parse()?,
            Long("trace") => options.trace = true,
            Long("exports") => options.exports = true,
            Long("mutants") => options.mutants = true,
            Long("mutant") => {
                options.mutants = true;
                options.mutant = Some(parser.value()?.string()?);
            }
            Long("paces") => options.paces = Some(None),
            Long("pace") => options.paces = Some(Some(parser.value()?.parse()?)),
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

#[expect(clippy::print_stdout, reason = "a command that prints its result")]
fn print(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stdout, reason = "a command that prints its result")]
fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            println!(
                "simulate: {error}; options: --histories N --seed N --trace --mutants --mutant NAME --exports --paces --pace N"
            );
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    if let Some(only) = options.paces {
        paces::table(only);
        return ExitCode::SUCCESS;
    }
    if options.exports {
        return simulate_exports(&options, started);
    }
    if options.mutants {
        let mut is_toothless = false;
        let wanted = |mutant: &mutant::Mutant| {
            let only = options.mutant.as_ref();
            only.is_none_or(|name| *name == format!("{mutant:?}"))
        };
        for mutant in mutant::ALL.into_iter().filter(wanted) {
            let seeds = options.seed..options.seed + options.histories;
            let found = seeds.clone().find_map(|seed| {
                run(seed, Some(mutant), None)
                    .err()
                    .map(|broken| (seed, broken))
            });
            match found {
                Some((seed, broken)) => println!("{mutant:?}: seed {seed}: {}", broken.0),
                None => {
                    println!("{mutant:?}: not found in {} histories", options.histories);
                    is_toothless = true;
                }
            }
        }
        return if is_toothless {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    let next = AtomicU64::new(options.seed);
    let end = options.seed + options.histories;
    let trace = options.trace.then_some(print as fn(&str));
    let work = || {
        let mut total = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return Ok(total);
            }
            match run(seed, None, trace) {
                Ok(report) => {
                    total.published += report.published;
                    total.attempts += report.attempts;
                    total.effects += report.effects;
                    total.crashes += report.crashes;
                }
                Err(broken) => {
                    next.store(end, Ordering::Relaxed);
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
            Ok(Ok(report)) => {
                total.published += report.published;
                total.attempts += report.attempts;
                total.effects += report.effects;
                total.crashes += report.crashes;
            }
            Ok(Err((seed, broken))) => {
                println!("simulate: seed {seed}: {}", broken.0);
                return ExitCode::FAILURE;
            }
            Err(_) => return ExitCode::FAILURE,
        }
    }
    println!(
        "simulate: histories={} published={} attempts={} effects={} crashes={} seconds={:.0} broken=0",
        options.histories,
        total.published,
        total.attempts,
        total.effects,
        total.crashes,
        started.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, reason = "a command that prints its result")]
fn simulate_exports(options: &Options, started: Instant) -> ExitCode {
    let seeds = options.seed..options.seed + options.histories;
    if options.mutants {
        let found = exports::many::find_mutants(seeds, options.mutant.as_deref());
        for (line, _) in &found {
            println!("{line}");
        }
        let is_toothless = found.iter().any(|(_, is_found)| !is_found);
        return ExitCode::from(u8::from(is_toothless));
    }
    let trace = options.trace.then_some(print as fn(&str));
    match exports::many::run_all(seeds, trace) {
        Ok(total) => {
            println!(
                "simulate exports: histories={} segments={} runs={} uploads={} files={} crashes={} seconds={:.0} broken=0",
                options.histories,
                total.segments,
                total.runs,
                total.uploads,
                total.files,
                total.crashes,
                started.elapsed().as_secs_f64()
            );
            ExitCode::SUCCESS
        }
        Err((seed, broken)) => {
            println!("simulate exports: seed {seed}: {}", broken.0);
            ExitCode::FAILURE
        }
    }
}
