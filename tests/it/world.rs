//! A world of its own for each test: tables and queues on the emulator, the functions in process, and a clock that the
//! test sets. The tables are made after those that the template deployed, so that the template is tested too.

mod apps;
mod emulator;

use std::sync::Arc;
use std::time::Duration;

use ::api::functions::{DeliveryFunction, ExportFunction};
use aws_config::SdkConfig;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use aws_sdk_sqs::types::QueueAttributeName;
use domain::lifecycle::Rules;
use domain::log::EXPORT_SEALS_BEHIND;
use domain::time::Millis;
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::metrics::Metrics;
use shared::recent::Recent;
use shared::services::Services;
use uuid::Uuid;

pub use apps::run_export;
use apps::serve_functions;
use emulator::{Queues, Tables, copy_table, create_queue, delete, event, receive};

/// The seal of the worlds' event logs.
pub const SEAL: Duration = Duration::from_secs(10);

/// What the worlds' deployments decide.
pub const RULES: Rules = Rules {
    seal: SEAL,
    give_up: Duration::from_secs(5 * 24 * 3600),
    retention: Duration::from_secs(90 * 24 * 3600),
};

/// The time limit of ingest.
const INGEST_TIME_LIMIT: Duration = Duration::from_secs(30);
/// The time limit of delivery and of replay.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// The time limit of export.
const EXPORT_TIME_LIMIT: Duration = Duration::from_secs(60);

const BASE: &str = "/api/v1/org/integrations/eventstream";

pub struct World {
    pub tenant: String,
    pub clock: Clock,
    pub api: ::api::App,
    pub ingest: ingest::App,
    pub delivery: Arc<delivery::App>,
    pub replay: replay::App,
    pub export: export::App,
    pub s3: aws_sdk_s3::Client,
    pub sqs: aws_sdk_sqs::Client,
    pub queues: Queues,
    pub tables: Tables,
    /// The header of the trace in which the API is called.
    pub trace_header: Option<String>,
    services: Services,
}

/// Noon of today (UTC). A test that began shortly before midnight would have its events in two partitions of the log, and
/// count other requests than at noon.
fn noon() -> Millis {
    const DAY: u64 = 24 * 3600 * 1000;
    Millis(Clock::system().now().0 / DAY * DAY + DAY / 2)
}

/// A response of the API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub text: String,
}

impl World {
    pub async fn start() -> World {
        World::with_shards(1).await
    }

    pub async fn with_shards(shards: u32) -> World {
        let config = shared::aws::config();
        let dynamodb = aws_sdk_dynamodb::Client::new(&config);
        let sqs = aws_sdk_sqs::Client::new(&config);
        let kms = aws_sdk_kms::Client::new(&config);
        let name = format!("t{}", Uuid::new_v4().simple());
        let tables = Tables {
            integrations: copy_table(&dynamodb, "EVENTSTREAM_INTEGRATIONS_TABLE", &name).await,
            events: copy_table(&dynamodb, "EVENTSTREAM_EVENTS_TABLE", &name).await,
        };
        let queues = Queues {
            ingest: create_queue(&sqs, &name, "ingest").await,
            delivery: create_queue(&sqs, &name, "delivery").await,
            replay: create_queue(&sqs, &name, "replay").await,
            export: create_queue(&sqs, &name, "export").await,
            dead_letters: create_queue(&sqs, &name, "dead-letters").await,
        };
        let key = kms.create_key().send().await.unwrap();
        let secrets_key = key.key_metadata.unwrap().key_id;
        let environment = apps::environment(&tables, &queues, &secrets_key, &RULES, shards);
        let services = Services::new(config, environment, Clock::manual(noon()));
        let delivery = Arc::new(delivery::App::new(&services));
        let functions = aws_sdk_lambda::config::Builder::from(&services.config)
            .endpoint_url(serve_functions(delivery.clone(), export::App::new(&services)).await);
        World {
            tenant: name[..20].to_owned(),
            api: ::api::App {
                delivery_function: DeliveryFunction::new(functions.clone(), "delivery".to_owned()),
                export_function: ExportFunction::new(functions, "export".to_owned()),
                ..::api::App::new(&services)
            },
            ingest: ingest::App::new(&services),
            delivery,
            replay: replay::App::new(&services),
            export: export::App {
                time_limit: EXPORT_TIME_LIMIT,
                ..export::App::new(&services)
            },
            s3: aws_sdk_s3::Client::new(&services.config),
            clock: services.clock.clone(),
            services,
            sqs,
            queues,
            tables,
            trace_header: None,
        }
    }

    /// What another process of a function works with, which reaches all services by a configuration of its own.
    pub fn services(&self, config: &SdkConfig) -> Services {
        let environment = self.services.environment.clone();
        Services::new(config.clone(), environment, self.clock.clone())
    }

    /// What the functions of this world have counted.
    pub fn metrics(&self) -> &Metrics {
        &self.services.metrics
    }

    /// How its functions reach the services.
    pub fn config(&self) -> SdkConfig {
        self.services.config.clone()
    }

    /// Moves the clock on.
    pub fn pass(&self, time: Duration) {
        self.clock.set(self.clock.now().after(time));
    }

    /// Calls the API as this world's tenant, a millisecond after what came before; `path` continues the base path of
    /// integrations.
    pub async fn call(&self, method: &str, path: &str, body: impl ToString) -> Answer {
        self.pass(Duration::from_millis(1));
        self.call_as(
            &self.tenant,
            method,
            &format!("{BASE}{path}"),
            &body.to_string(),
        )
        .await
    }

    /// Calls the API as this world's tenant, with a query string.
    pub async fn call_with(&self, method: &str, path: &str, query: &str) -> Answer {
        let path = format!("{BASE}{path}");
        self.call_at(&self.tenant, method, &path, query, "").await
    }

    /// Calls the API as any tenant, at any path.
    pub async fn call_as(&self, tenant: &str, method: &str, path: &str, body: &str) -> Answer {
        self.call_at(tenant, method, path, "", body).await
    }

    async fn call_at(
        &self,
        tenant: &str,
        method: &str,
        path: &str,
        query: &str,
        body: &str,
    ) -> Answer {
        let event = json!({
            "version": "2.0", "routeKey": "ANY /api/{proxy+}", "rawPath": path, "rawQueryString": query,
            "headers": {"content-type": "application/json"}, "body": body, "isBase64Encoded": false,
            "requestContext": {
                "requestId": "r-1", "http": {"method": method, "path": path}, "timeEpoch": 1,
                "authorizer": {"jwt": {"claims": {"tenant": tenant}, "scopes": null}},
            },
        });
        let mut request: ::api::request::Request = serde_json::from_value(event).unwrap();
        request.trace_header.clone_from(&self.trace_header);
        let response = ::api::handle(&self.api, request).await;
        assert_eq!(response.headers()["x-request-id"], "r-1");
        let text = response.body().clone();
        Answer {
            status: response.status().as_u16(),
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        }
    }

    /// Registers an integration, and lets time pass until it is live.
    pub async fn register(&self, body: Value) -> Answer {
        let answer = self.call("POST", "/", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.settle().await;
        answer
    }

    /// Registers a webhook integration, and lets time pass until it is live.
    pub async fn register_webhook(&self, id: &str, url: &str) -> Answer {
        self.register(json!({"id": id, "integration_type": "permanent", "callback_parameters": {"callback_url": url}})).await
    }

    /// Publishes events, `{"name": …, "payload": …}` each; returns their ids.
    pub async fn publish(&self, events: &[Value]) -> Vec<String> {
        self.publish_text(&serde_json::to_string(events).unwrap())
            .await
    }

    /// Publishes the text of a body as it is.
    pub async fn publish_text(&self, text: &str) -> Vec<String> {
        let answer = self
            .call_as(&self.tenant, "POST", "/api/v1/org/events", text)
            .await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let accepted = answer.body["accepted"].as_array().unwrap();
        accepted
            .iter()
            .map(|event| event["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Pumps the queues through the handlers until nothing can be received.
    pub async fn drain(&self) {
        while self.pump().await > 0 {}
    }

    /// Pumps the queues, waiting for delayed messages, until `done`.
    pub async fn drain_until(&self, deadline: Duration, done: impl Fn() -> bool) {
        let ended = tokio::time::timeout(deadline, async {
            while !done() {
                self.pump().await;
            }
        });
        ended
            .await
            .expect("what was waited for did not happen in time");
        self.drain().await;
    }

    /// Pumps the queues, sweeps and lets time pass, until `done`: attempts that failed are made again.
    pub async fn pass_until(&self, deadline: Duration, done: impl Fn() -> bool) {
        let ended = tokio::time::timeout(deadline, async {
            while !done() {
                self.drain().await;
                self.pass(Duration::from_secs(2));
                self.sweep().await;
            }
        });
        ended
            .await
            .expect("what was waited for did not happen in time");
        self.drain().await;
    }

    /// The first entry of an integration's log with this action, newest first.
    pub async fn entry(&self, id: &str, action: &str) -> Value {
        let log = self.call("GET", &format!("/{id}/log"), "").await;
        let entries = log.body["entries"].as_array().unwrap().clone();
        let found = entries.iter().find(|entry| entry["action"] == action);
        found
            .unwrap_or_else(|| panic!("no {action} in {entries:?}"))
            .clone()
    }

    /// Lets time pass and replay work until every stream has what it was owed.
    pub async fn settle(&self) {
        self.drain().await;
        for _ in 0..3 {
            self.pass(SEAL * 4);
            self.sweep().await;
            self.drain().await;
        }
    }

    /// One sweep of replay: it sends tasks for what is overdue.
    pub async fn sweep(&self) {
        let sweep = replay::Invocation::Tick {
            tick: "sweep".to_owned(),
        };
        replay::handle(&self.replay, sweep, TIME_LIMIT)
            .await
            .unwrap();
    }

    /// One tick of the export, once everything published so far is sealed.
    pub async fn export_tick(&self) {
        self.pass(SEAL * (EXPORT_SEALS_BEHIND + 1));
        let tick = export::Invocation::Tick {
            tick: "export".to_owned(),
        };
        run_export(&self.export, tick).await.unwrap();
        self.drain().await;
    }

    /// The actions of an integration's log, newest first.
    pub async fn actions(&self, id: &str) -> Vec<String> {
        let log = self.call("GET", &format!("/{id}/log"), "").await;
        log.body["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["action"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The texts in the dead-letter queue.
    pub async fn dead_letters(&self) -> Vec<String> {
        let messages = receive(&self.sqs, &self.queues.dead_letters, 0).await;
        messages
            .into_iter()
            .map(|message| message.body.unwrap())
            .collect()
    }

    /// How many messages of a queue wait to be received.
    pub async fn waiting(&self, queue: &str) -> String {
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        self.attribute(queue, name).await
    }

    async fn attribute(&self, queue: &str, name: QueueAttributeName) -> String {
        let answer = self
            .sqs
            .get_queue_attributes()
            .queue_url(queue)
            .attribute_names(name.clone())
            .send()
            .await
            .unwrap();
        answer.attributes.unwrap()[&name].clone()
    }

    /// Hands the delivery queue's messages to their handler once; returns how many were handed back.
    pub async fn deliver_once(&self) -> usize {
        let messages = receive(&self.sqs, &self.queues.delivery, 0).await;
        let response = self.handle(&self.queues.delivery, event(&messages)).await;
        response.batch_item_failures.len()
    }

    /// Another process of the delivery function, which reaches KMS by a configuration of its own.
    pub fn other_delivery(&self, config: &SdkConfig) -> delivery::App {
        let recent = Recent::new(
            self.services.integrations(),
            self.services(config).secrets(),
        );
        delivery::App {
            recent,
            ..delivery::App::new(&self.services)
        }
    }

    /// Hands the delivery queue's messages once to a process of the delivery function, and leaves them in the queue; returns
    /// how many were handed back.
    pub async fn hand_to(&self, app: &delivery::App) -> usize {
        let messages = receive(&self.sqs, &self.queues.delivery, 0).await;
        let batch = delivery::Invocation::Batch(event(&messages));
        match delivery::handle(app, batch, TIME_LIMIT).await.unwrap() {
            delivery::Answer::Batch(response) => response.batch_item_failures.len(),
            answer => panic!("a batch was asked for: {answer:?}"),
        }
    }

    /// Hands the delivery queue's messages once to another process of the delivery function.
    pub async fn deliver_once_by(&self, app: &delivery::App) {
        let messages = receive(&self.sqs, &self.queues.delivery, 0).await;
        let batch = delivery::Invocation::Batch(event(&messages));
        delivery::handle(app, batch, TIME_LIMIT).await.unwrap();
        delete(&self.sqs, &self.queues.delivery, &messages).await;
    }

    /// Pumps until the stream is interrupted: failures count for an outage once they have gone on for some seconds.
    pub async fn drain_until_interrupted(&self, id: &str, deadline: Duration) {
        let interrupted = async {
            loop {
                self.drain().await;
                let shown = self.call("GET", &format!("/{id}"), "").await.body;
                if shown["health"] == "interrupted" {
                    break;
                }
                self.pass(Duration::from_secs(1));
            }
        };
        let interrupted = tokio::time::timeout(deadline, interrupted).await;
        interrupted.expect("the stream was not interrupted in time");
    }

    /// Pumps the ingest queue only: events are appended and routed, and not yet sent.
    pub async fn drain_ingest(&self) {
        while self.pump_queues(&[&self.queues.ingest]).await > 0 {}
    }

    /// Pumps every queue a few times: some of what waits is done, and not all of it.
    pub async fn drain_some(&self) {
        for _ in 0..3 {
            self.pump().await;
        }
    }

    /// Pumps the replay queue only: what replay sends is not delivered yet.
    pub async fn drain_replay(&self) {
        while self.pump_queues(&[&self.queues.replay]).await > 0 {}
    }

    /// Hands up to ten tasks of exports to another process, one by one; returns how many.
    pub async fn pump_exports(&self, app: &export::App) -> usize {
        let messages = receive(&self.sqs, &self.queues.export, 0).await;
        for message in messages.chunks(1) {
            let batch = export::Invocation::Batch(event(message));
            let response = run_export(app, batch).await.unwrap();
            assert!(response.batch_item_failures.is_empty());
        }
        if !messages.is_empty() {
            delete(&self.sqs, &self.queues.export, &messages).await;
        }
        messages.len()
    }

    async fn pump(&self) -> usize {
        let Queues {
            ingest,
            delivery,
            replay,
            export,
            ..
        } = &self.queues;
        self.pump_queues(&[ingest, delivery, replay, export]).await
    }

    async fn pump_queues(&self, queues: &[&String]) -> usize {
        let mut handled = 0;
        for queue in queues {
            let messages = receive(&self.sqs, queue, 0).await;
            handled += messages.len();
            if !messages.is_empty() {
                let response = self.handle(queue, event(&messages)).await;
                assert!(
                    response.batch_item_failures.is_empty(),
                    "records failed: {:?}",
                    response.batch_item_failures
                );
                delete(&self.sqs, queue, &messages).await;
            }
        }
        handled
    }

    async fn handle(&self, queue: &str, event: SqsEvent) -> SqsBatchResponse {
        if queue == self.queues.ingest {
            let deadline = self.now().after(INGEST_TIME_LIMIT);
            ingest::handle(&self.ingest, event, deadline).await
        } else if queue == self.queues.delivery {
            let batch = delivery::Invocation::Batch(event);
            match delivery::handle(&self.delivery, batch, TIME_LIMIT)
                .await
                .unwrap()
            {
                delivery::Answer::Batch(response) => response,
                answer => panic!("a batch was asked for: {answer:?}"),
            }
        } else if queue == self.queues.replay {
            replay::handle(&self.replay, replay::Invocation::Batch(event), TIME_LIMIT)
                .await
                .unwrap()
        } else {
            run_export(&self.export, export::Invocation::Batch(event))
                .await
                .unwrap()
        }
    }

    /// Hands one text to ingest, as the bus's rule would.
    pub async fn send_to_ingest(&self, text: &str) {
        self.sqs
            .send_message()
            .queue_url(&self.queues.ingest)
            .message_body(text)
            .send()
            .await
            .unwrap();
    }

    /// Makes a bucket; returns its name.
    pub async fn bucket(&self) -> String {
        let name = format!("b-{}", Uuid::new_v4().simple());
        self.s3.create_bucket().bucket(&name).send().await.unwrap();
        name
    }

    /// Key and text of every object in a bucket, by key.
    pub async fn files(&self, bucket: &str) -> Vec<(String, String)> {
        let listed = self
            .s3
            .list_objects_v2()
            .bucket(bucket)
            .send()
            .await
            .unwrap();
        let mut files = Vec::new();
        for object in listed.contents.unwrap_or_default() {
            let key = object.key.unwrap();
            let body = self
                .s3
                .get_object()
                .bucket(bucket)
                .key(&key)
                .send()
                .await
                .unwrap()
                .body
                .collect()
                .await
                .unwrap();
            files.push((key, String::from_utf8(body.to_vec()).unwrap()));
        }
        files.sort();
        files
    }

    pub fn now(&self) -> Millis {
        self.clock.now()
    }
}
