//! Repeats: queues and publishers may hand over an event twice, and readers of the event log drop the second copy.

use std::hash::{DefaultHasher, Hash, Hasher};

use hashbrown::HashMap;
use uuid::Uuid;

use crate::log::REPEAT_WINDOW;
use crate::time::Millis;

/// How many ids are remembered before those that no longer count are looked for.
const TIDY_EVERY: usize = 100_000;

/// The ids that were read in the preceding 20 minutes of the event log.
///
/// An event is a repeat when its id occurred in the preceding 20 minutes, whether or not that one was a repeat itself: what is
/// a repeat depends on nothing but the event log, so every reader drops the same.
/// Takes about 40 bytes for each event of any 20 minutes.
#[derive(Debug, Default)]
pub struct Repeats {
    seen: HashMap<[u64; 2], Millis>,
    tidied: usize,
    /// What was overwritten since [`Repeats::mark`]; none where no mark was ever set.
    overwritten: Option<Vec<([u64; 2], Option<Millis>)>>,
}

impl Repeats {
    /// Takes note of an event, in the order of the event log, and returns whether it repeats an earlier one.
    pub fn note(&mut self, event_id: &str, published_at: Millis) -> bool {
        if self.seen.len() >= self.tidied + TIDY_EVERY {
            self.seen
                .retain(|_, seen_at| seen_at.after(REPEAT_WINDOW) >= published_at);
            self.tidied = self.seen.len();
        }
        let key = key(event_id);
        let seen_at = self.seen.insert(key, published_at);
        if let Some(overwritten) = &mut self.overwritten {
            overwritten.push((key, seen_at));
        }
        seen_at.is_some_and(|seen_at| published_at.since(seen_at) <= REPEAT_WINDOW)
    }
}

impl Repeats {
    /// Sets the mark to which [`Repeats::rewind`] goes back.
    pub fn mark(&mut self) {
        self.overwritten.get_or_insert_default().clear();
    }

    /// Forgets what was noted since the mark, as if it had not been read yet.
    pub fn rewind(&mut self) {
        for (key, seen_at) in self
            .overwritten
            .iter_mut()
            .flat_map(|list| list.drain(..).rev())
        {
            match seen_at {
                Some(seen_at) => self.seen.insert(key, seen_at),
                None => self.seen.remove(&key),
            };
        }
    }
}

/// 128 bits of an id: the UUID that ids are, or a hash of any other text.
fn key(event_id: &str) -> [u64; 2] {
    if let Ok(uuid) = Uuid::try_parse(event_id) {
        return uuid.as_u64_pair().into();
    }
    [0, 1].map(|salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, event_id).hash(&mut hasher);
        hasher.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_counts_for_20_minutes() {
        let minute = 60_000;
        let mut repeats = Repeats::default();
        assert!(!repeats.note("a", Millis(0)));
        assert!(!repeats.note("b", Millis(0)));
        assert!(repeats.note("a", Millis(20 * minute)));
        assert!(
            repeats.note("a", Millis(39 * minute)),
            "a repeat counts for its repeats"
        );
        assert!(!repeats.note("b", Millis(20 * minute + 1)));
    }

    #[test]
    fn what_was_rewound_can_be_noted_again() {
        let minute = 60_000;
        let mut repeats = Repeats::default();
        repeats.note("a", Millis(0));
        repeats.mark();
        for _ in 0..2 {
            assert!(repeats.note("a", Millis(15 * minute)));
            assert!(!repeats.note("b", Millis(15 * minute)));
            assert!(repeats.note("b", Millis(15 * minute)));
            repeats.rewind();
            repeats.mark();
        }
        // "a" is known from the beginning, not from what was rewound.
        assert!(!repeats.note("a", Millis(21 * minute)));
    }

    #[test]
    fn forgetting_changes_nothing() {
        let mut repeats = Repeats::default();
        let count = 3 * TIDY_EVERY as u64;
        for index in 0..count {
            assert!(!repeats.note(&index.to_string(), Millis(index * 20)));
        }
        assert!(repeats.seen.len() < count as usize);
        assert!(repeats.note(&(count - 1).to_string(), Millis(count * 20)));
    }
}
