//! A backlog of more than one file can hold, and a tick of more integrations than one page names.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::export::MAX_FILE_BYTES;
use domain::log::segment::{self, NewEvent};
use serde_json::json;
use serde_json::value::RawValue;
use shared::store::event_log;
use tests::proxy::Action;
use tests::receiver::Answer;

use crate::exports_world::{export_through, proxy, run, s3, take_tasks};
use crate::world::World;

const BACKLOG: usize = 130 * 1024 * 1024;

/// Letters that zstd cannot shrink much, by a generator with a fixed start.
fn letters(state: &mut u64, count: usize) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut next = || {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(letters[(*state >> 58) as usize])
    };
    (0..count).map(|_| next()).collect()
}

#[tokio::test]
async fn a_backlog_of_130_mib_becomes_files_of_at_most_50_mib_with_every_byte_in_order() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    world.register(s3("sap-1", &bucket)).await;
    let (mut expected, mut state, mut n) = (Vec::new(), 1, 0_u64);
    while expected.len() < BACKLOG {
        world.pass(Duration::from_millis(1));
        // From 100 bytes to the largest payload, 256 KiB.
        let sizes = [262_100, 100, 200_000, 5_000, 131_072, 0, 250_000];
        let payloads: Vec<(String, Box<RawValue>)> = sizes
            .iter()
            .map(|size| {
                n += 1;
                let payload = format!("{{\"n\":{n},\"t\":\"{}\"}}", letters(&mut state, *size));
                (format!("id-{n}"), RawValue::from_string(payload).unwrap())
            })
            .collect();
        let events = payloads.iter().map(|(id, payload)| NewEvent {
            id,
            name: "order.created",
            payload,
        });
        let mut last = None;
        let built = segment::build(&world.tenant, events.collect(), || {
            // In the order in which they were built, though they share a millisecond.
            let id = last.map_or_else(
                || world.now().first_id(),
                |last: ulid::Ulid| ulid::Ulid(last.0 + 1),
            );
            last = Some(id);
            id
        });
        for built in built.unwrap() {
            expected.extend(built.segment.decompress().unwrap());
            let appended = world.ingest.event_log.append(&world.tenant, &built.segment);
            assert_eq!(appended.await.unwrap(), event_log::Appended::Confirmed);
        }
    }
    world.pass(Duration::from_secs(90));
    run(&world.export, &world, "sap-1").await;
    let mut files = world.files(&bucket).await;
    files.sort_by_key(|(_, text)| {
        let at = text.find("\"n\":").unwrap() + 4;
        text[at..]
            .split(',')
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    });
    assert_eq!(files.len(), 3);
    for (_, text) in &files {
        assert!(text.len() <= MAX_FILE_BYTES, "{}", text.len());
        assert!(text.ends_with('\n'));
    }
    // All but the last are full: the next segment, of at most 400 KB here, would not have fitted.
    assert!(
        files[..2]
            .iter()
            .all(|(_, text)| text.len() > MAX_FILE_BYTES - 700_000)
    );
    let written: Vec<u8> = files
        .into_iter()
        .flat_map(|(_, text)| text.into_bytes())
        .collect();
    assert!(
        written == expected,
        "{} bytes, expected {}",
        written.len(),
        expected.len()
    );
}

#[tokio::test]
async fn a_tick_sends_a_task_for_each_running_s3_integration_of_all_pages() {
    let (world, proxy) = (World::start().await, proxy().await);
    let bucket = world.bucket().await;
    for id in ["sap-1", "sap-2", "sap-3"] {
        world.register(s3(id, &bucket)).await;
    }
    world.register_webhook("erp-1", "http://127.0.0.1:9/").await;
    world.call("POST", "/sap-2/_stop", "").await;
    let app = export_through(&world, &proxy).await;
    // The first page is DynamoDB's; it says that there is another one, which is made here of 2,500 integrations.
    let tenant = world.tenant.clone();
    let items: Vec<_> = (0..2_500)
        .map(|n| json!({"pk": {"S": tenant}, "sk": {"S": format!("integration#more-{n}")}}))
        .collect();
    let more = json!({"Items": items}).to_string();
    let first = json!({
        "Items": [{"pk": {"S": tenant}, "sk": {"S": "integration#sap-1"}}, {"pk": {"S": tenant}, "sk": {"S": "integration#sap-3"}}],
        "LastEvaluatedKey": {"pk": {"S": tenant}, "sk": {"S": "integration#sap-3"}},
    })
    .to_string();
    let tick = || export::Invocation::Tick {
        tick: "export".to_owned(),
    };
    export::handle(&app, tick()).await.unwrap();
    assert_eq!(
        take_tasks(&world).await,
        BTreeSet::from(["sap-1".to_owned(), "sap-3".to_owned()])
    );
    proxy.rule(move |passing| {
        match (
            passing.operation.ends_with(".Query"),
            passing.body.contains("ExclusiveStartKey"),
        ) {
            (true, true) => Action::Answer(Answer::status(200).body(more.clone())),
            (true, false) => Action::Answer(Answer::status(200).body(first.clone())),
            _ => Action::Forward,
        }
    });
    export::handle(&app, tick()).await.unwrap();
    let batches = proxy
        .passed()
        .into_iter()
        .filter(|passing| passing.operation.ends_with("SendMessageBatch"));
    assert_eq!(batches.count(), 251, "2 tasks, then 250 batches of 10");
    assert_eq!(take_tasks(&world).await.len(), 2_502);
}
