//! Workers: what each does, effect by effect. Between any two it may crash.

use std::collections::VecDeque;
use std::time::Duration;

use delivery::attempt::{self, Admission, Attempt, admit, judge};
use rand::RngExt;
use replay::selection::Selection;
use replay::step::{Do, Seated, Seen, Step};
use shared::clock::Millis;
use shared::integration::Integration;
use shared::lifecycle::{self, Effect, Input, Rules, Verdict};
use shared::store::chunks::{Chunk, ChunkEvent};
use shared::store::parked_events::Parked;
use shared::tasks::{Dispatch, EventRef, Origin};
use shared::webhook::Outcome;
use ulid::Ulid;

use crate::history::{MINUTE, SEAL};
use crate::mutant::Mutant;
use crate::world::{Body, Happening, Owner, World};

/// A worker under way.
#[derive(Clone, Debug)]
pub struct Process {
    role: Role,
    ops: VecDeque<Op>,
    message: Option<u64>,
    skew: i64,
    /// When its time limit ends it.
    dies_at: u64,
}

#[derive(Clone, Debug)]
enum Role {
    Api,
    Ingest,
    Deliver,
    Replay(Owner, Box<Step>, Option<Box<Seen>>),
}

/// A conditional write under way.
#[derive(Clone, Debug)]
pub struct Write {
    who: usize,
    integration: Integration,
    read_version: u64,
    chunk: Option<Chunk>,
    input: Input,
    decided_at: Millis,
}

/// What a worker does next: one request.
#[derive(Clone, Debug)]
pub enum Op {
    /// Register an integration.
    Register(usize, u64, Option<u64>),
    /// Find an integration, and apply an input to it.
    Call(usize, Input),
    /// Read an integration and decide.
    Apply(Owner, Input, Option<Chunk>),
    /// Write what was decided.
    Write(Owner, Box<Write>, Vec<Effect>),
    /// Learn what became of it.
    Applied(Owner, Box<Seated>, Input, Vec<Effect>),
    /// Append events to the event log.
    Append(Vec<u32>, u32),
    /// Learn whether the append was confirmed in time.
    Confirm(Vec<u32>, Ulid, u32),
    /// Read the integrations, and send what is live.
    Route(Vec<u32>, Ulid),
    /// The events are taken in.
    Ingested(Vec<u32>, Ulid),
    /// Read the integration, and attempt or not.
    Admit(Owner, Dispatch, Option<Box<Integration>>),
    /// Judge what came of the attempt.
    Judge(Box<Integration>, Dispatch, Outcome),
    /// Carry out an effect of delivery.
    Effect(Owner, Dispatch, attempt::Effect),
    /// Send a message.
    Send(Body, u64),
    /// Keep a parked event.
    Park(Owner, Parked),
    /// Forget a parked event.
    Unpark(Owner, EventRef, Ulid),
}

impl Process {
    pub fn of(
        body: Body,
        message: Option<u64>,
        skew: i64,
        dies_at: u64,
        local: Millis,
        holder: Ulid,
        rules: Rules,
    ) -> Process {
        let (role, ops) = match body {
            Body::Events(ids) => (Role::Ingest, vec![Op::Append(ids, 5)]),
            Body::Dispatch(owner, dispatch) => {
                (Role::Deliver, vec![Op::Admit(owner, dispatch, None)])
            }
            Body::Step(owner, turn) => {
                let over = local.after(Duration::from_secs(120));
                let step = Step::new(turn, holder, local, over, rules);
                let seen = Some(Box::new(Seen::Nothing));
                (Role::Replay(owner, Box::new(step), seen), Vec::new())
            }
        };
        Process {
            role,
            ops: ops.into(),
            message,
            skew,
            dies_at,
        }
    }

    pub fn api(op: Op, skew: i64, dies_at: u64) -> Process {
        Process {
            role: Role::Api,
            ops: VecDeque::from([op]),
            message: None,
            skew,
            dies_at,
        }
    }
}

impl World {
    /// Lets a worker do its next request.
    pub fn go(&mut self, id: u64) {
        let Some(mut process) = self.processes.remove(&id) else {
            return;
        };
        let crashes = self.history.crashes;
        if self.now >= process.dies_at || self.unlucky(crashes) {
            self.report.crashes += 1;
            self.trace(id, &"crashes");
            return self.crash(process);
        }
        let local = Millis(self.now.saturating_add_signed(process.skew));
        if process.ops.is_empty()
            && let Role::Replay(owner, step, seen) = &mut process.role
        {
            let fresh = self.ulid(local);
            let seen = seen.take().map_or(Seen::Done, |seen| *seen);
            match step.next(self.bend(seen, local), local, fresh) {
                Do::End => {}
                next => {
                    let owner = *owner;
                    self.carry_out(&mut process, owner, next, local);
                    // Each thing that a step wants takes a request, though some have none of their own here.
                    let at = self.now + self.latency();
                    self.processes.insert(id, process);
                    return self.at(at, Happening::Go(id));
                }
            }
        }
        let Some(op) = process.ops.pop_front() else {
            if let Some(message) = process.message {
                self.messages.remove(&message);
            }
            return;
        };
        self.report.effects += 1;
        self.trace(id, &op);
        let took = self.perform(&mut process, op, local);
        let at = self.now + took.unwrap_or_else(|| self.latency());
        self.processes.insert(id, process);
        self.at(at, Happening::Go(id));
    }

    /// A worker is gone. What it had sent last may still take effect, within a seal.
    fn crash(&mut self, mut process: Process) {
        if let Some(Op::Write(_, write, _)) = process.ops.pop_front()
            && self.random.random_bool(0.5)
        {
            let at = self.now + self.random.random_range(0..SEAL);
            self.at(at, Happening::Late(write));
        }
    }

    /// What a step is told, with a bug put in or not.
    fn bend(&self, mut seen: Seen, local: Millis) -> Seen {
        if let Seen::Applied(Some(seated)) = &mut seen {
            if self.mutant == Some(Mutant::UnconfirmedEnds) {
                seated.decided_at = local;
            }
            if self.mutant == Some(Mutant::ProbesParkedOnly)
                && let Some(stream) = seated.integration.stream_mut()
                && let Some(it) = &mut stream.health.interruption
            {
                it.probes &= !1;
            }
        }
        seen
    }

    fn carry_out(&mut self, process: &mut Process, owner: Owner, what: Do, local: Millis) {
        let (_, generation) = owner;
        let mut told = Seen::Done;
        match what {
            Do::Apply(input, chunk) => process.ops.push_back(Op::Apply(owner, input, chunk)),
            Do::CountOutstanding => {
                let ours = (generation, Ulid(0))..=(generation, Ulid(u128::MAX));
                let chunks = self.chunks.range(ours);
                told = Seen::Outstanding(chunks.map(|(_, chunk)| chunk.outstanding.len()).sum());
            }
            Do::ListParked { after, limit } => {
                let ours = self.parked.iter().filter(|((owner, event), _)| {
                    *owner == generation && after.is_none_or(|after| *event > after)
                });
                told = Seen::Parked(ours.take(limit).map(|(_, parked)| *parked).collect());
            }
            Do::Read {
                start,
                from,
                until,
                limit,
            } => {
                let until = match self.mutant {
                    Some(Mutant::UnsealedRead) => local.place(),
                    _ => until,
                };
                let first = Selection::reads_from(start, from).place();
                let mut selection = Selection::new(from);
                let mut events = Vec::new();
                let passes = |name: &str| {
                    let integration = self.integrations[owner.0].as_ref();
                    integration.is_some_and(|integration| integration.passes(name))
                };
                for (place, ids) in self.log.range(first..until.max(first)) {
                    let texts: Vec<String> = ids.iter().map(u32::to_string).collect();
                    let named = texts.iter().zip(ids);
                    let named = named.map(|(text, id)| (text.as_str(), World::name(*id)));
                    let room = limit - events.len();
                    let taken = selection.take(*place, named, passes, room);
                    events.extend(taken.indices.into_iter().map(|index| EventRef {
                        segment: *place,
                        index,
                        shard: 0,
                    }));
                    if events.len() >= limit {
                        break;
                    }
                }
                if events.len() < limit {
                    selection.end(until);
                }
                let next = selection.next();
                told = Seen::Read { events, next };
            }
            Do::Send(chunk) => self.send_chunk(process, owner, &chunk),
            Do::SendAgain(id) => {
                if let Some(chunk) = self.chunks.get(&(generation, id)).cloned() {
                    self.send_chunk(process, owner, &chunk);
                }
            }
            Do::Probe { parked, since } => {
                let token = parked.token;
                let origin = Origin::Probe { since, token };
                let dispatch = self.dispatch(&ChunkEvent::from(parked), origin);
                process
                    .ops
                    .push_back(Op::Send(Body::Dispatch(owner, dispatch), 0));
            }
            Do::Park(parked) => process.ops.push_back(Op::Park(owner, parked)),
            Do::Unpark(page) => {
                for parked in page {
                    process
                        .ops
                        .push_back(Op::Unpark(owner, parked.event, parked.token));
                }
            }
            Do::End => {}
        }
        if let Role::Replay(_, _, seen) = &mut process.role {
            *seen = Some(Box::new(told));
        }
    }

    fn send_chunk(&mut self, process: &mut Process, owner: Owner, chunk: &Chunk) {
        for index in &chunk.outstanding {
            let origin = Origin::Chunk {
                chunk: chunk.id,
                index: *index,
            };
            let dispatch = self.dispatch(&chunk.events[*index as usize], origin);
            process
                .ops
                .push_back(Op::Send(Body::Dispatch(owner, dispatch), 0));
        }
    }

    fn dispatch(&self, event: &ChunkEvent, origin: Origin) -> Dispatch {
        let id = self.log[&event.event.segment][event.event.index as usize];
        Dispatch {
            event: event.event,
            event_id: id.to_string(),
            name: World::name(id).to_owned(),
            attempt: event.attempt,
            failing_since: event.failing_since,
            origin,
        }
    }

    /// Does one request; how long it takes, where that is not like any other.
    fn perform(&mut self, process: &mut Process, op: Op, local: Millis) -> Option<u64> {
        match op {
            Op::Register(who, ago, length) => self.register(who, ago, length, local),
            Op::Call(who, input) => {
                let generation = self.integrations[who].as_ref()?.generation;
                process
                    .ops
                    .push_front(Op::Apply((who, generation), input, None));
            }
            Op::Apply(owner, input, chunk) => self.decide(process, owner, input, chunk, local),
            Op::Write(owner, write, effects) => {
                let (input, chunk) = (write.input.clone(), write.chunk.clone());
                let seated = Seated {
                    integration: write.integration.clone(),
                    verdict: Verdict::Write,
                    decided_at: write.decided_at,
                };
                let unreported = self.history.unreported;
                let next = match self.write(*write) && !self.unlucky(unreported) {
                    true => Op::Applied(owner, Box::new(seated), input, effects),
                    false => Op::Apply(owner, input, chunk),
                };
                process.ops.push_front(next);
            }
            Op::Applied(owner, seated, input, effects) => {
                if let Input::Stop { .. } = input {
                    self.ledger.answer_stop(&self.integrations, owner);
                }
                for effect in effects.into_iter().rev() {
                    if let Effect::SendStep { turn, delay } = effect
                        && delay <= Duration::from_secs(900)
                    {
                        let delay = delay.as_millis() as u64;
                        process
                            .ops
                            .push_front(Op::Send(Body::Step(owner, turn), delay));
                    }
                }
                if let Role::Replay(_, _, seen) = &mut process.role {
                    *seen = Some(Box::new(Seen::Applied(Some(seated))));
                }
            }
            Op::Append(ids, left) => return Some(self.append(process, ids, left, local)),
            Op::Confirm(ids, place, left) => {
                let deadline = Millis(place.timestamp_ms() + SEAL / 2);
                if local < deadline {
                    process.ops.push_back(Op::Route(ids, place));
                } else if left > 0 {
                    process.ops.push_back(Op::Append(ids, left - 1));
                } else {
                    // Handed back to the queue.
                    process.message = None;
                }
            }
            Op::Route(ids, place) => {
                let published_at = Millis(place.timestamp_ms());
                if self.mutant == Some(Mutant::AcknowledgedFirst)
                    && let Some(message) = process.message.take()
                {
                    self.messages.remove(&message);
                    self.ledger.ingest(&ids, place);
                }
                for (who, integration) in self.integrations.iter().enumerate() {
                    let Some(integration) = integration else {
                        continue;
                    };
                    for (index, id) in (0..).zip(&ids) {
                        let name = World::name(*id);
                        if !integration.takes_live(published_at, name) {
                            continue;
                        }
                        let dispatch = Dispatch {
                            event: EventRef {
                                segment: place,
                                index,
                                shard: 0,
                            },
                            event_id: id.to_string(),
                            name: name.to_owned(),
                            attempt: 1,
                            failing_since: None,
                            origin: Origin::Live,
                        };
                        let owner = (who, integration.generation);
                        process
                            .ops
                            .push_back(Op::Send(Body::Dispatch(owner, dispatch), 0));
                    }
                }
                process.ops.push_back(Op::Ingested(ids, place));
            }
            Op::Ingested(ids, place) => self.ledger.ingest(&ids, place),
            Op::Admit(owner, dispatch, read) => {
                return self.attempt(process, owner, dispatch, read, local);
            }
            Op::Judge(integration, dispatch, outcome) => {
                let attempt = Attempt {
                    integration: &integration,
                    dispatch: &dispatch,
                    url: "",
                    body: "",
                    now: local,
                    rules: &self.rules.clone(),
                    jitter: self.random.random(),
                    token: self.ulid(local),
                };
                let who = integration.id.parse().unwrap_or(0);
                let owner = (who, integration.generation);
                for effect in judge(&attempt, &outcome) {
                    process
                        .ops
                        .push_back(Op::Effect(owner, dispatch.clone(), effect));
                }
            }
            Op::Effect(owner, dispatch, effect) => {
                self.effect(process, owner, &dispatch, effect, local);
            }
            Op::Send(body, delay) => self.send(body, delay),
            Op::Park(owner, parked) => {
                self.parked.insert((owner.1, parked.event), parked);
            }
            Op::Unpark(owner, event, token) => {
                let key = (owner.1, event);
                let ignores = self.mutant == Some(Mutant::TokensIgnored);
                let stored = self.parked.get(&key);
                if stored.is_some_and(|parked| ignores || parked.token == token) {
                    self.parked.remove(&key);
                }
            }
        }
        None
    }

    /// Reads an integration and applies an input to what was read.
    fn decide(
        &mut self,
        process: &mut Process,
        owner: Owner,
        mut input: Input,
        chunk: Option<Chunk>,
        local: Millis,
    ) {
        let (who, generation) = owner;
        let read = self.integrations[who].clone();
        let read = read.filter(|integration| integration.generation == generation);
        let Some(mut integration) = read else {
            if let Role::Replay(_, _, seen) = &mut process.role {
                *seen = Some(Box::new(Seen::Applied(None)));
            }
            return;
        };
        if self.mutant == Some(Mutant::TurnsIgnored)
            && let (Input::Step { turn, .. }, Some(stream)) = (&mut input, integration.stream_mut())
        {
            *turn = stream.duty.turn;
            stream.duty.busy = None;
        }
        let (before, read_version) = (integration.clone(), integration.version);
        let change = lifecycle::apply(&mut integration, &input, local, &self.rules);
        process.ops.push_front(match change.verdict {
            Verdict::Write => {
                integration.version += 1;
                let write = Write {
                    who,
                    integration,
                    read_version,
                    chunk,
                    input,
                    decided_at: local,
                };
                Op::Write(owner, Box::new(write), change.effects)
            }
            verdict => {
                let seated = Seated {
                    integration: before,
                    verdict,
                    decided_at: local,
                };
                Op::Applied(owner, Box::new(seated), input, Vec::new())
            }
        });
    }

    /// Writes on condition that nobody else wrote in between; whether it did.
    pub fn write(&mut self, write: Write) -> bool {
        let Write {
            who,
            mut integration,
            read_version,
            chunk,
            decided_at,
            ..
        } = write;
        let is_as_read = self.integrations[who].as_ref().is_some_and(|stored| {
            stored.generation == integration.generation && stored.version == read_version
        });
        if !is_as_read {
            return false;
        }
        if let Some(stream) = integration.stream_mut() {
            match self.mutant {
                Some(Mutant::GapsForgotten) => stream.gaps.retain(|gap| gap.until.is_none()),
                Some(Mutant::UnsentForgotten) => stream.unsent = None,
                Some(Mutant::NudgesIgnored) => stream.duty.nudged = false,
                _ => {}
            }
            if let Some(wake_at) = stream.duty.wake_at {
                self.look_after(wake_at);
            }
        }
        if let Some(chunk) = chunk {
            self.chunks
                .insert((integration.generation, chunk.id), chunk);
        }
        let is_good = self.now > self.history.end + MINUTE;
        self.ledger.note_status(&integration, decided_at, is_good);
        self.integrations[who] = Some(integration);
        true
    }

    /// Appends events; how long the request takes.
    fn append(&mut self, process: &mut Process, ids: Vec<u32>, left: u32, local: Millis) -> u64 {
        let place = self.ulid(local);
        let took = self.latency();
        let (slowness, unreported) = (self.history.slowness, self.history.unreported);
        process.ops.push_back(Op::Confirm(ids.clone(), place, left));
        if self.unlucky(unreported) || self.unlucky(slowness) {
            // Nobody hears of it before it is given up; it may take effect within a seal of that, or never.
            if self.random.random_bool(0.5) {
                let late = self.random.random_range(0..SEAL * 3 / 2 - SEAL / 8);
                self.at(self.now + late, Happening::Appears(place, ids));
            }
            return SEAL / 2;
        }
        if took < SEAL / 2 {
            self.log.insert(place, ids);
            return took;
        }
        self.at(self.now + took, Happening::Appears(place, ids));
        SEAL / 2
    }

    /// Reads the integration right before the attempt, and attempts.
    fn attempt(
        &mut self,
        process: &mut Process,
        owner: Owner,
        dispatch: Dispatch,
        read: Option<Box<Integration>>,
        local: Millis,
    ) -> Option<u64> {
        let stored = self.integrations[owner.0].clone();
        let stored = stored.filter(|integration| integration.generation == owner.1)?;
        if self.mutant == Some(Mutant::StaleStatus) && read.is_none() {
            process
                .ops
                .push_back(Op::Admit(owner, dispatch, Some(Box::new(stored))));
            return Some(200);
        }
        let integration = read.map_or(stored, |read| *read);
        let token = self.ulid(local);
        let mut effects = match admit(&integration, &dispatch, token) {
            Admission::Instead(effects) => effects,
            Admission::Post => {
                let event: u32 = dispatch.event_id.parse().unwrap_or(0);
                let flip = self.random.random_bool(0.5);
                let (outcome, took) = self.history.receivers[owner.0].answer(self.now, event, flip);
                self.report.attempts += 1;
                self.ledger
                    .attempt(owner.1, event, dispatch.event.segment, &outcome);
                let took = took + self.latency();
                process
                    .ops
                    .push_back(Op::Judge(Box::new(integration), dispatch, outcome));
                return Some(took);
            }
        };
        if self.mutant == Some(Mutant::ParkedUnheard) {
            effects.retain(|effect| *effect != attempt::Effect::Apply(Input::Parked));
        }
        for effect in effects {
            process
                .ops
                .push_back(Op::Effect(owner, dispatch.clone(), effect));
        }
        None
    }

    fn effect(
        &mut self,
        process: &mut Process,
        owner: Owner,
        dispatch: &Dispatch,
        effect: attempt::Effect,
        local: Millis,
    ) {
        match effect {
            attempt::Effect::Park(parked) => {
                self.parked.insert((owner.1, parked.event), parked);
            }
            attempt::Effect::Unpark { event, token } => {
                self.perform(process, Op::Unpark(owner, event, token), local);
            }
            attempt::Effect::Settle { chunk, index } => {
                let key = (owner.1, chunk);
                let is_done = self.chunks.get_mut(&key).is_none_or(|chunk| {
                    chunk.outstanding.remove(&index);
                    chunk.outstanding.is_empty()
                });
                if is_done {
                    self.chunks.remove(&key);
                    process
                        .ops
                        .push_front(Op::Apply(owner, Input::ChunkDone, None));
                }
            }
            attempt::Effect::Retry { dispatch, delay } => {
                let delay = delay.as_secs_f64().ceil() as u64 * 1_000;
                self.send(Body::Dispatch(owner, dispatch), delay);
            }
            attempt::Effect::Reject { .. } => {
                let event = dispatch.event_id.parse().unwrap_or(0);
                self.ledger.reject(owner.1, event);
            }
            attempt::Effect::Apply(input) => process.ops.push_front(Op::Apply(owner, input, None)),
        }
    }
}
