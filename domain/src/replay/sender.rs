//! The sender of a stream: one step of replay, as a machine without I/O.
//!
//! It holds the stream's lease, lists the events that wait, reads what is owed, and posts both, as many at a time as the pace
//! allows. The driver asks [`Sender::next`] for things to do until there is none, begins each at once, and gives back what came of
//! it by [`Sender::seen`]; when nothing is left to begin it waits for the next of them, or until [`Sender::wake`].
//!
//! The position moves at checkpoints, to the lowest event that is neither done with nor in a waiting item. So a sender that is
//! killed repeats what it has sent since its last checkpoint, and loses nothing.

use std::collections::VecDeque;
use std::time::Duration;

use ulid::Ulid;

use crate::integration::Integration;
use crate::lifecycle::{Applied, Input, Rest, Rules, StepInput, Verdict as Written};
use crate::log::position::{EventRef, Position};
use crate::receiver::outcome::Outcome;
use crate::stream::health::Health;
use crate::stream::pace::{Pace, Pacer};
use crate::stream::waiting::{StoredWaiting, WaitingKey};
use crate::stream::{Because, Stream};
use crate::time::Millis;

mod held;
mod posting;
mod saving;

use held::{Held, Tried};
use posting::UnderWay;
use saving::Saving;

/// How much a sender takes on. Parameters, so that the simulation reaches every bound with a few events.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many events are finished between two checkpoints at the most; with twice the window, how far it reads ahead.
    pub events: usize,
    /// How many events are asked for in one read.
    pub read: usize,
    /// How many events wait at the most before nothing else is sent.
    pub waiting: usize,
    /// How many owed ranges a stream may have that goes live.
    pub ranges: usize,
    /// How long a checkpoint may be put off: milliseconds.
    pub checkpoint: u64,
}

/// Those of a deployment.
pub const LIMITS: Limits = Limits {
    events: 500,
    read: 500,
    waiting: 10_000,
    ranges: 10,
    checkpoint: 5_000,
};

/// A hold that is longer is waited for by the next step: milliseconds.
const LONGEST_HOLD: u64 = 2_000;
/// How long before its end a step begins no request any more: one may take 15 seconds, and 5 are for the last checkpoint.
const LAST_REQUEST: Duration = Duration::from_secs(20);
/// How long after its beginning a stream that catches up, and that nothing limits, goes live before it has caught up: milliseconds.
const LIVE_AFTER: u64 = 30_000;
/// How often the time is looked at while there is nothing to begin: milliseconds.
const TICK: u64 = 500;

/// The time of a step.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// By the wall clock, which everyone shares.
    pub wall: Millis,
    /// Milliseconds since the step began, by a clock that only moves forward.
    pub tick: u64,
}

/// What a sender wants to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Do {
    /// Apply this to the integration; then [`Seen::Applied`].
    Apply(Input),
    /// List all waiting events, read consistently; then [`Seen::Waiting`].
    List,
    /// List the events of an earlier version's chunk that are not settled; then [`Seen::Chunk`].
    ListChunk(Ulid),
    /// Read what is owed, without what repeats in this step's own reading, as far as it passes the filter; then [`Seen::Read`].
    Read {
        /// The first event.
        from: Position,
        /// The first id not to read.
        until: Ulid,
        /// How many events at the most.
        limit: usize,
    },
    /// Post an event, if the integration as it is right now lets it be sent; then [`Seen::Posted`].
    Post {
        /// The attempt: new for each.
        id: u64,
        /// The event.
        event: EventRef,
    },
    /// Keep an event among the rejected ones; then [`Seen::Rejected`].
    Reject {
        /// The attempt.
        id: u64,
        /// The event.
        event: EventRef,
        /// For the integration log.
        reason: String,
        /// The start of the receiver's response.
        answer: String,
    },
    /// Store items of waiting events, each under a token; then [`Seen::Put`].
    Put(Vec<StoredWaiting>),
    /// Delete items of waiting events; then [`Seen::Dropped`].
    Drop(Vec<WaitingKey>),
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Posted {
    /// It was made. The text says what went wrong, for the integration log; empty where nothing did.
    Made(Outcome, String),
    /// It was not: the filter does not let the event pass any more, or the event log has forgotten it.
    Unwanted,
    /// It was not: the integration is stopped, was started again since, or is gone, or another step is at work.
    Over,
}

/// What a sender has seen.
#[derive(Clone, Debug)]
pub enum Seen {
    /// The integration as it is now, and what became of the input; none when it is gone.
    Applied(Option<Box<Applied>>),
    /// All that waits.
    Waiting(Vec<StoredWaiting>),
    /// Events of a chunk: which attempt is next, and since when each fails.
    Chunk(Vec<(EventRef, u32, Option<Millis>)>),
    /// What was read.
    Read {
        /// The events to send, in order.
        events: Vec<EventRef>,
        /// The position behind what was read.
        next: Position,
    },
    /// What came of an attempt.
    Posted {
        /// The attempt.
        id: u64,
        /// What came of it.
        posted: Posted,
        /// In `0.0..1.0`.
        jitter: f64,
    },
    /// An event is among the rejected ones.
    Rejected {
        /// The attempt.
        id: u64,
    },
    /// The items are stored.
    Put,
    /// The items are deleted.
    Dropped,
}

/// How far the step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Beginning,
    Chunk,
    Listing,
    Working,
    /// Nothing is begun any more; what is under way ends.
    Ending,
    Leaving,
    Over,
}

/// A step under way.
#[derive(Clone, Debug)]
pub struct Sender {
    turn: u64,
    holder: Ulid,
    over: Millis,
    rules: Rules,
    limits: Limits,
    horizon: Millis,
    /// When nothing is begun any more.
    last_request: u64,
    phase: Phase,
    /// The integration as it was written or read last.
    integration: Option<Integration>,
    epoch: u64,
    pacer: Pacer,
    pace: Pace,
    health: Health,
    held: Held,
    under_way: UnderWay,
    saving: Saving,
    ahead: VecDeque<EventRef>,
    /// The owed range that is being read: where it stood, how far it is read, and its end.
    range: Option<Range>,
    is_reading: bool,
    is_listing: bool,
    /// Whether it is known what waits.
    has_listed: bool,
    /// Whether an input is being applied.
    is_applying: bool,
    opening: bool,
    confirmed: bool,
    has_moved: bool,
    has_failed: bool,
    /// Whether anything was refused since the step began.
    was_refused: bool,
    takes_waiting: bool,
    next_id: u64,
    pending: VecDeque<Do>,
}

/// An owed range as far as this step has read it.
#[derive(Clone, Copy, Debug)]
struct Range {
    /// The position as it is stored.
    from: Position,
    /// The position behind what was read.
    next: Position,
    /// The first id not to read.
    until: Ulid,
    /// The position behind the last event that was sent.
    sent: Position,
}

impl Sender {
    /// The step of the task of `turn`, which begins at `now` and has to be over at `over`. `holder` is a new ULID.
    pub fn new(
        turn: u64,
        holder: Ulid,
        now: Now,
        over: Millis,
        rules: Rules,
        limits: Limits,
    ) -> Sender {
        let lasts = over.since(now.wall);
        let until_last = lasts.saturating_sub(LAST_REQUEST).max(lasts / 3);
        Sender {
            turn,
            holder,
            over,
            rules,
            limits,
            horizon: rules.horizon(now.wall),
            last_request: now.tick + until_last.as_millis() as u64,
            phase: Phase::New,
            integration: None,
            epoch: 0,
            pacer: Pacer::new(&Pace::default(), None, now.tick, now.wall),
            pace: Pace::default(),
            health: Health::default(),
            held: Held::default(),
            under_way: UnderWay::default(),
            saving: Saving::new(now.tick),
            ahead: VecDeque::new(),
            range: None,
            is_reading: false,
            is_listing: false,
            has_listed: false,
            is_applying: false,
            opening: false,
            confirmed: false,
            has_moved: false,
            has_failed: false,
            was_refused: false,
            takes_waiting: true,
            next_id: 0,
            pending: VecDeque::new(),
        }
    }

    /// Whether the step is over.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Whether it has begun to send.
    pub fn is_working(&self) -> bool {
        self.phase == Phase::Working
    }

    /// The turn that the step holds.
    pub fn turn(&self) -> u64 {
        self.turn
    }

    /// The start for which its attempts are made.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Something of ours failed: the step leaves, and another one is due soon. What it was at is done again.
    /// Returns what is still to be done, if it can be: nothing else will be asked for.
    pub fn fail(&mut self) -> Option<Do> {
        let has_begun = !matches!(
            self.phase,
            Phase::New | Phase::Beginning | Phase::Leaving | Phase::Over
        );
        self.has_failed = true;
        self.phase = Phase::Over;
        has_begun.then(|| self.leaving())
    }

    /// When to call [`Sender::next`] again at the latest, by the clock of [`Now::tick`].
    pub fn wake(&self, now: Now) -> u64 {
        let due = match (self.has_owed(), self.held.first_due()) {
            (true, _) => Some(now.tick),
            (false, due) => due.map(|due| now.tick + due.since(now.wall).as_millis() as u64),
        };
        let begins = due.and_then(|due| Some(due.max(self.pacer.may_begin_at(now.tick)?)));
        let latest = now.tick + TICK;
        begins.map_or(latest, |at| at.min(latest)).max(now.tick + 1)
    }

    /// The next thing to begin; none until something is seen, or [`Sender::wake`] has come. `id` is a new ULID.
    pub fn next(&mut self, now: Now, id: Ulid) -> Option<Do> {
        self.pacer.pass(now.tick);
        if let Some(todo) = self.pending.pop_front() {
            return Some(todo);
        }
        match self.phase {
            Phase::New => {
                self.phase = Phase::Beginning;
                let (holder, until) = (self.holder, self.over);
                Some(self.apply(StepInput::Begin { holder, until }))
            }
            Phase::Working => {
                if let Some(todo) = self.save(now, id) {
                    return Some(todo);
                }
                if self.is_done_for_now(now) {
                    self.phase = Phase::Ending;
                    return self.next(now, id);
                }
                self.read().or_else(|| self.post(now))
            }
            Phase::Ending => {
                if let Some(todo) = self.save(now, id) {
                    return Some(todo);
                }
                let is_busy = !self.under_way.is_empty()
                    || self.is_applying
                    || self.is_reading
                    || self.is_listing
                    || self.saving.is_at_work();
                if is_busy {
                    return None;
                }
                self.phase = Phase::Leaving;
                Some(self.leaving())
            }
            _ => None,
        }
    }

    /// Takes note of what came of something.
    pub fn seen(&mut self, seen: Seen, now: Now) {
        match seen {
            Seen::Applied(applied) => self.applied(applied, now),
            Seen::Chunk(events) => {
                for (event, attempt, failing_since) in events {
                    let tried = Tried::new(attempt, failing_since, now.wall);
                    self.held.wait(event, tried, self.floor());
                }
                self.saving.request();
                self.begin_listing();
            }
            Seen::Waiting(found) => {
                (self.is_listing, self.has_listed) = (false, true);
                self.held.found(found, self.floor());
                if self.phase == Phase::Listing {
                    self.phase = Phase::Working;
                    if self.may_open_now(now) {
                        self.open();
                    }
                }
            }
            Seen::Read { events, next } => self.has_read(events, next),
            Seen::Posted { id, posted, jitter } => self.posted(id, posted, jitter, now),
            Seen::Rejected { id } => {
                if let Some(sending) = self.under_way.remove(id) {
                    self.finish(sending.event, sending.tried);
                }
            }
            Seen::Put => self.stored(),
            Seen::Dropped => self.saving.dropped(),
        }
    }

    fn apply(&mut self, step: StepInput) -> Do {
        self.is_applying = true;
        let turn = self.turn;
        Do::Apply(Input::Step { turn, step })
    }

    fn list(&mut self) {
        self.is_listing = true;
        self.pending.push_back(Do::List);
    }

    fn begin_listing(&mut self) {
        self.phase = Phase::Listing;
        self.list();
    }

    fn open(&mut self) {
        self.opening = true;
        let todo = self.apply(StepInput::Open);
        self.pending.push_back(todo);
    }

    fn stream(&self) -> Option<&Stream> {
        self.integration.as_ref().and_then(Integration::stream)
    }

    fn floor(&self) -> Ulid {
        self.stream()
            .map_or(Ulid(0), |stream| stream.floor.first_id())
    }

    fn is_probing(&self) -> bool {
        self.health.interruption.is_some()
    }

    fn applied(&mut self, applied: Option<Box<Applied>>, now: Now) {
        self.is_applying = false;
        let Some(applied) = applied.filter(|applied| applied.integration.stream().is_some()) else {
            self.phase = Phase::Over;
            return;
        };
        let Applied {
            integration,
            verdict,
            decided_at,
        } = *applied;
        let is_refused = verdict == Written::Refuse;
        let Some(stream) = integration.stream() else {
            return;
        };
        match self.phase {
            Phase::Leaving => self.phase = Phase::Over,
            Phase::Beginning if is_refused => self.phase = Phase::Over,
            Phase::Beginning => {
                self.turn = stream.schedule.turn;
                self.epoch = stream.epoch;
                self.health = stream.health.clone();
                self.pace = stream.pace;
                let most = integration.max_in_flight();
                self.pacer = Pacer::new(&stream.pace, most, now.tick, now.wall);
                self.begin(&integration, now);
            }
            _ if stream.schedule.turn != self.turn => self.phase = Phase::Over,
            _ if self.opening => self.opened(verdict == Written::Write, decided_at, now),
            _ => {
                let hears = self.saving.wrote(now.tick);
                if hears {
                    self.list();
                }
                self.saving
                    .heard(stream.schedule.nudged && !hears, now.tick);
                if let Some(range) = &mut self.range {
                    match stream.owed.first() {
                        Some(owed)
                            if range.from <= owed.from
                                && owed.from <= range.next
                                && owed.from.segment < range.until =>
                        {
                            range.from = owed.from;
                        }
                        _ => self.range = None,
                    }
                }
                if is_refused || !integration.is_running() || stream.epoch != self.epoch {
                    self.end();
                }
            }
        }
        self.integration = Some(integration);
        if self.phase == Phase::Working && !self.is_applying && self.may_open_now(now) {
            self.open();
        }
    }

    /// The gap is ended, if it was open: readers of the integration that come late do not count if the write was confirmed in time.
    fn opened(&mut self, is_written: bool, decided_at: Millis, now: Now) {
        self.opening = false;
        if is_written {
            self.has_moved = true;
            self.confirmed = now.wall < decided_at.after(self.rules.seal / 2);
        }
    }

    /// The turn has begun.
    fn begin(&mut self, integration: &Integration, now: Now) {
        let Some(stream) = integration.stream().filter(|_| integration.is_running()) else {
            self.phase = Phase::Ending;
            return;
        };
        if let Some(it) = stream.health.interruption {
            let wait = it.next_probe_at.since(now.wall);
            if !wait.is_zero() {
                self.phase = Phase::Ending;
                return;
            }
            self.pacer.interrupt(now.tick, Duration::ZERO);
        } else if self.pacer.hold_until() > now.tick + LONGEST_HOLD {
            self.phase = Phase::Ending;
            return;
        }
        match stream.unsent {
            Some(chunk) => {
                self.phase = Phase::Chunk;
                self.saving.drains(chunk);
                self.pending.push_back(Do::ListChunk(chunk));
            }
            None => self.begin_listing(),
        }
    }

    /// Nothing is begun any more.
    fn end(&mut self) {
        self.phase = Phase::Ending;
        // What was read and not begun stays open: the position does not pass it, and the next step reads it again.
        self.ahead.clear();
    }

    /// Whether anything of what is owed can be sent now.
    fn has_owed(&self) -> bool {
        !self.ahead.is_empty() && !self.is_full()
    }

    fn is_full(&self) -> bool {
        let because = self.stream().and_then(Stream::served).map(|it| it.because);
        let limit = match because {
            Some(Because::Full) => self.limits.waiting * 4 / 5,
            _ => self.limits.waiting,
        };
        self.held.len() >= limit
    }

    /// Whether there is nothing to do for this step, or no time.
    fn is_done_for_now(&mut self, now: Now) -> bool {
        if now.tick >= self.last_request {
            self.end();
            return true;
        }
        if self.pacer.hold_until() > now.tick + LONGEST_HOLD && !self.is_reading {
            self.end();
            return true;
        }
        let is_at_work = self.is_applying
            || self.is_reading
            || self.is_listing
            || self.saving.is_at_work()
            || !self.pending.is_empty()
            || !self.under_way.is_empty();
        if is_at_work || self.has_owed() || self.can_read() {
            return false;
        }
        if self.is_probing() && self.held.len() > 0 {
            return false;
        }
        if self.is_probing() {
            // Nothing to probe with: what comes next shows how the receiver is.
            self.resumed(now, false);
            self.saving.request();
            return false;
        }
        let soon = now.wall.after(Duration::from_millis(LONGEST_HOLD));
        let is_done = self.held.first_due().is_none_or(|due| due > soon);
        if is_done && self.saving.is_changed() {
            // Written down first: a stream that has caught up may go live in this step.
            self.saving.request();
            return false;
        }
        is_done
    }

    /// The part of the event log to read next.
    fn can_read(&self) -> bool {
        if self.is_reading || self.is_full() {
            return false;
        }
        let room = self.limits.events + 2 * self.pacer.window() as usize;
        if self.held.open() >= room || self.ahead.len() > self.pacer.window() as usize {
            return false;
        }
        match self.range {
            Some(range) => range.next.segment < range.until,
            None => self
                .stream()
                .is_some_and(|stream| stream.readable(self.horizon).is_some()),
        }
    }

    fn read(&mut self) -> Option<Do> {
        if !self.can_read() {
            return None;
        }
        let range = match self.range {
            Some(range) => range,
            None => {
                let found = self.stream()?.readable(self.horizon)?;
                *self.range.insert(Range {
                    from: found.from,
                    next: found.from,
                    until: found.until,
                    sent: found.from,
                })
            }
        };
        let room = self.limits.events + 2 * self.pacer.window() as usize;
        self.is_reading = true;
        Some(Do::Read {
            from: range.next,
            until: range.until,
            limit: (room - self.held.open()).min(self.limits.read).max(1),
        })
    }

    fn has_read(&mut self, events: Vec<EventRef>, next: Position) {
        self.is_reading = false;
        let Some(range) = &mut self.range else { return };
        if self.phase != Phase::Working {
            // Read again by the next step.
            return;
        }
        if next > range.next {
            range.next = next;
            self.has_moved = true;
            self.saving.changed();
        }
        for event in events {
            // What waits already is sent as that: a sender was killed between storing it and moving on.
            if self.held.read(event, &self.under_way) {
                self.ahead.push_back(event);
            }
        }
    }

    /// The position up to which everything is done with, and the same as far as events were sent.
    fn reached(&self) -> Option<(Position, Position, Position)> {
        let range = self.range?;
        let lowest = self.held.lowest().map(|event| Position {
            segment: event.segment,
            index: event.index,
        });
        let to = lowest.unwrap_or(range.next).min(range.next);
        Some((range.from, to, range.sent.min(to)))
    }

    /// Whether the stream may go live at this moment.
    fn may_open_now(&self, now: Now) -> bool {
        let Some(integration) = &self.integration else {
            return false;
        };
        let Some(stream) = integration.stream().filter(|_| integration.may_go_live()) else {
            return false;
        };
        if self.is_probing() || self.confirmed || now.tick >= self.last_request {
            return false;
        }
        let Some(served) = stream.served() else {
            // An end of which it is not known whether it came in time is moved.
            return stream.unconfirmed;
        };
        if stream.owed.len() > self.limits.ranges {
            return false;
        }
        let is_caught_up = self.range.is_none()
            && self.ahead.is_empty()
            && stream.readable(self.horizon).is_none();
        match served.because {
            Because::Start | Because::Down => {
                is_caught_up || now.tick >= LIVE_AFTER && !self.was_refused
            }
            Because::Full => is_caught_up && self.held.len() < self.limits.waiting * 4 / 5,
            Because::Refused | Because::Slow => {
                is_caught_up
                    && !self.pacer.was_limited(now.tick)
                    && self
                        .pace
                        .refused_at
                        .is_none_or(|at| now.wall.since(at) >= Duration::from_secs(10))
                    && stream.live_again_at().is_none_or(|at| at <= now.wall)
            }
        }
    }

    fn leaving(&mut self) -> Do {
        let rest = Rest {
            next: self.next_at(),
            waits: !self.has_listed || self.held.len() > 0,
            has_moved: self.has_moved,
            has_failed: self.has_failed,
        };
        let confirmed = self.confirmed;
        self.apply(StepInput::Leave { confirmed, rest })
    }

    /// When there is something to do next: at once where this step had no time for it, when a pause ends, or when the first event is
    /// due.
    fn next_at(&self) -> Option<Millis> {
        let stream = self.stream()?;
        if let Some(it) = self.health.interruption {
            return Some(it.next_probe_at);
        }
        let has_more =
            !self.has_listed || stream.readable(self.horizon).is_some() && !self.is_full();
        let due = match has_more {
            true => Some(Millis(0)),
            false => self.held.first_due(),
        };
        due.map(|due| due.max(self.pace.hold_until.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests;
