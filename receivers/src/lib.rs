//! One POST to a receiver, and what its answer means. The only place that knows receivers' HTTP statuses.

mod failure;
mod resolver;
mod response;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use domain::receiver::outcome::{Failure, Outcome};
use domain::receiver::url::check_url;
use domain::secret::Secret;
use domain::time::Millis;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue,
    RETRY_AFTER,
};

use crate::failure::{is_closed, transport_reason};
use crate::resolver::PublicResolver;
use crate::response::{MAX_KEPT_BYTES, outcome, readable, retry_after};

/// How long a connection may take to be made (contract, section 2).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole exchange may take (contract, section 2).
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(15);
/// How much of an answer is read (contract, section 2).
pub const MAX_ANSWER_BYTES: usize = 16 * 1024;
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
    /// Sent as `Authorization: Bearer <api_key>`.
    pub api_key: Option<&'a Secret>,
    /// The event's id.
    pub event_id: &'a str,
    /// The envelope.
    pub body: &'a str,
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
    pub async fn post(&self, post: &Post<'_>, now: Millis) -> Outcome {
        let url = match check_url(post.url, self.allow_private) {
            Ok(url) => url,
            Err(_) => return failed("the address is not allowed"),
        };
        let host = url.authority().to_owned();
        let headers = match headers(post, now) {
            Ok(headers) => headers,
            Err(_) => return failed("the api_key cannot be sent in a header"),
        };
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
            Err(error) => return failed(transport_reason(&error)),
        };
        let (status, retry_after) = (
            response.status(),
            retry_after(response.headers().get(RETRY_AFTER), now),
        );
        let coding = response.headers().get(CONTENT_ENCODING).cloned();
        // Read so that the connection can be used again; an answer that is longer closes it. Whatever becomes of the rest, the
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
        outcome(status, retry_after, &readable(&start, coding.as_ref()))
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

/// The headers of a request.
fn headers(post: &Post<'_>, now: Millis) -> Result<HeaderMap, http::header::InvalidHeaderValue> {
    let mut headers = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        // The start of a response is kept to be read by people.
        (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
    ]);
    headers.insert("webhook-id", HeaderValue::try_from(post.event_id)?);
    headers.insert("webhook-timestamp", HeaderValue::from(now.epoch_seconds()));
    if let Some(api_key) = post.api_key {
        let mut value = HeaderValue::try_from(format!("Bearer {}", api_key.expose()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

fn failed(reason: impl Into<String>) -> Outcome {
    Outcome::Failed(Failure {
        reason: reason.into(),
        retry_after: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_with_an_inner_address_is_refused_where_it_is_connected() {
        let receivers = Receivers::new(false);
        let post = Post {
            url: "https://localhost:1/",
            api_key: None,
            event_id: "e",
            body: "{}",
        };
        let Outcome::Failed(failure) = receivers.post(&post, Millis(0)).await else {
            panic!("localhost is not public")
        };
        assert_eq!(failure.reason, "the address is not allowed");
    }

    /// Serves one connection after another, each with as many answers as are left before it closes without a word.
    fn serve(connections: Vec<u32>) -> (String, std::thread::JoinHandle<Vec<u32>>) {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let serve = |answers: u32| {
                let (mut connection, _) = listener.accept().unwrap();
                let mut requests = 0;
                // The last request is read, and answered by closing.
                for n in 0..=answers {
                    let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
                    while !text.ends_with(b"\r\n\r\n{}") {
                        match connection.read(&mut buffer).unwrap() {
                            0 => return requests,
                            read => text.extend_from_slice(&buffer[..read]),
                        }
                    }
                    requests += 1;
                    if n < answers {
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        connection.write_all(answer).unwrap();
                    }
                }
                requests
            };
            connections.into_iter().map(serve).collect()
        });
        (url, served)
    }

    #[tokio::test]
    async fn a_kept_connection_that_was_closed_is_made_anew_and_counts_for_nothing() {
        let (url, served) = serve(vec![1, 1]);
        let receivers = Receivers::new(true);
        let post = Post {
            url: &url,
            api_key: None,
            event_id: "e",
            body: "{}",
        };
        for attempt in ["on a new connection", "on a kept one, then on a new one"] {
            let outcome = receivers.post(&post, Millis(0)).await;
            assert_eq!(outcome, Outcome::Delivered, "{attempt}");
        }
        drop(receivers);
        let served = tokio::task::spawn_blocking(|| served.join().unwrap());
        assert_eq!(served.await.unwrap(), [2, 1]);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_at_once_is_a_failed_attempt() {
        let (url, served) = serve(vec![0]);
        let post = Post {
            url: &url,
            api_key: None,
            event_id: "e",
            body: "{}",
        };
        let Outcome::Failed(failure) = Receivers::new(true).post(&post, Millis(0)).await else {
            panic!("nothing was answered")
        };
        assert_eq!(failure.reason, "the connection broke");
        assert_eq!(served.join().unwrap(), [1], "it is not tried twice");
    }

    /// What a connection does with the request behind its last answer.
    #[derive(Clone, Copy, Debug)]
    enum End {
        /// It closes (FIN), after a while.
        Close(Duration),
        /// It resets (RST).
        Reset,
    }

    /// Serves any number of connections: each answers its first request with these bytes, and ends at its second. All of the
    /// first `together` requests are answered once they are there. Returns the URL, and how many requests have come.
    async fn serve_raw(
        answer: &'static [u8],
        end: End,
        together: usize,
    ) -> (String, Arc<std::sync::atomic::AtomicUsize>) {
        use std::sync::atomic::{AtomicUsize, Ordering};

        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = requests.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let requests = counter.clone();
                tokio::spawn(async move {
                    for is_first in [true, false] {
                        let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
                        while !text.ends_with(b"\r\n\r\n{}") {
                            match stream.read(&mut buffer).await {
                                Ok(read) if read > 0 => text.extend_from_slice(&buffer[..read]),
                                _ => return,
                            }
                        }
                        let count = requests.fetch_add(1, Ordering::SeqCst) + 1;
                        match end {
                            _ if is_first => {
                                while count <= together
                                    && requests.load(Ordering::SeqCst) < together
                                {
                                    tokio::task::yield_now().await;
                                }
                                let _ = stream.write_all(answer).await;
                                if !answer.ends_with(b"\r\n\r\n") {
                                    return;
                                }
                            }
                            End::Close(pause) => tokio::time::sleep(pause).await,
                            End::Reset => stream.set_zero_linger().unwrap(),
                        }
                    }
                });
            }
        });
        (url, requests)
    }

    const EMPTY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

    fn to(url: &str) -> Post<'_> {
        Post {
            url,
            api_key: None,
            event_id: "e",
            body: "{}",
        }
    }

    #[tokio::test]
    async fn kept_connections_that_end_at_their_second_request_count_for_nothing() {
        use std::sync::atomic::Ordering;
        for end in [End::Close(Duration::ZERO), End::Reset] {
            let (url, requests) = serve_raw(EMPTY, end, 10).await;
            let receivers = Receivers::new(true);
            // Ten connections are kept, and all of them are dead.
            let ten = (0..10).map(|_| async { receivers.post(&to(&url), Millis(0)).await });
            for outcome in futures_util::future::join_all(ten).await {
                assert_eq!(outcome, Outcome::Delivered, "{end:?}");
            }
            for n in 0..12 {
                let before = requests.load(Ordering::SeqCst);
                let outcome = receivers.post(&to(&url), Millis(0)).await;
                assert_eq!(outcome, Outcome::Delivered, "{end:?} {n}");
                let made = requests.load(Ordering::SeqCst) - before;
                assert!(made <= 2, "{end:?} {n}: {made} requests");
            }
        }
    }

    #[tokio::test]
    async fn a_second_request_has_what_is_left_of_the_time() {
        let (first, _) = serve_raw(EMPTY, End::Close(Duration::from_millis(1_800)), 0).await;
        let mut receivers = Receivers::new(true);
        receivers.exchange_timeout = Duration::from_secs(2);
        assert_eq!(
            receivers.post(&to(&first), Millis(0)).await,
            Outcome::Delivered
        );
        // The kept connection is closed after 1.8 s; the new one is answered at once, but not more slowly than in 0.2 s.
        let began = Instant::now();
        assert_eq!(
            receivers.post(&to(&first), Millis(0)).await,
            Outcome::Delivered
        );
        assert!(began.elapsed() < Duration::from_secs(2));
        let (silent, _) = serve_raw(b"", End::Reset, usize::MAX).await;
        let began = Instant::now();
        let Outcome::Failed(failure) = receivers.post(&to(&silent), Millis(0)).await else {
            panic!("nothing was answered")
        };
        assert_eq!(failure.reason, "no answer within 15 seconds");
        assert!(began.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test]
    async fn responses_of_old_servers_are_read() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\nx-folded: one\r\n two\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nx-spaced : one\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon at all\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx name: one\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx-latin: \xfcber\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 \xfcber\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\ncontent-length: 0\n\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
            b"HTTP/1.0 200 OK\r\n\r\nuntil it closes",
            b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\nuntil it closes",
        ] {
            let (url, _) = serve_raw(answer, End::Reset, 0).await;
            let outcome = Receivers::new(true).post(&to(&url), Millis(0)).await;
            let answer = String::from_utf8_lossy(answer);
            assert_eq!(outcome, Outcome::Delivered, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_http_is_said_to_be_none_and_a_closed_port_to_be_closed() {
        let (url, _) = serve_raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", End::Reset, 0).await;
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed_url = format!("http://{}/", closed.local_addr().unwrap());
        drop(closed);
        for (url, reason) in [
            (url, "what was answered is not HTTP that can be read"),
            (closed_url, "the connection was refused"),
        ] {
            let Outcome::Failed(failure) = Receivers::new(true).post(&to(&url), Millis(0)).await
            else {
                panic!("{reason}")
            };
            assert_eq!(failure.reason, reason);
        }
    }
}
