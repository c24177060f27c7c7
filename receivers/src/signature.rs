//! Signatures of webhooks by Standard Webhooks 1.0: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use domain::secret::Secret;

/// The value of `webhook-signature`: for each secret `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, separated by
/// blanks. A receiver accepts a webhook of which it can verify one. None where a secret is not one.
pub(crate) fn signature(
    secrets: &[Secret],
    id: &str,
    epoch_seconds: u64,
    body: &str,
) -> Option<String> {
    let sign = |secret: &Secret| {
        let key = BASE64_STANDARD.decode(secret.expose().strip_prefix("whsec_")?);
        let key = hmac::Key::new(HMAC_SHA256, &key.ok()?);
        let mut signing = hmac::Context::with_key(&key);
        for part in [id, ".", &epoch_seconds.to_string(), ".", body] {
            signing.update(part.as_bytes());
        }
        Some(format!("v1,{}", BASE64_STANDARD.encode(signing.sign())))
    };
    let signatures: Option<Vec<String>> = secrets.iter().map(sign).collect();
    Some(signatures?.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", r#"{"test": 2432232314}"#);
        let signed = signature(std::slice::from_ref(&secret), id, 1_614_265_330, body);
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signed.as_deref(), Some(expected));
        let twice = signature(&[secret.clone(), secret], id, 1_614_265_330, body);
        assert_eq!(twice, Some(format!("{expected} {expected}")));
    }

    #[test]
    fn what_is_no_secret_signs_nothing() {
        for text in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_#"] {
            let secret = Secret::new(text.to_owned());
            assert_eq!(signature(&[secret], "id", 1, "{}"), None, "{text}");
        }
    }
}
