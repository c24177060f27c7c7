//! Entity tags of integrations: what a caller has seen of the settings, so that no update undoes one that it has not seen.
//!
//! A tag is of the settings alone. What the service writes by itself, such as how far a stream is, would change it all the time;
//! so would starting and stopping, between which an update comes. So a tag is for `If-Match`, and not for caches.

use std::hash::{DefaultHasher, Hash, Hasher};

use domain::integration::{Integration, Target};
use serde_json::json;

use crate::error::ApiError;
use crate::request::Request;

/// The tag of an integration as it is now: `"` and 16 hexadecimal digits and `"`.
pub fn of(integration: &Integration) -> String {
    let target = match &integration.target {
        Target::Webhook { callback, .. } => json!(callback),
        Target::S3 { bucket, .. } => json!(bucket),
    };
    let settings = json!([integration.generation, target, integration.filter]).to_string();
    let mut hasher = DefaultHasher::new();
    settings.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// Checks `If-Match` (RFC 9110, section 13.1.1), where the request has it.
///
/// # Errors
/// 400 where it is no list of entity tags, 412 where the integration has other settings now than any that the caller names.
pub fn check(request: &Request, integration: &Integration) -> Result<(), ApiError> {
    let Some(asked) = request.given("if-match").map(str::trim) else {
        return Ok(());
    };
    if asked == "*" {
        return Ok(());
    }
    let mut asked = asked.split(',').map(str::trim);
    if !asked.clone().all(is_tag) {
        let reason = "must be the ETag of the integration as you have read it, or *";
        return Err(ApiError::bad_field("If-Match", reason));
    }
    let tag = of(integration);
    match asked.any(|one| one == tag) {
        true => Ok(()),
        false => Err(ApiError::precondition_failed()),
    }
}

/// Whether a text is an entity tag (RFC 9110, section 8.8.3), and has no comma.
fn is_tag(text: &str) -> bool {
    let text = text.strip_prefix("W/").unwrap_or(text);
    let inner = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    inner.is_some_and(|inner| {
        inner
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"')
    })
}

#[cfg(test)]
mod tests {
    use domain::time::Millis;

    use super::*;

    fn integration(prefix: &str, position: u8) -> Integration {
        let text = r#"{"tenant":"acme","id":"erp-1","generation":"01HF7YAT000000000000000007","version":1,"integration_type":"permanent",
            "target":{"s3":{"bucket":{"role_arn":"arn:aws:iam::123456789012:role/r","external_id":"e","aws_region":"eu-west-1","bucket":"b","key_prefix":"PREFIX"},
            "export":{"floor":1,"place":"0000000000000000000000000POSITION","lease":null,"plan":null,"failing_since":null,"failed_at":null}}},
            "starts_at":1,"ends_at":null,"filter":null,"status":"running","stopped_at":null}"#;
        let text = text
            .replace("PREFIX", prefix)
            .replace("POSITION", &position.to_string());
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_tag_is_of_the_settings_and_of_nothing_else() {
        let first = of(&integration("p", 1));
        assert_eq!(first, of(&integration("p", 2)));
        assert_ne!(first, of(&integration("q", 1)));
        let mut stopped = integration("p", 1);
        stopped.stopped_at = Some(Millis(5));
        stopped.version = 7;
        assert_eq!(first, of(&stopped));
    }

    #[test]
    fn if_match_names_one_or_several_or_any() {
        let integration = integration("p", 1);
        let tag = of(&integration);
        let check = |headers: serde_json::Value| {
            let request = serde_json::from_value(json!({"headers": headers})).unwrap();
            let refused = check(&request, &integration).err();
            refused.map(|refused| refused.render("r").status().as_u16())
        };
        assert_eq!(check(json!({})), None);
        for (header, refused) in [
            ("*".to_owned(), None),
            (tag.clone(), None),
            (format!(" \"other\" , {tag} "), None),
            ("\"other\"".to_owned(), Some(412)),
            // Weak ones never match (RFC 9110, section 13.1.1).
            (format!("W/{tag}"), Some(412)),
            (tag.trim_matches('"').to_owned(), Some(400)),
            (String::new(), Some(400)),
            ("{}".to_owned(), Some(400)),
            (format!("{tag},"), Some(400)),
        ] {
            assert_eq!(check(json!({"If-Match": header})), refused, "{header}");
        }
    }
}
