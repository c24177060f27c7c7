//! The tests that need the local stack: handlers in process on the emulator, and the deployed whole from outside.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, in its helpers too"
)]

mod api;
mod end_to_end;
mod events;
mod exports;
mod exports_backlog;
mod exports_crashes;
mod exports_doubt;
mod exports_failures;
mod exports_world;
mod files;
mod hostile;
mod lifecycle;
mod notifications;
mod observed;
mod outages;
mod previews;
mod recovery;
mod registrations;
mod rejections;
mod restarts;
mod roles;
mod safety;
mod secrets;
mod signatures;
mod targets;
mod updates;
mod webhooks;
mod world;
