//! What the API asks of delivery and export while its caller waits, and what they answer: JSON, in calls of functions.

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::integration::{Bucket, Callback};
use crate::time::Millis;

/// A call of the delivery function by the API, which waits for the response: try a rejected event again.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryRejected {
    /// The tenant.
    pub tenant: String,
    /// The integration's id.
    pub integration_id: String,
    /// The integration's generation.
    pub generation: Ulid,
    /// The event's id.
    pub event_id: String,
}

/// Asks delivery to send a receiver a sample event, now; the API asks it, and waits. Nothing comes of it but the [`Verdict`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TestReceiver {
    /// The tenant.
    pub tenant: String,
    /// The id that the integration has, or is to have: its secrets are encrypted for it.
    pub integration_id: String,
    /// The receiver.
    pub callback: Callback,
    /// The name of the sample event.
    pub name: String,
}

/// Asks export to put a small object into a bucket, now; the API asks it, and waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TestBucket {
    /// The tenant.
    pub tenant: String,
    /// The id that the integration has, or is to have: its secrets are encrypted for it.
    pub integration_id: String,
    /// The bucket.
    pub bucket: Bucket,
    /// The name of the sample event that is in the object.
    pub name: String,
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The sample event's id.
    pub event_id: String,
    /// Why it was not taken, as a part of a sentence; none where it was.
    pub reason: Option<String>,
    /// The status of the receiver's response.
    pub status_code: Option<u16>,
    /// How long it took, in milliseconds.
    pub latency_ms: u64,
    /// The start of the receiver's response.
    pub response: Option<String>,
    /// The version of TLS.
    pub tls_version: Option<String>,
    /// When the receiver's certificate ends.
    pub certificate_expires_at: Option<Millis>,
    /// The key of the object.
    pub key: Option<String>,
}

/// What came of trying all rejected events of an integration again: the API asks delivery for it by an
/// [`IntegrationRef`](crate::integration::IntegrationRef), and waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetriedAll {
    /// Delivered, and no longer among the rejected events.
    pub delivered: usize,
    /// Rejected again, and kept.
    pub rejected: usize,
    /// Not sent: an attempt before them failed, or time ran out.
    pub left: usize,
    /// Why an attempt failed for another reason than 400, as a part of a sentence; its event is kept.
    pub failed: Option<String>,
}

/// What came of [`RetryRejected`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retried {
    /// Delivered, and no longer among the rejected events.
    Delivered,
    /// Still refused, and kept: why, as a part of a sentence.
    Refused(String),
    /// There is no such integration, or no such rejected event.
    NotFound,
}
