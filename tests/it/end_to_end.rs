//! The deployed whole, from outside: the template's triggers, the real functions, a token of Cognito's.

use std::time::Duration;

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};
use tests::customer::Customer;
use tests::receiver::Receiver;
use uuid::Uuid;

use crate::exports_world::s3;
use crate::webhooks::FRAGILE;
use crate::world::queue_attribute;

pub const DEADLINE: Duration = Duration::from_secs(150);

pub struct Service {
    http: reqwest::Client,
    url: String,
}

impl Service {
    pub fn new() -> Service {
        Service {
            http: reqwest::Client::new(),
            url: shared::env::required("EVENTSTREAM_URL"),
        }
    }

    pub async fn call(&self, token: &str, method: &str, path: &str, body: String) -> (u16, Value) {
        let request = self
            .http
            .request(method.parse().unwrap(), format!("{}{path}", self.url));
        let request = request
            .bearer_auth(token)
            .header("content-type", "application/json")
            .body(body);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null),
        )
    }

    pub async fn integrations(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Value,
    ) -> (u16, Value) {
        self.call(
            token,
            method,
            &format!("/api/v1/org/integrations/eventstream{path}"),
            body.to_string(),
        )
        .await
    }
}

/// The events of other tests and of other tenants arrive too: this test's name is in its payloads.
fn payload(mark: &str, n: usize) -> Value {
    json!({"mark": mark, "n": n})
}

#[tokio::test]
async fn events_of_both_ways_leave_as_webhooks_and_as_a_file() {
    let (service, receiver, mark) = (
        Service::new(),
        Receiver::start().await,
        Uuid::new_v4().simple().to_string(),
    );
    let (token, other) = (
        shared::env::required("EVENTSTREAM_TOKEN"),
        shared::env::required("EVENTSTREAM_TOKEN_OTHER"),
    );
    let config = shared::aws::config();
    let sqs = aws_sdk_sqs::Client::new(&config);
    let dead = dead_letters(&sqs).await;
    let objects = aws_sdk_s3::Client::new(&config);
    let bucket = format!("b-{mark}");
    objects
        .create_bucket()
        .bucket(&bucket)
        .send()
        .await
        .unwrap();
    let (hook, files) = (
        format!("hook-{}", &mark[..8]),
        format!("files-{}", &mark[..8]),
    );
    let callback = json!({"callback_url": receiver.url()});
    let filter = json!({"entity_filter": ["order"]});
    let body = json!({"id": hook, "integration_type": "permanent", "callback_parameters": callback, "filter_conditions": filter});
    assert_eq!(service.integrations(&token, "POST", "/", body).await.0, 200);
    let mut body = s3(&files, &bucket);
    body["s3_parameters"]["key_prefix"] = json!(null);
    assert_eq!(service.integrations(&token, "POST", "/", body).await.0, 200);

    let mut events = format!(r#"[{{"name":"order.created","payload":{FRAGILE}}}"#);
    for n in 0..300 {
        events.push_str(&format!(
            r#",{{"name":"order.opened","payload":{}}}"#,
            payload(&mark, n)
        ));
    }
    events.push_str(&format!(
        r#",{{"name":"return.processed","payload":{}}}]"#,
        payload(&mark, 300)
    ));
    let (status, answer) = service
        .call(&token, "POST", "/api/v1/org/events", events)
        .await;
    assert_eq!(status, 202, "{answer}");
    let stranger = json!({"name": "order.created", "payload": payload(&mark, 999)}).to_string();
    assert_eq!(
        service
            .call(&other, "POST", "/api/v1/org/events", stranger)
            .await
            .0,
        202
    );
    let bus = shared::env::required("EVENTSTREAM_BUS");
    let detail = json!({"tenant": "acme", "payload": payload(&mark, 301)}).to_string();
    let entry = |source: &str| {
        PutEventsRequestEntry::builder()
            .event_bus_name(&bus)
            .source(source)
            .detail_type("order.cancelled")
            .detail(&detail)
            .build()
    };
    let events = aws_sdk_eventbridge::Client::new(&config);
    // The stream's own source is never taken in.
    let sent = events
        .put_events()
        .entries(entry("shop"))
        .entries(entry("event-stream"))
        .send()
        .await
        .unwrap();
    let bus_id = sent.entries()[0].event_id().unwrap().to_owned();

    let is_ours = |text: &str| text.contains(&mark) || text.contains(FRAGILE);
    let arrived = receiver.wait_until(
        |received| received.iter().filter(|post| is_ours(&post.text())).count() >= 302,
        DEADLINE,
    );
    let arrived: Vec<(String, String)> = arrived
        .await
        .unwrap()
        .iter()
        .map(|post| (post.id().unwrap().to_owned(), post.text()))
        .filter(|(_, text)| is_ours(text))
        .collect();
    // The bus hands a payload over in its own spelling: compared as JSON.
    let of_the_bus = arrived
        .iter()
        .find(|(id, _)| *id == bus_id)
        .map(|(_, text)| serde_json::from_str::<Value>(text).unwrap());
    assert_eq!(
        of_the_bus.map(|event| event["payload"].clone()),
        Some(payload(&mark, 301))
    );
    assert_eq!(arrived.len(), 302);
    assert!(
        arrived
            .iter()
            .any(|(_, text)| text.ends_with(&format!("\"payload\":{FRAGILE}}}")))
    );
    assert!(
        arrived
            .iter()
            .all(|(_, text)| text.starts_with(r#"{"tenant":"acme","name":"order."#))
    );
    assert!(
        !arrived
            .iter()
            .any(|(_, text)| text.contains("\"n\":999") || text.contains("return.processed"))
    );

    let ended = tokio::time::Instant::now() + DEADLINE;
    let lines = loop {
        let mut lines = Vec::new();
        for object in objects
            .list_objects_v2()
            .bucket(&bucket)
            .send()
            .await
            .unwrap()
            .contents
            .unwrap_or_default()
        {
            let key = object.key.unwrap();
            assert!(
                key.starts_with("acme/") && key.ends_with(".export"),
                "{key}"
            );
            let file = objects
                .get_object()
                .bucket(&bucket)
                .key(&key)
                .send()
                .await
                .unwrap()
                .body
                .collect()
                .await
                .unwrap();
            lines.extend(
                String::from_utf8(file.to_vec())
                    .unwrap()
                    .lines()
                    .map(str::to_owned),
            );
        }
        lines.retain(|line| is_ours(line));
        if lines.len() >= 303 {
            break lines;
        }
        assert!(
            tokio::time::Instant::now() < ended,
            "only {} lines were exported",
            lines.len()
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let distinct: std::collections::HashSet<&String> = lines.iter().collect();
    assert_eq!((lines.len(), distinct.len()), (303, 303));
    for id in [hook, files] {
        assert_eq!(
            service
                .integrations(&token, "DELETE", &format!("/{id}"), Value::Null)
                .await
                .0,
            204
        );
    }
    assert_eq!(dead_letters(&sqs).await, dead, "nothing was added");
}

/// How many messages lie in each dead-letter queue: whatever was done with the stack before.
async fn dead_letters(sqs: &aws_sdk_sqs::Client) -> Vec<String> {
    let mut counts = Vec::new();
    for queue in ["INGEST", "DELIVERY", "REPLAY", "EXPORT"] {
        let url = shared::env::required(&format!("EVENTSTREAM_{queue}_DEAD_LETTER_QUEUE_URL"));
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        counts.push(queue_attribute(sqs, &url, name).await);
    }
    counts
}

#[tokio::test]
async fn a_token_is_needed_and_names_the_tenant() {
    let service = Service::new();
    let (token, other) = (
        shared::env::required("EVENTSTREAM_TOKEN"),
        shared::env::required("EVENTSTREAM_TOKEN_OTHER"),
    );
    let health = service
        .http
        .get(format!("{}/health", service.url))
        .send()
        .await
        .unwrap();
    assert_eq!(health.status(), 200);
    assert!(health.headers().contains_key("x-request-id"));
    let forged = format!("{}A", &token[..token.len() - 2]);
    for bad in ["", "nonsense", &forged] {
        assert_eq!(
            service.integrations(bad, "GET", "/", Value::Null).await,
            (401, json!({"message": "Unauthorized"}))
        );
    }
    let id = format!("mine-{}", &Uuid::new_v4().simple().to_string()[..8]);
    let body = json!({"id": id, "integration_type": "permanent", "callback_parameters": {"callback_url": "http://127.0.0.1:9/"}});
    assert_eq!(service.integrations(&token, "POST", "/", body).await.0, 200);
    for (method, path) in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/log"),
        ("POST", "/_stop"),
        ("POST", "/_start"),
        ("GET", "/rejected_events"),
    ] {
        let (status, body) = service
            .integrations(&other, method, &format!("/{id}{path}"), json!({}))
            .await;
        assert_eq!(
            (status, &body["error_code"]),
            (404, &json!("resource_not_found")),
            "{method} {path}"
        );
    }
    assert_eq!(
        service
            .integrations(&token, "DELETE", &format!("/{id}"), Value::Null)
            .await
            .0,
        204
    );
}

#[tokio::test]
async fn files_reach_another_account_through_its_role() {
    let (service, customer) = (Service::new(), Customer::new().await);
    let token = shared::env::required("EVENTSTREAM_TOKEN_OTHER");
    let id = format!("files-{}", &customer.account);
    let parameters = json!({"role_arn": customer.role_arn("exports"), "aws_region": "us-east-1", "bucket": customer.bucket});
    let body = json!({"id": id, "integration_type": "permanent", "s3_parameters": parameters});
    let (status, answer) = service.integrations(&token, "POST", "/", body).await;
    assert_eq!(status, 200, "{answer}");
    let shown = |field: &str| answer["role_trust"][field].as_str().unwrap().to_owned();
    let trust = Customer::trust(&shown("principal"), Some(&shown("external_id")));
    customer.create_role("exports", &trust).await;
    let event = json!({"name": "order.created", "payload": {"mark": id}}).to_string();
    let published = service
        .call(&token, "POST", "/api/v1/org/events", event)
        .await;
    assert_eq!(published.0, 202, "{}", published.1);
    let ended = tokio::time::Instant::now() + DEADLINE;
    while !customer
        .files()
        .await
        .iter()
        .any(|(_, text)| text.contains(&id))
    {
        assert!(tokio::time::Instant::now() < ended, "no file came");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let path = format!("/{id}");
    let deleted = service.integrations(&token, "DELETE", &path, Value::Null);
    assert_eq!(deleted.await.0, 204);
}
