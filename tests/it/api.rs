//! The REST API: every endpoint, every rule, every refusal.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::world::World;

const BASE: &str = "/api/v1/org/integrations/eventstream";

pub fn webhook(id: &str) -> Value {
    json!({"id": id, "integration_type": "permanent", "callback_parameters": {"callback_url": "https://erp.example.com/hook"}})
}

pub fn s3(id: &str) -> Value {
    json!({
        "id": id, "integration_type": "permanent",
        "s3_parameters": {
            "aws_access_key_id": "some_s3_access_key_id", "aws_secret_access_key": "some_s3_secret_key", "aws_region": "us-east-1",
            "bucket": "sap_export", "key_prefix": "newstore_integration_002",
        },
    })
}

/// `body` with some fields replaced, at any depth: `("callback_parameters.api_key", 1)`.
pub fn with(mut body: Value, changes: &[(&str, Value)]) -> Value {
    for (path, value) in changes {
        let mut place = &mut body;
        for part in path.split('.') {
            place = &mut place[part];
        }
        *place = value.clone();
    }
    body
}

#[tokio::test]
async fn an_integration_is_registered_read_listed_and_deleted() {
    let world = World::start().await;
    let body = with(
        webhook("erp-1"),
        &[(
            "callback_parameters.api_key",
            json!("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"),
        )],
    );
    let mut registered = world.call("POST", "/", &body).await;
    let now = world.now().to_string();
    // Shown here alone.
    let secret = registered
        .body
        .as_object_mut()
        .unwrap()
        .remove("signing_secret");
    assert!(secret.is_some());
    let expected = json!({
        "id": "erp-1", "status": "running", "integration_type": "permanent", "starts_at": now,
        "callback_parameters": {"callback_url": "https://erp.example.com/hook", "api_key": format!("{}VCJ9", "*".repeat(32))},
        "health": "healthy", "pending": {"catching_up": true, "oldest_published_at": now}, "signing": {"created_at": now},
    });
    assert_eq!((registered.status, &registered.body), (200, &expected));
    let s3_answer = world.call("POST", "", s3("a-first")).await;
    assert_eq!(
        s3_answer.body["s3_parameters"]["aws_secret_access_key"],
        "**************_key"
    );
    assert_eq!(world.call("GET", "/erp-1", "").await.body, registered.body);
    for path in ["", "/"] {
        let list = world.call("GET", path, "").await;
        assert_eq!(
            list.body,
            json!({"integrations": [s3_answer.body, registered.body]})
        );
    }
    let log = world.call("GET", "/erp-1/log", "").await;
    assert_eq!(
        log.body,
        json!({"entries": [{"action": "integration_started", "reason": "Started via API.", "created_at": now}]})
    );
    let deleted = world.call("DELETE", "/erp-1", "").await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    for (method, path) in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/_start"),
        ("POST", "/_stop"),
        ("GET", "/log"),
        ("PATCH", ""),
    ] {
        let answer = world.call(method, &format!("/erp-1{path}"), "{}").await;
        assert_eq!(
            (answer.status, &answer.body["error_code"]),
            (404, &json!("resource_not_found")),
            "{method} {path}"
        );
        assert_eq!(answer.body["request_id"], "r-1");
    }
}

#[tokio::test]
async fn the_pages_examples_are_accepted() {
    let world = World::start().await;
    let legacy = json!({"id": "legacy-1", "integration_type": "permanent", "callback_url": "https://erp.example.com/", "callback_parameters": {"api_key": "k"}});
    let temporary = json!({
        "id": "sap-integration-001", "integration_type": "temporary", "starts_at": "2019-01-17T12:00:00Z", "ends_at": "2019-02-21T23:59:00Z",
        "callback_url": "https://sap.example.com/",
    });
    let dated = with(
        s3("sap-s3-integration-002"),
        &[("starts_at", json!("2019-01-17T12:00:00Z"))],
    );
    for body in [legacy, temporary, dated] {
        let answer = world.call("POST", "/", &body).await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
    }
    assert_eq!(
        world.call("GET", "/legacy-1", "").await.body["callback_parameters"]["callback_url"],
        "https://erp.example.com/"
    );
    assert_eq!(
        world.call("GET", "/sap-integration-001", "").await.body["ends_at"],
        "2019-02-21T23:59:00.000Z"
    );
    assert_eq!(
        world.call("GET", "/sap-s3-integration-002", "").await.body["starts_at"],
        "2019-01-17T12:00:00.000Z"
    );
}

#[tokio::test]
async fn neither_id_nor_limit_gives_way_to_concurrent_calls() {
    let world = World::start().await;
    let same = join_all((0..8).map(|_| world.call("POST", "/", webhook("same")))).await;
    assert_eq!(same.iter().filter(|answer| answer.status == 200).count(), 1);
    assert!(
        same.iter()
            .filter(|answer| answer.status != 200)
            .all(|answer| (answer.status, &answer.body["error_code"]) == (409, &json!("conflict")))
    );
    let many = join_all((0..30).map(|n| {
        let body = webhook(&format!("erp-{n}"));
        let world = &world;
        async move { world.call("POST", "/", body).await }
    }));
    let many = many.await;
    assert_eq!(
        many.iter().filter(|answer| answer.status == 200).count(),
        24
    );
    assert!(
        many.iter()
            .filter(|answer| answer.status != 200)
            .all(|answer| (answer.status, &answer.body["error_code"])
                == (409, &json!("limit_exceeded")))
    );
    assert_eq!(
        world.call("GET", "/", "").await.body["integrations"]
            .as_array()
            .unwrap()
            .len(),
        25
    );
    assert_eq!(world.call("DELETE", "/same", "").await.status, 204);
    assert_eq!(world.call("POST", "/", webhook("next")).await.status, 200);
    assert_eq!(
        world.call("POST", "/", webhook("one-more")).await.status,
        409
    );
}

#[tokio::test]
async fn an_update_merges_and_keeps_masked_secrets() {
    let world = World::start().await;
    let body = with(
        webhook("erp-1"),
        &[
            ("callback_parameters.api_key", json!("secret-key-0001")),
            ("filter_conditions", json!({"event_filter": ["a.b"]})),
        ],
    );
    assert_eq!(world.call("POST", "/", body).await.status, 200);
    let running = world
        .call("PATCH", "/erp-1", json!({"filter_conditions": null}))
        .await;
    assert_eq!(
        (running.status, &running.body["error_code"]),
        (400, &json!("integration_running"))
    );
    world.call("POST", "/erp-1/_stop", "").await;
    let masked =
        world.call("GET", "/erp-1", "").await.body["callback_parameters"]["api_key"].clone();
    let url = "https://new.example.com/";
    let answer = world
        .call(
            "PATCH",
            "/erp-1",
            json!({"callback_parameters": {"callback_url": url, "api_key": masked}}),
        )
        .await;
    assert_eq!(
        answer.body["callback_parameters"],
        json!({"callback_url": url, "api_key": "***********0001"})
    );
    let stored = world
        .api
        .integrations
        .get(&world.tenant, "erp-1")
        .await
        .unwrap();
    let domain::integration::Target::Webhook { callback, .. } = stored.target else {
        panic!("a webhook")
    };
    let secret = world
        .delivery
        .secrets
        .decrypt(&world.tenant, "erp-1", &callback.api_key.unwrap())
        .await
        .unwrap();
    assert_eq!(secret.expose(), "secret-key-0001");
    let answer = world
        .call(
            "PUT",
            "/erp-1",
            json!({"filter_conditions": {"entity_filter": ["order"]}}),
        )
        .await;
    assert_eq!(
        answer.body["filter_conditions"],
        json!({"event_filter": ["a.b"], "entity_filter": ["order"]})
    );
    let answer = world
        .call(
            "PATCH",
            "/erp-1",
            json!({"filter_conditions": null, "callback_parameters": {"api_key": null}}),
        )
        .await;
    assert_eq!(answer.body.get("filter_conditions"), None);
    assert_eq!(
        answer.body["callback_parameters"],
        json!({"callback_url": url})
    );
    for (body, field) in [
        (json!({"id": "x"}), "id"),
        (json!({"starts_at": "2019-01-17T12:00:00Z"}), "starts_at"),
        (json!({"s3_parameters": {"bucket": "abc"}}), "s3_parameters"),
        (
            json!({"callback_parameters": {"callback_url": "nonsense"}}),
            "callback_parameters.callback_url",
        ),
        (
            json!({"filter_conditions": {"event_filter": ["x"]}}),
            "filter_conditions.event_filter[0]",
        ),
    ] {
        let answer = world.call("PATCH", "/erp-1", &body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(
            answer.body["message"].as_str().unwrap().contains(field),
            "{field}: {answer:?}"
        );
    }
    assert_eq!(
        world.actions("erp-1").await[..4],
        [
            "integration_updated",
            "integration_updated",
            "integration_updated",
            "integration_stopped"
        ]
    );
}

#[tokio::test]
async fn other_tenants_and_other_paths_are_404_and_other_methods_405() {
    let world = World::start().await;
    world.call("POST", "/", webhook("erp-1")).await;
    for (method, path, status, code) in [
        ("GET", "/erp-1/nonsense", 404, "resource_not_found"),
        ("GET", "/erp%201", 404, "resource_not_found"),
        ("GET", "/erp-1#counter", 404, "resource_not_found"),
        (
            "GET",
            "/erp-1/rejected_events/none",
            404,
            "resource_not_found",
        ),
        ("DELETE", "/", 405, "method_not_allowed"),
        ("POST", "/erp-1", 405, "method_not_allowed"),
        ("GET", "/erp-1/_start", 405, "method_not_allowed"),
        ("POST", "/erp-1/log", 405, "method_not_allowed"),
    ] {
        let answer = world.call(method, path, "").await;
        assert_eq!(
            (answer.status, answer.body["error_code"].as_str().unwrap()),
            (status, code),
            "{method} {path}"
        );
    }
    let stranger = world
        .call_as("stranger", "GET", &format!("{BASE}/erp-1"), "")
        .await;
    assert_eq!(
        (stranger.status, &stranger.body["error_code"]),
        (404, &json!("resource_not_found"))
    );
    assert_eq!(
        world.call_as("Not A Tenant", "GET", BASE, "").await.status,
        403
    );
    assert_eq!(world.call("POST", "/erp-1/_stop", "[1]").await.status, 400);
}

#[tokio::test]
async fn bad_events_are_refused_with_their_index_and_none_is_accepted() {
    let world = World::start().await;
    let good = json!({"name": "order.created", "payload": {}});
    let large = json!({"name": "order.created", "payload": {"a": "x".repeat(262_144)}});
    let events = json!([good, {"name": "Order", "payload": {}}, good, large, {"name": "a.b"}]);
    let answer = world
        .call_as(
            &world.tenant,
            "POST",
            "/api/v1/org/events",
            &events.to_string(),
        )
        .await;
    assert_eq!(answer.status, 400);
    let indices: Vec<u64> = answer.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["index"].as_u64().unwrap())
        .collect();
    assert_eq!(indices, [1, 3, 4]);
    let too_large = format!("[{}]", vec![large.to_string(); 17].join(","));
    let answer = world
        .call_as(&world.tenant, "POST", "/api/v1/org/events", &too_large)
        .await;
    assert_eq!(
        (answer.status, &answer.body["error_code"]),
        (413, &json!("payload_too_large"))
    );
    world.drain().await;
    assert_eq!(world.dead_letters().await, Vec::<String>::new());
    let given = json!({"id": "6A7E8FEB-B491-4CF7-A9F1-BF3703467718", "name": "order.created", "payload": {}}).to_string();
    assert_eq!(
        world.publish_text(&given).await,
        ["6a7e8feb-b491-4cf7-a9f1-bf3703467718"]
    );
}

#[tokio::test]
async fn twenty_concurrent_updates_are_all_made() {
    let world = World::start().await;
    let registered = world
        .call("POST", "/", r#"{"id":"erp-1","integration_type":"permanent","callback_url":"https://erp.example/"}"#)
        .await;
    assert_eq!(registered.status, 200);
    world.call("POST", "/erp-1/_stop", "").await;
    let update = |n: usize| {
        let filter = json!({"filter_conditions": {"entity_filter": [format!("e{n}")]}});
        world.call("PATCH", "/erp-1", filter)
    };
    let answers = join_all((0..20).map(update)).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200; 20]);
    let actions = world.actions("erp-1").await;
    let updates = actions
        .iter()
        .filter(|action| *action == "integration_updated");
    assert_eq!(updates.count(), 20);
}

#[tokio::test]
async fn a_custom_domain_may_map_the_api_under_a_base_path() {
    let world = World::start().await;
    for (path, status) in [
        ("/events/api/v1/org/integrations/eventstream", 200),
        ("/events/health", 200),
        ("/health", 200),
        ("/events/events/health", 404),
        ("/others/health", 404),
    ] {
        let answer = world.call_as(&world.tenant, "GET", path, "").await;
        assert_eq!(answer.status, status, "{path}");
    }
}

#[tokio::test]
async fn headers_of_a_caller_are_data() {
    let world = World::start().await;
    for (name, value) in [
        ("x-forwarded-proto", "https, http"),
        ("x-forwarded-proto", "ht tp"),
        ("host", "127.0.0.1:99999"),
        ("host", "a b/c?d#e"),
        ("host", ""),
        ("cookie", "\u{0}"),
    ] {
        let event = json!({
            "version": "2.0", "rawPath": "/health", "rawQueryString": "a b\u{e9}", "headers": {name: value},
            "cookies": [value], "requestContext": {"requestId": "r-1", "http": {"method": "GET", "path": "/health"}},
        });
        let request = serde_json::from_value(event).unwrap();
        let response = ::api::handle(&world.api, request).await;
        assert_eq!(response.status(), 200, "{name}: {value}");
        assert_eq!(response.body(), r#"{"status":"ok"}"#);
    }
}

#[tokio::test]
async fn an_end_of_all_days_is_shown_as_it_was_given() {
    let world = World::start().await;
    for (id, given, shown) in [
        ("sap", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000Z"),
        (
            "net",
            "9999-12-31T23:59:59.9999999Z",
            "9999-12-31T23:59:59.999Z",
        ),
    ] {
        let starts_at = world.now().to_string();
        let body = json!({
            "id": id, "integration_type": "temporary", "starts_at": starts_at, "ends_at": given,
            "callback_parameters": {"callback_url": "https://erp.example/"},
        });
        let answer = world.call("POST", "/", body).await;
        assert_eq!(answer.body["ends_at"], shown, "{answer:?}");
    }
    world.settle().await;
    let answer = world.call("GET", "/sap", "").await;
    assert_eq!(answer.body["status"], "running");
}
