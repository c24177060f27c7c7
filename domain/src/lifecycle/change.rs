//! The result of an input: what is written, and which step of replay is requested.

use std::time::Duration;

use crate::exported::ExportedFile;
use crate::integration::Integration;
use crate::integration_log::Action;
use crate::stream::Stream;
use crate::stream::schedule::Asked;
use crate::time::Millis;

/// Whether an input changes an integration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be already: nothing is written.
    Keep,
    /// It is to be written.
    Write,
    /// The input may not do this: its turn or its lease is over, or nothing may be sent now.
    Refuse,
}

/// What comes of an input: what is written, in one transaction, and what is sent then.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Whether the integration is to be written.
    pub verdict: Verdict,
    /// The integration as it is to be written; none where it is not.
    pub next: Option<Integration>,
    /// Entries of the integration log, oldest first: action and reason.
    pub entries: Vec<(Action, String)>,
    /// The step of replay to ask for.
    pub step: Option<StepRequest>,
    /// The file that was stored, to be listed.
    pub file: Option<ExportedFile>,
}

/// A step of replay to ask for. A short cut: it is written down that it is due, and the sweep finds what was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepRequest {
    /// The turn of the task.
    pub turn: u64,
    /// When the task is to be received.
    pub delay: Duration,
}

/// An integration after an input was applied and, if need be, written.
#[derive(Clone, Debug)]
pub struct Applied {
    /// As it is now.
    pub integration: Integration,
    /// What became of the input.
    pub verdict: Verdict,
    /// When it was decided.
    pub decided_at: Millis,
    /// What its log has new entries of.
    pub actions: Vec<Action>,
}

/// A [`Change`] without the integration, which was changed in place.
#[derive(Debug)]
pub(super) struct Decided {
    pub verdict: Verdict,
    pub entries: Vec<(Action, String)>,
    pub step: Option<StepRequest>,
    pub file: Option<ExportedFile>,
}

impl Decided {
    pub fn keep() -> Decided {
        Decided::new(Verdict::Keep)
    }

    pub fn refuse() -> Decided {
        Decided::new(Verdict::Refuse)
    }

    pub fn write() -> Decided {
        Decided::new(Verdict::Write)
    }

    /// The change to `next`, which it was decided on; written only if the verdict says so.
    pub fn into_change(self, next: Integration) -> Change {
        let is_written = self.verdict == Verdict::Write;
        Change {
            verdict: self.verdict,
            next: is_written.then_some(next),
            entries: self.entries,
            step: self.step,
            file: self.file,
        }
    }

    fn new(verdict: Verdict) -> Decided {
        Decided {
            verdict,
            entries: Vec::new(),
            step: None,
            file: None,
        }
    }

    /// Whether the integration is written.
    pub fn is_written(&self) -> bool {
        self.verdict == Verdict::Write
    }

    /// The same, but the integration is written in any case.
    pub fn written(mut self) -> Decided {
        self.verdict = Verdict::Write;
        self
    }

    /// With an entry of the integration log.
    pub fn log(mut self, action: Action, reason: impl Into<String>) -> Decided {
        self.entries.push((action, reason.into()));
        self
    }

    /// With a file that was stored.
    pub fn file(mut self, file: ExportedFile) -> Decided {
        self.file = Some(file);
        self
    }

    /// With a step of replay to be sent, where `asked` says so.
    pub fn ask(mut self, stream: &Stream, asked: Asked, delay: Duration) -> Decided {
        if asked == Asked::Send {
            let turn = stream.schedule.turn;
            self.step = Some(StepRequest { turn, delay });
        }
        self
    }
}
