//! Workers: what each does, effect by effect. Between any two it may crash.

use domain::log::position::EventRef;
use domain::replay::selection::Selection;
use domain::replay::step::{Do, Seen};
use domain::stream::chunk::{Chunk, ChunkEvent};
use domain::tasks::{Dispatch, Origin};
use domain::time::Millis;
use rand::RngExt;
use ulid::Ulid;

use crate::history::{MINUTE, SEAL, name};
use crate::mutant::Mutant;
use crate::work::{Body, Happening, IntegrationRef, Op, Process, Role};
use crate::world::World;

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
            && let Role::Replay(integration_ref, step, seen) = &mut process.role
        {
            let fresh = self.ulid(local);
            let seen = seen.take().map_or(Seen::Done, |seen| *seen);
            if self.mutant == Some(Mutant::HorizonMoves) {
                step.horizon = self.rules.horizon(local);
            }
            match step.next(self.bend(seen, local), local, fresh) {
                Do::End => {}
                next => {
                    let integration_ref = *integration_ref;
                    let took = self.carry_out(&mut process, integration_ref, next, local);
                    // Each thing that a step wants takes a request, though some have none of their own here.
                    let at = self.now + took + self.latency();
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
        let freezes = self.history.freezes;
        let held_up = match self.unlucky(freezes) {
            true => self.random.random_range(0..MINUTE),
            false => 0,
        };
        let at = self.now + held_up + took.unwrap_or_else(|| self.latency());
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

    /// What a step gets to see, with a bug put in or not.
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

    /// Carries out what a step wants; how long reading takes, in milliseconds.
    fn carry_out(
        &mut self,
        process: &mut Process,
        integration_ref: IntegrationRef,
        what: Do,
        local: Millis,
    ) -> u64 {
        let (_, generation) = integration_ref;
        let (mut answer, mut took) = (Seen::Done, 0);
        match what {
            Do::Apply(input, chunk) => {
                process
                    .ops
                    .push_back(Op::Apply(integration_ref, input, chunk))
            }
            Do::CountOutstanding => {
                let ours = (generation, Ulid(0))..=(generation, Ulid(u128::MAX));
                let chunks = self.chunks.range(ours);
                answer = Seen::Outstanding(chunks.map(|(_, chunk)| chunk.outstanding.len()).sum());
            }
            Do::ListParked { after, limit } => {
                let ours = self.parked.iter().filter(|((integration_ref, event), _)| {
                    *integration_ref == generation && after.is_none_or(|after| *event > after)
                });
                answer = Seen::Parked(ours.take(limit).map(|(_, parked)| *parked).collect());
            }
            Do::Read {
                start,
                from,
                until,
                limit,
                deadline,
            } => {
                let until = match self.mutant {
                    Some(Mutant::UnsealedRead) => local.first_id(),
                    _ => until,
                };
                let deadline = match self.mutant {
                    Some(Mutant::DeadlineIgnored) => Millis(u64::MAX),
                    _ => deadline,
                };
                let mut first = Selection::reads_from(start, from).first_id();
                let (least, most) = self.history.read_millis;
                let before = self.log.range(first..from.segment.max(first)).count() as u64;
                if Millis(local.0 + before * most) >= local.after(deadline.since(local) / 2) {
                    // What comes before takes too long: repeats are not looked for in it.
                    took += deadline.since(local).as_millis() as u64 / 2;
                    first = Ulid::from_parts(from.segment.timestamp_ms(), 0);
                }
                let mut selection = Selection::new(from);
                let mut events = Vec::new();
                let passes = |name: &str| {
                    let integration = self.integrations[integration_ref.0].as_ref();
                    integration.is_some_and(|integration| integration.passes(name))
                };
                let mut is_late = false;
                for (segment, ids) in self.log.range(first..until.max(first)) {
                    is_late = selection.next() > from && Millis(local.0 + took) >= deadline;
                    if is_late {
                        break;
                    }
                    took += self.random.random_range(least..=most);
                    let texts: Vec<String> = ids.iter().map(u32::to_string).collect();
                    let named = texts.iter().zip(ids);
                    let named = named.map(|(text, id)| (text.as_str(), name(*id)));
                    let room = limit - events.len();
                    let taken = selection.take(*segment, named, passes, room);
                    events.extend(taken.indices.into_iter().map(|index| EventRef {
                        segment: *segment,
                        index,
                        shard: 0,
                    }));
                    if events.len() >= limit {
                        break;
                    }
                }
                if events.len() < limit && !is_late {
                    selection.end(until);
                }
                let next = selection.next();
                answer = Seen::Read { events, next };
            }
            Do::Send(chunk) => self.send_chunk(process, integration_ref, &chunk),
            Do::SendAgain(id) => {
                if let Some(chunk) = self.chunks.get(&(generation, id)).cloned() {
                    self.send_chunk(process, integration_ref, &chunk);
                }
            }
            Do::Probe { parked, since } => {
                let token = parked.token;
                let origin = Origin::Probe { since, token };
                let dispatch = self.dispatch(&ChunkEvent::from(parked), origin);
                process
                    .ops
                    .push_back(Op::Send(Body::Dispatch(integration_ref, dispatch), 0));
            }
            Do::Park(parked) => process.ops.push_back(Op::Park(integration_ref, parked)),
            Do::Unpark(page) => {
                for parked in page {
                    process
                        .ops
                        .push_back(Op::Unpark(integration_ref, parked.event, parked.token));
                }
            }
            Do::End => {}
        }
        if let Role::Replay(_, _, seen) = &mut process.role {
            *seen = Some(Box::new(answer));
        }
        took
    }

    fn send_chunk(
        &mut self,
        process: &mut Process,
        integration_ref: IntegrationRef,
        chunk: &Chunk,
    ) {
        for index in &chunk.outstanding {
            let origin = Origin::Chunk {
                chunk: chunk.id,
                index: *index,
            };
            let dispatch = self.dispatch(&chunk.events[*index as usize], origin);
            process
                .ops
                .push_back(Op::Send(Body::Dispatch(integration_ref, dispatch), 0));
        }
    }

    fn dispatch(&self, event: &ChunkEvent, origin: Origin) -> Dispatch {
        let id = self.id_of(&event.event);
        Dispatch {
            event: event.event,
            event_id: id.to_string(),
            name: name(id).to_owned(),
            attempt: event.attempt,
            failing_since: event.failing_since,
            origin,
        }
    }
}
