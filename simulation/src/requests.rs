//! The requests of workers, one by one: what each does to the simulated cloud.

use std::sync::OnceLock;

use domain::integration::{Integration, Target};
use domain::lifecycle::{self, Applied, Change, Input, StepInput, StepRequest, Verdict};
use domain::log::position::Position;
use domain::sending::{Now, Order, Seen};
use domain::stream::waiting::StoredWaiting;
use domain::tasks::{LONGEST_DELAY, MAX_RUN_BYTES, Run, RunEvent};
use domain::time::Millis;
use rand::RngExt;
use serde_json::value::RawValue;
use ulid::Ulid;

use crate::Broken;
use crate::history::{MINUTE, SEAL, STOP_ANSWERED, name};
use crate::mutant::Mutant;
use crate::work::{Body, Happening, IntegrationRef, Op, Process, Role, Write};
use crate::world::World;

static BODY: OnceLock<String> = OnceLock::new();

fn body() -> String {
    format!("\"{}\"", "x".repeat(MAX_RUN_BYTES / 3 - 100))
}

impl World {
    /// Does one request of a worker that does one after another; how long it takes, where that is not like any other.
    pub fn perform(&mut self, process: &mut Process, op: Op, local: Millis) -> Option<u64> {
        match op {
            Op::Register(who, ago, length) => self.register(who, ago, length, local),
            Op::Call(who, input) => {
                let generation = self.integrations[who].as_ref()?.generation;
                process.ops.push_front(Op::Apply((who, generation), input));
            }
            Op::Apply(integration_ref, input) => {
                if let Some(op) = self.decide(integration_ref, input, local) {
                    process.ops.push_front(op);
                }
            }
            Op::Write(integration_ref, write, change) => {
                let op = self.try_to_write(integration_ref, write, &change);
                process.ops.push_front(op);
            }
            Op::Applied(integration_ref, _, input, step) => {
                if let Input::Stop { .. } = input {
                    self.answer_stop(integration_ref);
                }
                if let Some(op) = step_of(integration_ref, step) {
                    process.ops.push_front(op);
                }
            }
            Op::Append(ids, left) => return Some(self.append(process, ids, left, local)),
            Op::Confirm(ids, segment, left) => {
                let deadline = Millis(segment.timestamp_ms() + SEAL / 2);
                if local < deadline {
                    process.ops.push_back(Op::Route(ids, segment));
                } else if left > 0 {
                    process.ops.push_back(Op::Append(ids, left - 1));
                } else {
                    // Handed back to the queue.
                    process.message = None;
                }
            }
            Op::Route(ids, segment) => self.route(process, ids, segment),
            Op::Ingested(ids, segment) => self.ledger.ingest(&ids, segment),
            Op::Send(body, delay) => self.send(body, delay),
            _ => {}
        }
        None
    }

    fn answer_stop(&mut self, integration_ref: IntegrationRef) {
        let pause = match self.mutant {
            Some(Mutant::StopAnsweredAtOnce) => 0,
            _ => STOP_ANSWERED,
        };
        self.at(self.now + pause, Happening::StopAnswered(integration_ref));
    }

    /// Sends what is live of a segment, in runs.
    fn route(&mut self, process: &mut Process, ids: Vec<u32>, segment: Ulid) {
        let published_at = Millis(segment.timestamp_ms());
        if self.mutant == Some(Mutant::AcknowledgedFirst)
            && let Some(message) = process.message.take()
        {
            self.messages.remove(&message);
            self.ledger.ingest(&ids, segment);
        }
        for (who, integration) in self.integrations.iter().enumerate() {
            let Some(integration) = integration else {
                continue;
            };
            let is_live = |id: u32| {
                let is_left_out =
                    self.mutant == Some(Mutant::FilteredAfterStop) && !integration.passes(name(id));
                !is_left_out && integration.takes_live(published_at, name(id))
            };
            let events = (0..).zip(&ids).filter(|(_, id)| is_live(**id));
            let events: Vec<RunEvent> = events
                .filter_map(|(index, id)| {
                    Some(RunEvent {
                        index,
                        id: id.to_string(),
                        name: name(*id).to_owned(),
                        // As large as lets three of them into a run.
                        body: RawValue::from_string(BODY.get_or_init(body).clone()).ok()?,
                    })
                })
                .collect();
            let runs = Run::of(&integration.into(), segment, 0, events);
            let integration_ref = (who, integration.generation);
            let runs = runs.into_iter().map(Box::new);
            let sends = runs.map(|run| Op::Send(Body::Run(integration_ref, run), 0));
            process.ops.extend(sends);
        }
        process.ops.push_back(Op::Ingested(ids, segment));
    }

    /// A request of a worker that has several under way.
    pub fn request(&mut self, process: &mut Process, id: u64, op: Op, local: Millis) {
        match op {
            Op::Apply(integration_ref, input) => match self.decide(integration_ref, input, local) {
                Some(op) => self.soon(id, op),
                None => self.applied(process, None, local),
            },
            Op::Write(integration_ref, write, change) => {
                let op = self.try_to_write(integration_ref, write, &change);
                self.soon(id, op);
            }
            Op::Applied(integration_ref, applied, input, step) => {
                if let Some(Op::Send(body, delay)) = step_of(integration_ref, step) {
                    self.send(body, delay);
                }
                let failures = self.history.failures;
                // What ingest has sent live of a gap whose end moves is sent again: that is no repeat of the worker's.
                let opens = matches!(
                    input,
                    Input::Step {
                        step: StepInput::Open,
                        ..
                    }
                );
                if !opens && self.unlucky(failures) {
                    return self.seen(process, Seen::Failed(Order::Apply), local);
                }
                self.applied(process, Some(applied), local);
            }
            Op::Attempt(attempt, event) => {
                if self.is_fresh(process) {
                    self.at(
                        self.now,
                        Happening::Work(id, Op::Request(attempt, event, None)),
                    );
                } else {
                    let integration_ref = of(process);
                    let found = self.find(integration_ref);
                    let asked_at = self.now;
                    process.fresh = found.map(|found| (Box::new(found), asked_at));
                    let at = self.now + self.latency();
                    self.at(at, Happening::Work(id, Op::Request(attempt, event, None)));
                }
            }
            Op::Request(attempt, event, read) => {
                self.attempt(process, id, attempt, event, read, local);
            }
            Op::Carry(order) => self.carry_out(process, id, order, local),
            Op::Answer(seen) => {
                process.is_handed_back |= self.mutant == Some(Mutant::RunHandedBack)
                    && matches!(
                        (&process.role, &*seen),
                        (Role::Deliver(..), Seen::Rejected { .. })
                    );
                self.seen(process, *seen, local);
            }
            Op::LatePut(generation, items, is_awaited) => {
                self.put(generation, items);
                if is_awaited {
                    self.seen(process, Seen::Put, local);
                }
            }
            _ => {}
        }
    }

    fn soon(&mut self, id: u64, op: Op) {
        let at = self.now + self.latency();
        self.at(at, Happening::Work(id, op));
    }

    /// What a worker that sends events sees.
    pub fn seen(&mut self, process: &mut Process, seen: Seen, local: Millis) {
        let is_step = matches!(process.role, Role::Replay(..));
        if self.mutant == Some(Mutant::FailsUnsaved) && is_step && matches!(seen, Seen::Failed(_)) {
            // Its lease ends, and the sweep comes.
            process.dies_at = self.now;
        }
        let tick = self.now - process.began;
        if let Some(machine) = process.role.machine() {
            machine.seen(seen, Now { wall: local, tick });
        }
    }

    fn applied(&mut self, process: &mut Process, applied: Option<Box<Applied>>, local: Millis) {
        let applied = applied.map(|applied| Box::new(self.bent(*applied, local)));
        self.seen(process, Seen::Applied(applied), local);
    }

    pub fn find(&self, integration_ref: IntegrationRef) -> Option<Integration> {
        let stored = self.integrations[integration_ref.0].clone();
        stored.filter(|integration| integration.generation == integration_ref.1)
    }

    /// How long it takes to read a part of the event log.
    pub fn reading_time(&mut self, from: Position, until: Ulid) -> u64 {
        let (least, most) = self.history.read_millis;
        let segments = self
            .log
            .range(from.segment..until.max(from.segment))
            .count();
        let latency = self.latency();
        latency
            + (0..segments.min(5))
                .map(|_| self.random.random_range(least..=most))
                .sum::<u64>()
    }

    pub fn put(&mut self, generation: Ulid, items: Vec<StoredWaiting>) {
        for StoredWaiting { mut key, waiting } in items {
            if self.mutant == Some(Mutant::KeysReused) {
                key.token = Ulid(0);
            }
            if self.mutant == Some(Mutant::PutUnprocessed) && self.random.random_bool(0.3) {
                continue;
            }
            self.waiting.insert((generation, key), waiting);
        }
    }

    /// Reads an integration and applies an input to what was read; none when it is gone.
    fn decide(
        &mut self,
        integration_ref: IntegrationRef,
        mut input: Input,
        local: Millis,
    ) -> Option<Op> {
        let who = integration_ref.0;
        let mut integration = self.find(integration_ref)?;
        if self.mutant == Some(Mutant::TurnsIgnored)
            && let (Input::Step { turn, .. }, Some(stream)) = (&mut input, integration.stream_mut())
        {
            *turn = stream.schedule.turn;
            stream.schedule.lease = None;
        }
        let now_epoch = integration.stream().map_or(0, |stream| stream.epoch);
        if self.mutant == Some(Mutant::LateResults) {
            match &mut input {
                Input::Gone { epoch, .. } => *epoch = now_epoch,
                Input::Ran(ran) => ran.epoch = now_epoch,
                _ => {}
            }
        }
        let mut change = lifecycle::apply(&integration, &input, local, &self.rules);
        self.bend_change(&integration, &input, &mut change, local);
        let is_checkpoint = matches!(
            &input,
            Input::Step {
                step: StepInput::Checkpoint(_),
                ..
            }
        );
        if self.mutant == Some(Mutant::RefusedOnceStopped)
            && is_checkpoint
            && (!integration.is_running() || now_epoch > 0)
        {
            (change.next, change.verdict) = (None, Verdict::Refuse);
        }
        Some(match change.next.take() {
            Some(mut next) => {
                let read_version = next.version;
                next.version += 1;
                let write = Write {
                    who,
                    integration: next,
                    read_version,
                    input,
                    decided_at: local,
                };
                Op::Write(integration_ref, Box::new(write), Box::new(change))
            }
            None => {
                let applied = Applied {
                    integration,
                    verdict: change.verdict,
                    decided_at: local,
                    actions: Vec::new(),
                };
                Op::Applied(integration_ref, Box::new(applied), input, None)
            }
        })
    }

    /// Writes what was decided; what is to be done then.
    fn try_to_write(
        &mut self,
        integration_ref: IntegrationRef,
        write: Box<Write>,
        change: &Change,
    ) -> Op {
        self.check_addresses(&write, change);
        let input = write.input.clone();
        let applied = Applied {
            integration: write.integration.clone(),
            verdict: Verdict::Write,
            decided_at: write.decided_at,
            actions: Vec::new(),
        };
        let unreported = self.history.unreported;
        match self.write(*write) && !self.unlucky(unreported) {
            true => Op::Applied(integration_ref, Box::new(applied), input, change.step),
            false => Op::Apply(integration_ref, input),
        }
    }

    /// A failed request that is written down was made to the receiver of now.
    fn check_addresses(&mut self, write: &Write, change: &Change) {
        let Target::Webhook { callback, .. } = &write.integration.target else {
            return;
        };
        for (_, reason) in &change.entries {
            if let Some(request) = reason.strip_prefix("Request to URL ")
                && !request.starts_with(&format!("{} ", callback.callback_url))
            {
                let text = format!("an answer of an old address counts: {reason}");
                self.ledger.broken.get_or_insert(Broken(text));
            }
        }
    }

    /// Writes on condition that no other writer came in between; whether it did.
    pub fn write(&mut self, write: Write) -> bool {
        let Write {
            who,
            mut integration,
            read_version,
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
                Some(Mutant::NudgesIgnored) => stream.schedule.nudged = false,
                _ => {}
            }
            if let Some(wake_at) = stream.schedule.wake_at {
                self.look_after(wake_at);
            }
        }
        let is_good = self.now > self.history.end + MINUTE;
        let generation = integration.generation;
        let waits = self.waiting.keys().any(|(of, _)| *of == generation);
        let is_heard = self.history.is_heard();
        self.ledger
            .note_interruption(&integration, self.now, is_heard, waits);
        self.ledger
            .note_status(&integration, decided_at, self.now, is_good);
        self.integrations[who] = Some(integration);
        true
    }

    /// Appends events; how long the request takes.
    fn append(&mut self, process: &mut Process, ids: Vec<u32>, left: u32, local: Millis) -> u64 {
        let segment = self.ulid(local);
        let took = self.latency();
        let (slowness, unreported) = (self.history.slowness, self.history.unreported);
        process
            .ops
            .push_back(Op::Confirm(ids.clone(), segment, left));
        if self.unlucky(unreported) || self.unlucky(slowness) {
            // Nobody hears of it before it is given up; it may take effect within a seal of that, or never.
            if self.random.random_bool(0.5) {
                let late = self.random.random_range(0..SEAL * 3 / 2 - SEAL / 8);
                self.at(self.now + late, Happening::Appears(segment, ids));
            }
            return SEAL / 2;
        }
        if took < SEAL / 2 {
            self.log.insert(segment, ids);
            return took;
        }
        self.at(self.now + took, Happening::Appears(segment, ids));
        SEAL / 2
    }
}

/// The step that comes of an input, as a message.
fn step_of(integration_ref: IntegrationRef, step: Option<StepRequest>) -> Option<Op> {
    let StepRequest { turn, delay } = step.filter(|step| step.delay <= LONGEST_DELAY)?;
    let delay = delay.as_millis() as u64;
    Some(Op::Send(Body::Step(integration_ref, turn), delay))
}

/// The integration that a worker works for.
pub fn of(process: &Process) -> IntegrationRef {
    match &process.role {
        Role::Deliver(integration_ref, _) | Role::Replay(integration_ref, _) => *integration_ref,
        Role::Api | Role::Ingest => (0, Ulid(0)),
    }
}
