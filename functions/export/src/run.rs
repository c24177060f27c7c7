//! One run for one integration: under a lease, file after file, each by a plan that is stored before its upload.

use std::time::Duration;

use shared::clock::Millis;
use shared::export::{Plan, file_key};
use shared::history::Action;
use shared::integration::{Bucket, Integration, IntegrationType, Target};
use shared::secrets::SecretError;
use shared::store::integrations::Decision;
use shared::store::{Entry, Owner, StoreError};
use shared::tasks::ExportTask;
use shared::telemetry::chain;
use ulid::Ulid;

use crate::file::{self, File};
use crate::upload::{self, Refusal};
use crate::{App, ExportError};

/// How much longer than the time limit of an invocation a lease is held: it outlives its holder, and ends soon after.
const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// A place at which nothing is new moves only when it is this old: an idle integration costs next to no writes.
const IDLE_PLACE: Duration = Duration::from_secs(3600);

/// Writes the files that are due for one integration. Does nothing when it is gone or stopped, or when another run holds
/// its lease.
///
/// # Errors
/// [`ExportError`], where we failed. A refused upload is no error: it is logged, and the next tick tries again.
pub async fn run(app: &App, task: &ExportTask) -> Result<(), ExportError> {
    let holder = app.clock.ulid();
    let started = app.clock.now();
    let leased = app
        .integrations
        .change(&task.tenant, &task.integration_id, |integration| {
            let now = app.clock.now();
            let running = integration.is_running();
            Ok::<_, StoreError>(match integration.export_mut() {
                Some(export) if running => {
                    match export.take_lease(holder, now, now.after(app.time_limit + LEASE_MARGIN)) {
                        true => Decision::Write,
                        false => Decision::Keep,
                    }
                }
                _ => Decision::Keep,
            })
        });
    let mut integration = match leased.await {
        Ok((integration, true)) => integration,
        Ok((_, false)) | Err(StoreError::NotFound) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let result = files(app, holder, started, &mut integration).await;
    release(app, holder, &integration).await?;
    result
}

async fn files(
    app: &App,
    holder: Ulid,
    started: Millis,
    integration: &mut Integration,
) -> Result<(), ExportError> {
    // Half of the time limit: the rest is for the file that is under way.
    let deadline = started.after(app.time_limit / 2);
    while app.clock.now() < deadline {
        let found = plan_of(integration).cloned();
        let is_new = found.is_none();
        let (plan, file) = match found {
            Some(plan) => {
                let file = rebuild(app, integration, &plan).await?;
                // Reading took its time: a stop that was answered meanwhile holds.
                let generation = integration.generation;
                *integration = app
                    .integrations
                    .get(&integration.tenant, &integration.id)
                    .await?;
                let as_read =
                    integration.generation == generation && plan_of(integration) == Some(&plan);
                if !as_read || !integration.is_running() {
                    return Ok(());
                }
                (plan, file)
            }
            None => match plan(app, holder, integration, deadline).await? {
                Some(planned) => planned,
                None => return Ok(()),
            },
        };
        let Target::S3 { bucket, .. } = &integration.target else {
            return Ok(());
        };
        if let Err(refusal) = put(app, integration, bucket, &plan, file.body).await {
            let owner = Owner::from(&*integration);
            let (id, reason) = (app.clock.ulid(), refusal.reason);
            app.integration_log
                .append(
                    &owner,
                    &Entry {
                        id,
                        action: Action::ExportFailed,
                        reason,
                    },
                )
                .await?;
            // The only attempt was refused for certain: nothing is in the bucket, and the next file may be another one, in
            // another bucket. In doubt the plan stays, and is finished first.
            if is_new && refusal.is_certain {
                let dropped = |integration: &mut Integration| {
                    integration.export_mut().is_some_and(|export| {
                        export.plan.take_if(|stored| *stored == plan).is_some()
                    })
                };
                change(app, holder, integration, dropped).await?;
            }
            return Ok(());
        }
        let finished = change(app, holder, integration, |integration| {
            match integration.export_mut() {
                Some(export) if export.plan.as_ref() == Some(&plan) => {
                    export.finish_plan();
                    true
                }
                _ => false,
            }
        });
        if !finished.await? || !integration.is_running() {
            return Ok(());
        }
    }
    Ok(())
}

fn plan_of(integration: &Integration) -> Option<&Plan> {
    match &integration.target {
        Target::S3 { export, .. } => export.plan.as_ref(),
        Target::Webhook { .. } => None,
    }
}

/// Changes the integration while this run holds the lease of this generation. `false` when it does not, or when `decide`
/// leaves things as they are; `integration` is what is stored then.
async fn change(
    app: &App,
    holder: Ulid,
    integration: &mut Integration,
    mut decide: impl FnMut(&mut Integration) -> bool,
) -> Result<bool, ExportError> {
    let generation = integration.generation;
    let changed = app
        .integrations
        .change(&integration.tenant, &integration.id, |integration| {
            let now = app.clock.now();
            let held = integration.generation == generation
                && integration
                    .export_mut()
                    .is_some_and(|export| export.is_held_by(holder, now));
            Ok::<_, StoreError>(if held && decide(integration) {
                Decision::Write
            } else {
                Decision::Keep
            })
        });
    match changed.await {
        Ok((now_stored, written)) => {
            *integration = now_stored;
            Ok(written)
        }
        Err(StoreError::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Reads what is new, and stores the plan of the next file. `None` when there is nothing to write: the place moves on then
/// over what does not pass the filter.
async fn plan(
    app: &App,
    holder: Ulid,
    integration: &mut Integration,
    deadline: Millis,
) -> Result<Option<(Plan, File)>, ExportError> {
    let Target::S3 { bucket, export } = &integration.target else {
        return Ok(None);
    };
    let end = integration.ends_at.map(Millis::place);
    let horizon = app.event_log.horizon().place();
    let until = end.map_or(horizon, |end| end.min(horizon));
    // Stored in the plan: what the event log still holds today is held as long as the plan needs it.
    let oldest = app.event_log.oldest().place();
    let from = export.place.max(oldest);
    let place = export.place;
    if place >= until {
        return Ok(None);
    }
    let range = file::Range {
        repeats_from: export.repeats_from(from).max(oldest),
        from,
        until,
    };
    let file = file::build(
        app,
        &integration.tenant,
        range,
        integration.filter.as_ref(),
        Some(deadline),
    )
    .await?;
    let filter = integration.filter.clone();
    if file.lines == 0 {
        let is_old = app.clock.now().since(Millis(from.timestamp_ms())) > IDLE_PLACE;
        let is_over = end.is_some_and(|end| file.until >= end);
        if file.is_read || is_old || is_over {
            let moved = |integration: &mut Integration| {
                let unchanged = integration.filter == filter;
                integration
                    .export_mut()
                    .filter(|export| unchanged && export.plan.is_none() && export.place == place)
                    .is_some_and(|export| {
                        export.place = file.until;
                        true
                    })
            };
            change(app, holder, integration, moved).await?;
        }
        return Ok(None);
    }
    let plan = Plan {
        repeats_from: range.repeats_from,
        from,
        until: file.until,
        bucket: bucket.bucket.clone(),
        region: bucket.aws_region.clone(),
        key: file_key(
            bucket.key_prefix.as_deref(),
            &integration.tenant,
            app.clock.ulid(),
        ),
        filter: filter.clone(),
        size_bytes: file.body.len() as u64,
        lines: file.lines,
        sha256: file.sha256(),
    };
    let stored = change(app, holder, integration, |integration| {
        let as_read = integration.is_running() && integration.filter == filter;
        integration
            .export_mut()
            .filter(|export| as_read && export.plan.is_none() && export.place == place)
            .is_some_and(|export| {
                export.plan = Some(plan.clone());
                true
            })
    });
    Ok(stored.await?.then_some((plan, file)))
}

/// Makes the file of a plan that an earlier run stored: the same bytes, or none at all.
async fn rebuild(app: &App, integration: &Integration, plan: &Plan) -> Result<File, ExportError> {
    let range = file::Range {
        repeats_from: plan.repeats_from,
        from: plan.from,
        until: plan.until,
    };
    let file = file::build(app, &integration.tenant, range, plan.filter.as_ref(), None).await?;
    if file.until != plan.until
        || file.body.len() as u64 != plan.size_bytes
        || file.sha256() != plan.sha256
    {
        return Err(ExportError::PlanMismatch(plan.key.clone()));
    }
    Ok(file)
}

async fn put(
    app: &App,
    integration: &Integration,
    bucket: &Bucket,
    plan: &Plan,
    body: Vec<u8>,
) -> Result<(), Refusal> {
    let secret = app
        .secrets
        .decrypt(
            &integration.tenant,
            &integration.id,
            &bucket.aws_secret_access_key,
        )
        .await;
    let secret = secret.map_err(|error: SecretError| {
        tracing::error!(error = chain(&error), "a secret key cannot be decrypted");
        let reason = "The aws_secret_access_key could not be decrypted; the upload is tried again.";
        Refusal {
            reason: reason.to_owned(),
            is_certain: true,
        }
    })?;
    upload::put(
        &app.sdk_config,
        &bucket.aws_access_key_id,
        &secret,
        plan,
        body,
    )
    .await
}

/// Gives the lease back, and ends a temporary integration whose range has been written.
async fn release(app: &App, holder: Ulid, integration: &Integration) -> Result<(), ExportError> {
    let generation = integration.generation;
    let released = app
        .integrations
        .change(&integration.tenant, &integration.id, |integration| {
            if integration.generation != generation {
                return Ok(Decision::Keep);
            }
            let end = integration
                .ends_at
                .filter(|_| integration.integration_type == IntegrationType::Temporary);
            let Some(export) = integration.export_mut() else {
                return Ok(Decision::Keep);
            };
            export.release(holder);
            let over = end.filter(|end| export.plan.is_none() && export.place >= end.place());
            Ok::<_, StoreError>(match over {
                Some(end) if integration.stop(app.clock.now(), app.seal) => {
                    integration.is_finished = true;
                    Decision::WriteWith(
                        vec![Entry {
                            id: app.clock.ulid(),
                            action: Action::IntegrationStopped,
                            reason: format!(
                                "Stopped automatically: every event before {end} has been exported."
                            ),
                        }],
                        None,
                    )
                }
                _ => Decision::Write,
            })
        });
    match released.await {
        Ok(_) | Err(StoreError::NotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
