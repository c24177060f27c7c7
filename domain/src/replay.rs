//! Replay: its steps, and the selection of the events to send.

pub mod selection;
pub mod sender;
