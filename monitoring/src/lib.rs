//! What is watched of a stack: its alarms, its dashboard and its saved queries, described once. `monitoring.json`, a nested stack of
//! template.yaml, is made from it (`make monitoring`), and a test holds the file against this code.
//!
//! [`source`] names metrics: ours by the code that counts them, AWS's by its documentation. [`alarms`], [`dashboard`] and [`queries`]
//! are the descriptions, [`template`] puts them into CloudFormation's form. No function links this crate.

pub mod alarms;
pub mod dashboard;
pub mod queries;
pub mod source;
pub mod template;
