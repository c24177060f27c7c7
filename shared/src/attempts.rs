//! What is counted and logged of the attempts of one run or one sender: enough to find the way of each event by its id.
//!
//! A line for each attempt that failed, and one for every fifty events that were delivered. Of failures, thirty lines a second;
//! the others are counted in the next one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::integration::IntegrationRef;
use domain::metric::Metric;
use domain::receiver::outcome::{Exchange, Outcome};
use domain::time::Millis;

use crate::activity::Counter;
use crate::metrics::Metrics;
use crate::per_second::PerSecond;

/// How many delivered events a line names at the most.
const MAX_IDS: usize = 50;
/// How many failures are logged in a second.
const MAX_LINES: usize = 30;

/// The attempts of one run or one sender.
#[derive(Debug)]
pub struct Attempts<'a> {
    metrics: &'a Metrics,
    counter: &'a Counter,
    integration_ref: &'a IntegrationRef,
    noted: Mutex<Noted>,
}

/// An event that was attempted.
#[derive(Clone, Copy, Debug)]
pub struct Attempted<'a> {
    /// Its id.
    pub id: &'a str,
    /// When it was published.
    pub published_at: Millis,
    /// Which attempt it was, from 1.
    pub attempt: u32,
}

#[derive(Debug, Default)]
struct Noted {
    /// Delivered since the last line, and the longest that an attempt of these took.
    delivered: Vec<String>,
    longest: Duration,
    /// The lines of failures.
    lines: PerSecond,
    /// Failures without a line, since the last one.
    omitted: usize,
}

impl<'a> Attempts<'a> {
    /// None yet.
    pub fn new(
        metrics: &'a Metrics,
        counter: &'a Counter,
        integration_ref: &'a IntegrationRef,
    ) -> Attempts<'a> {
        metrics.concern(&integration_ref.tenant, &integration_ref.integration_id);
        Attempts {
            metrics,
            counter,
            integration_ref,
            noted: Mutex::default(),
        }
    }

    /// An attempt has ended, at `now`.
    pub fn ended(&self, event: Attempted<'_>, exchange: &Exchange, now: Millis) {
        let latency = now.since(event.published_at);
        self.counter
            .count(self.integration_ref, now, &exchange.outcome, latency);
        if self.metrics.exchange(exchange) {
            self.metrics.time(Metric::Latency, latency);
            self.delivered(event.id, exchange.took);
        } else {
            self.failed(event, exchange);
        }
    }

    fn delivered(&self, id: &str, took: Duration) {
        let mut noted = self.lock();
        noted.delivered.push(id.to_owned());
        noted.longest = noted.longest.max(took);
        if noted.delivered.len() >= MAX_IDS {
            self.say_delivered(&mut noted);
        }
    }

    fn say_delivered(&self, noted: &mut Noted) {
        let events = std::mem::take(&mut noted.delivered);
        let longest = std::mem::take(&mut noted.longest);
        if events.is_empty() {
            return;
        }
        tracing::info!(
            tenant = self.integration_ref.tenant,
            integration = self.integration_ref.integration_id,
            count = events.len(),
            latency_ms = longest.as_millis() as u64,
            event = events.join(" "),
            "delivered"
        );
    }

    fn failed(&self, event: Attempted<'_>, exchange: &Exchange) {
        let omitted = {
            let mut noted = self.lock();
            if !noted.lines.takes(MAX_LINES) {
                noted.omitted += 1;
                return;
            }
            std::mem::take(&mut noted.omitted)
        };
        let message = match exchange.outcome {
            Outcome::Rejected(_) => "rejected",
            Outcome::Gone => "gone",
            _ => "failed",
        };
        tracing::warn!(
            tenant = self.integration_ref.tenant,
            integration = self.integration_ref.integration_id,
            event = event.id,
            attempt = event.attempt,
            status = exchange.status,
            latency_ms = exchange.took.as_millis() as u64,
            reason = exchange.outcome.reason(),
            omitted = (omitted > 0).then_some(omitted),
            "{message}"
        );
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs what is not logged yet, however the run or the sender ends.
impl Drop for Attempts<'_> {
    fn drop(&mut self) {
        let mut noted = self.lock();
        self.say_delivered(&mut noted);
    }
}

#[cfg(test)]
mod tests {
    use domain::receiver::outcome::{Failure, Lack};
    use serde_json::{Value, json};
    use ulid::Ulid;

    use super::*;
    use crate::store::Table;
    use crate::store::activities::Activities;
    use crate::telemetry::tests::lines;

    fn exchange(status: Option<u16>, outcome: Outcome) -> Exchange {
        Exchange {
            outcome,
            status,
            lack: status.is_none().then_some(Lack::Time),
            took: Duration::from_millis(7),
        }
    }

    fn failed(reason: &str) -> Outcome {
        Outcome::Failed(Failure {
            reason: reason.to_owned(),
            retry_after: None,
            is_refusal: true,
        })
    }

    /// What is logged of the attempts that `make` makes, without what no test can know.
    fn logged(make: impl Fn(&Attempts<'_>)) -> Vec<Value> {
        let metrics = Metrics::default();
        let integration_ref = IntegrationRef {
            tenant: "acme".to_owned(),
            integration_id: "erp-1".to_owned(),
            generation: Ulid::nil(),
        };
        // What is counted goes nowhere here.
        let config = aws_sdk_dynamodb::Config::builder().behavior_version_latest();
        let client = aws_sdk_dynamodb::Client::from_conf(config.build());
        let counter = Counter::new(Activities::new(Table::new(client, "t".into())));
        let mut lines = lines("info", || {
            make(&Attempts::new(&metrics, &counter, &integration_ref))
        });
        for line in &mut lines {
            for field in ["timestamp", "target"] {
                line.as_object_mut().unwrap().remove(field).unwrap();
            }
        }
        lines
    }

    fn event(id: &str, attempt: u32) -> Attempted<'_> {
        Attempted {
            id,
            published_at: Millis(1_000),
            attempt,
        }
    }

    #[test]
    fn a_failure_has_a_line_and_deliveries_share_one() {
        let lines = logged(|attempts| {
            attempts.ended(
                event("a", 1),
                &exchange(Some(204), Outcome::Delivered),
                Millis(1_100),
            );
            let timed_out = exchange(None, failed("no response within 15 seconds"));
            attempts.ended(event("b", 3), &timed_out, Millis(1_100));
            let rejected = Outcome::Rejected("the receiver's own words".to_owned());
            attempts.ended(event("c", 1), &exchange(Some(400), rejected), Millis(1_100));
            attempts.ended(
                event("d", 2),
                &exchange(Some(200), Outcome::Delivered),
                Millis(1_100),
            );
        });
        assert_eq!(
            lines,
            [
                json!({"level": "WARN", "message": "failed", "tenant": "acme", "integration": "erp-1", "event": "b", "attempt": 3,
                    "latency_ms": 7, "reason": "no response within 15 seconds"}),
                json!({"level": "WARN", "message": "rejected", "tenant": "acme", "integration": "erp-1", "event": "c", "attempt": 1,
                    "status": 400, "latency_ms": 7, "reason": "bad request (HTTP status code 400)"}),
                json!({"level": "INFO", "message": "delivered", "tenant": "acme", "integration": "erp-1", "event": "a d", "count": 2,
                    "latency_ms": 7}),
            ]
        );
    }

    #[test]
    fn a_storm_of_failures_has_thirty_lines_a_second_and_many_deliveries_fifty_to_a_line() {
        let lines = logged(|attempts| {
            for n in 0..120 {
                let refused = exchange(Some(429), failed("too many requests"));
                attempts.ended(event(&format!("f{n}"), 1), &refused, Millis(1_000));
                let delivered = exchange(Some(204), Outcome::Delivered);
                attempts.ended(event(&format!("d{n}"), 1), &delivered, Millis(1_000));
            }
        });
        let count = |message: &str| lines.iter().filter(|it| it["message"] == message).count();
        assert_eq!((count("failed"), count("delivered")), (MAX_LINES, 3));
        let delivered = lines.iter().filter_map(|line| line["count"].as_u64());
        assert_eq!(delivered.collect::<Vec<_>>(), [50, 50, 20]);
    }
}
