//! What the tests of exports have in common: a log of known lines, runs through a proxy, buckets read back.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig};
use domain::integration::Integration;
use domain::time::Millis;
use serde_json::{Value, json};
use shared::env::required;
use tests::proxy::Proxy;
use ulid::Ulid;
use uuid::Uuid;

use crate::world::{World, run_export};

/// The position of an integration's export, and the key of its plan.
pub struct Progress {
    /// Everything before is in a file, or will be by the plan.
    pub boundary: Ulid,
    pub planned_key: Option<String>,
}

/// A line that files have to have.
#[derive(Clone, Debug)]
pub struct Line {
    pub at: Millis,
    pub name: &'static str,
    pub text: String,
}

/// A permanent integration, with the key of a customer who may put objects and do nothing else.
pub fn s3(id: &str, bucket: &str) -> Value {
    json!({
        "id": id, "integration_type": "permanent",
        "s3_parameters": {
            "aws_access_key_id": required("EVENTSTREAM_BUCKET_ACCESS_KEY_ID"),
            "aws_secret_access_key": required("EVENTSTREAM_BUCKET_SECRET_ACCESS_KEY"),
            "aws_region": "us-east-1", "bucket": bucket, "key_prefix": "newstore_integration_002",
        },
    })
}

/// A batch of one task for an integration, as its queue hands it over.
pub fn batch(world: &World, id: &str) -> export::Invocation {
    let task = json!({"tenant": world.tenant, "integration_id": id, "sent_at": world.now()});
    let batch = json!({"Records": [{"messageId": "1", "body": task.to_string()}]});
    export::Invocation::Batch(serde_json::from_value(batch).unwrap())
}

/// One run for an integration.
pub async fn run(app: &export::App, world: &World, id: &str) {
    let response = run_export(app, batch(world, id)).await.unwrap();
    assert!(response.batch_item_failures.is_empty());
}

/// A proxy in front of the emulator.
pub async fn proxy() -> Proxy {
    Proxy::start(&required("AWS_ENDPOINT_URL")).await
}

/// The SDK's configuration for services at another address than that of the environment.
pub async fn config_for(endpoint: &str) -> SdkConfig {
    let config = aws_config::defaults(BehaviorVersion::latest());
    config.endpoint_url(endpoint).load().await
}

/// Another process of the export function, which reaches all services through a proxy.
pub async fn export_through(world: &World, proxy: &Proxy) -> export::App {
    let config = config_for(&proxy.url()).await;
    export::App {
        time_limit: world.export.time_limit,
        max_file_bytes: world.export.max_file_bytes,
        ..export::App::new(&world.services(&config))
    }
}

/// The integration as it is stored.
pub async fn stored(world: &World, id: &str) -> Integration {
    let integrations = &world.export.integrations;
    integrations.get(&world.tenant, id).await.unwrap()
}

/// How far an integration's files go.
pub async fn progress(world: &World, id: &str) -> Progress {
    let mut integration = stored(world, id).await;
    let export = integration.export_mut().unwrap();
    match &export.plan {
        Some(plan) => Progress {
            boundary: plan.until,
            planned_key: Some(plan.key.clone()),
        },
        None => Progress {
            boundary: export.position,
            planned_key: None,
        },
    }
}

/// A bucket that keeps every version of an object, so that it shows whether one was ever overwritten.
pub async fn versioned_bucket(world: &World) -> String {
    use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
    let bucket = world.bucket().await;
    let enabled = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    let put = world.s3.put_bucket_versioning().bucket(&bucket);
    put.versioning_configuration(enabled).send().await.unwrap();
    bucket
}

/// Keys and texts of a bucket's files in the order of the log, by the numbers in their lines. No object was ever
/// written twice.
pub async fn files_in_order(world: &World, bucket: &str) -> Vec<(String, String)> {
    let versions = world.s3.list_object_versions().bucket(bucket).send().await;
    let versions: Vec<String> = versions
        .unwrap()
        .versions
        .unwrap_or_default()
        .into_iter()
        .map(|version| version.key.unwrap())
        .collect();
    let keys: BTreeSet<&String> = versions.iter().collect();
    assert_eq!(keys.len(), versions.len(), "an object was overwritten");
    let mut files = world.files(bucket).await;
    files.sort_by_key(|(_, text)| number(text.lines().next().unwrap()));
    files
}

/// The number in a line's payload.
pub fn number(line: &str) -> u64 {
    serde_json::from_str::<Value>(line).unwrap()["payload"]["n"]
        .as_u64()
        .unwrap()
}

/// All the text of files.
pub fn concatenated(files: &[(String, String)]) -> String {
    files.iter().map(|(_, text)| text.as_str()).collect()
}

/// All the text of lines.
pub fn text(lines: impl IntoIterator<Item = Line>) -> String {
    lines.into_iter().map(|line| line.text + "\n").collect()
}

/// Appends nine segments of three events through ingest, a second apart. In every segment from the second on, ingest appends
/// an event of the one before again, as when a queue repeats it. Returns the lines that files have to have.
pub async fn append_nine_segments(world: &World) -> Vec<Line> {
    let (mut lines, mut repeated) = (Vec::new(), None);
    for segment in 0..9 {
        world.pass(Duration::from_secs(1));
        let at = world.now();
        let mut events = Vec::from_iter(repeated.take());
        for event in 0..3 {
            let (n, name) = (
                segment * 10 + event,
                ["order.created", "return.processed", "order.opened"][event],
            );
            let payload = json!({"n": n, "pad": "x".repeat(100)});
            let fresh = json!({"id": Uuid::new_v4().to_string(), "name": name, "payload": payload});
            lines.push(Line {
                at,
                name,
                text: format!(
                    "{{\"tenant\":\"{}\",\"name\":\"{name}\",\"published_at\":\"{at}\",\"payload\":{payload}}}",
                    world.tenant
                ),
            });
            repeated = Some(fresh.clone());
            events.push(fresh);
        }
        let task = json!({"tenant": world.tenant, "events": events});
        world.send_to_ingest(&task.to_string()).await;
        world.drain_ingest().await;
    }
    world.pass(Duration::from_secs(90));
    lines
}

/// Takes all tasks from the export queue: the ids of their integrations.
pub async fn take_tasks(world: &World) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    loop {
        let receive = world.sqs.receive_message().queue_url(&world.queues.export);
        let answer = receive.max_number_of_messages(10).send().await.unwrap();
        let messages = answer.messages.unwrap_or_default();
        if messages.is_empty() {
            return ids;
        }
        for message in messages {
            let task: Value = serde_json::from_str(message.body().unwrap()).unwrap();
            ids.insert(task["integration_id"].as_str().unwrap().to_owned());
            let delete = world.sqs.delete_message().queue_url(&world.queues.export);
            let handle = message.receipt_handle().unwrap();
            delete.receipt_handle(handle).send().await.unwrap();
        }
    }
}

/// Removes every segment of the log, as its TTL does in time.
pub async fn forget_events(world: &World) {
    let dynamodb = aws_sdk_dynamodb::Client::new(&shared::aws::config());
    let table = &world.tables.events;
    let scanned = dynamodb.scan().table_name(table).send().await.unwrap();
    for item in scanned.items() {
        let delete = dynamodb.delete_item().table_name(table);
        let delete = delete.key("pk", item["pk"].clone());
        delete.key("sk", item["sk"].clone()).send().await.unwrap();
    }
}
