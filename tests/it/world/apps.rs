//! The functions, made of an environment as template.yaml gives it to them.

use std::sync::Arc;

use aws_lambda_events::sqs::SqsBatchResponse;
use axum::extract::{Path, State};
use axum::routing::post;
use domain::lifecycle::Rules;
use shared::env::Environment;
use tokio::sync::{mpsc, oneshot};

use super::emulator::{Queues, Tables};

/// What a world's functions find in their environment: the names of its tables and queues, and what the deployment decides.
pub fn environment(
    tables: &Tables,
    queues: &Queues,
    secrets_key: &str,
    rules: &Rules,
    shards: u32,
) -> Environment {
    let days = |time: std::time::Duration| (time.as_secs() / (24 * 3600)).to_string();
    Environment::from([
        ("INTEGRATIONS_TABLE", tables.integrations.clone()),
        ("EVENTS_TABLE", tables.events.clone()),
        ("EVENT_LOG_SHARDS", shards.to_string()),
        ("INGEST_QUEUE_URL", queues.ingest.clone()),
        ("DELIVERY_QUEUE_URL", queues.delivery.clone()),
        ("REPLAY_QUEUE_URL", queues.replay.clone()),
        ("EXPORT_QUEUE_URL", queues.export.clone()),
        ("INGEST_DEAD_LETTER_QUEUE_URL", queues.dead_letters.clone()),
        (
            "DELIVERY_DEAD_LETTER_QUEUE_URL",
            queues.dead_letters.clone(),
        ),
        ("REPLAY_DEAD_LETTER_QUEUE_URL", queues.dead_letters.clone()),
        ("EXPORT_DEAD_LETTER_QUEUE_URL", queues.dead_letters.clone()),
        ("SECRETS_KEY_ID", secrets_key.to_owned()),
        ("SEAL_MILLIS", rules.seal.as_millis().to_string()),
        ("GIVE_UP_DAYS", days(rules.give_up)),
        ("RETENTION_DAYS", days(rules.retention)),
        ("TIME_LIMIT_SECONDS", "30".to_owned()),
        ("DELIVERY_FUNCTION", "delivery".to_owned()),
        ("EXPORT_FUNCTION", "export".to_owned()),
        // What calls STS in these tests is the root user.
        (
            "EXPORT_ROLE_ARN",
            "arn:aws:iam::000000000000:root".to_owned(),
        ),
        ("TENANT_CLAIM", "tenant".to_owned()),
        ("MAX_RUNNING_REPLAYS", "5".to_owned()),
        ("API_BASE_PATH", "/events".to_owned()),
        ("ALLOW_PRIVATE_RECEIVERS", "true".to_owned()),
        ("SECRETS_IN_RESPONSES", "masked".to_owned()),
    ])
}

/// A call of a function: its name, what it is invoked with, and where its answer goes.
type Call = (String, String, oneshot::Sender<String>);

/// Serves delivery and export as Lambda's Invoke API does, on a thread of its own; returns the endpoint.
pub async fn serve_functions(delivery: Arc<delivery::App>, export: export::App) -> String {
    let (calls, mut called) = mpsc::channel::<Call>(1);
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async {
            while let Some((name, body, answered)) = called.recv().await {
                let answer = match name.as_str() {
                    "delivery" => {
                        let invocation = serde_json::from_str(&body).unwrap();
                        let limit = std::time::Duration::from_secs(30);
                        let answer = delivery::handle(&delivery, invocation, limit).await;
                        serde_json::to_string(&answer.unwrap())
                    }
                    _ => {
                        let invocation = serde_json::from_str(&body).unwrap();
                        let answer = export::handle(&export, invocation).await;
                        serde_json::to_string(&answer.unwrap())
                    }
                };
                let _ = answered.send(answer.unwrap());
            }
        });
    });
    let invoke = |State(calls): State<mpsc::Sender<Call>>,
                  Path(name): Path<String>,
                  body: String| async move {
        let (answered, answer) = oneshot::channel();
        calls.send((name, body, answered)).await.unwrap();
        answer.await.unwrap()
    };
    let router = axum::Router::new()
        .route("/2015-03-31/functions/{name}/invocations", post(invoke))
        .with_state(calls);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    endpoint
}

/// Hands a tick or a batch to export; which messages are to be handed out again.
pub async fn run_export(
    app: &export::App,
    invocation: export::Invocation,
) -> Result<SqsBatchResponse, export::ExportError> {
    match export::handle(app, invocation).await? {
        export::Answer::Batch(response) => Ok(response),
        answer => panic!("a batch was asked for: {answer:?}"),
    }
}
