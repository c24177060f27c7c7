//! A run of live events, as a machine without I/O: how many of them are posted at a time, when it stops, and what is written down
//! then: first the items of what waits, then that the receiver is gone, then what was seen of it.

mod evidence;
mod written;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ulid::Ulid;

use crate::integration::Integration;
use crate::lifecycle::{Input, Ran};
use crate::log::position::EventRef;
use crate::receiver::outcome::{Failure, Outcome};
use crate::sending::{Admission, Do, Holder, Machine, Now, Order, Posted, Seen, admit};
use crate::tasks::Run;
use crate::time::Millis;

/// The most attempts of a run at a time.
const WIDEST: usize = 10;
/// How long after its first attempt a run begins no further one: milliseconds.
pub const LONGEST: u64 = 5_000;
/// How long a request may be unanswered before the receiver is slow: milliseconds.
const SLOW: u64 = 2_000;
/// How long before the end of an invocation no attempt begins any more: one may take 15 seconds and half a one of ours, and what is
/// left is for what is written down. Milliseconds.
const LAST_ATTEMPT: u64 = 17_000;
/// How often the time is looked at: milliseconds.
const TICK: u64 = 500;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Looking,
    Posting,
    /// What is left of it is written down, one after another.
    Writing,
    Over,
}

/// An attempt under way.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    number: usize,
    /// When its request began; none before it has.
    began: Option<u64>,
}

/// An event that was refused, and is posted again in the same run.
#[derive(Clone, Debug)]
struct Repeat {
    due: u64,
    number: usize,
    failure: Failure,
    reason: String,
}

/// A run under way.
#[derive(Clone, Debug)]
pub struct Posting {
    /// The events of the run, by their number in it.
    events: Vec<EventRef>,
    segment: Ulid,
    epoch: u64,
    phase: Phase,
    /// The integration as it was when the run began.
    integration: Option<Arc<Integration>>,
    orders: VecDeque<Do>,
    /// How many of the orders that go beside the attempts are out: rejections, and what is said at once.
    beside: usize,
    /// What is left to be written down, how often the first of it has failed, and when it is tried again.
    writes: VecDeque<Do>,
    failures_of_ours: u32,
    again_at: Option<u64>,
    is_handed_back: bool,

    next: usize,
    width: usize,
    /// How many were taken since the width was set.
    taken: usize,
    /// How many have failed in a row.
    failures: usize,
    is_halted: bool,
    is_taken: bool,
    is_refused: bool,
    is_slow: bool,
    has_said_slow: bool,
    hold: Option<Duration>,
    gone: Option<String>,
    began: Option<u64>,
    ends: u64,
    over: u64,
    under_way: Vec<Attempt>,
    failed: Vec<(usize, Failure, String)>,
    left: BTreeSet<usize>,
    /// How many refusals came in a row, of which events, and when the last one came. What was under way beside one is of the same
    /// moment, and no further one.
    row: u8,
    row_events: BTreeSet<usize>,
    row_at: Option<u64>,
    pause_until: u64,
    repeats: VecDeque<Repeat>,
    repeated: BTreeMap<usize, u8>,
    struck_at: Option<u64>,
    /// When the attempt began that was taken and began last.
    taken_began: Option<u64>,
    /// The events that have failed since one was taken, and when the first of them did.
    counted: Vec<usize>,
    counted_since: Option<Millis>,
    /// Whether the integration, as it was looked at last, shows failures that a success clears.
    is_failing: bool,
    has_said_taken: bool,
    jitter: f64,
}

/// What to do next of the attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Post(usize),
    Wait,
    Done,
}

impl Posting {
    /// A run, in an invocation that ends at `over` of the clock of [`Now::tick`].
    pub fn new(run: &Run, over: u64) -> Posting {
        Posting {
            events: (0..run.events.len()).map(|it| run.event(it)).collect(),
            segment: run.segment,
            epoch: 0,
            phase: Phase::New,
            integration: None,
            orders: VecDeque::new(),
            beside: 0,
            writes: VecDeque::new(),
            failures_of_ours: 0,
            again_at: None,
            is_handed_back: false,
            next: 0,
            width: 1,
            taken: 0,
            failures: 0,
            is_halted: false,
            is_taken: false,
            is_refused: false,
            is_slow: false,
            has_said_slow: false,
            hold: None,
            gone: None,
            began: None,
            ends: over.saturating_sub(LAST_ATTEMPT),
            over,
            under_way: Vec::new(),
            failed: Vec::new(),
            left: BTreeSet::new(),
            row: 0,
            row_events: BTreeSet::new(),
            row_at: None,
            pause_until: 0,
            repeats: VecDeque::new(),
            repeated: BTreeMap::new(),
            struck_at: None,
            taken_began: None,
            counted: Vec::new(),
            counted_since: None,
            is_failing: false,
            has_said_taken: false,
            jitter: 0.0,
        }
    }

    /// The number in the run of the event of an attempt.
    pub fn number(id: u64) -> usize {
        id as usize
    }

    fn looked(&mut self, integration: Option<Arc<Integration>>, now: Now) {
        let Some(integration) = integration else {
            self.phase = Phase::Over;
            return;
        };
        match admit(&integration, self.segment) {
            Admission::Drop => self.phase = Phase::Over,
            Admission::Wait => {
                self.left = (0..self.events.len()).collect();
                self.next = self.events.len();
                self.phase = Phase::Posting;
                self.is_halted = true;
            }
            Admission::Post => {
                self.epoch = integration.stream().map_or(0, |stream| stream.epoch);
                self.phase = Phase::Posting;
            }
        }
        let stream = integration.stream();
        self.is_failing = stream.is_some_and(|it| it.health.notes_success(now.wall));
        self.integration = Some(integration);
    }

    /// What the attempts of a run at work do next.
    fn attempt(&mut self, now: Now) -> Next {
        let tick = now.tick;
        let has_more = self.next < self.events.len() || !self.repeats.is_empty();
        if has_more && self.is_out_of_time(tick) {
            // A run that takes so long shows a slow receiver; one that had no time from the start shows nothing, nor does one that
            // paused.
            let is_long = self.began.is_some_and(|began| tick >= began + LONGEST);
            self.is_slow |= is_long && self.row_at.is_none();
            self.is_halted = true;
        }
        if self.is_halted {
            while let Some(repeat) = self.repeats.pop_front() {
                self.fail(repeat.number, repeat.failure, repeat.reason, now);
            }
        }
        let may_begin = !self.is_halted && tick >= self.pause_until;
        if may_begin
            && self.under_way.len() < self.width
            && let Some(number) = self.take(tick)
        {
            self.began.get_or_insert(tick);
            let began = None;
            self.under_way.push(Attempt { number, began });
            return Next::Post(number);
        }
        if self.under_way.is_empty() && self.repeats.is_empty() && self.beside == 0 {
            let is_done = self.is_halted || self.next == self.events.len();
            return if is_done { Next::Done } else { Next::Wait };
        }
        self.is_slow |= self.slow_at().is_some_and(|at| tick >= at);
        Next::Wait
    }

    /// The next event to post: those that were never tried first, then what was refused, when it is due.
    fn take(&mut self, now: u64) -> Option<usize> {
        if self.next < self.events.len() {
            self.next += 1;
            return Some(self.next - 1);
        }
        let due = self.repeats.front().filter(|it| it.due <= now)?.number;
        self.repeats.pop_front();
        Some(due)
    }

    /// When the receiver is slow, if it does not answer by then what it has, and nothing that began since.
    fn slow_at(&self) -> Option<u64> {
        let since = |began: &u64| self.taken_began.is_none_or(|taken| taken < *began);
        let began = self.under_way.iter().filter_map(|it| it.began);
        began.filter(since).min().map(|began| began + SLOW)
    }

    fn is_out_of_time(&self, now: u64) -> bool {
        now >= self.ends || self.began.is_some_and(|began| now >= began + LONGEST)
    }

    /// Says at once, while the run waits, that the receiver has just turned out to be slow.
    fn say_slow(&mut self) {
        if self.is_slow && !std::mem::replace(&mut self.has_said_slow, true) {
            self.say(Ran {
                is_slow: true,
                ..Ran::default()
            });
        }
    }

    fn say(&mut self, ran: Ran) {
        let epoch = self.epoch;
        self.beside += 1;
        let input = Input::Ran(Ran { epoch, ..ran });
        self.orders.push_back(Do::Apply(input));
    }

    fn posted(&mut self, id: u64, posted: Posted, now: Now) {
        let number = Posting::number(id);
        let Some(at) = self.under_way.iter().position(|it| it.number == number) else {
            return;
        };
        let attempt = self.under_way.swap_remove(at);
        match posted {
            Posted::Made(outcome, reason) => self.ended(attempt, outcome, reason, now),
            Posted::Unwanted => {}
            // Others need the sockets, too: a sender posts what is left as soon as there are some.
            Posted::Over | Posted::Unmade => self.halt(number),
        }
    }

    /// No attempt was made: the event waits, and so does the rest of the run.
    fn halt(&mut self, number: usize) {
        self.left.insert(number);
        self.is_halted = true;
    }

    /// An attempt has ended. `reason` is for the integration log.
    fn ended(&mut self, attempt: Attempt, outcome: Outcome, reason: String, now: Now) {
        let number = attempt.number;
        match outcome {
            Outcome::Delivered => self.taken(attempt),
            Outcome::Rejected(answer) => {
                self.taken(attempt);
                self.beside += 1;
                self.orders.push_back(Do::Reject {
                    id: number as u64,
                    event: self.events[number],
                    reason,
                    answer,
                });
            }
            Outcome::Gone => {
                self.gone.get_or_insert(reason);
                self.halt(number);
            }
            Outcome::Failed(failure) if failure.is_refusal => {
                self.refused(attempt, failure, reason, now);
            }
            Outcome::Failed(failure) => {
                self.failures += 1;
                self.is_halted |= self.failures >= self.width.max(2);
                self.fail(number, failure, reason, now);
            }
        }
    }

    /// An order that goes beside the attempts has its answer.
    fn beside(&mut self) {
        debug_assert!(self.beside > 0, "an answer to nothing");
        self.beside = self.beside.saturating_sub(1);
    }

    fn check(&self) {
        debug_assert!(self.next <= self.events.len());
        let under_way = self.under_way.iter().map(|it| it.number);
        let failed = self.failed.iter().map(|(number, ..)| *number);
        let repeats = self.repeats.iter().map(|it| it.number);
        let mut all: Vec<usize> = under_way.chain(failed).chain(repeats).collect();
        debug_assert!(all.iter().all(|number| !self.left.contains(number)));
        all.sort_unstable();
        debug_assert!(all.windows(2).all(|two| two[0] != two[1]), "{all:?}");
        debug_assert!(self.under_way.len() <= WIDEST);
    }
}

impl Machine for Posting {
    fn next(&mut self, now: Now, id: Ulid) -> Option<Do> {
        self.check();
        if self.phase == Phase::New {
            self.phase = Phase::Looking;
            return Some(Do::Look);
        }
        if self.phase == Phase::Posting && self.orders.is_empty() {
            let next = self.attempt(now);
            self.say_slow();
            match next {
                Next::Post(number) => {
                    return Some(Do::Post {
                        id: number as u64,
                        event: self.events[number],
                        attempt: 1 + self.repeated.get(&number).copied().map_or(0, u32::from),
                    });
                }
                Next::Done if self.orders.is_empty() => {
                    self.phase = Phase::Writing;
                    self.writes = self.written(now, id);
                    self.again_at = Some(now.tick);
                }
                Next::Wait | Next::Done => {}
            }
        }
        if let Some(order) = self.orders.pop_front() {
            return Some(order);
        }
        if self.phase != Phase::Writing {
            return None;
        }
        if self.writes.is_empty() {
            self.phase = Phase::Over;
            return None;
        }
        if self.again_at.is_none_or(|at| now.tick < at) {
            return None;
        }
        self.again_at = None;
        self.writes.front().cloned()
    }

    fn seen(&mut self, seen: Seen, now: Now) {
        match seen {
            Seen::Looked(integration) => self.looked(integration, now),
            Seen::Begun { id, at } => {
                let number = Posting::number(id);
                let mut under_way = self.under_way.iter_mut();
                if let Some(attempt) = under_way.find(|it| it.number == number) {
                    attempt.began.get_or_insert(at);
                }
            }
            Seen::Posted {
                id,
                posted,
                is_failing,
                jitter,
                took: _,
            } => {
                self.jitter = jitter;
                self.is_failing |= is_failing;
                self.posted(id, posted, now);
            }
            Seen::Rejected { .. } | Seen::Failed(Order::Reject(_)) => self.beside(),
            Seen::Failed(Order::Look) => {
                self.is_handed_back = true;
                self.phase = Phase::Over;
            }
            Seen::Failed(Order::Post(id)) => self.posted(id, Posted::Over, now),
            Seen::Applied(_) | Seen::Failed(Order::Apply) if self.phase == Phase::Posting => {
                self.beside();
            }
            Seen::Applied(_) | Seen::Put => {
                self.wrote(true, now.tick);
                self.again_at = Some(now.tick);
            }
            Seen::Failed(Order::Apply | Order::Put) => {
                self.wrote(false, now.tick);
                self.again_at.get_or_insert(now.tick);
            }
            Seen::Waiting(_) | Seen::Read { .. } | Seen::Dropped | Seen::Failed(_) => {
                debug_assert!(false, "an answer to what a run never asks");
            }
        }
    }

    fn wake(&self, now: Now) -> u64 {
        let latest = now.tick + TICK;
        let due = match self.phase {
            Phase::Writing => self.again_at,
            Phase::Posting => {
                let slow = self.slow_at().filter(|_| !self.is_slow);
                let has_more = self.next < self.events.len() || !self.repeats.is_empty();
                let began = self.began.filter(|_| has_more);
                let is_full = self.is_halted || self.under_way.len() >= self.width;
                let repeat = self.repeats.front().map(|it| it.due);
                let first = if self.next < self.events.len() {
                    Some(self.pause_until)
                } else {
                    repeat.map(|due| due.max(self.pause_until))
                };
                let begins = first.filter(|_| !is_full);
                let times = [slow, began.map(|at| at + LONGEST), begins];
                times.into_iter().flatten().min()
            }
            _ => None,
        };
        due.map_or(latest, |at| at.min(latest)).max(now.tick + 1)
    }

    fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    fn is_handed_back(&self) -> bool {
        self.is_handed_back
    }

    fn holder(&self) -> Holder {
        Holder::Run {
            segment: self.segment,
            epoch: self.epoch,
        }
    }
}

#[cfg(test)]
mod tests;
