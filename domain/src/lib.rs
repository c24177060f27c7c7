//! The rules of Event Stream, as pure code: no AWS, no I/O, no async, no clock. `now` is always an argument.
//!
//! What decides is here; the functions and the simulation carry out what it decides.

pub mod attempt;
pub mod backoff;
pub mod event;
pub mod export;
pub mod filter;
pub mod integration;
pub mod integration_log;
pub mod lease;
pub mod lifecycle;
pub mod log;
pub mod receiver;
pub mod replay;
pub mod secret;
pub mod stream;
pub mod tasks;
pub mod time;
