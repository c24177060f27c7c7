//! Filters: the first line is a name, the rest a filter. The rule is written down here a second time, as plainly as it can be.

#![no_main]

use domain::event::check_name;
use domain::filter::Filter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (name, filter) = text.split_once('\n').unwrap_or((text, "{}"));
    let Ok(filter) = serde_json::from_str::<Filter>(filter) else {
        return;
    };
    if check_name(name).is_err() || filter.check().is_err() {
        return;
    }
    let events = filter.event_filter.clone().unwrap_or_default();
    let entities = filter.entity_filter.clone().unwrap_or_default();
    let mut expected = events.is_empty() && entities.is_empty();
    for event in events {
        expected |= event == name;
    }
    for entity in entities {
        expected |= name.starts_with(&format!("{entity}."));
    }
    assert_eq!(filter.passes(name), expected);
});
