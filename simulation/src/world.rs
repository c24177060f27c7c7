//! The simulated cloud: time, the tables, the queues, and the workers that are under way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::integration::{Callback, Integration, IntegrationType, Status, Target};
use domain::lifecycle::{Input, Rules};
use domain::log::position::EventRef;
use domain::stream::Stream;
use domain::stream::chunk::{Chunk, Parked};
use domain::tasks::Dispatch;
use domain::time::Millis;
use rand::rngs::Xoshiro256PlusPlus as Random;
use rand::{RngExt, SeedableRng};
use ulid::Ulid;

use crate::Report;
use crate::check::Ledger;
use crate::history::{BEGIN, Call, GIVE_UP, History, INTEGRATIONS, MINUTE, SEAL, filter};
use crate::mutant::Mutant;
use crate::process::{Op, Process, Write};

/// For how long after its end events go on to be published: longer than a poisonous event is tried. Receivers are up, so that
/// from then on no integration may be given up.
const AFTERMATH: u64 = GIVE_UP + 100 * MINUTE;
/// How long a history goes on then, so that all work can end.
const REST: u64 = 60 * MINUTE;
/// From this one on, events are good.
const FIRST_GOOD: u32 = 1_000;

/// Sorts before every event of the event log.
const FIRST: EventRef = EventRef {
    segment: Ulid(0),
    index: 0,
    shard: 0,
};

/// Which integration, and which generation of it.
pub type Owner = (usize, Ulid);

/// What travels in the queues.
#[derive(Clone, Debug)]
pub enum Body {
    /// Events for ingest.
    Events(Vec<u32>),
    /// An event for a receiver.
    Dispatch(Owner, Dispatch),
    /// A step of replay.
    Step(Owner, u64),
}

/// Something that is due.
#[derive(Clone, Debug)]
pub enum Happening {
    Publish(u32),
    PublishGood,
    Call(Call),
    Receive(u64),
    Go(u64),
    /// A write of a worker that is gone.
    Late(Box<Write>),
    /// An append that nobody waits for any more takes effect.
    Appears(Ulid, Vec<u32>),
    Sweep,
    /// A check whether anything waits for too long.
    Look,
    Purge(Ulid),
}

/// The URL of this number.
fn url(index: usize) -> String {
    format!("https://erp.example/{index}")
}

/// The number of a URL.
pub fn url_index(url: &str) -> usize {
    usize::from(url.ends_with('1'))
}

/// All there is.
pub struct World {
    pub history: History,
    pub mutant: Option<Mutant>,
    trace: Option<fn(&str)>,
    pub rules: Rules,
    pub now: u64,
    pub random: Random,
    pub agenda: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    /// Segments of the event log, by place: the ids of their events.
    pub log: BTreeMap<Ulid, Vec<u32>>,
    pub integrations: Vec<Option<Integration>>,
    pub parked: BTreeMap<(Ulid, EventRef), Parked>,
    pub chunks: BTreeMap<(Ulid, Ulid), Chunk>,
    pub messages: BTreeMap<u64, Body>,
    pub processes: BTreeMap<u64, Process>,
    pub sweeps: BTreeSet<u64>,
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
                give_up: Duration::from_millis(GIVE_UP),
                retention: Duration::from_secs(90 * 24 * 3600),
            },
            now: BEGIN,
            random: Random::seed_from_u64(history.seed ^ 0x5eed),
            agenda: BTreeMap::new(),
            sequence: 0,
            log: BTreeMap::new(),
            integrations: vec![None; INTEGRATIONS],
            parked: BTreeMap::new(),
            chunks: BTreeMap::new(),
            messages: BTreeMap::new(),
            processes: BTreeMap::new(),
            sweeps: BTreeSet::new(),
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
        for who in 0..INTEGRATIONS {
            world.at(world.history.end, Happening::Call(Call::Start(who)));
        }
        world.at(BEGIN + MINUTE, Happening::Look);
        for at in (0..AFTERMATH).step_by(2 * MINUTE as usize) {
            world.at(world.history.end + at, Happening::PublishGood);
        }
        world
    }

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

    /// Tells what goes on, if anybody wants to know.
    pub fn trace(&self, who: u64, what: &impl std::fmt::Debug) {
        if let Some(trace) = self.trace {
            let millis = self.now - BEGIN;
            trace(&format!(
                "{}.{:03} {who} {what:?}",
                millis / 1000,
                millis % 1000
            ));
        }
    }

    fn happen(&mut self, happening: Happening) {
        if !matches!(happening, Happening::Go(_)) {
            self.trace(0, &happening);
        }
        match happening {
            Happening::Publish(count) => {
                let ids = (self.next_event..self.next_event + count).collect();
                self.next_event += count;
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
            Happening::Go(process) => self.go(process),
            Happening::Late(write) => {
                self.write(*write);
            }
            Happening::Appears(place, ids) => {
                self.log.insert(place, ids);
            }
            Happening::Sweep => self.sweep(),
            Happening::Look => self.look(),
            Happening::Purge(generation) => {
                self.parked.retain(|(owner, _), _| *owner != generation);
                self.chunks.retain(|(owner, _), _| *owner != generation);
            }
        }
    }

    pub fn at(&mut self, at: u64, happening: Happening) {
        self.sequence += 1;
        self.agenda
            .insert((at.max(self.now), self.sequence), happening);
    }

    /// Whether something goes wrong that is as likely as this.
    pub fn unlucky(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.now < self.history.end && self.random.random_bool(chance)
    }

    /// How long a request takes: some milliseconds, or far too long.
    pub fn latency(&mut self) -> u64 {
        let slowness = self.history.slowness;
        match self.unlucky(slowness) {
            true => self.random.random_range(1..SEAL * 3 / 2),
            false => self.random.random_range(1..=50),
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
            let of = (integration.generation, FIRST);
            let next = self.parked.range(of..).next().map(|(key, _)| *key);
            let forgotten = next
                .map(|(owner, event)| (owner, event, self.id_of(&event)))
                .filter(|(owner, ..)| *owner == of.0)
                .filter(|_| is_sound && stream.duty.wake_at.is_none());
            self.ledger
                .parked_unheard(who, of.0, forgotten.map(|(_, at, id)| (at, id)));
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

    /// A new worker's clock, as far from the true one as clocks may be: less than a quarter of a seal from each other.
    pub fn skew(&mut self) -> i64 {
        match self.history.is_skewed {
            true => self
                .random
                .random_range(-(SEAL as i64) / 8 + 1..SEAL as i64 / 8),
            false => 0,
        }
    }

    pub fn ulid(&mut self, now: Millis) -> Ulid {
        Ulid::from_parts(now.0, self.random.random())
    }

    /// Sends a message, to be received after `delay` milliseconds.
    pub fn send(&mut self, body: Body, delay: u64) {
        self.sequence += 1;
        let id = self.sequence;
        self.messages.insert(id, body);
        let at = self.now + delay + self.latency();
        self.at(at, Happening::Receive(id));
    }

    fn receive(&mut self, message: u64) {
        let Some(body) = self.messages.get(&message).cloned() else {
            return;
        };
        let (visibility, limit, repeats) = match body {
            Body::Events(_) => (180_000, 30_000, self.history.repeats),
            Body::Dispatch(..) => (360_000, 60_000, self.history.repeats),
            Body::Step(..) => (720_000, 120_000, self.history.step_repeats),
        };
        if self.unlucky(repeats) {
            // Handed out a second time, whatever becomes of the first.
            self.begin(body.clone(), None, limit);
        }
        self.at(self.now + visibility, Happening::Receive(message));
        self.begin(body, Some(message), limit);
    }

    fn begin(&mut self, body: Body, message: Option<u64>, limit: u64) {
        let skew = self.skew();
        let local = Millis(self.now.saturating_add_signed(skew));
        let holder = self.ulid(local);
        let process = Process::of(
            body,
            message,
            skew,
            self.now + limit,
            local,
            holder,
            self.rules,
        );
        self.spawn(process);
    }

    pub fn spawn(&mut self, process: Process) {
        self.sequence += 1;
        let id = self.sequence;
        self.processes.insert(id, process);
        let at = self.now + self.latency();
        self.at(at, Happening::Go(id));
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
                self.update(who, |integration| integration.filter = filter(index));
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
            Call::Delete(who) => {
                if let Some(gone) = self.integrations[who].take() {
                    self.ledger.delete(gone.generation);
                    self.at(self.now + 15 * MINUTE, Happening::Purge(gone.generation));
                }
                return;
            }
        };
        self.spawn(Process::api(op, skew, self.now + MINUTE));
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

    /// The id of the event that stands there.
    pub fn id_of(&self, event: &EventRef) -> u32 {
        self.log[&event.segment][event.index as usize]
    }

    /// Registers an integration, unless there is one.
    pub fn register(&mut self, who: usize, ago: u64, length: Option<u64>, local: Millis) {
        if self.integrations[who].is_some() {
            return;
        }
        let starts_at = Millis(local.0 - ago);
        let ends_at = length.map(|length| Millis(starts_at.0 + length));
        let generation = self.ulid(local);
        self.integrations[who] = Some(Integration {
            tenant: "acme".to_owned(),
            id: who.to_string(),
            generation,
            version: 1,
            integration_type: match ends_at {
                Some(_) => IntegrationType::Temporary,
                None => IntegrationType::Permanent,
            },
            target: Target::Webhook {
                callback: Callback {
                    callback_url: url(0),
                    api_key: None,
                },
                stream: Box::new(Stream::registered(local, starts_at, ends_at)),
            },
            starts_at,
            ends_at,
            filter: filter(who),
            status: Status::Running,
            stopped_at: None,
            is_finished: false,
        });
        let (begins, filter) = (self.now, filter(who));
        self.ledger
            .register(who, generation, starts_at, ends_at, begins, filter);
        self.look_after(local);
        self.send(Body::Step((who, generation), 0), 0);
    }

    /// Sees to it that the sweep comes when something is overdue.
    pub fn look_after(&mut self, wake_at: Millis) {
        if self.mutant == Some(Mutant::NoSweep) {
            return;
        }
        let at = wake_at
            .after(domain::stream::schedule::GRACE)
            .0
            .max(self.now)
            / MINUTE
            * MINUTE
            + MINUTE;
        if self.sweeps.insert(at) {
            self.at(at, Happening::Sweep);
        }
    }

    fn sweep(&mut self) {
        self.sweeps.remove(&self.now);
        let skew = self.skew();
        let overdue =
            Millis(self.now.saturating_add_signed(skew)).before(domain::stream::schedule::GRACE);
        for who in 0..INTEGRATIONS {
            let due = self.integrations[who].as_ref().and_then(|integration| {
                let duty = integration.stream()?.duty;
                Some((integration.generation, duty.turn, duty.wake_at?))
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

    /// The name of an event: whether it passes a filter.
    pub fn name(event: u32) -> &'static str {
        match event % 3 {
            0 => "return.processed",
            _ => "order.created",
        }
    }
}
