//! Words of the integration log: its actions, and the sentences that explain them.

/// The most that a reason shows of a payload.
const MAX_PAYLOAD_BYTES: usize = 1024;

/// What an entry of an integration log tells (contract, section 1).
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
    /// The receiver answered 400; the event is among the rejected ones.
    EventRejected,
    /// The oldest rejected event made room for a newer one.
    RejectedEventEvicted,
    /// The receiver failed so often that nothing is sent but probes.
    DeliveryInterrupted,
    /// An interrupted integration is sent events again.
    DeliveryResumed,
    /// A file could not be uploaded; the next tick tries again.
    ExportFailed,
}

/// Every action.
const ACTIONS: [Action; 9] = [
    Action::IntegrationStarted,
    Action::IntegrationStopped,
    Action::IntegrationUpdated,
    Action::RetryTriggered,
    Action::EventRejected,
    Action::RejectedEventEvicted,
    Action::DeliveryInterrupted,
    Action::DeliveryResumed,
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
            Action::ExportFailed => "export_failed",
        }
    }

    /// The action of this name.
    pub fn parse(name: &str) -> Option<Action> {
        ACTIONS.into_iter().find(|action| action.as_str() == name)
    }
}

/// `Request to URL <url> failed. Reason: <reason>. Payload: <at most 1 KB of it>`, the form of the API page.
pub fn request_failed(url: &str, reason: &str, payload: &str) -> String {
    format!(
        "Request to URL {url} failed. Reason: {reason}. Payload: {}",
        clip(payload, MAX_PAYLOAD_BYTES)
    )
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
    fn actions_are_read_back_by_their_names() {
        for action in ACTIONS {
            assert_eq!(Action::parse(action.as_str()), Some(action));
        }
        assert_eq!(Action::parse("nonsense"), None);
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
}
