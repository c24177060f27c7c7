//! What is under way in a history of exports: tasks, runs, writes, and what happens when.

use std::collections::VecDeque;

use domain::export::Plan;
use domain::exporting::{Do, Exporting, Seen};
use domain::integration::Integration;
use domain::lifecycle::Input;
use domain::log::segment::Segment;
use domain::time::Millis;
use ulid::Ulid;

use super::history::Call;

/// A task of the export queue.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    pub sent_at: Millis,
    /// How often it has been received before.
    pub receives: u32,
}

/// What happens at a time.
#[derive(Debug)]
pub enum Happening {
    Publish(u32),
    Appear(Segment, Vec<u32>),
    Tick,
    Receive(Task),
    Call(Call),
    /// What a worker has asked for takes effect.
    Effect(u64),
    /// A worker sees what came of it.
    Go(u64),
    /// A write that was reported as failed takes effect.
    Late(Box<Write>),
    /// S3 stores what was uploaded for this generation.
    Store(Ulid, Box<Plan>, Vec<u8>),
    /// The bucket's owner removes a file.
    Remove(String, String),
}

/// A write of the integration that was decided on.
#[derive(Debug)]
pub struct Write {
    pub integration: Integration,
    /// As it was read.
    pub before: Integration,
    pub input: Input,
    pub decided_at: Millis,
}

/// A run under way.
pub struct Worker {
    pub task: Task,
    pub run: Exporting,
    /// How far its clock is from the true one, in milliseconds.
    pub skew: i64,
    /// What it has asked for.
    pub todo: Option<Do>,
    /// What came of it; none where it failed.
    pub seen: Option<Seen>,
    /// A write between its read and its effect.
    pub write: Option<Write>,
    pub tries: u32,
    /// The rest of the page that was read.
    pub page: VecDeque<Segment>,
    pub is_granted: bool,
    /// When it began.
    pub began: u64,
    /// Since when it has not been held up.
    pub awake_since: u64,
    /// The integration as it was last seen.
    pub last: Option<Integration>,
    pub has_begun: bool,
    pub has_planned: bool,
    /// Whether its last upload was refused for certain.
    pub is_refused: bool,
    pub has_failed: bool,
}

impl Worker {
    /// The generation of the integration that it has seen.
    pub fn generation(&self) -> Ulid {
        self.last
            .as_ref()
            .map(|it| it.generation)
            .unwrap_or_default()
    }
}
