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
/// 412 where the integration has other settings now than any that the caller names.
pub fn check(request: &Request, integration: &Integration) -> Result<(), ApiError> {
    let asked = request.header("if-match").trim();
    if asked.is_empty() || asked == "*" {
        return Ok(());
    }
    let tag = of(integration);
    match asked.split(',').any(|one| one.trim() == tag) {
        true => Ok(()),
        false => Err(ApiError::precondition_failed()),
    }
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
        for (header, is_match) in [
            (String::new(), true),
            ("*".to_owned(), true),
            (tag.clone(), true),
            (format!(" \"other\" , {tag} "), true),
            ("\"other\"".to_owned(), false),
            // Weak ones never match (RFC 9110, section 13.1.1).
            (format!("W/{tag}"), false),
            (tag.trim_matches('"').to_owned(), false),
        ] {
            let event = json!({"headers": {"If-Match": header}});
            let request: Request = serde_json::from_value(event).unwrap();
            assert_eq!(check(&request, &integration).is_ok(), is_match, "{header}");
        }
    }
}
