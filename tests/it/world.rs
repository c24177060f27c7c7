//! A world of its own for each test: tables and queues on the emulator, the functions in process, and a clock that the
//! test sets. The tables are made after those that the template deployed, so that the template is tested too.

mod apps;
mod emulator;
mod pump;

use std::sync::Arc;
use std::time::Duration;

use ::api::functions::{DeliveryFunction, ExportFunction};
use aws_config::SdkConfig;
use domain::lifecycle::Rules;
use domain::time::Millis;
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::metrics::Metrics;
use shared::services::Services;
use uuid::Uuid;

pub use apps::run_export;
use apps::serve_functions;
pub use emulator::queue_attribute;
use emulator::{Queues, Tables, copy_table, create_queue};

/// The seal of the worlds' event logs.
pub const SEAL: Duration = Duration::from_secs(10);

/// What the worlds' deployments decide.
pub const RULES: Rules = Rules {
    seal: SEAL,
    give_up: Duration::from_secs(5 * 24 * 3600),
    retention: Duration::from_secs(90 * 24 * 3600),
};

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

    /// The first entry of an integration's log with this action, newest first.
    pub async fn entry(&self, id: &str, action: &str) -> Value {
        let log = self.call("GET", &format!("/{id}/log"), "").await;
        let entries = log.body["entries"].as_array().unwrap().clone();
        let found = entries.iter().find(|entry| entry["action"] == action);
        found
            .unwrap_or_else(|| panic!("no {action} in {entries:?}"))
            .clone()
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
