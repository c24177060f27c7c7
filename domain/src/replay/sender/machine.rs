//! The sender itself: its state, what it does next, and what it makes of what it sees. Its other parts are in the files beside this.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use ulid::Ulid;

use super::again::Again;
use super::held::Held;
use super::progress::Saving;
use super::types::{LONGEST_HOLD, Limits};
use super::under_way::UnderWay;
use crate::integration::Integration;
use crate::lifecycle::{Applied, Input, Ran, Rules, StepInput, Verdict as Written};
use crate::log::position::{EventRef, Position};
use crate::sending::{Do, Holder, Machine, Now, Seen};
use crate::stream::Stream;
use crate::stream::health::Health;
use crate::stream::pace::{Pace, Pacer};
use crate::time::Millis;

/// How long before its end a step begins no request any more: one may take 15 seconds and half a one of ours, and what is left is for
/// the last checkpoint.
const LAST_REQUEST: Duration = Duration::from_secs(20);
/// How often the time is looked at while there is nothing to begin: milliseconds.
const TICK: u64 = 500;

/// How long before the end of a step items of waiting events are not stored or deleted again: what follows it needs that time.
const LAST_STORED: Duration = Duration::from_secs(5);

/// How far the step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    New,
    Beginning,
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
    pub(super) turn: u64,
    pub(super) holder: Ulid,
    pub(super) over: Millis,
    pub(super) rules: Rules,
    pub(super) limits: Limits,
    pub(super) horizon: Millis,
    /// When nothing is begun any more.
    pub(super) last_request: u64,
    /// Until when nothing is begun for want of a socket.
    pub(super) rests_until: u64,
    /// When nothing is stored or deleted again that could not be.
    pub(super) last_stored: u64,
    pub(super) phase: Phase,
    /// The integration as it was written or read last.
    pub(super) integration: Option<Integration>,
    pub(super) epoch: u64,
    pub(super) pacer: Pacer,
    pub(super) pace: Pace,
    /// How the receiver has been responding, as the judge says.
    pub(super) health: Health,
    /// Whether this sender judges the receiver: while the stream is served. While it is live delivery does, of which this sender sees
    /// nothing.
    pub(super) is_judge: bool,
    /// What it has seen since its last checkpoint, for delivery.
    pub(super) ran: Ran,
    pub(super) row: Row,
    /// When an event was taken last, by the wall clock.
    pub(super) taken_wall: Option<Millis>,
    /// Whether the receiver has refused, or was down, since it took an event last.
    pub(super) is_troubled: bool,
    pub(super) held: Held,
    pub(super) under_way: UnderWay,
    pub(super) saving: Saving,
    pub(super) ahead: VecDeque<EventRef>,
    /// What was read and is not sent by this step.
    pub(super) skipped: Vec<EventRef>,
    /// The owed range that is being read: where it stood, how far it is read, and its end.
    pub(super) range: Option<Range>,
    pub(super) is_reading: bool,
    pub(super) is_listing: bool,
    /// Whether it is known what waits.
    pub(super) has_listed: bool,
    /// Whether more may wait than was listed.
    pub(super) lists_more: bool,
    /// Whether an input is being applied.
    pub(super) is_applying: bool,
    pub(super) opening: bool,
    pub(super) confirmed: bool,
    pub(super) has_moved: bool,
    /// Whether something of ours failed, and not even the last checkpoint could be written.
    pub(super) has_failed: bool,
    pub(super) is_lost: bool,
    pub(super) was_unheard: bool,
    pub(super) is_handed_back: bool,
    /// How often the same order has failed in a row, by what it is for.
    pub(super) listing: Again,
    pub(super) reading: Again,
    /// Whether anything was refused since the step began.
    pub(super) was_refused: bool,
    pub(super) takes_waiting: bool,
    pub(super) next_id: u64,
    pub(super) pending: VecDeque<Do>,
}

/// Refusals in a row. What was under way beside one is of the same moment, and no further one.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) count: u32,
    pub(super) events: BTreeSet<EventRef>,
    at: Option<u64>,
}

impl Row {
    /// An attempt that began at `began` was refused.
    pub(super) fn refuse(&mut self, event: EventRef, began: u64, now: u64) {
        if self.at.is_none_or(|at| began >= at) {
            self.count += 1;
            self.events.insert(event);
            self.at = Some(now);
        }
    }

    /// An event was taken.
    pub(super) fn end(&mut self) {
        self.count = 0;
        self.events.clear();
    }
}

/// An owed range as far as this step has read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    /// The position as it is stored.
    pub(super) from: Position,
    /// The position behind what was read.
    pub(super) next: Position,
    /// The first id not to read.
    pub(super) until: Ulid,
    /// The position behind the last event that was sent.
    pub(super) sent: Position,
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
        let until = |last: Duration| {
            let until_last = lasts.saturating_sub(last).max(lasts / 3);
            now.tick + until_last.as_millis() as u64
        };
        Sender {
            turn,
            holder,
            over,
            rules,
            limits,
            horizon: rules.horizon(now.wall),
            last_request: until(LAST_REQUEST),
            rests_until: now.tick,
            last_stored: until(LAST_STORED),
            phase: Phase::New,
            integration: None,
            epoch: 0,
            pacer: Pacer::new(&Pace::default(), None, now.tick, now.wall),
            pace: Pace::default(),
            health: Health::default(),
            is_judge: true,
            ran: Ran::default(),
            row: Row::default(),
            taken_wall: None,
            is_troubled: false,
            held: Held::default(),
            under_way: UnderWay::default(),
            saving: Saving::new(now.tick),
            ahead: VecDeque::new(),
            skipped: Vec::new(),
            range: None,
            is_reading: false,
            is_listing: false,
            has_listed: false,
            lists_more: false,
            is_applying: false,
            opening: false,
            confirmed: false,
            has_moved: false,
            has_failed: false,
            is_lost: false,
            was_unheard: false,
            is_handed_back: false,
            listing: Again::default(),
            reading: Again::default(),
            was_refused: false,
            takes_waiting: true,
            next_id: 0,
            pending: VecDeque::new(),
        }
    }

    /// Whether it has begun to send.
    pub fn is_working(&self) -> bool {
        self.phase == Phase::Working
    }

    /// How many events wait for another attempt.
    pub fn waiting(&self) -> usize {
        self.held.len()
    }

    pub(super) fn apply(&mut self, step: StepInput) -> Do {
        self.is_applying = true;
        let turn = self.turn;
        Do::Apply(Input::Step { turn, step })
    }

    pub(super) fn stream(&self) -> Option<&Stream> {
        self.integration.as_ref().and_then(Integration::stream)
    }

    pub(super) fn floor(&self) -> Ulid {
        self.stream()
            .map_or(Ulid(0), |stream| stream.floor.first_id())
    }

    pub(super) fn is_probing(&self) -> bool {
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
            actions: _,
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
                self.is_judge = stream.served().is_some();
                self.is_troubled = self.health.failing_since.is_some() || self.is_probing();
                self.pace = stream.pace;
                let most = integration.max_in_flight();
                self.pacer = Pacer::new(&stream.pace, most, now.tick, now.wall);
                self.begin(&integration, now);
            }
            _ if stream.schedule.turn != self.turn => self.phase = Phase::Over,
            _ if self.opening => {
                self.opened(verdict == Written::Write, decided_at, now);
                self.hear_judge(stream, now);
            }
            _ => {
                self.hear_judge(stream, now);
                let hears = self.saving.wrote(now.tick);
                if hears {
                    self.list();
                }
                self.saving.heard(stream.schedule.nudged && !hears);
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
                if is_refused && !std::mem::replace(&mut self.was_unheard, true) {
                    // One of before took effect, though it was said to have failed: from where the document stands it goes on.
                    self.saving.changed();
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

    /// Takes over what delivery has found, where it judges the receiver or has until now.
    fn hear_judge(&mut self, stream: &Stream, now: Now) {
        let is_judge = stream.served().is_some();
        if !is_judge || !self.is_judge {
            self.health = stream.health.clone();
            if let Some(it) = stream.health.interruption {
                self.is_troubled = true;
                let pause = it.next_probe_at.since(now.wall);
                self.pacer.interrupt(now.tick, pause);
            }
        }
        self.is_judge = is_judge;
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
        self.begin_listing();
    }

    /// Nothing is begun any more.
    pub(super) fn end(&mut self) {
        self.phase = Phase::Ending;
        // What was read and not begun stays open: the position does not pass it, and the next step reads it again.
        self.skipped.extend(self.ahead.drain(..));
    }

    fn check(&self) {
        debug_assert!(self.under_way.is_apart_from(&self.held), "an event twice");
        if let Some(range) = &self.range {
            debug_assert!(range.from <= range.next);
            debug_assert!(self.reached().is_none_or(|(_, to, sent)| sent <= to));
        }
    }
}

impl Machine for Sender {
    fn next(&mut self, now: Now, id: Ulid) -> Option<Do> {
        self.check();
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
            Phase::Listing => self.list_again(now),
            Phase::Working => {
                if let Some(todo) = self.list_again(now).or_else(|| self.save(now, id)) {
                    return Some(todo);
                }
                if self.is_done_for_now(now) {
                    self.phase = Phase::Ending;
                    return self.next(now, id);
                }
                self.read(now).or_else(|| self.post(now))
            }
            Phase::Ending => {
                if let Some(todo) = self.save(now, id) {
                    return Some(todo);
                }
                let is_busy = !self.under_way.is_empty()
                    || self.is_applying
                    || self.is_reading
                    || self.is_listing
                    || self.saving.is_at_work() && !self.is_lost;
                if is_busy {
                    return None;
                }
                self.phase = Phase::Leaving;
                Some(self.leaving())
            }
            Phase::Beginning | Phase::Leaving | Phase::Over => None,
        }
    }

    fn seen(&mut self, seen: Seen, now: Now) {
        match seen {
            Seen::Applied(applied) => self.applied(applied, now),
            Seen::Waiting(found) => self.listed(found, now),
            Seen::Read { events, next } => {
                self.reading.succeed();
                self.has_read(events, next);
            }
            Seen::Begun { id, at } => self.pacer.begun(id, at),
            Seen::Posted {
                id,
                posted,
                took,
                is_failing,
                jitter,
            } => self.posted((id, took), posted, is_failing, jitter, now),
            Seen::Rejected { id } => {
                if let Some(sending) = self.under_way.remove(id) {
                    self.finish(sending.event, sending.tried);
                }
            }
            Seen::Put => self.stored(),
            Seen::Dropped => self.dropped(),
            Seen::Failed(order) => self.failed_of_ours(order, now),
            Seen::Looked(_) => debug_assert!(false, "a step does not look"),
        }
    }

    fn wake(&self, now: Now) -> u64 {
        let due = match (self.has_owed(), self.first_due(now)) {
            (true, _) => Some(now.tick),
            (false, due) => due.map(|due| now.tick + due.since(now.wall).as_millis() as u64),
        };
        let may_begin_at = self.pacer.may_begin_at(now.tick);
        let may_begin_at = may_begin_at.map(|at| at.max(self.rests_until));
        let begins = due.and_then(|due| Some(due.max(may_begin_at?)));
        let again = [self.listing, self.reading, self.saving.again].map(|it| it.at());
        let first = again.into_iter().chain([begins]).flatten().min();
        let latest = now.tick + TICK;
        first.map_or(latest, |at| at.min(latest)).max(now.tick + 1)
    }

    fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    fn is_handed_back(&self) -> bool {
        self.is_handed_back
    }

    fn holder(&self) -> Holder {
        let (epoch, turn) = (self.epoch, self.turn);
        Holder::Turn { epoch, turn }
    }
}
