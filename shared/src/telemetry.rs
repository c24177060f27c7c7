//! The functions' own traces: one JSON object per line on standard output, from where CloudWatch takes them.

use std::error::Error;
use std::fmt::Write;

use crate::clock::Clock;
use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

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

/// Sends traces to standard output as JSON; the level is `RUST_LOG`'s: `info`, or by crate such as `info,shared=debug`.
pub fn init() {
    let directives = std::env::var("RUST_LOG").unwrap_or_default();
    subscriber(&directives, std::io::stdout).init();
}

/// What writes traces as JSON to `writer`: those that `directives` ask for, but of libraries none finer than `info`. Without
/// directives, or with some that cannot be read, the level is `info`.
pub fn subscriber<W>(directives: &str, writer: W) -> impl SubscriberInitExt
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // A line shows no spans, so none is recorded: Lambda's runtime has one for each invocation.
    let allowed = filter_fn(|metadata| {
        let target = metadata.target();
        let is_ours = || OURS.contains(&target.split("::").next().unwrap_or(target));
        metadata.is_event() && (*metadata.level() <= LevelFilter::INFO || is_ours())
    });
    // Crates and levels are all that is asked for: a filter of spans and fields would bring an engine of regular expressions.
    let asked = Some(directives).filter(|it| !it.trim().is_empty());
    let asked = asked.and_then(|directives| directives.parse::<Targets>().ok());
    let asked = asked.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let layer = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_ansi(false)
        .with_timer(Utc)
        .with_writer(writer)
        .with_filter(asked.and(allowed));
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

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;

    /// Where lines are written.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `work` writes, with these directives.
    pub(crate) fn lines(directives: &str, work: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let guard = subscriber(directives, move || writer.clone()).set_default();
        work();
        drop(guard);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let read = |line| serde_json::from_str(line).unwrap();
        text.lines().map(read).collect()
    }

    /// The messages of those lines that are written with these directives.
    fn written(directives: &str) -> Vec<String> {
        let lines = lines(directives, || {
            tracing::warn!(target: "shared", "a warning of ours");
            tracing::info!(target: "shared::queue", "ours");
            tracing::debug!(target: "shared::queue", "a detail of ours");
            tracing::debug!(target: "delivery", "a detail of delivery");
            tracing::info!(target: "hyper", "a library's");
            tracing::debug!(target: "hyper", "a library's detail");
        });
        let message = |line: &Value| line["message"].as_str().unwrap().to_owned();
        lines.iter().map(message).collect()
    }

    #[test]
    fn no_span_is_recorded() {
        lines("info", || {
            assert!(tracing::info_span!("an invocation").is_disabled())
        });
    }

    #[test]
    fn levels_are_asked_for_by_crate_and_libraries_say_nothing_in_detail() {
        let info = ["a warning of ours", "ours", "a library's"];
        for directives in ["info", "INFO", "", " ", "shared=nothing-known"] {
            assert_eq!(written(directives), info, "{directives:?}");
        }
        assert_eq!(written("warn"), info[..1]);
        assert_eq!(written("off"), [""; 0]);
        let detail = [
            "a warning of ours",
            "ours",
            "a detail of ours",
            "a library's",
        ];
        assert_eq!(written("info,shared=debug"), detail);
        let all = [
            "a warning of ours",
            "ours",
            "a detail of ours",
            "a detail of delivery",
            "a library's",
        ];
        assert_eq!(written("trace"), all);
    }
}
