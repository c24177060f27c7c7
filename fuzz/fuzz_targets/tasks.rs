//! Tasks of the delivery, replay and export queues: what can be read comes back the same when it is written and read again.

#![no_main]

use domain::tasks::{ExportTask, ReplayTask, Run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(run) = serde_json::from_str::<Run>(text) {
        for event in &run.events {
            assert!(text.contains(event.body.get()), "a body keeps its bytes");
        }
        let message = run.message().expect("a run can be written");
        let again: Run = serde_json::from_str(&message.body).expect("and read again");
        assert_eq!(format!("{run:?}"), format!("{again:?}"));
    }
    if let Ok(task) = serde_json::from_str::<ReplayTask>(text) {
        let written = serde_json::to_string(&task).expect("a task can be written");
        assert_eq!(
            serde_json::from_str::<ReplayTask>(&written).expect("and read again"),
            task
        );
    }
    if let Ok(task) = serde_json::from_str::<ExportTask>(text) {
        let written = serde_json::to_string(&task).expect("a task can be written");
        assert_eq!(
            serde_json::from_str::<ExportTask>(&written).expect("and read again"),
            task
        );
    }
});
