//! An event becomes a line in a file.

use std::time::Duration;

use domain::time::Millis;
use serde_json::{Value, json};
use tests::proxy::Action;

use crate::exports_world::{export_through, proxy, run, s3, stored};
use crate::webhooks::FRAGILE;
use crate::world::World;

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
        world.pass(Duration::from_secs(90));
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
async fn a_temporary_export_follows_its_range_while_it_goes_on() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let mut body = s3("sap-1", &bucket);
    body["integration_type"] = json!("temporary");
    body["starts_at"] = json!(world.now().to_string());
    body["ends_at"] = json!(world.now().after(Duration::from_secs(600)).to_string());
    world.register(body).await;
    world.publish(&[event(1)]).await;
    world.drain().await;
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, [1]);
    assert!(stored(&world, "sap-1").await.is_running());
    world.call("POST", "/sap-1/_stop", "").await;
    world.publish(&[event(2)]).await;
    world.drain().await;
    world.pass(Duration::from_secs(600));
    world.publish(&[event(3)]).await;
    world.drain().await;
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, [1]);
    world.call("POST", "/sap-1/_start", "").await;
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, [1, 2]);
    assert!(!stored(&world, "sap-1").await.is_running());
    let path = "/sap-1/log";
    let log = world.call("GET", path, "").await;
    let reason = log.body["entries"][0]["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("Stopped automatically: every event before "),
        "{reason}"
    );
}

#[tokio::test]
async fn an_export_catches_up_over_days_and_shards_in_the_order_of_the_log() {
    let world = World::with_shards(4).await;
    let bucket = world.bucket().await;
    world.register(s3("sap-1", &bucket)).await;
    world.call("POST", "/sap-1/_stop", "").await;
    let mut expected = Vec::new();
    for n in 0..40 {
        // Segments of one millisecond have no order between them: each has its own.
        world.pass(Duration::from_secs(3 * 3600));
        world.publish(&[event(n)]).await;
        world.drain_ingest().await;
        expected.push(n as u64);
    }
    world.pass(Duration::from_secs(24 * 24 * 3600));
    world.call("POST", "/sap-1/_start", "").await;
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, expected);
}

#[tokio::test]
async fn a_restart_after_more_than_30_days_exports_only_what_comes_after_it() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    world.register(s3("sap-1", &bucket)).await;
    world.call("POST", "/sap-1/_stop", "").await;
    world.publish(&[event(1)]).await;
    world.drain().await;
    world.pass(Duration::from_secs(30 * 24 * 3600 + 1));
    world.call("POST", "/sap-1/_start", "").await;
    world.export_tick().await;
    world.publish(&[event(2)]).await;
    world.drain().await;
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, [2]);
}

#[tokio::test]
async fn a_run_that_nears_its_time_limit_stops_after_a_file_and_the_next_goes_on() {
    let (mut world, proxy) = (World::start().await, proxy().await);
    world.export.max_file_bytes = 500;
    let app = export_through(&world, &proxy).await;
    let bucket = world.bucket().await;
    world.register(s3("sap-1", &bucket)).await;
    for n in 0..12 {
        world.pass(Duration::from_millis(1));
        world.publish(&[event(n)]).await;
        world.drain_ingest().await;
    }
    world.pass(Duration::from_secs(90));
    // Each upload takes 20 seconds of the 60 that there are; half of them are for the files that are begun.
    let clock = world.clock.clone();
    proxy.rule(move |passing| {
        if passing.is_upload() {
            clock.set(clock.now().after(Duration::from_secs(20)));
        }
        Action::Forward
    });
    for files in [2, 3] {
        run(&app, &world, "sap-1").await;
        let written = world.files(&bucket).await;
        assert_eq!(written.len(), files);
        assert!(
            written
                .iter()
                .all(|(_, text)| !text.is_empty() && text.len() <= 500)
        );
    }
    let mut written = numbers(&world, &bucket).await;
    written.sort_unstable();
    assert_eq!(written, (0..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_idle_export_writes_nothing_but_its_place_once_an_hour() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    world.register(s3("sap-1", &bucket)).await;
    let registered = stored(&world, "sap-1").await;
    world.export_tick().await;
    world.export_tick().await;
    assert_eq!(stored(&world, "sap-1").await, registered);
    world.pass(Duration::from_secs(3_700));
    world.export_tick().await;
    let mut moved = stored(&world, "sap-1").await;
    let position = moved.export_mut().unwrap().position;
    assert!(Millis(position.timestamp_ms()) > world.now().before(Duration::from_secs(90)));
    assert_eq!(world.files(&bucket).await, []);
}

#[tokio::test]
async fn an_export_of_a_deleted_integration_is_dropped() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    world.register(s3("sap-1", &bucket)).await;
    world.publish(&[event(1)]).await;
    world.drain().await;
    world.pass(Duration::from_secs(90));
    let tick = export::Invocation::Tick {
        tick: "export".to_owned(),
    };
    export::handle(&world.export, tick).await.unwrap();
    world.call("DELETE", "/sap-1", "").await;
    world.drain().await;
    assert_eq!(world.files(&bucket).await, []);
}

#[tokio::test]
async fn a_temporary_export_of_a_range_that_is_not_kept_stops_at_its_first_tick_and_says_why() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    // The API page's sample dates.
    let mut body = s3("sap-1", &bucket);
    body["integration_type"] = json!("temporary");
    body["starts_at"] = json!("2019-01-17T12:00:00Z");
    body["ends_at"] = json!("2019-02-21T23:59:00Z");
    world.register(body).await;
    world.export_tick().await;
    let shown = world.call("GET", "/sap-1", "").await.body;
    assert_eq!(shown["status"], "stopped");
    let log = world.call("GET", "/sap-1/log", "").await.body;
    let reasons: Vec<&str> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["reason"].as_str().unwrap())
        .collect();
    assert_eq!(reasons.len(), 2);
    let range =
        "Stopped automatically: its range ends at 2019-02-21T23:59:00.000Z, and events before";
    assert!(reasons[0].starts_with(range), "{reasons:?}");
    assert!(reasons[0].ends_with("are no longer kept."), "{reasons:?}");
    assert!(
        reasons[1].starts_with("Started via API. Events before"),
        "{reasons:?}"
    );
    assert_eq!(world.files(&bucket).await, []);
}
