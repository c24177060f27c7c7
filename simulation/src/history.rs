//! What happens in a history from outside: drawn from its seed.

use domain::filter::Filter;
use rand::rngs::Xoshiro256PlusPlus as Random;
use rand::{RngExt, SeedableRng};

use crate::receiver::{Bad, Down, Hiccup, Limit, Receiver};

/// The seal of the simulated event log, in milliseconds.
pub const SEAL: u64 = 10_000;
/// For how long all attempts have to fail before an integration is given up, in milliseconds.
pub const GIVE_UP: u64 = 60 * MINUTE;
/// When a history begins.
pub const BEGIN: u64 = 1_700_000_000_000;
/// For how long a read of an integration is good, in milliseconds.
pub const FRESH: u64 = 200;
/// How long after its write a stop is answered, in milliseconds.
pub const STOP_ANSWERED: u64 = 400;
/// A minute in milliseconds.
pub const MINUTE: u64 = 60_000;

/// What is to happen.
#[derive(Clone, Debug)]
pub struct History {
    /// Its seed.
    pub seed: u64,
    /// How likely a worker crashes at an effect.
    pub crashes: f64,
    /// How likely a request takes longer than half a seal.
    pub slowness: f64,
    /// How likely a worker is held up between two requests, for up to a minute.
    pub freezes: f64,
    /// How likely a write that was applied is reported as failed.
    pub unreported: f64,
    /// How likely an order of a worker that sends events fails, before or after its effect.
    pub failures: f64,
    /// How likely a message of the ingest or the delivery queue is handed out twice.
    pub repeats: f64,
    /// How likely a message of the replay queue is handed out twice.
    pub step_repeats: f64,
    /// Whether clocks differ.
    pub is_skewed: bool,
    /// How long it takes to read a segment of the event log, in milliseconds: long, where a segment represents a stretch of
    /// which nothing passes any filter.
    pub read_millis: (u64, u64),
    /// The receivers of the integrations, [`URLS`] each.
    pub receivers: Vec<Receiver>,
    /// When how many events are published.
    pub publications: Vec<(u64, u32)>,
    /// The calls of the API, with their times.
    pub calls: Vec<(u64, Call)>,
    /// Whether events come all the time, to a receiver that takes nearly all of them.
    pub is_busy: bool,
    /// When everything is started again, and nothing goes wrong any more.
    pub end: u64,
}

/// A call of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Register this integration, with events from so many milliseconds ago.
    Register(usize, u64),
    /// Register this integration as a temporary one, of a range from so many milliseconds ago until so many from then on.
    RegisterTemporary(usize, u64, u64),
    /// Start it.
    Start(usize),
    /// Stop it.
    Stop(usize),
    /// Give it this filter (see [`filter`]), if it is stopped.
    SetFilter(usize, usize),
    /// Give it the other URL, if it is stopped.
    SwitchUrl(usize),
    /// Give it a limit of requests at a time, or none, while it is stopped.
    SetLimit(usize, Option<u32>),
    /// Delete it.
    Delete(usize),
}

/// How many integrations there are.
pub const INTEGRATIONS: usize = 2;
/// How many URLs an integration may be given, each with a receiver of its own.
pub const URLS: usize = 2;
/// How many filters there are.
const FILTERS: usize = 3;

/// A filter: none, one entity, or the other one.
pub fn filter(index: usize) -> Option<Filter> {
    let entity = ["order", "return"].get(index.checked_sub(1)?)?;
    Some(Filter {
        event_filter: None,
        entity_filter: Some(vec![(*entity).to_owned()]),
    })
}

impl History {
    /// Draws a history.
    pub fn draw(seed: u64) -> History {
        let mut random = Random::seed_from_u64(seed);
        let is_busy = random.random_bool(0.06);
        let is_calm = is_busy && random.random_bool(0.8) || random.random_bool(0.2);
        let mut likely = |chance: f64, value: f64| match !is_calm && random.random_bool(chance) {
            true => value,
            false => 0.0,
        };
        let (crashes, slowness) = (likely(0.5, 0.02), likely(0.4, 0.1));
        let (unreported, repeats) = (likely(0.3, 0.05), likely(0.3, 0.05));
        let freezes = likely(0.3, 0.02);
        let (step_repeats, is_skewed) = (
            if random.random_bool(0.3) { 0.1 } else { 0.0 },
            random.random_bool(0.7),
        );
        let failures = if !is_calm && random.random_bool(0.3) {
            0.01
        } else {
            0.0
        };
        let length = random.random_range(2..25) * MINUTE;
        let mut end = BEGIN + length;
        let at = |random: &mut Random| BEGIN + random.random_range(0..length);
        let mut calls = vec![(BEGIN, Call::Register(0, 0))];
        // Receivers that are gone, and take their time to say so, right before a change.
        let mut gone = Vec::new();
        for _ in 0..random.random_range(0..7) {
            let (when, who) = (at(&mut random), random.random_range(0..INTEGRATIONS));
            let call = match random.random_range(0..12) {
                0..3 => (when, Call::Stop(who)),
                3..6 => (when, Call::Start(who)),
                6 => (when, Call::Delete(who)),
                7 => (
                    when,
                    Call::Register(who, random.random_range(0..5) * MINUTE),
                ),
                8 => {
                    let ago = random.random_range(0..10) * MINUTE;
                    let length = random.random_range(1..5) * MINUTE;
                    (when, Call::RegisterTemporary(who, ago, length))
                }
                // Stopped, changed and started, the way that an update is made.
                9 | 10 => {
                    let pause = random.random_range(0..3 * SEAL);
                    calls.push((when, Call::Stop(who)));
                    let change = match random.random_range(0..5) {
                        0 | 1 => Call::SetFilter(who, random.random_range(0..FILTERS)),
                        2 | 3 => Call::SwitchUrl(who),
                        _ => {
                            Call::SetLimit(who, [None, Some(1), Some(3)][random.random_range(0..3)])
                        }
                    };
                    calls.push((when + pause / 2, change));
                    if !is_calm && random.random_bool(0.3) {
                        gone.push((who, when));
                    }
                    (when + pause, Call::Start(who))
                }
                // Stopped and started within the seal, or soon after.
                _ => {
                    let pause = random.random_range(0..3 * SEAL);
                    calls.push((when, Call::Stop(who)));
                    (when + pause, Call::Start(who))
                }
            };
            calls.push(call);
        }
        let mut publications = Vec::new();
        for _ in 0..random.random_range(1..12) {
            let count = match random.random_bool(0.2) {
                true => random.random_range(10..30),
                false => random.random_range(1..6),
            };
            publications.push((at(&mut random), count));
        }
        // Around calls, where the boundaries are.
        for (when, _) in &calls {
            for _ in 0..random.random_range(0..8) {
                publications.push((when + random.random_range(0..4 * SEAL), 1));
            }
        }
        let read_millis = match random.random_bool(0.05) {
            true => (2_000, 10_000),
            false => (1, 50),
        };
        let mut receivers = vec![Receiver::default(); INTEGRATIONS * URLS];
        if !is_calm && random.random_bool(0.2) {
            for receiver in &mut receivers {
                let bad = (0..random.random_range(0..6)).map(|_| random.random_range(0..20));
                receiver.bad = bad.map(|event| (event, Bad::Rejected)).collect();
            }
        } else if !is_calm && random.random_bool(0.75) {
            for receiver in &mut receivers {
                for _ in 0..random.random_range(0..3) {
                    let from = at(&mut random);
                    let how = match random.random_range(0..5) {
                        4 => Down::Gone(random.random_range(0..8_000)),
                        0 => Down::Hangs,
                        1 => Down::Flaps,
                        // A receiver may ask for any pause, a day as well.
                        2 if random.random_bool(0.2) => Down::Refuses(Some(24 * 3600)),
                        2 => Down::Refuses(Some(random.random_range(0..60))),
                        _ => Down::Refuses(None),
                    };
                    let until = (from + random.random_range(0..10 * MINUTE)).min(end);
                    receiver.down.push((from, until, how));
                }
                for _ in 0..random.random_range(0..4) {
                    let event = random.random_range(0..20);
                    let how = match random.random_range(0..3) {
                        0 => Bad::Rejected,
                        1 => Bad::Poison,
                        _ => Bad::Until(at(&mut random)),
                    };
                    receiver.bad.insert(event, how);
                }
                if random.random_bool(0.3) {
                    let limits = [
                        Limit::AtOnce(1),
                        Limit::AtOnce(3),
                        Limit::Hangs(2),
                        Limit::Slow,
                    ];
                    receiver.limit = Some(limits[random.random_range(0..limits.len())]);
                }
            }
        }
        for (who, when) in gone {
            let down = (when.saturating_sub(SEAL), when, Down::Gone(8_000));
            receivers[who * URLS].down.push(down);
            publications.push((when - 2_000, 1));
        }
        // Stopped for longer than 30 days, or just not.
        if random.random_bool(0.1) {
            let pause = (30 * 24 * 60 + random.random_range(0..120)) * MINUTE - 60 * MINUTE;
            calls.push((end, Call::Stop(0)));
            calls.push((end + pause, Call::Start(0)));
            publications.push((end + pause / 2, 2));
            publications.push((end + pause + MINUTE, 2));
            end += pause + 5 * MINUTE;
        }
        if is_busy {
            (calls, publications) = busy(&mut random);
            receivers = vec![Receiver::default(); INTEGRATIONS * URLS];
            receivers[0] = nearly_well(&mut random);
            end = BEGIN + BUSY + MINUTE;
        }
        History {
            seed,
            crashes,
            slowness,
            freezes,
            unreported,
            failures,
            repeats,
            step_repeats,
            is_skewed,
            read_millis,
            receivers,
            publications,
            calls,
            is_busy,
            end: end + 2 * MINUTE,
        }
    }

    /// Whether every worker lives until it has heard what became of its orders.
    pub fn is_heard(&self) -> bool {
        self.crashes + self.slowness + self.freezes + self.unreported + self.repeats == 0.0
            && self.read_millis.1 <= 50
    }

    /// Whether no event may be taken twice: every worker hears what became of its orders, and receivers respond at once.
    pub fn is_calm(&self) -> bool {
        let rejects = |bad: &Bad| *bad == Bad::Rejected;
        let is_calm = |it: &Receiver| {
            let is_well = it.never.is_none() && it.hiccups.is_none();
            is_well && it.down.is_empty() && it.limit.is_none() && it.bad.values().all(rejects)
        };
        self.is_heard() && self.receivers.iter().all(is_calm)
    }

    /// Whether nothing goes wrong on our side.
    pub fn is_sound(&self) -> bool {
        self.is_heard() && self.failures == 0.0
    }
}

/// For how long events come all the time, in a history of that kind.
const BUSY: u64 = 6 * MINUTE;
/// What happens from outside: calls and publications, with their times.
type Outside = (Vec<(u64, Call)>, Vec<(u64, u32)>);

/// Events come all the time.
fn busy(random: &mut Random) -> Outside {
    let pause = random.random_range(400..1_500);
    let publications = (0..BUSY).step_by(pause as usize);
    let publications = publications.map(|at| (BEGIN + at, 1)).collect();
    (vec![(BEGIN, Call::Register(0, 0))], publications)
}

/// A receiver that takes at least 95 % of what it is sent.
fn nearly_well(random: &mut Random) -> Receiver {
    let mut receiver = Receiver::default();
    match random.random_range(0..3) {
        0 => receiver.never = Some(random.random_range(20..60)),
        kind => {
            let chance = [0.003, 0.01, 0.05][random.random_range(0..3)];
            let how = if kind == 1 {
                Hiccup::Refused
            } else {
                Hiccup::Failed
            };
            receiver.hiccups = Some((chance, how));
        }
    }
    receiver
}

/// The name of an event: whether it passes a filter.
pub fn name(event: u32) -> &'static str {
    match event % 3 {
        0 => "return.processed",
        _ => "order.created",
    }
}
