//! Tests of receivers and buckets, on request: before an integration is registered, and after.

use std::time::Duration;

use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tests::receiver::{Answer, Receiver};

use crate::world::World;

const DEADLINE: Duration = Duration::from_secs(20);

fn registration(url: &str) -> Value {
    json!({
        "id": "erp-1", "integration_type": "permanent",
        "callback_parameters": {"callback_url": url, "api_key": "k-123456", "headers": {"x-own": "v-123456"}},
        "filter_conditions": {"event_filter": ["return.processed"]},
    })
}

async fn test(world: &World, path: &str, body: Value) -> Value {
    let answer = world.call("POST", path, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

#[tokio::test]
async fn a_receiver_is_tested_before_it_is_registered() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    receiver.answer(|_| Answer::status(202).body("welcome"));
    let verdict = test(&world, "/_test", registration(&receiver.url())).await;
    let latency = verdict["latency_ms"].clone();
    assert!(latency.is_u64());
    let request = receiver.wait_for(1, DEADLINE).await.unwrap().remove(0);
    let id = request.id().unwrap();
    let expected = json!({"is_delivered": true, "event_id": id, "event_name": "return.processed", "latency_ms": latency, "status_code": 202, "response": "welcome"});
    assert_eq!(verdict, expected);
    assert_eq!(request.header("webhook-test"), Some("1"));
    assert_eq!(request.header("authorization"), Some("Bearer k-123456"));
    assert_eq!(request.header("x-own"), Some("v-123456"));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["tenant"], json!(world.tenant));
    assert_eq!(body["name"], "return.processed");
    assert_eq!(body["payload"]["test"], true);

    // Nothing is registered, and what could not be is refused.
    assert_eq!(world.call("GET", "/erp-1", "").await.status, 404);
    let mut wrong = registration(&receiver.url());
    wrong["filter_conditions"] = json!({"event_filter": ["Return"]});
    assert_eq!(world.call("POST", "/_test", wrong).await.status, 400);
}

#[tokio::test]
async fn a_test_of_an_integration_is_signed_and_leaves_no_trace() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let registered = world.register(registration(&receiver.url())).await.body;
    receiver.answer(|_| Answer::status(503).body("<h1>down</h1>"));
    let before = world.call("GET", "/erp-1", "").await.body;
    let log = world.call("GET", "/erp-1/log", "").await.body;
    let verdict = test(&world, "/erp-1/_test", json!({"name": "order.paid"})).await;
    assert_eq!(verdict["is_delivered"], false);
    assert_eq!(
        verdict["reason"],
        "service unavailable (HTTP status code 503)"
    );
    assert_eq!(
        (&verdict["status_code"], &verdict["event_name"]),
        (&json!(503), &json!("order.paid"))
    );
    assert_eq!(verdict["response"], "<h1>down</h1>");
    assert!(verdict.get("tls").is_none(), "over plain HTTP");
    let request = receiver.wait_for(1, DEADLINE).await.unwrap().remove(0);
    let header = |name: &str| request.header(name).unwrap();
    let webhook = Webhook::new(registered["signing_secret"].as_str().unwrap()).unwrap();
    let timestamp = header("webhook-timestamp").parse().unwrap();
    let signature = webhook.sign(header("webhook-id"), timestamp, &request.body);
    assert_eq!(header("webhook-signature"), signature.unwrap());

    // It is neither retried nor rejected, and says nothing about the receiver.
    receiver.answer_with(400);
    let rejected = test(&world, "/erp-1/_test", json!({})).await;
    assert_eq!(rejected["reason"], "bad request (HTTP status code 400)");
    receiver.answer_with(410);
    let gone = test(&world, "/erp-1/_test", json!({})).await;
    assert_eq!(gone["reason"], "gone (HTTP status code 410)");
    world.drain().await;
    assert_eq!(receiver.count(), 3);
    let list = world.call("GET", "/erp-1/rejected_events", "").await.body;
    assert_eq!(list["rejected_events"], json!([]));
    assert_eq!(world.call("GET", "/erp-1", "").await.body, before);
    assert_eq!(world.call("GET", "/erp-1/log", "").await.body, log);
    // Also while it is stopped.
    world.call("POST", "/erp-1/_stop", "").await;
    receiver.answer_with(200);
    let stopped = test(&world, "/erp-1/_test", json!({})).await;
    assert_eq!(stopped["is_delivered"], true);
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_a_verdict() {
    let world = World::start().await;
    let verdict = test(&world, "/_test", registration("http://127.0.0.1:9/")).await;
    assert_eq!(verdict["is_delivered"], false);
    assert_eq!(verdict["reason"], "the connection was refused");
    assert!(verdict.get("status_code").is_none() && verdict.get("response").is_none());
}

#[tokio::test]
async fn a_bucket_is_tested_with_an_object_of_its_own() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let s3 = |bucket: &str| json!({"aws_access_key_id": "test", "aws_secret_access_key": "test", "aws_region": "us-east-1", "bucket": bucket, "key_prefix": "a/b"});
    let body = |bucket: &str| json!({"id": "files", "integration_type": "permanent", "s3_parameters": s3(bucket)});
    let verdict = test(&world, "/_test", body(&bucket)).await;
    assert_eq!(verdict["is_delivered"], true, "{verdict}");
    let objects = world.files(&bucket).await;
    assert_eq!(objects.len(), 1);
    let (key, text) = &objects[0];
    assert_eq!(verdict["key"], json!(key));
    let (folder, name) = key.rsplit_once('/').unwrap();
    assert_eq!(folder, format!("a/b/{}", world.tenant));
    assert!(
        name.contains("-test-") && name.ends_with(".export"),
        "{name}"
    );
    let line: Value = serde_json::from_str(text.strip_suffix('\n').unwrap()).unwrap();
    assert_eq!(
        (&line["name"], &line["payload"]["test"]),
        (&json!("order.created"), &json!(true))
    );

    let missing = test(&world, "/_test", body("no-such-bucket-here")).await;
    assert_eq!(
        (&missing["is_delivered"], &missing["reason"]),
        (&json!(false), &json!("there is no such bucket"))
    );
    assert_eq!(world.call("POST", "/", body(&bucket)).await.status, 200);
    let registered = test(&world, "/files/_test", json!({})).await;
    assert_eq!(registered["is_delivered"], true);
    let listed = world.call("GET", "/files/files", "").await.body;
    assert_eq!(
        listed["files"],
        json!([]),
        "it is no file of the integration"
    );
}

#[tokio::test]
async fn a_tenant_has_so_many_tests_a_minute() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register(registration(&receiver.url())).await;
    let path = "/api/v1/org/integrations/eventstream/erp-1/_test";
    assert_eq!(world.call_as("other", "POST", path, "").await.status, 404);
    let mut statuses = Vec::new();
    for _ in 0..21 {
        statuses.push(world.call_as(&world.tenant, "POST", path, "").await.status);
    }
    assert_eq!(statuses[..20], [200; 20]);
    assert_eq!(statuses[20], 429);
    assert_eq!(receiver.count(), 20);
    let refused = world.call("POST", "/erp-1/_test", "").await.body;
    assert_eq!(refused["error_code"], "limit_exceeded");
    world.pass(Duration::from_secs(60));
    assert_eq!(world.call("POST", "/erp-1/_test", "").await.status, 200);
    for body in [r#"{"name":"Order"}"#, r#"{"names":["a.b"]}"#, "[]"] {
        assert_eq!(
            world.call("POST", "/erp-1/_test", body).await.status,
            400,
            "{body}"
        );
    }
}
