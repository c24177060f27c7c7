//! Records that the API sent: tasks of many events. The input is a whole record, or the list of its events.

#![no_main]

use libfuzzer_sys::fuzz_target;

mod records;

fuzz_target!(|text: &str| {
    records::check(text);
    records::check(&format!(r#"{{"tenant":"acme","events":{text}}}"#));
    records::check(&format!(
        r#"{{"tenant":"acme","events":[{{"id":"1","name":"a.b","payload":{text}}}]}}"#
    ));
});
