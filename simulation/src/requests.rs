//! The requests of workers, one by one: what each does to the simulated cloud.

use std::time::Duration;

use domain::attempt;
use domain::attempt::{Admission, Attempt, admit, judge};
use domain::integration::{Integration, Target};
use domain::lifecycle::{self, Applied, Change, Input, StepRequest, Verdict};
use domain::log::position::EventRef;
use domain::replay::step::Seen;
use domain::stream::chunk::Chunk;
use domain::tasks::{Dispatch, LONGEST_DELAY, Origin};
use domain::time::Millis;
use rand::RngExt;

use crate::Broken;
use crate::history::{MINUTE, SEAL, URLS, name};
use crate::mutant::Mutant;
use crate::receiver::REFUSAL;
use crate::work::{Body, Happening, IntegrationRef, Op, Process, Role, Write};
use crate::world::{World, url_index};

impl World {
    /// Does one request; how long it takes, where that is not like any other.
    pub fn perform(&mut self, process: &mut Process, op: Op, local: Millis) -> Option<u64> {
        match op {
            Op::Register(who, ago, length) => self.register(who, ago, length, local),
            Op::Call(who, input) => {
                let generation = self.integrations[who].as_ref()?.generation;
                process
                    .ops
                    .push_front(Op::Apply((who, generation), input, None));
            }
            Op::Apply(integration_ref, input, chunk) => {
                self.decide(process, integration_ref, input, chunk, local)
            }
            Op::Write(integration_ref, write, change) => {
                self.check_addresses(&write, &change);
                let (input, chunk) = (write.input.clone(), write.chunk.clone());
                let applied = Applied {
                    integration: write.integration.clone(),
                    verdict: Verdict::Write,
                    decided_at: write.decided_at,
                };
                let unreported = self.history.unreported;
                let next = match self.write(*write) && !self.unlucky(unreported) {
                    true => Op::Applied(integration_ref, Box::new(applied), input, change.step),
                    false => Op::Apply(integration_ref, input, chunk),
                };
                process.ops.push_front(next);
            }
            Op::Applied(integration_ref, applied, input, step) => {
                if let Input::Stop { .. } = input {
                    self.ledger.answer_stop(&self.integrations, integration_ref);
                }
                if let Some(StepRequest { turn, delay }) = step
                    && delay <= LONGEST_DELAY
                {
                    let delay = delay.as_millis() as u64;
                    process
                        .ops
                        .push_front(Op::Send(Body::Step(integration_ref, turn), delay));
                }
                if let Role::Replay(_, _, seen) = &mut process.role {
                    *seen = Some(Box::new(Seen::Applied(Some(applied))));
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
            Op::Route(ids, segment) => {
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
                    for (index, id) in (0..).zip(&ids) {
                        let name = name(*id);
                        let is_left_out = self.mutant == Some(Mutant::FilteredAfterStop)
                            && !integration.passes(name);
                        if is_left_out || !integration.takes_live(published_at, name) {
                            continue;
                        }
                        let dispatch = Dispatch {
                            event: EventRef {
                                segment,
                                index,
                                shard: 0,
                            },
                            event_id: id.to_string(),
                            name: name.to_owned(),
                            attempt: 1,
                            failing_since: None,
                            origin: Origin::Live,
                        };
                        let integration_ref = (who, integration.generation);
                        process
                            .ops
                            .push_back(Op::Send(Body::Dispatch(integration_ref, dispatch), 0));
                    }
                }
                process.ops.push_back(Op::Ingested(ids, segment));
            }
            Op::Ingested(ids, segment) => self.ledger.ingest(&ids, segment),
            Op::Admit(integration_ref, dispatch, read) => {
                return self.attempt(process, integration_ref, dispatch, read, local);
            }
            Op::Judge(mut integration, dispatch, outcome) => {
                if self.mutant == Some(Mutant::AloneUnproven)
                    && let Some(stream) = integration.stream_mut()
                {
                    let since = dispatch.failing_since.unwrap_or(local);
                    let is_alone = |it: Millis| it > since;
                    if stream.health.failing_since.is_none_or(is_alone) {
                        stream.health.last_success_at = Some(local);
                        stream.health.resumed_at = None;
                    }
                }
                let url = match &integration.target {
                    Target::Webhook { callback, .. } => callback.callback_url.clone(),
                    Target::S3 { .. } => return None,
                };
                let attempt = Attempt {
                    integration: &integration,
                    dispatch: &dispatch,
                    url: &url,
                    body: "",
                    now: local,
                    rules: &self.rules.clone(),
                    jitter: self.random.random(),
                    token: self.ulid(local),
                };
                let who = integration.id.parse().unwrap_or(0);
                let integration_ref = (who, integration.generation);
                for effect in judge(&attempt, &outcome) {
                    process
                        .ops
                        .push_back(Op::Effect(integration_ref, dispatch.clone(), effect));
                }
            }
            Op::Effect(integration_ref, dispatch, effect) => {
                self.effect(process, integration_ref, &dispatch, effect, local);
            }
            Op::Send(body, delay) => self.send(body, delay),
            Op::Park(integration_ref, parked) => {
                self.parked
                    .insert((integration_ref.1, parked.event), parked);
            }
            Op::Unpark(integration_ref, event, token) => {
                let key = (integration_ref.1, event);
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
        integration_ref: IntegrationRef,
        mut input: Input,
        chunk: Option<Chunk>,
        local: Millis,
    ) {
        let (who, generation) = integration_ref;
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
            *turn = stream.schedule.turn;
            stream.schedule.lease = None;
        }
        let now_epoch = integration.stream().map_or(0, |stream| stream.epoch);
        if self.mutant == Some(Mutant::LateResults)
            && let Input::Gone { epoch, .. }
            | Input::Succeeded { epoch }
            | Input::Failed { epoch, .. } = &mut input
        {
            *epoch = now_epoch;
        }
        if self.mutant == Some(Mutant::ConcurrentFailures)
            && let (Input::Failed { .. }, Some(stream)) = (&input, integration.stream_mut())
        {
            let health = &mut stream.health;
            let earlier = |since: Millis| since.before(Duration::from_secs(3));
            health.several_since = health.several_since.or(health.failing_since).map(earlier);
        }
        let mut change = lifecycle::apply(&integration, &input, local, &self.rules);
        process.ops.push_front(match change.next.take() {
            Some(mut next) => {
                let read_version = next.version;
                next.version += 1;
                let write = Write {
                    who,
                    integration: next,
                    read_version,
                    chunk,
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
                };
                Op::Applied(integration_ref, Box::new(applied), input, None)
            }
        });
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
                Some(Mutant::NudgesIgnored) => stream.schedule.nudged = false,
                _ => {}
            }
            if let Some(wake_at) = stream.schedule.wake_at {
                self.look_after(wake_at);
            }
        }
        if let Some(chunk) = chunk {
            self.chunks
                .insert((integration.generation, chunk.id), chunk);
        }
        let is_good = self.now > self.history.end + MINUTE;
        self.ledger
            .note_status(&integration, decided_at, self.now, is_good);
        if self.history.is_sound() && !self.history.is_skewed {
            self.ledger.note_interruption(&integration, self.now);
        }
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

    /// Reads the integration right before the attempt, and attempts.
    fn attempt(
        &mut self,
        process: &mut Process,
        integration_ref: IntegrationRef,
        dispatch: Dispatch,
        read: Option<Box<Integration>>,
        local: Millis,
    ) -> Option<u64> {
        let stored = self.integrations[integration_ref.0].clone();
        let stored = stored.filter(|integration| integration.generation == integration_ref.1)?;
        if self.mutant == Some(Mutant::StaleStatus) && read.is_none() {
            process
                .ops
                .push_back(Op::Admit(integration_ref, dispatch, Some(Box::new(stored))));
            return Some(200);
        }
        let integration = read.map_or(stored, |read| *read);
        let token = self.ulid(local);
        let mut effects = match admit(&integration, &dispatch, token) {
            Admission::Instead(effects) => effects,
            Admission::Post => {
                let event: u32 = dispatch.event_id.parse().unwrap_or(0);
                let flip = self.random.random_bool(0.5);
                let Target::Webhook { callback, .. } = &integration.target else {
                    return None;
                };
                let receiver = integration_ref.0 * URLS + url_index(&callback.callback_url);
                let (outcome, took) =
                    self.history.receivers[receiver].answer(self.now, event, flip);
                self.report.attempts += 1;
                let took = took + self.latency();
                let segment = dispatch.event.segment;
                let times = (self.now, self.now + took);
                self.ledger
                    .attempt(integration_ref.1, event, segment, &outcome, times);
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
                .push_back(Op::Effect(integration_ref, dispatch.clone(), effect));
        }
        None
    }

    fn effect(
        &mut self,
        process: &mut Process,
        integration_ref: IntegrationRef,
        dispatch: &Dispatch,
        effect: attempt::Effect,
        local: Millis,
    ) {
        match effect {
            attempt::Effect::Park(parked) => {
                self.parked
                    .insert((integration_ref.1, parked.event), parked);
            }
            attempt::Effect::Unpark { event, token } => {
                self.perform(process, Op::Unpark(integration_ref, event, token), local);
            }
            attempt::Effect::Settle { chunk, index } => {
                let key = (integration_ref.1, chunk);
                let is_done = self.chunks.get_mut(&key).is_none_or(|chunk| {
                    chunk.outstanding.remove(&index);
                    chunk.outstanding.is_empty()
                });
                if is_done {
                    self.chunks.remove(&key);
                    process
                        .ops
                        .push_front(Op::Apply(integration_ref, Input::ChunkDone, None));
                }
            }
            attempt::Effect::Retry { dispatch, delay } => {
                let delay = delay.as_secs_f64().ceil() as u64 * 1_000;
                self.send(Body::Dispatch(integration_ref, dispatch), delay);
            }
            attempt::Effect::Reject { answer, .. } => {
                let event = dispatch.event_id.parse().unwrap_or(0);
                let is_given_up = answer != REFUSAL;
                self.ledger
                    .reject(integration_ref.1, event, is_given_up, self.now);
            }
            attempt::Effect::Apply(input) => {
                process
                    .ops
                    .push_front(Op::Apply(integration_ref, input, None))
            }
        }
    }
}
