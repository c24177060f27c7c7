//! What the requests to a receiver carry besides their event, in the clear: for the requests, and nothing else.

use crate::secret::Secret;

/// What a receiver knows us by.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Sent as `Authorization: Bearer <api_key>`.
    pub api_key: Option<Secret>,
    /// Each signs every request: `whsec_` and the base64 of 32 bytes (Standard Webhooks 1.0).
    pub signing: Vec<Secret>,
    /// Headers of the integration's own: names in lower case, and values.
    pub headers: Vec<(String, Secret)>,
}

/// Those of a receiver that asks for none.
pub static NONE: Credentials = Credentials {
    api_key: None,
    signing: Vec::new(),
    headers: Vec::new(),
};
