//! Integrations start, stop, catch up, replay and go.

use std::time::Duration;

use domain::integration::CATCH_UP;
use serde_json::json;
use tests::receiver::{Answer, Receiver};

use crate::world::{SEAL, World};

pub fn event(n: usize) -> serde_json::Value {
    json!({"name": "order.created", "payload": {"n": n}})
}

/// The ids that arrived, sorted.
pub fn arrived(receiver: &Receiver) -> Vec<String> {
    let mut ids: Vec<String> = receiver.events().into_iter().map(|(id, _)| id).collect();
    ids.sort();
    ids
}

pub fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

#[tokio::test]
async fn a_stopped_integration_is_sent_nothing_and_catches_up() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    let mut ids = world.publish(&[event(1), event(2)]).await;
    // Stopped while two events are on their way, within the seal and past it.
    assert_eq!(
        world.call("POST", "/erp-1/_stop", "{}").await.body["status"],
        "stopped"
    );
    world.drain().await;
    ids.extend(world.publish(&[event(3)]).await);
    world.drain().await;
    world.pass(Duration::from_secs(60));
    ids.extend(world.publish(&[event(4)]).await);
    world.settle().await;
    assert_eq!(receiver.count(), 0);
    assert_eq!(
        world.call("POST", "/erp-1/_start", "{}").await.body["status"],
        "running"
    );
    ids.extend(world.publish(&[event(5)]).await);
    world.settle().await;
    ids.extend(world.publish(&[event(6)]).await);
    world.drain().await;
    assert_eq!(arrived(&receiver), sorted(ids));
    assert_eq!(
        world.actions("erp-1").await,
        [
            "integration_started",
            "integration_stopped",
            "integration_started"
        ]
    );
    assert_eq!(
        world.call("GET", "/erp-1", "").await.body["pending"],
        json!({"catching_up": false})
    );
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_burst_leaves_each_event_to_be_sent_once() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    // Large enough that a run has a few of them.
    let padded =
        |n: usize| json!({"name": "order.created", "payload": {"n": n, "pad": "x".repeat(5_000)}});
    let burst = |from: usize| (from..from + 500).map(padded).collect::<Vec<_>>();
    let mut ids = world.publish(&burst(0)).await;
    world.drain_ingest().await;
    world.drain_some().await;
    let sent = receiver.count();
    assert!(0 < sent && sent < 500, "{sent}");
    world.call("POST", "/erp-1/_stop", "").await;
    world.drain().await;
    world.pass(SEAL * 2);
    ids.extend(world.publish(&burst(500)).await);
    world.drain().await;
    assert_eq!(
        receiver.count(),
        sent,
        "nothing is sent while it is stopped"
    );
    world.call("POST", "/erp-1/_start", "").await;
    world.settle().await;
    assert_eq!(arrived(&receiver), sorted(ids));
}

#[tokio::test]
async fn a_large_replay_is_sent_by_one_sender_and_stops_by_itself() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let starts_at = world.now().to_string();
    let mut ids = Vec::new();
    for batch in 0..5 {
        let events: Vec<_> = (0..500).map(|n| event(batch * 500 + n)).collect();
        ids.extend(world.publish(&events).await);
        world.drain().await;
        world.pass(Duration::from_secs(1));
    }
    world.pass(SEAL * 3);
    let ends_at = world.now().to_string();
    let callback = json!({"callback_url": receiver.url()});
    let body = json!({"id": "replay-1", "integration_type": "temporary", "callback_parameters": callback, "starts_at": starts_at, "ends_at": ends_at});
    assert_eq!(world.call("POST", "/", body).await.status, 200);
    let shown = world.call("GET", "/replay-1", "").await.body;
    assert_eq!(shown["pending"]["progress"], 0.0);
    world.drain_replay().await;
    assert_eq!(
        arrived(&receiver),
        sorted(ids),
        "each once, without a message for any"
    );
    assert_eq!(world.waiting(&world.queues.delivery).await, "0");
    world.settle().await;
    let shown = world.call("GET", "/replay-1", "").await.body;
    assert_eq!(shown["status"], "stopped");
    assert_eq!(shown["pending"]["progress"], 1.0);
}

#[tokio::test]
async fn no_request_begins_after_a_stop_in_the_middle_of_a_replay_is_answered() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    receiver.answer(|_| Answer::status(200).delay(Duration::from_millis(50)));
    let starts_at = world.now().to_string();
    let mut ids = Vec::new();
    for batch in 0..4 {
        let events: Vec<_> = (0..500).map(|n| event(batch * 500 + n)).collect();
        ids.extend(world.publish(&events).await);
    }
    world.drain().await;
    world.pass(SEAL * 3);
    let ends_at = world.now().to_string();
    let callback = json!({"callback_url": receiver.url()});
    let body = json!({"id": "replay-1", "integration_type": "temporary", "callback_parameters": callback, "starts_at": starts_at, "ends_at": ends_at});
    assert_eq!(world.call("POST", "/", body).await.status, 200);
    let stop = async {
        receiver
            .wait_for(200, Duration::from_secs(30))
            .await
            .unwrap();
        world.call("POST", "/replay-1/_stop", "").await;
        receiver.count()
    };
    let ((), sent) = tokio::join!(world.drain_replay(), stop);
    assert!((200..2_000).contains(&sent), "{sent}");
    world.settle().await;
    assert_eq!(receiver.count(), sent);
    world.call("POST", "/replay-1/_start", "").await;
    world.settle().await;
    assert_eq!(arrived(&receiver), sorted(ids), "each once");
}

#[tokio::test]
async fn start_and_stop_are_idempotent() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    for (path, status) in [
        ("/erp-1/_start", "running"),
        ("/erp-1/_stop", "stopped"),
        ("/erp-1/_stop", "stopped"),
        ("/erp-1/_start", "running"),
    ] {
        let answer = world.call("POST", path, "").await;
        assert_eq!(
            (answer.status, answer.body["status"].as_str().unwrap()),
            (200, status)
        );
    }
    assert_eq!(
        world.actions("erp-1").await,
        [
            "integration_started",
            "integration_stopped",
            "integration_started"
        ]
    );
}

#[tokio::test]
async fn events_of_the_first_moments_of_an_integration_arrive_once() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let callback = json!({"callback_url": receiver.url()});
    let body =
        json!({"id": "erp-1", "integration_type": "permanent", "callback_parameters": callback});
    assert_eq!(
        world.call("POST", "/", body).await.body["pending"]["catching_up"],
        true
    );
    let mut ids = Vec::new();
    for n in 0..30 {
        ids.extend(world.publish(&[event(n)]).await);
        world.drain().await;
        world.pass(Duration::from_secs(1));
    }
    world.settle().await;
    assert_eq!(arrived(&receiver), sorted(ids));
}

#[tokio::test]
async fn starts_at_in_the_past_replays_what_is_in_the_event_log_once() {
    for shards in [1, 3] {
        let (world, receiver) = (World::with_shards(shards).await, Receiver::start().await);
        let before = world.publish(&[event(0)]).await;
        world.drain().await;
        world.pass(Duration::from_secs(3600));
        let starts_at = world.now().to_string();
        let mut ids = Vec::new();
        // Over midnight, and more than one chunk.
        for n in 0..30 {
            ids.extend(
                world
                    .publish(
                        &(0..10)
                            .map(|index| event(n * 10 + index))
                            .collect::<Vec<_>>(),
                    )
                    .await,
            );
            world.drain().await;
            world.pass(Duration::from_secs(3600));
        }
        let callback = json!({"callback_url": receiver.url()});
        let body = json!({"id": "erp-1", "integration_type": "permanent", "callback_parameters": callback, "starts_at": starts_at});
        world.register(body).await;
        assert_eq!(
            arrived(&receiver),
            sorted(ids),
            "{shards} shards, without {before:?}"
        );
    }
}

#[tokio::test]
async fn an_event_that_the_queue_repeats_is_replayed_once() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let starts_at = world.now().to_string();
    let task = json!({"tenant": world.tenant, "events": [{"id": "1", "name": "order.created", "payload": {}}]}).to_string();
    for _ in 0..3 {
        world.send_to_ingest(&task).await;
        world.drain().await;
        world.pass(Duration::from_secs(300));
    }
    let callback = json!({"callback_url": receiver.url()});
    world.register(json!({"id": "erp-1", "integration_type": "permanent", "callback_parameters": callback, "starts_at": starts_at})).await;
    assert_eq!(arrived(&receiver), ["1"]);
}

#[tokio::test]
async fn a_temporary_integration_gets_exactly_its_range() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let mut instants = Vec::new();
    let mut ids = Vec::new();
    for n in 0..5 {
        instants.push(world.now().to_string());
        ids.extend(world.publish(&[event(n)]).await);
        world.drain().await;
        world.pass(Duration::from_secs(60));
    }
    let callback = json!({"callback_url": receiver.url()});
    let body = json!({"id": "replay-1", "integration_type": "temporary", "callback_parameters": callback, "starts_at": instants[1], "ends_at": instants[4]});
    let answer = world.register(body).await;
    assert_eq!(answer.body["ends_at"], instants[4].as_str());
    assert_eq!(arrived(&receiver), sorted(ids[1..4].to_vec()));
    // All of it has been taken: it has stopped by itself, and a start finds nothing left to send.
    world.settle().await;
    for (method, path) in [("GET", "/replay-1"), ("POST", "/replay-1/_start")] {
        let shown = world.call(method, path, "").await;
        assert_eq!(
            (shown.status, &shown.body["status"]),
            (200, &json!("stopped"))
        );
        assert_eq!(
            shown.body["pending"],
            json!({"catching_up": false, "progress": 1.0})
        );
    }
    let log = world.call("GET", "/replay-1/log", "").await;
    let reason = format!(
        "Stopped automatically: every event before {} has been delivered or rejected.",
        instants[4]
    );
    // Registered and over within a millisecond of the test's clock: the two entries are in no order.
    let mut reasons: Vec<&str> = log.body["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["reason"].as_str().unwrap())
        .collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["Started via API.", &reason]);
    let update = world
        .call("PATCH", "/replay-1", json!({"filter_conditions": null}))
        .await;
    assert_eq!(
        (update.status, update.body["error_code"].as_str().unwrap()),
        (400, "bad_request")
    );
}

#[tokio::test]
async fn a_restart_after_more_than_30_days_sends_only_what_comes_after_it() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    world.publish(&[event(1)]).await;
    world.call("POST", "/erp-1/_stop", "").await;
    world.drain().await;
    world.pass(Duration::from_secs(60));
    world.publish(&[event(2)]).await;
    world.drain().await;
    world.pass(CATCH_UP);
    world.call("POST", "/erp-1/_start", "").await;
    world.settle().await;
    let ids = world.publish(&[event(3)]).await;
    world.drain().await;
    assert_eq!(arrived(&receiver), ids);
    let log = world.call("GET", "/erp-1/log", "").await;
    let reason = "Started via API. It had been stopped for more than 30 days: only events from now on are sent.";
    assert_eq!(log.body["entries"][0]["reason"], reason);
}

#[tokio::test]
async fn nothing_of_a_deleted_integration_is_sent_or_seen_in_a_later_one() {
    let (world, old, new) = (
        World::start().await,
        Receiver::start().await,
        Receiver::start().await,
    );
    world.register_webhook("erp-1", &old.url()).await;
    world.publish(&[event(1)]).await;
    world.drain_ingest().await;
    assert_eq!(world.call("DELETE", "/erp-1", "").await.status, 204);
    assert_eq!(world.call("GET", "/erp-1", "").await.status, 404);
    world.pass(Duration::from_secs(60));
    world.register_webhook("erp-1", &new.url()).await;
    assert_eq!((old.count(), new.count()), (0, 0));
    assert_eq!(world.actions("erp-1").await, ["integration_started"]);
    // The sweep purges what is left, and leaves the later one alone.
    world.pass(Duration::from_secs(1_000));
    world.settle().await;
    assert_eq!(world.actions("erp-1").await, ["integration_started"]);
    assert_eq!(
        world
            .replay
            .integrations
            .due(world.now(), 10)
            .await
            .unwrap(),
        []
    );
}

#[tokio::test]
async fn a_lost_task_is_made_up_for_by_the_sweep() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    world.call("POST", "/erp-1/_stop", "").await;
    world.pass(Duration::from_secs(60));
    let ids = world.publish(&[event(1)]).await;
    world.drain().await;
    world.call("POST", "/erp-1/_start", "").await;
    world
        .sqs
        .purge_queue()
        .queue_url(&world.queues.replay)
        .send()
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(arrived(&receiver), ids);
}
