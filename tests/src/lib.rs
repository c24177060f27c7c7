//! What the integration tests and the demo share.

pub mod customer;
pub mod hostile;
pub mod proxy;
pub mod receiver;
