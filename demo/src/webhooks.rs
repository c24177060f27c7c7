//! The webhooks: waited for and held against what was published.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tests::receiver::{Received, Receiver};

use crate::catalogue::passes;
use crate::check::{Ledger, Published, Tally, percentile, reference};

/// What arrived, and how fast.
pub struct Webhooks {
    pub tally: Tally,
    pub p50_millis: u64,
    pub p99_millis: u64,
}

/// Waits until every expected event has arrived or `deadline` is over; [`check`] finds out which.
pub async fn wait(receiver: &Receiver, published: &HashMap<String, Published>, deadline: Duration) {
    let mut left: HashSet<&str> = published
        .iter()
        .filter(|(_, event)| passes(event.event.name))
        .map(|(reference, _)| reference.as_str())
        .collect();
    let mut looked_at = 0;
    let _ = receiver
        .wait_until(
            |received| {
                for request in &received[looked_at..] {
                    if let Some(reference) = reference(&request.text()) {
                        left.remove(reference.as_str());
                    }
                }
                looked_at = received.len();
                left.is_empty()
            },
            deadline,
        )
        .await;
}

/// Holds the webhooks against what was published.
pub fn check(
    received: &[Received],
    published: &HashMap<String, Published>,
    api_key: &str,
) -> Webhooks {
    let mut ledger = Ledger::of_webhooks(published);
    let mut millis = Vec::new();
    for request in received {
        if request.method != "POST" || request.header("content-type") != Some("application/json") {
            ledger.wrong("a webhook is not a POST of JSON");
        }
        if request.header("authorization") != Some(&format!("Bearer {api_key}")) {
            ledger.wrong("a webhook came without the right api_key");
        }
        if let Some(event) = ledger.enter(&request.text()) {
            millis.push(request.at.since(event.at).as_millis() as u64);
            if request.id() != Some(event.id.as_str()) {
                ledger.wrong("a webhook-id is not the id of its event");
            }
        }
    }
    Webhooks {
        tally: ledger.finish(),
        p50_millis: percentile(&mut millis, 50),
        p99_millis: percentile(&mut millis, 99),
    }
}
