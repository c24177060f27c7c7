//! The simulated cloud of exports: time, the event log, ticks and tasks, the API's calls.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use domain::export::Export;
use domain::integration::{Access, Bucket, Integration, IntegrationType, Status, Target};
use domain::lifecycle::{self, Input, Rules};
use domain::log::segment::{self, NewEvent, Segment};
use domain::time::Millis;
use rand::rngs::Xoshiro256PlusPlus as Random;
use rand::{RngExt, SeedableRng};
use serde_json::value::RawValue;
use ulid::Ulid;

use super::history::{Call, History, TENANT, filter};
use super::ledger::Ledger;
use super::mutant::Mutant;
use super::report::Report;
use super::work::{Happening, Task, Worker};
use crate::history::{BEGIN, SEAL};

/// How many things may happen in a history.
const MOST: usize = 300_000;
/// How often a task is received.
const RECEIVES: u32 = 5;

/// All there is.
pub struct World {
    pub history: History,
    pub mutant: Option<Mutant>,
    trace: Option<fn(&str)>,
    pub rules: Rules,
    pub now: u64,
    pub random: Random,
    agenda: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    pub log: BTreeMap<Ulid, (Segment, Vec<u32>)>,
    pub integration: Option<Integration>,
    pub workers: BTreeMap<u64, Worker>,
    next_event: u32,
    pub ledger: Ledger,
    pub report: Report,
}

impl World {
    pub fn new(history: History, mutant: Option<Mutant>, trace: Option<fn(&str)>) -> World {
        let mut world = World {
            mutant,
            trace,
            rules: Rules {
                seal: Duration::from_millis(SEAL),
                give_up: Duration::from_secs(5 * 24 * 3600),
                retention: Duration::from_secs(90 * 24 * 3600),
            },
            now: 0,
            random: Random::seed_from_u64(history.seed ^ 0x5eed),
            agenda: BTreeMap::new(),
            sequence: 0,
            log: BTreeMap::new(),
            integration: None,
            workers: BTreeMap::new(),
            next_event: 0,
            ledger: Ledger::default(),
            report: Report::default(),
            history,
        };
        for (at, count) in world.history.publications.clone() {
            world.at(at, Happening::Publish(count));
        }
        for (at, call) in world.history.calls.clone() {
            world.at(at, Happening::Call(call));
        }
        world.at(world.history.end, Happening::Call(Call::Start));
        for at in world.history.ticks.clone() {
            world.at(at, Happening::Tick);
        }
        world
    }

    /// Lets everything happen, until nothing is left or a promise is broken.
    pub fn run(&mut self) {
        for _ in 0..MOST {
            let Some(((now, _), happening)) = self.agenda.pop_first() else {
                return;
            };
            if self.ledger.broken.is_some() {
                return;
            }
            self.now = now;
            self.happen(happening);
        }
        self.ledger.break_promise("it does not end".to_owned());
    }

    /// The name of an event.
    pub fn name(event: u32) -> &'static str {
        ["order.created", "return.processed", "order.opened"][event as usize % 3]
    }

    /// Reports what happens, if a trace is wanted.
    pub fn trace(&self, what: &impl Debug) {
        if let Some(trace) = self.trace {
            let millis = self.now.saturating_sub(BEGIN);
            let what = format!("{what:?}");
            let what: String = what.chars().take(600).collect();
            trace(&format!("{}.{:03} {what}", millis / 1000, millis % 1000));
        }
    }

    pub fn at(&mut self, at: u64, happening: Happening) {
        self.sequence += 1;
        let at = at.max(self.now);
        self.agenda.insert((at, self.sequence), happening);
    }

    /// Whether something goes wrong that is as likely as this.
    pub fn unlucky(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.now < self.history.end && self.random.random_bool(chance)
    }

    /// How long half a request takes.
    pub fn latency(&mut self) -> u64 {
        self.random.random_range(1..=200)
    }

    pub fn ulid(&mut self, now: Millis) -> Ulid {
        Ulid::from_parts(now.0, self.random.random())
    }

    /// A clock, as far from the true one as clocks may be: less than a quarter of a seal from each other.
    pub fn skew(&mut self) -> i64 {
        let most = SEAL as i64 / 8;
        match self.history.is_skewed {
            true => self.random.random_range(1 - most..most),
            false => 0,
        }
    }

    fn local(&mut self) -> Millis {
        let skew = self.skew();
        Millis(self.now.saturating_add_signed(skew))
    }

    /// Hands a task out again, if it may be.
    pub fn hand_back(&mut self, task: Task, pause: u64) {
        if task.receives < RECEIVES {
            self.at(self.now + pause, Happening::Receive(task));
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Publish(count) => self.publish(count),
            Happening::Appear(segment, events) => {
                self.report.segments += 1;
                self.trace(&("appears", segment.id, &events));
                self.log.insert(segment.id, (segment, events));
            }
            Happening::Tick => self.tick(),
            Happening::Receive(task) => self.receive(task),
            Happening::Call(call) => {
                self.trace(&call);
                self.call(call);
            }
            Happening::Effect(id) => self.effect(id),
            Happening::Go(id) => self.go(id),
            Happening::Late(write) => {
                self.trace(&"a late write");
                self.write(*write);
            }
            Happening::Store(generation, plan, body) => self.put(generation, &plan, body),
            Happening::Remove(bucket, key) => {
                if let Some(object) = self.ledger.objects.get_mut(&(bucket, key)) {
                    object.is_removed = true;
                }
            }
        }
    }

    /// Ingest appends so many events, and sometimes one again that it has appended before.
    fn publish(&mut self, count: u32) {
        let local = self.local();
        let mut events: Vec<u32> = (self.next_event..self.next_event + count).collect();
        let repeated_events = self.history.repeated_events;
        let first = self.next_event.saturating_sub(8);
        if first < self.next_event && self.random.random_bool(repeated_events) {
            let repeated = self.random.random_range(first..self.next_event);
            if self.is_recent(repeated, local) {
                events.push(repeated);
            }
        }
        self.next_event += count;
        let id = self.ulid(local);
        let at = self.now + self.random.random_range(0..SEAL);
        if let Some(segment) = build(&events, id) {
            self.at(at, Happening::Appear(segment, events));
        }
    }

    /// Whether an event may be repeated: it has appeared within the last 15 minutes.
    fn is_recent(&self, event: u32, now: Millis) -> bool {
        let from = now.before(Duration::from_secs(15 * 60)).first_id();
        let mut recent = self.log.range(from..);
        recent.any(|(_, (_, events))| events.contains(&event))
    }

    /// Sends a task for the integration if it runs. Some come late, twice, or both.
    fn tick(&mut self) {
        if !self
            .integration
            .as_ref()
            .is_some_and(Integration::is_running)
        {
            return;
        }
        let (sent_at, repeats) = (self.local(), self.history.repeats);
        let task = Task {
            sent_at,
            receives: 0,
        };
        let copies = if self.unlucky(repeats) { 2 } else { 1 };
        for _ in 0..copies {
            let late = match self.unlucky(repeats) {
                true => self.random.random_range(0..100_000),
                false => self.latency(),
            };
            self.at(self.now + late, Happening::Receive(task));
        }
    }

    fn receive(&mut self, task: Task) {
        let skew = self.skew();
        let task = Task {
            receives: task.receives + 1,
            ..task
        };
        self.sequence += 1;
        let id = self.sequence;
        let worker = self.begin(task, skew);
        self.trace(&("run", id, worker.task));
        self.report.runs += 1;
        self.workers.insert(id, worker);
        let at = self.now + self.latency();
        self.at(at, Happening::Effect(id));
    }

    fn call(&mut self, call: Call) {
        let local = self.local();
        match (call, self.integration.clone()) {
            (Call::Register(ago, length), None) => self.register(local, ago, length),
            (Call::Register(..), Some(_)) | (_, None) => {}
            (Call::Start, Some(found)) => self.switch(&found, &Input::Start, local),
            (Call::Stop, Some(found)) => {
                let reason = "Stopped via API.".to_owned();
                self.switch(&found, &Input::Stop { reason }, local);
            }
            (Call::Change(index, name), Some(mut found)) => {
                if !found.is_running()
                    && let Target::S3 { bucket, .. } = &mut found.target
                {
                    bucket.bucket = name.to_string();
                    bucket.key_prefix = Some(format!("prefix-{name}"));
                    found.filter = filter(index);
                    found.version += 1;
                    self.integration = Some(found);
                }
            }
            (Call::Delete, Some(found)) => {
                self.integration = None;
                self.ledger.delete(found.generation, self.now);
            }
        }
    }

    fn switch(&mut self, found: &Integration, input: &Input, local: Millis) {
        if let Some(next) = lifecycle::apply(found, input, local, &self.rules).next {
            self.store(found, next, input);
        }
    }

    fn register(&mut self, local: Millis, ago: u64, length: Option<u64>) {
        let starts_at = Millis(local.0 - ago);
        let integration = Integration {
            tenant: TENANT.to_owned(),
            id: "sap-1".to_owned(),
            generation: self.ulid(local),
            version: 1,
            integration_type: match length {
                Some(_) => IntegrationType::Temporary,
                None => IntegrationType::Permanent,
            },
            target: Target::S3 {
                bucket: Bucket {
                    access: Access::Role {
                        role_arn: "r".to_owned(),
                        external_id: "e".to_owned(),
                    },
                    aws_region: "eu-west-1".to_owned(),
                    bucket: "0".to_owned(),
                    key_prefix: None,
                },
                export: Box::new(Export::registered(starts_at)),
            },
            starts_at,
            ends_at: length.map(|length| Millis(starts_at.0 + length)),
            filter: None,
            status: Status::Running,
            stopped_at: None,
            is_finished: false,
        };
        self.ledger.register(&integration);
        self.integration = Some(integration);
    }
}

/// A segment of these events.
fn build(events: &[u32], id: Ulid) -> Option<Segment> {
    let payloads: Vec<(String, Box<RawValue>)> = events
        .iter()
        .filter_map(|event| {
            let text = event.to_string();
            Some((text.clone(), RawValue::from_string(text).ok()?))
        })
        .collect();
    let events = payloads.iter().zip(events);
    let events = events.map(|((id, payload), event)| NewEvent {
        id,
        name: World::name(*event),
        payload,
    });
    let built = segment::build(TENANT, events.collect(), || id).ok()?;
    built.into_iter().next().map(|built| built.segment)
}
