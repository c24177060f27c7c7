//! Runs a history: one thing after another, until nothing is due.

use domain::fate::PastFilter;
use domain::integration::{Integration, Target};
use domain::lifecycle::Input;
use domain::replay::sender::{Limits, Sender};
use domain::run::Posting;
use domain::sending::Now;
use domain::stream::schedule::GRACE;
use domain::time::Millis;
use rand::RngExt;

use crate::history::{BEGIN, Call, INTEGRATIONS, MINUTE, SEAL, STOP_ANSWERED, filter, name};
use crate::mutant::Mutant;
use crate::receiver::FIRST_GOOD;
use crate::work::{Batch, Body, Happening, Op, Process, Role};
use crate::world::{AFTERMATH, REST, World, url, url_index};

/// Small enough that a few events reach each of them.
pub const LIMITS: Limits = Limits {
    events: 7,
    read: 5,
    waiting: 9,
    ranges: 3,
    checkpoint: 5_000,
};

impl World {
    /// Runs the history until nothing is due any more.
    pub fn run(&mut self) {
        let last = self.history.end + AFTERMATH + REST;
        while let Some(((at, _), happening)) = self.agenda.pop_first() {
            if at > last {
                break;
            }
            self.now = at;
            self.happen(happening);
            if self.ledger.broken.is_some() {
                break;
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        if !matches!(
            happening,
            Happening::Poll(_)
                | Happening::Go(_)
                | Happening::Work(..)
                | Happening::Tick(_)
                | Happening::Free(..)
        ) {
            self.trace(0, &happening);
        }
        match happening {
            Happening::Publish(count) => {
                let ids = (self.next_event..self.next_event + count).collect();
                self.next_event += count;
                if self.history.is_busy {
                    self.ledger.published.extend(
                        (self.next_event - count..self.next_event).map(|id| (id, self.now)),
                    );
                }
                self.report.published += count as usize;
                self.send(Body::Events(ids), 0);
            }
            Happening::PublishGood => {
                // One of each name, so that every filter lets one pass.
                let first = self.next_event.max(FIRST_GOOD) / 3 * 3 + 3;
                self.next_event = first + 2;
                self.send(Body::Events(vec![first, first + 1]), 0);
            }
            Happening::Call(call) => self.call(call),
            Happening::Receive(message) => self.receive(message),
            Happening::Poll(queue) => self.poll(queue),
            Happening::Go(process) => self.go(process),
            Happening::Work(process, op) => self.work(process, op),
            Happening::Tick(process) => self.tick(process),
            Happening::Free(receiver, generation, process, attempt) => {
                self.busy
                    .entry(receiver)
                    .or_default()
                    .remove(&(process, attempt));
                self.ledger.ends(generation, process);
            }
            Happening::StopAnswered(integration_ref) => {
                self.ledger.answer_stop(&self.integrations, integration_ref);
            }
            Happening::DeleteAnswered(generation) => self.ledger.delete(generation),
            Happening::Late(write) => {
                self.write(*write);
            }
            Happening::Appears(segment, ids) => {
                self.log.insert(segment, ids);
            }
            Happening::Sweep => self.sweep(),
            Happening::Look => self.look(),
            Happening::View => self.view(),
            Happening::Purge(generation) => {
                self.waiting
                    .retain(|(integration_ref, _), _| *integration_ref != generation);
            }
        }
    }

    /// Checks every minute whether anything waits for too long, where nothing goes wrong on our side, or has not for a while: an
    /// interrupted stream for a probe that was due two minutes ago, or a parked event for replay, which nothing will wake.
    fn look(&mut self) {
        let is_sound = self.history.is_sound() || self.now > self.history.end + 10 * MINUTE;
        let is_fast = self.history.read_millis.1 <= 50;
        for (who, integration) in self.integrations.iter().enumerate() {
            let Some(integration) = integration.as_ref().filter(|it| it.is_running()) else {
                continue;
            };
            let Some(stream) = integration.stream() else {
                continue;
            };
            let generation = integration.generation;
            let ours = self.waiting.iter().filter(|((of, _), _)| *of == generation);
            let events = ours.flat_map(|(_, waiting)| waiting.events());
            let forgotten = events
                .map(|event| (event, self.id_of(&event)))
                // What the filter does not let pass any more is not sent, and may stay behind.
                .find(|(_, id)| {
                    !self.ledger.is_done(generation, *id) && integration.passes(name(*id))
                })
                .filter(|_| is_sound);
            let is_waiting = forgotten.is_some();
            let forgotten = forgotten.filter(|_| stream.schedule.wake_at.is_none());
            self.ledger.waits_unheard(who, generation, forgotten);
            if is_fast && is_waiting {
                self.ledger.is_silent(generation, who, self.now);
            }
            let interruption = stream.health.interruption;
            if let Some(it) = interruption.filter(|_| is_sound && is_fast) {
                let due = it.next_probe_at.0 + 2 * MINUTE + SEAL;
                self.ledger
                    .probe_due(integration.generation, who, due, self.now);
            }
        }
        // Nothing happens in the days for which an integration is stopped.
        let next = self.now + MINUTE;
        let is_idle = next > BEGIN + 60 * MINUTE && next < self.history.end - 10 * MINUTE;
        let next = match is_idle {
            true => self.history.end - 10 * MINUTE,
            false => next,
        };
        if next < self.history.end + AFTERMATH + REST {
            self.at(next, Happening::Look);
        }
    }

    fn receive(&mut self, message: u64) {
        let Some(body) = self.messages.get(&message).cloned() else {
            return;
        };
        let (visibility, repeats) = match body {
            Body::Events(_) => (180_000, self.history.repeats),
            Body::Run(..) => (240_000, self.history.repeats),
            Body::Step(..) => (540_000, self.history.step_repeats),
        };
        if self.unlucky(repeats) {
            // Handed out a second time, whatever becomes of the first.
            self.begin(body.clone(), None, None);
        }
        self.at(self.now + visibility, Happening::Receive(message));
        let queue = match body {
            Body::Events(_) => {
                self.begin(body, Some(message), None);
                return;
            }
            Body::Run(..) => 0,
            Body::Step(..) => 1,
        };
        self.ready[queue].push_back(message);
        let at = self.now + self.random.random_range(0..20);
        self.at(at, Happening::Poll(queue));
    }

    /// Takes up to ten messages as one batch.
    fn poll(&mut self, queue: usize) {
        let count = self.ready[queue].len().min(10);
        let messages: Vec<u64> = self.ready[queue].drain(..count).collect();
        let number = self.number();
        let mut batch = Batch::default();
        for message in messages {
            if let Some(body) = self.messages.get(&message).cloned() {
                let worker = self.begin(body, Some(message), Some(number));
                batch.left.insert(worker);
            }
        }
        self.batches.insert(number, batch);
    }

    fn begin(&mut self, body: Body, message: Option<u64>, batch: Option<u64>) -> u64 {
        let limit = match body {
            Body::Events(_) => 30_000,
            Body::Run(..) => 40_000,
            Body::Step(..) => 90_000,
        };
        let skew = self.skew();
        let local = Millis(self.now.saturating_add_signed(skew));
        let holder = self.ulid(local);
        let now = Now {
            wall: local,
            tick: 0,
        };
        let (role, ops) = match body {
            Body::Events(ids) => (Role::Ingest, vec![Op::Append(ids, 4)]),
            Body::Run(integration_ref, run) => {
                let posting = Posting::new(&run, limit);
                (
                    Role::Deliver(integration_ref, Box::new(posting)),
                    Vec::new(),
                )
            }
            Body::Step(integration_ref, turn) => {
                let over = Millis(local.0 + limit);
                let sender = Sender::new(turn, holder, now, over, self.rules, LIMITS);
                (Role::Replay(integration_ref, Box::new(sender)), Vec::new())
            }
        };
        self.spawn(Process {
            role,
            ops: ops.into(),
            message,
            batch,
            skew,
            began: self.now,
            dies_at: self.now + limit,
            fresh: None,
            tick_at: None,
            is_handed_back: false,
        })
    }

    fn call(&mut self, call: Call) {
        let skew = self.skew();
        let op = match call {
            Call::Register(who, ago) => Op::Register(who, ago, None),
            Call::RegisterTemporary(who, ago, length) => Op::Register(who, ago, Some(length)),
            Call::Start(who) => Op::Call(who, Input::Start),
            Call::Stop(who) => {
                let reason = "Stopped via API.".to_owned();
                Op::Call(who, Input::Stop { reason })
            }
            Call::SetFilter(who, index) => {
                let past = self.integrations[who]
                    .as_ref()
                    .filter(|it| !it.is_running());
                let past = past.map(|it| (it.generation, PastFilter::of(it, Millis(self.now))));
                self.update(who, |integration| integration.filter = filter(index));
                if self.mutant != Some(Mutant::FiltersForgotten) {
                    self.past_filters.extend(past);
                }
                return;
            }
            Call::SwitchUrl(who) => {
                self.update(who, |integration| {
                    if let Target::Webhook { callback, .. } = &mut integration.target {
                        callback.callback_url = url(1 - url_index(&callback.callback_url));
                    }
                });
                return;
            }
            Call::SetLimit(who, limit) => {
                self.update(who, |integration| {
                    if let Target::Webhook { callback, .. } = &mut integration.target {
                        callback.max_in_flight = limit;
                    }
                });
                return;
            }
            Call::Delete(who) => {
                if let Some(gone) = self.integrations[who].take() {
                    let answered = Happening::DeleteAnswered(gone.generation);
                    self.at(self.now + STOP_ANSWERED, answered);
                    self.at(self.now + 15 * MINUTE, Happening::Purge(gone.generation));
                }
                return;
            }
        };
        let process = Process::api(op, skew, self.now, self.now + MINUTE);
        self.spawn(process);
    }

    /// Updates an integration that is stopped: a conditional write right behind the read.
    fn update(&mut self, who: usize, change: impl FnOnce(&mut Integration)) {
        if let Some(integration) = self.integrations[who]
            .as_mut()
            .filter(|it| !it.is_running())
        {
            change(integration);
            integration.version += 1;
        }
    }

    fn sweep(&mut self) {
        self.sweeps.remove(&self.now);
        let skew = self.skew();
        let overdue = Millis(self.now.saturating_add_signed(skew)).before(GRACE);
        for who in 0..INTEGRATIONS {
            let due = self.integrations[who].as_ref().and_then(|integration| {
                let schedule = integration.stream()?.schedule;
                Some((integration.generation, schedule.turn, schedule.wake_at?))
            });
            let Some((generation, turn, wake_at)) = due else {
                continue;
            };
            if wake_at <= overdue {
                self.send(Body::Step((who, generation), turn), 0);
            }
            self.look_after(wake_at.max(Millis(self.now)));
        }
    }
}
