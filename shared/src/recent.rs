//! Integrations as they are read right before requests to receivers: a read is good for 200 ms, for all requests of a process to
//! that receiver.
//!
//! The API answers a stop 400 ms after it was written. So no request begins after the answer, and an integration that is sent
//! 1,000 events a second by a process is read five times a second by it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
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
        Err(StoreError::Changed.into())
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
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_KEPT {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        slots.entry(integration_ref.clone()).or_default().clone()
    }
}
