//! Lambda's Runtime API, for one process: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::response::Response;
use domain::time::Millis;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::aws_json;
use crate::measure::Failure;
use crate::stored::lock;

const NEXT: &str = "/2018-06-01/runtime/invocation/next";

/// The side of Lambda.
pub struct RuntimeApi {
    invocations: mpsc::UnboundedSender<Invocation>,
    waiting: tokio::sync::Mutex<mpsc::UnboundedReceiver<Invocation>>,
    answers: Mutex<HashMap<String, oneshot::Sender<Result<Bytes, Bytes>>>>,
    polled: Notify,
}

struct Invocation {
    id: String,
    deadline: Millis,
    body: String,
}

impl RuntimeApi {
    /// Without any invocation yet.
    pub fn new() -> Arc<RuntimeApi> {
        let (invocations, waiting) = mpsc::unbounded_channel();
        Arc::new(RuntimeApi {
            invocations,
            waiting: waiting.into(),
            answers: Mutex::default(),
            polled: Notify::new(),
        })
    }

    /// Serves one process, until this one ends.
    ///
    /// # Errors
    /// None that are known.
    pub async fn serve(self: Arc<RuntimeApi>, listener: TcpListener) -> io::Result<()> {
        let app = Router::new().fallback(handle).with_state(self);
        axum::serve(listener, app).await
    }

    /// Waits until the process asks for its first invocation.
    pub async fn polled(&self) {
        self.polled.notified().await;
    }

    /// Invokes the process; its answer.
    ///
    /// # Errors
    /// When it fails, or does not answer in time.
    pub async fn invoke(&self, body: String, time_limit: Duration) -> Result<Bytes, Failure> {
        let id = uuid::Uuid::new_v4().to_string();
        let deadline = shared::clock::Clock::system().now().after(time_limit);
        let (sender, answer) = oneshot::channel();
        lock(&self.answers).insert(id.clone(), sender);
        self.invocations.send(Invocation { id, deadline, body })?;
        let answer = tokio::time::timeout(time_limit, answer).await??;
        answer.map_err(|error| {
            format!("the function failed: {}", String::from_utf8_lossy(&error)).into()
        })
    }
}

async fn handle(State(api): State<Arc<RuntimeApi>>, request: Request) -> Response {
    let (head, body) = aws_json::read(request).await;
    let path = head.uri.path();
    if path == NEXT {
        api.polled.notify_one();
        return next(&api).await;
    }
    let mut parts = path.rsplit('/');
    let (what, id) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    if let Some(answer) = lock(&api.answers).remove(id) {
        let _ = answer.send(if what == "response" {
            Ok(body)
        } else {
            Err(body)
        });
    }
    let mut response = Response::new(Body::from(r#"{"status":"OK"}"#));
    *response.status_mut() = axum::http::StatusCode::ACCEPTED;
    response
}

async fn next(api: &RuntimeApi) -> Response {
    // Never ends before the process does: the sender is kept beside it.
    let Some(invocation) = api.waiting.lock().await.recv().await else {
        return Response::default();
    };
    let mut response = Response::new(Body::from(invocation.body));
    let mut header = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    };
    header("content-type", "application/json");
    header("lambda-runtime-aws-request-id", &invocation.id);
    header(
        "lambda-runtime-deadline-ms",
        &invocation.deadline.0.to_string(),
    );
    header(
        "lambda-runtime-invoked-function-arn",
        "arn:aws:lambda:eu-central-1:123456789012:function:bench",
    );
    header(
        "lambda-runtime-trace-id",
        "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0",
    );
    response
}
