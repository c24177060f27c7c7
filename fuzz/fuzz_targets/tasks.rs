//! Tasks of the delivery, replay and export queues: what can be read comes back the same when it is written and read again.

#![no_main]

use std::time::Duration;

use domain::tasks::{DeliveryTask, ExportTask, ReplayTask};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(task) = serde_json::from_str::<DeliveryTask>(text) {
        assert!(text.contains(task.body.get()), "a body keeps its bytes");
        let message = task.message(Duration::ZERO).expect("a task can be written");
        let again: DeliveryTask = serde_json::from_str(&message.body).expect("and read again");
        assert_eq!(format!("{task:?}"), format!("{again:?}"));
    }
    if let Ok(task) = serde_json::from_str::<ReplayTask>(text) {
        let written = serde_json::to_string(&task).expect("a task can be written");
        assert_eq!(serde_json::from_str::<ReplayTask>(&written).expect("and read again"), task);
    }
    if let Ok(task) = serde_json::from_str::<ExportTask>(text) {
        let written = serde_json::to_string(&task).expect("a task can be written");
        assert_eq!(serde_json::from_str::<ExportTask>(&written).expect("and read again"), task);
    }
});
