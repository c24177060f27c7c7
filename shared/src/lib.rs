//! What the functions of Event Stream share of the outside world. The rules are in the crate `domain`, which knows none of it.
//!
//! The [`store`] modules keep items in DynamoDB, [`queue`] and [`batch`] carry tasks between functions, [`sending`] carries
//! out what senders order, [`secrets`] keeps what callers entrust to us, [`clock`] is the one place that reads the time. What functions
//! say of their work is in [`telemetry`], [`metrics`], [`attempts`] and [`trace`].

pub mod activity;
pub mod attempts;
pub mod aws;
pub mod batch;
pub mod clock;
pub mod env;
pub mod lifecycle;
pub mod metrics;
pub mod per_second;
pub mod queue;
pub mod recent;
pub mod rejections;
pub mod secrets;
pub mod sending;
pub mod services;
pub mod store;
pub mod telemetry;
#[cfg(test)]
pub(crate) mod testing;
pub mod trace;
