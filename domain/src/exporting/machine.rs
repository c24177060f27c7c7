//! The run itself: its state, what it does next, and what it makes of what it sees.

use std::mem;
use std::time::Duration;

use ulid::Ulid;

use super::building::{Added, Building, Known};
use super::types::{Do, Limits, Problem, Seen};
use crate::export::{Export, Plan, Range};
use crate::integration::{Bucket, Integration, IntegrationRef, Target};
use crate::lifecycle::{Applied, ExportInput, ExportRead, Input, Rules, Verdict, ended};
use crate::log::{EXPORT_SEALS_BEHIND, horizon};
use crate::time::Millis;

/// How much longer than the time limit of an invocation a lease is held: it outlives its holder, whose clock may be behind,
/// and ends soon after.
const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// A position at which nothing is new moves only when it is this old: an idle integration costs two reads a tick, and no write.
const IDLE: Duration = Duration::from_secs(3600);

/// A run for one integration.
///
/// It writes files until nothing is left to write, or until half of the time limit has gone by: the rest is for the file that is
/// under way. It does nothing when the integration is gone or stopped, when nothing is new, when another run holds its lease,
/// or when its task has been dealt with since it was sent.
#[derive(Debug)]
pub struct Exporting {
    pub(super) sent_at: Millis,
    /// The name under which the run holds the lease.
    pub(super) holder: Ulid,
    pub(super) limits: Limits,
    pub(super) rules: Rules,
    /// When the invocation began; its time limit counts from here.
    pub(super) began: Millis,
    /// The end of what is read.
    pub(super) horizon: Millis,
    pub(super) phase: Phase,
    /// As it was last read or written.
    pub(super) integration: Option<Integration>,
    pub(super) has_lease: bool,
    pub(super) has_failed: bool,
    /// The ids before the next file.
    pub(super) known: Option<Known>,
    /// What the next file is made in.
    pub(super) buffer: Vec<u8>,
}

/// What has been asked for.
#[derive(Debug)]
pub(super) enum Phase {
    /// The integration.
    Reading,
    /// Whether anything is new.
    Looking,
    /// The lease.
    Beginning,
    /// A segment of a file.
    Building(Box<Building>),
    /// Credentials for a file.
    Granting(Box<Ready>),
    /// The integration once more, before the upload of a plan that an earlier run stored.
    Checking(Box<Ready>),
    /// That a plan is stored.
    Planning(Box<Ready>),
    /// An upload; whether it is the only attempt so far.
    Uploading(Box<Plan>, bool),
    /// That the position moves, or that a plan is given up.
    Moving,
    /// That a failed upload is noted.
    Failing,
    /// That the lease is given back.
    Leaving,
    Over,
}

/// A file that is ready to be uploaded.
#[derive(Debug)]
pub(super) struct Ready {
    /// Whose credentials it is uploaded with.
    pub(super) bucket: Bucket,
    pub(super) plan: Box<Plan>,
    pub(super) body: Vec<u8>,
    /// What a plan that is not stored yet was made of.
    pub(super) read: Option<ExportRead>,
}

impl Exporting {
    /// The run of a task that was sent at `sent_at`, which begins at `now`, and what it does first. `holder` is a new ULID;
    /// files are made in `buffer`.
    pub fn begin(
        sent_at: Millis,
        holder: Ulid,
        now: Millis,
        limits: Limits,
        rules: Rules,
        buffer: Vec<u8>,
    ) -> (Exporting, Do) {
        let run = Exporting {
            sent_at,
            holder,
            limits,
            rules,
            began: now,
            horizon: now,
            phase: Phase::Reading,
            integration: None,
            has_lease: false,
            has_failed: false,
            known: None,
            buffer,
        };
        (run, Do::Get)
    }

    /// Whether the run was given the lease.
    pub fn has_had_lease(&self) -> bool {
        self.has_lease
    }

    /// How far files are behind `now` ([`Export::lag`]) where the run was given the lease.
    pub fn lag(&self, now: Millis) -> Option<Duration> {
        let (.., export) = self.held().filter(|_| self.has_lease)?;
        export.lag(now)
    }

    /// The memory in which files were made, once the run is over.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// What to do next after this was seen at `now`; none when the run is over. `id` is a new ULID.
    pub fn seen(&mut self, seen: Seen, now: Millis, id: Ulid) -> Option<Do> {
        match (mem::replace(&mut self.phase, Phase::Over), seen) {
            (Phase::Reading, Seen::Integration(found)) => self.look(*found?, now),
            (Phase::Looking, Seen::HasAny(has_any)) => match has_any {
                true => self.take_lease(now),
                false => None,
            },
            (Phase::Beginning, Seen::Applied(applied)) => {
                self.has_lease = self.note(applied);
                match self.has_lease {
                    true => self.write_file(now),
                    false => None,
                }
            }
            (Phase::Building(mut building), Seen::Segment(segment)) => {
                match building.add(segment, now) {
                    Ok(Added::Next(todo)) => self.wait(Phase::Building(building), todo),
                    Ok(Added::Complete(until)) => self.complete(*building, until, now, id),
                    Err(error) => self.report(Problem::Segment(error)),
                }
            }
            (Phase::Granting(ready), Seen::Granted) => self.granted(ready),
            (Phase::Planning(ready), Seen::Applied(applied)) => match self.note(applied) {
                true => self.upload(ready, true, now),
                false => self.leave(),
            },
            (Phase::Checking(ready), Seen::Integration(found)) => self.check(ready, found, now),
            (Phase::Uploading(plan, is_only_attempt), Seen::Uploaded { refusal, buffer }) => {
                self.buffer = buffer;
                self.uploaded(*plan, refusal, is_only_attempt)
            }
            (Phase::Moving, Seen::Applied(applied)) => match self.note(applied) {
                true => self.write_file(now),
                false => self.leave(),
            },
            (Phase::Failing, Seen::Applied(applied)) => {
                self.note(applied);
                self.leave()
            }
            (Phase::Leaving, Seen::Applied(applied)) => {
                self.note(applied);
                None
            }
            (phase, seen) => {
                debug_assert!(false, "{phase:?} has not asked for {seen:?}");
                self.failed()
            }
        }
    }

    /// What was to be done failed for a reason of ours; whether it took effect is not known. Returns what is still to be done: a
    /// run that has the lease gives it back.
    pub fn failed(&mut self) -> Option<Do> {
        let is_leaving = matches!(self.phase, Phase::Leaving);
        self.has_failed = true;
        self.phase = Phase::Over;
        match self.has_lease && !is_leaving {
            true => self.leave(),
            false => None,
        }
    }

    /// Looks whether a run would find something to do.
    fn look(&mut self, integration: Integration, now: Millis) -> Option<Do> {
        // Set once: what comes while this run is at work is the next tick's, or each file would be followed by a small one.
        self.horizon = horizon(now, self.rules.seal, EXPORT_SEALS_BEHIND);
        let integration = self.integration.insert(integration);
        let (_, export) = target(integration)?;
        if !integration.is_running() || export.has_answered(self.sent_at) {
            return None;
        }
        let oldest = self.rules.oldest(now);
        if export.plan.is_some() || ended(integration, oldest).is_some() {
            return self.take_lease(now);
        }
        let Range { from, until, .. } =
            export.next_range(integration.ends_at, self.horizon, oldest)?;
        if is_old(from, now) {
            return self.take_lease(now);
        }
        self.wait(Phase::Looking, Do::HasAny { from, until })
    }

    fn take_lease(&mut self, now: Millis) -> Option<Do> {
        let until = now.after(self.limits.time_limit + LEASE_MARGIN);
        self.apply(Phase::Beginning, ExportInput::Begin { until })
    }

    pub(super) fn leave(&mut self) -> Option<Do> {
        let has_failed = self.has_failed;
        self.apply(Phase::Leaving, ExportInput::Release { has_failed })
    }

    pub(super) fn report(&mut self, problem: Problem) -> Option<Do> {
        Some(Do::Report(problem))
    }

    pub(super) fn wait(&mut self, phase: Phase, todo: Do) -> Option<Do> {
        self.phase = phase;
        Some(todo)
    }

    pub(super) fn apply(&mut self, phase: Phase, run: ExportInput) -> Option<Do> {
        let input = Input::Export {
            holder: self.holder,
            run: Box::new(run),
        };
        let integration_ref = self.integration_ref()?;
        self.wait(phase, Do::Apply(integration_ref, Box::new(input)))
    }

    /// Takes note of what became of an input. `false` when nothing was written: the run does not hold the lease, or the
    /// integration is gone or not as the run has read it.
    pub(super) fn note(&mut self, applied: Option<Box<Applied>>) -> bool {
        let Some(applied) = applied else {
            return false;
        };
        self.integration = Some(applied.integration);
        applied.verdict == Verdict::Write
    }

    pub(super) fn integration_ref(&self) -> Option<IntegrationRef> {
        self.integration.as_ref().map(IntegrationRef::from)
    }

    pub(super) fn held(&self) -> Option<(&Integration, &Bucket, &Export)> {
        let integration = self.integration.as_ref()?;
        target(integration).map(|(bucket, export)| (integration, bucket, export))
    }
}

/// The bucket of an integration, and how far files have been written to it; none of a webhook integration.
fn target(integration: &Integration) -> Option<(&Bucket, &Export)> {
    match &integration.target {
        Target::S3 { bucket, export } => Some((bucket, export)),
        Target::Webhook { .. } => None,
    }
}

/// Whether a position at which nothing is new is to be moved on.
pub(super) fn is_old(position: Ulid, now: Millis) -> bool {
    now.since(Millis(position.timestamp_ms())) > IDLE
}
