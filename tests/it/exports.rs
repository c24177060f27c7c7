//! An event becomes a line in a file.

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig};
use serde_json::{Value, json};

use crate::webhooks::FRAGILE;
use crate::world::World;

fn s3(id: &str, bucket: &str) -> Value {
    json!({
        "id": id, "integration_type": "permanent",
        "s3_parameters": {
            "aws_access_key_id": "some_s3_access_key_id", "aws_secret_access_key": "some_s3_secret_key",
            "aws_region": "us-east-1", "bucket": bucket, "key_prefix": "newstore_integration_002",
        },
    })
}

fn event(n: usize) -> Value {
    json!({"name": "order.created", "payload": {"n": n}})
}

/// The numbers of the events in all files, in their order.
async fn numbers(world: &World, bucket: &str) -> Vec<u64> {
    let files = world.files(bucket).await;
    let lines = files.iter().flat_map(|(_, text)| text.lines());
    lines
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["payload"]["n"]
                .as_u64()
                .unwrap()
        })
        .collect()
}

#[tokio::test]
async fn a_file_has_the_pages_key_and_the_payloads_bytes() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    world.register(s3("sap-1", &bucket)).await;
    let published_at = world.now();
    world.publish_text(&format!("[{{\"name\":\"order.created\",\"payload\":{FRAGILE}}},{{\"name\":\"a.b\",\"payload\":{{\r\n\"x\": 1}}}}]")).await;
    world.drain().await;
    world.export_tick().await;
    let files = world.files(&bucket).await;
    assert_eq!(files.len(), 1);
    let tenant = &world.tenant;
    let expected = format!(
        "{{\"tenant\":\"{tenant}\",\"name\":\"order.created\",\"published_at\":\"{published_at}\",\"payload\":{FRAGILE}}}\n\
         {{\"tenant\":\"{tenant}\",\"name\":\"a.b\",\"published_at\":\"{published_at}\",\"payload\":{{  \"x\": 1}}}}\n"
    );
    assert_eq!(files[0].1, expected);
    let (key, created_at) = (&files[0].0, world.now().0);
    let rest = key
        .strip_prefix(&format!(
            "newstore_integration_002/{tenant}/{created_at}-data-"
        ))
        .unwrap();
    assert_eq!(rest.strip_suffix(".export").unwrap().len(), 16);
    let head = world
        .s3
        .head_object()
        .bucket(&bucket)
        .key(key)
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_type(), Some("application/x-ndjson"));
}

#[tokio::test]
async fn every_tick_writes_what_is_new_and_no_empty_files() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let mut body = s3("sap-1", &bucket);
    body["filter_conditions"] = json!({"entity_filter": ["order"]});
    world.register(body).await;
    world.export_tick().await;
    world
        .publish(&[
            event(1),
            json!({"name": "return.processed", "payload": {"n": 99}}),
        ])
        .await;
    world.drain().await;
    world.export_tick().await;
    world.export_tick().await;
    world
        .publish(&[json!({"name": "return.processed", "payload": {"n": 99}})])
        .await;
    world.drain().await;
    world.export_tick().await;
    world.publish(&[event(2)]).await;
    world.drain().await;
    world.export_tick().await;
    assert_eq!(world.files(&bucket).await.len(), 2);
    assert_eq!(numbers(&world, &bucket).await, [1, 2]);
}

#[tokio::test]
async fn what_is_not_sealed_yet_waits_for_the_next_tick() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    world.register(s3("sap-1", &bucket)).await;
    world.publish(&[event(1)]).await;
    world.drain().await;
    let tick = || export::Invocation::Tick {
        tick: "export".to_owned(),
    };
    export::handle(&world.export, tick()).await.unwrap();
    world.drain().await;
    assert_eq!(numbers(&world, &bucket).await, Vec::<u64>::new());
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, [1]);
}

#[tokio::test]
async fn a_repeated_event_is_one_line() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    world.register(s3("sap-1", &bucket)).await;
    let task = |id: &str| {
        json!({"tenant": world.tenant, "events": [{"id": id, "name": "order.created", "payload": {"n": 1}}]}).to_string()
    };
    for _ in 0..3 {
        world.send_to_ingest(&task("1")).await;
        world.drain().await;
        world.export_tick().await;
        world.pass(Duration::from_secs(300));
    }
    assert_eq!(numbers(&world, &bucket).await, [1]);
    // More than 20 minutes later it is another event.
    world.pass(Duration::from_secs(1_200));
    world.send_to_ingest(&task("1")).await;
    world.drain().await;
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, [1, 1]);
}

#[tokio::test]
async fn a_refused_upload_is_logged_and_made_again_at_the_next_tick() {
    let world = World::start().await;
    let bucket = format!("{}-later", world.tenant);
    world.register(s3("sap-1", &bucket)).await;
    world.publish(&[event(1)]).await;
    world.drain().await;
    world.export_tick().await;
    let log = world.call("GET", "/sap-1/log", "").await;
    assert_eq!(log.body["entries"][0]["action"], "export_failed");
    let reason = log.body["entries"][0]["reason"].as_str().unwrap();
    assert!(
        reason.ends_with("failed. Reason: there is no such bucket."),
        "{reason}"
    );
    world
        .s3
        .create_bucket()
        .bucket(&bucket)
        .send()
        .await
        .unwrap();
    world.publish(&[event(2)]).await;
    world.drain().await;
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, [1, 2]);
}

#[tokio::test]
async fn a_stopped_export_writes_nothing_and_catches_up() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    world.register(s3("sap-1", &bucket)).await;
    world.call("POST", "/sap-1/_stop", "").await;
    world.publish(&[event(1)]).await;
    world.drain().await;
    world.export_tick().await;
    assert_eq!(world.files(&bucket).await, []);
    world.call("POST", "/sap-1/_start", "").await;
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, [1]);
}

#[tokio::test]
async fn a_temporary_export_writes_its_range_and_stops() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let mut instants = Vec::new();
    for n in 0..4 {
        instants.push(world.now().to_string());
        world.publish(&[event(n)]).await;
        world.drain().await;
        world.pass(Duration::from_secs(60));
    }
    let mut body = s3("sap-1", &bucket);
    body["integration_type"] = json!("temporary");
    body["starts_at"] = json!(instants[1]);
    body["ends_at"] = json!(instants[3]);
    world.register(body).await;
    world.export_tick().await;
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, [1, 2]);
    assert_eq!(
        world.call("GET", "/sap-1", "").await.body["status"],
        "stopped"
    );
    assert_eq!(
        world.actions("sap-1").await,
        ["integration_stopped", "integration_started"]
    );
}

#[tokio::test]
async fn two_exports_at_once_write_each_line_once() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    world.register(s3("sap-1", &bucket)).await;
    for n in 0..20 {
        world.publish(&[event(n)]).await;
    }
    world.drain().await;
    world.pass(Duration::from_secs(60));
    let task = json!({"Records": [{"messageId": "1", "body": json!({"tenant": world.tenant, "integration_id": "sap-1"}).to_string()}]});
    let batch = || export::Invocation::Batch(serde_json::from_value(task.clone()).unwrap());
    let runs = (0..5).map(|_| export::handle(&world.export, batch()));
    for response in futures_util::future::join_all(runs).await {
        assert!(response.unwrap().batch_item_failures.is_empty());
    }
    let mut written = numbers(&world, &bucket).await;
    written.sort_unstable();
    assert_eq!(written, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_wrong_bucket_can_be_mended() {
    let world = World::start().await;
    world.register(s3("sap-1", "there-is-no-such-bucket")).await;
    world.publish(&[event(1)]).await;
    world.drain().await;
    world.export_tick().await;
    let bucket = world.bucket().await;
    world.call("POST", "/sap-1/_stop", "").await;
    let changes = json!({"s3_parameters": {"bucket": bucket}});
    assert_eq!(world.call("PATCH", "/sap-1", changes).await.status, 200);
    world.call("POST", "/sap-1/_start", "").await;
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, [1]);
}

#[tokio::test]
async fn a_run_that_dies_after_the_upload_leads_to_the_same_file() {
    let mut world = World::start().await;
    let bucket = world.bucket().await;
    world.register(s3("sap-1", &bucket)).await;
    world.publish(&[event(1), event(2)]).await;
    world.drain().await;
    // S3 cannot be reached: the plan is stored, and the upload is in doubt, as after a crash.
    let reachable = world.export.sdk_config.clone();
    world.export.sdk_config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url("http://127.0.0.1:9")
        .build();
    world.export_tick().await;
    assert_eq!(world.actions("sap-1").await[0], "export_failed");
    world.export.sdk_config = reachable;
    let planned = world
        .export
        .integrations
        .get(&world.tenant, "sap-1")
        .await
        .unwrap();
    world.publish(&[event(3)]).await;
    world.drain().await;
    world.export_tick().await;
    let files = world.files(&bucket).await;
    assert_eq!(numbers(&world, &bucket).await, [1, 2, 3]);
    // Back to the state before the plan was finished, with another filter, prefix and bucket by now.
    let restored = world
        .export
        .integrations
        .change(&world.tenant, "sap-1", |integration| {
            integration.target = planned.target.clone();
            Ok::<_, shared::store::StoreError>(shared::store::integrations::Decision::Write)
        });
    restored.await.unwrap();
    world.call("POST", "/sap-1/_stop", "").await;
    let elsewhere = json!({"filter_conditions": {"entity_filter": ["return"]}, "s3_parameters": {"key_prefix": "elsewhere"}});
    assert_eq!(world.call("PATCH", "/sap-1", elsewhere).await.status, 200);
    world.call("POST", "/sap-1/_start", "").await;
    world.export_tick().await;
    assert_eq!(world.files(&bucket).await[0], files[0]);
    assert_eq!(
        world.files(&bucket).await.len(),
        2,
        "event 3 does not pass the new filter; its file is of before"
    );
}
