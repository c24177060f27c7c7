//! One POST to a receiver, and what its response means. The only place that knows receivers' HTTP statuses.

mod failure;
mod resolver;
mod response;
mod signature;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use domain::receiver::credentials::Credentials;
use domain::receiver::outcome::{Exchange, Failure, Lack, Outcome};
use domain::receiver::url::check_url;
use domain::time::Millis;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, RETRY_AFTER,
};

use crate::failure::{is_closed, transport_reason};
use crate::resolver::PublicResolver;
use crate::response::{MAX_KEPT_BYTES, outcome, readable, retry_after};
use crate::signature::signature;
pub use crate::tls::Tls;

/// How long a connection may take to be made (docs/api.md, Webhooks).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole exchange may take (docs/api.md, Webhooks).
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(15);
/// How much of a response is read (docs/api.md, Webhooks).
pub const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// The header of sample events alone.
const WEBHOOK_TEST: HeaderName = HeaderName::from_static("webhook-test");
/// How many hosts are remembered as having been connected to.
const MAX_HOSTS: usize = 1_000;
/// How long an unused connection is kept: longer than Lambda freezes a busy function, shorter than most servers wait.
const KEPT_IDLE: Duration = Duration::from_secs(50);

/// Calls receivers. Keeps connections, and the TLS sessions to resume, from one call to the next.
#[derive(Clone, Debug)]
pub struct Receivers {
    client: reqwest::Client,
    /// Keeps no connection: each of its requests has one of its own. Made when it is needed first.
    fresh: Arc<OnceLock<reqwest::Client>>,
    resolver: Arc<PublicResolver>,
    allow_private: bool,
    /// How long a whole exchange may take.
    exchange_timeout: Duration,
    /// When an exchange with a host ended last: from then on a connection may have been kept.
    kept: Arc<Mutex<HashMap<String, Instant>>>,
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
    ///
    /// # Panics
    /// When the platform has no usable root certificates: nothing could be delivered then.
    pub fn new(allow_private: bool) -> Receivers {
        Receivers::with_resolver(allow_private, PublicResolver::new(allow_private))
    }

    /// As [`Receivers::new`], with a resolver of its own.
    pub(crate) fn with_resolver(allow_private: bool, resolver: PublicResolver) -> Receivers {
        let resolver = Arc::new(resolver);
        Receivers {
            client: client(&resolver, true),
            fresh: Arc::default(),
            resolver,
            allow_private,
            exchange_timeout: EXCHANGE_TIMEOUT,
            kept: Arc::default(),
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
        let url = check_url(post.url, self.allow_private).ok();
        let tls = match url {
            Some(url) => tls::look(&url, &self.resolver).await,
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
        let url = match check_url(post.url, self.allow_private) {
            Ok(url) => url,
            Err(_) => return Err(blocked("the address is not allowed")),
        };
        let host = url.authority().to_owned();
        let mut headers = match headers(post, now) {
            Ok(headers) => headers,
            Err(Unsendable) => {
                return Err(blocked("api_key, headers or signing secret cannot be sent"));
            }
        };
        headers.extend(more.iter().cloned());
        let ends_at = Instant::now() + self.exchange_timeout;
        let request = |client: &reqwest::Client| {
            client
                .post(url.clone())
                .headers(headers.clone())
                .timeout(ends_at.saturating_duration_since(Instant::now()))
                .body(post.body.to_owned())
        };
        let mut sent = request(&self.client).send().await;
        // A kept connection that the receiver has closed meanwhile says nothing about the receiver. Other kept ones may be
        // closed as well, so the second request has a connection of its own, within what is left of the time.
        if let Err(error) = &sent
            && self.may_be_kept(&host)
            && is_closed(error)
        {
            sent = request(self.fresh()).send().await;
        }
        let mut response = match sent {
            Ok(response) => response,
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
        let (status, retry_after) = (
            response.status(),
            retry_after(response.headers().get(RETRY_AFTER), now),
        );
        let coding = response.headers().get(CONTENT_ENCODING).cloned();
        // Read so that the connection can be used again; a response that is longer closes it. Whatever becomes of the rest, the
        // status has been received: it decides.
        let (mut read, mut start) = (0, Vec::new());
        while read < MAX_ANSWER_BYTES {
            let Ok(Some(chunk)) = response.chunk().await else {
                break;
            };
            read += chunk.len();
            let room = (MAX_KEPT_BYTES - start.len()).min(chunk.len());
            start.extend_from_slice(&chunk[..room]);
        }
        self.keep(host);
        let start = readable(&start, coding.as_ref());
        Ok(Response {
            status: status.as_u16(),
            outcome: outcome(status, retry_after, &start),
            start,
        })
    }

    fn fresh(&self) -> &reqwest::Client {
        self.fresh.get_or_init(|| client(&self.resolver, false))
    }

    /// Whether an earlier exchange with this host may have left a connection.
    fn may_be_kept(&self, host: &str) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(host)
            .is_some_and(|ended_at| ended_at.elapsed() < KEPT_IDLE)
    }

    fn keep(&self, host: String) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_HOSTS {
            kept.retain(|_, ended_at| ended_at.elapsed() < KEPT_IDLE);
        }
        if kept.len() < MAX_HOSTS {
            kept.insert(host, Instant::now());
        }
    }
}

/// An HTTP client that keeps connections or not.
fn client(resolver: &Arc<PublicResolver>, keeps: bool) -> reqwest::Client {
    reqwest::Client::builder()
        .user_agent(concat!("event-stream/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(KEPT_IDLE)
        .pool_max_idle_per_host(if keeps { usize::MAX } else { 0 })
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .http1_only()
        // What old servers send, and every other client takes (RFC 9112, sections 5.1 and 5.2).
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .min_tls_version(reqwest::tls::Version::TLS_1_2)
        .dns_resolver(resolver.clone())
        .build()
        .expect("an HTTP client can be built")
}

/// The headers of a request. An integration's own ones come first: none of them takes the place of one of ours.
fn headers(post: &Post<'_>, now: Millis) -> Result<HeaderMap, Unsendable> {
    let Credentials {
        api_key,
        signing,
        headers: own,
    } = post.credentials;
    let mut headers = HeaderMap::new();
    for (name, value) in own {
        let name = HeaderName::try_from(name).map_err(|_| Unsendable)?;
        headers.insert(name, secret(value.expose())?);
    }
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
