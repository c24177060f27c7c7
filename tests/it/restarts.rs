//! What is changed between a stop and a start holds from then on, whatever was under way.

use std::time::Duration;

use serde_json::{Value, json};
use tests::proxy::Moment;
use tests::receiver::{Answer, Receiver};

use crate::exports_world::{config_for, proxy};
use crate::lifecycle::{arrived, event, sorted};
use crate::world::{RULES, SEAL, World};

const DEADLINE: Duration = Duration::from_secs(30);

async fn update(world: &World, body: Value) {
    let answer = world.call("PATCH", "/erp-1", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Stops the integration, changes its URL, and starts it again.
async fn move_to(world: &World, url: String) {
    world.call("POST", "/erp-1/_stop", "").await;
    update(world, json!({"callback_parameters": {"callback_url": url}})).await;
    world.call("POST", "/erp-1/_start", "").await;
}

#[tokio::test]
async fn a_filter_that_is_changed_after_a_stop_holds_for_what_was_published_since() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let returns = json!({"entity_filter": ["return"]});
    world
        .register(json!({
            "id": "erp-1", "integration_type": "permanent", "filter_conditions": returns,
            "callback_parameters": {"callback_url": receiver.url()},
        }))
        .await;
    world.call("POST", "/erp-1/_stop", "").await;
    // Within the seal, for which ingest still sends, and past it. The filter of now refuses both.
    let mut ids = world.publish(&[event(1)]).await;
    world.drain().await;
    world.pass(SEAL * 2);
    ids.extend(world.publish(&[event(2)]).await);
    world.drain().await;
    update(
        &world,
        json!({"filter_conditions": {"entity_filter": ["order"]}}),
    )
    .await;
    world.call("POST", "/erp-1/_start", "").await;
    world.settle().await;
    assert_eq!(arrived(&receiver), sorted(ids));
}

#[tokio::test]
async fn what_no_filter_lets_pass_is_not_sent_though_it_was_published_after_a_stop() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world
        .register(json!({
            "id": "erp-1", "integration_type": "permanent", "filter_conditions": {"entity_filter": ["return"]},
            "callback_parameters": {"callback_url": receiver.url()},
        }))
        .await;
    world.call("POST", "/erp-1/_stop", "").await;
    world.publish(&[event(1)]).await;
    world.drain().await;
    world.call("POST", "/erp-1/_start", "").await;
    world.settle().await;
    assert_eq!(receiver.count(), 0);
    let shown = world.call("GET", "/erp-1", "").await.body;
    assert_eq!(shown["pending"], json!({"catching_up": false}));
}

#[tokio::test]
async fn a_late_answer_of_an_old_address_counts_for_nothing() {
    tokio::join!(answer_late_with(410), answer_late_with(503));
}

/// Moves an integration to a new address while the old one takes its time to respond with this status.
async fn answer_late_with(status: u16) {
    let world = World::start().await;
    let (old, new) = (Receiver::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &old.url()).await;
    old.answer(move |_| Answer::status(status).delay(Duration::from_secs(2)));
    let ids = world.publish(&[event(1)]).await;
    world.drain_ingest().await;
    let meanwhile = async {
        old.wait_for(1, DEADLINE).await.unwrap();
        move_to(&world, new.url()).await;
    };
    tokio::join!(world.deliver_once_by(&world.delivery), meanwhile);
    assert_eq!(old.count(), 1, "{status}");
    let shown = world.call("GET", "/erp-1", "").await.body;
    assert_eq!(shown["status"], "running", "{status}");
    assert_eq!(shown["health"], "healthy", "{status}");
    assert_eq!(shown["failing_since"], Value::Null, "{status}");
    world.settle().await;
    assert_eq!(arrived(&new), ids, "{status}");
    let actions = world.actions("erp-1").await;
    let expected = [
        "integration_started",
        "integration_updated",
        "integration_stopped",
        "integration_started",
    ];
    assert_eq!(actions, expected, "{status}");
}

#[tokio::test]
async fn nothing_is_sent_after_a_stop_that_was_answered_while_a_key_was_decrypted() {
    let (world, receiver, proxy) = (World::start().await, Receiver::start().await, proxy().await);
    world
        .register(json!({
            "id": "erp-1", "integration_type": "permanent",
            "callback_parameters": {"callback_url": receiver.url(), "api_key": "secret-key-4711"},
        }))
        .await;
    let config = config_for(&proxy.url()).await;
    let fresh = world.other_delivery(&config);
    let ids = world.publish(&[event(1)]).await;
    world.drain_ingest().await;
    proxy.hold(1, Moment::After);
    let meanwhile = async {
        proxy.held().await;
        let stopped = world.call("POST", "/erp-1/_stop", "").await;
        assert_eq!(stopped.body["status"], "stopped");
        proxy.release();
    };
    tokio::join!(world.deliver_once_by(&fresh), meanwhile);
    assert_eq!(receiver.count(), 0);
    let operation = &proxy.passed()[0].operation;
    assert!(operation.ends_with("Decrypt"), "{operation}");
    world.call("POST", "/erp-1/_start", "").await;
    world.settle().await;
    assert_eq!(arrived(&receiver), ids);
}

#[tokio::test]
async fn events_that_failed_before_a_restart_are_not_given_up_at_their_first_failure() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    let failing = |_: &tests::receiver::Received| Answer::status(500).header("retry-after", "1");
    receiver.answer(failing);
    let ids = world.publish(&[event(1), event(2)]).await;
    world.drain().await;
    // Stopped and started while both wait: they are tried again after days, as failed since then.
    world.call("POST", "/erp-1/_stop", "").await;
    world.pass(RULES.give_up + Duration::from_secs(24 * 3600));
    world.call("POST", "/erp-1/_start", "").await;
    let failed_again = || receiver.count() >= 4;
    world.pass_until(DEADLINE, failed_again).await;
    let rejected = world.call("GET", "/erp-1/rejected_events", "").await;
    assert_eq!(rejected.body, json!({"rejected_events": []}));
    receiver.clear();
    receiver.answer_with(200);
    world.pass_until(DEADLINE, || receiver.count() >= 2).await;
    world.settle().await;
    assert_eq!(arrived(&receiver), sorted(ids));
}
