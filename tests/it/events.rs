//! The fate of events: what the API says of each, and that it is so.

use std::time::Duration;

use serde_json::{Value, json};
use tests::receiver::{Answer, Receiver};

use crate::world::World;

const DEADLINE: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);

async fn page(world: &World, id: &str, query: &str) -> Value {
    let answer = world
        .call_with("GET", &format!("/{id}/events"), query)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// Id, status and certainty of each event of a page.
fn fates(page: &Value) -> Vec<(String, String, bool)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let events = page["events"].as_array().unwrap();
    let fates = events.iter().map(|it| {
        let is_certain = it["is_certain"].as_bool().unwrap();
        (text(&it["id"]), text(&it["status"]), is_certain)
    });
    fates.collect()
}

fn fate(id: &str, status: &str) -> (String, String, bool) {
    (id.to_owned(), status.to_owned(), true)
}

async fn publish(world: &World, name: &str, n: usize) -> String {
    let event = json!({"name": name, "payload": {"id": format!("R{n}"), "n": n}});
    let id = world.publish(&[event]).await.remove(0);
    world.pass(SECOND);
    id
}

#[tokio::test]
async fn each_event_of_a_webhook_has_its_fate() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let only = json!({"entity_filter": ["order", "return"]});
    world
        .register(
            json!({"id": "erp-1", "integration_type": "permanent", "filter_conditions": only,
            "callback_parameters": {"callback_url": receiver.url()}}),
        )
        .await;
    receiver.answer(|request| match request.text() {
        text if text.contains("return.opened") => Answer::status(400).body("no such order"),
        text if text.contains("order.cancelled") => Answer::status(500),
        _ => Answer::status(204),
    });
    let taken = publish(&world, "order.created", 1).await;
    let rejected = publish(&world, "return.opened", 2).await;
    let failing = publish(&world, "order.cancelled", 3).await;
    publish(&world, "stock.changed", 4).await;
    world.drain().await;
    receiver.wait_for(3, DEADLINE).await.unwrap();

    // Within the seal nothing is certain of what is not noted.
    let soon = page(&world, "erp-1", "").await;
    let sending = (taken.clone(), "sending".to_owned(), false);
    let noted = [fate(&failing, "retrying"), fate(&rejected, "rejected")];
    assert_eq!(fates(&soon), [&noted[..], &[sending]].concat());
    let due_at = soon["events"][0]["next_attempt_at"].as_str();
    assert!(due_at > soon["as_of"].as_str());
    world.pass(SECOND * 15);
    let known = page(&world, "erp-1", "").await;
    assert_eq!(
        fates(&known),
        [&noted[..], &[fate(&taken, "delivered")]].concat()
    );
    let events = known["events"].as_array().unwrap();
    assert_eq!(events[0]["attempts"], 1);
    assert_eq!(
        events[0]["reason"],
        "internal server error (HTTP status code 500)"
    );
    assert_eq!(events[1]["reason"], "no such order");
    assert_eq!(known["as_of"], world.now().to_string());
    assert!(known.get("cursor").is_none());

    // The event alone, with its payload: where it was published, and without a time.
    let published_at = events[2]["published_at"].as_str().unwrap();
    for query in [format!("published_at={published_at}"), String::new()] {
        let path = format!("/erp-1/events/{taken}");
        let one = world.call_with("GET", &path, &query).await;
        assert_eq!(one.status, 200, "{one:?}");
        assert!(
            one.text.contains(r#""payload":{"id":"R1","n":1}"#),
            "{}",
            one.text
        );
        assert_eq!(
            (&one.body["status"], &one.body["is_certain"]),
            (&json!("delivered"), &json!(true))
        );
    }
    let elsewhere = format!("/erp-1/events/{rejected}");
    let query = format!("published_at={}", known["as_of"].as_str().unwrap());
    let elsewhere = world.call_with("GET", &elsewhere, &query).await;
    assert_eq!(elsewhere.status, 404);

    // Only what was asked for.
    for (query, expected) in [
        ("name=return.opened", vec![&rejected]),
        ("status=retrying", vec![&failing]),
        ("status=delivered", vec![&taken]),
        ("payload_id=R2", vec![&rejected]),
        ("payload_id=R", vec![]),
        (&format!("to={published_at}"), vec![]),
        (
            &format!("from={published_at}&name=order.created"),
            vec![&taken],
        ),
    ] {
        let found = page(&world, "erp-1", query).await;
        let ids: Vec<String> = fates(&found).into_iter().map(|(id, ..)| id).collect();
        assert_eq!(ids.iter().collect::<Vec<_>>(), expected, "{query}");
    }

    // Both are taken after all.
    receiver.answer_with(204);
    let retry = format!("/erp-1/rejected_events/{rejected}/_retry");
    assert_eq!(world.call("POST", &retry, "").await.status, 204);
    world.pass(SECOND * 60);
    world.drain_until(DEADLINE, || receiver.count() == 5).await;
    world.drain().await;
    world.pass(SECOND * 15);
    let all = page(&world, "erp-1", "").await;
    let taken_all = [&failing, &rejected, &taken].map(|id| fate(id, "delivered"));
    assert_eq!(fates(&all), taken_all);
}

#[tokio::test]
async fn a_rejected_event_stays_one_when_it_has_to_make_room() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    receiver.answer_with(400);
    let events: Vec<Value> = (0..40)
        .map(|n| json!({"name": "order.created", "payload": {"n": n}}))
        .collect();
    let ids = world.publish(&events).await;
    world.drain().await;
    receiver.wait_for(40, DEADLINE).await.unwrap();
    let listed = world.call("GET", "/erp-1/rejected_events", "").await.body;
    assert_eq!(listed["rejected_events"].as_array().unwrap().len(), 30);
    world.call("DELETE", "/erp-1/rejected_events", "").await;
    let page = page(&world, "erp-1", "limit=100").await;
    let expected: Vec<_> = ids.iter().rev().map(|id| fate(id, "rejected")).collect();
    assert_eq!(fates(&page), expected);
}

#[tokio::test]
async fn what_is_owed_waits_and_a_filter_that_was_changed_is_remembered() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let only = |name: &str| json!({"event_filter": [name]});
    let body = json!({"id": "erp-1", "integration_type": "permanent", "filter_conditions": only("order.created"),
        "callback_parameters": {"callback_url": receiver.url()}});
    let registered_at = world.now();
    world.register(body).await;
    let created = publish(&world, "order.created", 1).await;
    let paid = publish(&world, "order.paid", 2).await;
    world.drain().await;
    receiver.wait_for(1, DEADLINE).await.unwrap();
    world.pass(SECOND * 60);
    world.call("POST", "/erp-1/_stop", "").await;
    world.pass(SECOND * 180);
    let later = publish(&world, "order.paid", 3).await;
    world.drain().await;
    let changed = json!({"filter_conditions": only("order.paid")});
    let changed = world.call("PATCH", "/erp-1", changed).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    world.pass(SECOND * 10);

    let page_of = async || page(&world, "erp-1", "").await;
    let listed = fates(&page_of().await);
    let delivered = |is_certain| (created.clone(), "delivered".to_owned(), is_certain);
    // Whether the first one was sent before its filter was changed is likely, and no more than that.
    let expected = [
        fate(&later, "waiting"),
        fate(&paid, "skipped"),
        delivered(false),
    ];
    assert_eq!(listed, expected);
    let events = page_of().await;
    assert_eq!(events["events"][1]["reason"], "It did not pass the filter.");
    world.call("POST", "/erp-1/_start", "").await;
    world.pass_until(DEADLINE, || receiver.count() == 2).await;
    world.settle().await;
    assert_eq!(fates(&page_of().await)[0], fate(&later, "delivered"));
    // Before it begins nothing was published, and nothing is read.
    let before = page(&world, "erp-1", &format!("to={registered_at}")).await;
    assert_eq!(fates(&before), []);
}

#[tokio::test]
async fn pages_meet_whatever_their_size() {
    for shards in [1, 3] {
        let world = World::with_shards(shards).await;
        world.register_webhook("erp-1", "http://127.0.0.1:9/").await;
        let mut ids = Vec::new();
        for n in 0..7 {
            let events: Vec<Value> = (0..=n * 3)
                .map(|m| json!({"name": "order.created", "payload": {"n": m}}))
                .collect();
            ids.extend(world.publish(&events).await);
            world.drain_ingest().await;
            world.pass(Duration::from_secs(6 * 3600));
        }
        ids.reverse();
        for limit in [1, 5, 100] {
            let (mut found, mut query, mut pages) = (Vec::new(), format!("limit={limit}"), 0);
            loop {
                let page = page(&world, "erp-1", &query).await;
                let fates = fates(&page);
                assert!(fates.len() <= limit);
                found.extend(fates.into_iter().map(|(id, ..)| id));
                pages += 1;
                let Some(cursor) = page["cursor"].as_str() else {
                    break;
                };
                query = format!("limit={limit}&cursor={cursor}");
            }
            // Segments of one publication are in no order of theirs, where there are several.
            let (mut sorted, mut expected) = (found.clone(), ids.clone());
            sorted.sort();
            expected.sort();
            assert_eq!(sorted, expected, "{limit} at a time, {shards} shards");
            assert!(pages >= ids.len() / limit);
        }
    }
}

#[tokio::test]
async fn an_exported_event_has_its_file() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let s3 = json!({"aws_access_key_id": "test", "aws_secret_access_key": "test", "aws_region": "us-east-1", "bucket": bucket});
    let body = json!({"id": "files", "integration_type": "permanent", "s3_parameters": s3});
    assert_eq!(world.call("POST", "/", body).await.status, 200);
    let first = publish(&world, "order.created", 1).await;
    world.drain_ingest().await;
    world.export_tick().await;
    let second = publish(&world, "order.created", 2).await;
    world.drain_ingest().await;
    let listed = page(&world, "files", "").await;
    assert_eq!(
        fates(&listed),
        [fate(&second, "waiting"), fate(&first, "exported")]
    );
    let stored = world.files(&bucket).await;
    assert_eq!(listed["events"][1]["file"], json!(stored[0].0));
    assert!(stored[0].1.contains(r#""n":1"#));
}

#[tokio::test]
async fn another_tenant_sees_nothing_and_bad_parameters_are_refused() {
    let world = World::start().await;
    world.register_webhook("erp-1", "http://127.0.0.1:9/").await;
    let id = publish(&world, "order.created", 1).await;
    world.drain_ingest().await;
    let base = "/api/v1/org/integrations/eventstream/erp-1/events";
    for path in [base.to_owned(), format!("{base}/{id}")] {
        assert_eq!(world.call_as("other", "GET", &path, "").await.status, 404);
    }
    for query in [
        "limit=0",
        "limit=101",
        "limit=ten",
        "limit=+5",
        "status=lost",
        "name=",
        "payload_id=",
        "cursor=x",
        "cursor=",
        "from=yesterday",
        "to=2019-01-01T00:00:00Z&from=2019-01-01T00:00:00Z",
    ] {
        let refused = world.call_with("GET", "/erp-1/events", query).await;
        assert_eq!(refused.status, 400, "{query}");
        let field = query.split('=').next().unwrap();
        let message = refused.body["message"].as_str().unwrap();
        assert!(message.starts_with(field), "{query}: {message}");
    }
    let path = format!("/erp-1/events/{id}");
    let refused = world.call_with("GET", &path, "published_at=x").await;
    assert_eq!(refused.status, 400);
}
