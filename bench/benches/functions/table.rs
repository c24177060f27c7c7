//! What was measured, as one table: of each load the median of its rounds, ratios last.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use bench::measure::median;

const MIB: f64 = 1024.0 * 1024.0;

/// What a load took.
pub struct Sample {
    /// The function.
    pub function: &'static str,
    /// What it was given.
    pub load: &'static str,
    /// How many events these were.
    pub events: usize,
    /// The bytes that it wrote, where these are what counts.
    pub bytes: Option<usize>,
    /// Processor time.
    pub cpu: Duration,
    /// What the same takes at the least.
    pub floor: Option<Duration>,
    /// The most memory, in MiB.
    pub peak: f64,
}

/// What a start took.
pub struct Start {
    /// The size of the program.
    pub bytes: u64,
    /// Processor time until the first poll.
    pub cpu: Duration,
    /// Time until the first poll.
    pub wall: Duration,
    /// Processor time of the first invocation.
    pub first: Duration,
}

/// Everything that was measured; the first side is the build that is looked at, the second the one that it is compared to.
pub struct Table {
    sides: usize,
    order: Vec<(&'static str, &'static str)>,
    samples: BTreeMap<(usize, &'static str, &'static str), Vec<Sample>>,
    starts: BTreeMap<(usize, &'static str), Vec<Start>>,
}

impl Table {
    /// Empty.
    pub fn new(sides: usize) -> Table {
        Table {
            sides,
            order: Vec::new(),
            samples: BTreeMap::new(),
            starts: BTreeMap::new(),
        }
    }

    /// Takes a sample in.
    pub fn note(&mut self, side: usize, sample: Sample) {
        let load = (sample.function, sample.load);
        if !self.order.contains(&load) {
            self.order.push(load);
        }
        let samples = self.samples.entry((side, load.0, load.1)).or_default();
        samples.push(sample);
    }

    /// Takes a start in.
    pub fn note_start(&mut self, side: usize, function: &'static str, start: Start) {
        self.starts.entry((side, function)).or_default().push(start);
    }

    /// The samples of a load; none where the side does not exist.
    fn of(&self, side: usize, load: (&'static str, &'static str)) -> &[Sample] {
        self.samples
            .get(&(side, load.0, load.1))
            .map_or(&[], Vec::as_slice)
    }

    /// Processor milliseconds per 1,000 events, the median.
    fn cost(&self, side: usize, load: (&'static str, &'static str)) -> Option<f64> {
        middle(self.of(side, load), |it| per_thousand(it.cpu, it.events))
    }

    fn floor(&self, load: (&'static str, &'static str)) -> Option<f64> {
        let samples = self.of(0, load).iter();
        let floors: Vec<f64> = samples
            .filter_map(|it| Some(per_thousand(it.floor?, it.events)))
            .collect();
        (!floors.is_empty()).then(|| median(floors))
    }

    fn loads(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "| function | load | events | CPU ms per 1,000 | floor | base | MiB of lines per CPU s | peak MiB | to floor | to base |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|---|---|---|")?;
        for load in self.order.iter().copied() {
            let samples = self.of(0, load);
            let cost = self.cost(0, load);
            let base = self.cost(1, load);
            let speed = middle(samples, |it| {
                it.bytes.unwrap_or_default() as f64 / MIB / it.cpu.as_secs_f64()
            });
            writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                load.0,
                load.1,
                samples.first().map_or(0, |it| it.events),
                text(cost, 2),
                text(self.floor(load), 2),
                text(base, 2),
                text(speed.filter(|speed| *speed > 0.0), 0),
                text(samples.iter().map(|it| it.peak).max_by(f64::total_cmp), 1),
                ratio(cost, self.floor(load)),
                ratio(cost, base),
            )?;
        }
        for load in ["1 event a request", "100 events a request"] {
            let sum = |cost: &dyn Fn((&'static str, &'static str)) -> Option<f64>| {
                let parts = ["api", "ingest", "delivery"].map(|function| cost((function, load)));
                parts.into_iter().sum::<Option<f64>>()
            };
            let (ours, base) = (sum(&|it| self.cost(0, it)), sum(&|it| self.cost(1, it)));
            let floor = sum(&|it| self.floor(it));
            writeln!(
                out,
                "| **whole way** | {load} | | **{}** | {} | {} | | | {} | {} |",
                text(ours, 2),
                text(floor, 2),
                text(base, 2),
                ratio(ours, floor),
                ratio(ours, base)
            )?;
        }
        Ok(())
    }

    fn cold(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "| cold start of | MB | first poll, ms | CPU ms until then | base | CPU ms of the first invocation | base | to floor | to base |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
        let cpu = |side, name| self.start(side, name, |it| millis(it.cpu));
        let first = |side, name| self.start(side, name, |it| millis(it.first));
        for (side, name) in self.starts.keys().copied().filter(|(side, _)| *side == 0) {
            let size = self.start(side, name, |it| it.bytes as f64 / 1e6);
            writeln!(
                out,
                "| {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
                text(size, 1),
                text(self.start(side, name, |it| millis(it.wall)), 1),
                text(cpu(0, name), 1),
                text(cpu(1, name), 1),
                text(first(0, name), 1),
                text(first(1, name), 1),
                ratio(cpu(0, name), cpu(0, "floor")),
                ratio(cpu(0, name), cpu(1, name)),
            )?;
        }
        Ok(())
    }

    fn start(&self, side: usize, name: &'static str, value: impl Fn(&Start) -> f64) -> Option<f64> {
        middle(self.starts.get(&(side, name))?, value)
    }
}

impl Display for Table {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        if self.sides > 1 {
            writeln!(
                out,
                "Both builds in turn; base is the one that is compared to.\n"
            )?;
        }
        self.loads(out)?;
        writeln!(out)?;
        self.cold(out)
    }
}

fn middle<T>(samples: &[T], value: impl Fn(&T) -> f64) -> Option<f64> {
    let values: Vec<f64> = samples.iter().map(value).collect();
    (!values.is_empty()).then(|| median(values))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn per_thousand(cpu: Duration, events: usize) -> f64 {
    millis(cpu) * 1_000.0 / events as f64
}

fn text(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(String::new, |value| format!("{value:.digits$}"))
}

fn ratio(value: Option<f64>, to: Option<f64>) -> String {
    match (value, to) {
        (Some(value), Some(to)) => format!("{:.2}", value / to),
        _ => String::new(),
    }
}
