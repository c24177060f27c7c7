//! The segments whose events are being sent, unpacked once each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use domain::log::position::EventRef;
use domain::log::segment::Segment;
use shared::store::StoreError;
use shared::store::event_log::EventLog;
use tokio::sync::OnceCell;
use ulid::Ulid;

use crate::ReplayError;

/// How many segments are kept of which no event that was read waits to be sent.
const MAX_IDLE: usize = 16;

/// Segments by their id.
pub struct Segments<'a> {
    event_log: &'a EventLog,
    tenant: &'a str,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<Ulid, Entry>,
    bytes: usize,
    /// Counts uses, to find what was used longest ago.
    uses: u64,
}

struct Entry {
    /// How many events of it were read and are not sent yet.
    holds: usize,
    used: u64,
    bytes: usize,
    opened: Arc<OnceCell<Option<Arc<Opened>>>>,
}

/// An unpacked segment.
struct Opened {
    events: Vec<(String, String)>,
    lines: String,
    /// Where each line ends.
    ends: Vec<usize>,
}

/// An event of an unpacked segment.
pub struct Event {
    segment: Arc<Opened>,
    index: usize,
}

impl Event {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.segment.events[self.index].0
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.segment.events[self.index].1
    }

    /// Its envelope.
    pub fn body(&self) -> &str {
        let ends = &self.segment.ends;
        let start = self
            .index
            .checked_sub(1)
            .map_or(0, |before| ends[before] + 1);
        &self.segment.lines[start..ends[self.index]]
    }
}

impl<'a> Segments<'a> {
    /// None yet.
    pub fn new(event_log: &'a EventLog, tenant: &'a str) -> Segments<'a> {
        Segments {
            event_log,
            tenant,
            kept: Mutex::default(),
        }
    }

    /// How much is unpacked, in bytes.
    pub fn bytes(&self) -> usize {
        lock(&self.kept).bytes
    }

    /// Keeps a segment until so many of its events have been sent.
    ///
    /// # Errors
    /// When it is not what was stored.
    pub fn hold(&self, segment: &Segment, events: usize) -> Result<(), ReplayError> {
        if events == 0 {
            return Ok(());
        }
        let mut kept = lock(&self.kept);
        let used = kept.next_use();
        if let Some(entry) = kept.entries.get_mut(&segment.id) {
            entry.holds += events;
            return Ok(());
        }
        let opened = Arc::new(open(segment)?);
        let bytes = opened.lines.len();
        kept.bytes += bytes;
        let entry = Entry {
            holds: events,
            used,
            bytes,
            opened: Arc::new(OnceCell::new_with(Some(Some(opened)))),
        };
        kept.entries.insert(segment.id, entry);
        Ok(())
    }

    /// An event, to be sent or kept among the rejected ones; none when the event log has forgotten it. Its segment is read where it
    /// is not at hand, once for all who ask.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn get(&self, event: EventRef) -> Result<Option<Event>, ReplayError> {
        let cell = {
            let mut kept = lock(&self.kept);
            let used = kept.next_use();
            let entry = kept.entries.entry(event.segment).or_insert_with(|| Entry {
                holds: 0,
                used,
                bytes: 0,
                opened: Arc::default(),
            });
            entry.used = used;
            entry.holds = entry.holds.saturating_sub(1);
            let cell = entry.opened.clone();
            kept.forget();
            cell
        };
        let read = cell.get_or_try_init(|| async {
            match self.event_log.get(self.tenant, &event).await {
                Ok(segment) => Ok(Some(Arc::new(open(&segment)?))),
                Err(StoreError::NotFound) => Ok(None),
                Err(error) => Err(ReplayError::from(error)),
            }
        });
        let Some(segment) = read.await?.clone() else {
            return Ok(None);
        };
        self.note_size(event.segment, segment.lines.len());
        let index = event.index as usize;
        if index >= segment.events.len() || index >= segment.ends.len() {
            let fewer = std::io::Error::other("a segment has fewer events than references");
            return Err(fewer.into());
        }
        Ok(Some(Event { segment, index }))
    }

    fn note_size(&self, segment: Ulid, bytes: usize) {
        let mut kept = lock(&self.kept);
        if let Some(entry) = kept.entries.get_mut(&segment)
            && entry.bytes == 0
        {
            entry.bytes = bytes;
            kept.bytes += bytes;
        }
    }
}

impl Kept {
    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    /// Forgets those that were used longest ago of those that nothing holds.
    fn forget(&mut self) {
        let idle = self.entries.iter().filter(|(_, entry)| entry.holds == 0);
        let mut idle: Vec<(u64, Ulid)> = idle.map(|(id, entry)| (entry.used, *id)).collect();
        if idle.len() <= MAX_IDLE {
            return;
        }
        idle.sort_unstable();
        for (_, id) in &idle[..idle.len() - MAX_IDLE] {
            if let Some(entry) = self.entries.remove(id) {
                self.bytes -= entry.bytes;
            }
        }
    }
}

fn open(segment: &Segment) -> Result<Opened, ReplayError> {
    let lines = String::from_utf8(segment.decompress()?).map_err(std::io::Error::other)?;
    let events = segment.events();
    let events = events.map(|(id, name)| (id.to_owned(), name.to_owned()));
    Ok(Opened {
        events: events.collect(),
        ends: lines.match_indices('\n').map(|(at, _)| at).collect(),
        lines,
    })
}

/// What the lock guards is whole after every statement.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
