//! Updates that others have overtaken, and publications that are sent again.

use serde_json::{Value, json};

use crate::world::World;

const BASE: &str = "/api/v1/org/integrations/eventstream/erp-1";

/// Calls the API with a header; returns status, `ETag` and body.
async fn call(
    world: &World,
    method: &str,
    path: &str,
    header: (&str, &str),
    body: &str,
) -> (u16, String, Value) {
    let event = json!({
        "rawPath": path, "headers": {"content-type": "application/json", header.0: header.1}, "body": body,
        "requestContext": {"requestId": "r-1", "http": {"method": method}, "authorizer": {"jwt": {"claims": {"tenant": world.tenant}}}},
    });
    let request = serde_json::from_value(event).unwrap();
    let response = ::api::handle(&world.api, request).await;
    let tag = response.headers().get("etag");
    let tag = tag.map(|tag| tag.to_str().unwrap().to_owned());
    let body = serde_json::from_str(response.body()).unwrap_or(Value::Null);
    (response.status().as_u16(), tag.unwrap_or_default(), body)
}

#[tokio::test]
async fn an_update_of_what_was_changed_meanwhile_is_refused() {
    let world = World::start().await;
    world.register_webhook("erp-1", "http://127.0.0.1:9/").await;
    let (status, seen, _) = call(&world, "GET", BASE, ("accept", "*/*"), "").await;
    assert_eq!(status, 200);
    assert!(seen.starts_with('"') && seen.len() == 18, "{seen}");
    // Stopping changes no settings: what was read before is still what is updated.
    let stopped = call(
        &world,
        "POST",
        &format!("{BASE}/_stop"),
        ("if-match", &seen),
        "",
    )
    .await;
    assert_eq!((stopped.0, &stopped.1), (200, &seen));

    let filter = |name: &str| json!({"filter_conditions": {"event_filter": [name]}}).to_string();
    let (status, changed, _) = call(
        &world,
        "PATCH",
        BASE,
        ("If-Match", &seen),
        &filter("order.created"),
    )
    .await;
    assert_eq!(status, 200);
    assert_ne!(changed, seen);
    // The second of two that have read the same.
    let (status, _, body) = call(
        &world,
        "PATCH",
        BASE,
        ("If-Match", &seen),
        &filter("order.paid"),
    )
    .await;
    assert_eq!(
        (status, &body["error_code"]),
        (412, &json!("precondition_failed"))
    );
    let (_, tag, shown) = call(&world, "GET", BASE, ("accept", "*/*"), "").await;
    assert_eq!(
        (tag, &shown["filter_conditions"]),
        (changed.clone(), &json!({"event_filter": ["order.created"]}))
    );

    let (status, ..) = call(&world, "DELETE", BASE, ("If-Match", &seen), "").await;
    assert_eq!(status, 412);
    let (status, ..) = call(&world, "DELETE", BASE, ("If-Match", &changed), "").await;
    assert_eq!(status, 204);
}

#[tokio::test]
async fn a_publication_with_an_idempotency_key_can_be_sent_again() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let s3 = json!({"aws_access_key_id": "test", "aws_secret_access_key": "test", "aws_region": "us-east-1", "bucket": bucket});
    let body = json!({"id": "files", "integration_type": "permanent", "s3_parameters": s3});
    assert_eq!(world.call("POST", "/", body).await.status, 200);
    let path = "/api/v1/org/events";
    let events = r#"[{"name":"order.created","payload":{"n":1}},{"name":"order.created","payload":{"n":1}},{"name":"order.paid","payload":{}}]"#;
    let first = call(
        &world,
        "POST",
        path,
        ("Idempotency-Key", "import-7"),
        events,
    )
    .await;
    assert_eq!(first.0, 202);
    let again = call(
        &world,
        "POST",
        path,
        ("idempotency-key", "import-7"),
        events,
    )
    .await;
    assert_eq!(again.2, first.2);
    let other = call(
        &world,
        "POST",
        path,
        ("Idempotency-Key", "import-8"),
        events,
    )
    .await;
    assert_ne!(other.2, first.2);
    let refused = call(
        &world,
        "POST",
        path,
        ("Idempotency-Key", "import 7"),
        events,
    )
    .await;
    assert_eq!(refused.0, 400);
    world.drain_ingest().await;
    world.export_tick().await;
    let files = world.files(&bucket).await;
    let lines: usize = files.iter().map(|(_, text)| text.lines().count()).sum();
    assert_eq!(lines, 6, "three for each key, however often they were sent");
}
