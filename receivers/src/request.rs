//! The headers of a request.

use domain::receiver::credentials::Credentials;
use domain::time::Millis;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    USER_AGENT,
};

use crate::Post;
use crate::signature::signature;

/// The header `user-agent`.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("event-stream/", env!("CARGO_PKG_VERSION")));

/// The headers of a request. An integration's own ones come first: none of them takes the place of one of ours.
pub(crate) fn headers(post: &Post<'_>, now: Millis) -> Result<HeaderMap, Unsendable> {
    let Credentials {
        api_key,
        signing,
        headers: own,
    } = post.credentials;
    let mut headers = HeaderMap::new();
    // The only one that an integration may set in its place.
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    for (name, value) in own {
        let name = HeaderName::try_from(name).map_err(|_| Unsendable)?;
        headers.insert(name, secret(value.expose())?);
    }
    headers.insert(USER_AGENT, AGENT);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // The start of a response is kept to be read by people.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let id = HeaderValue::try_from(post.event_id).map_err(|_| Unsendable)?;
    headers.insert("webhook-id", id);
    headers.insert("webhook-timestamp", HeaderValue::from(now.epoch_seconds()));
    if !signing.is_empty() {
        let signature = signature(signing, post.event_id, now.epoch_seconds(), post.body);
        let signature = signature.ok_or(Unsendable)?;
        let signature = HeaderValue::try_from(signature).map_err(|_| Unsendable)?;
        headers.insert("webhook-signature", signature);
    }
    if let Some(api_key) = api_key {
        headers.insert(
            AUTHORIZATION,
            secret(&format!("Bearer {}", api_key.expose()))?,
        );
    }
    Ok(headers)
}

/// A value that no debug output shows.
fn secret(value: &str) -> Result<HeaderValue, Unsendable> {
    let mut value = HeaderValue::try_from(value).map_err(|_| Unsendable)?;
    value.set_sensitive(true);
    Ok(value)
}

/// What an integration has stored cannot be sent in a header.
#[derive(Debug)]
pub(crate) struct Unsendable;

#[cfg(test)]
mod tests {
    use domain::receiver::credentials::NONE;
    use domain::secret::Secret;

    use super::*;

    #[test]
    fn an_integrations_own_accept_is_sent_and_everything_is_accepted_without() {
        let own = |name: &str, value: &str| (name.to_owned(), Secret::new(value.to_owned()));
        let asking = Credentials {
            headers: vec![own("accept", "application/json"), own("x-shop", "7")],
            ..Credentials::default()
        };
        for (credentials, accept) in [(&asking, "application/json"), (&NONE, "*/*")] {
            let post = Post {
                url: "https://erp.example/",
                credentials,
                event_id: "e",
                body: "{}",
            };
            let headers = headers(&post, Millis(0)).unwrap();
            assert_eq!(headers.get(ACCEPT).unwrap(), accept);
            assert_eq!(headers.get(USER_AGENT).unwrap(), &AGENT);
            assert_eq!(
                headers.contains_key("x-shop"),
                !credentials.headers.is_empty()
            );
        }
    }
}
