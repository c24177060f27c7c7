//! What functions write about themselves: one JSON object a line, to standard output, where CloudWatch takes it.

use std::error::Error;
use std::fmt::Write;

use tracing_subscriber::EnvFilter;

/// Sends traces to standard output as JSON; the level is `RUST_LOG`'s.
pub fn init() {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_env_filter(filter())
        .with_ansi(false)
        .without_time()
        .init();
}

/// `RUST_LOG`, but for the libraries that would write whole requests, secrets included, at their finer levels.
fn filter() -> EnvFilter {
    let quiet = [
        "aws_config",
        "aws_runtime",
        "aws_sigv4",
        "aws_smithy_runtime",
        "hyper",
        "hyper_util",
        "lambda_http",
        "lambda_runtime",
        "reqwest",
        "rustls",
    ];
    let directives = quiet
        .iter()
        .filter_map(|library| format!("{library}=info").parse().ok());
    directives.fold(EnvFilter::from_default_env(), EnvFilter::add_directive)
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
