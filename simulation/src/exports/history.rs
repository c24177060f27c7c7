//! What happens in a history of exports from outside: drawn from its seed.

use domain::filter::Filter;
use rand::rngs::Xoshiro256PlusPlus as Random;
use rand::{RngExt, SeedableRng};

use crate::history::{BEGIN, MINUTE};

/// The tenant that everything belongs to.
pub const TENANT: &str = "acme";

const DAY: u64 = 24 * 60 * MINUTE;

/// What is to happen. Times are in milliseconds.
#[derive(Clone, Debug)]
pub struct History {
    pub seed: u64,
    /// How likely a worker crashes at an effect.
    pub crashes: f64,
    /// How likely a request of ours fails, before or after its effect.
    pub failures: f64,
    /// How likely a worker is held up between two requests.
    pub freezes: f64,
    /// How likely an upload fails, in one way or another, whatever else is wrong with the bucket.
    pub hiccups: f64,
    /// How likely a task is handed out twice, or late.
    pub repeats: f64,
    /// How likely an event is appended again.
    pub repeated_events: f64,
    pub is_skewed: bool,
    /// The longest that a page of the event log takes.
    pub read_millis: u64,
    /// The largest file of each of two deployments, in bytes.
    pub max_file_bytes: [usize; 2],
    /// Whether the event log has forgotten what is older than is kept; it may keep it for longer.
    pub forgets: bool,
    /// Whether the bucket's owner removes the files that are complete.
    pub is_emptied: bool,
    pub troubles: Vec<Trouble>,
    /// When how many events are published.
    pub publications: Vec<(u64, u32)>,
    pub calls: Vec<(u64, Call)>,
    pub ticks: Vec<u64>,
    /// When everything is started again, and nothing goes wrong any more.
    pub end: u64,
}

/// A time in which the bucket does not take files.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    pub from: u64,
    pub until: u64,
    pub kind: Kind,
}

/// What comes of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is refused, and nothing is stored.
    Refused,
    /// Credentials are refused: there is no request.
    NotGranted,
    /// It fails; the object may have been stored, or be stored a little later.
    Failed,
    /// There is no response in time; the object may be stored.
    Silent,
}

/// A call of the API.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    /// Register it, with events from so many milliseconds ago; a temporary one for so long.
    Register(u64, Option<u64>),
    Start,
    Stop,
    /// Give it this filter and this bucket, if it is stopped.
    Change(usize, usize),
    Delete,
}

/// A filter: none, one entity, the other one, or one that nothing passes.
pub fn filter(index: usize) -> Option<Filter> {
    let entity = ["order", "return", "nothing"].get(index.checked_sub(1)?)?;
    Some(Filter {
        event_filter: None,
        entity_filter: Some(vec![(*entity).to_owned()]),
    })
}

impl History {
    /// Draws a history.
    pub fn draw(seed: u64) -> History {
        let mut random = Random::seed_from_u64(seed);
        let is_calm = random.random_bool(0.1);
        let mut likely = |chance: f64, value: f64| match !is_calm && random.random_bool(chance) {
            true => value,
            false => 0.0,
        };
        let (crashes, failures) = (likely(0.5, 0.03), likely(0.4, 0.03));
        let (freezes, hiccups) = (likely(0.4, 0.05), likely(0.5, 0.2));
        let (repeats, repeated_events) = (likely(0.5, 0.2), likely(0.5, 0.2));
        let length = random.random_range(10..60) * MINUTE;
        let at = |random: &mut Random| BEGIN + random.random_range(0..length);
        let ago = |random: &mut Random| random.random_range(0..20 * MINUTE);
        let mut calls = vec![(BEGIN, draw_registration(&mut random))];
        for _ in 0..random.random_range(0..5) {
            let when = at(&mut random);
            match random.random_range(0..10) {
                0..2 => calls.push((when, Call::Stop)),
                2..4 => calls.push((when, Call::Start)),
                4 => {
                    let again = when + random.random_range(0..MINUTE);
                    calls.extend([
                        (when, Call::Delete),
                        (again, draw_registration(&mut random)),
                    ]);
                }
                _ => {
                    let (filter, bucket) = (random.random_range(0..4), random.random_range(0..2));
                    let pause = random.random_range(1..MINUTE);
                    calls.extend([
                        (when, Call::Stop),
                        (when + 1, Call::Change(filter, bucket)),
                        (when + pause, Call::Start),
                    ]);
                }
            }
        }
        let mut troubles = Vec::new();
        for _ in 0..random.random_range(0..3) {
            let from = at(&mut random);
            let kind = match random.random_range(0..4) {
                0 => Kind::NotGranted,
                1 => Kind::Failed,
                2 => Kind::Silent,
                _ => Kind::Refused,
            };
            troubles.push(Trouble {
                from,
                until: from + random.random_range(MINUTE..15 * MINUTE),
                kind,
            });
        }
        // Some events are older than the registration.
        let before = BEGIN - ago(&mut random);
        let count = random.random_range(5..60);
        let mut publications: Vec<(u64, u32)> = (0..count)
            .map(|_| {
                let when = random.random_range(before..BEGIN + length);
                (when, random.random_range(1..=4))
            })
            .collect();
        let interval = [20_000, MINUTE, 5 * MINUTE][random.random_range(0..3)];
        let ticks = (BEGIN..BEGIN + length).step_by(interval as usize);
        let mut ticks: Vec<u64> = ticks.collect();
        let mut end = BEGIN + length;
        if random.random_bool(0.15) {
            let days = [3, 31, 94][random.random_range(0..3)];
            end = draw_gap(
                &mut random,
                days,
                &mut calls,
                &mut publications,
                &mut ticks,
                end,
            );
        }
        ticks.extend((end + MINUTE..end + 30 * MINUTE).step_by(3 * MINUTE as usize));
        History {
            seed,
            crashes,
            failures,
            freezes,
            hiccups,
            repeats,
            repeated_events,
            is_skewed: random.random_bool(0.7),
            read_millis: if random.random_bool(0.2) { 10_000 } else { 100 },
            max_file_bytes: [700, random.random_range(700..3_000)],
            forgets: random.random_bool(0.5),
            is_emptied: random.random_bool(0.5),
            troubles,
            publications,
            calls,
            ticks,
            end,
        }
    }

    /// What is wrong with the bucket at this time.
    pub fn trouble(&self, now: u64) -> Option<Kind> {
        let mut troubles = self.troubles.iter();
        let found = troubles.find(|trouble| trouble.from <= now && now < trouble.until);
        found.map(|trouble| trouble.kind)
    }
}

fn draw_registration(random: &mut Random) -> Call {
    let length = random.random_range(MINUTE..40 * MINUTE);
    let length = random.random_bool(0.2).then_some(length);
    let ago = [0, 20 * MINUTE][random.random_range(0..2)];
    Call::Register(ago, length)
}

/// Lets so many days go by in the middle of a history, in which it is stopped and nothing is published. Its end then.
fn draw_gap(
    random: &mut Random,
    days: u64,
    calls: &mut Vec<(u64, Call)>,
    publications: &mut [(u64, u32)],
    ticks: &mut [u64],
    end: u64,
) -> u64 {
    let (when, gap) = (random.random_range(BEGIN + 1..end), days * DAY);
    let later = |at: &mut u64| {
        if *at > when {
            *at += gap;
        }
    };
    calls.iter_mut().for_each(|(at, _)| later(at));
    publications.iter_mut().for_each(|(at, _)| later(at));
    ticks.iter_mut().for_each(later);
    calls.extend([(when, Call::Stop), (when + gap, Call::Start)]);
    end + gap
}
