//! The simulated cloud: time, the tables, the queues, and the workers that are under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use domain::fate::{PastFilter, Refused};
use domain::integration::{Callback, Integration, IntegrationType, Status, Target};
use domain::lifecycle::Rules;
use domain::log::position::EventRef;
use domain::stream::Stream;
use domain::stream::waiting::{Waiting, WaitingKey};
use domain::time::Millis;
use rand::rngs::Xoshiro256PlusPlus as Random;
use rand::{RngExt, SeedableRng};
use ulid::Ulid;

use crate::Report;
use crate::history::{BEGIN, Call, GIVE_UP, History, INTEGRATIONS, MINUTE, SEAL, filter};
use crate::ledger::Ledger;
use crate::mutant::Mutant;
use crate::work::{Batch, Body, Happening, Process};

/// For how long after its end events go on to be published: longer than a poisonous event is tried. Receivers are up, so that
/// from then on no integration may be given up.
pub const AFTERMATH: u64 = GIVE_UP + 100 * MINUTE;
/// How long a history continues then, so that all work can end.
pub const REST: u64 = 60 * MINUTE;
/// The URL of this number.
pub fn url(index: usize) -> String {
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
    /// Segments of the event log, by segment: the ids of their events.
    pub log: BTreeMap<Ulid, Vec<u32>>,
    pub integrations: Vec<Option<Integration>>,
    /// Waiting events, by generation and name.
    pub waiting: BTreeMap<(Ulid, WaitingKey), Waiting>,
    /// Notes of rejected events, by generation.
    pub refused: Vec<(Ulid, Refused)>,
    /// Filters that were changed, by generation.
    pub past_filters: Vec<(Ulid, PastFilter)>,
    /// The requests that each receiver is at, by worker and attempt.
    pub busy: BTreeMap<usize, BTreeSet<(u64, u64)>>,
    /// The highest event that each generation's receiver has taken.
    pub highest: BTreeMap<Ulid, EventRef>,
    pub messages: BTreeMap<u64, Body>,
    pub processes: BTreeMap<u64, Process>,
    /// Messages that can be received: runs, and steps.
    pub ready: [VecDeque<u64>; 2],
    pub batches: BTreeMap<u64, Batch>,
    pub sweeps: BTreeSet<u64>,
    pub next_event: u32,
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
            waiting: BTreeMap::new(),
            refused: Vec::new(),
            past_filters: Vec::new(),
            busy: BTreeMap::new(),
            highest: BTreeMap::new(),
            messages: BTreeMap::new(),
            processes: BTreeMap::new(),
            ready: Default::default(),
            batches: BTreeMap::new(),
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
        world.draw_views();
        world
    }

    /// Reports what happens, if a trace is wanted.
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

    /// A new number.
    pub fn number(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Begins a worker; its number.
    pub fn spawn(&mut self, process: Process) -> u64 {
        let id = self.number();
        self.processes.insert(id, process);
        let at = self.now + self.latency();
        self.at(at, Happening::Go(id));
        id
    }

    /// The id of the event there.
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
                    ..Callback::default()
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
}
