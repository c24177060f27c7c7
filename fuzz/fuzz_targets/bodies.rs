//! Bodies of the API: no text makes reading panic, and what is accepted keeps to the rules.

#![no_main]

use api::bodies::{Registration, Update, parse};
use api::{limits, publish};
use domain::event::{check_name, check_payload};
use domain::time::Millis;
use libfuzzer_sys::fuzz_target;

const NOW: Millis = Millis(1_800_000_000_000);
const OURS: &str = "arn:aws:iam::210987654321:role/export";

fuzz_target!(|text: &str| {
    if let Ok(body) = parse::<Registration>(text) {
        let _ = limits::id(&body.id);
        let (starts_at, ends_at) = (body.starts_at.as_deref(), body.ends_at.as_deref());
        if let Ok((from, until)) = limits::range(body.integration_type, starts_at, ends_at, NOW) {
            assert!(from <= NOW && until.is_none_or(|until| until > from));
        }
        if let Some(filter) = &body.filter_conditions {
            let _ = filter.check();
        }
        if let Some(bucket) = &body.s3_parameters {
            let _ = bucket.bucket.as_deref().map(limits::bucket);
            let _ = bucket.aws_region.as_deref().map(limits::region);
            let prefix = bucket.key_prefix.as_ref().and_then(Option::as_deref);
            let _ = prefix.map(limits::key_prefix);
            let _ = prefix.map(limits::key_prefix_of_role);
            let role_arn = bucket.role_arn.as_deref();
            let _ = role_arn.map(|role_arn| limits::role_arn(role_arn, OURS));
        }
    }
    let _ = parse::<Update>(text);
    for is_lines in [false, true] {
        if let Ok(events) = publish::read(text, is_lines) {
            assert!((1..=500).contains(&events.len()));
            for event in events {
                assert!(check_name(&event.name).is_ok() && check_payload(&event.payload).is_ok());
                assert!(
                    text.contains(event.payload.get()),
                    "a payload keeps its bytes"
                );
            }
        }
    }
});
