//! Which unpacked segments a step keeps in memory: those with events that were read and are not sent yet, which bound how far it
//! reads ahead, and a few that were used last.

use std::collections::{HashMap, HashSet};

use ulid::Ulid;

use crate::log::position::EventRef;

/// How much is kept. A parameter, so that tests reach every bound with a few events.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How many bytes the segments have together whose events are not all sent, before nothing more is read. One segment may
    /// exceed it.
    pub ahead_bytes: usize,
    /// How many segments are kept at most of which every event that was read is sent.
    pub idle_segments: usize,
    /// How many bytes these have at most.
    pub idle_bytes: usize,
}

/// Those of a deployment: with ten steps in a process, a quarter of its memory.
pub const BOUNDS: Bounds = Bounds {
    ahead_bytes: 8 * 1024 * 1024,
    idle_segments: 16,
    idle_bytes: 4 * 1024 * 1024,
};

/// Unpacked segments by their id; `T` is what is kept of one.
#[derive(Debug)]
pub struct Unpacked<T> {
    bounds: Bounds,
    entries: HashMap<Ulid, Entry<T>>,
    held_bytes: usize,
    idle_bytes: usize,
    /// Counts uses, to find what was used longest ago.
    uses: u64,
}

#[derive(Debug)]
struct Entry<T> {
    /// The indices of the events that were read and are not sent yet.
    held: HashSet<u32>,
    used: u64,
    bytes: usize,
    content: T,
}

impl<T: Clone> Unpacked<T> {
    /// An empty collection.
    pub fn new(bounds: Bounds) -> Unpacked<T> {
        Unpacked {
            bounds,
            entries: HashMap::new(),
            held_bytes: 0,
            idle_bytes: 0,
            uses: 0,
        }
    }

    /// Whether more may be read ahead. Segments whose events are all sent do not count: nothing would ever make room again.
    pub fn has_room(&self) -> bool {
        self.held_bytes < self.bounds.ahead_bytes
    }

    /// The size of all that is kept, in bytes.
    pub fn bytes(&self) -> usize {
        self.held_bytes + self.idle_bytes
    }

    /// Whether a segment is kept.
    pub fn has(&self, segment: Ulid) -> bool {
        self.entries.contains_key(&segment)
    }

    /// Keeps a segment of this size until these events of it are taken or released. The `content` counts where it is not kept yet.
    pub fn hold(&mut self, segment: Ulid, indices: &[u32], bytes: usize, content: T) {
        if indices.is_empty() {
            return;
        }
        self.change(
            segment,
            || content,
            |entry| {
                entry.held.extend(indices);
                entry.bytes = bytes;
            },
        );
    }

    /// Keeps a segment that is kept already until these events of it, too, are taken or released. `false` where it is not kept.
    pub fn hold_more(&mut self, segment: Ulid, indices: &[u32]) -> bool {
        let is_kept = self.has(segment);
        if is_kept {
            let no_content = || unreachable!("the segment is kept");
            self.change(segment, no_content, |entry| entry.held.extend(indices));
        }
        is_kept
    }

    /// The content of the segment of an event that is about to be sent; what `absent` makes where it is not kept, of a size that
    /// [`Unpacked::note_bytes`] is given. The event does not hold its segment any more.
    pub fn take(&mut self, event: EventRef, absent: impl FnOnce() -> T) -> T {
        self.change(event.segment, absent, |entry| {
            entry.held.remove(&event.index);
            entry.content.clone()
        })
    }

    /// Takes note of the size of a segment that was read for an event.
    pub fn note_bytes(&mut self, segment: Ulid, bytes: usize) {
        if self.has(segment) {
            let no_content = || unreachable!("the segment is kept");
            self.change(segment, no_content, |entry| entry.bytes = bytes);
        }
    }

    /// An event that was read is not going to be sent: it does not hold its segment any more.
    pub fn release(&mut self, event: EventRef) {
        if self.has(event.segment) {
            let no_content = || unreachable!("the segment is kept");
            self.change(event.segment, no_content, |entry| {
                entry.held.remove(&event.index)
            });
        }
    }

    fn change<R>(
        &mut self,
        segment: Ulid,
        absent: impl FnOnce() -> T,
        change: impl FnOnce(&mut Entry<T>) -> R,
    ) -> R {
        self.uses += 1;
        let entry = self.entries.entry(segment).or_insert_with(|| Entry {
            held: HashSet::new(),
            used: 0,
            bytes: 0,
            content: absent(),
        });
        entry.used = self.uses;
        let before = (entry.held.is_empty(), entry.bytes);
        let changed = change(entry);
        let after = (entry.held.is_empty(), entry.bytes);
        *self.sum(before.0) -= before.1;
        *self.sum(after.0) += after.1;
        self.forget();
        changed
    }

    fn sum(&mut self, is_idle: bool) -> &mut usize {
        if is_idle {
            &mut self.idle_bytes
        } else {
            &mut self.held_bytes
        }
    }

    /// Forgets those that were used longest ago of those that no event holds.
    fn forget(&mut self) {
        let idle = self.entries.iter();
        let idle = idle.filter(|(_, entry)| entry.held.is_empty());
        let mut idle: Vec<(u64, Ulid)> = idle.map(|(id, entry)| (entry.used, *id)).collect();
        idle.sort_unstable();
        let mut count = idle.len();
        for (_, id) in idle {
            if count <= self.bounds.idle_segments && self.idle_bytes <= self.bounds.idle_bytes {
                break;
            }
            if let Some(entry) = self.entries.remove(&id) {
                self.idle_bytes -= entry.bytes;
                count -= 1;
            }
        }
        debug_assert_eq!(
            self.bytes(),
            self.entries
                .values()
                .map(|entry| entry.bytes)
                .sum::<usize>(),
            "every byte that is kept is counted once"
        );
    }
}
