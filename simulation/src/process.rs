//! Workers: what each does next, request by request. Between any two it may crash.

use domain::sending::Now;
use domain::time::Millis;
use rand::RngExt;

use crate::history::{MINUTE, SEAL};
use crate::mutant::Mutant;
use crate::work::{Happening, Op, Process, Role};
use crate::world::World;

impl World {
    /// Lets a worker that does one thing after another do its next request.
    pub fn go(&mut self, id: u64) {
        let Some(mut process) = self.processes.remove(&id) else {
            return;
        };
        if self.is_crash(&process, id) {
            self.dies(&process);
            if let Some(op) = process.ops.pop_front() {
                self.after_crash(op);
            }
            return;
        }
        if matches!(process.role, Role::Deliver(..) | Role::Replay(..)) {
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
            self.dies(&process);
            return self.after_crash(op);
        }
        let is_attempt = matches!(op, Op::Request(..) | Op::Answer(..));
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
            return self.dies(&process);
        }
        self.drive(&mut process, id);
        self.put_back(process, id);
    }

    fn put_back(&mut self, mut process: Process, id: u64) {
        let is_over = process
            .role
            .machine()
            .map(|machine| (machine.is_over(), machine.is_handed_back()));
        let is_over = is_over.map(|(is_over, it)| (is_over, it || process.is_handed_back));
        match is_over {
            Some((true, is_handed_back)) => {
                let done = process.message.filter(|_| !is_handed_back);
                self.end_of(process.batch, id, done);
            }
            _ => {
                self.processes.insert(id, process);
            }
        }
    }

    /// A worker has ended, and `done` is done with: it is deleted when all of its batch has ended.
    fn end_of(&mut self, batch: Option<u64>, id: u64, done: Option<u64>) {
        let Some(number) = batch else {
            if let Some(message) = done {
                self.messages.remove(&message);
            }
            return;
        };
        let Some(batch) = self.batches.get_mut(&number) else {
            return;
        };
        batch.left.remove(&id);
        batch.done.extend(done);
        if batch.left.is_empty() {
            for message in std::mem::take(&mut batch.done) {
                self.messages.remove(&message);
            }
            self.batches.remove(&number);
        }
    }

    /// A process dies, with all that it was at.
    fn dies(&mut self, process: &Process) {
        let batch = process.batch.and_then(|batch| self.batches.remove(&batch));
        for other in batch.into_iter().flat_map(|batch| batch.left) {
            self.processes.remove(&other);
        }
    }

    pub fn local(&self, process: &Process) -> Millis {
        Millis(self.now.saturating_add_signed(process.skew))
    }

    fn is_crash(&mut self, process: &Process, id: u64) -> bool {
        let crashes = match process.role {
            Role::Api | Role::Ingest => self.history.crashes,
            // They do far more requests.
            Role::Deliver(..) | Role::Replay(..) => self.history.crashes / 4.0,
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
        match op {
            Op::Write(_, write, _) if self.random.random_bool(0.5) => {
                let at = self.now + self.random.random_range(0..SEAL);
                self.at(at, Happening::Late(write));
            }
            // The run is over by then: that is the bug.
            Op::LatePut(generation, items, _) if self.mutant == Some(Mutant::AskedFirst) => {
                self.put(generation, items);
            }
            _ => {}
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
        let (wall, tick) = (self.local(process), self.now - process.began);
        let now = Now { wall, tick };
        loop {
            let ulid = self.ulid(wall);
            let Some(machine) = process.role.machine() else {
                return;
            };
            if let Some(order) = machine.next(now, ulid) {
                self.begin_order(process, id, order);
            } else if machine.is_over() {
                return;
            } else {
                let at = process.began + machine.wake(now);
                return self.tick_at(process, id, at);
            }
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
}
