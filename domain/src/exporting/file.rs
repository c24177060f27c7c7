//! The bytes of a file: the lines of one segment after another.

use std::io;

use crc_fast::{CrcAlgorithm, checksum};

use crate::filter::Filter;
use crate::log::repeats::Repeats;
use crate::log::segment::{Segment, Unpacker};

/// CRC-64/NVME of a file's body, hexadecimal: what S3 computes of an object, too.
pub fn crc64(body: &[u8]) -> String {
    format!("{:016x}", checksum(CrcAlgorithm::Crc64Nvme, body))
}

/// Puts the lines of one segment after another into a file.
///
/// Its buffer is the one large thing that a run holds: lines are decompressed into it, and it is uploaded as it is. It grows to the
/// largest file and a segment, 52 MiB.
#[derive(Debug)]
pub struct Assembler {
    filter: Option<Filter>,
    max_bytes: usize,
    repeats: Repeats,
    unpacker: Unpacker,
    wanted: Vec<bool>,
    body: Vec<u8>,
    lines: u64,
}

impl Assembler {
    /// A file of at most `max_bytes` in `buffer`, behind what is known of `repeats`.
    ///
    /// # Errors
    /// When there is no memory for zstd's state.
    pub fn new(
        filter: Option<Filter>,
        max_bytes: usize,
        repeats: Repeats,
        buffer: Vec<u8>,
    ) -> io::Result<Assembler> {
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
        let (published_at, filter) = (segment.published_at(), self.filter.as_ref());
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

    /// Takes note of the ids of a segment before the file.
    pub(super) fn note(&mut self, segment: &Segment) {
        for id in segment.ids.lines() {
            self.repeats.note(id, segment.published_at());
        }
    }

    /// The body of the file, the number of its lines, and the ids that were read.
    pub fn into_parts(self) -> (Vec<u8>, u64, Repeats) {
        (self.body, self.lines, self.repeats)
    }
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

    use serde_json::value::RawValue;
    use ulid::Ulid;

    use super::*;
    use crate::log::segment::{self, NewEvent};

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
        assert_eq!((second.lines, second.body.len()), (2, 2 * line));
    }

    #[test]
    fn a_files_checksum_is_the_one_of_s3() {
        assert_eq!(crc64(b"123456789"), "ae8b14860a799888");
    }
}
