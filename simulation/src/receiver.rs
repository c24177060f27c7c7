//! Simulated receivers.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::receiver::outcome::{Failure, Outcome};

/// From this one on, events are good.
pub const FIRST_GOOD: u32 = 1_000;
/// What a receiver says of an event that it will never take.
pub const REFUSAL: &str = "no";

/// A receiver: up but for some time, and with events that it does not take.
#[derive(Clone, Debug, Default)]
pub struct Receiver {
    /// When it is down, in milliseconds, and how.
    pub down: Vec<(u64, u64, Down)>,
    /// Events that it does not take.
    pub bad: BTreeMap<u32, Bad>,
    /// How much it takes, if not everything.
    pub limit: Option<Limit>,
    /// Of each so many events one that it never takes.
    pub never: Option<u32>,
    /// How it fails single requests, and of how many one.
    pub hiccups: Option<(f64, Hiccup)>,
}

/// How a request fails that would do well a moment later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hiccup {
    /// 502.
    Refused,
    /// 500.
    Failed,
}

/// How much a receiver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So many requests at a time; it responds with 429 beyond.
    AtOnce(usize),
    /// So many requests at a time; it does not respond beyond.
    Hangs(usize),
    /// It takes 3 seconds for each.
    Slow,
}

/// How a receiver is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// It responds with 503 at once, and asks for a pause in seconds or not.
    Refuses(Option<u64>),
    /// It does not respond.
    Hangs,
    /// It fails every second event.
    Flaps,
    /// It wants nothing any more (410), and takes so many milliseconds to say so.
    Gone(u64),
}

/// How an event is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// 400.
    Rejected,
    /// 500, always.
    Poison,
    /// 500, before this instant.
    Until(u64),
}

impl Receiver {
    /// Whether this event is one of those that it never takes.
    pub fn is_never_taken(&self, event: u32) -> bool {
        let is_among = |each: u32| event < FIRST_GOOD && event % each == each / 2;
        self.never.is_some_and(is_among) || self.bad.get(&event) == Some(&Bad::Poison)
    }

    /// What comes of an attempt that begins now, and how long it takes in milliseconds.
    pub fn answer(&self, now: u64, event: u32, luck: f64, busy: usize) -> (Outcome, u64) {
        let failed = |retry_after: Option<u64>, is_refusal: bool| {
            Outcome::Failed(Failure {
                reason: "service unavailable (HTTP status code 503)".to_owned(),
                retry_after: retry_after.map(Duration::from_secs),
                is_refusal,
            })
        };
        let fail = |retry_after| failed(retry_after, true);
        let poison = || failed(None, false);
        let down = self
            .down
            .iter()
            .find(|(from, until, _)| (*from..*until).contains(&now));
        match down {
            Some((_, _, Down::Refuses(pause))) => return (fail(*pause), 5),
            Some((_, _, Down::Hangs)) => return (fail(None), 15_000),
            Some((_, _, Down::Gone(took))) => return (Outcome::Gone, *took),
            Some((_, _, Down::Flaps)) if luck < 0.5 => return (poison(), 20),
            _ => {}
        }
        match self.hiccups {
            Some((chance, Hiccup::Refused)) if luck < chance => return (fail(None), 10),
            Some((chance, Hiccup::Failed)) if luck < chance => return (poison(), 10),
            _ => {}
        }
        if self.is_never_taken(event) {
            return (poison(), 10);
        }
        let took = match self.limit {
            Some(Limit::AtOnce(most)) if busy >= most => return (fail(Some(1)), 5),
            Some(Limit::Hangs(most)) if busy >= most => return (fail(None), 15_000),
            Some(Limit::Slow) => 3_000,
            _ => 10,
        };
        match self.bad.get(&event) {
            Some(Bad::Rejected) => (Outcome::Rejected(REFUSAL.to_owned()), 10),
            Some(Bad::Poison) => (poison(), 10),
            Some(Bad::Until(instant)) if now < *instant => (poison(), 10),
            _ => (Outcome::Delivered, took),
        }
    }
}
