//! Secrets that callers entrust to us, and what may be shown of them.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A secret in the clear. It is wiped from memory when it is dropped, and never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: String) -> Secret {
        Secret(Zeroizing::new(secret))
    }

    /// The secret itself: for the request that needs it, and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// A secret at rest: what KMS made of it, and what a caller may see of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSecret {
    /// KMS ciphertext, base64; bound to tenant and integration by its encryption context.
    pub cipher: String,
    /// All but the last four characters as `*`; all of it where shorter than 12.
    pub mask: String,
}

/// The mask of a secret: all but its last four characters as `*`, all of it where shorter than 12 (docs/api.md, Integrations).
pub fn mask(secret: &str) -> String {
    let length = secret.chars().count();
    let shown = if length < 12 { 0 } else { 4 };
    "*".repeat(length - shown) + &secret.chars().skip(length - shown).collect::<String>()
}

/// Whether a text looks as [`mask`] makes one. Sent back where no such secret is stored, it is no secret.
pub fn is_mask(text: &str) -> bool {
    let stars = text
        .chars()
        .take_while(|character| *character == '*')
        .count();
    let length = text.chars().count();
    stars > 0 && (stars == length || length >= 12 && stars >= length - 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "[redacted]");
    }

    #[test]
    fn a_mask_shows_the_last_four_characters_of_long_secrets_only() {
        assert_eq!(mask(""), "");
        assert_eq!(mask("short"), "*****");
        assert_eq!(mask("12345678901"), "***********");
        assert_eq!(mask("123456789012"), "********9012");
        for secret in ["short", "12345678901", "123456789012"] {
            assert!(is_mask(&mask(secret)), "{secret}");
            assert!(!is_mask(secret), "{secret}");
        }
        assert!(!is_mask(""));
        assert!(!is_mask("**a-key-that-begins-so"));
    }
}
