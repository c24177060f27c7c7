//! The list of files: what a customer can prove with it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::World;

async fn page(world: &World, query: &str) -> Value {
    let answer = world.call_with("GET", "/files/files", query).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

async fn register(world: &World, bucket: &str) {
    let s3 = json!({"aws_access_key_id": "test", "aws_secret_access_key": "test", "aws_region": "us-east-1", "bucket": bucket});
    let only = json!({"event_filter": ["order.created"]});
    let body = json!({"id": "files", "integration_type": "permanent", "s3_parameters": s3, "filter_conditions": only});
    assert_eq!(world.call("POST", "/", body).await.status, 200);
}

#[tokio::test]
async fn consecutive_files_are_listed_and_meet() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let began = world.now().after(Duration::from_millis(1));
    register(&world, &bucket).await;
    for (n, name) in [
        "order.created",
        "order.paid",
        "order.created",
        "order.created",
    ]
    .iter()
    .enumerate()
    {
        world
            .publish(&[json!({"name": name, "payload": {"n": n}})])
            .await;
        world.drain_ingest().await;
        world.export_tick().await;
    }
    let listed = page(&world, "").await;
    let files = listed["files"].as_array().unwrap();
    assert!(listed.get("cursor").is_none());
    // One tick had nothing that passes.
    assert_eq!(files.len(), 3);
    assert_eq!(files[2]["published_from"], json!(began.to_string()));
    for pair in files.windows(2) {
        assert_eq!(pair[0]["from"], pair[1]["until"], "no gap and no overlap");
        assert!(pair[0]["created_at"].as_str() > pair[1]["created_at"].as_str());
    }
    let stored = world.files(&bucket).await;
    for (file, (key, text)) in files.iter().rev().zip(&stored) {
        let shown = (
            &file["key"],
            &file["bytes"],
            &file["lines"],
            &file["bucket"],
        );
        assert_eq!(
            shown,
            (
                &json!(key),
                &json!(text.len()),
                &json!(text.lines().count()),
                &json!(bucket)
            )
        );
        let digits = file["crc64"].as_str().unwrap();
        assert_eq!(digits, format!("{:016x}", crc64(text.as_bytes())));
    }

    // A file that was refused is not there, and the next one covers its range.
    let before = files[0]["until"].clone();
    let path = "/api/v1/org/integrations/eventstream/files/files";
    assert_eq!(world.call_as("other", "GET", path, "").await.status, 404);
    assert_eq!(
        world
            .call_with("GET", "/files/files", "cursor=none")
            .await
            .status,
        400
    );
    world.register_webhook("hook", "http://127.0.0.1:9/").await;
    assert_eq!(world.call("GET", "/hook/files", "").await.status, 400);
    let rest = page(&world, &format!("cursor={}", before.as_str().unwrap())).await;
    assert_eq!(rest["files"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    register(&world, &bucket).await;
    for n in 0..103 {
        world
            .publish(&[json!({"name": "order.created", "payload": {"n": n}})])
            .await;
        world.drain_ingest().await;
        world.export_tick().await;
    }
    let first = page(&world, "").await;
    assert_eq!(first["files"].as_array().unwrap().len(), 100);
    let cursor = first["cursor"].as_str().unwrap();
    let second = page(&world, &format!("cursor={cursor}")).await;
    assert_eq!(second["files"].as_array().unwrap().len(), 3);
    assert!(second.get("cursor").is_none());
    assert_eq!(first["files"][99]["from"], second["files"][0]["until"]);
}

/// CRC-64/NVME.
fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}
