//! One POST to a receiver, and what its response means. The only place that knows receivers' HTTP statuses.

mod connections;
mod failure;
mod kept;
mod look;
mod request;
mod resolver;
mod response;
mod rest;
mod signature;
mod sockets;
mod target;
mod tls;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use domain::receiver::credentials::Credentials;
use domain::receiver::outcome::{Exchange, Failure, Lack, Outcome};
use domain::time::Millis;
use http::header::{CONTENT_ENCODING, HOST, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use tokio::time::timeout;

use crate::connections::{Connections, Used};
use crate::failure::{NoResponse, is_closed, transport_reason};
use crate::kept::Moment;
pub use crate::look::Tls;
use crate::request::headers;
use crate::resolver::PublicResolver;
use crate::response::{outcome, readable, retry_after};
pub use crate::rest::MAX_ANSWER_BYTES;
use crate::rest::{REST_TIMEOUT, Rest, TEXT_TIMEOUT};
use crate::sockets::{Socket, Sockets};
use crate::target::{Target, Targets};

/// How long a connection may take to be made (docs/api.md, Webhooks).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole exchange may take (docs/api.md, Webhooks).
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a request may be unanswered on a connection of its own before connections to its receiver make room for it.
const LATE: Duration = Duration::from_secs(1);
/// The header of sample events alone.
const WEBHOOK_TEST: HeaderName = HeaderName::from_static("webhook-test");

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
    /// From the request to its status.
    took: Duration,
}

/// Why no response came, how it is classed, and how long that took.
struct Lacking {
    failure: Failure,
    lack: Lack,
    took: Duration,
}

impl Receivers {
    /// `allow_private` lets receivers be called at addresses that are not public, and over plain HTTP.
    pub fn new(allow_private: bool) -> Receivers {
        Receivers::with_resolver(allow_private, PublicResolver::new(allow_private))
    }

    /// As [`Receivers::new`], with a resolver of its own.
    pub(crate) fn with_resolver(allow_private: bool, resolver: PublicResolver) -> Receivers {
        Receivers {
            connections: Arc::new(Connections::new(resolver, Sockets::new())),
            targets: Arc::new(Targets::new(allow_private)),
            exchange_timeout: EXCHANGE_TIMEOUT,
        }
    }

    /// Sends one event, at `now` by the wall clock. What comes of it is known with the status of the response, whatever becomes of
    /// the body; it was never sent where [`Exchange::is_ours`].
    pub async fn post(&self, post: &Post<'_>, now: Millis) -> Exchange {
        self.post_noting(post, now, || ()).await
    }

    /// As [`Receivers::post`]; `begins` is called when the request begins: what was waited for before is ours. It is not called where
    /// nothing is sent.
    pub async fn post_noting(
        &self,
        post: &Post<'_>,
        now: Millis,
        begins: impl FnOnce() + Send,
    ) -> Exchange {
        self.post_with(post, now, false, begins).await.0
    }

    /// Sends a sample event, marked as one, and looks at the receiver's TLS.
    pub async fn test(&self, post: &Post<'_>, now: Millis) -> Tested {
        let (exchange, response) = self.post_with(post, now, true, || ()).await;
        let tls = match self.targets.of(post.url) {
            Some(target) => look::look(&target.origin, &self.connections).await,
            None => None,
        };
        Tested {
            exchange,
            response,
            tls,
        }
    }

    /// Sends one event, or a sample, and returns the start of the response besides; that of an event is there for a 400 alone.
    async fn post_with(
        &self,
        post: &Post<'_>,
        now: Millis,
        is_test: bool,
        begins: impl FnOnce() + Send,
    ) -> (Exchange, String) {
        match self.exchange(post, now, is_test, begins).await {
            Ok(response) => {
                let exchange = Exchange {
                    outcome: response.outcome,
                    status: Some(response.status),
                    lack: None,
                    took: response.took,
                };
                (exchange, response.start)
            }
            Err(Lacking {
                failure,
                lack,
                took,
            }) => {
                let exchange = Exchange {
                    outcome: Outcome::Failed(failure),
                    status: None,
                    lack: Some(lack),
                    took,
                };
                (exchange, String::new())
            }
        }
    }

    /// The response and what it means, or why none came.
    async fn exchange(
        &self,
        post: &Post<'_>,
        now: Millis,
        is_test: bool,
        begins: impl FnOnce() + Send,
    ) -> Result<Response, Lacking> {
        let asked = Moment::now(now);
        let Some(target) = self.targets.of(post.url) else {
            return Err(blocked("the address is not allowed"));
        };
        let Ok(mut headers) = headers(post, now) else {
            return Err(blocked("api_key, headers or signing secret cannot be sent"));
        };
        headers.insert(HOST, target.host.clone());
        if is_test {
            headers.insert(WEBHOOK_TEST, HeaderValue::from_static("1"));
        }
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(post.body.as_bytes())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target.path.clone();
        *request.headers_mut() = headers;
        let way = self.way(&target, asked).await;
        // The receiver's time begins when there is a way to it: what was waited for until now is ours.
        let began = asked.later();
        let lacking = |error| lacking(&error, began.later().tick - began.tick);
        let way = way.map_err(lacking)?;
        begins();
        let sending = self.send(&target, request, way, began);
        let sent = timeout(self.exchange_timeout, sending).await;
        let (response, used) = sent.unwrap_or(Err(NoResponse::InTime)).map_err(lacking)?;
        let took = began.later().tick - began.tick;
        let (head, body) = response.into_parts();
        let retry_after = retry_after(head.headers.get(RETRY_AFTER), now);
        let rest = Rest::new(body, used);
        let left = self.exchange_timeout.saturating_sub(took);
        let start = match head.status {
            StatusCode::BAD_REQUEST => rest.text(TEXT_TIMEOUT.min(left), began).await,
            _ if is_test => rest.text(REST_TIMEOUT.min(left), began).await,
            _ => {
                rest.read_out(began).await;
                Vec::new()
            }
        };
        let start = readable(&start, head.headers.get(CONTENT_ENCODING));
        Ok(Response {
            status: head.status.as_u16(),
            outcome: outcome(head.status, retry_after, head.headers.get(LOCATION), &start),
            start,
            took,
        })
    }

    /// A connection that was kept, or a socket for one of the request's own.
    async fn way(&self, target: &Arc<Target>, at: Moment) -> Result<Way, NoResponse> {
        Ok(match self.connections.kept(target, at).await {
            Some(used) => Way::Kept(used),
            None => Way::Own(self.connections.socket().await?),
        })
    }

    /// The response, and the connection that it comes by.
    async fn send(
        &self,
        target: &Arc<Target>,
        request: Request<Full<Bytes>>,
        way: Way,
        began: Moment,
    ) -> Result<Sent, NoResponse> {
        // A kept connection that the receiver has closed meanwhile says nothing about the receiver. Other kept ones may be
        // closed as well, so the second request has a connection of its own, within what is left of the time.
        let socket = match way {
            Way::Own(socket) => socket,
            Way::Kept(mut used) => match used.answer(request.clone()).await {
                Ok(response) => return Ok((response, used)),
                Err(error) if is_closed(&error) => {
                    drop(used);
                    self.connections.socket().await?
                }
                Err(error) => return Err(NoResponse::Broken(error)),
            },
        };
        let mut asking = pin!(self.send_apart(target, request, socket, began));
        if let Ok(sent) = timeout(LATE, asking.as_mut()).await {
            return sent;
        }
        // It may wait in the queue of a receiver that serves some connections at a time, for one of ours to be closed.
        let _late = self.connections.late(&target.origin);
        let (response, mut used) = asking.await?;
        used.is_late = true;
        Ok((response, used))
    }

    /// As [`Receivers::send`], over a connection that is made for it.
    async fn send_apart(
        &self,
        target: &Arc<Target>,
        request: Request<Full<Bytes>>,
        socket: Socket,
        began: Moment,
    ) -> Result<Sent, NoResponse> {
        let connecting = self.connections.connect(target, socket, began);
        let connected = timeout(CONNECT_TIMEOUT, connecting).await;
        let connected = connected.map_err(|_| NoResponse::NoConnectionInTime)?;
        let mut used = connected.map_err(NoResponse::NoConnection)?;
        let response = used.answer(request).await;
        Ok((response.map_err(NoResponse::Broken)?, used))
    }
}

/// How a request reaches its receiver.
enum Way {
    /// Over a connection that was kept.
    Kept(Used),
    /// Over one that is made for it, with this socket.
    Own(Socket),
}

/// A response, and the connection that it comes by.
type Sent = (http::Response<Incoming>, Used);

/// Nothing is sent.
fn blocked(reason: &str) -> Lacking {
    Lacking {
        failure: Failure {
            reason: reason.to_owned(),
            retry_after: None,
            is_refusal: false,
        },
        lack: Lack::Blocked,
        took: Duration::ZERO,
    }
}

/// No response has come.
fn lacking(error: &NoResponse, took: Duration) -> Lacking {
    let (reason, lack) = transport_reason(error);
    Lacking {
        failure: Failure {
            reason: reason.into_owned(),
            retry_after: None,
            is_refusal: lack != Lack::Socket,
        },
        lack,
        took,
    }
}

#[cfg(test)]
mod tests;
