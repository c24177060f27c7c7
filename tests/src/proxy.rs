//! A proxy in front of the emulator: a real HTTP server that passes every request on, and at chosen ones does what a
//! network, a crash or a service in trouble would do.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use axum::serve::ListenerExt;
use http::{HeaderMap, StatusCode, header};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::receiver::Answer;

/// The largest request: an upload of 50 MiB, and something to spare.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Passing {
    /// Its number since the last [`Proxy::rule`], from 1.
    pub number: usize,
    /// What it asks for: `DynamoDB_20120810.PutItem`, or `PUT /bucket/key`.
    pub operation: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// The first 10,000 bytes of its body, as text.
    pub body: String,
}

impl Passing {
    /// Whether it uploads an object.
    pub fn is_upload(&self) -> bool {
        self.operation.starts_with("PUT /")
    }

    /// A header's value; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// When something happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before it is passed on: it has no effect yet.
    Before,
    /// When its response is there and not passed back: it has had its effect, and the caller does not know.
    After,
}

/// What the proxy does with a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Passes it on, and its response back.
    Forward,
    /// Holds it at this moment until [`Proxy::release`]; wakes [`Proxy::held`].
    Hold(Moment),
    /// Answers by itself.
    Answer(Answer),
    /// Passes it on, and answers something else.
    ForwardThenAnswer(Answer),
}

type Rule = Box<dyn FnMut(&Passing) -> Action + Send>;

struct Shared {
    upstream: String,
    http: reqwest::Client,
    passed: Mutex<Vec<Passing>>,
    rule: Mutex<Rule>,
    held: watch::Sender<bool>,
    released: watch::Sender<bool>,
}

/// A running proxy. It passes everything on until a rule says otherwise, and is gone when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy on a free port of 127.0.0.1, in front of `upstream`: `http://127.0.0.1:4566`.
    ///
    /// # Panics
    /// When the machine has no port left for it.
    pub async fn start(upstream: &str) -> Proxy {
        let shared = Arc::new(Shared {
            upstream: upstream.trim_end_matches('/').to_owned(),
            http: reqwest::Client::new(),
            passed: Mutex::default(),
            rule: Mutex::new(Box::new(|_| Action::Forward)),
            held: watch::Sender::new(false),
            released: watch::Sender::new(false),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port is free");
        let address = listener.local_addr().expect("the port is known");
        let app = Router::new().fallback(pass).with_state(shared.clone());
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let server = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("the server runs");
        });
        Proxy {
            address,
            shared,
            server,
        }
    }

    /// Its address, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, `rule` decides what happens to each request; their count starts again.
    pub fn rule(&self, rule: impl FnMut(&Passing) -> Action + Send + 'static) {
        lock(&self.shared.passed).clear();
        self.shared.held.send_replace(false);
        self.shared.released.send_replace(false);
        *lock(&self.shared.rule) = Box::new(rule);
    }

    /// Holds the request of this number at this moment, and lets all others pass.
    pub fn hold(&self, number: usize, moment: Moment) {
        self.rule(move |passing| match passing.number == number {
            true => Action::Hold(moment),
            false => Action::Forward,
        });
    }

    /// Waits until a request is held.
    pub async fn held(&self) {
        // The sender lives as long as `self`: this never fails.
        let _ = self.shared.held.subscribe().wait_for(|held| *held).await;
    }

    /// Lets what is held go on.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// What has come by since the last [`Proxy::rule`].
    pub fn passed(&self) -> Vec<Passing> {
        lock(&self.shared.passed).clone()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Proxy({})", self.url())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let target = head.headers.get("x-amz-target");
    let path = head.uri.to_string();
    let passing = {
        let mut passed = lock(&shared.passed);
        let number = passed.len() + 1;
        passed.push(Passing {
            number,
            operation: target
                .and_then(|target| target.to_str().ok())
                .map_or_else(|| format!("{} {path}", head.method), str::to_owned),
            headers: head.headers.clone(),
            body: String::from_utf8_lossy(&body[..body.len().min(10_000)]).into_owned(),
        });
        passed[number - 1].clone()
    };
    let action = (lock(&shared.rule))(&passing);
    let hold = async || {
        shared.held.send_replace(true);
        let _ = shared
            .released
            .subscribe()
            .wait_for(|released| *released)
            .await;
    };
    match &action {
        Action::Answer(answer) => return answered(answer),
        Action::Hold(Moment::Before) => hold().await,
        _ => {}
    }
    let forwarded = shared
        .http
        .request(head.method, format!("{}{path}", shared.upstream))
        .headers(without_hops(head.headers))
        .body(body)
        .send()
        .await;
    let response = match forwarded {
        Ok(upstream) => {
            let (status, headers) = (upstream.status(), upstream.headers().clone());
            let mut response =
                Response::new(Body::from(upstream.bytes().await.unwrap_or_default()));
            *response.status_mut() = status;
            *response.headers_mut() = without_hops(headers);
            response
        }
        Err(_) => answered(&Answer::status(502)),
    };
    match &action {
        Action::ForwardThenAnswer(answer) => answered(answer),
        Action::Hold(Moment::After) => {
            hold().await;
            response
        }
        _ => response,
    }
}

/// The headers that are not about one connection. The host stays what it was: it is signed.
fn without_hops(mut headers: HeaderMap) -> HeaderMap {
    for name in [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
    ] {
        headers.remove(name);
    }
    headers
}

fn answered(answer: &Answer) -> Response {
    let mut response = Response::builder()
        .status(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    response
        .body(Body::from(answer.body.clone()))
        .unwrap_or_default()
}

/// What the lock guards is whole after every statement: a panic elsewhere does not spoil it.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
