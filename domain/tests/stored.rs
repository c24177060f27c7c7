//! What a deployed stack has stored and sent can be read, and is written in the same form: during a deployment, functions of both
//! versions are at work.

use domain::calls::{Retried, RetriedAll, RetryRejected};
use domain::integration::{Callback, Integration, IntegrationRef, Target};
use domain::stream::Because;
use domain::tasks::{ExportTask, IngestTask, ReplayTask, Run};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads a text, and checks that it is written again as it was.
fn reads_and_writes<T: DeserializeOwned + Serialize>(text: &str) -> T {
    let read: T = serde_json::from_str(text).expect("what is stored can be read");
    let written = serde_json::to_string(&read).expect("it can be written");
    assert_eq!(written, text);
    read
}

#[test]
fn the_document_of_a_webhook_integration() {
    let text = r#"{"tenant":"acme","id":"erp-1","generation":"01HF7YAT000000000000000007","version":12,"integration_type":"temporary","target":{"webhook":{"callback":{"callback_url":"https://erp.example/","api_key":{"cipher":"c","mask":"****"}},"stream":{"floor":1700000000000,"gaps":[{"from":1700000000001,"until":1700000000002},{"from":1700000000003,"until":null}],"unconfirmed":true,"owed":[{"start":1700000000001,"from":{"place":"01HF7YAT010000000000000005","index":2},"until":1700000000002}],"unsent":"00000000000000000000000006","waits":true,"duty":{"wake_at":1700000000009,"turn":7,"busy":{"holder":"00000000000000000000000008","until":1700000000009},"nudged":true},"health":{"failures":5,"first_failed":"e1","is_several":true,"several_since":1700000000001,"failing_since":1700000000002,"last_failure_at":1700000000003,"next_attempt_at":1700000000004,"last_success_at":1700000000005,"interruption":{"since":1700000000006,"probes":2,"cursor":{"segment":"01HF7YAT010000000000000005","index":3,"shard":1},"next_probe_at":1700000000007},"resumed_at":1700000000008,"retrying_until":1700000000009},"epoch":3}}},"starts_at":1700000000000,"ends_at":1700000000010,"filter":{"event_filter":["order.created"]},"status":"stopped","stopped_at":1700000000004,"is_finished":true}"#;
    let integration: Integration = serde_json::from_str(text).unwrap();
    let stream = integration.stream().unwrap();
    assert!(stream.is_interrupted());
    assert_eq!(stream.served().unwrap().because, Because::Down);
    assert_eq!(stream.unsent, Some(ulid::Ulid(6)));
    // What an earlier version needs of it is written as it was: functions of both are at work during a deployment.
    let read: serde_json::Value = serde_json::from_str(text).unwrap();
    let written = serde_json::to_value(&integration).unwrap();
    let is_kept = |path: &str| assert_eq!(written.pointer(path), read.pointer(path), "{path}");
    let stream_path = "/target/webhook/stream";
    let fields = read.pointer(stream_path).unwrap().as_object().unwrap();
    for field in fields.keys() {
        is_kept(&format!("{stream_path}/{field}"));
    }
    for field in read
        .as_object()
        .unwrap()
        .keys()
        .filter(|field| *field != "target")
    {
        is_kept(&format!("/{field}"));
    }
    assert_eq!(stream.schedule.turn, 7);
    assert_eq!(stream.schedule.lease.unwrap().until.0, 1_700_000_000_009);
    assert_eq!(stream.owed[0].from.index, 2);
    assert_eq!(
        stream.owed[0].from.segment.timestamp_ms(),
        1_700_000_000_001
    );
    assert_eq!(stream.epoch, 3);
}

#[test]
fn the_document_of_an_s3_integration() {
    let integration: Integration = reads_and_writes(
        r#"{"tenant":"acme","id":"erp-1","generation":"01HF7YAT000000000000000007","version":12,"integration_type":"temporary","target":{"s3":{"bucket":{"role_arn":"arn:aws:iam::123456789012:role/r","external_id":"e","aws_region":"eu-west-1","bucket":"b","key_prefix":"p"},"export":{"floor":1700000000000,"place":"01HF7YAT010000000000000005","lease":{"holder":"00000000000000000000000008","until":1700000000009},"plan":{"repeats_from":"00000000000000000000000001","from":"00000000000000000000000002","until":"00000000000000000000000003","bucket":"b","region":"eu-west-1","key":"k","filter":null,"size_bytes":10,"lines":2,"crc64":"0f"},"failing_since":1700000000001,"failed_at":1700000000002,"stuck_since":1700000000003,"stuck_logged_at":1700000000004}}},"starts_at":1700000000000,"ends_at":1700000000010,"filter":{"event_filter":["order.created"]},"status":"stopped","stopped_at":1700000000004,"is_finished":true}"#,
    );
    let Target::S3 { export, .. } = &integration.target else {
        panic!("files")
    };
    assert_eq!(export.position.timestamp_ms(), 1_700_000_000_001);
    assert_eq!(export.plan.as_ref().unwrap().lines, 2);
    assert_eq!(export.lease.unwrap().holder.0, 8);
}

/// Fields that documents had before some of today's.
#[test]
fn the_document_of_a_webhook_integration_of_an_earlier_version() {
    let older = r#"{"tenant":"acme","id":"erp-1","generation":"01HF7YAT000000000000000007","version":12,"integration_type":"permanent","target":{"webhook":{"callback":{"callback_url":"https://erp.example/","api_key":null},"stream":{"floor":1,"gaps":[],"unconfirmed":false,"owed":[],"unsent":null,"waits":false,"duty":{"wake_at":null,"turn":7,"busy":null,"nudged":false},"health":{"failures":0,"first_failed":null,"is_several":false,"failing_since":null,"last_failure_at":null,"next_attempt_at":null,"last_success_at":null,"interruption":null}}}},"starts_at":1,"ends_at":null,"filter":null,"status":"running","stopped_at":null}"#;
    let integration: Integration = serde_json::from_str(older).unwrap();
    assert!(integration.is_running() && !integration.is_finished);
    assert_eq!(integration.stream().unwrap().epoch, 0);
}

#[test]
fn tasks_of_replay_and_export() {
    let step: ReplayTask = reads_and_writes(
        r#"{"step":{"tenant":"acme","integration_id":"erp-1","generation":"00000000000000000000000009","turn":4}}"#,
    );
    let ReplayTask::Step {
        integration_ref,
        turn,
    } = step
    else {
        panic!("a step")
    };
    assert_eq!(
        (integration_ref.integration_id.as_str(), turn),
        ("erp-1", 4)
    );
    reads_and_writes::<ReplayTask>(
        r#"{"purge":{"tenant":"acme","integration_id":"erp-1","generation":"00000000000000000000000009"}}"#,
    );
    reads_and_writes::<ExportTask>(
        r#"{"tenant":"acme","integration_id":"erp-1","sent_at":1700000000001}"#,
    );
}

/// Tasks of an earlier version, which had one event: those that it sent live or of a chunk are runs of one, and a probe is nothing,
/// since its event is parked as well.
#[test]
fn tasks_of_delivery_of_each_origin() {
    for (origin, events) in [
        (r#""live""#, 1),
        (
            r#"{"chunk":{"chunk":"00000000000000000000000004","index":1}}"#,
            1,
        ),
        (
            r#"{"probe":{"since":1700000000001,"token":"00000000000000000000000005"}}"#,
            0,
        ),
    ] {
        let task = format!(
            r#"{{"tenant":"acme","integration_id":"erp-1","generation":"00000000000000000000000009","dispatch":{{"event":{{"segment":"01HF7YAT010000000000000005","index":3,"shard":1}},"event_id":"e","name":"order.created","attempt":2,"failing_since":1700000000001,"origin":{origin}}},"body":{{"a":1.10}}}}"#
        );
        let run: Run = serde_json::from_str(&task).unwrap();
        assert_eq!(run.events.len(), events, "{origin}");
        assert_eq!(
            (run.attempt, run.failing_since.unwrap().0),
            (2, 1_700_000_000_001)
        );
        assert_eq!(
            (run.segment.timestamp_ms(), run.shard),
            (1_700_000_000_001, 1)
        );
        for event in run.events {
            assert_eq!((event.index, event.id.as_str()), (3, "e"));
            assert_eq!(
                (event.name.as_str(), event.body.get()),
                ("order.created", r#"{"a":1.10}"#)
            );
        }
    }
    let bad =
        r#"{"tenant":"acme","integration_id":"erp-1","generation":"00000000000000000000000009"}"#;
    assert!(serde_json::from_str::<Run>(bad).is_err());
}

#[test]
fn runs_of_delivery() {
    let run = r#"{"tenant":"acme","integration_id":"erp-1","generation":"00000000000000000000000009","segment":"01HF7YAT010000000000000005","shard":1,"events":[{"index":3,"id":"e","name":"order.created","body":{}}]}"#;
    reads_and_writes::<Run>(run);
}

#[test]
fn calls_of_delivery() {
    reads_and_writes::<RetryRejected>(
        r#"{"tenant":"acme","integration_id":"erp-1","generation":"00000000000000000000000009","event_id":"e"}"#,
    );
    reads_and_writes::<Vec<Retried>>(r#"["delivered",{"refused":"no"},"not_found"]"#);
}

#[test]
fn what_this_release_adds_is_written_as_it_is_read() {
    reads_and_writes::<Callback>(
        r#"{"callback_url":"https://erp.example/","api_key":null,"max_in_flight":5,"signing":{"secret":{"cipher":"c","mask":"****"},"created_at":1700000000000,"previous":{"secret":{"cipher":"d","mask":"****"},"until":1700000000001}},"headers":{"x-shop":{"cipher":"e","mask":"****"}}}"#,
    );
    reads_and_writes::<Callback>(r#"{"callback_url":"https://erp.example/","api_key":null}"#);
    reads_and_writes::<IngestTask>(
        r#"{"tenant":"acme","request_id":"r-1","events":[{"id":"e-1","name":"order.created","payload":{"n":1}}]}"#,
    );
    reads_and_writes::<IngestTask>(r#"{"tenant":"acme","events":[]}"#);
    reads_and_writes::<IntegrationRef>(
        r#"{"tenant":"acme","integration_id":"erp-1","generation":"01HF7YAT000000000000000007"}"#,
    );
    reads_and_writes::<RetriedAll>(r#"{"delivered":1,"rejected":2,"left":3,"failed":"no"}"#);
}
