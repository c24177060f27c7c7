//! What the benchmarks share: a fixed corpus, the services of AWS and Lambda's Runtime API with canned responses, and functions as
//! processes of their own.

pub mod aws_json;
pub mod cloud;
pub mod corpus;
pub mod event_log;
pub mod function;
pub mod loads;
pub mod measure;
pub mod run;
pub mod runtime_api;
pub mod stored;
