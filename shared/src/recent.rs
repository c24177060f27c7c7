//! Integrations as they are read right before requests to receivers: a read is good for 200 ms, for all requests of a process to
//! that receiver.
//!
//! The API answers a stop 400 ms after it was written. So no request begins after the answer, and an integration that is sent
//! 1,000 events a second by a process is read five times a second by it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use domain::integration::{Integration, IntegrationRef, Target};
use domain::receiver::credentials::Credentials;

use crate::secrets::{SecretError, Secrets};
use crate::store::StoreError;
use crate::store::integrations::Integrations;

/// For how long a read is good, from when it was sent.
pub const GOOD_FOR: Duration = Duration::from_millis(200);
/// How long after its write a stop or a deletion is answered: what was read before it is good no more, and a process that was held
/// up between its look and its request for as long again has sent it.
pub const ANSWERED_AFTER: Duration = Duration::from_millis(400);
/// How often an integration is read again because the read, or decrypting its key, took longer than a read is good for.
const MAX_READS: usize = 20;
/// How many integrations are remembered.
const MAX_KEPT: usize = 1_000;

/// Reads integrations, and decrypts the keys of their receivers.
#[derive(Debug)]
pub struct Recent {
    integrations: Integrations,
    secrets: Secrets,
    slots: Mutex<HashMap<IntegrationRef, Slot>>,
}

/// One reader at a time: the others wait for what it finds.
type Slot = Arc<tokio::sync::Mutex<Option<Read>>>;

/// What was read, and when that was asked for.
#[derive(Clone, Debug)]
struct Read {
    integration: Option<Arc<Integration>>,
    asked_at: Instant,
}

/// An integration that may be sent a request at this moment.
#[derive(Clone, Debug)]
pub struct Ready {
    /// As it was read less than [`GOOD_FOR`] ago.
    pub integration: Arc<Integration>,
    /// What its receiver knows us by; nothing where nothing is to be sent.
    pub credentials: Credentials,
}

/// Why an integration cannot be sent anything now.
#[derive(Debug, thiserror::Error)]
pub enum RecentError {
    /// It could not be read.
    #[error("the integration could not be read")]
    Store(#[from] StoreError),
    /// KMS failed.
    #[error("the secrets of the receiver could not be decrypted")]
    Secret(#[from] SecretError),
    /// It was read, each time too slowly for a request to follow.
    #[error(
        "the integration could not be read fast enough: {MAX_READS} reads took longer than {} ms each",
        GOOD_FOR.as_millis()
    )]
    Stale,
}

impl Recent {
    /// Reads from these stores.
    pub fn new(integrations: Integrations, secrets: Secrets) -> Recent {
        Recent {
            integrations,
            secrets,
            slots: Mutex::default(),
        }
    }

    /// Forgets all that was read: at the beginning of each invocation, since the clock by which a read grows old may stand still
    /// while the process is frozen between two of them.
    pub fn forget(&self) {
        self.slots().clear();
    }

    /// An integration as it was read a moment ago, with what its receiver knows us by where `is_sent` says that a request follows. None
    /// when it is gone, or is one of another generation.
    ///
    /// # Errors
    /// [`RecentError`] when it cannot be read, or its secrets cannot be decrypted within what a read is good for.
    pub async fn ready(
        &self,
        integration_ref: &IntegrationRef,
        is_sent: impl Fn(&Integration) -> bool,
    ) -> Result<Option<Ready>, RecentError> {
        for _ in 0..MAX_READS {
            let Read {
                integration,
                asked_at,
            } = self.read(integration_ref).await?;
            let Some(integration) = integration else {
                return Ok(None);
            };
            if !is_sent(&integration) {
                return Ok(Some(Ready {
                    integration,
                    credentials: Credentials::default(),
                }));
            }
            let credentials = match &integration.target {
                Target::Webhook { callback, .. } => {
                    let (tenant, id) = (&integration.tenant, &integration.id);
                    self.secrets.credentials(tenant, id, callback).await?
                }
                Target::S3 { .. } => Credentials::default(),
            };
            if asked_at.elapsed() < GOOD_FOR {
                return Ok(Some(Ready {
                    integration,
                    credentials,
                }));
            }
        }
        Err(RecentError::Stale)
    }

    /// Takes note of an integration as this process has just written it, which began at `asked_at`: what it read before is older.
    pub async fn note(&self, integration: &Integration, asked_at: Instant) {
        let slot = self.slot(&IntegrationRef::from(integration));
        let mut read = slot.lock().await;
        let known = read.as_ref().and_then(|read| read.integration.as_ref());
        if known.is_none_or(|known| known.version < integration.version) {
            *read = Some(Read {
                integration: Some(Arc::new(integration.clone())),
                asked_at,
            });
        }
    }

    async fn read(&self, integration_ref: &IntegrationRef) -> Result<Read, StoreError> {
        let slot = self.slot(integration_ref);
        let mut read = slot.lock().await;
        if let Some(known) = read
            .as_ref()
            .filter(|read| read.asked_at.elapsed() < GOOD_FOR)
        {
            return Ok(known.clone());
        }
        let asked_at = Instant::now();
        let (tenant, id) = (&integration_ref.tenant, &integration_ref.integration_id);
        // Boxed, as the call of KMS is.
        let found = match Box::pin(self.integrations.get(tenant, id)).await {
            Ok(found) => Some(found).filter(|it| it.generation == integration_ref.generation),
            Err(StoreError::NotFound) => None,
            Err(error) => return Err(error),
        };
        let found = Read {
            integration: found.map(Arc::new),
            asked_at,
        };
        *read = Some(found.clone());
        Ok(found)
    }

    fn slot(&self, integration_ref: &IntegrationRef) -> Slot {
        let mut slots = self.slots();
        if slots.len() >= MAX_KEPT {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        slots.entry(integration_ref.clone()).or_default().clone()
    }
    fn slots(&self) -> MutexGuard<'_, HashMap<IntegrationRef, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::config::{Credentials, Region, retry::RetryConfig};

    use super::*;
    use crate::clock::Clock;
    use crate::store::Table;

    #[tokio::test]
    async fn what_was_read_before_an_invocation_is_read_again_in_it() {
        // Nobody responds: what is read is an error.
        let dynamodb = aws_sdk_dynamodb::Config::builder()
            .behavior_version_latest()
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("a", "b", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .endpoint_url("http://127.0.0.1:1");
        let client = aws_sdk_dynamodb::Client::from_conf(dynamodb.build());
        let kms = aws_sdk_kms::Config::builder().behavior_version_latest();
        let kms = aws_sdk_kms::Client::from_conf(kms.build());
        let recent = Recent::new(
            Integrations::new(Table::new(client, "t".to_owned())),
            Secrets::new(kms, "k".to_owned(), Clock::default()),
        );
        let integration_ref = IntegrationRef {
            tenant: "acme".to_owned(),
            integration_id: "erp-1".to_owned(),
            generation: ulid::Ulid(7),
        };
        *recent.slot(&integration_ref).lock().await = Some(Read {
            integration: None,
            asked_at: Instant::now(),
        });
        let is_ready = async || recent.ready(&integration_ref, |_| false).await.is_ok();
        assert!(is_ready().await, "it was read a moment ago");
        recent.forget();
        assert!(!is_ready().await, "a moment by a clock that stood still");
    }

    #[test]
    fn reads_that_are_too_slow_are_called_that() {
        let text = RecentError::Stale.to_string();
        assert!(
            text.ends_with("20 reads took longer than 200 ms each"),
            "{text}"
        );
    }
}
