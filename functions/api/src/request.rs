//! A request as API Gateway hands it over, and the response that it takes.
//!
//! Read by our own few lines: the crate `lambda_http` makes a URL of headers that the caller chooses (`Host`,
//! `X-Forwarded-Proto`) and panics where they make none. Nothing of a request can end the function here: what is not there is
//! empty, and no part is parsed before an endpoint needs it.
//!
//! The form is API Gateway's payload format 2.0:
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::Response;
use serde::{Deserialize, Serialize};
use shared::trace::Trace;

/// What API Gateway invokes the function with.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    raw_path: String,
    raw_query_string: String,
    headers: BTreeMap<String, String>,
    request_context: Context,
    body: Option<String>,
    is_base64_encoded: bool,
    /// The header of the invocation's trace: Lambda hands it over beside the request.
    #[serde(skip)]
    pub trace_header: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Context {
    request_id: Option<String>,
    http: Http,
    authorizer: Option<Authorizer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Http {
    method: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Authorizer {
    jwt: Option<Jwt>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Jwt {
    claims: BTreeMap<String, serde_json::Value>,
}

/// The claims of a token that API Gateway's authorizer has verified.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a>(&'a BTreeMap<String, serde_json::Value>);

impl Claims<'_> {
    /// A claim. API Gateway hands each over as text, an array as `[one two]`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str().unwrap_or(""))
    }
}

impl Request {
    /// The method, as the caller wrote it.
    pub fn method(&self) -> &str {
        &self.request_context.http.method
    }

    /// The path, as the caller wrote it, before any decoding.
    pub fn path(&self) -> &str {
        &self.raw_path
    }

    /// A parameter of the query string, decoded; none where it is not there. Of several the first.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.raw_query_string.as_bytes());
        let found = pairs.find(|(given, _)| given == name);
        found.map(|(_, value)| value.into_owned())
    }

    /// A header's value by its name in lower case; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.given(name).unwrap_or_default()
    }

    /// As [`Request::header`]; none where there is none.
    pub fn given(&self, name: &str) -> Option<&str> {
        // API Gateway writes names in lower case; an emulator need not.
        let mut headers = self.headers.iter();
        let found = headers.find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// API Gateway's id of the request, which is also in its access log.
    pub fn id(&self) -> Option<&str> {
        self.request_context.request_id.as_deref()
    }

    /// The trace that the request is in, if that is sampled.
    pub fn trace(&self) -> Option<Trace> {
        self.trace_header.as_deref().and_then(Trace::read)
    }

    /// The claims of the verified token; none where no authorizer has verified one.
    pub fn claims(&self) -> Option<Claims<'_>> {
        let jwt = self.request_context.authorizer.as_ref()?.jwt.as_ref()?;
        Some(Claims(&jwt.claims))
    }

    /// The bytes of the body; none where they are said to be base64 and are not.
    pub fn body(&self) -> Option<Cow<'_, [u8]>> {
        let body = self.body.as_deref().unwrap_or_default();
        match self.is_base64_encoded {
            true => BASE64_STANDARD.decode(body).ok().map(Cow::Owned),
            false => Some(Cow::Borrowed(body.as_bytes())),
        }
    }
}

/// A response in API Gateway's form.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    status_code: u16,
    headers: BTreeMap<String, String>,
    body: String,
    is_base64_encoded: bool,
}

impl From<Response<String>> for Answer {
    fn from(response: Response<String>) -> Answer {
        let (parts, body) = response.into_parts();
        let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers = parts.headers.iter();
        Answer {
            status_code: parts.status.as_u16(),
            headers: headers
                .map(|(name, value)| (name.as_str().to_owned(), text(value)))
                .collect(),
            body,
            is_base64_encoded: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use properties::Random;

    use super::*;

    #[test]
    fn parts_that_are_missing_are_empty() {
        for event in ["{}", r#"{"requestContext":{}}"#, r#"{"headers":{}}"#] {
            let request: Request = serde_json::from_str(event).unwrap();
            assert_eq!((request.method(), request.path()), ("", ""));
            assert_eq!(request.header("content-type"), "");
            assert_eq!(request.body().as_deref(), Some(&b""[..]));
            assert!(request.claims().is_none() && request.id().is_none());
        }
    }

    #[test]
    fn a_body_comes_as_text_or_as_base64() {
        for (event, body) in [
            (r#"{"body":"{\"a\":1}"}"#, Some(&b"{\"a\":1}"[..])),
            (
                r#"{"body":"AP8=","isBase64Encoded":true}"#,
                Some(&[0, 255][..]),
            ),
            (r#"{"body":"no base64","isBase64Encoded":true}"#, None),
            (r#"{"body":null}"#, Some(&b""[..])),
        ] {
            let request: Request = serde_json::from_str(event).unwrap();
            assert_eq!(request.body().as_deref(), body, "{event}");
        }
    }

    #[test]
    fn no_path_and_no_header_makes_it_panic() {
        let texts =
            |random: &mut Random| [8, 30, 20, 30].map(|most| properties::text(random, most));
        properties::holds(texts, |[method, path, name, value]| {
            let event = serde_json::json!({
                "rawPath": path, "rawQueryString": value, "headers": {"host": value, "x-forwarded-proto": value, name: value},
                "requestContext": {"http": {"method": method, "path": path}, "domainName": value, "stage": value},
            });
            let request: Request = serde_json::from_value(event).unwrap();
            assert_eq!(request.path(), path.as_str());
            assert_eq!(request.header("host"), value.as_str());
        });
    }
}
