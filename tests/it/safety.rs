//! Tenants stay apart, whatever is put into a request; limits hold; what the document shows is taken.

use std::time::Duration;

use serde_json::{Value, json};
use tests::receiver::Receiver;

use crate::world::World;

const BASE: &str = "/api/v1/org/integrations/eventstream";
const EVENTS: &str = "/api/v1/org/events";

fn webhook(id: &str, url: &str) -> Value {
    json!({"id": id, "integration_type": "permanent", "callback_parameters": {"callback_url": url}})
}

#[tokio::test]
async fn no_path_leads_to_another_tenant() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let owner = world.tenant.clone();
    world.register_webhook("erp-1", &receiver.url()).await;
    receiver.answer_with(400);
    let ids = world
        .publish(&[json!({"name": "order.created", "payload": {}})])
        .await;
    world.drain().await;
    let kept = format!("/erp-1/rejected_events/{}", ids[0]);
    assert_eq!(world.call("GET", &kept, "").await.status, 200);
    let generation = world
        .api
        .integrations
        .get(&owner, "erp-1")
        .await
        .unwrap()
        .generation;

    // A stranger who knows every name and id there is, with an integration of the same id.
    let stranger = "stranger";
    let own = webhook("erp-1", &receiver.url()).to_string();
    assert_eq!(
        world.call_as(stranger, "POST", BASE, &own).await.status,
        200
    );
    let before = world.call("GET", "/erp-1", "").await.body;
    for path in [
        format!("{BASE}{kept}"),
        format!("{BASE}/{owner}#erp-1"),
        format!("{BASE}/{owner}%23erp-1"),
        format!("{BASE}/{owner}/erp-1"),
        format!("{BASE}/../{owner}/erp-1"),
        format!("{BASE}/..%2f{owner}%2ferp-1"),
        format!("{BASE}/erp-1%00{owner}"),
        format!("{BASE}/erp-1/../../{owner}/erp-1"),
        format!("{BASE}/erp-1/rejected_events/../../{owner}"),
        format!("{BASE}/erp-1/rejected_events/{owner}#erp-1#{generation}"),
        format!("{BASE}/erp-1/rejected_events/#{}", ids[0]),
        format!("{BASE}/erp-1/rejected_events/{}%20", ids[0]),
        format!("/{owner}{BASE}/erp-1"),
    ] {
        for method in ["GET", "DELETE"] {
            let answer = world.call_as(stranger, method, &path, "").await;
            assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
            assert_eq!(answer.body["error_code"], "resource_not_found");
            assert!(!answer.text.contains(&receiver.url()));
        }
    }
    assert_eq!(
        world
            .call_as(stranger, "DELETE", &format!("{BASE}/erp-1"), "")
            .await
            .status,
        204
    );
    assert_eq!(world.call("GET", "/erp-1", "").await.body, before);
    assert_eq!(world.call("GET", &kept, "").await.status, 200);
}

#[tokio::test]
async fn no_body_and_no_header_names_another_tenant() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    let (owner, stranger) = (world.tenant.clone(), "stranger");
    let mut registration = webhook("erp-2", &receiver.url());
    registration["tenant"] = json!(owner);
    let event = json!({"name": "order.created", "payload": {}, "tenant": owner});
    for (method, path, body, named) in [
        ("POST", BASE.to_owned(), registration.to_string(), "tenant"),
        (
            "PATCH",
            format!("{BASE}/erp-1"),
            json!({"tenant": owner}).to_string(),
            "tenant",
        ),
        ("POST", EVENTS.to_owned(), event.to_string(), "tenant"),
        (
            "POST",
            format!("{BASE}/erp-1/_stop"),
            json!({"tenant": owner}).to_string(),
            "tenant",
        ),
    ] {
        let answer = world.call_as(stranger, method, &path, &body).await;
        assert_eq!(answer.status, 400, "{method} {path}: {answer:?}");
        assert!(
            answer.body["message"].as_str().unwrap().contains(named),
            "{answer:?}"
        );
    }
    // A payload may say what it likes: it is data.
    let payload = json!({"name": "order.created", "payload": {"tenant": owner, "name": "x.y"}});
    assert_eq!(
        world
            .call_as(stranger, "POST", EVENTS, &payload.to_string())
            .await
            .status,
        202
    );
    world.drain().await;
    assert_eq!(receiver.count(), 0);
    assert_eq!(
        world.call("GET", "/erp-1", "").await.body["status"],
        "running"
    );
}

#[tokio::test]
async fn a_name_that_is_no_tenants_is_403_before_anything_is_read() {
    let world = World::start().await;
    let long = "a".repeat(64);
    for name in [
        "",
        "Acme",
        "acme ",
        " acme",
        "acme#x",
        "acme/x",
        "acme\n",
        "acme\u{0}",
        "-acme",
        "ac.me",
        "ac_me",
        "äcme",
        "[acme other]",
        "tenant/acme",
        "*",
        &long,
    ] {
        for (method, path, body) in [
            ("GET", BASE, "".to_owned()),
            (
                "POST",
                BASE,
                webhook("erp-1", "http://127.0.0.1:1/").to_string(),
            ),
            (
                "POST",
                EVENTS,
                json!({"name": "a.b", "payload": {}}).to_string(),
            ),
        ] {
            let answer = world.call_as(name, method, path, &body).await;
            assert_eq!(answer.status, 403, "{name:?} {method} {path}: {answer:?}");
            assert_eq!(answer.body["error_code"], "forbidden");
        }
    }
}

#[tokio::test]
async fn a_tenant_has_only_so_many_replays_running() {
    let world = World::start().await;
    let replay = |id: &str| {
        let mut body = webhook(id, "http://127.0.0.1:1/");
        body["integration_type"] = json!("temporary");
        body["starts_at"] = json!("2019-01-17T12:00:00Z");
        body["ends_at"] = json!("2099-02-21T23:59:00Z");
        body
    };
    for index in 0..world.api.max_running_replays {
        let answer = world
            .call("POST", "/", replay(&format!("replay-{index}")))
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let refused = world.call("POST", "/", replay("one-more")).await;
    assert_eq!(
        (refused.status, &refused.body["error_code"]),
        (409, &json!("limit_exceeded"))
    );
    assert!(
        refused.body["message"]
            .as_str()
            .unwrap()
            .contains("temporary"),
        "{refused:?}"
    );
    // Neither others' nor other integrations count, and a stopped one does not run.
    let others = world
        .call_as("stranger", "POST", BASE, &replay("replay-0").to_string())
        .await;
    assert_eq!(others.status, 200);
    assert_eq!(
        world
            .call("POST", "/", webhook("erp-1", "http://127.0.0.1:1/"))
            .await
            .status,
        200
    );
    assert_eq!(world.call("POST", "/replay-0/_stop", "").await.status, 200);
    assert_eq!(
        world.call("POST", "/", replay("one-more")).await.status,
        200
    );
    // What is stopped is not started next to as many others, and what runs stays started.
    let refused = world.call("POST", "/replay-0/_start", "").await;
    assert_eq!(
        (refused.status, &refused.body["error_code"]),
        (409, &json!("limit_exceeded"))
    );
    assert_eq!(world.call("POST", "/replay-1/_start", "").await.status, 200);
    // A permanent one that begins long ago sends the past as well.
    let mut old = webhook("old", "http://127.0.0.1:1/");
    old["starts_at"] = json!(
        world
            .now()
            .before(Duration::from_secs(25 * 3600))
            .to_string()
    );
    assert_eq!(world.call("POST", "/", &old).await.status, 409);
    old["starts_at"] = json!(
        world
            .now()
            .before(Duration::from_secs(23 * 3600))
            .to_string()
    );
    assert_eq!(world.call("POST", "/", &old).await.status, 200);
    assert_eq!(world.call("DELETE", "/one-more", "").await.status, 204);
    assert_eq!(world.call("POST", "/replay-0/_start", "").await.status, 200);
}

#[tokio::test]
async fn bodies_are_bounded_in_size_depth_and_number() {
    let world = World::start().await;
    let padded = |bytes: usize| {
        let body = webhook("erp-1", "http://127.0.0.1:1/").to_string();
        body.clone() + &" ".repeat(bytes - body.len())
    };
    let nested = |levels: usize| {
        format!(
            r#"{{"name":"a.b","payload":{{"a":{}1{}}}}}"#,
            "[".repeat(levels - 1),
            "]".repeat(levels - 1)
        )
    };
    let event = r#"{"name":"a.b","payload":{}}"#;
    let events = |count: usize| format!("[{}]", vec![event; count].join(","));
    let deep = format!(
        r#"{{"id":"a","integration_type":"permanent","callback_parameters":{}1{}}}"#,
        r#"{"a":"#.repeat(10_000),
        "}".repeat(10_000)
    );
    let (small, large) = (128 * 1024, 4 * 1024 * 1024);
    for (path, body, status) in [
        (BASE.to_owned(), padded(small + 1), 413),
        (BASE.to_owned(), padded(small), 200),
        (format!("{BASE}/erp-1/_stop"), " ".repeat(small + 1), 413),
        (BASE.to_owned(), deep, 400),
        (
            EVENTS.to_owned(),
            event.to_owned() + &" ".repeat(large),
            413,
        ),
        (
            EVENTS.to_owned(),
            event.to_owned() + &" ".repeat(large - event.len()),
            202,
        ),
        (EVENTS.to_owned(), nested(50), 202),
        (EVENTS.to_owned(), nested(51), 400),
        (EVENTS.to_owned(), nested(100_000), 400),
        (EVENTS.to_owned(), "[".repeat(1_000_000), 400),
        (EVENTS.to_owned(), events(500), 202),
        (EVENTS.to_owned(), events(501), 400),
    ] {
        let answer = world.call_as(&world.tenant, "POST", &path, &body).await;
        assert_eq!(answer.status, status, "{path} {}: {answer:?}", &body[..40]);
    }
}

#[tokio::test]
async fn every_example_of_a_body_in_the_document_is_accepted() {
    let world = World::start().await;
    let document: Value = serde_json::from_str(include_str!("../../openapi.json")).unwrap();
    let mut sent = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        // One of those that the examples register.
        let path = &path.replace("{integration_id}", "erp-netsuite-integration-002");
        let Some(content) = item["post"]["requestBody"]["content"].as_object() else {
            continue;
        };
        let examples = &content["application/json"]["examples"];
        for (name, example) in examples.as_object().into_iter().flatten() {
            let answer = world
                .call_as(&world.tenant, "POST", path, &example["value"].to_string())
                .await;
            assert!(answer.status < 300, "{path} {name}: {answer:?}");
            sent += 1;
        }
    }
    let update = &document["paths"][format!("{BASE}/{{integration_id}}")]["patch"];
    let examples = &update["requestBody"]["content"]["application/json"]["examples"];
    let id = "erp-netsuite-integration-002";
    assert_eq!(
        world
            .call("POST", &format!("/{id}/_stop"), "{}")
            .await
            .status,
        200
    );
    for (name, example) in examples.as_object().unwrap() {
        let answer = world
            .call("PATCH", &format!("/{id}"), &example["value"])
            .await;
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        sent += 1;
    }
    assert!(sent >= 9, "{sent} examples");
}
