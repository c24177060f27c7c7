//! Integrations: one item each under their tenant, besides what is known of the tenant, and the tombstones of deleted ones.
//!
//! An item is a JSON document with the attributes that keys, conditions and indexes need besides. Every write of an item is
//! made on condition that its version is the one that was read.

mod indexes;
mod items;
mod write;

pub use indexes::{Due, ExportsPage};
pub use items::Integrations;
