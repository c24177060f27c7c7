//! What functions count, by the names that metrics have in CloudWatch. Dashboard, alarms and docs/operations.md take them from here.

use strum::{IntoStaticStr, VariantArray};

use crate::receiver::outcome::{Exchange, Lack};

/// A metric. It has no dimension but the function that counts it. Of one that is measured, CloudWatch has each value: its sample
/// count is how often that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
pub enum Metric {
    /// Events that the API accepted.
    EventsAccepted,
    /// Events in segments that were confirmed.
    EventsAppended,
    /// Events that were appended again, since an append was not confirmed in time.
    EventsRepeated,
    /// Events that cannot be read, and went to the dead-letter queue.
    EventsUnreadable,
    /// The size of each segment as it is stored, in bytes. Sample count: segments.
    SegmentBytes,
    /// From publication to the receiver's 2xx, in milliseconds. Sample count: events delivered.
    Latency,
    /// How long each attempt took, in milliseconds. Sample count: attempts.
    ReceiverLatency,
    /// Attempts that were answered with 1xx or 3xx.
    Failed3xx,
    /// Attempts that were answered with 4xx, except 400 and 410.
    Failed4xx,
    /// Attempts that were answered with 5xx.
    Failed5xx,
    /// Attempts for which time ran out, while connecting or waiting.
    FailedTimeout,
    /// Attempts without a connection, or whose connection broke.
    FailedConnection,
    /// Attempts whose host name could not be resolved.
    FailedDns,
    /// Attempts that failed in TLS: certificates, versions.
    FailedTls,
    /// Attempts that were answered with something that is not HTTP.
    FailedProtocol,
    /// Attempts that were not made, since the address is not allowed.
    FailedBlocked,
    /// Attempts that were not made, since the process had no socket left.
    FailedSocket,
    /// Events that a receiver refused for good, with 400.
    EventsRejected,
    /// Attempts that were answered with 410, which stops the integration.
    ReceiversGone,
    /// Events that were put aside to wait: for their next attempt, or for a sender.
    EventsParked,
    /// How many events wait for another attempt when a sender leaves.
    RetriesWaiting,
    /// Streams that became interrupted.
    Interruptions,
    /// Streams that are not interrupted any more.
    Resumptions,
    /// How old the oldest owed event is when a sender begins, in milliseconds. Sample count: steps that owe something.
    BacklogAge,
    /// How far files are behind the present when a run ends, in milliseconds, where the bucket takes them. Sample count: runs that had
    /// something to do.
    ExportLag,
    /// The size of each file, in bytes. Sample count: files.
    FileBytes,
    /// Lines of files.
    FileLines,
    /// Uploads that were refused or failed.
    ExportsFailed,
    /// Plans whose file cannot be made again: the event log is not what it was.
    PlansMismatched,
    /// Notifications that are on the bus.
    Notified,
    /// Notifications that the bus did not take; their batch is tried again.
    NotificationsFailed,
    /// Tasks that failed for a reason of ours, and come again.
    TasksHandedBack,
    /// Tasks that cannot be read.
    TasksUnreadable,
    /// Sweeps that were done.
    Sweeps,
    /// Ticks of exports that were done.
    Ticks,
}

impl Metric {
    /// Every metric.
    pub const ALL: &'static [Metric] = Metric::VARIANTS;

    /// Its name in CloudWatch.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// What an attempt counts as that was not taken; none for one that was.
    pub fn of_failure(exchange: &Exchange) -> Option<Metric> {
        Some(match (exchange.status, exchange.lack) {
            (Some(200..300), _) => return None,
            (Some(400), _) => Metric::EventsRejected,
            (Some(410), _) => Metric::ReceiversGone,
            (Some(400..500), _) => Metric::Failed4xx,
            (Some(500..), _) => Metric::Failed5xx,
            (Some(_), _) => Metric::Failed3xx,
            (None, Some(Lack::Blocked)) => Metric::FailedBlocked,
            (None, Some(Lack::Name)) => Metric::FailedDns,
            (None, Some(Lack::Tls)) => Metric::FailedTls,
            (None, Some(Lack::Time)) => Metric::FailedTimeout,
            (None, Some(Lack::Protocol)) => Metric::FailedProtocol,
            (None, Some(Lack::Socket)) => Metric::FailedSocket,
            (None, Some(Lack::Connection) | None) => Metric::FailedConnection,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::receiver::outcome::{Failure, Outcome};

    #[test]
    fn every_failure_has_a_class() {
        let failed = Outcome::Failed(Failure {
            reason: String::new(),
            retry_after: None,
            is_refusal: false,
        });
        let class = |status, lack| {
            let exchange = Exchange {
                outcome: failed.clone(),
                status,
                lack,
                took: Duration::ZERO,
            };
            Metric::of_failure(&exchange).map(Metric::name)
        };
        for (status, name) in [
            (200, None),
            (204, None),
            (301, Some("Failed3xx")),
            (400, Some("EventsRejected")),
            (404, Some("Failed4xx")),
            (410, Some("ReceiversGone")),
            (429, Some("Failed4xx")),
            (500, Some("Failed5xx")),
            (599, Some("Failed5xx")),
        ] {
            assert_eq!(class(Some(status), None), name, "{status}");
        }
        for (lack, name) in [
            (Lack::Blocked, "FailedBlocked"),
            (Lack::Name, "FailedDns"),
            (Lack::Connection, "FailedConnection"),
            (Lack::Tls, "FailedTls"),
            (Lack::Time, "FailedTimeout"),
            (Lack::Protocol, "FailedProtocol"),
            (Lack::Socket, "FailedSocket"),
        ] {
            assert_eq!(class(None, Some(lack)), Some(name), "{lack:?}");
        }
    }
}
