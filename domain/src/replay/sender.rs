//! The sender of a stream: one step of replay, as a machine without I/O.
//!
//! It holds the stream's lease, lists the events that wait, reads what is owed, and posts both, as many at a time as the pace
//! allows. The driver asks [`Sender::next`] for things to do until there is none, begins each at once, and gives back what came of
//! it by [`Sender::seen`]; when nothing is left to begin it waits for the next of them, or until [`Sender::wake`].
//!
//! The position moves at checkpoints, to the lowest event that is neither done with nor in a waiting item. So a sender that is
//! killed repeats what it has sent since its last checkpoint, and loses nothing.

mod again;
mod choosing;
mod failing;
mod held;
mod leaving;
mod listing;
mod live;
mod machine;
mod posting;
mod progress;
mod reading;
mod saving;
mod types;
mod under_way;

pub use machine::Sender;
pub use posting::FULL;
pub use types::{LIMITS, Limits};

#[cfg(test)]
mod tests;
