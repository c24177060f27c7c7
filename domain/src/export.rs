//! The state of an S3 export: a position in the event log, a lease, and the plan of the one file that is being written.
//!
//! A plan is stored before its file is uploaded and cleared together with the move of the position, so that a crash anywhere
//! leads to the same file under the same name with the same bytes. Only one run at a time may write: the one with the lease.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::filter::Filter;
use crate::lease::Lease;
use crate::log::REPEAT_WINDOW;
use crate::time::Millis;

/// The largest file: 50 MiB (docs/api.md).
pub const MAX_FILE_BYTES: usize = 50 * 1024 * 1024;

/// For how long exports fail for reasons of ours before the integration's log says so, and how often it does from then on.
pub const STUCK: Duration = Duration::from_secs(24 * 3600);

/// How far files have been written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Export {
    /// Nothing before this instant is ever exported: `starts_at`, or a restart after more than 30 days.
    pub floor: Millis,
    /// Everything before this position of the event log is in a file, or does not pass the filter.
    #[serde(rename = "place")]
    pub position: Ulid,
    /// The run that is at work, and until when no other may be.
    pub lease: Option<Lease>,
    /// The file that is being written.
    pub plan: Option<Plan>,
    /// Since when every upload has failed; none when the last one succeeded, or when none was made since the start.
    pub failing_since: Option<Millis>,
    /// When an upload last failed: tasks that were sent before have been dealt with.
    pub failed_at: Option<Millis>,
    /// Since when every run has failed for a reason of ours; none when the last one did not.
    #[serde(default)]
    pub stuck_since: Option<Millis>,
    /// When the integration's log said so last.
    #[serde(default)]
    pub stuck_logged_at: Option<Millis>,
    /// When the run began that holds the lease, or held it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<Millis>,
    /// When the last run began that came to its end: tasks that were sent before have been dealt with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_at: Option<Millis>,
    /// The end of the last file that is listed; none where something behind it is in no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed_until: Option<Ulid>,
}

/// A range of the event log to make a file of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first id from which repeats of an event are looked for.
    pub repeats_from: Ulid,
    /// The first id of which lines are written.
    pub from: Ulid,
    /// The first id not to read.
    pub until: Ulid,
}

/// One file: what goes into it, and where it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The first id from which repeats of an event were looked for.
    pub repeats_from: Ulid,
    /// The first id that was read for it.
    pub from: Ulid,
    /// The first id behind it.
    pub until: Ulid,
    /// The bucket's name.
    pub bucket: String,
    /// The bucket's region.
    pub region: String,
    /// The object's key.
    pub key: String,
    /// The filter that chose its lines.
    pub filter: Option<Filter>,
    /// The file's size.
    pub size_bytes: u64,
    /// The number of its lines.
    pub lines: u64,
    /// CRC-64/NVME of its bytes, hexadecimal: shows whether a file made again is the same one, and S3 whether it has got it. There is
    /// nothing to gain by forging it.
    pub crc64: String,
}

impl Plan {
    /// Whether its events are kept, of which `oldest` is the first instant.
    pub fn is_kept(&self, oldest: Millis) -> bool {
        self.from >= oldest.first_id()
    }

    /// What the file is made of.
    pub fn range(&self) -> Range {
        Range {
            repeats_from: self.repeats_from,
            from: self.from,
            until: self.until,
        }
    }
}

impl Export {
    /// An export registered to begin at `starts_at`.
    pub fn registered(starts_at: Millis) -> Export {
        Export {
            floor: starts_at,
            position: starts_at.first_id(),
            lease: None,
            plan: None,
            failing_since: None,
            failed_at: None,
            stuck_since: None,
            stuck_logged_at: None,
            begun_at: None,
            done_at: None,
            listed_until: Some(starts_at.first_id()),
        }
    }

    /// Notes at `now` whether a run failed for a reason of ours. `true` when the integration's log has to say so: after a day of
    /// nothing else, and once a day from then on.
    pub fn note_run(&mut self, now: Millis, has_failed: bool) -> bool {
        if !has_failed {
            (self.stuck_since, self.stuck_logged_at) = (None, None);
            return false;
        }
        let since = *self.stuck_since.get_or_insert(now);
        let last = self.stuck_logged_at.unwrap_or(since);
        let is_due = now.since(last) >= STUCK;
        if is_due {
            self.stuck_logged_at = Some(now);
        }
        is_due
    }

    /// How far files are behind `now`; none while the bucket refuses them, which its owner has to mend. Since the position, or since
    /// runs began to fail for a reason of ours, whichever is later: a position at which nothing was new for long says nothing about
    /// the first file after it.
    pub fn lag(&self, now: Millis) -> Option<Duration> {
        let position = Millis(self.position.timestamp_ms());
        let behind = now.since(position.max(self.stuck_since.unwrap_or_default()));
        self.failing_since.is_none().then_some(behind)
    }

    /// Whether every run has failed for a day for a reason of ours.
    pub fn is_stuck(&self, now: Millis) -> bool {
        self.stuck_since
            .is_some_and(|since| now.since(since) >= STUCK)
    }

    /// Starts again where it was. What failed before does not count any more: it may have been mended.
    pub fn resume(&mut self) {
        self.failing_since = None;
    }

    /// Restarts at `now`, too late to catch up: only what comes from now on is written. A plan of before is dropped. Its file
    /// may be in the bucket or not; its events are behind the position, and in no other file in any case.
    pub fn restart(&mut self, now: Millis) {
        self.resume();
        self.floor = now;
        self.position = self.position.max(now.first_id());
        self.plan = None;
        self.listed_until = None;
    }

    /// What the next file is made of: from the position up to the horizon, or to the end of a temporary integration. `oldest`
    /// is the first instant of which events are kept. `None` when nothing is left to read for now.
    pub fn next_range(
        &self,
        ends_at: Option<Millis>,
        horizon: Millis,
        oldest: Millis,
    ) -> Option<Range> {
        let until = ends_at.map_or(horizon, |end| end.min(horizon)).first_id();
        let from = self.position.max(oldest.first_id());
        (from < until).then(|| Range {
            repeats_from: self.repeats_from(from).max(oldest.first_id()),
            from,
            until,
        })
    }

    /// Whether everything before `ends_at` is in a file, or is older than `oldest`, the first instant of which events are kept.
    pub fn is_over(&self, ends_at: Millis, oldest: Millis) -> bool {
        self.plan.is_none() && self.position.max(oldest.first_id()) >= ends_at.first_id()
    }

    /// Takes the lease for `holder` until `until`; `false` when another run holds it.
    pub fn take_lease(&mut self, holder: Ulid, now: Millis, until: Millis) -> bool {
        if self
            .lease
            .is_some_and(|lease| lease.holder != holder && lease.is_held(now))
        {
            return false;
        }
        self.lease = Some(Lease { holder, until });
        self.begun_at = Some(now);
        true
    }

    /// Whether `holder` has the lease at `now`.
    pub fn is_held_by(&self, holder: Ulid, now: Millis) -> bool {
        self.lease
            .is_some_and(|lease| lease.is_held_by(holder, now))
    }

    /// Gives the lease back; `false` when `holder` has none.
    pub fn release(&mut self, holder: Ulid) -> bool {
        self.lease.take_if(|lease| lease.holder == holder).is_some()
    }

    /// Ends the plan: its file is in the bucket. The position moves behind it, and failures of before are forgotten.
    pub fn finish_plan(&mut self) {
        let end = self.plan.as_ref().map(|plan| plan.until);
        self.skip_plan();
        self.listed_until = end;
        self.failing_since = None;
    }

    /// Gives the plan up: its file cannot be made again, and it may have been uploaded. The position moves behind
    /// it, so that its events are in no other file.
    pub fn skip_plan(&mut self) {
        if let Some(plan) = self.plan.take() {
            self.position = self.position.max(plan.until);
        }
        self.listed_until = None;
    }

    /// Notes at `now` that an upload failed. Where it `is_absent` for certain from the bucket, which only holds when this was
    /// the plan's only attempt and it was refused, the plan is dropped: the next file may be another one, elsewhere.
    pub fn fail(&mut self, now: Millis, is_absent: bool) {
        self.failing_since.get_or_insert(now);
        self.failed_at = Some(now);
        if is_absent {
            self.plan = None;
        }
    }

    /// Whether uploads have done nothing but fail for `give_up`.
    pub fn is_given_up(&self, now: Millis, give_up: Duration) -> bool {
        self.failing_since
            .is_some_and(|since| now.since(since) >= give_up)
    }

    /// Whether a task that was sent at `sent_at` has been dealt with: an upload failed since, or a run that began since has come to
    /// its end. The next tick continues. So what waits in the queue is no more than a task for each integration.
    pub fn has_answered(&self, sent_at: Millis) -> bool {
        self.failed_at
            .max(self.done_at)
            .is_some_and(|at| sent_at <= at)
    }

    /// The first id from which ids count when repeats of an event at `from` are looked for.
    pub fn repeats_from(&self, from: Ulid) -> Ulid {
        Millis(from.timestamp_ms())
            .before(REPEAT_WINDOW)
            .max(self.floor.min(Millis(from.timestamp_ms())))
            .first_id()
    }
}

/// The key of a file: `{key_prefix}/{tenant}/{timestamp}-data-{random_string}.export` (docs/api.md); the timestamp is the
/// time of creation in epoch milliseconds, the random string that of a ULID, in lower case.
pub fn file_key(prefix: Option<&str>, tenant: &str, created: Ulid) -> String {
    key(prefix, tenant, created, "data")
}

/// The key of the object that a test of a bucket writes: as [`file_key`], with `test` in place of `data`.
pub fn test_key(prefix: Option<&str>, tenant: &str, created: Ulid) -> String {
    key(prefix, tenant, created, "test")
}

fn key(prefix: Option<&str>, tenant: &str, created: Ulid, kind: &str) -> String {
    let random = created.to_string()[10..].to_lowercase();
    let prefix = prefix
        .map(|prefix| format!("{}/", prefix.trim_end_matches('/')))
        .unwrap_or_default();
    format!(
        "{prefix}{tenant}/{}-{kind}-{random}.export",
        created.timestamp_ms()
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn keys_have_the_form_of_the_api_page() {
        let created = Ulid::from_string("01D1CT4WC0ABCDEFGHJKMNPQRS").unwrap();
        let millis = created.timestamp_ms();
        assert_eq!(
            file_key(Some("a/b"), "acme", created),
            format!("a/b/acme/{millis}-data-abcdefghjkmnpqrs.export")
        );
        assert_eq!(
            file_key(None, "acme", created),
            format!("acme/{millis}-data-abcdefghjkmnpqrs.export")
        );
    }

    #[test]
    fn a_lease_belongs_to_one_run_until_it_expires() {
        let mut export = Export::registered(Millis(1_000));
        let (first, second) = (Ulid(1), Ulid(2));
        assert!(export.take_lease(first, Millis(2_000), Millis(3_000)));
        assert!(!export.take_lease(second, Millis(2_999), Millis(4_000)));
        assert!(export.take_lease(first, Millis(2_999), Millis(3_500)));
        assert!(export.take_lease(second, Millis(3_500), Millis(5_000)));
        assert!(!export.is_held_by(first, Millis(3_500)));
        assert!(!export.release(first));
        assert!(export.is_held_by(second, Millis(3_600)));
        assert!(export.release(second));
        assert_eq!(export.lease, None);
    }

    pub(crate) fn plan(from: Millis, until: Millis) -> Plan {
        Plan {
            repeats_from: from.first_id(),
            from: from.first_id(),
            until: until.first_id(),
            bucket: "b".into(),
            region: "eu-west-1".into(),
            key: "k".into(),
            filter: None,
            size_bytes: 1,
            lines: 1,
            crc64: String::new(),
        }
    }

    #[test]
    fn a_range_goes_from_the_place_to_the_horizon_or_the_end() {
        let export = Export::registered(Millis(10_000));
        let range = |ends_at: Option<u64>, horizon, oldest| {
            export
                .next_range(ends_at.map(Millis), Millis(horizon), Millis(oldest))
                .map(|range| (range.from.timestamp_ms(), range.until.timestamp_ms()))
        };
        assert_eq!(range(None, 20_000, 0), Some((10_000, 20_000)));
        assert_eq!(range(Some(15_000), 20_000, 0), Some((10_000, 15_000)));
        assert_eq!(range(Some(30_000), 20_000, 0), Some((10_000, 20_000)));
        // A clock that is behind, and events that are no longer kept.
        assert_eq!(range(None, 10_000, 0), None);
        assert_eq!(range(None, 20_000, 12_000), Some((12_000, 20_000)));
        assert_eq!(range(None, 20_000, 20_000), None);
    }

    #[test]
    fn a_finished_plan_moves_the_place_and_ends_a_time_of_failures() {
        let mut export = Export::registered(Millis(0));
        export.plan = Some(plan(Millis(0), Millis(500)));
        export.fail(Millis(1_000), false);
        export.fail(Millis(2_000), false);
        assert_eq!(export.failing_since, Some(Millis(1_000)));
        assert!(export.plan.is_some(), "it may be in the bucket");
        assert!(!export.is_over(Millis(500), Millis(0)));
        export.finish_plan();
        assert_eq!(
            (export.position, export.failing_since),
            (Millis(500).first_id(), None)
        );
        assert!(export.is_over(Millis(500), Millis(0)));
        assert!(!export.is_over(Millis(501), Millis(0)));
        // What is left is not kept any more.
        assert!(export.is_over(Millis(501), Millis(501)));
    }

    #[test]
    fn a_day_of_failures_of_ours_is_logged_once_a_day() {
        let hour = Duration::from_secs(3600);
        let mut export = Export::registered(Millis(0));
        let mut logged = Vec::new();
        for n in 0..80 {
            if export.note_run(Millis(0).after(hour * n), true) {
                logged.push(n);
            }
        }
        assert_eq!(logged, [24, 48, 72]);
        assert!(export.is_stuck(Millis(0).after(hour * 24)));
        assert!(!export.note_run(Millis(0).after(hour * 80), false));
        assert!(!export.is_stuck(Millis(0).after(hour * 200)));
        assert!(!export.note_run(Millis(0).after(hour * 81), true));
    }

    #[test]
    fn a_file_that_is_certainly_not_in_the_bucket_is_planned_anew() {
        let mut export = Export::registered(Millis(0));
        export.plan = Some(plan(Millis(0), Millis(500)));
        export.fail(Millis(1_000), true);
        assert_eq!(
            (export.plan.as_ref(), export.position),
            (None, Millis(0).first_id())
        );
        assert!(export.has_answered(Millis(1_000)));
        assert!(!export.has_answered(Millis(1_001)));
        export.take_lease(Ulid(1), Millis(2_000), Millis(3_000));
        assert!(
            !export.has_answered(Millis(1_001)),
            "that run may be killed"
        );
        export.done_at = export.begun_at;
        assert!(export.has_answered(Millis(2_000)) && !export.has_answered(Millis(2_001)));
    }

    #[test]
    fn an_export_is_given_up_after_days_of_nothing_but_failures() {
        let day = Duration::from_secs(24 * 3600);
        let mut export = Export::registered(Millis(0));
        assert!(!export.is_given_up(Millis(0).after(day * 9), day * 5));
        export.fail(Millis(1), true);
        assert!(!export.is_given_up(Millis(0).after(day * 5), day * 5));
        assert!(export.is_given_up(Millis(1).after(day * 5), day * 5));
        export.resume();
        assert!(!export.is_given_up(Millis(1).after(day * 5), day * 5));
    }

    #[test]
    fn a_restart_too_late_leaves_everything_before_it_behind() {
        let mut export = Export::registered(Millis(0));
        export.plan = Some(plan(Millis(0), Millis(500)));
        export.fail(Millis(600), false);
        export.restart(Millis(9_000));
        assert_eq!(export.plan, None);
        assert_eq!(
            (export.floor, export.position),
            (Millis(9_000), Millis(9_000).first_id())
        );
        assert_eq!(export.failing_since, None);
    }

    #[test]
    fn repeats_are_looked_for_in_the_preceding_20_minutes_but_not_below_the_floor() {
        let minute = 60_000;
        let export = Export::registered(Millis(100 * minute));
        assert_eq!(
            export.repeats_from(Millis(200 * minute).first_id()),
            Millis(180 * minute).first_id()
        );
        assert_eq!(
            export.repeats_from(Millis(110 * minute).first_id()),
            Millis(100 * minute).first_id()
        );
        assert_eq!(
            export.repeats_from(Millis(100 * minute).first_id()),
            Millis(100 * minute).first_id()
        );
    }
}
