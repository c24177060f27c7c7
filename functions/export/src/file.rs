//! One file: the lines of a range of the event log, as bytes.

use sha2::{Digest, Sha256};
use shared::clock::Millis;
use shared::export::MAX_FILE_BYTES;
use shared::filter::Filter;
use shared::repeats::Repeats;
use ulid::Ulid;

use crate::{App, ExportError};

/// A file in memory.
#[derive(Debug)]
pub struct File {
    /// The first place behind what went into it: the range's end, or the segment that would have made it too large.
    pub until: Ulid,
    /// Its bytes: envelopes, each with a newline behind it.
    pub body: Vec<u8>,
    /// The number of its lines.
    pub lines: u64,
    /// Whether segments were read at all.
    pub is_read: bool,
}

impl File {
    /// SHA-256 of the body, hexadecimal.
    pub fn sha256(&self) -> String {
        Sha256::digest(&self.body)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// What a file is made of.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The first place from which repeats of an event are looked for.
    pub repeats_from: Ulid,
    /// The first place of which lines are written.
    pub from: Ulid,
    /// The first place not to read.
    pub until: Ulid,
}

/// Reads a tenant's segments of a range, drops repeats, filters, and copies the lines that remain.
///
/// The file ends before the segment that would take it over [`MAX_FILE_BYTES`], or at which `deadline` has passed. What it holds depends on nothing but the
/// event log, the range and the filter, as long as the range is sealed.
///
/// # Errors
/// [`ExportError::Store`], [`ExportError::Segment`].
pub async fn build(
    app: &App,
    tenant: &str,
    range: Range,
    filter: Option<&Filter>,
    deadline: Option<Millis>,
) -> Result<File, ExportError> {
    let mut file = File {
        until: range.until,
        body: Vec::new(),
        lines: 0,
        is_read: false,
    };
    let mut reader = app.event_log.read(tenant, range.repeats_from, range.until);
    let mut repeats = Repeats::default();
    while let Some((segment, _)) = reader.next().await? {
        let published_at = segment.published_at();
        let wanted: Vec<bool> = segment
            .events()
            .map(|(id, name)| {
                !repeats.note(id, published_at) && filter.is_none_or(|filter| filter.passes(name))
            })
            .collect();
        if segment.place < range.from {
            continue;
        }
        if deadline.is_some_and(|deadline| app.clock.now() >= deadline)
            && segment.place > range.from
        {
            file.until = segment.place;
            break;
        }
        file.is_read = true;
        if !wanted.contains(&true) {
            continue;
        }
        let start = file.body.len();
        append_wanted(&mut file.body, &segment.decompress()?, &wanted);
        if file.body.len() > MAX_FILE_BYTES {
            file.body.truncate(start);
            file.until = segment.place;
            break;
        }
        file.lines += wanted.iter().filter(|wanted| **wanted).count() as u64;
    }
    Ok(file)
}

/// Appends the lines that are wanted; each ends with a newline.
fn append_wanted(body: &mut Vec<u8>, lines: &[u8], wanted: &[bool]) {
    if !wanted.contains(&false) {
        body.extend_from_slice(lines);
        return;
    }
    let mut start = 0;
    for (end, wanted) in memchr::memchr_iter(b'\n', lines).zip(wanted) {
        if *wanted {
            body.extend_from_slice(&lines[start..=end]);
        }
        start = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_lines_are_copied_as_they_are() {
        for (wanted, expected) in [
            ([true, true, true], "{\"a\":1}\n{\"b\":\"é\"}\n{}\n"),
            ([true, false, true], "{\"a\":1}\n{}\n"),
            ([false, true, false], "{\"b\":\"é\"}\n"),
            ([false, false, false], ""),
        ] {
            let mut body = Vec::new();
            append_wanted(
                &mut body,
                "{\"a\":1}\n{\"b\":\"é\"}\n{}\n".as_bytes(),
                &wanted,
            );
            assert_eq!(String::from_utf8(body).unwrap(), expected);
        }
    }
}
