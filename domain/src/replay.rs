//! Replay: how it goes through what a stream owes.

pub mod selection;
pub mod step;
