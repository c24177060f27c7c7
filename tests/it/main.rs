//! The tests that need the local stack: handlers in process on the emulator, and the deployed whole from outside.

mod api;
mod end_to_end;
mod exports;
mod lifecycle;
mod webhooks;
mod world;
