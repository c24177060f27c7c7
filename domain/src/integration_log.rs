//! The integration log: its entries, their actions, and the sentences of their reasons.

use ulid::Ulid;

use crate::receiver::outcome::Outcome;
use crate::time::Millis;

/// The most that a reason shows of a payload.
const MAX_PAYLOAD_BYTES: usize = 1024;

/// What an entry of an integration log is about (docs/api.md, Integration log).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Registered or started.
    IntegrationStarted,
    /// Stopped, by the API or by the service.
    IntegrationStopped,
    /// Changed by the API.
    IntegrationUpdated,
    /// An attempt failed; the event is sent again later.
    RetryTriggered,
    /// The receiver responded with 400; the event is among the rejected ones.
    EventRejected,
    /// The oldest rejected event made room for a newer one.
    RejectedEventEvicted,
    /// The receiver failed so often that nothing is sent but probes.
    DeliveryInterrupted,
    /// An interrupted integration is sent events again.
    DeliveryResumed,
    /// The receiver is sent as much as it takes, from the event log.
    DeliveryPaced,
    /// A paced integration is sent events as they arrive again.
    DeliveryLive,
    /// A file could not be uploaded; the next tick tries again.
    ExportFailed,
}

/// An entry of an integration log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its ULID; the millisecond is `created_at`.
    pub id: Ulid,
    /// What happened.
    pub action: Action,
    /// A sentence for the reader of the log.
    pub reason: String,
}

impl Entry {
    /// When it happened.
    pub fn created_at(&self) -> Millis {
        Millis(self.id.timestamp_ms())
    }
}

/// Every action.
const ACTIONS: [Action; 11] = [
    Action::IntegrationStarted,
    Action::IntegrationStopped,
    Action::IntegrationUpdated,
    Action::RetryTriggered,
    Action::EventRejected,
    Action::RejectedEventEvicted,
    Action::DeliveryInterrupted,
    Action::DeliveryResumed,
    Action::DeliveryPaced,
    Action::DeliveryLive,
    Action::ExportFailed,
];

impl Action {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::IntegrationStarted => "integration_started",
            Action::IntegrationStopped => "integration_stopped",
            Action::IntegrationUpdated => "integration_updated",
            Action::RetryTriggered => "retry_triggered",
            Action::EventRejected => "event_rejected",
            Action::RejectedEventEvicted => "rejected_event_evicted",
            Action::DeliveryInterrupted => "delivery_interrupted",
            Action::DeliveryResumed => "delivery_resumed",
            Action::DeliveryPaced => "delivery_paced",
            Action::DeliveryLive => "delivery_live",
            Action::ExportFailed => "export_failed",
        }
    }

    /// The action of this name.
    pub fn parse(name: &str) -> Option<Action> {
        ACTIONS.into_iter().find(|action| action.as_str() == name)
    }
}

/// `Request to URL <url> failed. Reason: <reason>. Payload: <at most 1 KB of it>`, the form in docs/api.md.
pub fn request_failed(url: &str, reason: &str, payload: &str) -> String {
    format!(
        "Request to URL {url} failed. Reason: {reason}. Payload: {}",
        clip(payload, MAX_PAYLOAD_BYTES)
    )
}

/// What came of an attempt to deliver, as [`request_failed`] says it; empty where the event was taken.
pub fn reason_of(url: &str, outcome: &Outcome, payload: &str) -> String {
    match (outcome.reason(), outcome) {
        (None, _) => String::new(),
        (Some(reason), Outcome::Gone) => {
            let reason = format!("{reason}, so the integration was stopped");
            request_failed(url, &reason, payload)
        }
        (Some(reason), _) => request_failed(url, reason, payload),
    }
}

/// The entry of a running integration that cannot be sent what it is owed, since events are kept for a certain time and its receiver
/// is slower than its publisher. The same all day: `oldest` is the first instant of which events are kept.
pub fn skipped(oldest: Millis, now: Millis) -> Entry {
    let reason = format!(
        "Events published before {} are no longer kept and were not sent: the receiver takes less than is published.",
        oldest.day()
    );
    Entry {
        id: Ulid(now.midnight().first_id().0 + 1),
        action: Action::DeliveryPaced,
        reason,
    }
}

/// Why a temporary S3 integration has ended, whose range began at `starts_at`. `oldest` is the first instant of which events are
/// kept.
pub fn exported(end: Millis, starts_at: Millis, oldest: Millis) -> String {
    finished(end, starts_at, oldest, "exported")
}

/// Why a temporary webhook integration has ended.
pub fn delivered(end: Millis, starts_at: Millis, oldest: Millis) -> String {
    finished(end, starts_at, oldest, "delivered or rejected")
}

fn finished(end: Millis, starts_at: Millis, oldest: Millis, done: &str) -> String {
    if oldest >= end {
        return format!(
            "Stopped automatically: its range ends at {end}, and events before {oldest} are no longer kept."
        );
    }
    let done = format!("Stopped automatically: every event before {end} has been {done}");
    match starts_at < oldest {
        true => format!("{done}, of those that were kept: what is older than {oldest} is not."),
        false => format!("{done}."),
    }
}

/// Why an integration runs that begins at `from`: started by the API, and how much of its past is not kept any more.
pub fn started(from: Millis, oldest: Millis) -> String {
    match from < oldest {
        true => format!("Started via API. Events before {oldest} are no longer kept."),
        false => "Started via API.".to_owned(),
    }
}

/// Why something happened, of a reason that [`request_failed`] made: without the URL, which may have a secret in it, and
/// without the payload. Any other reason as it is.
pub fn cause(reason: &str) -> &str {
    let Some(request) = reason.strip_prefix("Request to URL ") else {
        return reason;
    };
    let cause = request
        .split_once(" failed. Reason: ")
        .and_then(|(_, rest)| rest.split_once(". Payload: "));
    cause.map_or("a request failed", |(cause, _)| cause)
}

/// The start of `text`, at most `bytes` long, cut between characters.
pub fn clip(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_410_it_says_that_the_integration_was_stopped() {
        let reason = |outcome| reason_of("https://a.example", &outcome, "{}");
        assert_eq!(
            reason(Outcome::Gone),
            "Request to URL https://a.example failed. Reason: gone (HTTP status code 410), so the integration was stopped. Payload: {}"
        );
        assert_eq!(
            reason(Outcome::Rejected("no".to_owned())),
            "Request to URL https://a.example failed. Reason: bad request (HTTP status code 400). Payload: {}"
        );
        assert_eq!(reason(Outcome::Delivered), "");
    }

    #[test]
    fn actions_are_read_back_by_their_names() {
        for action in ACTIONS {
            assert_eq!(Action::parse(action.as_str()), Some(action));
        }
        assert_eq!(Action::parse("nonsense"), None);
    }

    #[test]
    fn what_is_not_kept_any_more_is_said() {
        let (early, middle, late) = (Millis(0), Millis(86_400_000), Millis(172_800_000));
        let before = "Stopped automatically: every event before 1970-01-03T00:00:00.000Z has been";
        for (reason, expected) in [
            (exported(late, middle, early), format!("{before} exported.")),
            (
                delivered(late, early, middle),
                format!("{before} delivered or rejected, of those that were kept: what is older than 1970-01-02T00:00:00.000Z is not."),
            ),
            (
                exported(middle, early, late),
                "Stopped automatically: its range ends at 1970-01-02T00:00:00.000Z, and events before 1970-01-03T00:00:00.000Z are no longer kept.".to_owned(),
            ),
            (started(middle, early), "Started via API.".to_owned()),
            (
                started(early, middle),
                "Started via API. Events before 1970-01-02T00:00:00.000Z are no longer kept.".to_owned(),
            ),
        ] {
            assert_eq!(reason, expected);
        }
    }

    #[test]
    fn the_cause_of_a_failed_request_has_neither_url_nor_payload() {
        let reason = request_failed(
            "https://a.example/?k=1",
            "not found. Really",
            "{\"a\":\". Payload: \"}",
        );
        assert_eq!(cause(&reason), "not found. Really");
        assert_eq!(cause("Stopped via API."), "Stopped via API.");
        assert_eq!(
            cause("Request to URL https://a.example/?k=1"),
            "a request failed"
        );
    }

    #[test]
    fn a_reason_shows_a_kilobyte_of_the_payload_at_most() {
        let reason = request_failed(
            "http://example.com/webhook",
            "too many requests (HTTP status code 429)",
            &"é".repeat(1_000),
        );
        assert_eq!(
            reason,
            format!(
                "Request to URL http://example.com/webhook failed. Reason: too many requests (HTTP status code 429). Payload: {}",
                "é".repeat(512)
            )
        );
    }

    #[test]
    fn what_is_no_longer_kept_is_one_entry_a_day() {
        let day = 24 * 3600 * 1_000;
        let entry = |now: u64| skipped(Millis(now - 90 * day), Millis(now));
        let noon = 20_000 * day + day / 2;
        assert_eq!(entry(noon), entry(noon + day / 2 - 1));
        let next = entry(noon + day);
        assert_ne!(entry(noon).id, next.id);
        assert_ne!(entry(noon).reason, next.reason);
        assert!(next.created_at() <= Millis(noon + day));
    }
}
