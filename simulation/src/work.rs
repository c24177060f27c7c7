//! The work of a history: what is due, the workers, and their requests.

use std::collections::{BTreeSet, VecDeque};

use domain::integration::Integration;
use domain::lifecycle::{Applied, Change, Input, StepRequest};
use domain::log::position::EventRef;
use domain::replay::sender::Sender;
use domain::run::Posting;
use domain::sending::{Do, Machine, Seen};
use domain::stream::waiting::StoredWaiting;
use domain::tasks::Run;
use domain::time::Millis;
use ulid::Ulid;

use crate::history::Call;

/// Which integration, and which generation of it.
pub type IntegrationRef = (usize, Ulid);

/// What travels in the queues.
#[derive(Clone, Debug)]
pub enum Body {
    /// Events for ingest.
    Events(Vec<u32>),
    /// Live events for a receiver.
    Run(IntegrationRef, Box<Run>),
    /// A step of replay.
    Step(IntegrationRef, u64),
}

/// Something that is due.
#[derive(Clone, Debug)]
pub enum Happening {
    Publish(u32),
    PublishGood,
    Call(Call),
    Receive(u64),
    /// A function takes up to ten messages of a queue of this kind.
    Poll(usize),
    /// The next request of a worker that does one after another.
    Go(u64),
    /// A request of a worker that has several under way.
    Work(u64, Op),
    /// A worker looks at the time.
    Tick(u64),
    /// A write of a worker that is gone.
    Late(Box<Write>),
    /// An append that has timed out takes effect.
    Appears(Ulid, Vec<u32>),
    /// A receiver has ended a request.
    Free(usize, Ulid, u64, u64),
    /// The API answers that an integration is stopped.
    StopAnswered(IntegrationRef),
    /// The API answers that an integration is deleted.
    DeleteAnswered(Ulid),
    Sweep,
    /// A check whether anything waits for too long.
    Look,
    /// A caller looks at the fate of events.
    View,
    Purge(Ulid),
}

/// A worker under way.
#[derive(Clone, Debug)]
pub struct Process {
    pub role: Role,
    pub ops: VecDeque<Op>,
    pub message: Option<u64>,
    /// The batch that it is in: what is done with is deleted from the queue once all of it has ended, and all of it dies at once.
    pub batch: Option<u64>,
    pub skew: i64,
    pub began: u64,
    /// When its time limit ends it.
    pub dies_at: u64,
    /// The integration as it read it last, and when it asked for that.
    pub fresh: Option<(Box<Integration>, u64)>,
    /// When it looks at the time next.
    pub tick_at: Option<u64>,
    /// Whether its message stays in the queue whatever it says: a bug.
    pub is_handed_back: bool,
}

/// The tasks of one invocation.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The workers that have not ended.
    pub left: BTreeSet<u64>,
    /// The messages that are done with.
    pub done: Vec<u64>,
}

#[derive(Clone, Debug)]
pub enum Role {
    Api,
    Ingest,
    Deliver(IntegrationRef, Box<Posting>),
    Replay(IntegrationRef, Box<Sender>),
}

impl Role {
    /// The machine of a worker that sends events.
    pub fn machine(&mut self) -> Option<&mut dyn Machine> {
        match self {
            Role::Deliver(_, posting) => Some(&mut **posting),
            Role::Replay(_, sender) => Some(&mut **sender),
            Role::Api | Role::Ingest => None,
        }
    }
}

/// A conditional write under way.
#[derive(Clone, Debug)]
pub struct Write {
    pub who: usize,
    pub integration: Integration,
    pub read_version: u64,
    pub input: Input,
    pub decided_at: Millis,
}

/// A request of a worker.
#[derive(Clone, Debug)]
pub enum Op {
    /// Register an integration.
    Register(usize, u64, Option<u64>),
    /// Find an integration, and apply an input to it.
    Call(usize, Input),
    /// Read an integration and decide.
    Apply(IntegrationRef, Input),
    /// Write what was decided.
    Write(IntegrationRef, Box<Write>, Box<Change>),
    /// Learn what became of it.
    Applied(IntegrationRef, Box<Applied>, Input, Option<StepRequest>),
    /// Append events to the event log.
    Append(Vec<u32>, u32),
    /// Learn whether the append was confirmed in time.
    Confirm(Vec<u32>, Ulid, u32),
    /// Read the integrations, and send what is live.
    Route(Vec<u32>, Ulid),
    /// The events are taken in.
    Ingested(Vec<u32>, Ulid),
    /// Read the integration, if it was not read a moment ago, and make an attempt.
    Attempt(u64, EventRef),
    /// The attempt itself, with the integration as it was read, if it was.
    Request(u64, EventRef, Option<Box<Integration>>),
    /// Carry out an order.
    Carry(Do),
    /// Learn what came of it.
    Answer(Box<Seen>),
    /// Send a message.
    Send(Body, u64),
    /// Store waiting events too late, and say so or not: a bug.
    LatePut(Ulid, Vec<StoredWaiting>, bool),
}

impl Process {
    pub fn api(op: Op, skew: i64, now: u64, dies_at: u64) -> Process {
        Process {
            role: Role::Api,
            ops: VecDeque::from([op]),
            message: None,
            batch: None,
            skew,
            began: now,
            dies_at,
            fresh: None,
            tick_at: None,
            is_handed_back: false,
        }
    }
}
