//! One POST to a receiver, and what its response means. The only place that knows receivers' HTTP statuses.

mod connections;
mod failure;
mod resolver;
mod response;
mod signature;
mod target;
mod tls;

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::receiver::credentials::Credentials;
use domain::receiver::outcome::{Exchange, Failure, Lack, Outcome};
use domain::time::Millis;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap,
    HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use tokio::time::timeout;

use crate::connections::{Connection, Connections};
use crate::failure::{NoResponse, is_closed, transport_reason};
use crate::resolver::PublicResolver;
use crate::response::{MAX_KEPT_BYTES, outcome, readable, retry_after};
use crate::signature::signature;
use crate::target::{Origin, Targets};
pub use crate::tls::Tls;

/// How long a connection may take to be made (docs/api.md, Webhooks).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole exchange may take (docs/api.md, Webhooks).
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(15);
/// How much of a response is read (docs/api.md, Webhooks).
pub const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// The header of sample events alone.
const WEBHOOK_TEST: HeaderName = HeaderName::from_static("webhook-test");
/// The header `user-agent`.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("event-stream/", env!("CARGO_PKG_VERSION")));

/// Calls receivers. Keeps connections, and the TLS sessions to resume, from one call to the next.
#[derive(Clone, Debug)]
pub struct Receivers {
    connections: Arc<Connections>,
    targets: Arc<Targets>,
    /// How long a whole exchange may take.
    exchange_timeout: Duration,
}

/// One event on its way to a receiver.
#[derive(Debug)]
pub struct Post<'a> {
    /// The receiver's address.
    pub url: &'a str,
    /// What the receiver knows us by.
    pub credentials: &'a Credentials,
    /// The event's id.
    pub event_id: &'a str,
    /// The envelope.
    pub body: &'a str,
}

/// What came of a test of a receiver.
#[derive(Debug)]
pub struct Tested {
    /// The request and its response.
    pub exchange: Exchange,
    /// The start of the response; empty where none came.
    pub response: String,
    /// What its TLS looks like; none over plain HTTP, and where none could be agreed upon.
    pub tls: Option<Tls>,
}

/// A response of a receiver.
struct Response {
    status: u16,
    outcome: Outcome,
    /// Its start, as text.
    start: String,
}

impl Receivers {
    /// `allow_private` lets receivers be called at addresses that are not public, and over plain HTTP.
    pub fn new(allow_private: bool) -> Receivers {
        Receivers::with_resolver(allow_private, PublicResolver::new(allow_private))
    }

    /// As [`Receivers::new`], with a resolver of its own.
    pub(crate) fn with_resolver(allow_private: bool, resolver: PublicResolver) -> Receivers {
        Receivers {
            connections: Arc::new(Connections::new(resolver)),
            targets: Arc::new(Targets::new(allow_private)),
            exchange_timeout: EXCHANGE_TIMEOUT,
        }
    }

    /// Sends one event, at `now`.
    pub async fn post(&self, post: &Post<'_>, now: Millis) -> Exchange {
        self.post_with(post, now, &[]).await.0
    }

    /// Sends a sample event, marked as one, and looks at the receiver's TLS.
    pub async fn test(&self, post: &Post<'_>, now: Millis) -> Tested {
        let mark = [(WEBHOOK_TEST, HeaderValue::from_static("1"))];
        let (exchange, response) = self.post_with(post, now, &mark).await;
        let tls = match self.targets.of(post.url) {
            Some(target) => tls::look(&target.origin, &self.connections).await,
            None => None,
        };
        Tested {
            exchange,
            response,
            tls,
        }
    }

    /// Sends one event with further headers, and returns the start of the response besides.
    async fn post_with(
        &self,
        post: &Post<'_>,
        now: Millis,
        more: &[(HeaderName, HeaderValue)],
    ) -> (Exchange, String) {
        let began = Instant::now();
        let answered = self.exchange(post, now, more).await;
        let (outcome, status, lack, start) = match answered {
            Ok(response) => {
                let Response {
                    status,
                    outcome,
                    start,
                } = response;
                (outcome, Some(status), None, start)
            }
            Err((failure, lack)) => (Outcome::Failed(failure), None, Some(lack), String::new()),
        };
        let exchange = Exchange {
            outcome,
            status,
            lack,
            took: began.elapsed(),
        };
        (exchange, start)
    }

    /// The response and what it means, or why none came.
    async fn exchange(
        &self,
        post: &Post<'_>,
        now: Millis,
        more: &[(HeaderName, HeaderValue)],
    ) -> Result<Response, (Failure, Lack)> {
        let Some(target) = self.targets.of(post.url) else {
            return Err(blocked("the address is not allowed"));
        };
        let Ok(mut headers) = headers(post, now) else {
            return Err(blocked("api_key, headers or signing secret cannot be sent"));
        };
        headers.insert(HOST, target.host.clone());
        headers.extend(more.iter().cloned());
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(post.body.as_bytes())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target.path.clone();
        *request.headers_mut() = headers;
        let ends_at = Instant::now() + self.exchange_timeout;
        let sent = timeout(self.exchange_timeout, self.send(&target.origin, request)).await;
        let (response, connection) = match sent.unwrap_or(Err(NoResponse::InTime)) {
            Ok(sent) => sent,
            Err(error) => {
                let (reason, lack) = transport_reason(&error);
                let failure = Failure {
                    reason: reason.to_owned(),
                    retry_after: None,
                    is_refusal: true,
                };
                return Err((failure, lack));
            }
        };
        let (head, body) = response.into_parts();
        let retry_after = retry_after(head.headers.get(RETRY_AFTER), now);
        // Read so that the connection can be used again; a response that is longer closes it. Whatever becomes of the rest, the
        // status has been received: it decides.
        let mut start = Vec::new();
        let left = ends_at.saturating_duration_since(Instant::now());
        if timeout(left, read(body, &mut start)).await == Ok(true) {
            self.connections.keep(&target.origin, connection);
        }
        let start = readable(&start, head.headers.get(CONTENT_ENCODING));
        Ok(Response {
            status: head.status.as_u16(),
            outcome: outcome(head.status, retry_after, &start),
            start,
        })
    }

    /// The response, and the connection that it comes by.
    async fn send(
        &self,
        origin: &Origin,
        request: Request<Full<Bytes>>,
    ) -> Result<(http::Response<Incoming>, Connection), NoResponse> {
        // A kept connection that the receiver has closed meanwhile says nothing about the receiver. Other kept ones may be
        // closed as well, so the second request has a connection of its own, within what is left of the time.
        if let Some(mut connection) = self.connections.kept(origin) {
            match answered(&mut connection, request.clone()).await {
                Ok(response) => return Ok((response, connection)),
                Err(error) if is_closed(&error) => {}
                Err(error) => return Err(NoResponse::Broken(error)),
            }
        }
        let connecting = timeout(CONNECT_TIMEOUT, self.connections.connect(origin)).await;
        let connection = connecting.map_err(|_| NoResponse::NoConnectionInTime)?;
        let mut connection = connection.map_err(NoResponse::NoConnection)?;
        let response = answered(&mut connection, request).await;
        Ok((response.map_err(NoResponse::Broken)?, connection))
    }
}

/// The response to a request.
async fn answered(
    connection: &mut Connection,
    request: Request<Full<Bytes>>,
) -> hyper::Result<http::Response<Incoming>> {
    connection.ready().await?;
    connection.send_request(request).await
}

/// Reads a response, and keeps its start; whether it has been read to its end.
async fn read(mut body: Incoming, start: &mut Vec<u8>) -> bool {
    let mut read = 0;
    while read < MAX_ANSWER_BYTES {
        let chunk = match body.frame().await {
            None => return true,
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(_)) => return false,
        };
        read += chunk.len();
        let room = (MAX_KEPT_BYTES - start.len()).min(chunk.len());
        start.extend_from_slice(&chunk[..room]);
    }
    false
}

/// The headers of a request. An integration's own ones come first: none of them takes the place of one of ours.
fn headers(post: &Post<'_>, now: Millis) -> Result<HeaderMap, Unsendable> {
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
struct Unsendable;

/// Nothing is sent.
fn blocked(reason: &str) -> (Failure, Lack) {
    let failure = Failure {
        reason: reason.to_owned(),
        retry_after: None,
        is_refusal: false,
    };
    (failure, Lack::Blocked)
}

#[cfg(test)]
mod tests;
