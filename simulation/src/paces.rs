//! One sender's pace against receivers that take only so much: how long it takes, and how much is refused.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use domain::backoff;
use domain::stream::pace::{Pace, Pacer, Verdict};
use domain::time::Millis;
use rand::rngs::Xoshiro256PlusPlus as Random;
use rand::{RngExt, SeedableRng};

/// What a receiver takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Capacity {
    /// Everything.
    Any,
    /// So many requests at a time; it responds with 429 beyond.
    AtOnce(usize),
    /// So many requests at a time; it does not respond beyond.
    HangsBeyond(usize),
    /// So many requests a second, and as many more at once.
    PerSecond(f64, f64),
    /// So many requests a second; beyond, each waits for those before it.
    Queues(f64),
    /// Nothing before this instant, in milliseconds: 503.
    DownUntil(u64),
}

/// A receiver.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What it takes.
    pub capacity: Capacity,
    /// How long it takes to respond, in milliseconds.
    pub took: u64,
    /// What it asks for when it refuses, in seconds.
    pub retry_after: Option<u64>,
}

/// How it went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// When the last event was taken, in milliseconds.
    pub millis: u64,
    /// How many requests were made.
    pub attempts: usize,
    /// How many of them were refused, or not answered.
    pub refused: usize,
    /// How many requests were made in the first second, or in the first one after an outage.
    pub first_second: usize,
    /// The most at a time.
    pub peak: usize,
}

impl Figures {
    /// The share of requests that were refused, in percent.
    pub fn refused_percent(&self) -> f64 {
        self.refused as f64 * 100.0 / self.attempts.max(1) as f64
    }
}

/// A request that ends: when, its number, event and tries, whether it is taken, and whether it keeps the receiver busy.
type End = (u64, u64, u32, u32, bool, bool);

/// The state of a receiver.
struct Receiver {
    kind: Kind,
    busy: usize,
    tokens: f64,
    filled_at: u64,
    free_at: f64,
}

impl Receiver {
    /// What comes of a request: whether it is taken, and after how many milliseconds it ends.
    fn request(&mut self, now: u64) -> (bool, u64) {
        let took = self.kind.took;
        match self.kind.capacity {
            Capacity::Any => (true, took),
            Capacity::AtOnce(most) if self.busy >= most => (false, 5),
            Capacity::HangsBeyond(most) if self.busy >= most => (false, 15_000),
            Capacity::AtOnce(_) | Capacity::HangsBeyond(_) => {
                self.busy += 1;
                (true, took)
            }
            Capacity::PerSecond(rate, burst) => {
                let grown = (now - self.filled_at) as f64 / 1_000.0 * rate;
                self.tokens = (self.tokens + grown).min(burst);
                self.filled_at = now;
                let is_taken = self.tokens >= 1.0;
                self.tokens -= if is_taken { 1.0 } else { 0.0 };
                (is_taken, if is_taken { took } else { 5 })
            }
            Capacity::Queues(rate) => {
                self.free_at = self.free_at.max(now as f64) + 1_000.0 / rate;
                let took = took.max((self.free_at - now as f64) as u64);
                (took < 15_000, took.min(15_000))
            }
            Capacity::DownUntil(until) => (now >= until, took),
        }
    }
}

/// Sends `events` events, as fast as the pace lets it, for 30 minutes at the most.
pub fn run(kind: Kind, events: usize, seed: u64, trace: bool) -> Figures {
    let mut random = Random::seed_from_u64(seed);
    let mut receiver = Receiver {
        kind,
        busy: 0,
        tokens: 0.0,
        filled_at: 0,
        free_at: 0.0,
    };
    if let Capacity::PerSecond(_, burst) = kind.capacity {
        receiver.tokens = burst;
    }
    let mut pacer = Pacer::new(&Pace::default(), None, 0, Millis(0));
    let mut figures = Figures::default();
    let mut fresh: VecDeque<u32> = (0..events as u32).collect();
    // Due, and how often it was tried.
    let mut waiting: BinaryHeap<Reverse<(u64, u32, u32)>> = BinaryHeap::new();
    let mut ends: BinaryHeap<Reverse<End>> = BinaryHeap::new();
    let mut begun: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut left, mut id, mut probes, mut is_down) = (events, 0, 0, false);
    let (mut failed, mut failing_since) = (0, 0);
    let mut back_at = match kind.capacity {
        Capacity::DownUntil(_) => None,
        _ => Some(0),
    };
    for now in 0..1_800_000 {
        if left == 0 {
            break;
        }
        while let Some(Reverse((at, attempt, event, tries, taken, counts))) = ends.peek().copied() {
            if at > now {
                break;
            }
            ends.pop();
            let took = now - begun.remove(&attempt).unwrap_or(now);
            receiver.busy -= usize::from(counts);
            if taken {
                left -= 1;
                figures.millis = now;
                (failed, failing_since) = (0, 0);
                if is_down {
                    is_down = false;
                    probes = 0;
                    pacer.end(attempt, Verdict::Taken, took, now);
                    pacer.resume(now);
                    back_at.get_or_insert(now);
                    continue;
                }
                pacer.end(attempt, Verdict::Taken, took, now);
                continue;
            }
            figures.refused += 1;
            let pause = kind.retry_after.map(Duration::from_secs);
            pacer.end(attempt, Verdict::Refused(pause), took, now);
            let delay = backoff::pause(tries + 1, pause, random.random()).as_millis() as u64;
            waiting.push(Reverse((now + delay, event, tries + 1)));
            failed += 1;
            if failed == 1 {
                failing_since = now;
            }
            if is_down || (failed >= 5 && now - failing_since >= 3_000) {
                is_down = true;
                probes += 1;
                let pause = backoff::probe_pause(probes, pause, random.random());
                pacer.interrupt(now, pause);
            }
        }
        pacer.pass(now);
        loop {
            let is_due = |it: &Reverse<(u64, u32, u32)>| it.0.0 <= now;
            let has_due = waiting.peek().is_some_and(is_due);
            if !has_due && fresh.is_empty() {
                if waiting.is_empty() {
                    break;
                }
                if !is_down {
                    break;
                }
            }
            if pacer.may_begin_at(now).is_none_or(|at| at > now) {
                pacer.waits(now);
                break;
            }
            let (event, tries) = match waiting.peek() {
                Some(Reverse((at, event, tries))) if *at <= now || fresh.is_empty() => {
                    let found = (*event, *tries);
                    waiting.pop();
                    found
                }
                _ => match fresh.pop_front() {
                    Some(event) => (event, 0),
                    None => break,
                },
            };
            id += 1;
            pacer.begin(id, now);
            pacer.begun(id, now);
            begun.insert(id, now);
            let (is_taken, took) = receiver.request(now);
            let counts = is_taken
                && matches!(
                    kind.capacity,
                    Capacity::AtOnce(_) | Capacity::HangsBeyond(_)
                );
            figures.attempts += 1;
            figures.peak = figures.peak.max(pacer.under_way() as usize);
            if back_at.is_some_and(|at| now < at + 1_000) {
                figures.first_second += 1;
            }
            ends.push(Reverse((
                now + took.max(1),
                id,
                event,
                tries,
                is_taken,
                counts,
            )));
        }
        if trace && now % 1_000 == 999 {
            let pace = pacer.kept(&Pace::default(), now, Millis(now));
            print(&format!(
                "{} window={} ceiling={:?} rate={:?} under={} left={left} refused={}",
                now / 1_000 + 1,
                pace.window,
                pace.ceiling,
                pace.rate,
                pacer.under_way(),
                figures.refused
            ));
        }
    }
    figures
}

#[expect(clippy::print_stdout, reason = "a command that prints its result")]
fn print(line: &str) {
    println!("{line}");
}

/// The receivers of docs/decisions/017: what it is called, the receiver, the number of events, and the best time in seconds.
pub const KINDS: [(&str, Kind, usize, f64); 11] = [
    (
        "5 at a time, 0.2 s, Retry-After 1",
        kind(Capacity::AtOnce(5), 200, Some(1)),
        1_000,
        40.0,
    ),
    (
        "5 at a time, 0.2 s",
        kind(Capacity::AtOnce(5), 200, None),
        5_000,
        200.0,
    ),
    (
        "5 at a time, 0.2 s, hangs beyond",
        kind(Capacity::HangsBeyond(5), 200, None),
        5_000,
        200.0,
    ),
    (
        "10 a second, Retry-After 1",
        kind(Capacity::PerSecond(10.0, 10.0), 20, Some(1)),
        2_000,
        200.0,
    ),
    (
        "10 a second",
        kind(Capacity::PerSecond(10.0, 10.0), 20, None),
        2_000,
        200.0,
    ),
    (
        "100 a second, burst 100",
        kind(Capacity::PerSecond(100.0, 100.0), 20, None),
        20_000,
        200.0,
    ),
    (
        "100 a second, Retry-After 1",
        kind(Capacity::PerSecond(100.0, 100.0), 20, Some(1)),
        20_000,
        200.0,
    ),
    (
        "50 at a time, 0.1 s",
        kind(Capacity::AtOnce(50), 100, None),
        50_000,
        100.0,
    ),
    (
        "no limit, 20 ms",
        kind(Capacity::Any, 20, None),
        20_000,
        0.0,
    ),
    (
        "slower above 100 a second",
        kind(Capacity::Queues(100.0), 10, None),
        10_000,
        100.0,
    ),
    (
        "503 for 10 s, then 20 ms",
        kind(Capacity::DownUntil(10_000), 20, None),
        1_500,
        10.0,
    ),
];

const fn kind(capacity: Capacity, took: u64, retry_after: Option<u64>) -> Kind {
    Kind {
        capacity,
        took,
        retry_after,
    }
}

/// Prints the table.
pub fn table(trace: Option<usize>) {
    for (index, (name, kind, events, best)) in KINDS.into_iter().enumerate() {
        if trace.is_some_and(|only| only != index) {
            continue;
        }
        let runs: Vec<Figures> = (0..5)
            .map(|seed| run(kind, events, seed, trace.is_some() && seed == 0))
            .collect();
        let seconds = |at: usize| runs[at].millis as f64 / 1_000.0;
        let worst = (0..5).map(seconds).fold(0.0, f64::max);
        let refused = runs
            .iter()
            .map(Figures::refused_percent)
            .fold(0.0, f64::max);
        let first = runs
            .iter()
            .map(|it| it.first_second)
            .max()
            .unwrap_or_default();
        let peak = runs.iter().map(|it| it.peak).max().unwrap_or_default();
        print(&format!(
            "{name:38} best {best:5.0} s  took {:6.1} to {worst:6.1} s  refused {refused:5.2} %  first second {first:4}  peak {peak:4}",
            (0..5).map(seconds).fold(f64::INFINITY, f64::min)
        ));
    }
}
