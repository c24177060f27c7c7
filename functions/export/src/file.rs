//! One file: the lines of a range of the event log, as bytes.

use std::io;

use crc_fast::{CrcAlgorithm, checksum};
use shared::clock::Millis;
use shared::export::Range;
use shared::filter::Filter;
use shared::repeats::Repeats;
use shared::segment::Unpacker;
use ulid::Ulid;

use crate::{App, ExportError};

/// A file in memory.
///
/// Its buffer is the one large thing that a run holds: lines are decompressed into it, and it is uploaded as it is. It grows to the largest file and a
/// segment, 52 MiB.
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
    /// CRC-64/NVME of the body, hexadecimal.
    pub fn crc64(&self) -> String {
        format!("{:016x}", checksum(CrcAlgorithm::Crc64Nvme, &self.body))
    }
}

/// Where a file ends before its range does.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Before the segment that would make it larger than this.
    pub max_bytes: usize,
    /// Before the segment at which this instant has passed, unless it is the first.
    pub deadline: Option<Millis>,
}

/// Reads a tenant's segments of a range, drops repeats, filters, and copies the lines that remain.
///
/// Without a deadline, what the file holds depends on nothing but the event log, the range, the filter and the largest size, as long as the range is sealed.
///
/// # Errors
/// [`ExportError::Store`], [`ExportError::Segment`].
pub async fn build(
    app: &App,
    tenant: &str,
    range: Range,
    filter: Option<&Filter>,
    limits: Limits,
) -> Result<File, ExportError> {
    let mut file = File {
        until: range.until,
        body: Vec::new(),
        lines: 0,
        is_read: false,
    };
    let mut repeats = Repeats::default();
    let mut before = app
        .event_log
        .read_ids(tenant, range.repeats_from, range.from);
    while let Some((segment, _)) = before.next().await? {
        for id in segment.ids.lines() {
            repeats.note(id, segment.published_at());
        }
    }
    let (mut unpacker, mut wanted) = (Unpacker::new()?, Vec::new());
    let mut reader = app.event_log.read(tenant, range.from, range.until);
    while let Some((segment, _)) = reader.next().await? {
        let is_late = |deadline| app.clock.now() >= deadline;
        if file.is_read && limits.deadline.is_some_and(is_late) {
            file.until = segment.place;
            break;
        }
        file.is_read = true;
        let published_at = segment.published_at();
        wanted.clear();
        wanted.extend(segment.events().map(|(id, name)| {
            !repeats.note(id, published_at) && filter.is_none_or(|filter| filter.passes(name))
        }));
        let lines = wanted.iter().filter(|wanted| **wanted).count();
        if lines == 0 {
            continue;
        }
        let start = file.body.len();
        unpacker.append(&segment, &mut file.body)?;
        if lines < wanted.len() {
            keep_wanted(&mut file.body, start, &wanted)?;
        }
        if file.body.len() > limits.max_bytes {
            file.body.truncate(start);
            file.until = segment.place;
            break;
        }
        file.lines += lines as u64;
    }
    Ok(file)
}

/// Of the lines behind `start`, keeps those that are wanted.
///
/// # Errors
/// When there are fewer lines than ids.
fn keep_wanted(body: &mut Vec<u8>, start: usize, wanted: &[bool]) -> io::Result<()> {
    let (mut read, mut kept) = (start, start);
    for wanted in wanted {
        let length = memchr::memchr(b'\n', &body[read..])
            .ok_or_else(|| io::Error::other("a segment has fewer lines than ids"))?;
        let next = read + length + 1;
        if *wanted {
            body.copy_within(read..next, kept);
            kept += next - read;
        }
        read = next;
    }
    body.truncate(kept);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_lines_are_copied_as_they_are() {
        for (wanted, expected) in [
            ([true, true, true], "before\n{\"a\":1}\n{\"b\":\"é\"}\n{}\n"),
            ([true, false, true], "before\n{\"a\":1}\n{}\n"),
            ([false, true, false], "before\n{\"b\":\"é\"}\n"),
            ([false, false, true], "before\n{}\n"),
            ([false, false, false], "before\n"),
        ] {
            let mut body = "before\n{\"a\":1}\n{\"b\":\"é\"}\n{}\n".as_bytes().to_vec();
            keep_wanted(&mut body, "before\n".len(), &wanted).unwrap();
            assert_eq!(String::from_utf8(body).unwrap(), expected);
        }
        assert!(keep_wanted(&mut b"{}\n".to_vec(), 0, &[true, false]).is_err());
    }

    #[test]
    fn a_files_checksum_is_the_one_of_s3() {
        let file = File {
            until: Ulid(0),
            body: b"123456789".to_vec(),
            lines: 1,
            is_read: true,
        };
        assert_eq!(file.crc64(), "ae8b14860a799888");
    }
}
