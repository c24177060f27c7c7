//! Reading the environment, once, at start-up.

use std::str::FromStr;

/// The value of a required variable.
///
/// # Panics
/// When it is not set: a function that is not configured must not start.
pub fn required(name: &str) -> String {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => value,
        _ => panic!(
            "the environment variable {name} is not set; template.yaml sets it for every function that needs it"
        ),
    }
}

/// The value of a variable that may be left empty.
pub fn optional(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// The value of a required variable, as a number, a truth value or any other type that can be read from text.
///
/// # Panics
/// When it is not set, or cannot be read.
pub fn parsed<T: FromStr>(name: &str) -> T {
    let value = required(name);
    value.parse().unwrap_or_else(|_| {
        panic!("the environment variable {name} has the value {value:?}, which cannot be read")
    })
}

/// The seal, from `SEAL_MILLIS`: how long after its millisecond a segment can still appear in the event log.
pub fn seal() -> std::time::Duration {
    std::time::Duration::from_millis(parsed("SEAL_MILLIS"))
}

/// The time limit of one invocation, from `TIME_LIMIT_SECONDS`: what runs for long leaves the rest to the next invocation.
pub fn time_limit() -> std::time::Duration {
    std::time::Duration::from_secs(parsed("TIME_LIMIT_SECONDS"))
}

/// What the deployment decides about streams: `SEAL_MILLIS`; `GIVE_UP_DAYS`, after which a receiver that has only failed
/// is given up; `RETENTION_DAYS`, for which events are kept.
pub fn rules() -> domain::lifecycle::Rules {
    let day = std::time::Duration::from_secs(24 * 3600);
    domain::lifecycle::Rules {
        seal: seal(),
        give_up: day * parsed::<u32>("GIVE_UP_DAYS"),
        retention: day * parsed::<u32>("RETENTION_DAYS"),
    }
}
