//! What callers entrust to us: encrypted with KMS at rest, in the clear only in memory and only while it is used.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Mutex;
use std::time::Duration;

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use domain::integration::Callback;
use domain::receiver::credentials::Credentials;
use domain::secret::{Secret, StoredSecret, mask};
use domain::time::Millis;
use futures_util::future::{try_join_all, try_join3};

use crate::clock::Clock;

/// For how long a decrypted secret is kept. A secret that is changed is another one: what is kept is found by its cipher text.
const KEPT: Duration = Duration::from_secs(60 * 60);
/// How many decrypted secrets are kept at the most.
const MAX_KEPT: usize = 10_000;

/// KMS did not respond, or refused.
#[derive(Debug, thiserror::Error)]
#[error("KMS failed")]
pub struct SecretError(#[source] Box<dyn Error + Send + Sync>);

/// Encrypts and decrypts with one KMS key. What was encrypted for one integration cannot be decrypted for another one: the
/// tenant and the integration's id are the encryption context.
#[derive(Debug)]
pub struct Secrets {
    client: Client,
    key_id: String,
    clock: Clock,
    kept: Mutex<HashMap<String, (Millis, Secret)>>,
}

impl Secrets {
    /// Secrets under the KMS key `key_id`.
    pub fn new(client: Client, key_id: String, clock: Clock) -> Secrets {
        Secrets {
            client,
            key_id,
            clock,
            kept: Mutex::default(),
        }
    }

    /// Encrypts a secret of an integration.
    ///
    /// # Errors
    /// [`SecretError`] when KMS fails.
    pub async fn encrypt(
        &self,
        tenant: &str,
        integration_id: &str,
        secret: &Secret,
    ) -> Result<StoredSecret, SecretError> {
        let answer = self
            .client
            .encrypt()
            .key_id(&self.key_id)
            .encryption_context("tenant", tenant)
            .encryption_context("integration", integration_id)
            .plaintext(Blob::new(secret.expose()))
            .send()
            .await
            .map_err(|error| SecretError(Box::new(error)))?;
        let cipher = answer
            .ciphertext_blob
            .ok_or_else(|| SecretError("the response has no ciphertext".into()))?;
        Ok(StoredSecret {
            cipher: BASE64_STANDARD.encode(cipher),
            mask: mask(secret.expose()),
        })
    }

    /// Decrypts a secret of an integration; kept in memory for an hour.
    ///
    /// # Errors
    /// [`SecretError`] when KMS fails, or when the secret was encrypted for another integration.
    pub async fn decrypt(
        &self,
        tenant: &str,
        integration_id: &str,
        stored: &StoredSecret,
    ) -> Result<Secret, SecretError> {
        if let Some(secret) = self.at_hand(tenant, integration_id, stored) {
            return Ok(secret);
        }
        // Boxed: the future of a call of the SDK has kilobytes, and would be a part of that of each event, which needs none.
        Box::pin(self.ask_kms(tenant, integration_id, stored)).await
    }

    async fn ask_kms(
        &self,
        tenant: &str,
        integration_id: &str,
        stored: &StoredSecret,
    ) -> Result<Secret, SecretError> {
        let (name, now) = (name(tenant, integration_id, stored), self.clock.now());
        let cipher = BASE64_STANDARD
            .decode(&stored.cipher)
            .map_err(|error| SecretError(Box::new(error)))?;
        let answer = self
            .client
            .decrypt()
            .key_id(&self.key_id)
            .encryption_context("tenant", tenant)
            .encryption_context("integration", integration_id)
            .ciphertext_blob(Blob::new(cipher))
            .send()
            .await
            .map_err(|error| SecretError(Box::new(error)))?;
        let plain = answer
            .plaintext
            .ok_or_else(|| SecretError("the response has no plaintext".into()))?;
        let secret = Secret::new(
            String::from_utf8(plain.into_inner())
                .map_err(|_| SecretError("the secret is not text".into()))?,
        );
        let mut kept = self.kept();
        kept.retain(|_, (until, _)| *until > now);
        if kept.len() < MAX_KEPT {
            kept.insert(name, (now.after(KEPT), secret.clone()));
        }
        Ok(secret)
    }

    /// What the receiver of a webhook knows us by, at this moment.
    ///
    /// # Errors
    /// Those of [`Secrets::decrypt`].
    pub async fn credentials(
        &self,
        tenant: &str,
        integration_id: &str,
        callback: &Callback,
    ) -> Result<Credentials, SecretError> {
        let decrypt = |stored| self.decrypt(tenant, integration_id, stored);
        let signing = callback
            .signing
            .iter()
            .flat_map(|it| it.secrets(self.clock.now()));
        let (names, values): (Vec<_>, Vec<_>) = callback.headers.iter().unzip();
        let api_key = try_join_all(callback.api_key.iter().map(decrypt));
        let signing = try_join_all(signing.map(decrypt));
        let values = try_join_all(values.into_iter().map(decrypt));
        let (api_key, signing, values) = try_join3(api_key, signing, values).await?;
        Ok(Credentials {
            api_key: api_key.into_iter().next(),
            signing,
            headers: names.into_iter().cloned().zip(values).collect(),
        })
    }

    /// A secret of an integration that was decrypted in the last hour: without asking KMS, so at once.
    pub fn at_hand(
        &self,
        tenant: &str,
        integration_id: &str,
        stored: &StoredSecret,
    ) -> Option<Secret> {
        let now = self.clock.now();
        let kept = self.kept();
        let found = kept.get(&name(tenant, integration_id, stored));
        found
            .filter(|(until, _)| *until > now)
            .map(|(_, secret)| secret.clone())
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Millis, Secret)>> {
        self.kept
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The name under which a decrypted secret is kept.
fn name(tenant: &str, integration_id: &str, stored: &StoredSecret) -> String {
    format!("{tenant}/{integration_id}/{}", stored.cipher)
}
