//! What callers entrust to us: encrypted with KMS at rest, in the clear only in memory and only while it is used.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use domain::integration::Callback;
use domain::receiver::credentials::Credentials;
use domain::secret::{Secret, StoredSecret, mask};
use futures_util::future::{try_join_all, try_join3};

use crate::clock::Clock;

/// How many decrypted secrets are kept at most: about 35 MB of them.
const MAX_KEPT: usize = 50_000;

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
    kept: Mutex<Kept>,
    /// The secrets that KMS is being asked for.
    asking: Mutex<HashMap<String, Turn>>,
}

/// Who holds it asks KMS, the others wait; when KMS failed last.
type Turn = Arc<tokio::sync::Mutex<Option<Instant>>>;

impl Secrets {
    /// Secrets under the KMS key `key_id`.
    pub fn new(client: Client, key_id: String, clock: Clock) -> Secrets {
        Secrets {
            client,
            key_id,
            clock,
            kept: Mutex::new(Kept::new(MAX_KEPT)),
            asking: Mutex::default(),
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

    /// Decrypts a secret of an integration. It is kept in memory as long as there is room: a secret that is changed is another one,
    /// since it is kept under its cipher text. KMS is asked once for all who need the same secret at the same time.
    ///
    /// # Errors
    /// [`SecretError`] when KMS fails, or when the secret was encrypted for another integration.
    pub async fn decrypt(
        &self,
        tenant: &str,
        integration_id: &str,
        stored: &StoredSecret,
    ) -> Result<Secret, SecretError> {
        let name = format!("{tenant}/{integration_id}/{}", stored.cipher);
        if let Some(secret) = lock(&self.kept).get(&name) {
            return Ok(secret);
        }
        // Boxed: the future of a call of the SDK has kilobytes, and would be a part of that of each event, which needs none.
        Box::pin(self.ask_once(name, tenant, integration_id, stored)).await
    }

    async fn ask_once(
        &self,
        name: String,
        tenant: &str,
        integration_id: &str,
        stored: &StoredSecret,
    ) -> Result<Secret, SecretError> {
        let asked_at = Instant::now();
        let turn = {
            let mut asking = lock(&self.asking);
            asking.retain(|_, turn| Arc::strong_count(turn) > 1);
            asking.entry(name.clone()).or_default().clone()
        };
        let mut failed_at = turn.lock().await;
        if let Some(secret) = lock(&self.kept).get(&name) {
            return Ok(secret);
        }
        // Those who waited do not fail one after another, each after a time-out of its own.
        if failed_at.is_some_and(|failed_at| failed_at >= asked_at) {
            return Err(SecretError("KMS failed for another caller".into()));
        }
        match self.ask_kms(tenant, integration_id, stored).await {
            Ok(secret) => {
                lock(&self.kept).insert(name, secret.clone());
                Ok(secret)
            }
            Err(error) => {
                *failed_at = Some(Instant::now());
                Err(error)
            }
        }
    }

    async fn ask_kms(
        &self,
        tenant: &str,
        integration_id: &str,
        stored: &StoredSecret,
    ) -> Result<Secret, SecretError> {
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
        let text = String::from_utf8(plain.into_inner());
        let text = text.map_err(|_| SecretError("the secret is not text".into()))?;
        Ok(Secret::new(text))
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
}

/// Secrets that were decrypted.
#[derive(Debug)]
struct Kept {
    max: usize,
    secrets: HashMap<String, (u64, Secret)>,
    /// Counts uses, to find what was used longest ago.
    uses: u64,
}

impl Kept {
    fn new(max: usize) -> Kept {
        Kept {
            max,
            secrets: HashMap::new(),
            uses: 0,
        }
    }

    fn get(&mut self, name: &str) -> Option<Secret> {
        self.uses += 1;
        let (used, secret) = self.secrets.get_mut(name)?;
        *used = self.uses;
        Some(secret.clone())
    }

    /// Keeps a secret. Where there are too many, the tenth that was used longest ago goes at once, so that they are not searched
    /// for each time.
    fn insert(&mut self, name: String, secret: Secret) {
        if self.secrets.len() >= self.max {
            let mut uses: Vec<u64> = self.secrets.values().map(|(used, _)| *used).collect();
            let (_, last, _) = uses.select_nth_unstable(self.max / 10);
            let last = *last;
            self.secrets.retain(|_, (used, _)| *used > last);
        }
        self.uses += 1;
        self.secrets.insert(name, (self.uses, secret));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_sdk_kms::config::{Credentials as AwsCredentials, Region, retry::RetryConfig};
    use futures_util::future::join_all;
    use serde_json::json;

    use super::*;
    use crate::testing::serve;

    /// Secrets of a KMS that answers each call with `status`, and how often it was asked.
    fn secrets(status: u16) -> (Secrets, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let endpoint = serve(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            (status, json!({"KeyId": "k", "Plaintext": "aGVsbG8="}))
        });
        let config = aws_sdk_kms::Config::builder()
            .behavior_version_latest()
            .region(Region::new("eu-west-1"))
            .credentials_provider(AwsCredentials::new("a", "b", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .endpoint_url(endpoint);
        let client = Client::from_conf(config.build());
        (Secrets::new(client, "k".into(), Clock::system()), calls)
    }

    fn stored(text: &str) -> StoredSecret {
        StoredSecret {
            cipher: BASE64_STANDARD.encode(text),
            mask: String::new(),
        }
    }

    #[tokio::test]
    async fn kms_is_asked_once_for_a_secret_however_many_need_it() {
        let (secrets, calls) = secrets(200);
        let (one, other) = (stored("one"), stored("other"));
        let asked = join_all((0..50).map(|_| secrets.decrypt("acme", "erp-1", &one))).await;
        assert!(
            asked
                .iter()
                .all(|it| it.as_ref().unwrap().expose() == "hello")
        );
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        secrets.decrypt("acme", "erp-1", &one).await.unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 1, "it is kept");
        secrets.decrypt("acme", "erp-1", &other).await.unwrap();
        secrets.decrypt("acme", "erp-2", &one).await.unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn those_who_wait_for_a_call_of_kms_that_fails_do_not_repeat_it_one_after_another() {
        let (secrets, calls) = secrets(400);
        let one = stored("one");
        let asked = join_all((0..50).map(|_| secrets.decrypt("acme", "erp-1", &one))).await;
        assert!(asked.iter().all(Result::is_err));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert!(secrets.decrypt("acme", "erp-1", &one).await.is_err());
        assert_eq!(calls.load(Ordering::SeqCst), 2, "later, it is asked again");
    }

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let mut kept = Kept::new(20);
        for number in 0..20 {
            kept.insert(number.to_string(), Secret::new(number.to_string()));
        }
        assert!(kept.get("0").is_some());
        kept.insert("20".to_owned(), Secret::new("20".to_owned()));
        let left = (0..=20).filter(|it| kept.get(&it.to_string()).is_some());
        let left: Vec<u32> = left.collect();
        assert_eq!(left, [vec![0], (4..=20).collect()].concat());
    }
}
