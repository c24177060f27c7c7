//! The alarms. Each rings within minutes, says what it means, and has a paragraph in docs/operations.md.

use domain::metric::Metric;

use crate::source::{self, FUNCTIONS, QUEUES, Source, TABLES, capital};

/// An alarm.
#[derive(Clone, Debug)]
pub struct Alarm {
    /// Its name; in the template `Alarm` follows.
    pub name: String,
    /// What has happened, as a sentence.
    pub says: String,
    /// Its heading in docs/operations.md.
    pub heading: &'static str,
    /// What it watches.
    pub source: Source,
    /// `Sum`, `Maximum`, or a percentile such as `p99`.
    pub statistic: &'static str,
    /// The length of a period, in seconds.
    pub period: u32,
    /// In how many periods in a row the threshold has to be passed.
    pub periods: u32,
    /// It rings beyond this.
    pub threshold: Threshold,
    /// Whether it rings below the threshold, and where there is no value.
    pub rings_below: bool,
    /// Whether events are late when it rings.
    pub is_late: bool,
    /// The condition of the template under which it exists.
    pub condition: &'static str,
}

/// Beyond what an alarm rings.
#[derive(Clone, Debug)]
pub enum Threshold {
    /// This.
    Is(u64),
    /// What the parameter of this name says.
    Parameter(String),
}

/// The condition of all but a few.
pub const ALARMS: &str = "HasAlarms";
/// The condition of what expects a tick every five minutes.
pub const TICKS: &str = "HasTicks";

/// Beyond which age of the oldest message a queue's alarm rings, in seconds: work of ingest and delivery is done at once, steps and
/// runs may take minutes each.
const AGES: [u64; 4] = [300, 600, 1_800, 1_800];

/// All alarms.
pub fn all() -> Vec<Alarm> {
    let mut alarms = queues();
    alarms.extend(functions());
    alarms.extend(services());
    alarms.extend(work());
    alarms
}

/// An alarm that rings above a sum, in one period of five minutes.
fn above(
    name: impl Into<String>,
    heading: &'static str,
    says: impl Into<String>,
    source: Source,
    threshold: u64,
) -> Alarm {
    Alarm {
        name: name.into(),
        says: says.into(),
        heading,
        source,
        statistic: "Sum",
        period: 300,
        periods: 1,
        threshold: Threshold::Is(threshold),
        rings_below: false,
        is_late: false,
        condition: ALARMS,
    }
}

fn queues() -> Vec<Alarm> {
    let ages = QUEUES.into_iter().zip(AGES).map(|(queue, age)| Alarm {
        statistic: "Maximum",
        period: 60,
        periods: 3,
        is_late: true,
        ..above(
            format!("{queue}QueueAge"),
            "A queue is not worked off",
            format!(
                "A message of the {} queue is older than {age} seconds.",
                queue.to_lowercase()
            ),
            source::queue("ApproximateAgeOfOldestMessage", queue),
            age,
        )
    });
    // Arrivals, not presence: what lies there for days must not hide what comes. What SQS itself moves there, after a thousand
    // receives, is not counted as sent; the age of its queue has rung for days by then.
    let arrivals = QUEUES.into_iter().map(|queue| {
        above(
            format!("{queue}DeadLetter"),
            "A message was given up",
            format!(
                "Messages of the {} queue that cannot be read have been given up.",
                queue.to_lowercase()
            ),
            source::queue("NumberOfMessagesSent", &format!("{queue}DeadLetter")),
            0,
        )
    });
    ages.chain(arrivals).collect()
}

fn functions() -> Vec<Alarm> {
    let errors = FUNCTIONS.map(|function| {
        above(
            format!("{}Errors", capital(function)),
            "A function fails",
            format!("More than 2 invocations of the {function} function have failed in 5 minutes."),
            source::lambda("Errors", function),
            2,
        )
    });
    let throttles = FUNCTIONS.map(|function| Alarm {
        periods: 3,
        ..above(
            format!("{}Throttles", capital(function)),
            "A function is throttled",
            format!("Invocations of the {function} function have been throttled for 15 minutes."),
            source::lambda("Throttles", function),
            0,
        )
    });
    // Notify is left out: how late it is says its own alarm.
    let slow = FUNCTIONS[..5].iter().map(|function| Alarm {
        statistic: "p99",
        periods: 2,
        threshold: Threshold::Parameter(format!("{}SlowMillis", capital(function))),
        ..above(
            format!("{}Slow", capital(function)),
            "A function comes near its time limit",
            format!(
                "One in a hundred invocations of the {function} function comes near its time limit."
            ),
            source::lambda("Duration", function),
            0,
        )
    });
    // Replay asks itself for the next step: its turns and pauses bound that.
    let others = FUNCTIONS.into_iter().filter(|name| *name != "replay");
    let dropped = others.map(|function| {
        above(
            format!("{}Recursion", capital(function)),
            "Lambda has stopped a loop",
            format!("Lambda has dropped invocations of the {function} function, which it takes for a loop."),
            source::lambda("RecursiveInvocationsDropped", function),
            0,
        )
    });
    errors
        .into_iter()
        .chain(throttles)
        .chain(slow)
        .chain(dropped)
        .collect()
}

fn services() -> Vec<Alarm> {
    let mut alarms: Vec<Alarm> = Vec::new();
    for table in TABLES {
        for kind in ["Read", "Write"] {
            alarms.push(Alarm {
                periods: 2,
                ..above(
                    format!("{table}{kind}Throttles"),
                    "DynamoDB throttles",
                    format!("More than 50 {}s of the table of {} were throttled in 5 minutes, twice in a row.", kind.to_lowercase(), table.to_lowercase()),
                    source::table(&format!("{kind}ThrottleEvents"), table),
                    50,
                )
            });
        }
    }
    alarms.push(above(
        "RuleFails",
        "The bus cannot hand over events",
        "The bus could not hand over events to the ingest queue; they are in its dead-letter queue.",
        source::rule("FailedInvocations"),
        0,
    ));
    alarms
}

/// Those of the work itself, by metrics of ours.
fn work() -> Vec<Alarm> {
    vec![
        Alarm {
            statistic: "p99",
            period: 60,
            periods: 5,
            is_late: true,
            ..above(
                "Latency",
                "Webhooks arrive late",
                "One in a hundred live webhooks has arrived more than 30 seconds after its publication, for 5 minutes.",
                source::ours(Metric::Latency, "delivery"),
                30_000,
            )
        },
        Alarm {
            statistic: "Maximum",
            is_late: true,
            ..above(
                "ExportLag",
                "Files are late",
                "The files of an S3 integration whose bucket takes them are more than 10 minutes behind.",
                source::ours(Metric::ExportLag, "export"),
                600_000,
            )
        },
        Alarm {
            period: 60,
            periods: 5,
            rings_below: true,
            is_late: true,
            ..above(
                "NoSweep",
                "Nothing is swept up",
                "No sweep was done for 5 minutes: steps that are due are not sent.",
                source::ours(Metric::Sweeps, "replay"),
                1,
            )
        },
        Alarm {
            periods: 3,
            rings_below: true,
            is_late: true,
            condition: TICKS,
            ..above(
                "NoTick",
                "No files are due",
                "No tick was done for 15 minutes: no files are written.",
                source::ours(Metric::Ticks, "export"),
                1,
            )
        },
        Alarm {
            periods: 3,
            ..above(
                "PlanMismatch",
                "A planned file cannot be made again",
                "For 15 minutes, the file of a plan could not be made again: the event log is not what it was.",
                source::ours(Metric::PlansMismatched, "export"),
                0,
            )
        },
        Alarm {
            period: 3_600,
            periods: 3,
            ..above(
                "ExportHandedBack",
                "Exports fail",
                "Exports have failed for three hours for a reason of the service's own.",
                source::ours(Metric::TasksHandedBack, "export"),
                0,
            )
        },
        Alarm {
            periods: 3,
            ..above(
                "NotifyFails",
                "Notifications are late",
                "For 15 minutes, the bus has not taken notifications.",
                source::ours(Metric::NotificationsFailed, "notify"),
                0,
            )
        },
        Alarm {
            statistic: "Maximum",
            period: 60,
            ..above(
                "NotifyAge",
                "Notifications are late",
                "What has happened to integrations is published 15 minutes late; after 24 hours it is not published at all.",
                source::lambda("IteratorAge", "notify"),
                900_000,
            )
        },
    ]
}
