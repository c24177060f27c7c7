//! A file that is being made: a range of the event log, segment by segment.

use std::io;

use ulid::Ulid;

use super::file::Assembler;
use super::types::{Content, Do};
use crate::export::{Plan, Range};
use crate::filter::Filter;
use crate::lifecycle::ExportRead;
use crate::log::REPEAT_WINDOW;
use crate::log::repeats::Repeats;
use crate::log::segment::Segment;
use crate::time::Millis;

/// What a file is made for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// What is new; this is what was read of the integration.
    New(ExportRead),
    /// A plan that an earlier run has stored.
    Planned(Box<Plan>),
}

/// A file that is being made.
#[derive(Debug)]
pub(super) struct Building {
    pub(super) purpose: Purpose,
    range: Range,
    /// The first id that repeats are known from.
    known_from: Ulid,
    assembler: Assembler,
    /// Whether the ids before the file are being read.
    is_reading_ids: bool,
    /// Before which segment the file ends at this instant, unless it is the first.
    deadline: Option<Millis>,
    is_read: bool,
}

/// A file in memory.
#[derive(Debug)]
pub(super) struct File {
    /// The range's end, or the segment that would have made the file too large or the run too late.
    pub(super) until: Ulid,
    /// Its bytes: envelopes, each with a newline behind it.
    pub(super) body: Vec<u8>,
    /// The number of its lines.
    pub(super) lines: u64,
    /// Whether segments were read at all.
    pub(super) is_read: bool,
}

/// What comes of a segment.
#[derive(Debug)]
pub(super) enum Added {
    /// This is to be read next.
    Next(Do),
    /// The file ends before this id.
    Complete(Ulid),
}

/// The ids of a range of the event log: what the file behind it has to know of repeats. A run that writes several files hands
/// them on, instead of reading 20 minutes of the log again for each.
#[derive(Debug)]
pub(super) struct Known {
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

impl Building {
    /// A file of `range` in `buffer`, and what to read first. `known` is what a file right before this one left.
    ///
    /// Without a deadline, what the file holds depends on nothing but the event log, the range, the filter and the largest size,
    /// as long as the range is sealed.
    ///
    /// # Errors
    /// When there is no memory for zstd's state.
    pub(super) fn begin(
        purpose: Purpose,
        range: Range,
        max_bytes: usize,
        deadline: Option<Millis>,
        known: Option<Known>,
        buffer: Vec<u8>,
    ) -> io::Result<(Building, Do)> {
        let known = known.filter(|known| known.is_of(&range));
        let is_reading_ids = known.is_none();
        let (known_from, repeats) = match known {
            Some(known) => (known.from, known.repeats),
            None => (range.repeats_from, Repeats::default()),
        };
        let filter = purpose.filter().cloned();
        let building = Building {
            purpose,
            range,
            known_from,
            assembler: Assembler::new(filter, max_bytes, repeats, buffer)?,
            is_reading_ids,
            deadline,
            is_read: false,
        };
        let first = match is_reading_ids {
            true => Do::Read {
                content: Content::Ids,
                from: range.repeats_from,
                until: range.from,
            },
            false => building.read(),
        };
        Ok((building, first))
    }

    /// Adds what was read at `now`; none at the end of what was to be read.
    ///
    /// # Errors
    /// When the segment is not what was stored.
    pub(super) fn add(&mut self, segment: Option<Segment>, now: Millis) -> io::Result<Added> {
        let Some(segment) = segment else {
            if !self.is_reading_ids {
                return Ok(Added::Complete(self.range.until));
            }
            self.is_reading_ids = false;
            return Ok(Added::Next(self.read()));
        };
        if self.is_reading_ids {
            self.assembler.note(&segment);
            return Ok(Added::Next(Do::ReadOn));
        }
        debug_assert!(
            self.range.from <= segment.id && segment.id < self.range.until,
            "a segment of another range was read"
        );
        let is_late = self.is_read && self.deadline.is_some_and(|deadline| now >= deadline);
        if is_late || !self.assembler.add(&segment)? {
            return Ok(Added::Complete(segment.id));
        }
        self.is_read = true;
        Ok(Added::Next(Do::ReadOn))
    }

    /// The file, which ends before `until`, what it was made for, and what the one behind it has to know.
    pub(super) fn complete(self, until: Ulid) -> (Purpose, Range, File, Known) {
        let (body, lines, repeats) = self.assembler.into_parts();
        let file = File {
            until,
            body,
            lines,
            is_read: self.is_read,
        };
        let known = Known {
            from: self.known_from,
            until,
            repeats,
        };
        (self.purpose, self.range, file, known)
    }

    fn read(&self) -> Do {
        Do::Read {
            content: Content::Whole,
            from: self.range.from,
            until: self.range.until,
        }
    }
}

impl Purpose {
    fn filter(&self) -> Option<&Filter> {
        match self {
            Purpose::New(read) => read.filter.as_ref(),
            Purpose::Planned(plan) => plan.filter.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
