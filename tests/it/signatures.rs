//! Signatures of webhooks, verified by Standard Webhooks' own library, and headers of an integration's own.

use std::time::Duration;

use domain::integration::{Integration, Target};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tests::receiver::{Received, Receiver};

use crate::world::World;

const DEADLINE: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

/// Whether one of a request's signatures is right by this secret. What a receiver would call is `verify`, which also wants the
/// time of now, and tests set the functions' clock.
fn is_genuine(request: &Received, secret: &str) -> bool {
    let header = |name: &str| request.header(name).unwrap();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let webhook = Webhook::new(secret).unwrap();
    let right = webhook.sign(id, timestamp.parse().unwrap(), &request.body);
    let right = right.unwrap();
    header("webhook-signature").split(' ').any(|it| it == right)
}

fn secret_of(body: &Value) -> String {
    body["signing_secret"].as_str().unwrap().to_owned()
}

async fn publish_one(world: &World, receiver: &Receiver) -> Received {
    receiver.clear();
    world
        .publish(&[json!({"name": "order.created", "payload": {"e": "é", "n": 1.10}})])
        .await;
    world.drain().await;
    receiver.wait_for(1, DEADLINE).await.unwrap().remove(0)
}

async fn stored(world: &World, id: &str) -> Integration {
    world
        .ingest
        .integrations
        .get(&world.tenant, id)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_webhook_is_signed_with_a_secret_that_is_shown_once() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let registered = world.register_webhook("erp-1", &receiver.url()).await.body;
    let secret = secret_of(&registered);
    assert!(
        secret.starts_with("whsec_") && secret.len() == 50,
        "{secret}"
    );
    assert!(registered["signing"]["created_at"].is_string());

    let request = publish_one(&world, &receiver).await;
    assert!(is_genuine(&request, &secret));
    let signature = request.header("webhook-signature").unwrap();
    assert!(!signature.contains(' '), "{signature}");

    // A byte more, another id, another time, another secret: not genuine.
    let forged = |change: fn(&mut Received)| {
        let mut request = request.clone();
        change(&mut request);
        is_genuine(&request, &secret)
    };
    assert!(!forged(|it| it.body.push(b' ')));
    assert!(!forged(|it| drop(
        it.headers.insert("webhook-id", "other".parse().unwrap())
    )));
    assert!(!forged(|it| drop(
        it.headers.insert("webhook-timestamp", "1".parse().unwrap())
    )));
    let other = receiver.url();
    let other = secret_of(&world.register_webhook("erp-2", &other).await.body);
    assert!(!is_genuine(&request, &other));

    let shown = world.call("GET", "/erp-1", "").await.text;
    let listed = world.call("GET", "/", "").await.text;
    let log = world.call("GET", "/erp-1/log", "").await.text;
    let item = serde_json::to_string(&stored(&world, "erp-1").await).unwrap();
    for text in [shown, listed, log, item] {
        assert!(!text.contains(&secret[6..]), "{text}");
    }
}

#[tokio::test]
async fn both_secrets_sign_during_the_overlap_of_a_rotation() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let first = secret_of(&world.register_webhook("erp-1", &receiver.url()).await.body);
    // While it runs, without a body: a day.
    let rotated = world
        .call("POST", "/erp-1/_rotate_signing_secret", "")
        .await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let second = secret_of(&rotated.body);
    assert_ne!(first, second);
    let ends_at = world.now().after(HOUR * 24).to_string();
    assert_eq!(rotated.body["signing"]["overlap_ends_at"], ends_at);
    world.pass(Duration::from_secs(1));
    let request = publish_one(&world, &receiver).await;
    assert!(is_genuine(&request, &first) && is_genuine(&request, &second));

    world.pass(HOUR * 24);
    world.settle().await;
    let request = publish_one(&world, &receiver).await;
    assert!(!is_genuine(&request, &first) && is_genuine(&request, &second));

    let at_once = world
        .call(
            "POST",
            "/erp-1/_rotate_signing_secret",
            r#"{"overlap_hours":0}"#,
        )
        .await;
    let third = secret_of(&at_once.body);
    assert!(at_once.body["signing"].get("overlap_ends_at").is_none());
    world.pass(Duration::from_secs(1));
    let request = publish_one(&world, &receiver).await;
    assert!(!is_genuine(&request, &second) && is_genuine(&request, &third));

    let entry = world.entry("erp-1", "integration_updated").await;
    assert!(
        entry["reason"]
            .as_str()
            .unwrap()
            .starts_with("Signing secret rotated"),
        "{entry}"
    );
    for (body, status) in [
        (r#"{"overlap_hours":169}"#, 400),
        (r#"{"overlap_hours":-1}"#, 400),
        (r#"{"hours":1}"#, 400),
        ("[]", 400),
    ] {
        let refused = world
            .call("POST", "/erp-1/_rotate_signing_secret", body)
            .await;
        assert_eq!(refused.status, status, "{body}: {refused:?}");
    }
    let missing = world
        .call("POST", "/erp-9/_rotate_signing_secret", "")
        .await;
    assert_eq!(missing.status, 404);
    let path = "/api/v1/org/integrations/eventstream/erp-1/_rotate_signing_secret";
    assert_eq!(world.call_as("other", "POST", path, "").await.status, 404);
}

#[tokio::test]
async fn an_integration_from_before_signatures_is_signed_from_its_first_rotation_on() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    let mut before = stored(&world, "erp-1").await;
    let Target::Webhook { callback, .. } = &mut before.target else {
        panic!("a webhook")
    };
    callback.signing = None;
    world
        .ingest
        .integrations
        .replace(before, &[])
        .await
        .unwrap();
    assert!(
        world
            .call("GET", "/erp-1", "")
            .await
            .body
            .get("signing")
            .is_none()
    );
    world.pass(Duration::from_secs(1));
    let request = publish_one(&world, &receiver).await;
    assert_eq!(request.header("webhook-signature"), None);

    let rotated = world
        .call("POST", "/erp-1/_rotate_signing_secret", "{}")
        .await;
    world.pass(Duration::from_secs(1));
    let request = publish_one(&world, &receiver).await;
    assert!(is_genuine(&request, &secret_of(&rotated.body)));
}

#[tokio::test]
async fn headers_of_its_own_are_sent_masked_and_kept() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let callback = |headers: Value| json!({"callback_url": receiver.url(), "headers": headers});
    let body = |id: &str, headers: Value| json!({"id": id, "integration_type": "permanent", "callback_parameters": callback(headers)});
    let given = json!({"X-Shop": "shop-api-key-47110c5e", "x-plain": "a b"});
    let registered = world.register(body("erp-1", given)).await.body;
    let shown = json!({"x-shop": "*****************0c5e", "x-plain": "***"});
    assert_eq!(registered["callback_parameters"]["headers"], shown);
    let request = publish_one(&world, &receiver).await;
    assert_eq!(request.header("x-shop"), Some("shop-api-key-47110c5e"));
    assert_eq!(request.header("x-plain"), Some("a b"));
    assert_eq!(request.header("content-type"), Some("application/json"));

    // A mask that comes back keeps the value; a name that does not is removed.
    world.call("POST", "/erp-1/_stop", "").await;
    let headers = json!({"x-shop": shown["x-shop"], "x-new": "new"});
    let update = json!({"callback_parameters": {"headers": headers}});
    let updated = world.call("PATCH", "/erp-1", update).await;
    assert_eq!(updated.status, 200, "{updated:?}");
    world.call("POST", "/erp-1/_start", "").await;
    world.settle().await;
    let request = publish_one(&world, &receiver).await;
    assert_eq!(request.header("x-shop"), Some("shop-api-key-47110c5e"));
    assert_eq!(request.header("x-new"), Some("new"));
    assert_eq!(request.header("x-plain"), None);

    let many: serde_json::Map<String, Value> =
        (0..11).map(|n| (format!("x-{n}"), json!("v"))).collect();
    for headers in [
        json!({"Authorization": "Bearer x"}),
        json!({"host": "other"}),
        json!({"Webhook-Id": "x"}),
        json!({"transfer-encoding": "chunked"}),
        json!({"x shop": "v"}),
        json!({"": "v"}),
        json!({"x-shop": ""}),
        json!({"x-shop": " v"}),
        json!({"x-shop": "a\r\nb: c"}),
        json!({"x-shop": "é"}),
        json!({"X-Shop": "a", "x-shop": "b"}),
        json!({"x-shop": "****"}),
        json!({"x-shop": 7}),
        json!(["x-shop"]),
        Value::Object(many),
    ] {
        let refused = world
            .call("POST", "/", body("erp-2", headers.clone()))
            .await;
        assert_eq!(refused.status, 400, "{headers}: {refused:?}");
        let message = refused.body["message"].as_str().unwrap();
        assert!(message.contains("callback_parameters.headers"), "{message}");
    }
}
