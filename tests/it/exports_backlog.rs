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

use crate::exports_world::{export_through, number, proxy, run, s3, take_tasks};
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

/// A tick is 300 s, 20 processes at a time work at 61 integrations, and a run with a backlog takes 150 s: 40 runs for 61 tasks. Here
/// one run follows another, 20 times as fast.
#[tokio::test]
async fn sixty_backlogs_delay_another_tenant_by_less_than_two_ticks_and_pile_up_no_tasks() {
    const TICK: Duration = Duration::from_secs(300);
    let (mut world, proxy) = (World::start().await, proxy().await);
    world.export.time_limit = Duration::from_millis(9_000);
    world.export.max_file_bytes = 500;
    let (app, bucket) = (export_through(&world, &proxy).await, world.bucket().await);
    let quiet = std::mem::take(&mut world.tenant);
    let event =
        |n: u64| json!({"name": "order.created", "payload": {"n": n, "pad": "x".repeat(200)}});
    for tenant in ["a", "b", "c"] {
        world.tenant = format!("{tenant}{}", &quiet[1..]);
        for n in 0..20 {
            let mut body = s3(&format!("erp-{n}"), &bucket);
            body["s3_parameters"]["key_prefix"] =
                json!(format!("newstore_integration_002/{tenant}{n}"));
            assert_eq!(world.call("POST", "/", body).await.status, 200);
        }
        for n in 0..30 {
            world.pass(Duration::from_millis(1));
            world.publish(&[event(n)]).await;
            // A segment each: a file holds whole segments.
            world.drain_ingest().await;
        }
    }
    world.tenant = quiet;
    assert_eq!(
        world.call("POST", "/", s3("sap-1", &bucket)).await.status,
        200
    );
    let clock = world.clock.clone();
    proxy.rule(move |passing| {
        if passing.is_upload() {
            clock.set(clock.now().after(Duration::from_millis(3_750)));
        }
        Action::Forward
    });
    let mut waiting = Vec::new();
    for tick in 0..6 {
        world.publish(&[event(1_000 + tick)]).await;
        world.drain_ingest().await;
        world.pass(Duration::from_secs(75));
        let next = world.now().after(TICK);
        let invocation = export::Invocation::Tick {
            tick: "export".to_owned(),
        };
        export::handle(&app, invocation).await.unwrap();
        while world.now() < next && world.pump_exports(&app).await > 0 {}
        let left: usize = world.waiting(&world.queues.export).await.parse().unwrap();
        waiting.push(left);
        world.clock.set(next.max(world.now()));
        let files = world.files(&bucket).await;
        let is_quiet = |(key, _): &&(String, String)| key.contains(&world.tenant);
        let mut sent: Vec<u64> = files
            .iter()
            .filter(is_quiet)
            .map(|(_, text)| number(text))
            .collect();
        sent.sort_unstable();
        assert!(
            sent.len() as u64 >= tick,
            "what was published a tick ago is in a file: {sent:?}"
        );
        assert!(waiting.iter().all(|left| *left <= 61), "{waiting:?}");
    }
    assert!(world.files(&bucket).await.len() > 6 * 61);
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
