//! The state of an S3 export: a place in the event log, a lease, and the plan of the one file that is being written.
//!
//! A plan is stored before its file is uploaded and cleared together with the move of the place, so that a crash anywhere
//! leads to the same file under the same name with the same bytes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::clock::Millis;
use crate::filter::Filter;

/// The largest file: 50 MiB (the API page).
pub const MAX_FILE_BYTES: usize = 50 * 1024 * 1024;

/// A publisher or a queue that repeats an event's id within this time repeats the same event (contract, section 3).
pub const REPEAT_WINDOW: Duration = Duration::from_secs(20 * 60);

/// How far files have been written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Export {
    /// Nothing before this instant is ever exported: `starts_at`, or a restart after more than 30 days.
    pub floor: Millis,
    /// Everything before this place of the event log is in a file, or does not pass the filter.
    pub place: Ulid,
    /// Who is at work, and until when nobody else may be.
    pub lease: Option<Lease>,
    /// The file that is being written.
    pub plan: Option<Plan>,
}

/// The right of one run to write files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The run that holds it.
    pub holder: Ulid,
    /// From this instant on, another run may take it.
    pub until: Millis,
}

/// One file: what goes into it, and where it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The first place from which repeats of an event were looked for.
    pub repeats_from: Ulid,
    /// The first place that was read for it.
    pub from: Ulid,
    /// The first place behind it.
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
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
}

impl Export {
    /// An export registered to begin at `starts_at`.
    pub fn registered(starts_at: Millis) -> Export {
        Export {
            floor: starts_at,
            place: starts_at.place(),
            lease: None,
            plan: None,
        }
    }

    /// Restarts at `now`, too late to catch up. A plan that was stored may have been uploaded: it is finished first, and
    /// the place does not fall behind it.
    pub fn restart(&mut self, now: Millis) {
        self.floor = now;
        self.place = self.place.max(now.place());
    }

    /// Takes the lease for `holder` until `until`; `false` when another run holds it.
    pub fn take_lease(&mut self, holder: Ulid, now: Millis, until: Millis) -> bool {
        if self
            .lease
            .is_some_and(|lease| lease.holder != holder && lease.until > now)
        {
            return false;
        }
        self.lease = Some(Lease { holder, until });
        true
    }

    /// Whether `holder` has the lease at `now`.
    pub fn is_held_by(&self, holder: Ulid, now: Millis) -> bool {
        self.lease
            .is_some_and(|lease| lease.holder == holder && lease.until > now)
    }

    /// Gives the lease back.
    pub fn release(&mut self, holder: Ulid) {
        self.lease = self.lease.filter(|lease| lease.holder != holder);
    }

    /// Ends the plan: its file is in the bucket. The place moves behind it.
    pub fn finish_plan(&mut self) {
        if let Some(plan) = self.plan.take() {
            self.place = self.place.max(plan.until);
        }
    }

    /// The first place from which ids count when repeats of an event at `from` are looked for.
    pub fn repeats_from(&self, from: Ulid) -> Ulid {
        Millis(from.timestamp_ms())
            .before(REPEAT_WINDOW)
            .max(self.floor.min(Millis(from.timestamp_ms())))
            .place()
    }
}

/// The key of a file: `{key_prefix}/{tenant}/{timestamp}-data-{random_string}.export` (the API page); the timestamp is the
/// time of creation in epoch milliseconds, the random string that of a ULID, in lower case.
pub fn file_key(prefix: Option<&str>, tenant: &str, created: Ulid) -> String {
    let random = created.to_string()[10..].to_lowercase();
    let prefix = prefix
        .map(|prefix| format!("{}/", prefix.trim_end_matches('/')))
        .unwrap_or_default();
    format!(
        "{prefix}{tenant}/{}-data-{random}.export",
        created.timestamp_ms()
    )
}

#[cfg(test)]
mod tests {
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
        export.release(first);
        assert!(export.is_held_by(second, Millis(3_600)));
        export.release(second);
        assert_eq!(export.lease, None);
    }

    #[test]
    fn repeats_are_looked_for_in_the_preceding_20_minutes_but_not_below_the_floor() {
        let minute = 60_000;
        let export = Export::registered(Millis(100 * minute));
        assert_eq!(
            export.repeats_from(Millis(200 * minute).place()),
            Millis(180 * minute).place()
        );
        assert_eq!(
            export.repeats_from(Millis(110 * minute).place()),
            Millis(100 * minute).place()
        );
        assert_eq!(
            export.repeats_from(Millis(100 * minute).place()),
            Millis(100 * minute).place()
        );
    }
}
