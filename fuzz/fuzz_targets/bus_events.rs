//! Records that came over the bus. The input is a whole record, or the `detail` of one.

#![no_main]

use libfuzzer_sys::fuzz_target;

mod records;

fuzz_target!(|text: &str| {
    records::check(text);
    records::check(&format!(
        r#"{{"version":"0","id":"1","detail-type":"order.created","source":"s","detail":{text}}}"#
    ));
    records::check(&format!(
        r#"{{"id":"1","detail-type":"order.created","detail":{{"tenant":"acme","payload":{text}}}}}"#
    ));
});
