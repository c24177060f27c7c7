//! Receivers of webhooks: which addresses may be called, and the outcome of a call.

pub mod address;
pub mod credentials;
pub mod outcome;
pub mod url;
