//! One file: the lines of a range of the event log, as bytes.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crc_fast::{CrcAlgorithm, checksum};
use domain::export::Range;
use domain::filter::Filter;
use domain::log::REPEAT_WINDOW;
use domain::log::repeats::Repeats;
use domain::log::segment::{Segment, Unpacker};
use domain::time::Millis;
use ulid::Ulid;

use crate::{App, ExportError};

/// A file in memory.
///
/// Its buffer is the one large thing that a run holds: lines are decompressed into it, and it is uploaded as it is. It grows to the largest file and a
/// segment, 52 MiB.
#[derive(Debug)]
pub struct File {
    /// The first id behind what went into it: the range's end, or the segment that would have made it too large.
    pub until: Ulid,
    /// Its bytes: envelopes, each with a newline behind it.
    pub body: Vec<u8>,
    /// The number of its lines.
    pub lines: u64,
    /// Whether segments were read at all.
    pub is_read: bool,
}

impl File {
    /// The body's [`crc64`].
    pub fn crc64(&self) -> String {
        crc64(&self.body)
    }
}

/// CRC-64/NVME of a file's body, hexadecimal: what S3 computes of an object, too.
pub fn crc64(body: &[u8]) -> String {
    format!("{:016x}", checksum(CrcAlgorithm::Crc64Nvme, body))
}

/// Where a file ends before its range does.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Before the segment that would make it larger than this.
    pub max_bytes: usize,
    /// Before the segment at which this instant has passed, unless it is the first.
    pub deadline: Option<Millis>,
}

/// The buffer of the last file, kept for the next one: in a fresh one, the first touch of every 4 KiB would cost more than
/// what is written there.
#[derive(Debug, Default)]
pub struct Buffer(Mutex<Vec<u8>>);

impl Buffer {
    /// The kept buffer, emptied; a new one where another run has it.
    pub fn take(&self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut *self.kept());
        buffer.clear();
        buffer
    }

    /// Keeps a buffer; the larger one where two come back.
    pub fn give_back(&self, buffer: Vec<u8>) {
        let mut kept = self.kept();
        if buffer.capacity() > kept.capacity() {
            *kept = buffer;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ids of a range of the event log: what the file behind it has to know of repeats. A run that writes several files hands
/// them on, instead of reading 20 minutes of the log again for each.
#[derive(Debug)]
pub struct Known {
    from: Ulid,
    until: Ulid,
    repeats: Repeats,
}

impl Known {
    /// Whether these ids cover the repeat window before `range`. Older ones are harmless, being out of the
    /// window; only where the window is cut short, they must not be there.
    fn is_of(&self, range: &Range) -> bool {
        let window = Millis(range.from.timestamp_ms()).before(REPEAT_WINDOW);
        let is_whole = self.from <= range.repeats_from && range.repeats_from == window.first_id();
        self.until == range.from && (is_whole || self.from == range.repeats_from)
    }
}

/// Puts the lines of one segment after another into a file: pure, and bounded by the largest file and a segment.
#[derive(Debug)]
pub struct Assembler<'a> {
    filter: Option<&'a Filter>,
    max_bytes: usize,
    repeats: Repeats,
    unpacker: Unpacker,
    wanted: Vec<bool>,
    body: Vec<u8>,
    lines: u64,
}

impl<'a> Assembler<'a> {
    /// A file of at most `max_bytes` in `buffer`, behind what is known of `repeats`.
    ///
    /// # Errors
    /// When there is no memory for zstd's state.
    pub fn new(
        filter: Option<&'a Filter>,
        max_bytes: usize,
        repeats: Repeats,
        buffer: Vec<u8>,
    ) -> io::Result<Assembler<'a>> {
        Ok(Assembler {
            filter,
            max_bytes,
            repeats,
            unpacker: Unpacker::new()?,
            wanted: Vec::new(),
            body: buffer,
            lines: 0,
        })
    }

    /// Appends those lines of a segment that are no repeats and pass the filter. `false` when they do not fit any more: the
    /// file is as if the segment had not been read.
    ///
    /// # Errors
    /// When the segment is not what was stored.
    pub fn add(&mut self, segment: &Segment) -> io::Result<bool> {
        let (published_at, filter) = (segment.published_at(), self.filter);
        self.repeats.mark();
        self.wanted.clear();
        self.wanted.extend(segment.events().map(|(id, name)| {
            !self.repeats.note(id, published_at) && filter.is_none_or(|filter| filter.passes(name))
        }));
        let lines = self.wanted.iter().filter(|wanted| **wanted).count();
        if lines == 0 {
            return Ok(true);
        }
        let start = self.body.len();
        self.unpacker.append(segment, &mut self.body)?;
        if lines < self.wanted.len() {
            keep_wanted(&mut self.body, start, &self.wanted)?;
        }
        if self.body.len() > self.max_bytes {
            self.body.truncate(start);
            self.repeats.rewind();
            return Ok(false);
        }
        self.lines += lines as u64;
        Ok(true)
    }

    /// The body of the file.
    pub fn body(self) -> Vec<u8> {
        self.body
    }
}

/// Reads a tenant's segments of a range, drops repeats, filters, and copies the lines that remain. `known` is what a file right
/// before this one left, and is left for the one behind it.
///
/// Without a deadline, what the file holds depends on nothing but the event log, the range, the filter and the largest size, as
/// long as the range is sealed.
///
/// # Errors
/// [`ExportError::Store`], [`ExportError::Segment`].
pub async fn build(
    app: &App,
    tenant: &str,
    range: Range,
    filter: Option<&Filter>,
    limits: Limits,
    known: &mut Option<Known>,
) -> Result<File, ExportError> {
    let before = match known.take().filter(|known| known.is_of(&range)) {
        Some(known) => known,
        None => read_ids(app, tenant, &range).await?,
    };
    let buffer = app.buffer.take();
    let mut assembler = Assembler::new(filter, limits.max_bytes, before.repeats, buffer)?;
    let (mut until, mut is_read) = (range.until, false);
    let mut reader = app.event_log.read(tenant, range.from, range.until);
    while let Some((segment, _)) = reader.next().await? {
        let is_late = |deadline| app.clock.now() >= deadline;
        if is_read && limits.deadline.is_some_and(is_late) || !assembler.add(&segment)? {
            until = segment.id;
            break;
        }
        is_read = true;
    }
    *known = Some(Known {
        from: before.from,
        until,
        repeats: assembler.repeats,
    });
    Ok(File {
        until,
        body: assembler.body,
        lines: assembler.lines,
        is_read,
    })
}

async fn read_ids(app: &App, tenant: &str, range: &Range) -> Result<Known, ExportError> {
    let mut repeats = Repeats::default();
    let mut reader = app
        .event_log
        .read_ids(tenant, range.repeats_from, range.from);
    while let Some((segment, _)) = reader.next().await? {
        for id in segment.ids.lines() {
            repeats.note(id, segment.published_at());
        }
    }
    Ok(Known {
        from: range.repeats_from,
        until: range.from,
        repeats,
    })
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
    use domain::log::segment::{self, NewEvent};
    use serde_json::value::RawValue;

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
    fn what_a_file_knows_of_repeats_is_of_use_to_the_one_right_behind_it() {
        let minute = |minute: u64| Millis(minute * 60_000).first_id();
        let known = |from, until| Known {
            from: minute(from),
            until: minute(until),
            repeats: Repeats::default(),
        };
        let range = |repeats_from, from| Range {
            repeats_from: minute(repeats_from),
            from: minute(from),
            until: minute(200),
        };
        assert!(known(100, 130).is_of(&range(110, 130)));
        assert!(known(110, 130).is_of(&range(110, 130)));
        assert!(!known(100, 130).is_of(&range(110, 131)), "not right behind");
        assert!(!known(115, 130).is_of(&range(110, 130)), "not enough");
        assert!(known(120, 130).is_of(&range(120, 130)), "the same floor");
        assert!(!known(100, 130).is_of(&range(120, 130)), "cut short since");
    }

    #[test]
    fn a_segment_that_does_not_fit_is_as_if_it_had_not_been_read() {
        let payload = RawValue::from_string("{\"a\":1}".to_owned()).unwrap();
        let event = |id| NewEvent {
            id,
            name: "order.created",
            payload: &payload,
        };
        let mut built = Vec::new();
        for (millis, ids) in [
            (1, vec!["a", "b"]),
            (2, vec!["b", "c"]),
            (3, vec!["c", "d"]),
        ] {
            let events = ids.into_iter().map(event).collect();
            built.extend(segment::build("acme", events, || Ulid::from_parts(millis, 0)).unwrap());
        }
        let line = built[0].events[0].1.get().len() + 1;
        let mut first = Assembler::new(None, 2 * line, Repeats::default(), Vec::new()).unwrap();
        assert!(first.add(&built[0].segment).unwrap());
        assert!(!first.add(&built[1].segment).unwrap());
        assert_eq!(first.body.len(), 2 * line);
        // The next file knows "b" of the first segment, and takes "c" once.
        let mut second = Assembler::new(None, 2 * line, first.repeats, Vec::new()).unwrap();
        assert!(second.add(&built[1].segment).unwrap());
        assert!(second.add(&built[2].segment).unwrap());
        assert_eq!((second.lines, second.body().len()), (2, 2 * line));
    }

    #[test]
    fn a_files_checksum_is_the_one_of_s3() {
        assert_eq!(crc64(b"123456789"), "ae8b14860a799888");
    }
}
