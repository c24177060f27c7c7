//! Takes the webhooks of an integration. SECRET is its signing secret, PORT where it listens.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "an example")]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::sync::mpsc::{Sender, channel};

struct Receiver {
    webhook: Webhook,
    work: Sender<(String, Value)>,
    /// Better in your database, written in one transaction with the work.
    seen: Mutex<HashSet<String>>,
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    if receiver.webhook.verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED; // not 400, which would reject the event
    }
    let event: Value = serde_json::from_slice(&body).unwrap_or_default();
    if !event["payload"]["number"].is_string() {
        return StatusCode::BAD_REQUEST; // we will never take this event
    }
    let id = headers["webhook-id"]
        .to_str()
        .unwrap_or_default()
        .to_owned();
    if !receiver.seen.lock().unwrap().insert(id.clone()) {
        return StatusCode::NO_CONTENT; // we have it already
    }
    if receiver.work.try_send((id.clone(), event)).is_err() {
        receiver.seen.lock().unwrap().remove(&id);
        return StatusCode::SERVICE_UNAVAILABLE; // it comes again
    }
    StatusCode::NO_CONTENT // the work is done after the response
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let variable = |name| std::env::var(name).expect("SECRET and PORT are required");
    let webhook = Webhook::new(&variable("SECRET")).expect("SECRET begins with whsec_");
    let (work, mut waiting) = channel::<(String, Value)>(1_000);
    tokio::spawn(async move {
        while let Some((id, event)) = waiting.recv().await {
            println!("took {id} {} {}", event["name"], event["payload"]);
        }
    });
    let seen = Mutex::default();
    let receiver = Arc::new(Receiver {
        webhook,
        work,
        seen,
    });
    let router = axum::Router::new()
        .route("/", post(receive))
        .with_state(receiver);
    let address = format!("127.0.0.1:{}", variable("PORT"));
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    axum::serve(listener, router).await.unwrap();
}
