//! The library behind the six functions of Event Stream.
//!
//! The rules are pure and live in one room: [`event`], [`filter`], [`integration`], [`lifecycle`], [`stream`], [`duty`],
//! [`health`], [`export`], [`retry`] and [`address`] know no AWS, no I/O and no clock. The [`store`] modules keep items in DynamoDB, [`queue`] and [`tasks`]
//! carry work between functions, [`webhook`] calls receivers, [`secrets`] keeps what callers entrust to us.

pub mod address;
pub mod aws;
pub mod batch;
pub mod clock;
pub mod duty;
pub mod env;
pub mod event;
pub mod export;
pub mod filter;
pub mod health;
pub mod history;
pub mod integration;
pub mod lifecycle;
pub mod queue;
pub mod repeats;
pub mod resolver;
pub mod retry;
pub mod secrets;
pub mod segment;
pub mod store;
pub mod stream;
pub mod tasks;
pub mod telemetry;
pub mod webhook;
