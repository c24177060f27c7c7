//! The tenant of a request: a claim of the token that API Gateway's JWT authorizer has verified, and nothing else.

use domain::event::is_tenant;

use crate::error::ApiError;
use crate::request::Request;

/// The scope of a machine client begins with this; the tenant's name follows.
const SCOPE_PREFIX: &str = "tenant/";
/// Where issuers put scopes: `scope` is the standard's (RFC 8693, section 4.2), `scp` what Okta and Entra write.
const SCOPE_CLAIMS: [&str; 2] = ["scope", "scp"];

/// The tenant that the verified token names: by the claim `claim_name`, or by the one scope `tenant/<name>`.
///
/// # Errors
/// 401 where no authorizer has verified a token, 403 where it names no tenant, or several.
pub fn of(request: &Request, claim_name: &str) -> Result<String, ApiError> {
    let claims = request.claims().ok_or_else(ApiError::unauthorized)?;
    let named = match claims.get(claim_name) {
        Some(claim) => Some(inside(claim)),
        None => from_scopes(SCOPE_CLAIMS.map(|name| claims.get(name).unwrap_or_default())),
    };
    named
        .filter(|name| is_tenant(name))
        .map(str::to_owned)
        .ok_or_else(ApiError::forbidden)
}

/// The tenant of the one scope that names any. An issuer may write its scopes into more than one claim: each that names tenants
/// has to name this one.
fn from_scopes<const N: usize>(claims: [&str; N]) -> Option<&str> {
    let mut named = None;
    for scopes in claims {
        let scopes = inside(scopes).split(' ');
        let mut tenants = scopes.filter_map(|scope| scope.strip_prefix(SCOPE_PREFIX));
        let Some(tenant) = tenants.next() else {
            continue;
        };
        if tenants.next().is_some() || named.is_some_and(|named| named != tenant) {
            return None;
        }
        named = Some(tenant);
    }
    named
}

/// What is in a claim that is an array: API Gateway hands it over as `[one two]`.
fn inside(claim: &str) -> &str {
    let array = claim.strip_prefix('[');
    let inside = array.and_then(|claim| claim.strip_suffix(']'));
    inside.unwrap_or(claim)
}

#[cfg(test)]
mod tests {
    use properties::{Random, RngExt};

    use super::*;

    fn request(context: &str) -> Request {
        let event = format!(
            r#"{{"version":"2.0","routeKey":"ANY /api/{{proxy+}}","rawPath":"/api/v1","rawQueryString":"","headers":{{}},"requestContext":{{"http":{{"method":"GET","path":"/api/v1"}},"timeEpoch":1{context}}},"isBase64Encoded":false}}"#
        );
        serde_json::from_str(&event).unwrap()
    }

    fn with_claims(claims: &str) -> Request {
        request(&format!(
            r#","authorizer":{{"jwt":{{"claims":{claims},"scopes":null}}}}"#
        ))
    }

    #[test]
    fn the_claim_or_the_one_scope_names_the_tenant() {
        for (claims, tenant) in [
            (r#"{"tenant":"acme"}"#, Some("acme")),
            (r#"{"tenant":"acme","scope":"tenant/other"}"#, Some("acme")),
            (r#"{"scope":"tenant/acme"}"#, Some("acme")),
            (r#"{"scope":"openid tenant/acme email"}"#, Some("acme")),
            (r#"{"scope":"tenant/acme tenant/other"}"#, None),
            (r#"{"scope":"tenant/"}"#, None),
            (r#"{"scope":"tenant/a#b"}"#, None),
            (r#"{"scope":"acme"}"#, None),
            (r#"{"tenant":"","scope":"tenant/acme"}"#, None),
            (r#"{"tenant":"Acme"}"#, None),
            (r#"{"tenant":"[acme other]"}"#, None),
            (r#"{"tenant":"[acme]"}"#, Some("acme")),
            (r#"{"tenant":"[]"}"#, None),
            (r#"{"tenant":"[acme","scope":"tenant/acme"}"#, None),
            (r#"{"tenant":"acme\u0000"}"#, None),
            (r#"{"scope":"tenant/acme\ttenant/other"}"#, None),
            (r#"{"scope":"tenant/acme\ntenant/other"}"#, None),
            (r#"{"scope":"tenant/acme,tenant/other"}"#, None),
            (r#"{"scope":"tenant/acme tenant/"}"#, None),
            (r#"{"scope":"tenant/acme tenant/acme"}"#, None),
            (r#"{"scope":"tenant/../other"}"#, None),
            (r#"{"scope":"tenant/tenant/acme"}"#, None),
            (r#"{"scope":"Tenant/acme"}"#, None),
            (r#"{"scope":"xtenant/acme"}"#, None),
            (r#"{"scope":"tenant/acm\u0435"}"#, None),
            // Okta's array, as API Gateway hands it over, and Entra's text.
            (r#"{"scp":"[openid tenant/acme]"}"#, Some("acme")),
            (r#"{"scp":"[tenant/acme]"}"#, Some("acme")),
            (r#"{"scp":"openid tenant/acme"}"#, Some("acme")),
            (r#"{"scope":"openid","scp":"tenant/acme"}"#, Some("acme")),
            (r#"{"scope":"tenant/acme","scp":"tenant/other"}"#, None),
            (
                r#"{"scope":"openid tenant/acme","scp":"[openid tenant/acme]"}"#,
                Some("acme"),
            ),
            (r#"{"scp":"[tenant/acme tenant/other]"}"#, None),
            (r#"{"scp":"["}"#, None),
            (r#"{"scp":"[]"}"#, None),
            (r#"{"scp":["tenant/acme"]}"#, None),
            ("{}", None),
        ] {
            assert_eq!(
                of(&with_claims(claims), "tenant").ok().as_deref(),
                tenant,
                "{claims}"
            );
        }
    }

    /// Scopes of which about one in four names a tenant.
    fn scopes(random: &mut Random) -> String {
        const NAME: &str = "abcdefghijklmnopqrstuvwxyz0123456789-";
        let mut scopes = String::new();
        for _ in 0..random.random_range(0..=8) {
            match random.random_range(0..5) {
                0 => scopes += "tenant/",
                1 => scopes += properties::one_of(random, &["tenant", " tenant/acme "]),
                2 => scopes += &properties::spelled(random, NAME, 6),
                3 => scopes.push(' '),
                _ => scopes += &properties::spelled(random, " \t\n#/.ABCXYZ\0é", 1),
            }
        }
        scopes
    }

    #[test]
    fn a_tenant_is_one_whole_scope_or_there_is_none() {
        properties::holds(scopes, |scopes| {
            let claims = serde_json::json!({ "scope": scopes }).to_string();
            if let Ok(tenant) = of(&with_claims(&claims), "tenant") {
                assert!(is_tenant(&tenant));
                let naming = scopes
                    .split(' ')
                    .filter(|scope| scope.starts_with(SCOPE_PREFIX));
                assert_eq!(naming.collect::<Vec<_>>(), [format!("tenant/{tenant}")]);
            }
        });
    }

    #[test]
    fn without_a_verified_token_there_is_no_tenant() {
        assert!(of(&request(""), "tenant").is_err());
    }
}
