//! The segments whose events are being sent, unpacked once each.

use std::sync::{Arc, Mutex};

use domain::log::position::EventRef;
use domain::log::segment::Segment;
use domain::replay::unpacked::{BOUNDS, Unpacked};
use shared::store::StoreError;
use shared::store::event_log::EventLog;
use tokio::sync::{OnceCell, Semaphore};

use crate::ReplayError;

/// How many segments are read for single events at a time: each has up to 2 MiB until its event is copied out of it.
const MAX_READS: usize = 8;

/// Segments by their id.
pub struct Segments<'a> {
    event_log: &'a EventLog,
    tenant: &'a str,
    unpacked: Mutex<Unpacked<Cell>>,
    reads: Semaphore,
}

/// One reader at a time: the others wait for what it finds. Nothing where the event log has forgotten the segment.
type Cell = Arc<OnceCell<Option<Opened>>>;

/// An unpacked segment.
struct Opened {
    /// Id and name of each event.
    events: Vec<(String, String)>,
    lines: String,
    /// Where each line ends.
    ends: Vec<usize>,
}

/// An event, copied out of its segment: one that is under way does not keep the others in memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its envelope.
    pub body: String,
}

impl<'a> Segments<'a> {
    /// None yet.
    pub fn new(event_log: &'a EventLog, tenant: &'a str) -> Segments<'a> {
        Segments {
            event_log,
            tenant,
            unpacked: Mutex::new(Unpacked::new(BOUNDS)),
            reads: Semaphore::new(MAX_READS),
        }
    }

    /// Whether more may be read ahead of what is sent.
    pub fn has_room(&self) -> bool {
        lock(&self.unpacked).has_room()
    }

    /// Keeps a segment until these of its events have been sent.
    ///
    /// # Errors
    /// When it is not what was stored.
    pub fn hold(&self, segment: &Segment, indices: &[u32]) -> Result<(), ReplayError> {
        if indices.is_empty() {
            return Ok(());
        }
        if lock(&self.unpacked).hold_more(segment.id, indices) {
            return Ok(());
        }
        let opened = Opened::new(segment)?;
        let bytes = opened.bytes();
        let cell = Arc::new(OnceCell::new_with(Some(Some(opened))));
        lock(&self.unpacked).hold(segment.id, indices, bytes, cell);
        Ok(())
    }

    /// An event that was read is not sent in this step.
    pub fn release(&self, event: EventRef) {
        lock(&self.unpacked).release(event);
    }

    /// An event, to be sent or kept among the rejected ones; none when the event log has forgotten it. Its segment is read where it
    /// is not at hand, once for all who ask.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn get(&self, event: EventRef) -> Result<Option<Event>, ReplayError> {
        let cell = lock(&self.unpacked).take(event, Arc::default);
        let read = cell.get_or_try_init(|| async {
            let _permit = self.reads.acquire().await.map_err(std::io::Error::other)?;
            match self.event_log.get(self.tenant, &event).await {
                Ok(segment) => Ok(Some(Opened::new(&segment)?)),
                Err(StoreError::NotFound) => Ok(None),
                Err(error) => Err(ReplayError::from(error)),
            }
        });
        let Some(segment) = read.await? else {
            return Ok(None);
        };
        lock(&self.unpacked).note_bytes(event.segment, segment.bytes());
        let found = segment.event(event.index as usize);
        let fewer = || std::io::Error::other("a segment has fewer events than references");
        Ok(Some(found.ok_or_else(fewer)?))
    }
}

impl Opened {
    fn new(segment: &Segment) -> Result<Opened, ReplayError> {
        let lines = String::from_utf8(segment.decompress()?).map_err(std::io::Error::other)?;
        let events = segment.events();
        let events = events.map(|(id, name)| (id.to_owned(), name.to_owned()));
        Ok(Opened {
            events: events.collect(),
            ends: lines.match_indices('\n').map(|(at, _)| at).collect(),
            lines,
        })
    }

    fn bytes(&self) -> usize {
        let events = self.events.iter();
        events
            .map(|(id, name)| id.len() + name.len())
            .sum::<usize>()
            + self.lines.len()
    }

    fn event(&self, index: usize) -> Option<Event> {
        let (id, name) = self.events.get(index)?;
        let end = *self.ends.get(index)?;
        let start = index
            .checked_sub(1)
            .map_or(0, |before| self.ends[before] + 1);
        Some(Event {
            id: id.clone(),
            name: name.clone(),
            body: self.lines[start..end].to_owned(),
        })
    }
}

/// What the lock guards is whole after every statement.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use domain::log::segment::{NewEvent, build};
    use serde_json::value::RawValue;
    use ulid::Ulid;

    use super::*;

    #[test]
    fn an_event_is_copied_out_of_its_segment() {
        let payloads: Vec<Box<RawValue>> = (0..400)
            .map(|n| format!(r#"{{"number":{n},"text":"{}"}}"#, "x".repeat(2_500)))
            .map(|text| RawValue::from_string(text).unwrap())
            .collect();
        let ids: Vec<String> = (0..400).map(|n| format!("event-{n}")).collect();
        let events = ids.iter().zip(&payloads).map(|(id, payload)| NewEvent {
            id,
            name: "order.created",
            payload,
        });
        let mut number = 0;
        let next_id = || {
            number += 1;
            Ulid(number << 80)
        };
        let built = build("acme", events.collect(), next_id).unwrap();
        assert_eq!(built.len(), 1);
        let opened = Opened::new(&built[0].segment).unwrap();
        assert!(opened.bytes() > 1024 * 1024);
        for index in [0, 1, 399] {
            let (event, envelope) = &built[0].events[index];
            let expected = Event {
                id: event.id.to_owned(),
                name: event.name.to_owned(),
                body: envelope.get().to_owned(),
            };
            assert_eq!(opened.event(index), Some(expected));
        }
        assert_eq!(opened.event(400), None);
    }
}
