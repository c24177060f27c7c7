//! What a run of the export does to an integration. Only the run that holds the lease may do it.

use ulid::Ulid;

use super::change::Decided;
use super::input::{ExportInput, ExportRead, Rules};
use super::switch::stop;
use crate::export::{Export, Plan};
use crate::exported::ExportedFile;
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
            let file = ExportedFile::of(plan, export, now, rules.retention);
            export.finish_plan();
            Decided::write().file(file)
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

/// Gives up a plan whose file cannot be made again: where its events are no longer kept, they are left out; otherwise they
/// are written to new files, and may be in two.
fn give_up(export: &mut Export, plan: &Plan, now: Millis, rules: &Rules) -> Decided {
    let is_kept = plan.is_kept(rules.oldest(now));
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
    if !has_failed {
        export.done_at = export.begun_at;
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::change::Change;
    use super::*;
    use crate::filter::Filter;
    use crate::integration::{Access, Bucket, Status};

    const HOLDER: Ulid = Ulid(7);
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const RULES: Rules = Rules {
        seal: Duration::from_secs(10),
        give_up: Duration::from_secs(5 * 24 * 3600),
        retention: Duration::from_secs(90 * 24 * 3600),
    };
    const NOW: Millis = Millis(1_700_000_000_000);

    fn bucket(name: &str) -> Bucket {
        Bucket {
            access: Access::Role {
                role_arn: "r".into(),
                external_id: "e".into(),
            },
            aws_region: "eu-west-1".into(),
            bucket: name.into(),
            key_prefix: None,
        }
    }

    /// An integration that the run [`HOLDER`] may write files for.
    fn held() -> Integration {
        let mut export = Export::registered(NOW);
        export.take_lease(HOLDER, NOW, NOW.after(DAY * 10));
        let mut integration = crate::integration::tests::webhook(NOW);
        integration.target = Target::S3 {
            bucket: bucket("b"),
            export: Box::new(export),
        };
        integration
    }

    fn plan() -> Plan {
        crate::export::tests::plan(NOW, NOW.after(DAY))
    }

    fn read(integration: &Integration) -> ExportRead {
        ExportRead {
            bucket: bucket("b"),
            filter: integration.filter.clone(),
            position: NOW.first_id(),
        }
    }

    fn planned() -> Integration {
        let mut integration = held();
        integration.export_mut().unwrap().plan = Some(plan());
        integration
    }

    fn apply_at(integration: &Integration, run: ExportInput, now: Millis) -> Change {
        let mut next = integration.clone();
        let decided = apply(&mut next, HOLDER, &run, now, &RULES);
        decided.into_change(next)
    }

    #[test]
    fn a_plan_is_stored_for_the_integration_that_was_read_and_no_other() {
        let store = |integration: &Integration| {
            let run = ExportInput::Plan {
                plan: plan(),
                read: read(&held()),
            };
            apply_at(integration, run, NOW).next.is_some()
        };
        let changed = |change: fn(&mut Integration)| {
            let mut integration = held();
            change(&mut integration);
            integration
        };
        assert!(store(&held()));
        for (case, integration) in [
            ("stopped", changed(|it| it.status = Status::Stopped)),
            ("filter", changed(|it| it.filter = Some(Filter::default()))),
            ("planned", planned()),
            (
                "bucket",
                changed(|it| {
                    if let Target::S3 { bucket: of, .. } = &mut it.target {
                        *of = bucket("another");
                    }
                }),
            ),
            (
                "position",
                changed(|it| it.export_mut().unwrap().position = NOW.after(DAY).first_id()),
            ),
            ("lease", changed(|it| it.export_mut().unwrap().lease = None)),
        ] {
            assert!(!store(&integration), "{case}");
        }
    }

    #[test]
    fn a_file_in_the_bucket_moves_the_position_behind_it() {
        let change = apply_at(&planned(), ExportInput::Finish { plan: plan() }, NOW);
        let mut next = change.next.unwrap();
        let export = next.export_mut().unwrap();
        assert_eq!((export.position, &export.plan), (plan().until, &None));
        assert!(change.entries.is_empty());
        let again = apply_at(&next, ExportInput::Finish { plan: plan() }, NOW);
        assert_eq!(again.next, None, "it is no plan any more");
    }

    #[test]
    fn uploads_that_only_fail_stop_the_integration_after_days() {
        let fail = |integration: &Integration, is_absent, now| {
            let run = ExportInput::Fail {
                plan: plan(),
                reason: "no such bucket".into(),
                is_absent,
            };
            apply_at(integration, run, now)
        };
        let first = fail(&planned(), false, NOW);
        let reason = "Upload to s3://b/k failed. Reason: no such bucket. It may have been stored by this or an earlier attempt, so this very file is tried again before any other.";
        assert_eq!(first.entries, [(Action::ExportFailed, reason.to_owned())]);
        let mut next = first.next.unwrap();
        assert!(next.export_mut().unwrap().plan.is_some());
        let late = fail(&next, false, NOW.after(RULES.give_up));
        assert_eq!(late.entries[0].0, Action::IntegrationStopped);
        assert!(!late.next.unwrap().is_running());
        // Refused at its only attempt: it is not in the bucket, and the next file may be another one.
        let mut absent = fail(&planned(), true, NOW).next.unwrap();
        assert_eq!(absent.export_mut().unwrap().plan, None);
    }

    #[test]
    fn a_plan_that_cannot_be_made_again_is_given_up() {
        let give_up = |now: Millis| {
            let mut integration = planned();
            integration.export_mut().unwrap().lease = None;
            let export = integration.export_mut().unwrap();
            export.take_lease(HOLDER, now, now.after(DAY));
            let change = apply_at(&integration, ExportInput::GiveUp { plan: plan() }, now);
            let mut next = change.next.unwrap();
            let export = next.export_mut().unwrap();
            assert_eq!(export.plan, None);
            (export.position, change.entries[0].1.clone())
        };
        // Its events are kept: they are written to new files.
        let (position, reason) = give_up(NOW.after(DAY));
        assert_eq!(position, NOW.first_id());
        assert!(reason.contains("written to new files"), "{reason}");
        // They are not: the position moves behind them.
        let (position, reason) = give_up(NOW.after(DAY * 91));
        assert_eq!(position, plan().until);
        assert!(reason.contains("older than what is kept"), "{reason}");
    }

    #[test]
    fn a_run_that_leaves_ends_a_range_that_has_been_written() {
        let mut integration = held();
        integration.integration_type = IntegrationType::Temporary;
        integration.ends_at = Some(NOW.after(DAY));
        let leave = ExportInput::Release { has_failed: false };
        let change = apply_at(&integration, leave.clone(), NOW);
        assert!(change.next.unwrap().is_running() && change.entries.is_empty());
        integration.export_mut().unwrap().position = NOW.after(DAY).first_id();
        let change = apply_at(&integration, leave.clone(), NOW);
        let mut next = change.next.unwrap();
        assert!(next.is_finished && !next.is_running());
        assert_eq!(next.export_mut().unwrap().lease, None);
        assert_eq!(change.entries[0].0, Action::IntegrationStopped);
        assert_eq!(apply_at(&next, leave, NOW).next, None, "it holds no lease");
    }
}
