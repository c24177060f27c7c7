//! DynamoDB, SQS, KMS and a receiver as far as the sending of webhooks asks them, with canned responses that count what AWS bills.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::aws_json;
use crate::corpus::Corpus;
use crate::event_log::EventLog;

/// Where the totals are read.
pub const TOTALS: &str = "/_totals";
/// Where the document of the integration is read.
pub const DOCUMENT: &str = "/_document";
/// What ends the lease of a step that was killed, so that its time limit need not be waited for.
pub const END_LEASE: &str = "/_end_lease";
/// Where webhooks go.
pub const HOOK: &str = "/hook";
/// Stands for the receiver's address in a document, until the port is known.
pub const RECEIVER: &str = "RECEIVER";

struct Services {
    event_log: EventLog,
    took: Duration,
    state: Mutex<Counted>,
}

/// What is stored, and what was asked for.
#[derive(Default)]
struct Counted {
    document: String,
    version: String,
    write_units: usize,
    log_read_units: usize,
    other_read_units: usize,
    sqs_requests: usize,
    webhooks: HashMap<String, usize>,
    busy: usize,
    most: usize,
}

/// Serves a corpus, an integration and its receiver, which takes `took` for each webhook, at a free port until the process ends.
///
/// # Errors
/// When there is no port left.
pub async fn serve(
    corpus: &Corpus,
    document: String,
    took: Duration,
    ready: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let services = Arc::new(Services {
        event_log: EventLog::new(corpus),
        took,
        state: Mutex::new(Counted {
            document: document.replace(RECEIVER, &format!("http://{address}{HOOK}")),
            version: "1".to_owned(),
            ..Counted::default()
        }),
    });
    let app = Router::new().fallback(answer).with_state(services);
    ready(address);
    axum::serve(listener, app).await
}

async fn answer(State(services): State<Arc<Services>>, request: Request) -> Response {
    let (head, body) = aws_json::read(request).await;
    let operation = aws_json::operation(&head);
    let json = match operation {
        Some(operation) => {
            let request: Value = serde_json::from_slice(&body).unwrap_or_default();
            services.operation(operation, &request)
        }
        None if head.uri.path() == TOTALS => services.lock().totals(),
        None if head.uri.path() == DOCUMENT => services.lock().document.clone(),
        None if head.uri.path() == END_LEASE => services.lock().end_lease(),
        None => {
            let id = head.headers.get("webhook-id");
            let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
            services.webhook(id.to_owned()).await;
            String::new()
        }
    };
    aws_json::response(json)
}

impl Services {
    fn lock(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn webhook(&self, id: String) {
        {
            let mut counted = self.lock();
            *counted.webhooks.entry(id).or_default() += 1;
            counted.busy += 1;
            counted.most = counted.most.max(counted.busy);
        }
        tokio::time::sleep(self.took).await;
        self.lock().busy -= 1;
    }

    fn operation(&self, operation: &str, request: &Value) -> String {
        let mut counted = self.lock();
        match operation {
            "GetItem" => {
                counted.other_read_units += counted.document.len().div_ceil(4096);
                let (document, version) = (&counted.document, &counted.version);
                json!({"Item": {"document": {"S": document}, "version": {"N": version}}})
                    .to_string()
            }
            "PutItem" => {
                counted.write(&request["Item"], 1);
                "{}".to_owned()
            }
            "TransactWriteItems" => {
                for item in request["TransactItems"].as_array().into_iter().flatten() {
                    counted.write(&item["Put"]["Item"], 2);
                }
                "{}".to_owned()
            }
            "BatchWriteItem" => {
                for writes in request["RequestItems"].as_object().into_iter().flatten() {
                    for write in writes.1.as_array().into_iter().flatten() {
                        counted.write(&write["PutRequest"]["Item"], 1);
                    }
                }
                "{}".to_owned()
            }
            "DeleteItem" | "UpdateItem" => {
                counted.write_units += 1;
                "{}".to_owned()
            }
            "Query" if request["ExpressionAttributeValues"][":partition"].is_null() => {
                counted.other_read_units += 1;
                r#"{"Items":[],"Count":0,"ScannedCount":0}"#.to_owned()
            }
            "Query" => {
                let page = self.event_log.query(request);
                // A unit for 4 KB: events are read consistently.
                counted.log_read_units += page.read_bytes.div_ceil(4096);
                page.json
            }
            "SendMessage" | "SendMessageBatch" | "ChangeMessageVisibilityBatch" => {
                counted.sqs_requests += 1;
                r#"{"Successful":[],"Failed":[]}"#.to_owned()
            }
            "Decrypt" => {
                json!({"KeyId": "k", "Plaintext": BASE64_STANDARD.encode("secret")}).to_string()
            }
            _ => "{}".to_owned(),
        }
    }
}

impl Counted {
    /// An item is written, or deleted where there is none.
    fn write(&mut self, item: &Value, times: usize) {
        let sizes = item.as_object().into_iter().flatten();
        let bytes: usize = sizes
            .map(|(name, value)| name.len() + value.to_string().len() - 8)
            .sum();
        self.write_units += bytes.div_ceil(1024).max(1) * times;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if item["document"].is_object() {
            self.document = text(&item["document"]["S"]);
            self.version = text(&item["version"]["N"]);
        }
    }

    fn end_lease(&mut self) -> String {
        let mut document: Value = serde_json::from_str(&self.document).unwrap_or_default();
        document["target"]["webhook"]["stream"]["duty"]["busy"] = Value::Null;
        self.document = document.to_string();
        self.document.clone()
    }

    fn totals(&self) -> String {
        let repeated: usize = self.webhooks.values().map(|times| times - 1).sum();
        json!({
            "events": self.webhooks.len(), "repeated": repeated, "write_units": self.write_units,
            "log_read_units": self.log_read_units, "other_read_units": self.other_read_units,
            "sqs_requests": self.sqs_requests, "most": self.most,
        })
        .to_string()
    }
}
