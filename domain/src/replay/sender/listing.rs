//! What a sender lists of the events that wait, and how many are too many.

use super::machine::{Phase, Sender};
use crate::sending::{Do, Now};
use crate::stream::waiting::StoredWaiting;
use crate::stream::{Because, Stream};

impl Sender {
    pub(super) fn list(&mut self) {
        self.is_listing = true;
        self.pending.push_back(Do::List);
    }

    pub(super) fn begin_listing(&mut self) {
        self.phase = Phase::Listing;
        self.list();
    }

    /// Lists once more what could not be listed, when it is time.
    pub(super) fn list_again(&mut self, now: Now) -> Option<Do> {
        let is_due = !self.is_listing && self.listing.is_due(now.tick);
        is_due.then(|| {
            self.listing.wait();
            self.is_listing = true;
            Do::List
        })
    }

    /// What waits was listed, or the first of it.
    pub(super) fn listed(&mut self, found: Vec<StoredWaiting>, now: Now) {
        (self.is_listing, self.has_listed) = (false, true);
        self.listing.succeed();
        let listed: usize = found.iter().map(|it| it.waiting.indices.len()).sum();
        self.lists_more = listed >= self.limits.listed();
        let under_way = &mut self.under_way;
        let found = found.into_iter().map(|it| under_way.without(it));
        let (found, floor) = (found.collect(), self.floor());
        self.held.found(found, floor);
        if self.held.has_dropped() {
            // What is not to be sent any more is deleted: it may be all that was listed.
            self.saving.changed();
        }
        if self.phase == Phase::Listing {
            self.phase = Phase::Working;
            if self.may_open_now(now) {
                self.open();
            }
        }
    }

    /// Items were deleted.
    pub(super) fn dropped(&mut self) {
        self.saving.dropped();
        // As much of the list is gone as makes room for what follows it.
        let has_room = self.held.fresh() < self.resumes_below();
        if self.lists_more && has_room && !self.is_listing && self.is_working() {
            self.list();
        }
    }

    /// Whether anything of what is owed can be sent now.
    pub(super) fn has_owed(&self) -> bool {
        !self.ahead.is_empty() && !self.is_full()
    }

    pub(super) fn is_full(&self) -> bool {
        // A probe may take what is owed: all that waits may be of those that the receiver never takes.
        if self.is_probing() {
            return false;
        }
        let because = self.stream().and_then(Stream::served).map(|it| it.because);
        let limit = match because {
            Some(Because::Full) => self.resumes_below(),
            _ => self.limits.waiting,
        };
        self.lists_more || self.held.fresh() >= limit
    }

    /// Below how many waiting events one that was full is not full any more.
    pub(super) fn resumes_below(&self) -> usize {
        self.limits.waiting * 4 / 5
    }
}
