//! An event becomes a webhook: bodies, headers, filters, tenants, and what the receiver's response does.

use std::time::{Duration, Instant};

use domain::integration::IntegrationRef;
use domain::time::Millis;
use serde_json::json;
use shared::recent::Recent;
use shared::store::Table;
use shared::store::integrations::Integrations;
use shared::store::rejected_events::{Rejected, RejectedEvents};
use tests::proxy::Moment;
use tests::receiver::{Answer, Receiver};

use crate::exports_world::{config_for, proxy};
use crate::world::World;

const DEADLINE: Duration = Duration::from_secs(20);

/// The payload that no JSON library would give back as it is.
pub const FRAGILE: &str =
    r#"{"price":1.10,"big":12345678901234567890,"e":1e400,"u":"\u00e9 é","z":1,"a":2}"#;

#[tokio::test]
async fn a_webhook_has_the_contracts_headers_and_the_payloads_bytes() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let url = format!("{}/hook?x=1", receiver.url());
    let callback = json!({"callback_url": url, "api_key": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"});
    world.register(json!({"id": "erp-1", "integration_type": "permanent", "callback_parameters": callback})).await;
    let published_at = world.now();
    let ids = world
        .publish_text(&format!(
            r#"{{"name":"order.created","payload":{FRAGILE}}}"#
        ))
        .await;
    world.drain().await;
    let received = receiver.wait_for(1, DEADLINE).await.unwrap();
    assert_eq!(received.len(), 1);
    let post = &received[0];
    let tenant = &world.tenant;
    assert_eq!(
        post.text(),
        format!(
            r#"{{"tenant":"{tenant}","name":"order.created","published_at":"{published_at}","payload":{FRAGILE}}}"#
        )
    );
    assert_eq!(post.method, "POST");
    assert_eq!(post.path, "/hook?x=1");
    assert_eq!(post.header("content-type"), Some("application/json"));
    assert_eq!(
        post.header("authorization"),
        Some("Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9")
    );
    assert_eq!(post.header("webhook-id"), Some(ids[0].as_str()));
    assert_eq!(
        post.header("webhook-timestamp"),
        Some((published_at.0 / 1000).to_string().as_str())
    );
    assert!(
        post.header("user-agent")
            .unwrap()
            .starts_with("event-stream/")
    );
}

#[tokio::test]
async fn an_event_of_the_bus_arrives_with_eventbridges_id() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    let (tenant, published_at) = (world.tenant.clone(), world.now());
    world
        .send_to_ingest(&format!(
            r#"{{"version":"0","id":"6a7e8feb-b491-4cf7-a9f1-bf3703467718","detail-type":"return.processed","source":"shop","detail":{{"tenant":"{tenant}","payload":{FRAGILE}}}}}"#
        ))
        .await;
    world.drain().await;
    let events = receiver.events();
    let body = format!(
        r#"{{"tenant":"{tenant}","name":"return.processed","published_at":"{published_at}","payload":{FRAGILE}}}"#
    );
    assert_eq!(
        events,
        [("6a7e8feb-b491-4cf7-a9f1-bf3703467718".to_owned(), body)]
    );
}

#[tokio::test]
async fn only_what_passes_the_filter_and_belongs_to_the_tenant_arrives() {
    let world = World::start().await;
    let all = [
        "order.created",
        "order.completed",
        "return.processed",
        "order_line.created",
    ];
    let cases = [
        ("none", json!(null), vec![0, 1, 2, 3]),
        ("empty", json!({}), vec![0, 1, 2, 3]),
        (
            "lists",
            json!({"event_filter": [], "entity_filter": []}),
            vec![0, 1, 2, 3],
        ),
        ("event", json!({"event_filter": ["order.created"]}), vec![0]),
        ("entity", json!({"entity_filter": ["order"]}), vec![0, 1]),
        (
            "beside",
            json!({"event_filter": [], "entity_filter": ["order"]}),
            vec![0, 1],
        ),
        (
            "either",
            json!({"event_filter": ["order.created"], "entity_filter": ["return"]}),
            vec![0, 2],
        ),
    ];
    let mut receivers = Vec::new();
    for (id, filter, _) in &cases {
        let receiver = Receiver::start().await;
        let callback = json!({"callback_url": receiver.url()});
        let body = json!({"id": id, "integration_type": "permanent", "callback_parameters": callback, "filter_conditions": filter});
        assert_eq!(world.call("POST", "/", body).await.status, 200);
        receivers.push(receiver);
    }
    world.settle().await;
    let events: Vec<_> = all
        .iter()
        .map(|name| json!({"name": name, "payload": {}}))
        .collect();
    let ids = world.publish(&events).await;
    let stranger = json!({"name": "order.created", "payload": {}}).to_string();
    assert_eq!(
        world
            .call_as("stranger", "POST", "/api/v1/org/events", &stranger)
            .await
            .status,
        202
    );
    world.drain().await;
    for ((id, _, expected), receiver) in cases.iter().zip(&receivers) {
        let mut arrived: Vec<String> = receiver.events().into_iter().map(|(id, _)| id).collect();
        arrived.sort();
        let mut expected: Vec<String> = expected.iter().map(|index| ids[*index].clone()).collect();
        expected.sort();
        assert_eq!(arrived, expected, "{id}");
    }
}

#[tokio::test]
async fn a_burst_arrives_once_each() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    let mut published = Vec::new();
    for batch in 0..4 {
        let events: Vec<_> = (0..125)
            .map(|index| json!({"name": "order.created", "payload": {"n": batch * 125 + index}}))
            .collect();
        published.extend(world.publish(&events).await);
    }
    world.drain().await;
    let mut arrived: Vec<String> = receiver.events().into_iter().map(|(id, _)| id).collect();
    arrived.sort();
    published.sort();
    assert_eq!(arrived, published);
}

#[tokio::test]
async fn a_400_rejects_the_event_and_keeps_30() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    receiver.answer_with(400);
    let mut ids = Vec::new();
    for index in 0..31 {
        ids.extend(
            world
                .publish(&[json!({"name": "order.created", "payload": {"n": index}})])
                .await,
        );
        world.drain().await;
        world.pass(Duration::from_secs(1));
    }
    let list = world.call("GET", "/erp-1/rejected_events", "").await;
    let rejected: Vec<&str> = list.body["rejected_events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        rejected,
        ids.iter()
            .skip(1)
            .rev()
            .map(String::as_str)
            .collect::<Vec<_>>()
    );
    let actions = world.actions("erp-1").await;
    let evicted = &world.entry("erp-1", "rejected_event_evicted").await["reason"];
    let expected = format!(
        "Rejected event {} was removed to make room: only the last 30 are kept. To send such events again, register a temporary integration whose range of dates and filter include them.",
        ids[0]
    );
    assert_eq!(*evicted, expected);
    assert_eq!(
        actions
            .iter()
            .filter(|action| *action == "event_rejected")
            .count(),
        31
    );
    let newest = world
        .call("GET", &format!("/erp-1/rejected_events/{}", ids[30]), "")
        .await;
    assert_eq!(newest.text, receiver.events()[30].1);
    assert_eq!(
        world
            .call("DELETE", &format!("/erp-1/rejected_events/{}", ids[30]), "")
            .await
            .status,
        204
    );
    assert_eq!(
        world
            .call("GET", &format!("/erp-1/rejected_events/{}", ids[30]), "")
            .await
            .status,
        404
    );
    assert_eq!(
        world
            .call("DELETE", &format!("/erp-1/rejected_events/{}", ids[30]), "")
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_storm_of_rejections_is_kept_and_logged_as_far_as_it_can_be_read() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    receiver.answer_with(400);
    let events: Vec<_> = (0..400)
        .map(|n| json!({"name": "order.created", "payload": {"n": n}}))
        .collect();
    world.publish(&events).await;
    let began = Instant::now();
    world.drain().await;
    assert_eq!(receiver.count(), 400, "it holds nothing up");
    // Eight runs of 50: the first of each, one a second, and the rest.
    let most = 8 * (2 + began.elapsed().as_secs() as usize);
    let actions = world.actions("erp-1").await;
    let count = |action: &str| actions.iter().filter(|found| *found == action).count();
    assert!((8..=most).contains(&count("event_rejected")), "{actions:?}");
    assert!(
        (1..=most).contains(&count("rejected_event_evicted")),
        "{actions:?}"
    );
    // The world's clock stands still, so that the order of the entries says nothing.
    let log = world.call("GET", "/erp-1/log", "").await.text;
    assert!(
        log.contains(" more events were rejected since the entry before."),
        "{log}"
    );
    let list = world.call("GET", "/erp-1/rejected_events", "").await;
    let rejected = list.body["rejected_events"].as_array().unwrap();
    assert_eq!(rejected.len(), 30);
    for event in rejected {
        let path = format!("/erp-1/rejected_events/{}", event["id"].as_str().unwrap());
        assert_eq!(world.call("GET", &path, "").await.status, 200);
    }
}

#[tokio::test]
async fn an_event_that_is_rejected_again_while_it_is_evicted_stays_with_its_payload() {
    let (world, proxy) = (World::start().await, proxy().await);
    let integration_ref = IntegrationRef {
        tenant: world.tenant.clone(),
        integration_id: "erp-1".to_owned(),
        generation: world.clock.ulid(),
    };
    let rejected = |n: u64| Rejected {
        event_id: format!("event-{}", n % 31),
        created_at: Millis(n),
        answer: "no".to_owned(),
        event: None,
    };
    let store = &world.delivery.rejected_events;
    for n in 0..31 {
        let event = rejected(n);
        store.put(&integration_ref, &event, "{}").await.unwrap();
    }
    let dynamodb = aws_sdk_dynamodb::Client::new(&config_for(&proxy.url()).await);
    let other = RejectedEvents::new(Table::new(dynamodb, world.tables.integrations.clone()));
    // A query, and the eviction of the first one, which is held up until that has been rejected again.
    proxy.hold(2, Moment::Before);
    let evicting = other.evict(&integration_ref);
    let meanwhile = async {
        proxy.held().await;
        let again = rejected(31);
        let put = store.put(&integration_ref, &again, r#"{"again":1}"#);
        put.await.unwrap();
        proxy.release();
        store.evict(&integration_ref).await.unwrap()
    };
    let (evicted, evicted_meanwhile) = tokio::join!(evicting, meanwhile);
    assert_eq!(evicted.unwrap(), [""; 0]);
    assert_eq!(evicted_meanwhile, ["event-1"]);
    let listed = store.list(&integration_ref).await.unwrap();
    assert_eq!((listed.len(), listed[0].event_id.as_str()), (30, "event-0"));
    let envelope = store.get(&integration_ref, "event-0").await.unwrap();
    assert_eq!(envelope, r#"{"again":1}"#);
}

#[tokio::test]
async fn a_failed_attempt_is_made_again_with_the_same_body() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    // A wish, which no run tries to wait for.
    receiver.answer(|_| Answer::status(429).header("retry-after", "2"));
    world
        .publish(&[json!({"name": "order.created", "payload": {"n": 1}})])
        .await;
    world.drain().await;
    assert_eq!(receiver.count(), 1);
    let entry = world.entry("erp-1", "retry_triggered").await;
    let body = &receiver.events()[0].1;
    let reason = format!(
        "Request to URL {} failed. Reason: too many requests (HTTP status code 429). Payload: {body}",
        receiver.url()
    );
    assert_eq!(entry["reason"], reason);
    receiver.answer_with(204);
    world.pass_until(DEADLINE, || receiver.count() == 2).await;
    let events = receiver.events();
    assert_eq!(events[0], events[1]);
    world.settle().await;
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn a_410_stops_the_integration_and_loses_nothing() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    receiver.answer_with(410);
    let ids = world
        .publish(&[json!({"name": "order.created", "payload": {}})])
        .await;
    world.drain().await;
    assert_eq!(
        world.call("GET", "/erp-1", "").await.body["status"],
        "stopped"
    );
    assert_eq!(
        world.actions("erp-1").await,
        ["integration_stopped", "integration_started"]
    );
    receiver.clear();
    receiver.answer_with(200);
    assert_eq!(world.call("POST", "/erp-1/_start", "").await.status, 200);
    world.settle().await;
    assert_eq!(
        receiver
            .events()
            .into_iter()
            .map(|(id, _)| id)
            .collect::<Vec<_>>(),
        ids
    );
}

#[tokio::test]
async fn what_nobody_can_read_goes_to_the_dead_letter_queue_and_holds_up_nobody() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    let good = json!({"tenant": world.tenant, "events": [{"id": "1", "name": "order.created", "payload": {}}]}).to_string();
    for text in [
        "not json",
        good.as_str(),
        "{\"detail-type\":\"order.created\"}",
    ] {
        world.send_to_ingest(text).await;
    }
    world.drain().await;
    assert_eq!(receiver.count(), 1);
    let mut dead = world.dead_letters().await;
    dead.sort();
    assert_eq!(dead, ["not json", "{\"detail-type\":\"order.created\"}"]);
}

#[tokio::test]
async fn a_task_that_another_version_may_read_is_given_up_at_its_fifth_receive() {
    let world = World::start().await;
    let received = async |count: u32| {
        let record = json!({"messageId": "m", "receiptHandle": "r", "body": "{\"of\":\"tomorrow\"}", "attributes": {"ApproximateReceiveCount": count.to_string()}});
        let batch = serde_json::from_value(json!({"Records": [record]})).unwrap();
        let batch = delivery::Invocation::Batch(batch);
        let delivery::Answer::Batch(response) =
            delivery::handle(&world.delivery, batch, Duration::from_secs(30))
                .await
                .unwrap()
        else {
            panic!("a batch was asked for")
        };
        response.batch_item_failures.len()
    };
    for count in 1..5 {
        assert_eq!(received(count).await, 1, "it comes again");
        assert_eq!(world.dead_letters().await, [""; 0]);
    }
    assert_eq!(received(5).await, 0);
    assert_eq!(world.dead_letters().await, ["{\"of\":\"tomorrow\"}"]);
}

#[tokio::test]
async fn what_fails_on_our_side_comes_again_within_seconds() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    let ids = world
        .publish(&[json!({"name": "order.created", "payload": {}})])
        .await;
    world.drain_ingest().await;
    let dynamodb = aws_sdk_dynamodb::Client::new(&shared::aws::config());
    let broken = delivery::App {
        recent: Recent::new(
            Integrations::new(Table::new(dynamodb, "no-such-table".to_owned())),
            world.services(&shared::aws::config()).secrets(),
        ),
        ..world.other_delivery(&shared::aws::config())
    };
    assert_eq!(world.hand_to(&broken).await, 1);
    assert_eq!(receiver.count(), 0);
    // The queue's own visibility time-out is 30 s.
    let within = Duration::from_secs(10);
    world.drain_until(within, || receiver.count() > 0).await;
    assert_eq!(receiver.events()[0].0, ids[0]);
}

#[tokio::test]
async fn one_receiver_that_is_down_does_not_hold_up_another() {
    let (world, up, down) = (
        World::start().await,
        Receiver::start().await,
        Receiver::start().await,
    );
    world.register_webhook("up", &up.url()).await;
    world.register_webhook("down", &down.url()).await;
    drop(down);
    world
        .publish(&[json!({"name": "order.created", "payload": {}})])
        .await;
    world.drain().await;
    assert_eq!(up.count(), 1);
    let entry = world.entry("down", "retry_triggered").await;
    assert!(
        entry["reason"]
            .as_str()
            .unwrap()
            .contains("Reason: the connection was refused. Payload: ")
    );
}

#[tokio::test]
async fn published_at_is_the_time_of_acceptance() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    world
        .clock
        .set(Millis::parse("2027-01-01T12:00:00.007Z").unwrap());
    world
        .publish(&[json!({"name": "order.created", "payload": {}})])
        .await;
    world.drain().await;
    assert!(
        receiver.events()[0]
            .1
            .contains(r#""published_at":"2027-01-01T12:00:00.007Z""#)
    );
}
