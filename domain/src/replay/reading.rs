//! One owed range as a step reads it: a read ends where enough events are found, where there is no more room in memory, or where
//! it has lasted for long; the next one continues behind it, in the middle of a segment as well.

use ulid::Ulid;

use super::selection::{Selection, Taken};
use crate::log::position::{EventRef, Position};
use crate::log::segment::Segment;

/// A range that is being read.
#[derive(Debug)]
pub struct Reading {
    until: Ulid,
    selection: Selection,
    /// The segment that was not used up, and its shard.
    rest: Option<(Segment, u32)>,
    /// Where the read under way began, how many events it may find, and what it has found.
    from: Position,
    limit: usize,
    events: Vec<EventRef>,
}

/// What a read needs next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The next segment of the event log: [`Reading::select`] or, where there is none, [`Reading::end`].
    Read,
    /// This segment, which an earlier read did not use up, for [`Reading::select`]; and its shard.
    Select(Segment, u32),
    /// The read is over: [`Reading::finish`].
    Over,
}

impl Reading {
    /// A range that has not been read from yet.
    pub fn new(from: Position, until: Ulid) -> Reading {
        Reading {
            until,
            selection: Selection::new(from),
            rest: None,
            from,
            limit: 0,
            events: Vec::new(),
        }
    }

    /// Whether a read of this range continues where the previous one ended.
    pub fn continues(&self, from: Position, until: Ulid) -> bool {
        self.selection.next() == from && self.until == until
    }

    /// Begins a read of at most `limit` events.
    pub fn begin(&mut self, limit: usize) {
        self.from = self.selection.next();
        self.limit = limit;
        self.events.clear();
    }

    /// What the read needs next. Without time left it is over as soon as it has moved at all: a read that never did would be
    /// made for ever.
    pub fn next(&mut self, has_room: bool, is_in_time: bool) -> Next {
        let has_moved = self.selection.next() > self.from;
        if self.events.len() >= self.limit || !has_room || (has_moved && !is_in_time) {
            return Next::Over;
        }
        match self.rest.take() {
            Some((segment, shard)) => Next::Select(segment, shard),
            None => Next::Read,
        }
    }

    /// Selects the events of a segment. One that is not used up comes back by [`Reading::put_back`].
    pub fn select(
        &mut self,
        segment: &Segment,
        shard: u32,
        passes: impl Fn(&str) -> bool,
    ) -> Taken {
        let room = self.limit - self.events.len();
        let taken = self
            .selection
            .take(segment.id, segment.events(), passes, room);
        let event = |index: &u32| EventRef {
            segment: segment.id,
            index: *index,
            shard,
        };
        self.events.extend(taken.indices.iter().map(event));
        debug_assert!(self.events.len() <= self.limit);
        taken
    }

    /// Keeps a segment that was not used up.
    pub fn put_back(&mut self, segment: Segment, shard: u32) {
        self.rest = Some((segment, shard));
    }

    /// Takes note that the range has no further segment, and ends the read.
    pub fn end(&mut self) {
        self.selection.end(self.until);
    }

    /// What the read has found, and the position behind it.
    pub fn finish(&mut self) -> (Vec<EventRef>, Position) {
        (std::mem::take(&mut self.events), self.selection.next())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use properties::{Random, RngExt};

    use super::*;
    use crate::replay::unpacked::{BOUNDS, Bounds, Unpacked};

    const SMALL: Bounds = Bounds {
        ahead_bytes: 4_000,
        idle_segments: 3,
        idle_bytes: 4_000,
    };

    /// Segments by their numbers of events and sizes in bytes.
    type Log = [(usize, usize)];

    fn id(number: usize) -> Ulid {
        Ulid((number as u128 + 1) << 80)
    }

    fn segment(number: usize, events: usize) -> Segment {
        let ids: Vec<String> = (0..events)
            .map(|index| format!("{number}-{index}"))
            .collect();
        Segment {
            id: id(number),
            ids: ids.join("\n"),
            names: vec!["order.created"; events].join("\n"),
            envelopes: Vec::new(),
        }
    }

    /// Reads and sends all of an event log, as a step does: reads while there is room, sends what was read, and in between sends
    /// an earlier event again. Says how far it came where a read finds nothing though all that was found is sent.
    fn catch_up(
        log: &Log,
        bounds: Bounds,
        limit: usize,
        sends: &[usize],
        has_room: impl Fn(&Unpacked<()>) -> bool,
    ) -> Result<(), String> {
        let until = id(log.len());
        let mut position = Position::at(id(0));
        let (mut reading, mut unpacked) = (Reading::new(position, until), Unpacked::new(bounds));
        let (mut segments, mut ahead, mut sent) = (0.., VecDeque::new(), Vec::new());
        let largest = log.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
        let mut sends = sends.iter().cycle();
        loop {
            let was_empty = ahead.is_empty();
            assert!(reading.continues(position, until));
            reading.begin(limit);
            loop {
                let (segment, shard) = match reading.next(has_room(&unpacked), true) {
                    Next::Over => break,
                    Next::Select(segment, shard) => (segment, shard),
                    Next::Read => {
                        let number = segments.next().unwrap();
                        let Some((events, _)) = log.get(number) else {
                            reading.end();
                            break;
                        };
                        (segment(number, *events), 0)
                    }
                };
                let taken = reading.select(&segment, shard, |_| true);
                let number = (segment.id.0 >> 80) as usize - 1;
                if !unpacked.hold_more(segment.id, &taken.indices) {
                    unpacked.hold(segment.id, &taken.indices, log[number].1, ());
                }
                if !taken.is_used_up {
                    reading.put_back(segment, shard);
                }
            }
            let (events, next) = reading.finish();
            if was_empty && next == position && next.segment < until {
                return Err(format!("nothing is read any more at {next:?}"));
            }
            (position, ahead) = (next, ahead.into_iter().chain(events).collect());
            assert!(unpacked.bytes() <= bounds.ahead_bytes + largest + bounds.idle_bytes);
            for _ in 0..*sends.next().unwrap() {
                let Some(event) = ahead.pop_front() else {
                    break;
                };
                let again = sent.get(sent.len() / 2).copied();
                for event in [event].into_iter().chain(again) {
                    unpacked.take(event, || ());
                    let bytes = log[(event.segment.0 >> 80) as usize - 1].1;
                    unpacked.note_bytes(event.segment, bytes);
                }
                sent.push(event);
            }
            if ahead.is_empty() && position.segment >= until {
                break;
            }
        }
        let all = (0..log.len()).flat_map(|number| {
            let events = 0..log[number].0 as u32;
            events.map(move |index| (id(number), index))
        });
        let sent = sent.iter().map(|event| (event.segment, event.index));
        assert!(sent.eq(all), "each event once, in order");
        assert!(unpacked.bytes() <= bounds.idle_bytes);
        Ok(())
    }

    #[test]
    fn all_that_is_owed_is_read_whatever_sizes_segments_have() {
        let input = |random: &mut Random| {
            let segments = random.random_range(0..40);
            let log: Vec<(usize, usize)> = (0..segments)
                .map(|_| (random.random_range(1..6), random.random_range(1..3_000)))
                .collect();
            let limit = random.random_range(1..12);
            let sends = random.random_range(1..9);
            let sends: Vec<usize> = (0..sends).map(|_| random.random_range(1..9)).collect();
            (log, limit, sends)
        };
        properties::holds(input, |(log, limit, sends)| {
            let read = catch_up(log, SMALL, *limit, sends, Unpacked::has_room);
            assert_eq!(read, Ok(()));
        });
    }

    #[test]
    fn segments_that_are_done_with_take_no_room_from_those_to_be_read() {
        let idle_counted =
            |bounds: Bounds| move |unpacked: &Unpacked<()>| unpacked.bytes() < bounds.ahead_bytes;
        let small = [(5, 1_500); 20];
        // Such as 500 events of 2.5 KB to a request make: an hour's backlog.
        let large = [(400, 1024 * 1024); 50];
        for (log, bounds, limit) in [(&small[..], SMALL, 5), (&large[..], BOUNDS, 500)] {
            let sends = [limit];
            assert_eq!(
                catch_up(log, bounds, limit, &sends, Unpacked::has_room),
                Ok(())
            );
            let wide = Bounds {
                idle_bytes: bounds.idle_segments * log[0].1,
                ..bounds
            };
            let stuck = catch_up(log, wide, limit, &sends, idle_counted(wide));
            assert!(stuck.is_err(), "what counts idle segments gets stuck");
        }
    }

    #[test]
    fn a_read_without_time_ends_once_it_has_moved() {
        let mut reading = Reading::new(Position::at(id(0)), id(9));
        reading.begin(9);
        assert_eq!(reading.next(true, false), Next::Read, "it has not moved");
        reading.select(&segment(0, 2), 0, |_| false);
        assert_eq!(reading.next(true, false), Next::Over);
        assert_eq!(reading.finish(), (vec![], Position::behind(id(0))));
    }

    #[test]
    fn an_event_that_is_not_to_be_sent_holds_nothing() {
        let mut unpacked = Unpacked::new(SMALL);
        unpacked.hold(id(0), &[0, 1], 5_000, ());
        let event = |index| EventRef {
            segment: id(0),
            index,
            shard: 0,
        };
        unpacked.release(event(0));
        unpacked.release(event(0));
        assert!(!unpacked.has_room(), "one more is held");
        unpacked.release(event(1));
        assert!(unpacked.has_room());
        assert_eq!(unpacked.bytes(), 0, "too large to be kept for later");
    }
}
