//! The pace of a stream: how many requests at a time, and how many a second, its receiver takes.
//!
//! One sender has a [`Pacer`] and gives it each start, each end and the passing of time, so that what it allows is exact.
//! The window is found as TCP and adaptive request limiters find it: by what was taken and by what was refused. What is new:
//!
//! - a **ramp** by time: a receiver that comes back gets 10 requests in the first second, or as many as it took last, then twice
//!   as many each second;
//! - a **ceiling**: the window that was refused last. Below it the window grows quickly, to it slowly, beyond it one at a time and
//!   ever more seldom (*calm*);
//! - a **rate**: what was taken a second, once the receiver has refused. Receivers that count requests a second refuse at a
//!   window of 1, too.

mod finding;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backoff::LONGEST;
use crate::time::Millis;

/// The most requests at a time, whatever a receiver takes: a process has 1,024 file descriptors (Lambda).
pub const MAX_WINDOW: u32 = 800;
/// How many requests a second a receiver gets of which nothing is known.
const FIRST_RATE: f64 = 10.0;
/// The window with which a stream begins of which nothing is known.
const FIRST_WINDOW: u32 = 10;
/// From this rate on a ramp limits nothing any more.
const RAMP_ENDS: f64 = 16_000.0;
/// How long a request may be unanswered before it counts as refused, at the least: milliseconds.
const UNANSWERED: u64 = 2_000;
/// How long no larger window is tried after a refusal: milliseconds, at the least and at the most.
const CALM: (u64, u64) = (10_000, 160_000);
/// The same after a request that was not answered at all: each trial costs a receiver a request for 15 seconds.
const CALM_UNANSWERED: u64 = 150_000;
/// How long nothing is begun after a refusal without `Retry-After`, doubled with each further one: milliseconds.
const PAUSE: (u64, u64) = (50, 1_000);
/// A second, in milliseconds.
const SECOND: u64 = 1_000;

/// What is kept of the pace from one sender to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// How many requests at a time; 0 where nothing is known.
    pub window: u32,
    /// The window that was refused last.
    pub ceiling: Option<u32>,
    /// How many requests a second at the most, in thousandths; none where only the window limits.
    pub rate: Option<u64>,
    /// How many requests a second were taken last, in thousandths.
    pub last_rate: u64,
    /// The receiver asked for a pause until then.
    pub hold_until: Option<Millis>,
    /// When it refused some in a row last.
    pub refused_at: Option<Millis>,
    /// How long requests take that are taken, in milliseconds; 0 where nothing is known.
    pub usual: u64,
}

/// What an attempt says about the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has taken the event, or refused this one for good.
    Taken,
    /// It wants fewer requests, and perhaps none for a while.
    Refused(Option<Duration>),
    /// It failed with this event. That says nothing about its pace.
    Failed,
    /// No request was made.
    Void,
}

/// Paces one sender. Times are milliseconds of a clock that only moves forward.
#[derive(Clone, Debug)]
pub struct Pacer {
    window: u32,
    most: u32,
    ceiling: Option<u32>,
    ramp: Option<f64>,
    rate: Option<f64>,
    /// What the receiver took a second when the rate was set: up to 95 % of it the rate grows quickly.
    measured: f64,
    last_rate: f64,
    is_probing: bool,
    hold_until: u64,
    /// Refusals without a pause between them and the last request that was taken.
    refusals: u32,
    refused_at: Option<u64>,
    /// How many requests may begin by ramp and rate, as of [`Pacer::filled_at`]; less than 1: none.
    credit: f64,
    filled_at: u64,
    under_way: BTreeMap<u64, Begun>,
    calm: u64,
    calm_until: u64,
    second: Second,
    /// Of the seconds before: newest last.
    past: Vec<Second>,
    usual: f64,
    least: f64,
    /// Whether any request was answered, and whether requests that were not have counted before that.
    is_answered: bool,
    is_distrusted: bool,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Begun {
    /// When its request began; before that it takes up its place, and the receiver knows nothing of it.
    at: Option<u64>,
    /// How many were under way then, this one included.
    beside: u32,
    /// Whether it has counted as refused since nothing was answered.
    is_counted: bool,
}

/// What was seen in a second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    began_at: u64,
    taken: u32,
    refused: u32,
    /// The most under way at the start of a request that was taken.
    good: u32,
    /// For how many milliseconds nothing was allowed to begin.
    held: u64,
    latency: u64,
    was_window_full: bool,
    was_rate_full: bool,
    is_unanswered: bool,
}

impl Pacer {
    /// The pacer of a stream whose pace was `pace` at `wall`; `most` is its `max_in_flight`.
    pub fn new(pace: &Pace, most: Option<u32>, now: u64, wall: Millis) -> Pacer {
        let most = most.unwrap_or(MAX_WINDOW).clamp(1, MAX_WINDOW);
        let window = match pace.window {
            0 => FIRST_WINDOW,
            known => known,
        };
        let last_rate = pace.last_rate as f64 / 1_000.0;
        let held = pace
            .hold_until
            .map_or(Duration::ZERO, |until| until.since(wall))
            .min(LONGEST);
        let rate = pace.rate.map(|rate| (rate as f64 / 1_000.0).max(0.1));
        Pacer {
            window: window.min(most),
            most,
            ceiling: pace.ceiling,
            ramp: Some(last_rate.max(FIRST_RATE)),
            rate,
            measured: rate.unwrap_or_default(),
            last_rate,
            is_probing: false,
            hold_until: now + held.as_millis() as u64,
            refusals: 0,
            refused_at: None,
            credit: 1.0,
            filled_at: now,
            under_way: BTreeMap::new(),
            calm: CALM.0,
            calm_until: now + if pace.ceiling.is_some() { CALM.0 } else { 0 },
            second: Second {
                began_at: now,
                ..Second::default()
            },
            past: Vec::new(),
            usual: pace.usual as f64,
            least: f64::INFINITY,
            is_answered: false,
            is_distrusted: false,
        }
    }

    /// What is to be kept; `pace` is what was kept before.
    pub fn kept(&self, pace: &Pace, now: u64, wall: Millis) -> Pace {
        let thousandths = |rate: f64| (rate * 1_000.0) as u64;
        let at = |instant: u64| match instant > now {
            true => wall.after(Duration::from_millis(instant - now)),
            false => wall.before(Duration::from_millis(now - instant)),
        };
        Pace {
            window: self.window,
            ceiling: self.ceiling,
            rate: self.rate.map(thousandths),
            last_rate: thousandths(self.last_rate),
            hold_until: (self.hold_until > now).then(|| at(self.hold_until)),
            refused_at: self.refused_at.map(at).or(pace.refused_at),
            usual: self.usual as u64,
        }
    }

    /// How many requests at a time now.
    pub fn window(&self) -> u32 {
        match self.is_probing {
            true => 1,
            false => self.window,
        }
    }

    /// How many requests are under way.
    pub fn under_way(&self) -> u32 {
        self.under_way.len() as u32
    }

    /// How long requests take that are taken, in milliseconds.
    pub fn usual(&self) -> u64 {
        self.usual as u64
    }

    /// When the next request may begin, as far as time decides; none while the window is full.
    pub fn may_begin_at(&self, now: u64) -> Option<u64> {
        if self.under_way() >= self.window() {
            return None;
        }
        let by_rate = match self.speed() {
            Some(speed) if !self.is_probing => {
                let credit = self.credit_at(now, speed);
                match credit >= 1.0 {
                    true => now,
                    false => now + ((1.0 - credit) / speed * 1_000.0).ceil() as u64,
                }
            }
            _ => now,
        };
        Some(by_rate.max(self.hold_until))
    }

    /// How many requests a second may begin.
    fn speed(&self) -> Option<f64> {
        match (self.ramp, self.rate) {
            (Some(ramp), Some(rate)) => Some(ramp.min(rate)),
            (ramp, rate) => ramp.or(rate),
        }
    }

    /// Credit is kept for a twentieth of a second at the most: a pause is not made up for by a burst.
    fn credit_at(&self, now: u64, speed: f64) -> f64 {
        let grown =
            now.saturating_sub(self.filled_at.max(self.hold_until)) as f64 / 1_000.0 * speed;
        (self.credit + grown).min((speed / 20.0).max(1.0))
    }

    /// A request begins.
    pub fn begin(&mut self, id: u64, now: u64) {
        if let Some(speed) = self.speed() {
            self.credit = self.credit_at(now, speed) - 1.0;
            self.filled_at = now;
        }
        let beside = self.under_way() + 1;
        let begun = Begun {
            at: None,
            beside,
            is_counted: false,
        };
        self.under_way.insert(id, begun);
        self.second.was_window_full |= beside >= self.window;
    }

    /// The request itself begins: from now on it is the receiver that takes its time.
    pub fn begun(&mut self, id: u64, at: u64) {
        if let Some(begun) = self.under_way.get_mut(&id) {
            begun.at.get_or_insert(at);
        }
    }

    /// Something waits to be sent and is not: by ramp or rate, or by the window.
    pub fn waits(&mut self, now: u64) {
        match self.may_begin_at(now) {
            None => self.second.was_window_full = true,
            Some(at) if at > now && self.hold_until <= now => self.second.was_rate_full = true,
            Some(_) => {}
        }
    }

    /// A request has ended, for which the receiver took so many milliseconds.
    pub fn end(&mut self, id: u64, verdict: Verdict, took: u64, now: u64) {
        let Some(begun) = self.under_way.remove(&id) else {
            return;
        };
        self.is_answered |= verdict != Verdict::Void;
        match verdict {
            Verdict::Taken => {
                self.second.taken += 1;
                self.second.latency += took;
                self.second.good = self.second.good.max(begun.beside);
                self.refusals = 0;
                self.usual = match self.usual == 0.0 {
                    true => took as f64,
                    false => self.usual * 0.9 + took as f64 * 0.1,
                };
            }
            Verdict::Refused(_) if begun.is_counted => {}
            Verdict::Refused(pause) => {
                let pause = pause.map(|pause| pause.min(LONGEST).as_millis() as u64);
                self.refuse(now, pause, CALM.0, begun.beside);
            }
            Verdict::Failed | Verdict::Void => {}
        }
    }

    /// Takes note of the time. To be called at least twice a second while anything is under way or waits.
    pub fn pass(&mut self, now: u64) {
        let patience = UNANSWERED.max(4 * self.usual as u64);
        let is_late =
            |begun: &Begun, patience: u64| begun.at.is_some_and(|at| now >= at + patience);
        let mut under_way = self.under_way.values();
        if under_way.any(|begun| !begun.is_counted && is_late(begun, patience)) {
            // What began until then is of the same moment, and counts once.
            for begun in self.under_way.values_mut() {
                begun.is_counted |= is_late(begun, patience / 2);
            }
            self.second.is_unanswered = true;
            // A receiver that takes its time for each, however many there are, answers none before the first: to take less and less
            // at a time would prove nothing.
            if !self.is_answered && std::mem::replace(&mut self.is_distrusted, true) {
                return self.end_seconds(now);
            }
            self.refuse(now, None, CALM_UNANSWERED, u32::MAX);
        }
        self.end_seconds(now);
    }

    fn end_seconds(&mut self, now: u64) {
        while now >= self.second.began_at + SECOND {
            self.end_second(now);
        }
    }

    /// The receiver is down: one request at a time, and none for `pause`.
    pub fn interrupt(&mut self, now: u64, pause: Duration) {
        self.is_probing = true;
        let pause = pause.min(LONGEST).as_millis() as u64;
        self.hold_until = self.hold_until.max(now + pause);
    }

    /// The receiver is back: one request at a time at first, then as many as its ceiling and the ramp let pass.
    pub fn resume(&mut self, now: u64) {
        self.is_probing = false;
        self.window = 1;
        self.hold_until = now;
        self.refusals = 0;
        self.ramp = Some(self.last_rate.max(FIRST_RATE));
        (self.credit, self.filled_at) = (0.0, now);
        self.second = Second {
            began_at: now,
            ..Second::default()
        };
        self.past.clear();
    }

    /// Until when the receiver asked for a pause, or was given one.
    pub fn hold_until(&self) -> u64 {
        self.hold_until
    }
}

#[cfg(test)]
mod tests;
