//! Previews: what an integration would be sent, counted from the event log.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::World;

async fn preview(world: &World, body: Value) -> Value {
    let answer = world.call("POST", "/_preview", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

#[tokio::test]
async fn a_preview_counts_what_an_integration_would_be_sent() {
    let world = World::start().await;
    let began = world.now();
    let event = |name: &str, n: u32| json!({"name": name, "payload": {"n": n}});
    let mut ids = Vec::new();
    for n in 0..4 {
        let events = [
            event("order.created", n),
            event("order.paid", n),
            event("return.opened", n),
        ];
        ids.push(world.publish(&events).await);
        world.drain_ingest().await;
        world.pass(Duration::from_secs(60));
    }
    // What was published a moment ago may still change.
    world.publish(&[event("order.created", 9)]).await;
    world.drain_ingest().await;

    let all = preview(&world, json!({})).await;
    assert_eq!((&all["events"], &all["matching"]), (&json!(12), &json!(12)));
    assert_eq!(
        all["names"],
        json!({"order.created": 4, "order.paid": 4, "return.opened": 4})
    );
    assert_eq!(
        (&all["is_complete"], &all["replay_seconds"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(all["first"].as_array().unwrap().len(), 5);

    let filter = json!({"event_filter": ["order.created"], "entity_filter": ["return"]});
    let range = json!({
        "filter_conditions": filter, "starts_at": began.after(Duration::from_secs(30)).to_string(),
        "ends_at": began.after(Duration::from_secs(150)).to_string(),
    });
    let some = preview(&world, range.clone()).await;
    assert_eq!((&some["events"], &some["matching"]), (&json!(6), &json!(4)));
    assert_eq!(
        some["names"],
        json!({"order.created": 2, "return.opened": 2})
    );
    let shown: Vec<&Value> = some["first"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["id"])
        .collect();
    assert_eq!(shown, [&ids[1][0], &ids[1][2], &ids[2][0], &ids[2][2]]);
    let published_at = some["first"][0]["published_at"].as_str().unwrap();
    assert!(published_at >= began.after(Duration::from_secs(60)).to_string().as_str());
    assert_eq!(
        (&some["counted_from"], &some["counted_until"]),
        (&range["starts_at"], &range["ends_at"])
    );

    // What it counts is what such an integration is sent.
    let bucket = world.bucket().await;
    let s3 = json!({"aws_access_key_id": "test", "aws_secret_access_key": "test", "aws_region": "us-east-1", "bucket": bucket});
    let mut body = json!({"id": "files", "integration_type": "temporary", "s3_parameters": s3});
    for field in ["filter_conditions", "starts_at", "ends_at"] {
        body[field] = range[field].clone();
    }
    assert_eq!(world.call("POST", "/", body).await.status, 200);
    world.export_tick().await;
    let files = world.files(&bucket).await;
    let text: String = files.into_iter().map(|(_, text)| text).collect();
    assert_eq!(
        (text.lines().count(), text.len() - text.lines().count()),
        (4, some["bytes"].as_u64().unwrap() as usize)
    );

    let other = world
        .call_as(
            "other",
            "POST",
            "/api/v1/org/integrations/eventstream/_preview",
            "",
        )
        .await;
    assert_eq!((other.status, &other.body["events"]), (200, &json!(0)));
    let empty = preview(
        &world,
        json!({"starts_at": "2020-01-01T00:00:00Z", "ends_at": "2020-01-02T00:00:00Z"}),
    )
    .await;
    assert_eq!(
        (&empty["events"], &empty["is_complete"]),
        (&json!(0), &json!(true))
    );
}

#[tokio::test]
async fn a_preview_of_what_cannot_be_is_refused() {
    let world = World::start().await;
    let now = world.now();
    for (body, field) in [
        (
            json!({"starts_at": now.after(Duration::from_secs(60)).to_string()}),
            "starts_at",
        ),
        (json!({"starts_at": "yesterday"}), "starts_at"),
        (
            json!({"starts_at": "2026-01-02T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"}),
            "ends_at",
        ),
        (
            json!({"filter_conditions": {"event_filter": ["order"]}}),
            "filter_conditions.event_filter",
        ),
        (json!({"filter": {}}), "filter"),
        (json!([]), "form"),
    ] {
        let refused = world.call("POST", "/_preview", &body).await;
        assert_eq!(refused.status, 400, "{body}: {refused:?}");
        let message = refused.body["message"].as_str().unwrap();
        assert!(message.contains(field), "{message}");
    }
}
