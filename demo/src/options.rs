//! The demo's input: arguments, and the environment that `make up` writes.

use std::ffi::OsString;
use std::time::Duration;

use crate::failure::Failure;

/// `demo --help`.
pub const HELP: &str = "\
Publishes events, receives them as webhooks and as files, and checks that each arrived exactly once.

usage: make demo, or: . target/local/env; cargo run --bin demo -- [options]

  --events N                      events published through the API (default 2000)
  --batch N                       events in one request of the API (default 50)
  --rate N                        events published through the API in a second (default 500)
  --bus-events N                  events published over the bus (default 100)
  --deadline SECONDS              wait this long for webhooks and files (default 120 and 240)
  --settle SECONDS                then go on looking for duplicates this long (default 0)
  --webhook-duplicates-allowed    webhooks may arrive more than once (they may where processes are killed)";

/// The arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    pub events: usize,
    pub batch: usize,
    pub rate: u32,
    pub bus_events: usize,
    pub webhook_deadline: Duration,
    pub export_deadline: Duration,
    pub settle: Duration,
    pub webhook_duplicates_allowed: bool,
}

impl Options {
    /// Reads the arguments; `None` when help was asked for.
    pub fn read<A: Into<OsString>>(
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Option<Options>, lexopt::Error> {
        use lexopt::prelude::*;
        let mut options = Options {
            events: 2_000,
            batch: 50,
            rate: 500,
            bus_events: 100,
            webhook_deadline: Duration::from_secs(120),
            export_deadline: Duration::from_secs(240),
            settle: Duration::ZERO,
            webhook_duplicates_allowed: false,
        };
        let mut parser = lexopt::Parser::from_args(arguments.into_iter().map(Into::into));
        while let Some(argument) = parser.next()? {
            match argument {
                Long("events") => options.events = parser.value()?.parse()?,
                Long("batch") => options.batch = at_least_one(parser.value()?.parse()?)?,
                Long("rate") => options.rate = at_least_one(parser.value()?.parse()?)? as u32,
                Long("bus-events") => options.bus_events = parser.value()?.parse()?,
                Long("deadline") => {
                    let deadline = Duration::from_secs(parser.value()?.parse()?);
                    (options.webhook_deadline, options.export_deadline) = (deadline, deadline);
                }
                Long("settle") => options.settle = Duration::from_secs(parser.value()?.parse()?),
                Long("webhook-duplicates-allowed") => options.webhook_duplicates_allowed = true,
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

fn at_least_one(number: usize) -> Result<usize, lexopt::Error> {
    match number {
        0 => Err("0 is too few".into()),
        _ => Ok(number),
    }
}

/// What `target/local/env` exports.
pub struct Environment {
    pub url: String,
    pub token: String,
    pub bus: String,
    pub aws_endpoint: String,
    pub region: String,
    pub bucket_access_key_id: String,
    pub bucket_secret_access_key: String,
}

impl Environment {
    /// Reads the environment. `AWS_ENDPOINT_URL` is required: the demo makes a bucket, which must not be in a real account.
    pub fn read() -> Result<Environment, Failure> {
        let read = |name: &str| {
            std::env::var(name).ok().filter(|value| !value.is_empty()).ok_or_else(|| {
                Failure::new(format!("{name} is not set. Run `make up`, then `. target/local/env`, or just `make demo`."))
            })
        };
        Ok(Environment {
            url: read("EVENTSTREAM_URL")?.trim_end_matches('/').to_owned(),
            token: read("EVENTSTREAM_TOKEN")?,
            bus: read("EVENTSTREAM_BUS")?,
            aws_endpoint: read("AWS_ENDPOINT_URL")?,
            region: read("AWS_REGION")?,
            bucket_access_key_id: read("EVENTSTREAM_BUCKET_ACCESS_KEY_ID")?,
            bucket_secret_access_key: read("EVENTSTREAM_BUCKET_SECRET_ACCESS_KEY")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_replace_the_defaults() {
        let read = |text: &str| Options::read(text.split_whitespace());
        let default = read("").unwrap().unwrap();
        assert_eq!((default.events, default.bus_events), (2_000, 100));
        let options = read(
            "--events 30 --batch 1 --rate 50 --bus-events=0 --deadline 9 --settle 4 --webhook-duplicates-allowed",
        );
        assert_eq!(
            options.unwrap(),
            Some(Options {
                events: 30,
                batch: 1,
                rate: 50,
                bus_events: 0,
                webhook_deadline: Duration::from_secs(9),
                export_deadline: Duration::from_secs(9),
                settle: Duration::from_secs(4),
                webhook_duplicates_allowed: true,
            })
        );
        assert_eq!(read("--help").unwrap(), None);
        for wrong in [
            "--events",
            "--events x",
            "--other",
            "30",
            "--batch 0",
            "--rate 0",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
