//! What the benchmarks share: a fixed corpus, and the services of AWS with canned responses.

pub mod aws_json;
pub mod canned;
pub mod corpus;
pub mod counted;
pub mod event_log;
pub mod measure;
