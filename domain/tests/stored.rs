//! What is stored and sent is read as it was written: from release 1.0 on a form that was released stays, since functions of two
//! releases are at work during a deployment.

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
    let integration: Integration = reads_and_writes(
        r#"{"tenant":"acme","id":"erp-1","generation":"01HF7YAT000000000000000007","version":12,"integration_type":"temporary","target":{"webhook":{"callback":{"callback_url":"https://erp.example/","api_key":{"cipher":"c","mask":"****"}},"stream":{"floor":1700000000000,"gaps":[{"from":1700000000001,"until":1700000000002},{"from":1700000000003,"until":null}],"unconfirmed":true,"owed":[{"start":1700000000001,"from":{"segment":"01HF7YAT010000000000000005","index":2},"until":1700000000002}],"schedule":{"wake_at":1700000000009,"turn":7,"lease":{"holder":"00000000000000000000000008","until":1700000000009},"nudged":true},"health":{"failures":5,"first_failed":"e1","several_since":1700000000001,"failing_since":1700000000002,"last_failure_at":1700000000003,"next_attempt_at":1700000000004,"last_success_at":1700000000005,"interruption":{"since":1700000000006,"probes":2,"cursor":{"segment":"01HF7YAT010000000000000005","index":3,"shard":1},"next_probe_at":1700000000007,"is_refused":true},"resumed_at":1700000000008,"started_at":1700000000001,"resumptions":[1700000000008],"retrying_until":1700000000009},"epoch":3,"served":{"since":1700000000003,"because":"down"},"live_hold":{"length":{"secs":60,"nanos":0},"served_at":1700000000003},"pace":{"window":5,"ceiling":6,"rate":10000,"last_rate":9000,"hold_until":1700000000009,"refused_at":1700000000002,"usual":20},"waiting":4,"strikes":[1700000000001],"slow_at":1700000000002,"skipped":[[{"segment":"01HF7YAT000000000000000005","index":0},1700000000000]]}}},"starts_at":1700000000000,"ends_at":1700000000010,"filter":{"event_filter":["order.created"]},"status":"stopped","stopped_at":1700000000004,"is_finished":true}"#,
    );
    let stream = integration.stream().unwrap();
    assert!(stream.is_interrupted());
    assert_eq!(stream.served().unwrap().because, Because::Down);
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

#[test]
fn runs_of_delivery() {
    let run = r#"{"tenant":"acme","integration_id":"erp-1","generation":"00000000000000000000000009","segment":"01HF7YAT010000000000000005","shard":1,"events":[{"index":3,"id":"e","name":"order.created","body":{}}]}"#;
    let run: Run = reads_and_writes(run);
    assert_eq!((run.events[0].index, run.shard), (3, 1));
}

#[test]
fn calls_of_delivery() {
    reads_and_writes::<RetryRejected>(
        r#"{"tenant":"acme","integration_id":"erp-1","generation":"00000000000000000000000009","event_id":"e"}"#,
    );
    reads_and_writes::<Vec<Retried>>(r#"["delivered",{"refused":"no"},"not_found"]"#);
}

#[test]
fn callbacks_and_what_functions_hand_on() {
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
