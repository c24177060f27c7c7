//! The fate of events: what became of each for one integration.
//!
//! Nothing is written for an event that is delivered. That it is follows from positions and from what is noted of those that are
//! not: a waiting item of one that is tried again, a note of one that was rejected. What the queues still hold is in neither, so
//! that an event counts as delivered for certain only once they have been seen empty after it.

mod filters;
mod noted;
mod view;

pub use filters::PastFilter;
pub use noted::{Event, EventStatus, Fate, Refused};
pub use view::View;
