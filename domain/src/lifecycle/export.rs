//! What a run of the export does to an integration. Only the run that holds the lease may do it.

use ulid::Ulid;

use super::change::Decided;
use super::input::{ExportInput, ExportRead, Rules};
use super::switch::stop;
use crate::export::{Export, Plan};
use crate::integration::{Integration, IntegrationType, Target};
use crate::integration_log::{Action, exported};
use crate::time::Millis;

/// Applies what the run of `holder` does at `now`.
pub(super) fn apply(
    integration: &mut Integration,
    holder: Ulid,
    run: &ExportInput,
    now: Millis,
    rules: &Rules,
) -> Decided {
    let is_running = integration.is_running();
    let Some(export) = integration.export_mut() else {
        return Decided::refuse();
    };
    match run {
        ExportInput::Begin { until } => {
            match is_running && export.take_lease(holder, now, *until) {
                true => Decided::write(),
                false => Decided::refuse(),
            }
        }
        ExportInput::Release { has_failed } => {
            release(integration, holder, *has_failed, now, rules)
        }
        _ if !export.is_held_by(holder, now) => Decided::refuse(),
        ExportInput::Plan { plan, read } => store_plan(integration, plan, read),
        ExportInput::Skip { until, read } => skip(integration, *until, read),
        ExportInput::Finish { plan } if export.plan.as_ref() == Some(plan) => {
            export.finish_plan();
            Decided::write()
        }
        ExportInput::GiveUp { plan } if export.plan.as_ref() == Some(plan) => {
            give_up(export, plan, now, rules)
        }
        ExportInput::Fail {
            plan,
            reason,
            is_absent,
        } if export.plan.as_ref() == Some(plan) => {
            let reason = upload_failed(plan, reason, *is_absent);
            export.fail(now, *is_absent);
            fail(integration, reason, now, rules)
        }
        _ => Decided::refuse(),
    }
}

/// The end of a temporary integration's range, when all of it that is kept has been written. `oldest` is the first instant
/// of which events are kept.
pub fn ended(integration: &Integration, oldest: Millis) -> Option<Millis> {
    let Target::S3 { export, .. } = &integration.target else {
        return None;
    };
    integration
        .ends_at
        .filter(|_| integration.integration_type == IntegrationType::Temporary)
        .filter(|end| export.is_over(*end, oldest))
}

/// Stores a plan, as long as the integration is the one that it was made for: what an update has been answered holds for
/// this file, too.
fn store_plan(integration: &mut Integration, plan: &Plan, read: &ExportRead) -> Decided {
    let is_as_read = integration.is_running() && integration.filter == read.filter;
    let Target::S3 { bucket, export } = &mut integration.target else {
        return Decided::refuse();
    };
    let is_as_read = is_as_read && *bucket == read.bucket && export.position == read.position;
    if !is_as_read || export.plan.is_some() {
        return Decided::refuse();
    }
    export.plan = Some(plan.clone());
    Decided::write()
}

fn skip(integration: &mut Integration, until: Ulid, read: &ExportRead) -> Decided {
    let is_as_read = integration.filter == read.filter;
    let Some(export) = integration.export_mut() else {
        return Decided::refuse();
    };
    if !is_as_read || export.plan.is_some() || export.position != read.position {
        return Decided::refuse();
    }
    export.position = until;
    Decided::write()
}

/// Gives up a plan whose file cannot be made again: where its events are not kept any more, they are left out; otherwise they
/// are written to new files, and may be in two.
fn give_up(export: &mut Export, plan: &Plan, now: Millis, rules: &Rules) -> Decided {
    let is_kept = plan.from >= rules.oldest(now).first_id();
    let Plan { bucket, key, .. } = plan;
    let reason = match is_kept {
        true => {
            export.plan = None;
            format!(
                "s3://{bucket}/{key} cannot be made again as it was planned, and whether it was uploaded is not known. Its events are written to new files: if this one is in the bucket, its lines are there twice."
            )
        }
        false => {
            export.skip_plan();
            format!(
                "s3://{bucket}/{key} was given up: the events of this file are older than what is kept, and whether it was uploaded is not known."
            )
        }
    };
    Decided::write().log(Action::ExportFailed, reason)
}

fn upload_failed(plan: &Plan, reason: &str, is_absent: bool) -> String {
    let Plan { bucket, key, .. } = plan;
    let failed = format!("Upload to s3://{bucket}/{key} failed. Reason: {reason}.");
    match is_absent {
        true => failed,
        false => {
            failed
                + " It may have been stored by this or an earlier attempt, so this very file is tried again before any other."
        }
    }
}

/// Logs a failed upload, or stops an integration whose uploads have done nothing but fail for days.
fn fail(integration: &mut Integration, reason: String, now: Millis, rules: &Rules) -> Decided {
    let Some(export) = integration.export_mut() else {
        return Decided::refuse();
    };
    let since = export.failing_since.unwrap_or(now);
    if export.is_given_up(now, rules.give_up) && integration.is_running() {
        let days = rules.give_up.as_secs() / (24 * 3600);
        let reason = format!(
            "Stopped automatically: every upload since {since} has failed, for more than {days} days. {reason} Nothing is lost if it is started again within 30 days."
        );
        return stop(integration, reason, now, rules);
    }
    Decided::write().log(Action::ExportFailed, reason)
}

/// Gives the lease back, with what came of the run, and ends a temporary integration whose range has been written.
fn release(
    integration: &mut Integration,
    holder: Ulid,
    has_failed: bool,
    now: Millis,
    rules: &Rules,
) -> Decided {
    let oldest = rules.oldest(now);
    let Some(export) = integration.export_mut() else {
        return Decided::refuse();
    };
    if !export.release(holder) {
        return Decided::refuse();
    }
    let is_logged = export.note_run(now, has_failed);
    if let Some(end) = ended(integration, oldest)
        && integration.is_running()
    {
        integration.is_finished = true;
        let reason = exported(end, integration.starts_at, oldest);
        return stop(integration, reason, now, rules);
    }
    match is_logged {
        true => Decided::write().log(
            Action::ExportFailed,
            "Exports have failed for a day or more for a reason of the service's own, not of your bucket. Nothing is lost: they are tried again at each tick.",
        ),
        false => Decided::write(),
    }
}
