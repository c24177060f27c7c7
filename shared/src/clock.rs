//! The one place that reads the system's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use domain::time::Millis;
use ulid::Ulid;

/// Where `now` comes from: the system, or a value that a test sets.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Clock {
        Clock(None)
    }

    /// A clock that shows `start` until [`Clock::set`] moves it.
    pub fn manual(start: Millis) -> Clock {
        Clock(Some(Arc::new(AtomicU64::new(start.0))))
    }

    /// The current time.
    pub fn now(&self) -> Millis {
        match &self.0 {
            Some(set) => Millis(set.load(Ordering::SeqCst)),
            #[expect(
                clippy::disallowed_methods,
                reason = "the one place that reads the system's clock"
            )]
            None => Millis(
                std::time::SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default()
                    .as_millis() as u64,
            ),
        }
    }

    /// Moves a manual clock; a system clock stays as it is.
    pub fn set(&self, to: Millis) {
        if let Some(set) = &self.0 {
            set.store(to.0, Ordering::SeqCst);
        }
    }

    /// A new ULID of the current millisecond.
    pub fn ulid(&self) -> Ulid {
        Ulid::from_parts(self.now().0, rand::random())
    }
}
