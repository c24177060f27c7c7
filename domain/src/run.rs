//! A run of live events: how many of them are posted at a time, when it stops, and what is written down then.
//!
//! A machine without I/O: the driver asks [`Posting::next`] what to do, begins it, and gives back what came of it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::backoff;
use crate::integration::Integration;
use crate::lifecycle::{Ran, RanFailed};
use crate::log::position::EventRef;
use crate::receiver::outcome::{Failure, Outcome};
use crate::stream::waiting::{Waiting, items};
use crate::tasks::Run;
use crate::time::Millis;

/// The most attempts of a run at a time.
const WIDEST: usize = 10;
/// How long after its first attempt a run begins no further one: milliseconds.
pub const LONGEST: u64 = 5_000;
/// How long an attempt may be unanswered before the receiver is slow: milliseconds.
const SLOW: u64 = 2_000;
/// How long before the end of an invocation no attempt begins any more: milliseconds.
const LAST_ATTEMPT: u64 = 16_000;

/// What becomes of a run, by the integration as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Its events are posted.
    Post,
    /// They wait for a sender: the stream is served, or stopped.
    Wait,
    /// They are from before a restart that came too late to catch up, or the integration has finished.
    Drop,
}

/// Decides on the integration as it was read a moment ago.
pub fn admit(integration: &Integration, run: &Run) -> Admission {
    let Some(stream) = integration.stream() else {
        return Admission::Drop;
    };
    if run.segment < stream.floor.first_id() || integration.is_finished {
        return Admission::Drop;
    }
    match integration.is_running() && stream.served().is_none() {
        true => Admission::Post,
        false => Admission::Wait,
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Post the event of this number in the run.
    Post(usize),
    /// Wait for an attempt to end, or until this instant.
    Wait(u64),
    /// The run has ended.
    Done,
}

/// A run under way. Times are milliseconds of a clock that only moves forward.
#[derive(Clone, Debug)]
pub struct Posting {
    count: usize,
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
    began: Option<u64>,
    ends: u64,
    under_way: Vec<(usize, u64)>,
    failed: Vec<(usize, Failure, String)>,
    left: BTreeSet<usize>,
    /// How long attempts took, and how many.
    took: (u64, u64),
}

/// What is to be written down of a run: first the items, then the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Its events that wait for another attempt.
    pub items: Vec<Waiting>,
    /// What it says about the receiver, and when the first item is due.
    pub ran: Ran,
}

impl Posting {
    /// A run of so many events, in an invocation that ends at `over`.
    pub fn new(count: usize, over: u64) -> Posting {
        Posting {
            count,
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
            began: None,
            ends: over.saturating_sub(LAST_ATTEMPT),
            under_way: Vec::new(),
            failed: Vec::new(),
            left: BTreeSet::new(),
            took: (0, 0),
        }
    }

    /// The next thing to do.
    pub fn next(&mut self, now: u64) -> Next {
        if self.is_out_of_time(now) && self.next < self.count {
            // A run that takes so long shows a slow receiver; one that had no time from the start shows nothing.
            self.is_slow |= self.began.is_some_and(|began| now >= began + LONGEST);
            self.is_halted = true;
        }
        if !self.is_halted && self.next < self.count && self.under_way.len() < self.width {
            let number = self.next;
            self.next += 1;
            self.began.get_or_insert(now);
            self.under_way.push((number, now));
            return Next::Post(number);
        }
        let Some(first) = self.under_way.iter().map(|(_, began)| *began).min() else {
            return Next::Done;
        };
        if now >= first + SLOW {
            self.is_slow = true;
            return Next::Wait(now + SLOW);
        }
        let until = first + SLOW;
        Next::Wait(match self.next < self.count && !self.is_halted {
            true => until.min(self.began.map_or(until, |began| began + LONGEST)),
            false => until,
        })
    }

    fn is_out_of_time(&self, now: u64) -> bool {
        self.began.is_some_and(|began| now >= began + LONGEST) || now >= self.ends
    }

    /// Whether the receiver has just turned out to be slow: to be said at once, while the run waits.
    pub fn says_slow(&mut self) -> bool {
        self.is_slow && !std::mem::replace(&mut self.has_said_slow, true)
    }

    /// An attempt has ended. `reason` is for the integration log.
    pub fn ended(&mut self, number: usize, outcome: &Outcome, reason: String, now: u64) {
        let began = self.remove(number).unwrap_or(now);
        match outcome {
            Outcome::Delivered | Outcome::Rejected(_) => {
                self.is_taken = true;
                self.failures = 0;
                self.taken += 1;
                self.took = (self.took.0 + now.saturating_sub(began), self.took.1 + 1);
                if self.taken >= self.width {
                    self.width = (self.width * 2).min(WIDEST);
                    self.taken = 0;
                }
            }
            Outcome::Gone => {
                self.left.insert(number);
                self.is_halted = true;
            }
            Outcome::Failed(failure) => {
                self.failures += 1;
                if failure.is_refusal {
                    self.is_refused = true;
                    self.hold = self.hold.max(failure.retry_after);
                    self.is_halted = true;
                }
                self.is_halted |= self.failures >= self.width.max(2);
                self.failed.push((number, failure.clone(), reason));
            }
        }
    }

    /// No attempt was made: the filter does not let the event pass any more.
    pub fn skipped(&mut self, number: usize) {
        self.remove(number);
    }

    /// No attempt was made: the stream is not live any more.
    pub fn halted(&mut self, number: usize) {
        self.remove(number);
        self.left.insert(number);
        self.is_halted = true;
    }

    fn remove(&mut self, number: usize) -> Option<u64> {
        let at = self.under_way.iter().position(|(it, _)| *it == number)?;
        Some(self.under_way.swap_remove(at).1)
    }

    /// The mean time that an attempt took which was taken, in milliseconds; none where none was.
    pub fn mean(&self) -> Option<u64> {
        (self.took.1 > 0).then(|| self.took.0 / self.took.1)
    }

    /// What is to be written down once the run has ended, at `now`; none of it where it has changed nothing. `jitter` is in
    /// `0.0..1.0`.
    pub fn written(&self, run: &Run, epoch: u64, now: Millis, jitter: f64) -> Written {
        let event = |number: usize| EventRef {
            segment: run.segment,
            index: run.events[number].index,
            shard: run.shard,
        };
        let mut failed: Vec<usize> = self.failed.iter().map(|(number, ..)| *number).collect();
        failed.sort_unstable();
        let asked = self
            .failed
            .iter()
            .filter_map(|(_, failure, _)| failure.retry_after)
            .max();
        let due_at = now.after(backoff::pause(1, asked, jitter));
        let last = self.failed.last();
        let mut written: Vec<Waiting> = items(
            failed.iter().map(|number| event(*number)),
            2,
            Some(now),
            due_at,
            last.map(|(_, failure, _)| failure.reason.as_str()),
        );
        let untried = self.left.iter().copied().chain(self.next..run.events.len());
        let untried: Vec<Waiting> = items(untried.map(event), 1, None, now, None);
        let due_at = match untried.is_empty() {
            true => last.map(|_| due_at),
            false => Some(now),
        };
        written.extend(untried);
        Written {
            items: written,
            ran: Ran {
                epoch,
                is_taken: self.is_taken,
                failed: last.map(|(_, _, reason)| RanFailed {
                    events: failed
                        .iter()
                        .map(|number| format!("{}/{}", run.segment, run.events[*number].index))
                        .collect(),
                    reason: reason.clone(),
                }),
                is_refused: self.is_refused,
                hold: self.hold,
                is_slow: self.is_slow && !self.has_said_slow,
                due_at,
            },
        }
    }

    /// All events of a run that is not posted, as items that are due at once.
    pub fn all(run: &Run, now: Millis) -> Vec<Waiting> {
        let events = run.events.iter().map(|event| EventRef {
            segment: run.segment,
            index: event.index,
            shard: run.shard,
        });
        items(events, 1, None, now, None)
    }
}

impl Written {
    /// Whether the integration has to be read to know what it changes: one that runs and is healthy changes nothing.
    pub fn says_something(&self, integration: &Integration, now: Millis) -> bool {
        let Ran {
            is_taken,
            failed,
            is_refused,
            is_slow,
            due_at,
            ..
        } = &self.ran;
        let notes = integration
            .stream()
            .is_some_and(|stream| stream.health.notes_success(now));
        (*is_taken && notes) || failed.is_some() || *is_refused || *is_slow || due_at.is_some()
    }
}

#[cfg(test)]
mod tests;
