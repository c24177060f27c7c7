//! The work of a history: what is due, the workers, and their requests.

use std::collections::VecDeque;
use std::time::Duration;

use domain::attempt;
use domain::integration::Integration;
use domain::lifecycle::{Applied, Change, Input, Rules, StepRequest};
use domain::log::position::EventRef;
use domain::receiver::outcome::Outcome;
use domain::replay::step::{Seen, Step};
use domain::stream::chunk::{Chunk, Parked};
use domain::tasks::Dispatch;
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
    /// An event for a receiver.
    Dispatch(IntegrationRef, Dispatch),
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
    Go(u64),
    /// A write of a worker that is gone.
    Late(Box<Write>),
    /// An append that has timed out takes effect.
    Appears(Ulid, Vec<u32>),
    Sweep,
    /// A check whether anything waits for too long.
    Look,
    Purge(Ulid),
}

/// A worker under way.
#[derive(Clone, Debug)]
pub struct Process {
    pub role: Role,
    pub ops: VecDeque<Op>,
    pub message: Option<u64>,
    pub skew: i64,
    /// When its time limit ends it.
    pub dies_at: u64,
}

#[derive(Clone, Debug)]
pub enum Role {
    Api,
    Ingest,
    Deliver,
    Replay(IntegrationRef, Box<Step>, Option<Box<Seen>>),
}

/// A conditional write under way.
#[derive(Clone, Debug)]
pub struct Write {
    pub who: usize,
    pub integration: Integration,
    pub read_version: u64,
    pub chunk: Option<Chunk>,
    pub input: Input,
    pub decided_at: Millis,
}

/// What a worker does next: one request.
#[derive(Clone, Debug)]
pub enum Op {
    /// Register an integration.
    Register(usize, u64, Option<u64>),
    /// Find an integration, and apply an input to it.
    Call(usize, Input),
    /// Read an integration and decide.
    Apply(IntegrationRef, Input, Option<Chunk>),
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
    /// Read the integration, and attempt or not.
    Admit(IntegrationRef, Dispatch, Option<Box<Integration>>),
    /// Judge what came of the attempt.
    Judge(Box<Integration>, Dispatch, Outcome),
    /// Carry out an effect of delivery.
    Effect(IntegrationRef, Dispatch, attempt::Effect),
    /// Send a message.
    Send(Body, u64),
    /// Keep a parked event.
    Park(IntegrationRef, Parked),
    /// Forget a parked event.
    Unpark(IntegrationRef, EventRef, Ulid),
}

impl Process {
    pub fn of(
        body: Body,
        message: Option<u64>,
        skew: i64,
        dies_at: u64,
        local: Millis,
        holder: Ulid,
        rules: Rules,
    ) -> Process {
        let (role, ops) = match body {
            Body::Events(ids) => (Role::Ingest, vec![Op::Append(ids, 5)]),
            Body::Dispatch(integration_ref, dispatch) => (
                Role::Deliver,
                vec![Op::Admit(integration_ref, dispatch, None)],
            ),
            Body::Step(integration_ref, turn) => {
                let over = local.after(Duration::from_secs(120));
                let step = Step::new(turn, holder, local, over, rules);
                let seen = Some(Box::new(Seen::Nothing));
                (
                    Role::Replay(integration_ref, Box::new(step), seen),
                    Vec::new(),
                )
            }
        };
        Process {
            role,
            ops: ops.into(),
            message,
            skew,
            dies_at,
        }
    }

    pub fn api(op: Op, skew: i64, dies_at: u64) -> Process {
        Process {
            role: Role::Api,
            ops: VecDeque::from([op]),
            message: None,
            skew,
            dies_at,
        }
    }
}
