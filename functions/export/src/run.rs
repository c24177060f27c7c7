//! One run for one integration: what [`Exporting`] says is carried out.

use std::time::Instant;

use bytes::Bytes;
use domain::exporting::{Content, Do, Exporting, Limits, Problem, Refusal, Seen, Upload};
use domain::metric::Metric;
use domain::tasks::ExportTask;
use shared::store::StoreError;
use shared::store::event_log::Reader;

use crate::grant::granted;
use crate::roles::Granted;
use crate::{App, ExportError, upload};

/// Writes the files that are due for one integration.
///
/// # Errors
/// [`ExportError`], where we failed. A refused upload is no error: it is logged, and the next tick tries again.
pub async fn run(app: &App, task: &ExportTask) -> Result<(), ExportError> {
    let limits = Limits {
        time_limit: app.time_limit,
        max_file_bytes: app.max_file_bytes,
    };
    let (now, holder) = (app.clock.now(), app.clock.ulid());
    let buffer = app.buffer.take();
    let (mut run, first) = Exporting::begin(task.sent_at, holder, now, limits, app.rules, buffer);
    let mut driver = Driver {
        app,
        task,
        reader: None,
        granted: None,
    };
    let (mut todo, mut outcome) = (Some(first), Ok(()));
    while let Some(next) = todo {
        todo = match driver.carry_out(next).await {
            Ok(seen) => run.seen(seen, app.clock.now(), app.clock.ulid()),
            Err(error) => {
                outcome = outcome.and(Err(error));
                run.failed()
            }
        };
    }
    if run.has_had_lease() {
        app.metrics.concern(&task.tenant, &task.integration_id);
    }
    if let Some(lag) = run.lag(app.clock.now()) {
        app.metrics.time(Metric::ExportLag, lag);
    }
    app.buffer.give_back(run.into_buffer());
    outcome
}

/// What a run has open.
struct Driver<'a> {
    app: &'a App,
    task: &'a ExportTask,
    /// The range of the event log that is being read.
    reader: Option<Reader>,
    /// What the next upload is made with.
    granted: Option<Granted>,
}

impl Driver<'_> {
    async fn carry_out(&mut self, todo: Do) -> Result<Seen, ExportError> {
        let ExportTask {
            tenant,
            integration_id,
            ..
        } = self.task;
        let App {
            event_log,
            integrations,
            clock,
            rules,
            metrics,
            ..
        } = self.app;
        if !matches!(todo, Do::ReadOn) {
            // What is read ahead of a file that has ended is given up.
            self.reader = None;
        }
        Ok(match todo {
            Do::Get => Seen::Integration(match integrations.get(tenant, integration_id).await {
                Ok(integration) => Some(Box::new(integration)),
                Err(StoreError::NotFound) => None,
                Err(error) => return Err(error.into()),
            }),
            Do::HasAny { from, until } => {
                Seen::HasAny(event_log.has_any(tenant, from, until).await?)
            }
            Do::Apply(integration_ref, input) => {
                let applied = integrations.apply(&integration_ref, &input, clock, rules);
                // An export needs no step of replay.
                Seen::Applied(applied.await?.map(|(applied, _)| Box::new(applied)))
            }
            Do::Read {
                content,
                from,
                until,
            } => {
                let reader = match content {
                    Content::Whole => event_log.read(tenant, from, until),
                    Content::Ids => event_log.read_ids(tenant, from, until),
                };
                self.reader = Some(reader);
                self.read_on().await?
            }
            Do::ReadOn => self.read_on().await?,
            Do::Grant(bucket, plan) => {
                let granted = granted(self.app, tenant, integration_id, &bucket, &plan);
                self.granted = Some(granted.await?);
                Seen::Granted
            }
            Do::Upload(upload) => self.upload(upload).await,
            Do::Report(problem) => {
                if let Problem::PlanMismatch(_) = &problem {
                    metrics.count(Metric::PlansMismatched, 1);
                }
                return Err(problem.into());
            }
        })
    }

    async fn read_on(&mut self) -> Result<Seen, ExportError> {
        let Some(reader) = &mut self.reader else {
            return Ok(Seen::Segment(None));
        };
        let next = reader.next().await?;
        Ok(Seen::Segment(next.map(|(segment, _)| segment)))
    }

    async fn upload(&mut self, upload: Upload) -> Seen {
        let Upload {
            plan,
            body,
            time_limit,
        } = upload;
        let body = Bytes::from(body);
        let began = Instant::now();
        let refusal = match self.granted.take() {
            Some(Granted::Credentials(credentials)) => {
                let config = &self.app.sdk_config;
                let uploaded =
                    upload::put(config, credentials, &plan, body.clone(), time_limit).await;
                uploaded.err()
            }
            Some(Granted::Refused(refusal)) => Some(refusal),
            None => Some(Refusal {
                reason: "there are no credentials for it".to_owned(),
                is_certain: true,
            }),
        };
        let ExportTask {
            tenant,
            integration_id,
            ..
        } = self.task;
        let (metrics, latency_ms) = (&self.app.metrics, began.elapsed().as_millis() as u64);
        if let Some(Refusal { reason, .. }) = &refusal {
            metrics.count(Metric::ExportsFailed, 1);
            let (integration, key) = (integration_id, &plan.key);
            tracing::warn!(
                tenant,
                integration,
                key,
                reason,
                latency_ms,
                "an upload failed"
            );
        } else {
            // What is between `from` and `until` and passes the filter is in the file.
            metrics.measure(Metric::FileBytes, plan.size_bytes);
            metrics.count(Metric::FileLines, plan.lines as usize);
            tracing::info!(
                tenant,
                integration = integration_id,
                key = plan.key,
                from = %plan.from,
                until = %plan.until,
                lines = plan.lines,
                bytes = plan.size_bytes,
                latency_ms,
                "exported"
            );
        }
        let buffer = body.try_into_mut().map(|mut body| {
            body.clear();
            body.into()
        });
        let buffer = buffer.unwrap_or_default();
        Seen::Uploaded { refusal, buffer }
    }
}
