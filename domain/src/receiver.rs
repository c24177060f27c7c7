//! Receivers of webhooks: who may be called, and what came of a call.

pub mod address;
pub mod outcome;
pub mod url;
