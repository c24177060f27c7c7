//! All rejected events of an integration at once: sent again, or deleted.

use std::time::Duration;

use serde_json::{Value, json};
use tests::receiver::{Answer, Receiver};

use crate::world::World;

const DEADLINE: Duration = Duration::from_secs(20);
const RETRY: &str = "/erp-1/rejected_events/_retry";

/// A world with these many rejected events, and their ids in the order in which they were rejected.
async fn rejected(world: &World, receiver: &Receiver, count: usize) -> Vec<String> {
    world.register_webhook("erp-1", &receiver.url()).await;
    receiver.answer_with(400);
    let mut ids = Vec::new();
    for n in 0..count {
        ids.extend(
            world
                .publish(&[json!({"name": "order.created", "payload": {"n": n}})])
                .await,
        );
        world.drain().await;
        world.pass(Duration::from_millis(5));
    }
    receiver.wait_for(count, DEADLINE).await.unwrap();
    receiver.clear();
    ids
}

async fn listed(world: &World) -> Vec<String> {
    let list = world.call("GET", "/erp-1/rejected_events", "").await.body;
    let list = list["rejected_events"].as_array().unwrap();
    let ids = list.iter().map(|it| it["id"].as_str().unwrap().to_owned());
    ids.rev().collect()
}

fn ids_of(receiver: &Receiver) -> Vec<String> {
    let received = receiver.received();
    let ids = received.iter().map(|it| it.id().unwrap().to_owned());
    ids.collect()
}

#[tokio::test]
async fn all_are_sent_again_in_their_order_and_those_that_are_taken_go() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let ids = rejected(&world, &receiver, 4).await;
    assert_eq!(listed(&world).await, ids);
    receiver.answer(|request| match request.text().contains("\"n\":2") {
        true => Answer::status(400),
        false => Answer::status(204),
    });
    // Also while it is stopped: the caller asks for these requests.
    world.call("POST", "/erp-1/_stop", "").await;
    let retried = world.call("POST", RETRY, "{}").await;
    assert_eq!(retried.status, 200, "{retried:?}");
    let expected = json!({"retried": 4, "delivered": 3, "rejected": 1, "left": 0});
    assert_eq!(retried.body, expected);
    assert_eq!(ids_of(&receiver), ids);
    assert_eq!(listed(&world).await, [ids[2].clone()]);
    let again = world.call("POST", RETRY, "").await;
    let expected = json!({"retried": 1, "delivered": 0, "rejected": 1, "left": 0});
    assert_eq!(again.body, expected);
}

#[tokio::test]
async fn the_first_that_fails_for_another_reason_ends_it_and_loses_nothing() {
    for (status, reason) in [
        (503, "service unavailable (HTTP status code 503)"),
        // An attempt that a caller asked for stops nothing.
        (410, "gone (HTTP status code 410)"),
    ] {
        let (world, receiver) = (World::start().await, Receiver::start().await);
        let ids = rejected(&world, &receiver, 3).await;
        receiver.answer(move |request| match request.text().contains("\"n\":1") {
            true => Answer::status(status),
            false => Answer::status(204),
        });
        let retried = world.call("POST", RETRY, "").await.body;
        let expected =
            json!({"retried": 2, "delivered": 1, "rejected": 0, "left": 1, "reason": reason});
        assert_eq!(retried, expected);
        assert_eq!(ids_of(&receiver), ids[..2]);
        assert_eq!(listed(&world).await, ids[1..]);
        let shown = world.call("GET", "/erp-1", "").await.body;
        assert_eq!(shown["status"], "running");
    }
}

#[tokio::test]
async fn all_are_deleted_at_once_and_only_by_their_tenant() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let ids = rejected(&world, &receiver, 3).await;
    let path = "/api/v1/org/integrations/eventstream/erp-1/rejected_events";
    assert_eq!(world.call_as("other", "DELETE", path, "").await.status, 404);
    let retry = format!("{path}/_retry");
    assert_eq!(world.call_as("other", "POST", &retry, "").await.status, 404);
    assert_eq!(listed(&world).await, ids);
    assert_eq!(receiver.count(), 0);
    assert_eq!(
        world.call("POST", RETRY, r#"{"all":true}"#).await.status,
        400
    );
    let cleared = world.call("DELETE", "/erp-1/rejected_events", "").await;
    assert_eq!((cleared.status, cleared.body), (204, Value::Null));
    assert_eq!(listed(&world).await, [""; 0]);
    let nothing = world.call("POST", RETRY, "").await.body;
    assert_eq!(
        nothing,
        json!({"retried": 0, "delivered": 0, "rejected": 0, "left": 0})
    );
    assert_eq!(
        world
            .call("DELETE", "/erp-9/rejected_events", "")
            .await
            .status,
        404
    );
}
