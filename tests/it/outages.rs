//! Receivers fail, are down, come back, or never do.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::integration::IntegrationRef;
use serde_json::{Value, json};
use tests::receiver::{Answer, Received, Receiver};

use crate::lifecycle::{arrived, event, sorted};
use crate::world::{RULES, SEAL, World};

const DEADLINE: Duration = Duration::from_secs(30);

fn events(range: std::ops::Range<usize>) -> Vec<Value> {
    range.map(event).collect()
}

/// A response that asks for the shortest pause: messages are delayed by the true clock.
fn unavailable() -> Answer {
    Answer::status(503).header("retry-after", "1")
}

/// Works the queues off until so many events wait.
async fn drain_until_waiting(world: &World, id: &str, count: usize) {
    let integration = world.api.integrations.get(&world.tenant, id).await.unwrap();
    let integration_ref = IntegrationRef::from(&integration);
    let waiting = async {
        loop {
            world.drain().await;
            let items = world.delivery.waiting_events.list(&integration_ref).await;
            let items = items.unwrap();
            // One may be in the item of its last attempt and, beside others, in that of an earlier one.
            let events: BTreeSet<_> = items.iter().flat_map(|it| it.waiting.events()).collect();
            if events.len() == count {
                break;
            }
        }
    };
    let waiting = tokio::time::timeout(DEADLINE, waiting).await;
    waiting.expect("the events did not wait in time");
}

/// Takes every event but those with poison in them.
fn without_poison(request: &Received) -> Answer {
    match request.text().contains("poison") {
        true => Answer::status(500).header("retry-after", "1"),
        false => Answer::status(200),
    }
}

#[tokio::test]
async fn an_outage_interrupts_a_stream_and_the_first_success_resumes_it() {
    let world = World::start().await;
    let (up, down) = (Receiver::start().await, Receiver::start().await);
    world.register_webhook("up", &up.url()).await;
    world.register_webhook("down", &down.url()).await;
    down.answer(|_| unavailable());
    let mut ids = world.publish(&events(0..5)).await;
    world.drain().await;
    assert_eq!(up.count(), 5);
    let failing_since = world.call("GET", "/down", "").await.body["failing_since"].clone();
    let shown = world.call("GET", "/down", "").await.body;
    assert_eq!(shown["health"], "retrying", "they may be some among many");
    world.drain_until_interrupted("down", DEADLINE).await;
    let shown = world.call("GET", "/down", "").await.body;
    assert_eq!(
        (&shown["status"], &shown["health"]),
        (&json!("running"), &json!("interrupted"))
    );
    assert_eq!(shown["failing_since"], failing_since);
    let actions = world.actions("down").await;
    let count = |action: &str| actions.iter().filter(|found| *found == action).count();
    assert_eq!(
        (count("delivery_paced"), count("delivery_interrupted")),
        (1, 1)
    );
    assert!(count("retry_triggered") >= 1, "{actions:?}");
    drain_until_waiting(&world, "down", 5).await;
    let attempts = down.count();
    // What was to be tried again waits; what comes now is not even tried.
    world.pass(SEAL);
    ids.extend(world.publish(&events(5..8)).await);
    world.drain().await;
    assert_eq!(up.count(), 8);
    let shown = world.call("GET", "/down", "").await.body;
    assert_eq!(shown["pending"]["catching_up"], true);
    // A probe fails, and nothing but the probe is sent.
    world.pass(Duration::from_secs(900));
    let before = down.count();
    assert!(before <= attempts + 1, "{before} after {attempts}");
    world.sweep().await;
    world.drain().await;
    let shown = world.call("GET", "/down", "").await.body;
    assert_eq!(down.count(), before + 1, "{shown} at {}", world.now());
    assert_eq!(world.actions("down").await[0], "retry_triggered");
    down.clear();
    down.answer_with(204);
    world.settle().await;
    assert_eq!(arrived(&down), sorted(ids.clone()));
    let shown = world.call("GET", "/down", "").await.body;
    assert_eq!(shown["health"], "healthy");
    assert_eq!(shown["pending"], json!({"catching_up": false}));
    assert_eq!(shown["failing_since"], Value::Null);
    let actions = world.actions("down").await;
    assert!(
        actions.contains(&"delivery_resumed".to_owned()),
        "{actions:?}"
    );
    // And it is live again.
    ids.extend(world.publish(&[event(8)]).await);
    world.drain().await;
    assert_eq!(arrived(&down), sorted(ids));
    assert_eq!(world.actions("up").await, ["integration_started"]);
}

#[tokio::test]
async fn probes_take_an_event_that_is_owed_when_the_parked_ones_are_poisonous() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    receiver.answer(without_poison);
    let poison = json!({"name": "order.created", "payload": {"poison": true}});
    let poisonous = world.publish(&[poison.clone(), poison]).await;
    // Two events that fail in turn, and nothing else: the receiver is considered down.
    world.drain_until_interrupted("erp-1", DEADLINE).await;
    drain_until_waiting(&world, "erp-1", 2).await;
    world.pass(SEAL * 2);
    let good = world.publish(&[event(1)]).await;
    world.drain().await;
    world.pass(SEAL * 4);
    receiver.clear();
    // A parked one, then one that is owed.
    for _ in 0..3 {
        world.pass(Duration::from_secs(900));
        world.sweep().await;
        world.drain().await;
    }
    let arrived = arrived(&receiver);
    assert!(
        arrived.contains(&good[0]),
        "{arrived:?}, not {good:?} next to {poisonous:?}"
    );
    assert!(
        world
            .actions("erp-1")
            .await
            .contains(&"delivery_resumed".to_owned())
    );
}

#[tokio::test]
async fn a_poisonous_event_holds_up_nobody_and_is_rejected_in_the_end() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    receiver.answer(without_poison);
    let poison = json!({"name": "order.created", "payload": {"poison": true}});
    let poisonous = world.publish(&[poison]).await;
    world.drain().await;
    world.pass(Duration::from_secs(2));
    let since = world.now();
    world.publish(&events(0..20)).await;
    world.drain().await;
    assert!(receiver.count() >= 21, "{}", receiver.count());
    assert_eq!(
        world.call("GET", "/erp-1", "").await.body["health"],
        "healthy"
    );
    // Days later others are taken still.
    world.pass(RULES.give_up + Duration::from_secs(60));
    world.publish(&[event(20)]).await;
    world.drain().await;
    let rejected = async {
        loop {
            world.drain().await;
            let list = world.call("GET", "/erp-1/rejected_events", "").await;
            if list.body["rejected_events"][0]["id"] == poisonous[0].as_str() {
                return list.body["rejected_events"][0].clone();
            }
            // Ten attempts show that it is the event: they are at most 15 minutes apart.
            world.pass(Duration::from_secs(15 * 60));
            world.sweep().await;
            world.publish(&[event(21)]).await;
        }
    };
    let rejected = tokio::time::timeout(10 * DEADLINE, rejected).await;
    let rejected = rejected.expect("the event was not rejected in time");
    assert_eq!(
        rejected["answer"],
        "internal server error (HTTP status code 500)"
    );
    let log = world.call("GET", "/erp-1/log", "").await;
    let entry = log.body["entries"].as_array().unwrap();
    let entry = entry
        .iter()
        .find(|entry| entry["action"] == "event_rejected");
    let reason = entry.unwrap()["reason"].as_str().unwrap();
    assert!(
        reason.contains("(HTTP status code 500), after "),
        "{reason}"
    );
    assert!(since < world.now());
    assert_eq!(
        world.call("GET", "/erp-1", "").await.body["status"],
        "running"
    );
}

#[tokio::test]
async fn an_integration_that_only_fails_for_days_is_stopped_and_loses_nothing() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    receiver.answer(|_| unavailable());
    let ids = world.publish(&events(0..2)).await;
    world.drain().await;
    let failing_since = world.now();
    world.pass(RULES.give_up);
    let stopped = async {
        while world.call("GET", "/erp-1", "").await.body["status"] != "stopped" {
            world.drain().await;
        }
    };
    let stopped = tokio::time::timeout(DEADLINE, stopped).await;
    stopped.expect("the integration was not stopped in time");
    let log = world.call("GET", "/erp-1/log", "").await;
    assert_eq!(log.body["entries"][0]["action"], "integration_stopped");
    let reason = format!(
        "Stopped automatically: every request since {failing_since} has failed. Nothing is lost: what has been missed is sent when it is started again within 30 days."
    );
    assert_eq!(log.body["entries"][0]["reason"], reason);
    let shown = world.call("GET", "/erp-1", "").await.body;
    assert_eq!(shown["failing_since"], failing_since.to_string());
    assert_eq!(shown["health"], Value::Null);
    drain_until_waiting(&world, "erp-1", 2).await;
    receiver.clear();
    receiver.answer_with(200);
    world.call("POST", "/erp-1/_start", "").await;
    world.settle().await;
    assert_eq!(arrived(&receiver), sorted(ids));
}

#[tokio::test]
async fn a_rejected_event_is_tried_again_when_somebody_asks_for_it() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    receiver.answer(|_| Answer::status(400).body("no such\r\n\u{7}item"));
    let ids = world.publish(&[event(1)]).await;
    world.drain().await;
    let list = world.call("GET", "/erp-1/rejected_events", "").await;
    let listed = &list.body["rejected_events"][0];
    assert_eq!(
        (&listed["id"], &listed["answer"]),
        (&json!(ids[0]), &json!("no suchitem"))
    );
    let path = format!("/erp-1/rejected_events/{}/_retry", ids[0]);
    let refused = world.call("POST", &path, "").await;
    assert_eq!(
        (refused.status, &refused.body["error_code"]),
        (502, &json!("delivery_failed"))
    );
    let message = "The receiver has not accepted the event: bad request (HTTP status code 400). It stays among the rejected events.";
    assert_eq!(refused.body["message"], message);
    assert_eq!(receiver.count(), 2);
    assert_eq!(
        world
            .call("GET", &path.replace("/_retry", ""), "")
            .await
            .status,
        200
    );
    // Also while it is stopped, and also when the receiver is not there.
    world.call("POST", "/erp-1/_stop", "").await;
    receiver.answer_with(500);
    assert_eq!(world.call("POST", &path, "{}").await.status, 502);
    receiver.answer_with(200);
    let taken = world.call("POST", &path, "").await;
    assert_eq!((taken.status, taken.text.as_str()), (204, ""));
    let bodies = receiver.events();
    assert!(
        bodies.iter().all(|sent| *sent == bodies[0]),
        "the same bytes each time"
    );
    for (method, path) in [
        ("POST", path.as_str()),
        ("GET", path.trim_end_matches("/_retry")),
    ] {
        assert_eq!(world.call(method, path, "").await.status, 404, "{method}");
    }
    let unknown = world
        .call("POST", "/erp-2/rejected_events/x/_retry", "")
        .await;
    assert_eq!(
        (unknown.status, &unknown.body["error_code"]),
        (404, &json!("resource_not_found"))
    );
    assert_eq!(world.call("GET", &path, "").await.status, 405);
}
