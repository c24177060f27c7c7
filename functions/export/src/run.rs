//! One run for one integration: under a lease, file after file, each by a plan that is stored before its upload.

use std::time::Duration;

use aws_sdk_s3::config::Credentials;
use bytes::Bytes;
use domain::export::{Export, Plan, Range, file_key};
use domain::integration::{Access, Bucket, Integration, IntegrationType, Owner, Target};
use domain::integration_log::{self, Action, Entry};
use domain::log::EXPORT_SEALS_BEHIND;
use domain::tasks::ExportTask;
use domain::time::Millis;
use shared::store::StoreError;
use shared::store::integrations::Decision;
use ulid::Ulid;

use crate::file::{self, File, Known, Limits};
use crate::upload::{self, Refusal};
use crate::{App, ExportError};

/// How much longer than the time limit of an invocation a lease is held: it outlives its holder, whose clock may be behind,
/// and ends soon after.
const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// How long before the time limit an upload has to be answered: what follows is two small writes.
const AFTER_UPLOAD: Duration = Duration::from_secs(5);
/// A place at which nothing is new moves only when it is this old: an idle integration costs two reads a tick, and no write.
const IDLE_PLACE: Duration = Duration::from_secs(3600);

/// Writes the files that are due for one integration. Does nothing when it is gone or stopped, when nothing is new, when
/// another run holds its lease, or when an upload has failed since the task was sent.
///
/// # Errors
/// [`ExportError`], where we failed. A refused upload is no error: it is logged, and the next tick tries again.
pub async fn run(app: &App, task: &ExportTask) -> Result<(), ExportError> {
    let began = app.clock.now();
    let found = app.integrations.get(&task.tenant, &task.integration_id);
    let found = match found.await {
        Ok(integration) => integration,
        Err(StoreError::NotFound) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Read once: what comes while this run is at work is the next tick's, or each file would be followed by a small one.
    let horizon = app.event_log.horizon(EXPORT_SEALS_BEHIND);
    if !is_due(app, &found, task, horizon).await? {
        return Ok(());
    }
    let holder = app.clock.ulid();
    let mut run = Run {
        app,
        holder,
        began,
        horizon,
        integration: found,
        known: None,
    };
    let leased = run.change_if(|integration| {
        let now = app.clock.now();
        let lease_until = now.after(app.time_limit + LEASE_MARGIN);
        integration.is_running()
            && integration
                .export_mut()
                .is_some_and(|export| export.take_lease(holder, now, lease_until))
    });
    if !leased.await? {
        return Ok(());
    }
    let written = run.files().await;
    let released = run.release(written.is_err()).await;
    written.and(released)
}

/// Whether a run would find something to do.
async fn is_due(
    app: &App,
    integration: &Integration,
    task: &ExportTask,
    horizon: Millis,
) -> Result<bool, ExportError> {
    let Some((_, export)) = target(integration) else {
        return Ok(false);
    };
    if !integration.is_running() || export.has_answered(task.sent_at) {
        return Ok(false);
    }
    if export.plan.is_some() || ended(app, integration).is_some() {
        return Ok(true);
    }
    let Some(range) = next_range(app, integration, export, horizon) else {
        return Ok(false);
    };
    Ok(is_old(app, range.from)
        || app
            .event_log
            .has_any(&integration.tenant, range.from, range.until)
            .await?)
}

fn is_old(app: &App, place: Ulid) -> bool {
    app.clock.now().since(Millis(place.timestamp_ms())) > IDLE_PLACE
}

fn next_range(
    app: &App,
    integration: &Integration,
    export: &Export,
    horizon: Millis,
) -> Option<Range> {
    export.next_range(integration.ends_at, horizon, app.event_log.oldest())
}

fn target(integration: &Integration) -> Option<(&Bucket, &Export)> {
    match &integration.target {
        Target::S3 { bucket, export } => Some((bucket, export)),
        Target::Webhook { .. } => None,
    }
}

/// The end of a temporary integration's range, when all of it that is kept has been written.
fn ended(app: &App, integration: &Integration) -> Option<Millis> {
    let (_, export) = target(integration)?;
    integration
        .ends_at
        .filter(|_| integration.integration_type == IntegrationType::Temporary)
        .filter(|end| export.is_over(*end, app.event_log.oldest()))
}

/// A run that holds the lease.
struct Run<'a> {
    app: &'a App,
    /// The name under which it holds the lease.
    holder: Ulid,
    /// When the invocation began; its time limit counts from here.
    began: Millis,
    /// The end of what it reads.
    horizon: Millis,
    /// The integration as it was last read or written.
    integration: Integration,
    /// The ids before the next file.
    known: Option<Known>,
}

/// What became of an attempt to write one more file.
enum Step {
    /// It was written, or the place moved: there may be more.
    Next,
    /// There is nothing more to do, or this run may not do it.
    Done,
}

impl Run<'_> {
    /// Writes files until nothing is left to write, or until half of the time limit has gone by: the rest is for the file
    /// that is under way.
    async fn files(&mut self) -> Result<(), ExportError> {
        let deadline = self.began.after(self.app.time_limit / 2);
        while self.app.clock.now() < deadline {
            let planned = target(&self.integration).and_then(|(_, export)| export.plan.clone());
            let step = match planned {
                Some(plan) => self.finish(plan).await?,
                None => self.write_new(deadline).await?,
            };
            if matches!(step, Step::Done) || !self.integration.is_running() {
                break;
            }
        }
        Ok(())
    }

    /// Reads what is new, stores the plan of a file, and uploads it. Where nothing passes the filter, the place moves on.
    async fn write_new(&mut self, deadline: Millis) -> Result<Step, ExportError> {
        let read = self.integration.clone();
        let Some((bucket, export)) = target(&read) else {
            return Ok(Step::Done);
        };
        let Some(range) = next_range(self.app, &read, export, self.horizon) else {
            return Ok(Step::Done);
        };
        let limits = Limits {
            max_bytes: self.app.max_file_bytes,
            deadline: Some(deadline),
        };
        let file = file::build(
            self.app,
            &read.tenant,
            range,
            read.filter.as_ref(),
            limits,
            &mut self.known,
        )
        .await?;
        if file.lines == 0 {
            let moved = self.move_place(&read, export.place, &file).await;
            self.app.buffer.give_back(file.body);
            return moved;
        }
        let plan = Plan {
            repeats_from: range.repeats_from,
            from: range.from,
            until: file.until,
            bucket: bucket.bucket.clone(),
            region: bucket.aws_region.clone(),
            key: file_key(
                bucket.key_prefix.as_deref(),
                &read.tenant,
                self.app.clock.ulid(),
            ),
            filter: read.filter.clone(),
            size_bytes: file.body.len() as u64,
            lines: file.lines,
            crc64: file.crc64(),
        };
        // Before the plan is stored: where KMS or STS fails, nothing was planned.
        let credentials = self.credentials(bucket, &plan).await?;
        // Only for the integration as it was read: what an update has answered holds for this file, too.
        let stored = self.change(|integration| {
            let as_read = integration.is_running()
                && integration.filter == read.filter
                && target(integration).is_some_and(|(now, _)| now == bucket);
            integration
                .export_mut()
                .filter(|now| as_read && now.plan.is_none() && now.place == export.place)
                .is_some_and(|export| {
                    export.plan = Some(plan.clone());
                    true
                })
        });
        if !stored.await? {
            return Ok(Step::Done);
        }
        self.upload(credentials, &plan, file.body, true).await
    }

    /// Moves the place over a range in which nothing passed.
    async fn move_place(
        &mut self,
        read: &Integration,
        place: Ulid,
        file: &File,
    ) -> Result<Step, ExportError> {
        let is_end = read.ends_at.is_some_and(|end| file.until >= end.place());
        if !(file.is_read || is_end || is_old(self.app, place)) {
            return Ok(Step::Done);
        }
        let moved = self.change(|integration| {
            let as_read = integration.filter == read.filter;
            integration
                .export_mut()
                .filter(|export| as_read && export.plan.is_none() && export.place == place)
                .is_some_and(|export| {
                    export.place = file.until;
                    true
                })
        });
        Ok(if moved.await? { Step::Next } else { Step::Done })
    }

    /// Finishes a plan that an earlier run stored, exactly so: the same bytes under the same key, whatever has been updated
    /// since, with the credentials of now.
    async fn finish(&mut self, plan: Plan) -> Result<Step, ExportError> {
        let limits = Limits {
            max_bytes: plan.size_bytes as usize,
            deadline: None,
        };
        let tenant = self.integration.tenant.clone();
        let file = file::build(
            self.app,
            &tenant,
            plan.range(),
            plan.filter.as_ref(),
            limits,
            &mut self.known,
        )
        .await?;
        let is_same = file.until == plan.until
            && file.body.len() as u64 == plan.size_bytes
            && file.crc64() == plan.crc64;
        if !is_same {
            return self.abandon(&plan).await;
        }
        // Reading took its time: the state is read once more, right before the attempt, and the credentials before that.
        loop {
            let Some((bucket, _)) = target(&self.integration) else {
                return Ok(Step::Done);
            };
            let bucket = bucket.clone();
            let credentials = self.credentials(&bucket, &plan).await?;
            let generation = self.integration.generation;
            let read = self.app.integrations.get(&tenant, &self.integration.id);
            self.integration = match read.await {
                Ok(integration) => integration,
                Err(StoreError::NotFound) => return Ok(Step::Done),
                Err(error) => return Err(error.into()),
            };
            let now = self.app.clock.now();
            let is_ours = self.integration.generation == generation
                && self.integration.is_running()
                && target(&self.integration).is_some_and(|(_, export)| {
                    export.is_held_by(self.holder, now) && export.plan.as_ref() == Some(&plan)
                });
            if !is_ours {
                return Ok(Step::Done);
            }
            if target(&self.integration).is_some_and(|(now, _)| *now == bucket) {
                return self.upload(credentials, &plan, file.body, false).await;
            }
        }
    }

    /// Gives up a plan whose events are not kept any more. Any other file that cannot be made again is an error of ours: the
    /// event log is not what it was. After a day of it the plan is dropped and its range is written again, under other keys, so
    /// that nothing is lost; where the planned file had been stored, its lines are in two files.
    async fn abandon(&mut self, plan: &Plan) -> Result<Step, ExportError> {
        let now = self.app.clock.now();
        let is_kept = plan.from >= self.app.event_log.oldest().place();
        let is_stuck = target(&self.integration).is_some_and(|(_, export)| export.is_stuck(now));
        if is_kept && !is_stuck {
            return Err(ExportError::PlanMismatch(plan.key.clone()));
        }
        let given_up = self.change(|integration| match integration.export_mut() {
            Some(export) if export.plan.as_ref() == Some(plan) => {
                match is_kept {
                    true => export.plan = None,
                    false => export.skip_plan(),
                }
                true
            }
            _ => false,
        });
        if !given_up.await? {
            return Ok(Step::Done);
        }
        let Plan { bucket, key, .. } = plan;
        let reason = match is_kept {
            true => format!(
                "s3://{bucket}/{key} cannot be made again as it was planned, and whether it was uploaded is not known. Its events are written to new files: if this one is in the bucket, its lines are there twice."
            ),
            false => format!(
                "s3://{bucket}/{key} was given up: the events of this file are older than what is kept, and whether it was uploaded is not known."
            ),
        };
        self.log(Action::ExportFailed, reason).await?;
        Ok(Step::Next)
    }

    /// Uploads the file of a stored plan, and moves the place behind it. `is_only_attempt`: nobody has tried before.
    async fn upload(
        &mut self,
        credentials: Result<Credentials, Refusal>,
        plan: &Plan,
        body: Vec<u8>,
        is_only_attempt: bool,
    ) -> Result<Step, ExportError> {
        // A run that was held up for so long that its lease may be over must not touch the bucket: another one may have
        // finished this plan, and the owner may have fetched and removed its file.
        let until = self
            .began
            .after(self.app.time_limit.saturating_sub(AFTER_UPLOAD));
        let time_limit = until.since(self.app.clock.now());
        if time_limit.is_zero() {
            return Ok(Step::Done);
        }
        let body = Bytes::from(body);
        let config = &self.app.sdk_config;
        let uploaded = match credentials {
            Ok(credentials) => {
                upload::put(config, credentials, plan, body.clone(), time_limit).await
            }
            Err(refusal) => Err(refusal),
        };
        if let Ok(mut body) = body.try_into_mut() {
            body.clear();
            self.app.buffer.give_back(body.into());
        }
        if let Err(refusal) = uploaded {
            self.fail(plan, refusal, is_only_attempt).await?;
            return Ok(Step::Done);
        }
        let finished = self.change(|integration| match integration.export_mut() {
            Some(export) if export.plan.as_ref() == Some(plan) => {
                export.finish_plan();
                true
            }
            _ => false,
        });
        Ok(if finished.await? {
            Step::Next
        } else {
            Step::Done
        })
    }

    /// Writes down that an upload failed; stops the integration when nothing else has happened for days.
    async fn fail(
        &mut self,
        plan: &Plan,
        refusal: Refusal,
        is_only_attempt: bool,
    ) -> Result<(), ExportError> {
        let (app, holder) = (self.app, self.holder);
        let Refusal { reason, is_certain } = refusal;
        let is_absent = is_only_attempt && is_certain;
        let mut reason = format!(
            "Upload to s3://{}/{} failed. Reason: {reason}.",
            plan.bucket, plan.key
        );
        if !is_absent {
            reason += " It may have been stored by this or an earlier attempt, so this very file is tried again before any other.";
        }
        let mut is_stopped = false;
        let failed = self.write(|integration| {
            let now = app.clock.now();
            is_stopped = false;
            let Some(export) = integration.export_mut() else {
                return Decision::Keep;
            };
            if !export.is_held_by(holder, now) || export.plan.as_ref() != Some(plan) {
                return Decision::Keep;
            }
            export.fail(now, is_absent);
            let since = export.failing_since.unwrap_or(now);
            if !export.is_given_up(now, app.give_up) || !integration.stop(now, app.seal) {
                return Decision::Write;
            }
            is_stopped = true;
            let days = app.give_up.as_secs() / (24 * 3600);
            let stopped = Entry {
                id: app.clock.ulid(),
                action: Action::IntegrationStopped,
                reason: format!(
                    "Stopped automatically: every upload since {since} has failed, for more than {days} days. {reason} Nothing is lost if it is started again within 30 days."
                ),
            };
            Decision::WriteWith(vec![stopped], None)
        });
        if failed.await? && !is_stopped {
            self.log(Action::ExportFailed, reason).await?;
        }
        Ok(())
    }

    async fn log(&self, action: Action, reason: String) -> Result<(), ExportError> {
        let id = self.app.clock.ulid();
        let owner = Owner::from(&self.integration);
        let entry = Entry { id, action, reason };
        Ok(self.app.integration_log.append(&owner, &entry).await?)
    }

    /// What a plan is uploaded with: the customer's key, or credentials of the customer's role, which may refuse.
    async fn credentials(
        &self,
        bucket: &Bucket,
        plan: &Plan,
    ) -> Result<Result<Credentials, Refusal>, ExportError> {
        let Integration { tenant, id, .. } = &self.integration;
        match &bucket.access {
            Access::Key {
                aws_access_key_id,
                aws_secret_access_key,
            } => {
                let secret = self.app.secrets.decrypt(tenant, id, aws_secret_access_key);
                let secret = secret.await?;
                let key = Credentials::new(
                    aws_access_key_id,
                    secret.expose(),
                    None,
                    None,
                    "customer's key",
                );
                Ok(Ok(key))
            }
            Access::Role {
                role_arn,
                external_id,
            } => Ok(self
                .app
                .roles
                .assume(role_arn, external_id, id, plan)
                .await?),
        }
    }

    /// Gives the lease back, with what came of the run, and ends a temporary integration whose range has been written.
    async fn release(&mut self, has_failed: bool) -> Result<(), ExportError> {
        let (app, holder) = (self.app, self.holder);
        let oldest = app.event_log.oldest();
        let released = self.write(|integration| {
            let now = app.clock.now();
            let Some(export) = integration.export_mut() else {
                return Decision::Keep;
            };
            if !export.release(holder) {
                return Decision::Keep;
            }
            let is_logged = export.note_run(now, has_failed);
            let entry = |action, reason| {
                let id = app.clock.ulid();
                Decision::WriteWith(vec![Entry { id, action, reason }], None)
            };
            match ended(app, integration) {
                Some(end) if integration.stop(now, app.seal) => {
                    integration.is_finished = true;
                    let reason = integration_log::exported(end, integration.starts_at, oldest);
                    entry(Action::IntegrationStopped, reason)
                }
                _ if is_logged => entry(
                    Action::ExportFailed,
                    "Exports have failed for a day or more for a reason of the service's own, not of your bucket. Nothing is lost: they are tried again at each tick.".to_owned(),
                ),
                _ => Decision::Write,
            }
        });
        released.await.map(drop)
    }

    /// Changes the integration while this run holds its lease. `false` when it does not, or when `decide` leaves things as
    /// they are.
    async fn change(
        &mut self,
        mut decide: impl FnMut(&mut Integration) -> bool,
    ) -> Result<bool, ExportError> {
        let (app, holder) = (self.app, self.holder);
        self.change_if(|integration| {
            let now = app.clock.now();
            integration
                .export_mut()
                .is_some_and(|export| export.is_held_by(holder, now))
                && decide(integration)
        })
        .await
    }

    async fn change_if(
        &mut self,
        mut decide: impl FnMut(&mut Integration) -> bool,
    ) -> Result<bool, ExportError> {
        self.write(|integration| match decide(integration) {
            true => Decision::Write,
            false => Decision::Keep,
        })
        .await
    }

    /// Changes the integration if it is still of this generation; it is what is stored then. `false` when nothing was
    /// written.
    async fn write(
        &mut self,
        mut decide: impl FnMut(&mut Integration) -> Decision,
    ) -> Result<bool, ExportError> {
        let Integration {
            tenant,
            id,
            generation,
            ..
        } = &self.integration;
        let changed = self.app.integrations.change(tenant, id, |integration| {
            Ok::<_, StoreError>(if integration.generation == *generation {
                decide(integration)
            } else {
                Decision::Keep
            })
        });
        match changed.await {
            Ok((stored, written)) => {
                self.integration = stored;
                Ok(written)
            }
            Err(StoreError::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
