//! A receiver of webhooks: a real HTTP server that records what arrives and misbehaves on demand.
//!
//! It runs on a thread and a runtime of its own, so that arrival times don't wait for the test, and so that dropping it
//! closes its port and all its connections at once, as a receiver that goes down would.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use axum::serve::ListenerExt;
use domain::time::Millis;
use http::{HeaderMap, Method, StatusCode};
use shared::clock::Clock;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// When its last byte was here.
    pub at: Millis,
    /// `POST`.
    pub method: Method,
    /// The path, with the query if there is one.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

impl Received {
    /// A header's value; `None` also when it is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The event's id: the header `webhook-id`.
    pub fn id(&self) -> Option<&str> {
        self.header("webhook-id")
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What a receiver responds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Further headers: name and value.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How long the receiver thinks before it answers.
    pub delay: Duration,
}

impl Answer {
    /// A response without headers and body, at once.
    pub fn status(status: u16) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            delay: Duration::ZERO,
        }
    }

    /// The same response with a header more.
    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same response with this body.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            body: body.into(),
            ..self
        }
    }

    /// The same response, later.
    pub fn delay(self, delay: Duration) -> Answer {
        Answer { delay, ..self }
    }
}

/// What was waited for did not arrive in time. Its text says what had.
pub struct NotReceived(String);

impl fmt::Display for NotReceived {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// As [`fmt::Display`], so that `unwrap` in a test shows it readably.
impl fmt::Debug for NotReceived {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for NotReceived {}

type Answering = Arc<dyn Fn(&Received) -> Answer + Send + Sync>;

/// What the server and its owner share.
struct Shared {
    received: Mutex<Vec<Received>>,
    answering: Mutex<Answering>,
    arrivals: watch::Sender<usize>,
    clock: Clock,
    busy: Busy,
}

/// How many requests are being answered.
#[derive(Default)]
struct Busy {
    now: AtomicUsize,
    most: AtomicUsize,
    /// How many are taken at a time; 0: all.
    limit: AtomicUsize,
    refused: AtomicUsize,
}

/// A request that is being answered, until this is dropped.
struct InHand<'a>(&'a Busy);

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A running receiver. It responds with 200 until that is changed, and is gone when dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Starts a receiver on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When the machine has no port or no thread left for it.
    pub async fn start() -> Receiver {
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            answering: Mutex::new(Arc::new(|_| Answer::status(200))),
            arrivals: watch::Sender::new(0),
            clock: Clock::system(),
            busy: Busy::default(),
        });
        let app = Router::new()
            .fallback(record_and_answer)
            .with_state(shared.clone());
        let (bound, address) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = std::thread::Builder::new()
            .name("receiver".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime can be built");
                // The runtime goes with the end of this block, and with it every connection.
                runtime.block_on(async move {
                    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                        .await
                        .expect("a port is free");
                    let _ = bound.send(listener.local_addr().expect("the port is known"));
                    let listener = listener.tap_io(|stream| {
                        let _ = stream.set_nodelay(true);
                    });
                    tokio::select! {
                        result = axum::serve(listener, app).into_future() => result.expect("the server runs"),
                        _ = stopped => {}
                    }
                });
            })
            .expect("a thread can be started");
        Receiver {
            address: address.await.expect("the receiver starts"),
            shared,
            stop: Some(stop),
            server: Some(server),
        }
    }

    /// Its address, without a path: `http://127.0.0.1:40123`. Every path is answered alike, so integrations of one test
    /// may be distinguished by theirs.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, every request is answered with this status.
    pub fn answer_with(&self, status: u16) {
        self.answer(move |_| Answer::status(status));
    }

    /// From now on, `answering` decides for each request. It must not take long; [`Answer::delay`] is for that.
    pub fn answer(&self, answering: impl Fn(&Received) -> Answer + Send + Sync + 'static) {
        *lock(&self.shared.answering) = Arc::new(answering);
    }

    /// From now on, so many requests are taken at a time; any other is answered with 429 and `Retry-After: 1`, and is not counted
    /// among those that have arrived.
    pub fn take_at_once(&self, limit: usize) {
        self.shared.busy.limit.store(limit, Ordering::SeqCst);
    }

    /// The most requests at a time that were taken.
    pub fn most_at_once(&self) -> usize {
        self.shared.busy.most.load(Ordering::SeqCst)
    }

    /// How many requests were refused, since there were too many at a time.
    pub fn refused(&self) -> usize {
        self.shared.busy.refused.load(Ordering::SeqCst)
    }

    /// All that has arrived, in order of arrival, whatever was answered.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// How many requests have arrived.
    pub fn count(&self) -> usize {
        lock(&self.shared.received).len()
    }

    /// `webhook-id` and body of all that has arrived; an empty id where the header was missing.
    pub fn events(&self) -> Vec<(String, String)> {
        lock(&self.shared.received)
            .iter()
            .map(|request| (request.id().unwrap_or_default().to_owned(), request.text()))
            .collect()
    }

    /// The `webhook-id`s that arrived more than once, and how often each did.
    pub fn duplicates(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (id, _) in self.events() {
            *counts.entry(id).or_insert(0) += 1;
        }
        counts.remove("");
        counts.retain(|_, count| *count > 1);
        counts
    }

    /// Forgets what has arrived.
    pub fn clear(&self) {
        lock(&self.shared.received).clear();
    }

    /// Waits until at least `count` requests have arrived.
    ///
    /// # Errors
    /// When they have not by `deadline` from now.
    pub async fn wait_for(
        &self,
        count: usize,
        deadline: Duration,
    ) -> Result<Vec<Received>, NotReceived> {
        self.wait(
            &format!("{count} requests"),
            |received| received.len() >= count,
            deadline,
        )
        .await
    }

    /// Waits until what has arrived fulfils `condition`, which is asked again at each arrival.
    ///
    /// # Errors
    /// When it does not by `deadline` from now.
    pub async fn wait_until(
        &self,
        condition: impl FnMut(&[Received]) -> bool,
        deadline: Duration,
    ) -> Result<Vec<Received>, NotReceived> {
        self.wait("what was waited for", condition, deadline).await
    }

    async fn wait(
        &self,
        wanted: &str,
        mut condition: impl FnMut(&[Received]) -> bool,
        deadline: Duration,
    ) -> Result<Vec<Received>, NotReceived> {
        let mut arrivals = self.shared.arrivals.subscribe();
        let waiting = async {
            loop {
                {
                    let received = lock(&self.shared.received);
                    if condition(&received) {
                        return received.clone();
                    }
                }
                // The sender lives as long as `self`: this never fails.
                let _ = arrivals.changed().await;
            }
        };
        tokio::time::timeout(deadline, waiting)
            .await
            .map_err(|_| NotReceived(self.describe(wanted, deadline)))
    }

    fn describe(&self, wanted: &str, deadline: Duration) -> String {
        const SHOWN: usize = 10;
        let received = lock(&self.shared.received);
        let mut text = format!(
            "{wanted} did not arrive within {deadline:?}; {} requests had:",
            received.len()
        );
        for request in received.iter().take(SHOWN) {
            let body: String = request.text().chars().take(120).collect();
            text += &format!(
                "\n  {} {} {} {} {body}",
                request.at,
                request.method,
                request.path,
                request.id().unwrap_or("(no webhook-id)")
            );
        }
        if received.len() > SHOWN {
            text += &format!("\n  and {} more", received.len() - SHOWN);
        }
        text
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Receiver({}, {})", self.url(), self.count())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// What the lock guards is whole after every statement: a panic elsewhere does not spoil it.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn record_and_answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return answered(Answer::status(400).body("the body did not arrive whole"));
    };
    let received = Received {
        at: shared.clock.now(),
        method: parts.method,
        path: parts.uri.path_and_query().map_or_else(
            || parts.uri.path().to_owned(),
            |path| path.as_str().to_owned(),
        ),
        headers: parts.headers,
        body: body.into(),
    };
    let answering = lock(&shared.answering).clone();
    let busy = &shared.busy;
    let now = busy.now.fetch_add(1, Ordering::SeqCst) + 1;
    let _in_hand = InHand(busy);
    let limit = busy.limit.load(Ordering::SeqCst);
    if limit > 0 && now > limit {
        busy.refused.fetch_add(1, Ordering::SeqCst);
        return answered(Answer::status(429).header("retry-after", "1"));
    }
    busy.most.fetch_max(now, Ordering::SeqCst);
    // Decided before it is counted: a test that changes the response upon an arrival changes the next one.
    let answer = answering(&received);
    lock(&shared.received).push(received);
    shared.arrivals.send_modify(|count| *count += 1);
    tokio::time::sleep(answer.delay).await;
    answered(answer)
}

fn answered(answer: Answer) -> Response {
    let mut response = http::Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.body)).unwrap_or_else(|_| {
        let mut refusal = Response::new(Body::from("the test's answer is not valid HTTP"));
        *refusal.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        refusal
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn post(url: &str, id: &str, body: &str) -> reqwest::Response {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client
            .post(url)
            .header("webhook-id", id)
            .body(body.to_owned());
        request.send().await.unwrap()
    }

    #[tokio::test]
    async fn what_arrives_is_recorded() {
        let receiver = Receiver::start().await;
        let url = format!("{}/a?b=c", receiver.url());
        assert_eq!(post(&url, "1", "x").await.status().as_u16(), 200);
        post(&url, "2", "y").await;
        post(&url, "1", "x").await;
        let received = receiver.wait_for(3, Duration::ZERO).await.unwrap();
        assert_eq!(received[0].method, Method::POST);
        assert_eq!(received[0].path, "/a?b=c");
        assert_eq!(received[1].body, b"y");
        assert!(received[0].at <= received[2].at && received[0].at > Millis(0));
        assert_eq!(receiver.events()[1], ("2".to_owned(), "y".to_owned()));
        assert_eq!(receiver.duplicates(), BTreeMap::from([("1".to_owned(), 2)]));
    }

    #[tokio::test]
    async fn the_answer_changes_in_mid_test() {
        let receiver = Receiver::start().await;
        receiver.answer_with(503);
        assert_eq!(post(&receiver.url(), "1", "").await.status().as_u16(), 503);
        receiver.answer(|received| {
            Answer::status(if received.id() == Some("2") { 429 } else { 204 })
                .header("retry-after", "7")
                .body("later")
        });
        let answer = post(&receiver.url(), "2", "").await;
        assert_eq!(answer.status().as_u16(), 429);
        assert_eq!(answer.headers()["retry-after"], "7");
        assert_eq!(answer.text().await.unwrap(), "later");
        assert_eq!(post(&receiver.url(), "3", "").await.status().as_u16(), 204);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_arrival_and_a_late_answer_does_not_delay_it() {
        let receiver = Receiver::start().await;
        receiver.answer(|_| Answer::status(200).delay(Duration::from_secs(60)));
        let url = receiver.url();
        let caller = tokio::spawn(async move { post(&url, "late", "").await });
        let received = receiver
            .wait_until(
                |received| received.iter().any(|request| request.id() == Some("late")),
                Duration::from_secs(10),
            )
            .await
            .unwrap();
        assert_eq!(received.len(), 1);
        caller.abort();
    }

    #[tokio::test]
    async fn a_wait_in_vain_says_what_had_arrived() {
        let receiver = Receiver::start().await;
        post(&receiver.url(), "only", "{}").await;
        let refusal = receiver.wait_for(2, Duration::from_millis(20)).await;
        let text = refusal.unwrap_err().to_string();
        assert!(text.starts_with("2 requests did not arrive within 20ms; 1 requests had:"));
        assert!(text.ends_with("POST / only {}"), "{text}");
    }

    #[tokio::test]
    async fn a_dropped_receiver_is_gone_with_its_connections() {
        let receiver = Receiver::start().await;
        let url = receiver.url();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        assert!(client.get(&url).send().await.is_ok());
        drop(receiver);
        assert!(client.get(&url).send().await.is_err());
    }
}
