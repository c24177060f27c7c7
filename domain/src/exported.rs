//! A file in a customer's bucket, as its owner can look it up: so that consecutive files can be shown to be complete.

use std::time::Duration;

use ulid::Ulid;

use crate::export::{Export, Plan};
use crate::time::Millis;

/// A file that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedFile {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// The first position of the event log that it covers: where the file before ends.
    pub from: Ulid,
    /// The first position that it does not cover.
    pub until: Ulid,
    /// How many lines it has.
    pub lines: u64,
    /// How many bytes.
    pub size_bytes: u64,
    /// Their CRC-64/NVME, hexadecimal, as S3 shows it in another form.
    pub crc64: String,
    /// When it was known to be stored.
    pub created_at: Millis,
    /// From when on it may be forgotten: with the events that are in it.
    pub expires_at: Millis,
}

impl ExportedFile {
    /// The file of a plan, which is in the bucket at `now`. It covers all behind the file before, also what did not pass the filter;
    /// where that is not known, or something in between is in no file, what the plan was made of.
    pub fn of(plan: &Plan, export: &Export, now: Millis, retention: Duration) -> ExportedFile {
        ExportedFile {
            bucket: plan.bucket.clone(),
            key: plan.key.clone(),
            from: export.listed_until.unwrap_or(plan.from),
            until: plan.until,
            lines: plan.lines,
            size_bytes: plan.size_bytes,
            crc64: plan.crc64.clone(),
            created_at: now,
            expires_at: now.after(retention),
        }
    }
}
