//! The OpenAPI document.
//!
//! It is made by a test of this crate, from the route table and from the types that read bodies and write responses, and
//! committed as `openapi.json`; the function serves those bytes and links nothing that makes them. The test fails when the
//! file is not what the code says. `make openapi` writes it.

/// `openapi.json`, as `GET /openapi.json` serves it.
pub const DOCUMENT: &str = include_str!("../../../openapi.json");

#[cfg(test)]
mod document;
#[cfg(test)]
mod examples;
#[cfg(test)]
pub(crate) mod fields;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod schemas;
