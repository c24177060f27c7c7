//! Plans in doubt: whether a file was uploaded is not known, or it cannot be made again.

use std::time::Duration;

use serde_json::{Value, json};
use tests::proxy::Action;
use tests::receiver::Answer;
use ulid::Ulid;

use crate::exports_failures::{DAY, event, has_plan, newest, numbers, publish, s3_error};
use crate::exports_world::{
    export_through, files_in_order, forget_events, proxy, run, s3, versioned_bucket,
};
use crate::world::World;

/// A plan whose upload is in doubt.
async fn with_plan_in_doubt(world: &World, body: Value) {
    let proxy = proxy().await;
    let app = export_through(world, &proxy).await;
    let id = body["id"].as_str().unwrap().to_owned();
    world.register(body).await;
    proxy.rule(|passing| match passing.is_upload() {
        true => s3_error(500, "InternalError"),
        false => Action::Forward,
    });
    run(&app, world, &id).await;
    assert!(has_plan(world, &id).await);
}

#[tokio::test]
async fn a_plan_in_doubt_is_kept_while_its_bucket_refuses_and_whatever_is_changed() {
    let world = World::start().await;
    let (bucket, elsewhere) = (format!("{}-gone", world.tenant), world.bucket().await);
    let mut body = s3("sap-1", &bucket);
    body["starts_at"] = json!(world.now().to_string());
    publish(&world, 1).await;
    with_plan_in_doubt(&world, body).await;
    world.call("POST", "/sap-1/_stop", "").await;
    let changes = json!({"s3_parameters": {"bucket": elsewhere}});
    assert_eq!(world.call("PATCH", "/sap-1", changes).await.status, 200);
    world.call("POST", "/sap-1/_start", "").await;
    publish(&world, 2).await;
    for _ in 0..3 {
        world.export_tick().await;
        let (_, reason) = newest(&world, "sap-1").await;
        assert!(
            reason.contains("there is no such bucket. It may have been stored"),
            "{reason}"
        );
    }
    assert_eq!(world.files(&elsewhere).await, []);
    world
        .s3
        .create_bucket()
        .bucket(&bucket)
        .send()
        .await
        .unwrap();
    world.export_tick().await;
    assert_eq!(world.files(&bucket).await.len(), 1);
    assert_eq!(numbers(&world, &elsewhere).await, [2]);
}

#[tokio::test]
async fn a_restart_after_more_than_30_days_drops_a_plan_in_doubt() {
    let world = World::start().await;
    let bucket = versioned_bucket(&world).await;
    let mut body = s3("sap-1", &bucket);
    body["starts_at"] = json!(world.now().to_string());
    publish(&world, 1).await;
    with_plan_in_doubt(&world, body).await;
    world.call("POST", "/sap-1/_stop", "").await;
    world.pass(DAY * 31);
    world.call("POST", "/sap-1/_start", "").await;
    publish(&world, 2).await;
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, [2]);
}

#[tokio::test]
async fn a_plan_whose_events_are_not_kept_any_more_is_given_up_with_an_entry() {
    let world = World::start().await;
    let bucket = versioned_bucket(&world).await;
    let mut body = s3("sap-1", &bucket);
    body["integration_type"] = json!("temporary");
    body["starts_at"] = json!(world.now().to_string());
    body["ends_at"] = json!(world.now().after(DAY * 365).to_string());
    publish(&world, 1).await;
    with_plan_in_doubt(&world, body).await;
    world.call("POST", "/sap-1/_stop", "").await;
    world.pass(DAY * 94);
    forget_events(&world).await;
    publish(&world, 2).await;
    world.call("POST", "/sap-1/_start", "").await;
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, [2]);
    let (action, reason) = newest(&world, "sap-1").await;
    assert_eq!(action, "export_failed");
    assert!(reason.contains("older than what is kept"), "{reason}");
}

#[tokio::test]
async fn a_key_that_kms_cannot_decrypt_is_our_error_and_plans_nothing() {
    let (world, proxy) = (World::start().await, proxy().await);
    let app = export_through(&world, &proxy).await;
    let bucket = versioned_bucket(&world).await;
    world.register(s3("sap-1", &bucket)).await;
    publish(&world, 1).await;
    proxy.rule(|passing| match passing.operation.contains("Decrypt") {
        true => Action::Answer(Answer::status(400).body("{\"__type\":\"DisabledException\"}")),
        false => Action::Forward,
    });
    let batch = crate::exports_world::batch(&world, "sap-1");
    let response = crate::world::run_export(&app, batch).await.unwrap();
    assert_eq!(response.batch_item_failures.len(), 1);
    assert_eq!(world.actions("sap-1").await, ["integration_started"]);
    assert!(!has_plan(&world, "sap-1").await);
    proxy.rule(|_| Action::Forward);
    run(&app, &world, "sap-1").await;
    assert_eq!(numbers(&world, &bucket).await, [1]);
}

#[tokio::test]
async fn a_plan_that_cannot_be_made_again_is_written_anew_after_a_day_and_loses_nothing() {
    let (world, proxy) = (World::start().await, proxy().await);
    let app = export_through(&world, &proxy).await;
    let bucket = versioned_bucket(&world).await;
    world.register(s3("sap-1", &bucket)).await;
    publish(&world, 1).await;
    proxy.rule(|passing| match passing.is_upload() {
        true => s3_error(500, "InternalError"),
        false => Action::Forward,
    });
    run(&app, &world, "sap-1").await;
    assert!(has_plan(&world, "sap-1").await, "it is in doubt");
    // Against all that is assumed, one more segment appears in the range that was read.
    let dynamodb = aws_sdk_dynamodb::Client::new(&shared::aws::config());
    let table = &world.tables.events;
    let scanned = dynamodb.scan().table_name(table).send().await.unwrap();
    let mut item = scanned.items()[0].clone();
    let id = Ulid::from_string(item["sk"].as_s().unwrap()).unwrap();
    let text = |text: String| aws_sdk_dynamodb::types::AttributeValue::S(text);
    item.insert("sk".into(), text(Ulid(id.0 + 1).to_string()));
    item.insert("ids".into(), text("late\n".to_owned()));
    let put = dynamodb.put_item().table_name(table).set_item(Some(item));
    put.send().await.unwrap();
    proxy.rule(|_| Action::Forward);
    for hours in [0, 12] {
        world.pass(Duration::from_secs(hours * 3600 + 300));
        let batch = crate::exports_world::batch(&world, "sap-1");
        let response = crate::world::run_export(&app, batch).await.unwrap();
        assert_eq!(response.batch_item_failures.len(), 1, "an error of ours");
        assert_eq!(newest(&world, "sap-1").await.0, "export_failed");
        assert!(files_in_order(&world, &bucket).await.is_empty());
    }
    world.pass(DAY);
    run(&app, &world, "sap-1").await;
    assert_eq!(numbers(&world, &bucket).await, [1, 1]);
    let (action, reason) = newest(&world, "sap-1").await;
    assert_eq!(action, "export_failed");
    assert!(reason.contains("cannot be made again"), "{reason}");
    assert!(!has_plan(&world, "sap-1").await);
}

#[tokio::test]
async fn what_is_sealed_while_a_run_is_at_work_is_the_next_ones() {
    let (world, proxy) = (World::start().await, proxy().await);
    let app = export_through(&world, &proxy).await;
    let bucket = versioned_bucket(&world).await;
    world.register(s3("sap-1", &bucket)).await;
    publish(&world, 1).await;
    world.publish(&[event(2)]).await;
    world.drain().await;
    world.pass(Duration::from_secs(50));
    let clock = world.clock.clone();
    proxy.rule(move |passing| {
        // The upload takes its time: the second event is sealed by then.
        if passing.is_upload() {
            clock.set(clock.now().after(Duration::from_secs(20)));
        }
        Action::Forward
    });
    run(&app, &world, "sap-1").await;
    assert_eq!(numbers(&world, &bucket).await, [1]);
    world.pass(Duration::from_secs(300));
    run(&app, &world, "sap-1").await;
    assert_eq!(numbers(&world, &bucket).await, [1, 2]);
}
