//! What is seen from outside: counts and times of what functions did, and one trace from publication to delivery.

use std::net::UdpSocket;
use std::time::Duration;

use domain::metric::Metric;
use serde_json::{Value, json};
use shared::env::Environment;
use shared::trace::Tracer;
use tests::receiver::{Answer, Receiver};

use crate::world::World;

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_functions_do_is_counted() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    receiver.answer(|request| match request.text() {
        text if text.contains("\"order.refused\"") => Answer::status(503),
        text if text.contains("\"order.rejected\"") => Answer::status(400),
        _ => Answer::status(204),
    });
    world.register_webhook("erp-1", &receiver.url()).await;
    world.metrics().take();

    let event = |name: &str| json!({"name": name, "payload": {}});
    let published_at = world.now();
    world
        .publish(&[event("order.taken"), event("order.rejected")])
        .await;
    world.drain_ingest().await;
    world.pass(Duration::from_millis(250));
    world.drain().await;
    let tally = world.metrics().take();
    for (metric, count) in [
        (Metric::EventsAccepted, 2),
        (Metric::EventsAppended, 2),
        (Metric::EventsRepeated, 0),
        (Metric::SegmentBytes, 1),
        (Metric::ReceiverLatency, 2),
        (Metric::Latency, 1),
        (Metric::EventsRejected, 1),
        (Metric::EventsParked, 0),
        (Metric::TasksHandedBack, 0),
    ] {
        assert_eq!(tally.count(metric), count, "{metric:?}");
    }
    let line = tally
        .line("delivery", "EventStream/test", world.now())
        .unwrap();
    let line: Value = serde_json::from_slice(&line).unwrap();
    let latency = line["Latency"].as_u64().unwrap();
    let passed = world.now().since(published_at).as_millis() as u64;
    assert!(
        latency >= 240 && latency <= passed * 104 / 100,
        "{latency} of {passed}"
    );

    world.publish(&[event("order.refused")]).await;
    world.drain_until(DEADLINE, || receiver.count() >= 5).await;
    world.send_to_ingest("not an event").await;
    world.drain().await;
    let tally = world.metrics().take();
    for (metric, count) in [
        // Three times in its run: it may be a hiccup.
        (Metric::Failed5xx, 3),
        (Metric::Failed4xx, 0),
        (Metric::Latency, 0),
        (Metric::EventsUnreadable, 1),
    ] {
        assert_eq!(tally.count(metric), count, "{metric:?}");
    }
    assert!(tally.count(Metric::EventsParked) >= 1);
}

#[tokio::test]
async fn interruptions_backlogs_and_files_are_counted() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    receiver.answer_with(503);
    let event = json!({"name": "order.created", "payload": {}});
    world.publish(&vec![event; 8]).await;
    world.metrics().take();
    world.drain_until_interrupted("erp-1", DEADLINE).await;
    let tally = world.metrics().take();
    assert_eq!(tally.count(Metric::Interruptions), 1);
    assert_eq!(tally.count(Metric::Resumptions), 0);
    assert!(tally.count(Metric::RetriesWaiting) >= 1);
    receiver.clear();
    receiver.answer_with(204);
    world.pass_until(DEADLINE, || receiver.count() >= 8).await;
    let tally = world.metrics().take();
    assert_eq!(tally.count(Metric::Resumptions), 1);
    assert!(tally.count(Metric::BacklogAge) >= 1);
    assert!(tally.count(Metric::Sweeps) >= 1);
    assert_eq!(tally.count(Metric::Latency), 8);
}

#[tokio::test]
async fn files_and_their_lag_are_counted() {
    let world = World::start().await;
    let bucket = world.bucket().await;
    let s3 = |bucket: &str| json!({"aws_access_key_id": "test", "aws_secret_access_key": "test", "aws_region": "us-east-1", "bucket": bucket});
    for (id, bucket) in [
        ("taken", bucket.as_str()),
        ("refused", "there-is-no-such-bucket"),
    ] {
        let body = json!({"id": id, "integration_type": "permanent", "s3_parameters": s3(bucket)});
        assert_eq!(world.call("POST", "/", body).await.status, 200);
    }
    world
        .publish(&[
            json!({"name": "order.created", "payload": {}}),
            json!({"name": "order.paid", "payload": {}}),
        ])
        .await;
    world.drain_ingest().await;
    world.metrics().take();
    world.export_tick().await;
    let tally = world.metrics().take();
    for (metric, count) in [
        (Metric::Ticks, 1),
        (Metric::FileBytes, 1),
        (Metric::FileLines, 2),
        (Metric::ExportsFailed, 1),
        // That of the bucket that takes files.
        (Metric::ExportLag, 1),
        (Metric::PlansMismatched, 0),
    ] {
        assert_eq!(tally.count(metric), count, "{metric:?}");
    }
}

/// What Lambda hands a function of a request that X-Ray samples.
const SAMPLED: &str =
    "Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:a:0";

#[tokio::test]
async fn one_trace_shows_publication_append_and_delivery() {
    let (mut world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
    daemon.set_read_timeout(Some(DEADLINE)).unwrap();
    let address = daemon.local_addr().unwrap().to_string();
    let environment = Environment::from([("AWS_XRAY_DAEMON_ADDRESS", address)]);
    let tracer = Tracer::new(&environment, world.clock.clone());
    let mut delivery = world.other_delivery(&world.config());
    delivery.tracer = tracer.clone();
    world.ingest.tracer = tracer;

    world.trace_header = Some(SAMPLED.to_owned());
    world
        .publish(&[json!({"name": "order.created", "payload": {}})])
        .await;
    world.drain_ingest().await;
    world.deliver_once_by(&delivery).await;
    receiver.wait_for(1, DEADLINE).await.unwrap();

    let segment = || -> Value {
        let mut buffer = [0; 4096];
        let length = daemon.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        serde_json::from_str(text.split_once('\n').unwrap().1).unwrap()
    };
    let (appended, delivered) = (segment(), segment());
    for (segment, name, integration) in
        [(&appended, "ingest", ""), (&delivered, "delivery", "erp-1")]
    {
        assert_eq!(segment["name"], name);
        assert_eq!(segment["trace_id"], "1-67891233-abcdef012345678912345678");
        assert_eq!(segment["fault"], false);
        let annotations = json!({"tenant": world.tenant, "integration": integration});
        assert_eq!(segment["annotations"], annotations);
    }
    assert_eq!(appended["parent_id"], "53995c3f42cd8ad8");
    assert_eq!(delivered["parent_id"], appended["id"]);

    // What is not sampled is not traced: the next segment is of the next sampled publication.
    world.trace_header = Some(SAMPLED.replace("Sampled=1", "Sampled=0"));
    world
        .publish(&[json!({"name": "order.paid", "payload": {}})])
        .await;
    world.drain_ingest().await;
    world.deliver_once_by(&delivery).await;
    receiver.wait_for(2, DEADLINE).await.unwrap();
    daemon.set_nonblocking(true).unwrap();
    assert!(daemon.recv(&mut [0; 4096]).is_err());
}

#[tokio::test]
async fn what_a_receiver_was_sent_is_counted_for_its_integration() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.register_webhook("erp-1", &receiver.url()).await;
    let event = |n: usize| json!({"name": "order.created", "payload": {"n": n}});
    receiver.answer(|request| match request.text() {
        text if text.contains("\"n\":7") => Answer::status(400),
        text if text.contains("\"n\":8") => Answer::status(500),
        _ => Answer::status(204),
    });
    let events: Vec<Value> = (0..9).map(event).collect();
    world.publish(&events).await;
    world.drain().await;
    receiver.wait_for(9, DEADLINE).await.unwrap();
    let counted = world.call("GET", "/erp-1/activity", "").await;
    assert_eq!(counted.status, 200, "{counted:?}");
    let stretches = counted.body["activity"].as_array().unwrap();
    let [stretch] = &stretches[..] else {
        panic!("one stretch: {counted:?}");
    };
    let counts = ["delivered", "failed", "rejected"].map(|name| stretch[name].as_u64().unwrap());
    assert_eq!(counts, [7, 1, 1]);
    let (p50, p99) = (&stretch["latency_p50_ms"], &stretch["latency_p99_ms"]);
    assert!(p50.as_u64() <= p99.as_u64() && p50.is_u64(), "{stretch}");
    let path = "/api/v1/org/integrations/eventstream/erp-1/activity";
    assert_eq!(world.call_as("other", "GET", path, "").await.status, 404);

    // Within the minute nothing more is written; and not one write for each event.
    world.publish(&[event(1)]).await;
    world.drain().await;
    let again = world.call("GET", "/erp-1/activity", "").await;
    assert_eq!(again.body["activity"], counted.body["activity"]);
}
