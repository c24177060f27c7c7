//! What the benchmarks share: a fixed corpus, and the services of AWS with canned answers.

pub mod canned;
pub mod corpus;
