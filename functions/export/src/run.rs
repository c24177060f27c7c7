//! One run for one integration: under a lease, file after file.

use std::time::Duration;

use domain::integration::Integration;
use domain::lifecycle::{ExportInput, ended};
use domain::log::EXPORT_SEALS_BEHIND;
use domain::metric::Metric;
use domain::tasks::ExportTask;
use domain::time::Millis;
use shared::store::StoreError;

use crate::held::{Held, is_old, next_range, target};
use crate::write::Writer;
use crate::{App, ExportError};

/// How much longer than the time limit of an invocation a lease is held: it outlives its holder, whose clock may be behind,
/// and ends soon after.
const LEASE_MARGIN: Duration = Duration::from_secs(10);

/// Writes the files that are due for one integration. Does nothing when it is gone or stopped, when nothing is new, when
/// another run holds its lease, or when an upload has failed since the task was sent.
///
/// # Errors
/// [`ExportError`], where we failed. A refused upload is no error: it is logged, and the next tick tries again.
pub async fn run(app: &App, task: &ExportTask) -> Result<(), ExportError> {
    let began = app.clock.now();
    let found = app.integrations.get(&task.tenant, &task.integration_id);
    let integration = match found.await {
        Ok(integration) => integration,
        Err(StoreError::NotFound) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Read once: what comes while this run is at work is the next tick's, or each file would be followed by a small one.
    let horizon = app.event_log.horizon(EXPORT_SEALS_BEHIND);
    if !is_due(app, &integration, task, horizon).await? {
        return Ok(());
    }
    let holder = app.clock.ulid();
    let mut held = Held {
        app,
        holder,
        integration,
    };
    let until = app.clock.now().after(app.time_limit + LEASE_MARGIN);
    if !held.apply(ExportInput::Begin { until }).await? {
        return Ok(());
    }
    let mut writer = Writer::new(held, began, horizon);
    let written = writer.files().await;
    let has_failed = written.is_err();
    let released = writer.held.apply(ExportInput::Release { has_failed }).await;
    app.metrics.concern(&task.tenant, &task.integration_id);
    let lag = writer.held.target();
    if let Some(lag) = lag.and_then(|(_, export)| export.lag(app.clock.now())) {
        app.metrics.time(Metric::ExportLag, lag);
    }
    written.and(released.map(drop))
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
    if export.plan.is_some() || ended(integration, app.event_log.oldest()).is_some() {
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
