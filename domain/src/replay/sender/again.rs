//! How often, and after how long, an order is given again that has failed.

/// How often an order is given again that has failed, and after how long: milliseconds.
const AGAIN: (u32, u64) = (3, 1_000);
/// After how long items of waiting events are stored or deleted again, at first and, doubled each time, at most: milliseconds.
const STORED_AGAIN: (u64, u64) = (100, 2_000);
/// How often the same items are stored or deleted at most: that fills the time limit of a step.
const MAX_STORED: u32 = 50;

/// An order that has failed is given again a few times.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Again {
    failures: u32,
    at: Option<u64>,
}

impl Again {
    /// Takes note that it has failed; whether it is given again.
    pub(super) fn fail(&mut self, now: u64) -> bool {
        self.failures += 1;
        let is_again = self.failures <= AGAIN.0;
        self.at = is_again.then_some(now + AGAIN.1);
        is_again
    }

    /// Takes note that items could not be stored or deleted; whether they are once more, before `last`. What was sent counts as sent
    /// only once that is stored: a step that gave up here would send it again.
    pub(super) fn fail_to_store(&mut self, now: u64, last: u64) -> bool {
        let doubled = STORED_AGAIN.0 << self.failures.min(6);
        self.failures += 1;
        let at = now + doubled.min(STORED_AGAIN.1);
        let is_again = self.failures < MAX_STORED && at < last;
        self.at = is_again.then_some(at);
        is_again
    }

    /// When it is given again, if it has failed.
    pub(super) fn at(&self) -> Option<u64> {
        self.at
    }

    /// Takes note that it went well.
    pub(super) fn succeed(&mut self) {
        *self = Again::default();
    }

    /// It is out.
    pub(super) fn wait(&mut self) {
        self.at = None;
    }

    /// Whether it is to be given again, now.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.at.is_some_and(|at| now >= at)
    }

    /// Whether it has failed and is not to be given again yet.
    pub(super) fn is_paused(&self, now: u64) -> bool {
        self.at.is_some_and(|at| now < at)
    }
}
