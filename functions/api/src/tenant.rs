//! The tenant of a request: a claim of the token that API Gateway's JWT authorizer has verified, and nothing else.

use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt};
use shared::event::is_tenant;

use crate::error::ApiError;

/// The scope of a machine client begins with this; the tenant's name follows.
const SCOPE_PREFIX: &str = "tenant/";

/// The tenant that the verified token names: by the claim `claim_name`, or by the one scope `tenant/<name>`.
///
/// # Errors
/// 401 where no authorizer has verified a token, 403 where it names no tenant, or several.
pub fn of(request: &Request, claim_name: &str) -> Result<String, ApiError> {
    let Some(RequestContext::ApiGatewayV2(context)) = request.request_context_ref() else {
        return Err(ApiError::unauthorized());
    };
    let jwt = context
        .authorizer
        .as_ref()
        .and_then(|authorizer| authorizer.jwt.as_ref())
        .ok_or_else(ApiError::unauthorized)?;
    let named = match jwt.claims.get(claim_name) {
        Some(claim) => Some(claim.as_str()),
        None => from_scopes(jwt.claims.get("scope").map_or("", String::as_str)),
    };
    named
        .filter(|name| is_tenant(name))
        .map(str::to_owned)
        .ok_or_else(ApiError::forbidden)
}

fn from_scopes(scopes: &str) -> Option<&str> {
    let mut tenants = scopes
        .split(' ')
        .filter_map(|scope| scope.strip_prefix(SCOPE_PREFIX));
    let first = tenants.next();
    if tenants.next().is_some() {
        None
    } else {
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(context: &str) -> Request {
        let event = format!(
            r#"{{"version":"2.0","routeKey":"ANY /api/{{proxy+}}","rawPath":"/api/v1","rawQueryString":"","headers":{{}},"requestContext":{{"http":{{"method":"GET","path":"/api/v1"}},"timeEpoch":1{context}}},"isBase64Encoded":false}}"#
        );
        lambda_http::request::from_str(&event).unwrap()
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
            ("{}", None),
        ] {
            assert_eq!(
                of(&with_claims(claims), "tenant").ok().as_deref(),
                tenant,
                "{claims}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn a_tenant_is_one_whole_scope_or_there_is_none(scopes in r"(tenant/|tenant|[a-z0-9-]{0,6}|[ \t\n#/.A-Z\x00é]){0,8}") {
            let claims = serde_json::json!({ "scope": scopes }).to_string();
            if let Ok(tenant) = of(&with_claims(&claims), "tenant") {
                proptest::prop_assert!(is_tenant(&tenant));
                let naming = scopes.split(' ').filter(|scope| scope.starts_with(SCOPE_PREFIX));
                proptest::prop_assert_eq!(naming.collect::<Vec<_>>(), [format!("tenant/{tenant}")]);
            }
        }
    }

    #[test]
    fn without_a_verified_token_there_is_no_tenant() {
        assert!(of(&request(""), "tenant").is_err());
    }
}
