//! What a sender has to write down, and how far it is with that.

use super::again::Again;
use crate::log::position::EventRef;
use crate::sending::Now;
use crate::stream::Because;
use crate::stream::waiting::{StoredWaiting, WaitingKey};

/// How far the current checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Nothing,
    Putting,
    HasPut,
    Dropping,
    HasDropped,
    Writing,
}

/// Items that are to be stored or deleted, until they are.
#[derive(Clone, Debug, Default)]
pub struct Out {
    pub(super) put: Vec<StoredWaiting>,
    pub(super) dropped: Vec<WaitingKey>,
}

/// What is to be written down.
#[derive(Clone, Debug)]
pub struct Saving {
    pub(super) at: At,
    /// When the last checkpoint was written.
    pub(super) written_at: u64,
    pub(super) finished: usize,
    pub(super) is_changed: bool,
    pub(super) is_requested: bool,
    /// The events that are being stored: in which item, and for which attempt.
    pub(super) putting: Vec<(EventRef, WaitingKey, u32)>,
    /// What is out of both, to be given again where it fails.
    pub(super) out: Out,
    pub(super) again: Again,
    pub(super) failure: Option<String>,
    pub(super) serve: Option<Because>,
    pub(super) gone: Option<String>,
    /// When the attempt began that was taken last.
    pub(super) taken_began: Option<u64>,
    pub(super) taken_ended: u64,
    pub(super) is_nudged: bool,
    pub(super) hears: bool,
    pub(super) heard_at: u64,
}

impl Saving {
    /// Nothing is to be written down yet.
    pub fn new(now: u64) -> Saving {
        Saving {
            at: At::Nothing,
            written_at: now,
            finished: 0,
            is_changed: false,
            is_requested: false,
            putting: Vec::new(),
            out: Out::default(),
            again: Again::default(),
            failure: None,
            serve: None,
            gone: None,
            taken_began: None,
            taken_ended: 0,
            is_nudged: false,
            hears: false,
            heard_at: now,
        }
    }

    /// Whether a checkpoint is under way.
    pub fn is_at_work(&self) -> bool {
        self.at != At::Nothing
    }

    /// A checkpoint is due at once.
    pub fn request(&mut self) {
        self.is_requested = true;
        self.is_changed = true;
    }

    /// Whether there is something to write down.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// There is something to write down.
    pub fn changed(&mut self) {
        self.is_changed = true;
    }

    /// An event is done with.
    pub fn finished(&mut self) {
        self.finished += 1;
        self.is_changed = true;
    }

    /// An attempt has failed: the reason is for the integration log.
    pub fn failed(&mut self, reason: String) {
        self.failure = Some(reason);
    }

    /// The stream is to be served from now on.
    pub fn serve(&mut self, because: Because) {
        self.serve = Some(because);
        self.request();
    }

    /// The receiver wants nothing any more: the reason is for the integration log.
    pub fn is_gone(&mut self, reason: String) {
        self.gone.get_or_insert(reason);
    }

    /// An attempt that began at `began` was taken.
    pub fn taken_at(&mut self, began: u64, ended: u64) {
        self.taken_began = self.taken_began.max(Some(began));
        self.taken_ended = ended;
    }

    /// Whether an attempt that began then began after all that were taken.
    pub fn is_since_taken(&self, began: u64) -> bool {
        self.taken_began.is_none() || began >= self.taken_ended
    }

    /// Whether delivery has stored waiting events meanwhile.
    pub fn heard(&mut self, is_nudged: bool) {
        self.is_nudged = is_nudged;
    }

    /// An input was applied. Whether it was a checkpoint after which waiting events are to be listed.
    pub fn wrote(&mut self, now: u64) -> bool {
        if self.at != At::Writing {
            return false;
        }
        self.at = At::Nothing;
        let hears = std::mem::take(&mut self.hears);
        if hears {
            self.heard_at = now;
        }
        hears
    }

    /// Items were deleted.
    pub fn dropped(&mut self) {
        self.at = At::HasDropped;
        self.again.succeed();
    }

    /// Items could not be stored or deleted; whether that is tried again.
    pub fn fails(&mut self, now: u64, last: u64) -> bool {
        self.again.fail_to_store(now, last)
    }

    /// A checkpoint could not be written, as far as is known.
    pub fn is_unwritten(&mut self) {
        if self.at == At::Writing {
            self.at = At::Nothing;
            self.hears = false;
        }
        self.is_changed = true;
    }

    /// Whether a checkpoint is due.
    pub fn is_due(&self, now: Now, limit: usize, pause: u64) -> bool {
        let wants_to_hear = self.is_nudged && now.tick >= self.heard_at + pause;
        let is_old = self.is_changed && now.tick >= self.written_at + pause;
        self.is_requested || self.finished >= limit || is_old || wants_to_hear
    }
}
