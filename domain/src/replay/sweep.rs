//! The sweep of every minute: what it has sent a task for lately, it does not send again.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::time::Millis;

/// After how long a task is sent again for what is still due. Its message waits in the queue meanwhile, and what is sent on top of
/// a long queue only makes it longer.
pub const AGAIN_AFTER: Duration = Duration::from_secs(5 * 60);

/// What the sweeps of one process have sent, by what was due and since when: a stream that was worked on since is due since another
/// time. A process knows nothing of the sweeps of others: at worst each of them sends a task that has no effect.
#[derive(Debug)]
pub struct Sent<K>(HashMap<K, Millis>);

impl<K> Default for Sent<K> {
    fn default() -> Sent<K> {
        Sent(HashMap::new())
    }
}

impl<K: Eq + Hash> Sent<K> {
    /// Forgets what was sent too long ago to matter at `now`.
    pub fn begin(&mut self, now: Millis) {
        self.0.retain(|_, sent_at| now < sent_at.after(AGAIN_AFTER));
    }

    /// Whether a task was sent for this since [`AGAIN_AFTER`] before the sweep began.
    pub fn has(&self, due: &K) -> bool {
        self.0.contains_key(due)
    }

    /// Takes note of what was sent at `now`.
    pub fn note(&mut self, due: impl IntoIterator<Item = K>, now: Millis) {
        self.0.extend(due.into_iter().map(|due| (due, now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_sent_again_after_five_minutes() {
        let mut sent = Sent::default();
        let mut sweep = |minute: u64, due: &[(&'static str, u64)]| {
            let now = Millis(0).after(Duration::from_secs(60 * minute));
            sent.begin(now);
            let new = due.iter().copied().filter(|due| !sent.has(due));
            let new: Vec<_> = new.collect();
            sent.note(new.clone(), now);
            new
        };
        assert_eq!(sweep(0, &[("a", 7)]), [("a", 7)]);
        assert_eq!(sweep(1, &[("a", 7), ("b", 8)]), [("b", 8)]);
        // It was worked on, and is due again.
        assert_eq!(sweep(2, &[("a", 9), ("b", 8)]), [("a", 9)]);
        assert_eq!(sweep(5, &[("a", 9), ("b", 8)]), []);
        assert_eq!(sweep(6, &[("a", 9), ("b", 8)]), [("b", 8)]);
        assert_eq!(sweep(7, &[("a", 9), ("b", 8)]), [("a", 9)]);
    }
}
