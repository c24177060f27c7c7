//! What a filter would let pass of a range of the event log, before an integration with it is registered.

use std::collections::BTreeMap;
use std::io;

use crate::filter::Filter;
use crate::log::repeats::Repeats;
use crate::log::segment::Segment;
use crate::time::Millis;

/// How many matching events are shown.
pub const SHOWN: usize = 5;
/// How many requests a second a replay begins with, and how many it comes to, doubled each second, with a receiver that takes them.
const FIRST_RATE: u64 = 10;
const LAST_RATE: u64 = 500;

/// What was counted of a range.
#[derive(Debug, Default)]
pub struct Preview {
    filter: Option<Filter>,
    repeats: Repeats,
    /// Events in the range, those that repeat an earlier one aside.
    pub events: u64,
    /// Those of them that pass.
    pub matching: u64,
    /// How much these are, as webhooks' bodies or as lines of files without their ends, in bytes.
    pub bytes: u64,
    /// How many pass, by name.
    pub names: BTreeMap<String, u64>,
    /// The first that pass.
    pub first: Vec<Shown>,
}

/// A matching event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was published.
    pub published_at: Millis,
}

impl Preview {
    /// Of nothing yet.
    pub fn new(filter: Option<Filter>) -> Preview {
        Preview {
            filter,
            ..Preview::default()
        }
    }

    /// Counts a segment: in the order of the event log.
    ///
    /// # Errors
    /// When the segment is not what was stored.
    pub fn add(&mut self, segment: &Segment) -> io::Result<()> {
        let published_at = segment.published_at();
        let mut passing = Vec::new();
        for (index, (id, name)) in segment.events().enumerate() {
            if self.repeats.note(id, published_at) {
                continue;
            }
            self.events += 1;
            if self
                .filter
                .as_ref()
                .is_none_or(|filter| filter.passes(name))
            {
                passing.push((index, id, name));
            }
        }
        if passing.is_empty() {
            return Ok(());
        }
        let envelopes = segment.decompress()?;
        let lines: Vec<&[u8]> = envelopes.split(|byte| *byte == b'\n').collect();
        for (index, id, name) in passing {
            self.matching += 1;
            self.bytes += lines.get(index).map_or(0, |line| line.len() as u64);
            *self.names.entry(name.to_owned()).or_default() += 1;
            if self.first.len() < SHOWN {
                self.first.push(Shown {
                    id: id.to_owned(),
                    name: name.to_owned(),
                    published_at,
                });
            }
        }
        Ok(())
    }
}

/// How many seconds a replay of so many events takes with a receiver that takes 500 a second: what it begins with, doubled each
/// second.
pub fn replay_seconds(events: u64) -> u64 {
    let (mut left, mut rate, mut seconds) = (events, FIRST_RATE, 0);
    while left > 0 && rate < LAST_RATE {
        left = left.saturating_sub(rate);
        rate *= 2;
        seconds += 1;
    }
    seconds + left.div_ceil(LAST_RATE)
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use ulid::Ulid;

    use super::*;
    use crate::log::segment::{NewEvent, build};

    fn segment(second: u64, events: &[(&str, &str)]) -> Segment {
        let payload = RawValue::from_string(r#"{"n":1}"#.to_owned()).unwrap();
        let new = |(id, name): &(&'static str, &'static str)| NewEvent {
            id,
            name,
            payload: &payload,
        };
        let events: Vec<(&'static str, &'static str)> = events
            .iter()
            .map(|(id, name)| {
                let leak =
                    |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
                (leak(id), leak(name))
            })
            .collect();
        let events = events.iter().map(new).collect();
        let mut built = build("acme", events, || Ulid::from_parts(second * 1000, 1)).unwrap();
        built.remove(0).segment
    }

    #[test]
    fn what_passes_is_counted_once_and_by_name() {
        let filter = Filter {
            event_filter: Some(vec!["order.created".into()]),
            entity_filter: Some(vec!["return".into()]),
        };
        let mut preview = Preview::new(Some(filter));
        preview
            .add(&segment(1, &[("a", "order.created"), ("b", "order.paid")]))
            .unwrap();
        preview
            .add(&segment(
                2,
                &[
                    ("a", "order.created"),
                    ("c", "return.opened"),
                    ("d", "order.created"),
                ],
            ))
            .unwrap();
        assert_eq!((preview.events, preview.matching), (4, 3));
        let names: Vec<(&str, u64)> = preview
            .names
            .iter()
            .map(|(name, count)| (name.as_str(), *count))
            .collect();
        assert_eq!(names, [("order.created", 2), ("return.opened", 1)]);
        let ids: Vec<&str> = preview.first.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["a", "c", "d"]);
        let body = r#"{"tenant":"acme","name":"order.created","published_at":"1970-01-01T00:00:01.000Z","payload":{"n":1}}"#;
        assert_eq!(preview.bytes, 3 * body.len() as u64);
    }

    #[test]
    fn a_replay_begins_slowly_and_comes_to_five_hundred_a_second() {
        for (events, seconds) in [
            (0, 0),
            (1, 1),
            (10, 1),
            (11, 2),
            (30, 2),
            (630, 6),
            (631, 7),
            (1_000_000, 2005),
        ] {
            assert_eq!(replay_seconds(events), seconds, "{events}");
        }
    }
}
