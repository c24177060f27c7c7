//! Workers: what each does next, request by request. Between any two it may crash.

use domain::log::position::EventRef;
use domain::replay::sender::{Do, Now};
use domain::run::{Next, Posting};
use domain::time::Millis;
use rand::RngExt;

use crate::history::{MINUTE, SEAL};
use crate::mutant::Mutant;
use crate::work::{DeliveryAt, Happening, Op, Process, Role};
use crate::world::World;

impl World {
    /// Lets a worker that does one thing after another do its next request.
    pub fn go(&mut self, id: u64) {
        let Some(mut process) = self.processes.remove(&id) else {
            return;
        };
        if self.is_crash(&process, id) {
            if let Some(op) = process.ops.pop_front() {
                self.after_crash(op);
            }
            return;
        }
        if matches!(process.role, Role::Deliver(_) | Role::Replay(..)) {
            self.drive(&mut process, id);
            return self.put_back(process, id);
        }
        let local = self.local(&process);
        let Some(op) = process.ops.pop_front() else {
            if let Some(message) = process.message {
                self.messages.remove(&message);
            }
            return;
        };
        self.report.effects += 1;
        self.trace(id, &op);
        let took = self.perform(&mut process, op, local);
        let at = self.now + self.held_up() + took.unwrap_or_else(|| self.latency());
        self.processes.insert(id, process);
        self.at(at, Happening::Go(id));
    }

    /// A request of a worker that has several under way takes effect.
    pub fn work(&mut self, id: u64, op: Op) {
        let Some(mut process) = self.processes.remove(&id) else {
            return self.after_crash(op);
        };
        if self.is_crash(&process, id) {
            return self.after_crash(op);
        }
        let is_attempt = matches!(op, Op::Request(..) | Op::Ended(..));
        let held_up = self.held_up();
        if held_up > 0 && !is_attempt {
            self.processes.insert(id, process);
            return self.at(self.now + held_up, Happening::Work(id, op));
        }
        self.report.effects += 1;
        self.trace(id, &op);
        let local = self.local(&process);
        self.request(&mut process, id, op, local);
        self.drive(&mut process, id);
        self.put_back(process, id);
    }

    /// A worker looks at the time.
    pub fn tick(&mut self, id: u64) {
        let Some(mut process) = self.processes.remove(&id) else {
            return;
        };
        if process.tick_at.is_some_and(|at| at <= self.now) {
            process.tick_at = None;
        }
        if self.now >= process.dies_at {
            self.report.crashes += 1;
            return;
        }
        self.drive(&mut process, id);
        self.put_back(process, id);
    }

    fn put_back(&mut self, process: Process, id: u64) {
        let is_done = match &process.role {
            Role::Replay(_, sender) => sender.is_over(),
            Role::Deliver(it) => {
                it.at == DeliveryAt::Writing && it.busy == 0 && process.ops.is_empty()
            }
            Role::Api | Role::Ingest => false,
        };
        if !is_done {
            self.processes.insert(id, process);
        } else if let Some(message) = process.message {
            self.messages.remove(&message);
        }
    }

    pub fn local(&self, process: &Process) -> Millis {
        Millis(self.now.saturating_add_signed(process.skew))
    }

    fn is_crash(&mut self, process: &Process, id: u64) -> bool {
        let crashes = match process.role {
            Role::Api | Role::Ingest => self.history.crashes,
            // They do far more requests.
            Role::Deliver(_) | Role::Replay(..) => self.history.crashes / 4.0,
        };
        let is_crash = self.now >= process.dies_at || self.unlucky(crashes);
        if is_crash {
            self.report.crashes += 1;
            self.trace(id, &"crashes");
        }
        is_crash
    }

    /// A worker is gone. What it had sent last may still take effect, within a seal.
    fn after_crash(&mut self, op: Op) {
        if let Op::Write(_, write, _) = op
            && self.random.random_bool(0.5)
        {
            let at = self.now + self.random.random_range(0..SEAL);
            self.at(at, Happening::Late(write));
        }
    }

    fn held_up(&mut self) -> u64 {
        let freezes = self.history.freezes;
        match self.unlucky(freezes) {
            true => self.random.random_range(0..MINUTE),
            false => 0,
        }
    }

    /// Begins all that a worker wants to begin now.
    pub fn drive(&mut self, process: &mut Process, id: u64) {
        let local = self.local(process);
        let tick = self.now - process.began;
        loop {
            match &mut process.role {
                Role::Replay(integration_ref, sender) => {
                    let now = Now { wall: local, tick };
                    let fresh = domain::time::Millis(local.0);
                    let ulid = ulid::Ulid::from_parts(fresh.0, self.random.random());
                    match sender.next(now, ulid) {
                        Some(todo) => {
                            let integration_ref = *integration_ref;
                            self.start_on(process, id, integration_ref, todo);
                        }
                        None if sender.is_over() => return,
                        None => {
                            let at = process.began + sender.wake(now);
                            return self.tick_at(process, id, at);
                        }
                    }
                }
                Role::Deliver(it) if it.at == DeliveryAt::Posting => match it.posting.next(tick) {
                    Next::Post(number) => {
                        let event = EventRef {
                            segment: it.run.segment,
                            index: it.run.events[number].index,
                            shard: it.run.shard,
                        };
                        it.busy += 1;
                        self.at(
                            self.now,
                            Happening::Work(id, Op::Attempt(number as u64, event)),
                        );
                    }
                    Next::Wait(until) => {
                        let at = process.began + until;
                        self.say_slow(process, id);
                        return self.tick_at(process, id, at);
                    }
                    Next::Done => {
                        self.say_slow(process, id);
                        self.write_down(process, local);
                        return self.next_of(process, id);
                    }
                },
                Role::Deliver(it) => {
                    if it.at == DeliveryAt::Reading && it.busy == 0 {
                        it.busy = 1;
                        let at = self.now + self.latency();
                        self.at(at, Happening::Work(id, Op::Admit));
                    }
                    return;
                }
                Role::Api | Role::Ingest => return,
            }
        }
    }

    /// Begins the next of a delivery's writes.
    pub fn next_of(&mut self, process: &mut Process, id: u64) {
        if let (Role::Deliver(it), Some(op)) = (&mut process.role, process.ops.pop_front()) {
            it.busy += 1;
            let at = self.now + self.latency();
            self.at(at, Happening::Work(id, op));
        }
    }

    fn tick_at(&mut self, process: &mut Process, id: u64, at: u64) {
        let at = at.max(self.now + 1);
        if process
            .tick_at
            .is_none_or(|known| known > at || known <= self.now)
        {
            process.tick_at = Some(at);
            self.at(at, Happening::Tick(id));
        }
    }

    fn say_slow(&mut self, process: &mut Process, id: u64) {
        if let Role::Deliver(it) = &mut process.role
            && it.posting.says_slow()
        {
            it.busy += 1;
            let ran = domain::lifecycle::Ran {
                epoch: it.epoch,
                is_slow: true,
                ..domain::lifecycle::Ran::default()
            };
            let op = Op::Apply(it.integration_ref, domain::lifecycle::Input::Ran(ran));
            let at = self.now + self.latency();
            self.at(at, Happening::Work(id, op));
        }
    }

    /// A run has ended: what is left of it is to be written down.
    fn write_down(&mut self, process: &mut Process, local: Millis) {
        let jitter = self.random.random();
        let Role::Deliver(it) = &mut process.role else {
            return;
        };
        it.at = DeliveryAt::Writing;
        let written = it.posting.written(&it.run, it.epoch, local, jitter);
        let integration = process.fresh.as_ref().map(|(integration, _)| integration);
        let says = integration.is_some_and(|it| written.says_something(it, local));
        if !written.items.is_empty() {
            let items = self.stored(written.items, local);
            process.ops.push_back(Op::Put(it.integration_ref, items));
        }
        if says {
            let apply = Op::Apply(
                it.integration_ref,
                domain::lifecycle::Input::Ran(written.ran),
            );
            match self.mutant == Some(Mutant::AskedFirst) {
                true => process.ops.push_front(apply),
                false => process.ops.push_back(apply),
            }
        }
    }

    /// What delivery makes of a run that it does not post.
    pub fn file(&mut self, process: &mut Process, local: Millis) {
        let Role::Deliver(it) = &mut process.role else {
            return;
        };
        it.at = DeliveryAt::Writing;
        let waiting = Posting::all(&it.run, local);
        let integration_ref = it.integration_ref;
        if waiting.is_empty() {
            return;
        }
        let items = self.stored(waiting, local);
        let ran = domain::lifecycle::Ran {
            due_at: Some(local),
            ..domain::lifecycle::Ran::default()
        };
        let apply = Op::Apply(integration_ref, domain::lifecycle::Input::Ran(ran));
        process.ops.extend([Op::Put(integration_ref, items), apply]);
        if self.mutant == Some(Mutant::AskedFirst) {
            process.ops.swap(0, 1);
        }
    }

    /// Begins what a sender wants.
    fn start_on(
        &mut self,
        process: &mut Process,
        id: u64,
        integration_ref: crate::work::IntegrationRef,
        todo: Do,
    ) {
        let latency = self.latency();
        let (took, op) = match todo {
            Do::Apply(input) => (
                latency,
                Op::Apply(integration_ref, self.bent_input(process, input)),
            ),
            Do::Post { id, event, .. } => (0, Op::Attempt(id, event)),
            Do::Put(items) => (latency, Op::Put(integration_ref, items)),
            Do::Drop(keys) => (latency, Op::Drop(integration_ref, keys)),
            Do::Read { from, until, .. } => (self.reading_time(from, until), Op::Carry(todo)),
            todo => (latency, Op::Carry(todo)),
        };
        let at = self.now + took;
        self.at(at, Happening::Work(id, op));
    }
}
