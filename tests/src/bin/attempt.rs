//! One attempt in a process of its own: what comes of a POST to a receiver, how long it takes, and how much memory.
//!
//! Its environment is its own, too: certificates that it trusts, proxies that it should not ask.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::time::Instant;

use domain::receiver::credentials::NONE;
use domain::time::Millis;
use receivers::{Post, Receivers};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = std::env::args().nth(1).expect("usage: attempt URL");
    let receivers = Receivers::new(true);
    let post = Post {
        url: &url,
        credentials: &NONE,
        event_id: "e",
        body: r#"{"tenant":"acme","name":"a.b","published_at":"2010-01-01T12:00:00.000Z","payload":{}}"#,
    };
    let (before, started) = (kibibytes("VmRSS"), Instant::now());
    let outcome = receivers.post(&post, Millis(0)).await.outcome;
    let (millis, grown) = (
        started.elapsed().as_millis(),
        kibibytes("VmHWM").saturating_sub(before),
    );
    println!("{millis}\n{grown}\n{outcome:?}");
}

/// A figure of this process: what it holds (`VmRSS`), or the most that it ever held (`VmHWM`).
fn kibibytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let figure = line.and_then(|line| line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().ok());
    figure.unwrap_or_default()
}
