//! The functions' own traces: one JSON object per line on standard output, from where CloudWatch takes them.

use std::error::Error;
use std::fmt::Write;

use crate::clock::Clock;
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// The crates that may write more than `info`. Libraries would write whole requests, secrets included, at finer levels.
const OURS: [&str; 9] = [
    "api",
    "delivery",
    "domain",
    "export",
    "ingest",
    "notify",
    "receivers",
    "replay",
    "shared",
];

/// The field `timestamp`, RFC 3339 in UTC. A line without it counts as INFO for Lambda, whatever its level says: a filter of
/// levels would then drop errors.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", Clock::system().now())
    }
}

/// Sends traces to standard output as JSON; the level is `RUST_LOG`'s.
pub fn init() {
    let directives = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    subscriber(&directives, std::io::stdout).init();
}

/// What writes traces as JSON to `writer`: those that `directives` ask for, but of libraries none finer than `info`.
pub fn subscriber<W>(directives: &str, writer: W) -> impl SubscriberInitExt
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let allowed = filter_fn(|metadata| {
        let target = metadata.target();
        *metadata.level() <= LevelFilter::INFO
            || OURS.contains(&target.split("::").next().unwrap_or(target))
    });
    let layer = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_ansi(false)
        .with_timer(Utc)
        .with_writer(writer)
        .with_filter(EnvFilter::new(directives).and(allowed));
    Registry::default().with(layer)
}

/// An error with all its causes, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
