//! Replay: its steps, the selection of the events to send, and what of the event log is in memory meanwhile.

pub mod reading;
pub mod selection;
pub mod sender;
pub mod sweep;
pub mod unpacked;
