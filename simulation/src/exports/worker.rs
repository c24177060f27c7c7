//! A worker of the export function: what its run says is carried out, and each request may go wrong.

use std::collections::VecDeque;
use std::time::Duration;

use domain::exporting::{Content, Do, Exporting, Limits, Seen};
use domain::integration::{Integration, IntegrationRef};
use domain::lifecycle::{Applied, ExportInput, Input, Verdict};
use domain::log::segment::Segment;
use domain::time::Millis;
use rand::RngExt;
use ulid::Ulid;

use super::history::Kind;
use super::mutant::Mutant;
use super::work::{Happening, Task, Worker, Write};
use super::world::World;

/// The time limit of an invocation.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// How long events outlive the time for which they are kept.
const MARGIN: Duration = Duration::from_secs(3 * 24 * 3600);
/// How often a losing writer reads and decides again before it gives up.
const MAX_TRIES: u32 = 12;
/// How long after its failure a write may take effect: milliseconds.
const LATE: u64 = 4_000;

impl World {
    /// The run of a task that begins now, by a clock that is so far from the true one.
    pub fn begin(&mut self, task: Task, skew: i64) -> Worker {
        let now = Millis(self.now.saturating_add_signed(skew));
        let mut rules = self.rules;
        let (mut began, mut sent_at) = (now, task.sent_at);
        let deployment = self.random.random_range(0..2);
        let mut max_file_bytes = self.history.max_file_bytes[deployment];
        match self.mutant {
            Some(Mutant::UploadedLate) => began = now.after(TIME_LIMIT * 10),
            Some(Mutant::UnsealedRead) => rules.seal = Duration::ZERO,
            Some(Mutant::TasksRenewed) => sent_at = now,
            Some(Mutant::SizeIgnored) => max_file_bytes = usize::MAX,
            _ => {}
        }
        let limits = Limits {
            time_limit: TIME_LIMIT,
            max_file_bytes,
        };
        let holder = self.ulid(now);
        let (run, first) = Exporting::begin(sent_at, holder, began, limits, rules, Vec::new());
        Worker {
            task,
            run,
            skew,
            todo: Some(first),
            seen: None,
            write: None,
            tries: 0,
            page: VecDeque::new(),
            is_granted: false,
            began: self.now,
            awake_since: self.now,
            last: None,
            has_begun: false,
            has_planned: false,
            is_refused: false,
            has_failed: false,
        }
    }

    /// Carries out what a worker has asked for, unless it crashes before. What it sees, it sees later.
    pub fn effect(&mut self, id: u64) {
        let Some(mut worker) = self.workers.remove(&id) else {
            return;
        };
        let (crashes, failures) = (self.history.crashes, self.history.failures);
        if self.unlucky(crashes) {
            return self.crash(id, worker.task);
        }
        let Some(todo) = worker.todo.take() else {
            return;
        };
        let is_upload = matches!(todo, Do::Upload(_) | Do::Report(_));
        let fails = !is_upload && self.unlucky(failures);
        if fails && self.random.random_bool(0.5) {
            worker.seen = None;
            return self.respond(id, worker, 0);
        }
        let took = self.carry_out(id, &mut worker, todo);
        let Some(took) = took else {
            // Another moment of the same request follows.
            self.workers.insert(id, worker);
            let at = self.now + self.latency();
            return self.at(at, Happening::Effect(id));
        };
        if fails {
            worker.seen = None;
        }
        self.respond(id, worker, took);
    }

    /// Lets a worker see what came of its request `took` milliseconds from now, or crash before.
    fn respond(&mut self, id: u64, worker: Worker, took: u64) {
        let (crashes, freezes) = (self.history.crashes, self.history.freezes);
        if self.unlucky(crashes) {
            return self.crash(id, worker.task);
        }
        let mut at = self.now + took + self.latency();
        let mut worker = worker;
        if self.unlucky(freezes) {
            at += self.random.random_range(0..4 * 60_000);
            worker.awake_since = at;
        }
        self.workers.insert(id, worker);
        self.at(at, Happening::Go(id));
    }

    fn crash(&mut self, id: u64, task: Task) {
        self.trace(&("crash", id));
        self.report.crashes += 1;
        self.ledger.uploads.remove(&id);
        let pause = self.random.random_range(60_000..400_000);
        self.hand_back(task, pause);
    }

    /// A worker sees what came of its request, and asks for the next one.
    pub fn go(&mut self, id: u64) {
        let Some(mut worker) = self.workers.remove(&id) else {
            return;
        };
        let local = Millis(self.now.saturating_add_signed(worker.skew));
        worker.has_failed |= worker.seen.is_none();
        let ulid = self.ulid(local);
        let mut next = match worker.seen.take() {
            Some(seen) => worker.run.seen(seen, local, ulid),
            None => worker.run.failed(),
        };
        // What is on the page that was read takes no request.
        while let Some(Do::ReadOn) = next
            && self.random.random_bool(0.8)
        {
            let ulid = self.ulid(local);
            let seen = Seen::Segment(worker.page.pop_front());
            next = worker.run.seen(seen, local, ulid);
        }
        let Some(todo) = next else {
            if worker.has_failed {
                self.hand_back(worker.task, 2_000);
            }
            return;
        };
        let at = self.now + self.latency() + self.reading(&todo);
        worker.todo = Some(todo);
        worker.tries = 0;
        self.workers.insert(id, worker);
        self.at(at, Happening::Effect(id));
    }

    /// How much longer a page of the event log takes than other requests.
    fn reading(&mut self, todo: &Do) -> u64 {
        let most = match self.now < self.history.end {
            true => self.history.read_millis,
            false => 100,
        };
        match todo {
            Do::Read { .. } | Do::ReadOn => self.random.random_range(0..most),
            _ => 0,
        }
    }

    /// Carries out what a run asks for. How long it takes; none where it is not over.
    fn carry_out(&mut self, id: u64, worker: &mut Worker, todo: Do) -> Option<u64> {
        let seen = match todo {
            Do::Get => Seen::Integration(self.get(worker).map(Box::new)),
            Do::HasAny { from, until } => {
                Seen::HasAny(!self.read(Content::Ids, from, until).is_empty())
            }
            Do::Apply(integration_ref, input) => {
                return self.apply(id, worker, integration_ref, *input);
            }
            Do::Read {
                content,
                from,
                until,
            } => {
                worker.page = self.read(content, from, until);
                Seen::Segment(worker.page.pop_front())
            }
            Do::ReadOn => Seen::Segment(worker.page.pop_front()),
            Do::Grant(..) => {
                let trouble = self.history.trouble(self.now);
                worker.is_granted = trouble != Some(Kind::NotGranted);
                Seen::Granted
            }
            Do::Upload(upload) => {
                let took = self.upload(id, worker, upload);
                if let Some((_, ends)) = self.ledger.uploads.get_mut(&id) {
                    *ends = self.now + took;
                }
                return Some(took);
            }
            Do::Report(problem) => {
                let text = format!("a file could not be made again: {problem:?}");
                self.ledger.break_promise(text);
                return Some(0);
            }
        };
        worker.seen = Some(seen);
        Some(0)
    }

    fn get(&mut self, worker: &mut Worker) -> Option<Integration> {
        if self.mutant == Some(Mutant::StateUnread) && worker.has_begun {
            return worker.last.clone();
        }
        let mut found = self.integration.clone();
        worker.last.clone_from(&found);
        self.hide_plan(worker, found.as_mut());
        found
    }

    /// Hides the plan of another run, where that is the bug.
    fn hide_plan(&self, worker: &Worker, found: Option<&mut Integration>) {
        if self.mutant == Some(Mutant::PlanIgnored)
            && !worker.has_planned
            && let Some(export) = found.and_then(Integration::export_mut)
        {
            export.plan = None;
        }
    }

    /// The first id that the event log has not forgotten.
    fn forgotten(&self) -> Ulid {
        let oldest = self.rules.oldest(Millis(self.now)).before(MARGIN);
        match self.history.forgets {
            true => oldest.first_id(),
            false => Ulid::nil(),
        }
    }

    fn read(&self, content: Content, from: Ulid, until: Ulid) -> VecDeque<Segment> {
        let from = from.max(self.forgotten()).min(until);
        let segments = self.log.range(from..until).map(|(_, (segment, _))| segment);
        let mut page: VecDeque<Segment> = match content {
            Content::Whole => segments.cloned().collect(),
            Content::Ids if self.mutant == Some(Mutant::RepeatsForgotten) => VecDeque::new(),
            Content::Ids => {
                let ids_of = |segment: &Segment| Segment {
                    id: segment.id,
                    ids: segment.ids.clone(),
                    names: String::new(),
                    envelopes: Vec::new(),
                };
                segments.map(ids_of).collect()
            }
        };
        if self.mutant == Some(Mutant::LastSegmentUnread) && page.len() > 1 {
            page.pop_back();
        }
        page
    }

    /// Applies an input: reads and decides at one moment, writes at another one. Where another writer came in between, again.
    fn apply(
        &mut self,
        id: u64,
        worker: &mut Worker,
        integration_ref: IntegrationRef,
        input: Input,
    ) -> Option<u64> {
        let Some(write) = worker.write.take() else {
            return self.decide_for(worker, integration_ref, input);
        };
        let (integration, decided_at) = (write.integration.clone(), write.decided_at);
        let failures = self.history.failures;
        if self.unlucky(failures) {
            // No response: it takes effect, or does so later, or never. The client asks again, or gives up.
            match self.random.random_range(0..3) {
                0 => {
                    self.write(write);
                }
                1 => {
                    let at = self.now + self.random.random_range(0..LATE);
                    self.at(at, Happening::Late(Box::new(write)));
                    return Some(0);
                }
                _ => {}
            }
            return self.again(worker, integration_ref, input);
        }
        if !self.write(write) {
            return self.again(worker, integration_ref, input);
        }
        self.trace(&("applied", id));
        if let Input::Export { run, .. } = &input {
            worker.has_begun |= matches!(**run, ExportInput::Begin { .. });
            worker.has_planned |= matches!(**run, ExportInput::Plan { .. });
        }
        let mut integration = integration;
        integration.version += 1;
        self.applied(worker, integration, Verdict::Write, decided_at);
        Some(0)
    }

    fn again(
        &mut self,
        worker: &mut Worker,
        integration_ref: IntegrationRef,
        input: Input,
    ) -> Option<u64> {
        worker.tries += 1;
        if worker.tries < MAX_TRIES {
            worker.todo = Some(Do::Apply(integration_ref, Box::new(input)));
            return None;
        }
        Some(0)
    }

    fn decide_for(
        &mut self,
        worker: &mut Worker,
        integration_ref: IntegrationRef,
        mut input: Input,
    ) -> Option<u64> {
        let found = self.integration.clone();
        let Some(found) = found.filter(|it| it.generation == integration_ref.generation) else {
            worker.seen = Some(Seen::Applied(None));
            return Some(0);
        };
        if self.mutant == Some(Mutant::EarlierAttemptForgotten)
            && let Input::Export { run, .. } = &mut input
            && let ExportInput::Fail { is_absent, .. } = &mut **run
        {
            *is_absent = worker.is_refused;
        }
        let decided_at = Millis(self.now.saturating_add_signed(worker.skew));
        let change = self.decide(&found, &input, decided_at);
        let Some(next) = change.next else {
            self.applied(worker, found, change.verdict, decided_at);
            return Some(0);
        };
        worker.write = Some(Write {
            integration: next,
            before: found,
            input: input.clone(),
            decided_at,
        });
        worker.todo = Some(Do::Apply(integration_ref, Box::new(input)));
        None
    }

    fn applied(
        &mut self,
        worker: &mut Worker,
        mut integration: Integration,
        verdict: Verdict,
        decided_at: Millis,
    ) {
        worker.last = Some(integration.clone());
        self.hide_plan(worker, Some(&mut integration));
        worker.seen = Some(Seen::Applied(Some(Box::new(Applied {
            integration,
            verdict,
            decided_at,
            actions: Vec::new(),
        }))));
    }
}
