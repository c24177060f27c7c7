//! The files of a run: made, planned, uploaded, and counted.

use std::mem;
use std::time::Duration;

use ulid::Ulid;

use super::building::{Building, File, Purpose};
use super::file::crc64;
use super::machine::{Exporting, Phase, Ready, is_old};
use super::types::{Do, Problem, Refusal, Upload};
use crate::export::{Export, Plan, Range, file_key};
use crate::integration::Integration;
use crate::lifecycle::{ExportInput, ExportRead};
use crate::time::Millis;

/// How long before the time limit an upload has to be answered: what follows is two small writes.
const AFTER_UPLOAD: Duration = Duration::from_secs(5);

impl Exporting {
    /// Begins to make one more file: that of the plan, or one of what is new.
    pub(super) fn write_file(&mut self, now: Millis) -> Option<Do> {
        let deadline = self.half_time();
        let Some((integration, bucket, export)) = self.held() else {
            return self.leave();
        };
        if now >= deadline || !integration.is_running() {
            return self.leave();
        }
        if let Some(plan) = &export.plan {
            let (range, plan) = (plan.range(), Box::new(plan.clone()));
            let most = plan.size_bytes as usize;
            return self.build(Purpose::Planned(plan), range, most, None);
        }
        let oldest = self.rules.oldest(now);
        let Some(range) = export.next_range(integration.ends_at, self.horizon, oldest) else {
            return self.leave();
        };
        debug_assert!(export.position <= range.from && range.repeats_from <= range.from);
        let read = ExportRead {
            bucket: bucket.clone(),
            filter: integration.filter.clone(),
            position: export.position,
        };
        let most = self.limits.max_file_bytes;
        self.build(Purpose::New(read), range, most, Some(deadline))
    }

    fn build(
        &mut self,
        purpose: Purpose,
        range: Range,
        max_bytes: usize,
        deadline: Option<Millis>,
    ) -> Option<Do> {
        let (known, mut buffer) = (self.known.take(), mem::take(&mut self.buffer));
        buffer.clear();
        match Building::begin(purpose, range, max_bytes, deadline, known, buffer) {
            Ok((building, todo)) => self.wait(Phase::Building(Box::new(building)), todo),
            Err(error) => self.report(Problem::Segment(error)),
        }
    }

    pub(super) fn complete(
        &mut self,
        building: Building,
        until: Ulid,
        now: Millis,
        id: Ulid,
    ) -> Option<Do> {
        let (purpose, range, file, known) = building.complete(until);
        debug_assert!(range.from <= file.until && file.until <= range.until);
        debug_assert_eq!(file.lines == 0, file.body.is_empty());
        self.known = Some(known);
        match purpose {
            Purpose::Planned(plan) => self.finish(plan, file, now),
            Purpose::New(read) if file.lines == 0 => self.skip(read, file, now),
            Purpose::New(read) => self.plan(read, range, file, id),
        }
    }

    /// Moves the position over a range in which nothing passed.
    fn skip(&mut self, read: ExportRead, file: File, now: Millis) -> Option<Do> {
        let until = file.until;
        self.buffer = file.body;
        let ends_at = self.held().and_then(|(held, ..)| held.ends_at);
        let is_end = ends_at.is_some_and(|end| until >= end.first_id());
        if !(file.is_read || is_end || is_old(read.position, now)) {
            return self.leave();
        }
        debug_assert!(
            read.position < until,
            "a file has no room for its first segment"
        );
        self.apply(Phase::Moving, ExportInput::Skip { until, read })
    }

    /// Plans a file of what is new. Credentials come before the plan is stored: where KMS or STS fails, nothing was planned.
    fn plan(&mut self, read: ExportRead, range: Range, file: File, id: Ulid) -> Option<Do> {
        debug_assert!(file.body.len() <= self.limits.max_file_bytes);
        debug_assert!(range.from < file.until);
        let Some((integration, ..)) = self.held() else {
            return self.leave();
        };
        let bucket = read.bucket.clone();
        let plan = Plan {
            repeats_from: range.repeats_from,
            from: range.from,
            until: file.until,
            bucket: bucket.bucket.clone(),
            region: bucket.aws_region.clone(),
            key: file_key(bucket.key_prefix.as_deref(), &integration.tenant, id),
            filter: read.filter.clone(),
            size_bytes: file.body.len() as u64,
            lines: file.lines,
            crc64: crc64(&file.body),
        };
        self.grant(Ready {
            bucket,
            plan: Box::new(plan),
            body: file.body,
            read: Some(read),
        })
    }

    /// Finishes a plan that an earlier run stored, exactly so: the same bytes under the same key, whatever has been updated
    /// since, with the credentials of now.
    fn finish(&mut self, plan: Box<Plan>, file: File, now: Millis) -> Option<Do> {
        let is_same = file.until == plan.until
            && file.body.len() as u64 == plan.size_bytes
            && crc64(&file.body) == plan.crc64;
        if !is_same {
            self.buffer = file.body;
            return self.give_up(*plan, now);
        }
        let Some((_, bucket, _)) = self.held() else {
            return self.leave();
        };
        self.grant(Ready {
            bucket: bucket.clone(),
            plan,
            body: file.body,
            read: None,
        })
    }

    /// Gives up a plan whose events are no longer kept. Any other file that cannot be made again is an error of ours: the
    /// event log is not what it was. After a day of it the plan is dropped and its range is written again, under other keys, so
    /// that nothing is lost; where the planned file had been stored, its lines are in two files.
    fn give_up(&mut self, plan: Plan, now: Millis) -> Option<Do> {
        let is_kept = plan.is_kept(self.rules.oldest(now));
        let is_stuck = |(_, _, export): (_, _, &Export)| export.is_stuck(now);
        if is_kept && !self.held().is_some_and(is_stuck) {
            return self.report(Problem::PlanMismatch(plan.key));
        }
        self.apply(Phase::Moving, ExportInput::GiveUp { plan })
    }

    fn grant(&mut self, ready: Ready) -> Option<Do> {
        let (bucket, plan) = (Box::new(ready.bucket.clone()), ready.plan.clone());
        self.wait(Phase::Granting(Box::new(ready)), Do::Grant(bucket, plan))
    }

    pub(super) fn granted(&mut self, mut ready: Box<Ready>) -> Option<Do> {
        let Some(read) = ready.read.take() else {
            // Reading took its time: the state is read once more, right before the attempt, and the credentials before that.
            return self.wait(Phase::Checking(ready), Do::Get);
        };
        let plan = Plan::clone(&ready.plan);
        self.apply(Phase::Planning(ready), ExportInput::Plan { plan, read })
    }

    /// Uploads the file of a stored plan if the plan is still this run's. Where the bucket's settings have changed since the
    /// credentials came, they are asked for again; the lease bounds how often.
    pub(super) fn check(
        &mut self,
        mut ready: Box<Ready>,
        found: Option<Box<Integration>>,
        now: Millis,
    ) -> Option<Do> {
        let (holder, generation) = (self.holder, self.integration_ref()?.generation);
        let found = found.filter(|found| found.generation == generation);
        let Some(found) = found else {
            return self.leave();
        };
        self.integration = Some(*found);
        let Some((integration, bucket, export)) = self.held() else {
            return self.leave();
        };
        let is_ours = export.is_held_by(holder, now) && export.plan.as_ref() == Some(&*ready.plan);
        if !integration.is_running() || !is_ours {
            return self.leave();
        }
        if *bucket == ready.bucket {
            return self.upload(ready, false, now);
        }
        ready.bucket = bucket.clone();
        self.grant(*ready)
    }

    /// Uploads the file of a stored plan.
    pub(super) fn upload(
        &mut self,
        ready: Box<Ready>,
        is_only_attempt: bool,
        now: Millis,
    ) -> Option<Do> {
        let Ready { plan, body, .. } = *ready;
        debug_assert!(!body.is_empty() && body.len() as u64 == plan.size_bytes);
        // A run that was held up for so long that its lease may be over must not touch the bucket: another one may have
        // finished this plan, and the owner may have fetched and removed its file.
        let until = self.limits.time_limit.saturating_sub(AFTER_UPLOAD);
        let time_limit = self.began.after(until).since(now);
        if time_limit.is_zero() {
            self.buffer = body;
            return self.leave();
        }
        let upload = Upload {
            plan: plan.clone(),
            body,
            time_limit,
        };
        let phase = Phase::Uploading(plan, is_only_attempt);
        self.wait(phase, Do::Upload(upload))
    }

    /// Moves the position behind a file that is in the bucket, or notes that it is not, or not known to be.
    pub(super) fn uploaded(
        &mut self,
        plan: Plan,
        refusal: Option<Refusal>,
        is_only_attempt: bool,
    ) -> Option<Do> {
        let Some(refusal) = refusal else {
            return self.apply(Phase::Moving, ExportInput::Finish { plan });
        };
        let failed = ExportInput::Fail {
            plan,
            reason: refusal.reason,
            is_absent: is_only_attempt && refusal.is_certain,
        };
        self.apply(Phase::Failing, failed)
    }

    /// When no further file is begun.
    fn half_time(&self) -> Millis {
        self.began.after(self.limits.time_limit / 2)
    }
}
