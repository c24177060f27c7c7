//! What callers entrust to us: it is found nowhere, nothing decrypts it for another integration, nothing replaces it.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use domain::integration::{Access, Target};
use domain::secret::Secret;
use serde_json::json;
use tests::receiver::{Answer, Receiver};
use tracing_subscriber::util::SubscriberInitExt;

use crate::world::World;

/// What traces are written to.
#[derive(Clone, Default)]
struct Traces(Arc<Mutex<Vec<u8>>>);

impl Write for Traces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that a run has written, to be searched.
#[derive(Default)]
struct Written(Vec<(String, String)>);

impl Written {
    fn add(&mut self, place: &str, text: String) {
        self.0.push((place.to_owned(), text));
    }

    /// Every message that can be received now; they stay in their queues.
    async fn add_queues(&mut self, world: &World) {
        let queues = &world.queues;
        for url in [
            &queues.ingest,
            &queues.delivery,
            &queues.replay,
            &queues.export,
            &queues.dead_letters,
        ] {
            let answer = world
                .sqs
                .receive_message()
                .queue_url(url)
                .max_number_of_messages(10)
                .visibility_timeout(0);
            for message in answer.send().await.unwrap().messages.unwrap_or_default() {
                self.add(url, message.body.unwrap());
            }
        }
    }

    /// Every item of the world's tables.
    async fn add_tables(&mut self, world: &World) {
        let client = aws_sdk_dynamodb::Client::new(&shared::aws::config());
        let mut tables = client.list_tables().into_paginator().items().send();
        while let Some(table) = tables.try_next().await.unwrap() {
            if !table.starts_with(&world.tenant) {
                continue;
            }
            let scan = client.scan().table_name(&table).into_paginator();
            let mut items = scan.items().send();
            while let Some(item) = items.try_next().await.unwrap() {
                for (name, value) in item {
                    self.add(&format!("{table}: {name}"), readable(&value));
                }
            }
        }
    }

    /// Where any of `secrets` stands, as it is or in base64.
    fn places_of(&self, secrets: &[&str]) -> Vec<String> {
        let mut places = Vec::new();
        for secret in secrets {
            // Base64 without its first and last characters, which depend on the neighbours.
            let encoded: Vec<String> = (0..3)
                .map(|skipped| BASE64_STANDARD.encode(&secret.as_bytes()[skipped..]))
                .map(|text| text.trim_end_matches('=')[..text.len().min(12)].to_owned())
                .collect();
            for (place, text) in &self.0 {
                if text.contains(secret) || encoded.iter().any(|encoded| text.contains(encoded)) {
                    places.push(format!("{secret} in {place}: {text}"));
                }
            }
        }
        places
    }
}

fn readable(value: &AttributeValue) -> String {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.clone(),
        AttributeValue::B(bytes) => {
            let unpacked =
                zstd::decode_all(bytes.as_ref()).unwrap_or_else(|_| bytes.clone().into_inner());
            String::from_utf8_lossy(&unpacked).into_owned()
        }
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn secrets_stand_nowhere_in_what_a_run_has_written() {
    const KEYS: [&str; 6] = [
        "first-api-key-3f9c7e21",
        "second-api-key-8b64d0aa",
        "secret-access-key-51e2c9f7",
        "other-access-key-a07d3be4",
        "refused\u{e9}key-77c1f0d2",
        "misplaced-key-90be12c3",
    ];
    let traces = Traces::default();
    let writer = traces.clone();
    let _guard = shared::telemetry::subscriber("trace", move || writer.clone()).set_default();
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let mut written = Written::default();
    let call = async |method: &str, path: &str, body: String| {
        let answer = world.call(method, path, body).await;
        (format!("{method} {path}"), answer.text, answer.status)
    };

    // Registered, updated, masked and sent back, refused, misplaced, and in a text that is no JSON.
    let bucket = world.bucket().await;
    let callback = |key: &str| json!({"callback_url": receiver.url(), "api_key": key});
    let s3 = |key: &str| json!({"aws_access_key_id": "test", "aws_secret_access_key": key, "aws_region": "us-east-1", "bucket": bucket});
    let webhook = json!({"id": "hook", "integration_type": "permanent", "callback_parameters": callback(KEYS[0])});
    let files =
        json!({"id": "files", "integration_type": "permanent", "s3_parameters": s3(KEYS[2])});
    let mut refused = webhook.clone();
    refused["id"] = json!("refused");
    refused["callback_parameters"] = callback(KEYS[4]);
    let mut misplaced = webhook.clone();
    misplaced["callback_parameters"]["callback_url"] = json!([KEYS[5]]);
    let broken = webhook.to_string().replace(KEYS[0], KEYS[5]) + "}";
    for (method, path, body, status) in [
        ("POST", "/", webhook.to_string(), 200),
        ("POST", "/", files.to_string(), 200),
        ("POST", "/", webhook.to_string(), 409),
        ("POST", "/", refused.to_string(), 400),
        ("POST", "/", misplaced.to_string(), 400),
        ("POST", "/", broken, 400),
        ("POST", "/hook/_stop", String::new(), 200),
        ("POST", "/files/_stop", String::new(), 200),
        (
            "PATCH",
            "/hook",
            json!({"callback_parameters": callback(KEYS[1])}).to_string(),
            200,
        ),
        (
            "PATCH",
            "/files",
            json!({"s3_parameters": s3(KEYS[3])}).to_string(),
            200,
        ),
        (
            "PATCH",
            "/hook",
            json!({"callback_parameters": {"api_key": {"a": KEYS[5]}}}).to_string(),
            400,
        ),
        ("POST", "/hook/_start", String::new(), 200),
        ("POST", "/files/_start", String::new(), 200),
        ("GET", "/", String::new(), 200),
    ] {
        let (place, text, answered) = call(method, path, body).await;
        assert_eq!(answered, status, "{place}: {text}");
        written.add(&place, text);
        written.add_queues(&world).await;
    }
    world.settle().await;

    // Delivered, refused for now, rejected, gone; uploaded, and refused by the bucket.
    for status in [200, 503, 400, 410] {
        receiver.answer(move |_| Answer::status(status).body("an answer"));
        world
            .publish(&[json!({"name": "order.created", "payload": {"n": status}})])
            .await;
        written.add_queues(&world).await;
        world.drain_ingest().await;
        written.add_queues(&world).await;
        world.drain().await;
        world.pass(Duration::from_secs(3));
    }
    world.export_tick().await;
    assert_eq!(world.files(&bucket).await.len(), 1);
    world
        .s3
        .delete_object()
        .bucket(&bucket)
        .key(&world.files(&bucket).await[0].0)
        .send()
        .await
        .unwrap();
    world
        .s3
        .delete_bucket()
        .bucket(&bucket)
        .send()
        .await
        .unwrap();
    world
        .publish(&[json!({"name": "order.created", "payload": {}})])
        .await;
    world.drain_ingest().await;
    world.export_tick().await;
    for path in [
        "/",
        "/hook",
        "/files",
        "/hook/log",
        "/files/log",
        "/hook/rejected_events",
    ] {
        let (place, text, _) = call("GET", path, String::new()).await;
        written.add(&place, text);
    }
    assert!(
        world
            .actions("files")
            .await
            .contains(&"export_failed".to_owned())
    );

    // The receiver got the second key: the run had the secrets, and used them.
    let authorization = format!("Bearer {}", KEYS[1]);
    assert!(
        receiver
            .received()
            .iter()
            .any(|it| it.header("authorization") == Some(&authorization))
    );
    tracing::info!("these are the traces");
    written.add_queues(&world).await;
    written.add_tables(&world).await;
    let traced = String::from_utf8(traces.0.lock().unwrap().clone()).unwrap();
    assert!(traced.contains("these are the traces"));
    written.add("traces", traced);
    written.add(
        "Debug",
        format!("{:?} {:?} {:?}", world.api, world.delivery, world.export),
    );

    assert_eq!(written.places_of(&KEYS), Vec::<String>::new());
    // What is searched is what was written: the mask of the second key, in a table and in a response, and an event's payload.
    let everything: String = written.0.iter().map(|(_, text)| text.as_str()).collect();
    for there in [
        "*******************d0aa",
        "\"cipher\":",
        "\"n\":503",
        "retry_triggered",
        "event_rejected",
    ] {
        assert!(everything.contains(there), "{there}");
    }
    written.add(
        "a planted one",
        BASE64_STANDARD.encode(format!("x{}y", KEYS[0])),
    );
    assert_eq!(written.places_of(&KEYS).len(), 1);
}

#[tokio::test]
async fn a_secret_decrypts_for_the_integration_that_it_was_given_for_and_for_no_other() {
    let world = World::start().await;
    let secret = Secret::new("api-key-of-erp-1".to_owned());
    let stored = world
        .api
        .secrets
        .encrypt("acme", "erp-1", &secret)
        .await
        .unwrap();
    let decrypt = |tenant, id| world.delivery.secrets.decrypt(tenant, id, &stored);
    assert_eq!(
        decrypt("acme", "erp-1").await.unwrap().expose(),
        secret.expose()
    );
    // Also while it is kept decrypted for its owner.
    for (tenant, id) in [
        ("acme", "erp-2"),
        ("globex", "erp-1"),
        ("acme", ""),
        ("", "erp-1"),
        ("erp-1", "acme"),
    ] {
        assert!(decrypt(tenant, id).await.is_err(), "{tenant} {id}");
    }
}

#[tokio::test]
async fn a_cipher_that_is_moved_to_another_integration_is_not_sent_anywhere() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    for id in ["owner", "thief"] {
        let callback = json!({"callback_url": format!("{}/{id}", receiver.url()), "api_key": format!("api-key-of-{id}")});
        world
            .register(
                json!({"id": id, "integration_type": "permanent", "callback_parameters": callback}),
            )
            .await;
    }
    let owner = world
        .api
        .integrations
        .get(&world.tenant, "owner")
        .await
        .unwrap();
    let Target::Webhook {
        callback: owners, ..
    } = owner.target
    else {
        panic!("a webhook")
    };
    let integrations = &world.api.integrations;
    let mut thief = integrations.get(&world.tenant, "thief").await.unwrap();
    if let Target::Webhook { callback, .. } = &mut thief.target {
        callback.api_key.clone_from(&owners.api_key);
    }
    integrations.replace(thief, &[]).await.unwrap();
    world
        .publish(&[json!({"name": "order.created", "payload": {}})])
        .await;
    world.drain_ingest().await;
    let failed = world.deliver_once().await;
    assert_eq!(failed, 1, "the thief's task is handed back");
    let received = receiver.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].path, "/owner");
}

/// A bucket's service that refuses every key; the requests that came to it.
async fn export_with_keys(access_key_id: &str, body: &str) -> (World, Receiver) {
    let (mut world, s3) = (World::start().await, Receiver::start().await);
    let body = body.to_owned();
    s3.answer(move |_| {
        Answer::status(403)
            .header("content-type", "application/xml")
            .body(body.clone())
    });
    // With the default chain of credentials, as the function has it: here it finds the emulator's key.
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest());
    world.export.sdk_config = config.endpoint_url(s3.url()).load().await;
    let parameters = json!({"aws_access_key_id": "AKIAWRONG", "aws_secret_access_key": "wrong-secret", "aws_region": "us-east-1", "bucket": "a-bucket"});
    world
        .register(
            json!({"id": "files", "integration_type": "permanent", "s3_parameters": parameters}),
        )
        .await;
    let integrations = &world.api.integrations;
    let mut files = integrations.get(&world.tenant, "files").await.unwrap();
    if let Target::S3 { bucket, .. } = &mut files.target
        && let Access::Key {
            aws_access_key_id, ..
        } = &mut bucket.access
    {
        *aws_access_key_id = access_key_id.to_owned();
    }
    integrations.replace(files, &[]).await.unwrap();
    world
        .publish(&[json!({"name": "order.created", "payload": {}})])
        .await;
    world.drain_ingest().await;
    world.export_tick().await;
    (world, s3)
}

#[tokio::test]
async fn a_wrong_or_empty_key_of_a_bucket_fails_and_the_functions_own_is_not_used() {
    let refusal = "<Error><Code>InvalidAccessKeyId</Code><Message>no</Message></Error>";
    // The functions' own key, which any default chain would find here.
    let own = shared::env::required("AWS_ACCESS_KEY_ID");
    for key in ["AKIAWRONG", ""] {
        let (world, s3) = export_with_keys(key, refusal).await;
        assert_eq!(world.actions("files").await[0], "export_failed", "{key:?}");
        for request in s3.received() {
            let authorization = request.header("authorization").unwrap_or_default();
            assert!(
                !authorization.contains(&format!("Credential={own}/")),
                "{key:?}: {authorization}"
            );
            assert!(
                authorization.contains(&format!("Credential={key}/")),
                "{key:?}: {authorization}"
            );
            assert_eq!(request.header("x-amz-security-token"), None);
        }
        if !key.is_empty() {
            assert_eq!(
                s3.count(),
                1,
                "one attempt with the given key, and none after it"
            );
        }
    }
}
