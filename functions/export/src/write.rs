//! Writing files: what is new is read, a plan is stored, the file is uploaded, and the position moves behind it.

use std::ops::ControlFlow::{self, Break, Continue};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::Credentials;
use bytes::Bytes;
use domain::export::{Export, Plan, file_key};
use domain::integration::{Access, Bucket, Integration};
use domain::lifecycle::{ExportInput, ExportRead};
use domain::metric::Metric;
use domain::time::Millis;
use shared::store::StoreError;

use crate::file::{self, File, Known, Limits};
use crate::held::{Held, is_old, next_range, target};
use crate::roles::Granted;
use crate::upload::{self, Refusal};
use crate::{App, ExportError};

/// How long before the time limit an upload has to be answered: what follows is two small writes.
const AFTER_UPLOAD: Duration = Duration::from_secs(5);

/// A run that writes files.
pub struct Writer<'a> {
    /// What it writes them for.
    pub held: Held<'a>,
    app: &'a App,
    /// When the invocation began; its time limit counts from here.
    began: Millis,
    /// The end of what it reads.
    horizon: Millis,
    /// The ids before the next file.
    known: Option<Known>,
}

/// What comes after an attempt to write one more file: `Break` when there is nothing more to do, or this run may not do it.
type Written = Result<ControlFlow<()>, ExportError>;

impl<'a> Writer<'a> {
    /// A run whose invocation began at `began`, and which reads up to `horizon`.
    pub fn new(held: Held<'a>, began: Millis, horizon: Millis) -> Writer<'a> {
        Writer {
            app: held.app,
            held,
            began,
            horizon,
            known: None,
        }
    }

    /// Writes files until nothing is left to write, or until half of the time limit has gone by: the rest is for the file
    /// that is under way.
    pub async fn files(&mut self) -> Result<(), ExportError> {
        let deadline = self.began.after(self.app.time_limit / 2);
        while self.app.clock.now() < deadline {
            let planned = self
                .held
                .target()
                .and_then(|(_, export)| export.plan.clone());
            let written = match planned {
                Some(plan) => self.finish(plan).await?,
                None => self.write_new(deadline).await?,
            };
            if written.is_break() || !self.held.integration.is_running() {
                break;
            }
        }
        Ok(())
    }

    /// Reads what is new, stores the plan of a file, and uploads it. Where nothing passes the filter, the position moves on.
    async fn write_new(&mut self, deadline: Millis) -> Written {
        let integration = self.held.integration.clone();
        let Some((bucket, export)) = target(&integration) else {
            return Ok(Break(()));
        };
        let Some(range) = next_range(self.app, &integration, export, self.horizon) else {
            return Ok(Break(()));
        };
        let read = ExportRead {
            bucket: bucket.clone(),
            filter: integration.filter.clone(),
            position: export.position,
        };
        let limits = Limits {
            max_bytes: self.app.max_file_bytes,
            deadline: Some(deadline),
        };
        let filter = read.filter.as_ref();
        let tenant = &integration.tenant;
        let file = file::build(self.app, tenant, range, filter, limits, &mut self.known).await?;
        if file.lines == 0 {
            let moved = self.skip(&integration, read, &file).await;
            self.app.buffer.give_back(file.body);
            return moved;
        }
        let prefix = bucket.key_prefix.as_deref();
        let plan = Plan {
            repeats_from: range.repeats_from,
            from: range.from,
            until: file.until,
            bucket: bucket.bucket.clone(),
            region: bucket.aws_region.clone(),
            key: file_key(prefix, tenant, self.app.clock.ulid()),
            filter: read.filter.clone(),
            size_bytes: file.body.len() as u64,
            lines: file.lines,
            crc64: file.crc64(),
        };
        // Before the plan is stored: where KMS or STS fails, nothing was planned.
        let granted = granted(self.app, tenant, &integration.id, bucket, &plan).await?;
        let store = ExportInput::Plan {
            plan: plan.clone(),
            read,
        };
        if !self.held.apply(store).await? {
            return Ok(Break(()));
        }
        self.upload(granted, plan, file.body, true).await
    }

    /// Moves the position over a range in which nothing passed.
    async fn skip(&mut self, integration: &Integration, read: ExportRead, file: &File) -> Written {
        let until = file.until;
        let is_end = integration
            .ends_at
            .is_some_and(|end| until >= end.first_id());
        if !(file.is_read || is_end || is_old(self.app, read.position)) {
            return Ok(Break(()));
        }
        self.apply(ExportInput::Skip { until, read }).await
    }

    /// Finishes a plan that an earlier run stored, exactly so: the same bytes under the same key, whatever has been updated
    /// since, with the credentials of now.
    async fn finish(&mut self, plan: Plan) -> Written {
        let limits = Limits {
            max_bytes: plan.size_bytes as usize,
            deadline: None,
        };
        let tenant = self.held.integration.tenant.clone();
        let (range, filter) = (plan.range(), plan.filter.as_ref());
        let file = file::build(self.app, &tenant, range, filter, limits, &mut self.known).await?;
        let is_same = file.until == plan.until
            && file.body.len() as u64 == plan.size_bytes
            && file.crc64() == plan.crc64;
        if !is_same {
            return self.give_up(plan).await;
        }
        // Reading took its time: the state is read once more, right before the attempt, and the credentials before that.
        loop {
            let Some((bucket, _)) = self.held.target() else {
                return Ok(Break(()));
            };
            let bucket = bucket.clone();
            let Integration { id, .. } = &self.held.integration;
            let granted = granted(self.app, &tenant, id, &bucket, &plan).await?;
            let generation = self.held.integration.generation;
            let id = &self.held.integration.id;
            self.held.integration = match self.app.integrations.get(&tenant, id).await {
                Ok(integration) => integration,
                Err(StoreError::NotFound) => return Ok(Break(())),
                Err(error) => return Err(error.into()),
            };
            let now = self.app.clock.now();
            let is_ours = self.held.integration.generation == generation
                && self.held.integration.is_running()
                && self.held.target().is_some_and(|(_, export)| {
                    export.is_held_by(self.held.holder, now) && export.plan.as_ref() == Some(&plan)
                });
            if !is_ours {
                return Ok(Break(()));
            }
            if self.held.target().is_some_and(|(now, _)| *now == bucket) {
                return self.upload(granted, plan, file.body, false).await;
            }
        }
    }

    /// Gives up a plan whose events are no longer kept. Any other file that cannot be made again is an error of ours: the
    /// event log is not what it was. After a day of it the plan is dropped and its range is written again, under other keys, so
    /// that nothing is lost; where the planned file had been stored, its lines are in two files.
    async fn give_up(&mut self, plan: Plan) -> Written {
        let now = self.app.clock.now();
        let is_kept = plan.is_kept(self.app.event_log.oldest());
        let is_stuck = |(_, export): (_, &Export)| export.is_stuck(now);
        if is_kept && !self.held.target().is_some_and(is_stuck) {
            self.app.metrics.count(Metric::PlansMismatched, 1);
            return Err(ExportError::PlanMismatch(plan.key));
        }
        self.apply(ExportInput::GiveUp { plan }).await
    }

    /// Uploads the file of a stored plan, and moves the position behind it. `is_only_attempt`: no earlier one was made.
    async fn upload(
        &mut self,
        granted: Granted,
        plan: Plan,
        body: Vec<u8>,
        is_only_attempt: bool,
    ) -> Written {
        // A run that was held up for so long that its lease may be over must not touch the bucket: another one may have
        // finished this plan, and the owner may have fetched and removed its file.
        let until = self
            .began
            .after(self.app.time_limit.saturating_sub(AFTER_UPLOAD));
        let time_limit = until.since(self.app.clock.now());
        if time_limit.is_zero() {
            return Ok(Break(()));
        }
        let body = Bytes::from(body);
        let config = &self.app.sdk_config;
        let began = Instant::now();
        let uploaded = match granted {
            Granted::Credentials(credentials) => {
                upload::put(config, credentials, &plan, body.clone(), time_limit).await
            }
            Granted::Refused(refusal) => Err(refusal),
        };
        if let Ok(mut body) = body.try_into_mut() {
            body.clear();
            self.app.buffer.give_back(body.into());
        }
        self.note(&plan, &uploaded, began.elapsed());
        let Err(refusal) = uploaded else {
            return self.apply(ExportInput::Finish { plan }).await;
        };
        let failed = ExportInput::Fail {
            plan,
            reason: refusal.reason,
            is_absent: is_only_attempt && refusal.is_certain,
        };
        self.held.apply(failed).await?;
        Ok(Break(()))
    }

    /// Counts and logs an upload that took so long. What is between `from` and `until` and passes the filter is in the file.
    fn note(&self, plan: &Plan, uploaded: &Result<(), Refusal>, took: Duration) {
        let Integration { tenant, id, .. } = &self.held.integration;
        let (metrics, latency_ms) = (&self.app.metrics, took.as_millis() as u64);
        match uploaded {
            Ok(()) => {
                metrics.measure(Metric::FileBytes, plan.size_bytes);
                metrics.count(Metric::FileLines, plan.lines as usize);
                tracing::info!(
                    tenant,
                    integration = id,
                    key = plan.key,
                    from = %plan.from,
                    until = %plan.until,
                    lines = plan.lines,
                    bytes = plan.size_bytes,
                    latency_ms,
                    "exported"
                );
            }
            Err(Refusal { reason, .. }) => {
                metrics.count(Metric::ExportsFailed, 1);
                let (integration, key) = (id, &plan.key);
                tracing::warn!(
                    tenant,
                    integration,
                    key,
                    reason,
                    latency_ms,
                    "an upload failed"
                );
            }
        }
    }

    async fn apply(&mut self, run: ExportInput) -> Written {
        Ok(match self.held.apply(run).await? {
            true => Continue(()),
            false => Break(()),
        })
    }
}

/// What a plan is uploaded with: the customer's key, or credentials of the customer's role, which may refuse.
///
/// # Errors
/// When the secret cannot be decrypted, or STS fails.
pub async fn granted(
    app: &App,
    tenant: &str,
    id: &str,
    bucket: &Bucket,
    plan: &Plan,
) -> Result<Granted, ExportError> {
    match &bucket.access {
        Access::Key {
            aws_access_key_id,
            aws_secret_access_key,
        } => {
            let secret = app.secrets.decrypt(tenant, id, aws_secret_access_key);
            let secret = secret.await?;
            let key = Credentials::new(
                aws_access_key_id,
                secret.expose(),
                None,
                None,
                "customer's key",
            );
            Ok(Granted::Credentials(key))
        }
        Access::Role {
            role_arn,
            external_id,
        } => {
            let assumed = app.roles.assume(role_arn, external_id, id, plan);
            Ok(assumed.await?)
        }
    }
}
