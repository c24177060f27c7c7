//! What was published, held against what arrived. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use domain::time::Millis;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::catalogue::{Event, passes};

/// The tenant of the demo's token.
pub const TENANT: &str = "acme";

/// The way an event took in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Api,
    Bus,
}

/// An event that was accepted.
#[derive(Clone, Debug)]
pub struct Published {
    pub event: Event,
    /// The id that the API or the bus gave it.
    pub id: String,
    /// Right before it was sent.
    pub at: Millis,
    pub way: Way,
}

/// What arrived at one place, the webhooks or the files.
#[derive(Debug, Default)]
pub struct Tally {
    /// Events of this run that should arrive here.
    pub expected: usize,
    /// Those that did, each counted once.
    pub arrived: usize,
    /// Those that did not.
    pub missing: usize,
    /// Arrivals beyond the first.
    pub duplicate: usize,
    /// What should not have arrived, or not like this: a sentence and how often.
    pub wrong: BTreeMap<String, usize>,
}

/// A place's arrivals, counted one after another.
pub struct Ledger<'a> {
    published: &'a HashMap<String, Published>,
    expected: HashSet<&'a str>,
    seen: HashSet<&'a str>,
    tally: Tally,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    tenant: String,
    name: String,
    published_at: String,
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[derive(Deserialize)]
struct Reference {
    id: String,
}

/// The payload's own id in an envelope, or `None` when it has none.
pub fn reference(body: &str) -> Option<String> {
    let envelope: Envelope = serde_json::from_str(body).ok()?;
    let reference: Reference = serde_json::from_str(envelope.payload.get()).ok()?;
    Some(reference.id)
}

impl<'a> Ledger<'a> {
    /// For the webhooks: what the filter lets pass is expected.
    pub fn of_webhooks(published: &'a HashMap<String, Published>) -> Ledger<'a> {
        Ledger::new(published, |event| passes(event.event.name))
    }

    /// For the files: everything is expected.
    pub fn of_files(published: &'a HashMap<String, Published>) -> Ledger<'a> {
        Ledger::new(published, |_| true)
    }

    fn new(
        published: &'a HashMap<String, Published>,
        is_expected: impl Fn(&Published) -> bool,
    ) -> Ledger<'a> {
        let expected: HashSet<&str> = published
            .iter()
            .filter(|(_, event)| is_expected(event))
            .map(|(reference, _)| reference.as_str())
            .collect();
        let tally = Tally {
            expected: expected.len(),
            ..Tally::default()
        };
        Ledger {
            published,
            expected,
            seen: HashSet::new(),
            tally,
        }
    }

    /// Counts an envelope that arrived. Gives the event back when this was the first arrival of one that was expected.
    pub fn enter(&mut self, body: &str) -> Option<&'a Published> {
        let Some((reference, event)) =
            reference(body).and_then(|id| self.published.get_key_value(&id))
        else {
            self.wrong("an event arrived that this run did not publish (does another program publish for the same tenant?)");
            return None;
        };
        if !self.expected.contains(reference.as_str()) {
            self.wrong(&format!(
                "{} arrived, which the filter refuses",
                event.event.name
            ));
            return None;
        }
        if let Err(difference) = compare(event, body) {
            self.wrong(&difference);
        }
        if !self.seen.insert(reference) {
            self.tally.duplicate += 1;
            return None;
        }
        Some(event)
    }

    /// Counts something else that is wrong with an arrival.
    pub fn wrong(&mut self, what: &str) {
        *self.tally.wrong.entry(what.to_owned()).or_insert(0) += 1;
    }

    /// The sum.
    pub fn finish(self) -> Tally {
        Tally {
            arrived: self.seen.len(),
            missing: self.expected.len() - self.seen.len(),
            ..self.tally
        }
    }
}

/// Compares an envelope with what was published: byte by byte for an event of the API; as JSON for one of the bus, since
/// EventBridge writes JSON in its own way.
fn compare(published: &Published, body: &str) -> Result<(), String> {
    let Event { name, payload, .. } = &published.event;
    let envelope: Envelope = serde_json::from_str(body)
        .map_err(|error| format!("an envelope cannot be read: {error}"))?;
    if envelope.tenant != TENANT || envelope.name != *name {
        return Err("an event arrived under another tenant or name".to_owned());
    }
    if Millis::parse(&envelope.published_at).is_err() {
        return Err("published_at is not a timestamp".to_owned());
    }
    let arrived = envelope.payload.get();
    let is_same = match published.way {
        Way::Api => {
            let published_at = envelope.published_at;
            body == format!(
                r#"{{"tenant":"{TENANT}","name":"{name}","published_at":"{published_at}","payload":{payload}}}"#
            )
        }
        Way::Bus => {
            serde_json::from_str::<Value>(arrived).ok() == serde_json::from_str(payload).ok()
        }
    };
    if is_same {
        Ok(())
    } else {
        Err(format!(
            "a payload of {name} did not arrive as it was published ({:?})",
            published.way
        ))
    }
}

/// The value below which `percent` of a hundred lie (nearest rank); 0 of nothing.
pub fn percentile(values: &mut [u64], percent: usize) -> u64 {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::events;

    fn published(way: Way) -> HashMap<String, Published> {
        events("run", 1, 16)
            .into_iter()
            .map(|event| {
                let id = format!("id-of-{}", event.reference);
                (
                    event.reference.clone(),
                    Published {
                        event,
                        id,
                        at: Millis(0),
                        way,
                    },
                )
            })
            .collect()
    }

    fn envelope(event: &Published) -> String {
        let Event { name, payload, .. } = &event.event;
        format!(
            r#"{{"tenant":"acme","name":"{name}","published_at":"2026-01-01T00:00:00.000Z","payload":{payload}}}"#
        )
    }

    #[test]
    fn every_event_once_is_neither_missing_nor_duplicate() {
        let published = published(Way::Api);
        let mut ledger = Ledger::of_files(&published);
        for event in published.values() {
            assert_eq!(ledger.enter(&envelope(event)).unwrap().id, event.id);
        }
        let tally = ledger.finish();
        assert_eq!((tally.expected, tally.arrived), (16, 16));
        assert_eq!((tally.missing, tally.duplicate), (0, 0));
        assert!(tally.wrong.is_empty(), "{tally:?}");
    }

    #[test]
    fn what_is_missing_duplicate_refused_and_foreign_is_told() {
        let published = published(Way::Api);
        let mut ledger = Ledger::of_webhooks(&published);
        let created = envelope(&published["run-00004"]);
        assert!(ledger.enter(&created).is_some());
        assert!(ledger.enter(&created).is_none());
        assert!(ledger.enter(&envelope(&published["run-00001"])).is_none());
        assert!(
            ledger
                .enter(&created.replace("run-00004", "other-1"))
                .is_none()
        );
        assert!(ledger.enter("not JSON").is_none());
        let tally = ledger.finish();
        assert_eq!((tally.expected, tally.arrived), (8, 1));
        assert_eq!((tally.missing, tally.duplicate), (7, 1));
        assert_eq!(tally.wrong.values().sum::<usize>(), 3);
        assert_eq!(
            tally.wrong["fulfillment_request.items_completed arrived, which the filter refuses"],
            1
        );
    }

    #[test]
    fn a_payload_of_the_api_is_compared_by_byte_and_one_of_the_bus_as_json() {
        for (way, wrong) in [(Way::Api, 1), (Way::Bus, 0)] {
            let published = published(way);
            let spaced =
                envelope(&published["run-00004"]).replace("\"note\":null", "\"note\": null");
            let mut ledger = Ledger::of_files(&published);
            ledger.enter(&spaced);
            assert_eq!(ledger.finish().wrong.len(), wrong, "{way:?}");
            let mut ledger = Ledger::of_files(&published);
            ledger.enter(&spaced.replace("null", "1"));
            assert_eq!(ledger.finish().wrong.len(), 1, "{way:?}");
        }
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut hundred, 50), 50);
        assert_eq!(percentile(&mut hundred, 99), 99);
        assert_eq!(percentile(&mut [7], 99), 7);
        assert_eq!(percentile(&mut [3, 1, 2], 50), 2);
        assert_eq!(percentile(&mut [], 50), 0);
    }
}
