//! Uploads that are refused or fail, and what follows.

use std::time::{Duration, Instant};

use aws_sdk_s3::types::ChecksumMode;
use serde_json::{Value, json};
use tests::proxy::{Action, Moment};
use tests::receiver::Answer;

use crate::exports_world::{
    concatenated, config_for, export_through, files_in_order, number, proxy, run, s3, stored,
    versioned_bucket,
};
use crate::world::World;

pub const DAY: Duration = Duration::from_secs(24 * 3600);

pub fn event(n: usize) -> Value {
    json!({"name": "order.created", "payload": {"n": n}})
}

pub async fn publish(world: &World, n: usize) {
    world.publish(&[event(n)]).await;
    world.drain().await;
    world.pass(Duration::from_secs(90));
}

pub async fn numbers(world: &World, bucket: &str) -> Vec<u64> {
    let text = concatenated(&files_in_order(world, bucket).await);
    text.lines().map(number).collect()
}

/// Action and reason of the newest entry of an integration's log.
pub async fn newest(world: &World, id: &str) -> (String, String) {
    let log = world.call("GET", &format!("/{id}/log"), "").await;
    let entry = &log.body["entries"][0];
    let text = |field: &str| entry[field].as_str().unwrap().to_owned();
    (text("action"), text("reason"))
}

pub async fn has_plan(world: &World, id: &str) -> bool {
    stored(world, id).await.export_mut().unwrap().plan.is_some()
}

/// An error as S3 answers it.
pub fn s3_error(status: u16, code: &str) -> Action {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>m</Message><RequestId>1</RequestId></Error>"
    );
    Action::Answer(
        Answer::status(status)
            .header("content-type", "application/xml")
            .body(body),
    )
}

#[tokio::test]
async fn a_refused_upload_is_logged_and_made_again_at_the_next_tick() {
    let world = World::start().await;
    let bucket = format!("{}-later", world.tenant);
    world.register(s3("sap-1", &bucket)).await;
    publish(&world, 1).await;
    world.export_tick().await;
    let (action, reason) = newest(&world, "sap-1").await;
    assert_eq!(action, "export_failed");
    assert!(
        reason.ends_with("failed. Reason: there is no such bucket."),
        "{reason}"
    );
    assert!(
        reason.starts_with(&format!(
            "Upload to s3://{bucket}/newstore_integration_002/{}/",
            world.tenant
        )),
        "{reason}"
    );
    world
        .s3
        .create_bucket()
        .bucket(&bucket)
        .send()
        .await
        .unwrap();
    publish(&world, 2).await;
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, [1, 2]);
}

#[tokio::test]
async fn an_upload_is_signed_with_the_customers_key_for_the_buckets_region_and_has_a_checksum() {
    let (world, proxy) = (World::start().await, proxy().await);
    let app = export_through(&world, &proxy).await;
    let bucket = versioned_bucket(&world).await;
    world.register(s3("sap-1", &bucket)).await;
    publish(&world, 1).await;
    proxy.rule(|_| Action::Forward);
    run(&app, &world, "sap-1").await;
    let passed = proxy.passed();
    let uploads: Vec<_> = passed
        .iter()
        .filter(|passing| passing.is_upload())
        .collect();
    assert_eq!(uploads.len(), 1);
    let key = shared::env::required("EVENTSTREAM_BUCKET_ACCESS_KEY_ID");
    let header = |name: &str| uploads[0].header(name);
    let authorization = header("authorization");
    assert!(
        authorization.contains(&format!("Credential={key}/")),
        "{authorization}"
    );
    assert!(
        authorization.contains("/us-east-1/s3/aws4_request"),
        "{authorization}"
    );
    for signed in [
        "if-none-match",
        "x-amz-checksum-crc64nvme",
        "x-amz-content-sha256",
        "x-amz-sdk-checksum-algorithm",
    ] {
        assert!(authorization.contains(signed), "{signed}: {authorization}");
    }
    assert_eq!(header("if-none-match"), "*");
    assert_eq!(header("content-type"), "application/x-ndjson");
    // Without TLS the payload is signed, too.
    assert_eq!(header("x-amz-content-sha256").len(), 64);
    let (key, _) = &files_in_order(&world, &bucket).await[0];
    let head = world.s3.head_object().bucket(&bucket).key(key);
    let head = head
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await
        .unwrap();
    assert_eq!(
        head.checksum_crc64_nvme(),
        Some(header("x-amz-checksum-crc64nvme"))
    );
}

#[tokio::test]
async fn a_wrong_region_can_be_mended() {
    let world = World::start().await;
    let bucket = versioned_bucket(&world).await;
    let mut body = s3("sap-1", &bucket);
    body["s3_parameters"]["aws_region"] = json!("eu-central-1");
    world.register(body).await;
    publish(&world, 1).await;
    world.export_tick().await;
    let (_, reason) = newest(&world, "sap-1").await;
    assert!(
        reason.ends_with("failed. Reason: the bucket is not in the given aws_region."),
        "{reason}"
    );
    world.call("POST", "/sap-1/_stop", "").await;
    let changes = json!({"s3_parameters": {"aws_region": "us-east-1"}});
    assert_eq!(world.call("PATCH", "/sap-1", changes).await.status, 200);
    world.call("POST", "/sap-1/_start", "").await;
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, [1]);
}

#[tokio::test]
async fn a_wrong_bucket_can_be_mended() {
    let world = World::start().await;
    world.register(s3("sap-1", "there-is-no-such-bucket")).await;
    publish(&world, 1).await;
    world.export_tick().await;
    let bucket = world.bucket().await;
    world.call("POST", "/sap-1/_stop", "").await;
    let changes = json!({"s3_parameters": {"bucket": bucket}});
    assert_eq!(world.call("PATCH", "/sap-1", changes).await.status, 200);
    world.call("POST", "/sap-1/_start", "").await;
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, [1]);
}

#[tokio::test]
async fn the_log_tells_failures_apart_and_only_a_refused_plan_is_dropped() {
    let (world, proxy) = (World::start().await, proxy().await);
    let app = export_through(&world, &proxy).await;
    let bucket = versioned_bucket(&world).await;
    for (n, (status, code, part, is_refused)) in [
        (
            403,
            "AccessDenied",
            "access denied: key or role needs the permission s3:PutObject",
            true,
        ),
        (404, "NoSuchBucket", "there is no such bucket", true),
        (
            301,
            "PermanentRedirect",
            "the bucket is not in the given aws_region",
            true,
        ),
        (
            400,
            "AuthorizationHeaderMalformed",
            "the bucket is not in the given aws_region",
            true,
        ),
        (
            403,
            "InvalidAccessKeyId",
            "the aws_access_key_id does not exist",
            true,
        ),
        (
            403,
            "SignatureDoesNotMatch",
            "the aws_secret_access_key does not belong to",
            true,
        ),
        (503, "SlowDown", "S3 asks to slow down", false),
        (
            500,
            "InternalError",
            "S3 responded InternalError (HTTP status code 500)",
            false,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("sap-{n}");
        world.register(s3(&id, &bucket)).await;
        publish(&world, n).await;
        proxy.rule(move |passing| match passing.is_upload() {
            true => s3_error(status, code),
            false => Action::Forward,
        });
        run(&app, &world, &id).await;
        let (action, reason) = newest(&world, &id).await;
        assert_eq!(action, "export_failed", "{code}");
        assert!(
            reason.contains(&format!("failed. Reason: {part}")),
            "{code}: {reason}"
        );
        assert_eq!(has_plan(&world, &id).await, !is_refused, "{code}");
        assert_eq!(
            reason.contains("may have been stored"),
            !is_refused,
            "{reason}"
        );
        // The position has not moved; the next tick writes the file.
        world.pass(Duration::from_secs(300));
        proxy.rule(|_| Action::Forward);
        run(&app, &world, &id).await;
        world.call("DELETE", &format!("/{id}"), "").await;
    }
    assert_eq!(numbers(&world, &bucket).await, (0..8).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_upload_that_hangs_ends_within_the_functions_time_and_is_not_made_twice() {
    tokio::join!(hang(Moment::Before), hang(Moment::After));
}

/// Lets an upload hang at this moment of it, and the next run do what is left.
async fn hang(moment: Moment) {
    let (mut world, proxy) = (World::start().await, proxy().await);
    world.export.time_limit = Duration::from_secs(7);
    let app = export_through(&world, &proxy).await;
    let bucket = versioned_bucket(&world).await;
    world.register(s3("sap-1", &bucket)).await;
    publish(&world, 1).await;
    proxy.rule(move |passing| match passing.is_upload() {
        true => Action::Hold(moment),
        false => Action::Forward,
    });
    let began = Instant::now();
    run(&app, &world, "sap-1").await;
    let took = began.elapsed();
    assert!(took < world.export.time_limit, "{moment:?}: {took:?}");
    let (action, reason) = newest(&world, "sap-1").await;
    assert_eq!(action, "export_failed", "{moment:?}");
    assert!(reason.contains("S3 did not respond in time"), "{reason}");
    world.pass(Duration::from_secs(300));
    proxy.rule(|_| Action::Forward);
    run(&app, &world, "sap-1").await;
    assert_eq!(numbers(&world, &bucket).await, [1], "{moment:?}");
}

#[tokio::test]
async fn an_unreachable_s3_is_a_failure_in_doubt() {
    let mut world = World::start().await;
    let bucket = versioned_bucket(&world).await;
    world.register(s3("sap-1", &bucket)).await;
    publish(&world, 1).await;
    let unreachable = config_for("http://127.0.0.1:9").await;
    let reachable = std::mem::replace(&mut world.export.sdk_config, unreachable);
    world.export_tick().await;
    let (_, reason) = newest(&world, "sap-1").await;
    assert!(reason.contains("S3 could not be reached"), "{reason}");
    assert!(has_plan(&world, "sap-1").await);
    world.export.sdk_config = reachable;
    world.export_tick().await;
    assert_eq!(numbers(&world, &bucket).await, [1]);
}

#[tokio::test]
async fn a_tick_has_one_entry_however_often_its_task_comes() {
    let world = World::start().await;
    world.register(s3("sap-1", "there-is-no-such-bucket")).await;
    publish(&world, 1).await;
    for _ in 0..3 {
        run(&world.export, &world, "sap-1").await;
    }
    assert_eq!(
        world.actions("sap-1").await,
        ["export_failed", "integration_started"]
    );
    world.pass(Duration::from_secs(300));
    run(&world.export, &world, "sap-1").await;
    assert_eq!(
        world.actions("sap-1").await[..2],
        ["export_failed", "export_failed"]
    );
}

#[tokio::test]
async fn an_export_is_stopped_after_5_days_of_nothing_but_failures() {
    let world = World::start().await;
    let bucket = format!("{}-late", world.tenant);
    world.register(s3("sap-1", &bucket)).await;
    publish(&world, 1).await;
    for _ in 0..5 {
        world.export_tick().await;
        assert!(stored(&world, "sap-1").await.is_running());
        world.pass(DAY - Duration::from_secs(30));
    }
    world.pass(Duration::from_secs(90));
    world.export_tick().await;
    let (action, reason) = newest(&world, "sap-1").await;
    assert_eq!(action, "integration_stopped");
    assert!(
        reason.contains("for more than 5 days") && reason.contains("there is no such bucket"),
        "{reason}"
    );
    assert_eq!(
        world.call("GET", "/sap-1", "").await.body["status"],
        "stopped"
    );
    // Stopped, it costs nothing; started again, it has 5 days more, and nothing is lost.
    world.export_tick().await;
    world.pass(DAY * 20);
    world.call("POST", "/sap-1/_start", "").await;
    world.export_tick().await;
    assert!(stored(&world, "sap-1").await.is_running());
    world
        .s3
        .create_bucket()
        .bucket(&bucket)
        .send()
        .await
        .unwrap();
    world.export_tick().await;
    let mut mended = stored(&world, "sap-1").await;
    assert_eq!(mended.export_mut().unwrap().failing_since, None);
    let files = world.files(&bucket).await;
    assert_eq!(files[0].1.lines().map(number).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn one_success_begins_the_days_of_failures_anew() {
    let (world, proxy) = (World::start().await, proxy().await);
    let app = export_through(&world, &proxy).await;
    let bucket = versioned_bucket(&world).await;
    world.register(s3("sap-1", &bucket)).await;
    for day in 0..12 {
        publish(&world, day).await;
        // Two days of failures, then a success, and so on.
        proxy.rule(move |passing| match passing.is_upload() && day % 3 < 2 {
            true => s3_error(403, "AccessDenied"),
            false => Action::Forward,
        });
        run(&app, &world, "sap-1").await;
        world.pass(DAY);
    }
    assert!(stored(&world, "sap-1").await.is_running());
    assert_eq!(numbers(&world, &bucket).await, (0..12).collect::<Vec<_>>());
}
