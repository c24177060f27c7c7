//! What holds for every record of the ingest queue.

use domain::event::{check_name, check_payload, envelope, is_tenant};
use domain::ingest_record;
use domain::time::Millis;

/// Nothing is lost, what is taken in keeps to the rules, and becomes one line of JSON.
pub fn check(record: &str) {
    let read = ingest_record::read(record);
    assert_eq!(read.unreadable.len(), read.reasons.len());
    for event in &read.events {
        assert!(is_tenant(&read.tenant));
        assert!(check_name(&event.name).is_ok() && check_payload(&event.payload).is_ok());
        assert!(event.id.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(
            record.contains(event.payload.get()),
            "a payload keeps its bytes"
        );
        let line = envelope(&read.tenant, &event.name, Millis(0), &event.payload);
        let line = line.expect("every event has an envelope");
        assert!(!line.get().contains(['\n', '\r']));
        let parsed: Result<&serde_json::value::RawValue, _> = serde_json::from_str(line.get());
        assert!(parsed.is_ok(), "an envelope is JSON");
    }
}
