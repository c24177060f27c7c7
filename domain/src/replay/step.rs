//! A step of replay, as a machine without I/O: it gets what was seen, and returns what to do next. The handler and the
//! simulation carry it out.
//!
//! A step begins its turn, opens the stream, sends what a step before it may not have sent, then what is parked, then what is
//! owed and sealed, in chunks, and leaves. Of an interrupted stream it sends one probe instead.

use ulid::Ulid;

use crate::integration::IntegrationType;
use crate::lifecycle::{Applied, Input, Rest, Rules, StepInput, Verdict};
use crate::log::position::{EventRef, Position};
use crate::stream::Stream;
use crate::stream::chunk::{Chunk, ChunkEvent, MAX_EVENTS, Parked};
use crate::time::Millis;

/// The most events of an integration that are outstanding: what a receiver that is slow holds up.
pub const MAX_OUTSTANDING: usize = 1_000;

/// What a step wants to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Do {
    /// Apply this to the integration, with this chunk; then [`Seen::Applied`]. What else comes of the input is to be carried
    /// out, too.
    Apply(Input, Option<Chunk>),
    /// Count what is outstanding; then [`Seen::Outstanding`].
    CountOutstanding,
    /// List parked events; then [`Seen::Parked`].
    ListParked {
        /// Only those behind this one.
        after: Option<EventRef>,
        /// How many at the most.
        limit: usize,
    },
    /// Read what is owed, without repeats, as far as it passes the filter; then [`Seen::Read`].
    Read {
        /// Where the range began, before which nothing counts as repeated.
        start: Millis,
        /// The first event.
        from: Position,
        /// The first id not to read.
        until: Ulid,
        /// How many events at the most.
        limit: usize,
        /// When to come back with what was found, having moved on by a segment at least: a range may have more that does not
        /// pass the filter than a step has time to read.
        deadline: Millis,
    },
    /// Send tasks for what is outstanding of a chunk that was just written; then [`Seen::Done`].
    Send(Chunk),
    /// As [`Do::Send`], for a chunk that an earlier step has written.
    SendAgain(Ulid),
    /// Send a probe with a parked event; then [`Seen::Done`].
    Probe {
        /// The event.
        parked: Parked,
        /// When the interruption began.
        since: Millis,
    },
    /// Park an event; then [`Seen::Done`].
    Park(Parked),
    /// Forget parked events, unless they were parked again; then [`Seen::Done`].
    Unpark(Vec<Parked>),
    /// Nothing: the step is over.
    End,
}

/// What a step has seen.
#[derive(Clone, Debug)]
pub enum Seen {
    /// It begins.
    Nothing,
    /// The integration as it is now, and what became of the input; none when it is gone.
    Applied(Option<Box<Applied>>),
    /// How many events are outstanding.
    Outstanding(usize),
    /// Parked events.
    Parked(Vec<Parked>),
    /// What was read.
    Read {
        /// The events to send.
        events: Vec<EventRef>,
        /// The position behind what was read.
        next: Position,
    },
    /// It is done.
    Done,
}

/// A step under way.
#[derive(Clone, Debug)]
pub struct Step {
    /// The end of what this step reads: what was sealed when it began. It stays, so that what there is to read only shrinks.
    pub horizon: Millis,
    turn: u64,
    holder: Ulid,
    deadline: Millis,
    over: Millis,
    rules: Rules,
    state: State,
    confirmed: bool,
    /// The chunk that was sent last.
    sent: Option<Ulid>,
    outstanding: usize,
    stream: Option<Stream>,
}

/// What the step waits for.
#[derive(Clone, Debug)]
enum State {
    Beginning,
    Opening,
    Counting,
    SendingAgain(Ulid),
    ListingParked,
    TakingParked(Chunk, Vec<Parked>),
    SendingParked(Ulid, Vec<Parked>),
    Unparking,
    Reading,
    Moving,
    Taking(Chunk),
    Sending(Ulid),
    ProbeWith(ProbeSource),
    ProbeMoving(bool),
    ProbeParking(Parked, Position),
    Probing(Parked),
    Probed,
    NothingToProbe,
    Leaving,
}

/// Where a probe's event is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProbeSource {
    /// Behind the one that was probed with last; `true` when what is owed has been looked at.
    Behind(bool),
    /// From the first parked one on.
    First(bool),
    /// In what is owed; `true` when the parked ones have been looked at.
    Owed(bool),
}

impl Step {
    /// The step of the task of `turn`, which begins at `now` and has to leave before `over`. `holder` is a new ULID.
    pub fn new(turn: u64, holder: Ulid, now: Millis, over: Millis, rules: Rules) -> Step {
        Step {
            horizon: rules.horizon(now),
            turn,
            holder,
            // Half of the time is for the chunk that is under way.
            deadline: now.after(over.since(now) / 2),
            over,
            rules,
            state: State::Beginning,
            confirmed: false,
            sent: None,
            outstanding: 0,
            stream: None,
        }
    }

    /// Leaves because something of ours failed, unless the step has not begun or is leaving already. What it was at is done
    /// again by the next one.
    pub fn fail(&mut self) -> Option<Do> {
        let is_under_way = !matches!(self.state, State::Beginning | State::Leaving);
        is_under_way.then(|| self.leave(Rest::Failed))
    }

    /// The next thing to do. `id` is a new ULID.
    pub fn next(&mut self, seen: Seen, now: Millis, id: Ulid) -> Do {
        match seen {
            Seen::Nothing => {
                let begin = StepInput::Begin {
                    holder: self.holder,
                    until: self.over,
                };
                self.apply(begin, State::Beginning, None)
            }
            Seen::Applied(applied) => self.applied(applied, now),
            Seen::Outstanding(count) => {
                self.outstanding = count;
                match self.stream().and_then(|stream| stream.unsent) {
                    Some(chunk) => {
                        self.state = State::SendingAgain(chunk);
                        Do::SendAgain(chunk)
                    }
                    None => self.parked(now),
                }
            }
            Seen::Parked(found) => self.found_parked(found, now, id),
            Seen::Read { events, next } => self.found_owed(events, next, id),
            Seen::Done => self.done(now),
        }
    }

    fn apply(&mut self, step: StepInput, state: State, chunk: Option<Chunk>) -> Do {
        self.state = state;
        let turn = self.turn;
        Do::Apply(Input::Step { turn, step }, chunk)
    }

    fn stream(&self) -> Option<&Stream> {
        self.stream.as_ref()
    }

    fn applied(&mut self, applied: Option<Box<Applied>>, now: Millis) -> Do {
        let Some(applied) = applied else {
            return Do::End;
        };
        let Applied {
            integration,
            verdict,
            decided_at,
        } = *applied;
        let Some(stream) = integration.stream().cloned() else {
            return Do::End;
        };
        let (running, turn) = (integration.is_running(), stream.schedule.turn);
        let is_permanent = integration.integration_type == IntegrationType::Permanent;
        self.stream = Some(stream);
        let state = std::mem::replace(&mut self.state, State::Leaving);
        match (state, verdict) {
            (State::Leaving, _) => Do::End,
            (State::Beginning, Verdict::Refuse) => Do::End,
            (State::Beginning, _) => {
                self.turn = turn;
                self.begin(running, is_permanent, now)
            }
            (State::Probing(parked), Verdict::Write | Verdict::Keep) => {
                self.state = State::Probed;
                let since = self
                    .stream()
                    .and_then(|stream| stream.health.interruption)
                    .map(|it| it.since);
                match since {
                    Some(since) => Do::Probe { parked, since },
                    None => Do::End,
                }
            }
            // Its turn may be over, or nothing may be sent any more: leaving shows which.
            (_, Verdict::Refuse) => self.leave(Rest::More),
            (State::ProbeMoving(seen), _) => self.probe_owed(seen, now),
            (State::NothingToProbe, _) => self.begin(running, is_permanent, now),
            (State::Opening, Verdict::Keep) => self.count(),
            (State::Opening, Verdict::Write) => {
                if now < decided_at.after(self.rules.seal / 2) {
                    self.confirmed = true;
                    self.count()
                } else if now < self.deadline {
                    self.apply(StepInput::Open, State::Opening, None)
                } else {
                    self.leave(Rest::More)
                }
            }
            (State::TakingParked(chunk, page), _) => {
                self.outstanding += chunk.events.len();
                self.state = State::SendingParked(chunk.id, page);
                Do::Send(chunk)
            }
            (State::Taking(chunk), _) => {
                self.outstanding += chunk.events.len();
                self.state = State::Sending(chunk.id);
                Do::Send(chunk)
            }
            _ => self.owed(now),
        }
    }

    fn begin(&mut self, running: bool, is_permanent: bool, now: Millis) -> Do {
        let Some(stream) = self.stream().filter(|_| running) else {
            return self.leave(Rest::Nothing);
        };
        if let Some(it) = stream.health.interruption {
            if now < it.next_probe_at {
                return self.leave(Rest::More);
            }
            // In turn: a parked event, and the next one that is owed. Either kind alone might be of those that the receiver
            // never takes.
            return match it.probes % 2 {
                0 => self.probe_parked(ProbeSource::Behind(false)),
                _ => self.probe_owed(false, now),
            };
        }
        match is_permanent {
            true => self.apply(StepInput::Open, State::Opening, None),
            false => self.count(),
        }
    }

    /// What is outstanding is counted before what is parked is listed: an event that goes from the one to the other in
    /// between is seen twice, not overlooked.
    fn count(&mut self) -> Do {
        self.state = State::Counting;
        Do::CountOutstanding
    }

    fn room(&self) -> usize {
        MAX_OUTSTANDING.saturating_sub(self.outstanding)
    }

    fn parked(&mut self, now: Millis) -> Do {
        if now >= self.deadline {
            return self.leave(Rest::More);
        }
        let limit = self.room().min(MAX_EVENTS);
        if limit == 0 {
            return self.leave(Rest::Outstanding);
        }
        self.state = State::ListingParked;
        Do::ListParked { after: None, limit }
    }

    fn owed(&mut self, now: Millis) -> Do {
        if now >= self.deadline {
            return self.leave(Rest::More);
        }
        let Some(range) = self
            .stream()
            .and_then(|stream| stream.readable(self.horizon))
        else {
            return self.leave(match self.outstanding {
                0 => Rest::Nothing,
                _ => Rest::Unsettled,
            });
        };
        let limit = self.room().min(MAX_EVENTS);
        if limit == 0 {
            return self.leave(Rest::Outstanding);
        }
        self.state = State::Reading;
        Do::Read {
            start: range.start,
            from: range.from,
            until: range.until,
            limit,
            deadline: self.deadline,
        }
    }

    fn found_parked(&mut self, found: Vec<Parked>, now: Millis, id: Ulid) -> Do {
        if let State::ProbeWith(source) = self.state {
            return match (found.first(), source) {
                (Some(parked), _) => self.probe(*parked, None),
                (None, ProbeSource::Behind(seen)) => self.probe_parked(ProbeSource::First(seen)),
                (None, ProbeSource::First(false)) => self.probe_owed(true, now),
                (None, _) => self.nothing_to_probe(),
            };
        }
        if found.is_empty() {
            return self.owed(now);
        }
        let floor = self
            .stream()
            .map_or(Ulid(0), |stream| stream.floor.first_id());
        let events: Vec<ChunkEvent> = found
            .iter()
            // From before a restart after more than 30 days: not to be sent any more.
            .filter(|parked| parked.event.segment >= floor)
            .map(|parked| ChunkEvent::from(*parked))
            .collect();
        if events.is_empty() {
            self.state = State::Unparking;
            return Do::Unpark(found);
        }
        let chunk = Chunk::new(id, events);
        let take = StepInput::Take {
            chunk: Some(id),
            to: None,
            confirmed: self.confirmed,
        };
        self.apply(take, State::TakingParked(chunk.clone(), found), Some(chunk))
    }

    fn found_owed(&mut self, events: Vec<EventRef>, next: Position, id: Ulid) -> Do {
        if let State::ProbeWith(ProbeSource::Owed(seen)) = self.state {
            let Some(event) = events.first() else {
                // What the next ranges hold is looked for behind it.
                let take = StepInput::Take {
                    chunk: None,
                    to: Some(next),
                    confirmed: false,
                };
                return self.apply(take, State::ProbeMoving(seen), None);
            };
            let parked = Parked {
                event: *event,
                token: id,
                attempt: 1,
                failing_since: None,
            };
            self.state = State::ProbeParking(parked, next);
            return Do::Park(parked);
        }
        let chunk = (!events.is_empty()).then(|| {
            let event = |event| ChunkEvent {
                event,
                attempt: 1,
                failing_since: None,
            };
            Chunk::new(id, events.into_iter().map(event).collect())
        });
        let take = StepInput::Take {
            chunk: chunk.as_ref().map(|chunk| chunk.id),
            to: Some(next),
            confirmed: self.confirmed,
        };
        match chunk {
            Some(chunk) => self.apply(take, State::Taking(chunk.clone()), Some(chunk)),
            None => self.apply(take, State::Moving, None),
        }
    }

    fn done(&mut self, now: Millis) -> Do {
        let state = std::mem::replace(&mut self.state, State::Leaving);
        match state {
            State::SendingAgain(chunk) => {
                self.sent = Some(chunk);
                self.parked(now)
            }
            State::SendingParked(chunk, page) => {
                self.sent = Some(chunk);
                self.state = State::Unparking;
                Do::Unpark(page)
            }
            State::Unparking => self.parked(now),
            State::ProbeParking(parked, next) => self.probe(parked, Some(next)),
            // Whoever sends a probe has left with it.
            State::Probed => Do::End,
            State::Sending(chunk) => {
                self.sent = Some(chunk);
                self.owed(now)
            }
            _ => self.owed(now),
        }
    }

    fn probe_parked(&mut self, source: ProbeSource) -> Do {
        let after = match source {
            ProbeSource::Behind(_) => self
                .stream()
                .and_then(|stream| stream.health.interruption)
                .and_then(|it| it.cursor),
            _ => None,
        };
        self.state = State::ProbeWith(match (source, after) {
            // Nothing was probed with: this is from the first one on.
            (ProbeSource::Behind(seen), None) => ProbeSource::First(seen),
            _ => source,
        });
        Do::ListParked { after, limit: 1 }
    }

    fn probe_owed(&mut self, seen: bool, now: Millis) -> Do {
        if now >= self.deadline {
            return self.leave(Rest::More);
        }
        let range = self
            .stream()
            .and_then(|stream| stream.readable(self.horizon));
        match range {
            Some(range) => {
                self.state = State::ProbeWith(ProbeSource::Owed(seen));
                Do::Read {
                    start: range.start,
                    from: range.from,
                    until: range.until,
                    limit: 1,
                    deadline: self.deadline,
                }
            }
            None if seen => self.nothing_to_probe(),
            None => self.probe_parked(ProbeSource::Behind(true)),
        }
    }

    fn probe(&mut self, parked: Parked, to: Option<Position>) -> Do {
        let probe = StepInput::Probe {
            event: parked.event,
            to,
        };
        self.apply(probe, State::Probing(parked), None)
    }

    fn nothing_to_probe(&mut self) -> Do {
        self.apply(StepInput::NothingToProbe, State::NothingToProbe, None)
    }

    fn leave(&mut self, rest: Rest) -> Do {
        let leave = StepInput::Leave {
            confirmed: self.confirmed,
            sent: self.sent,
            rest,
        };
        self.apply(leave, State::Leaving, None)
    }
}
