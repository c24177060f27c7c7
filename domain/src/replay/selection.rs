//! Selects the events of an owed range that are sent: only what passes the filter, and without what repeats within one reading.
//! Webhooks are sent at least once: what repeats something that an earlier step has read is sent again.

use ulid::Ulid;

use crate::log::position::Position;
use crate::log::repeats::Repeats;
use crate::time::Millis;

/// Goes through the segments of a range, in order.
#[derive(Debug)]
pub struct Selection {
    from: Position,
    next: Position,
    repeats: Repeats,
    /// The segment that was not used up, and which of its events repeat earlier ones.
    begun: Option<(Ulid, Vec<bool>)>,
}

/// What was taken of a segment.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// The indices of its events.
    pub indices: Vec<u32>,
    /// Whether there is nothing more to take of it; otherwise the selection has to be given it again.
    pub is_used_up: bool,
}

impl Selection {
    /// A selection from a position on. It has to be given the segments from the position's own one on.
    pub fn new(from: Position) -> Selection {
        Selection {
            from,
            next: from,
            repeats: Repeats::default(),
            begun: None,
        }
    }

    /// The position behind what has been taken.
    pub fn next(&self) -> Position {
        self.next
    }

    /// Takes up to `room` events of `segment`, whose events are given by id and name.
    pub fn take<'a>(
        &mut self,
        segment: Ulid,
        events: impl Iterator<Item = (&'a str, &'a str)>,
        passes: impl Fn(&str) -> bool,
        room: usize,
    ) -> Taken {
        let events: Vec<(&str, &str)> = events.collect();
        let repeated = match self.begun.take().filter(|(begun, _)| *begun == segment) {
            Some((_, repeated)) => repeated,
            None => {
                let published_at = Millis(segment.timestamp_ms());
                let ids = events.iter();
                ids.map(|(id, _)| self.repeats.note(id, published_at))
                    .collect()
            }
        };
        if segment < self.from.segment {
            return Taken {
                indices: Vec::new(),
                is_used_up: true,
            };
        }
        let first = match self.next.segment == segment {
            true => self.next.index,
            false => 0,
        };
        let mut indices: Vec<u32> = (0..)
            .zip(events.iter().zip(&repeated))
            .filter(|(index, ((_, name), repeated))| *index >= first && !**repeated && passes(name))
            .map(|(index, _)| index)
            .collect();
        let is_used_up = indices.len() <= room;
        self.next = match indices.get(room) {
            Some(index) => Position {
                segment,
                index: *index,
            },
            None => Position::behind(segment),
        };
        indices.truncate(room);
        if !is_used_up {
            self.begun = Some((segment, repeated));
        }
        Taken {
            indices,
            is_used_up,
        }
    }

    /// Takes note that there is no further segment before `until`.
    pub fn end(&mut self, until: Ulid) {
        self.next = Position::at(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(n: u128) -> Ulid {
        Ulid(n << 80)
    }

    #[test]
    fn a_segment_is_taken_piece_by_piece_without_its_repeats() {
        let mut selection = Selection::new(Position::at(segment(2)));
        let all = |_: &str| true;
        let mut take = |at, ids: &[&'static str], room| {
            let events = ids.iter().map(|id| (*id, "order.created"));
            let taken = selection.take(segment(at), events, all, room);
            (taken.indices, taken.is_used_up, selection.next())
        };
        let before = take(1, &["a"], 9);
        assert_eq!(
            before,
            (vec![], true, Position::at(segment(2))),
            "before the position"
        );
        let ids = ["b", "a", "c", "d", "e"];
        let index = |index| Position {
            segment: segment(2),
            index,
        };
        assert_eq!(take(2, &ids, 2), (vec![0, 2], false, index(3)));
        assert_eq!(take(2, &ids, 1), (vec![3], false, index(4)));
        assert_eq!(
            take(2, &ids, 1),
            (vec![4], true, Position::behind(segment(2)))
        );
    }

    #[test]
    fn a_selection_goes_on_within_a_segment() {
        let position = Position {
            segment: segment(2),
            index: 1,
        };
        let mut selection = Selection::new(position);
        let events = [("a", "x.y"), ("b", "order.created"), ("c", "x.y")];
        let taken = selection.take(segment(2), events.into_iter(), |name| name == "x.y", 9);
        assert_eq!(taken.indices, [2]);
    }
}
