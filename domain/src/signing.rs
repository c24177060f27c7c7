//! What the webhooks of an integration are signed with, and how that changes without a webhook that its receiver cannot verify.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::StoredSecret;
use crate::time::Millis;

/// The signing secrets of an integration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signing {
    /// The one that signs.
    pub secret: StoredSecret,
    /// Since when.
    pub created_at: Millis,
    /// The one before: it signs as well, until its receiver has learned the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
}

/// A signing secret that has been replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// The secret.
    pub secret: StoredSecret,
    /// The first instant at which it does not sign any more.
    pub until: Millis,
}

impl Signing {
    /// A new secret in place of what was there, which signs for `overlap` longer. Of two rotations within an overlap, the first
    /// secret is given up at the second.
    pub fn rotated(
        before: Option<Signing>,
        secret: StoredSecret,
        now: Millis,
        overlap: Duration,
    ) -> Signing {
        let previous = before.filter(|_| !overlap.is_zero());
        Signing {
            secret,
            created_at: now,
            previous: previous.map(|before| Previous {
                secret: before.secret,
                until: now.after(overlap),
            }),
        }
    }

    /// What signs at `now`, the newest first.
    pub fn secrets(&self, now: Millis) -> impl Iterator<Item = &StoredSecret> {
        let previous = self.previous.iter().filter(move |it| now < it.until);
        [&self.secret]
            .into_iter()
            .chain(previous.map(|it| &it.secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn stored(name: &str) -> StoredSecret {
        StoredSecret {
            cipher: name.to_owned(),
            mask: "****".to_owned(),
        }
    }

    fn signs(signing: &Signing, now: Millis) -> Vec<&str> {
        signing.secrets(now).map(|it| it.cipher.as_str()).collect()
    }

    #[test]
    fn both_sign_during_the_overlap_and_the_new_one_alone_after_it() {
        let now = Millis(1_700_000_000_000);
        let first = Signing::rotated(None, stored("a"), now, DAY);
        assert_eq!(signs(&first, now), ["a"]);
        let second = Signing::rotated(Some(first.clone()), stored("b"), now, DAY);
        assert_eq!(signs(&second, now), ["b", "a"]);
        assert_eq!(
            signs(&second, now.after(DAY).before(Duration::from_millis(1))),
            ["b", "a"]
        );
        assert_eq!(signs(&second, now.after(DAY)), ["b"]);
        let third = Signing::rotated(Some(second), stored("c"), now, DAY);
        assert_eq!(signs(&third, now), ["c", "b"]);
        let at_once = Signing::rotated(Some(first), stored("d"), now, Duration::ZERO);
        assert_eq!(signs(&at_once, now), ["d"]);
    }
}
