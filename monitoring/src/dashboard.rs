//! The dashboard: from what comes in to what it costs.

use domain::metric::Metric;
use serde_json::{Value, json};

use crate::source::{self, FUNCTIONS, QUEUES, Source, TABLES, capital};

/// A graph: what its axis is called, and its lines, each with a statistic and a label.
struct Graph {
    title: &'static str,
    axis: &'static str,
    lines: Vec<(Source, &'static str, String)>,
}

/// The width of the dashboard, and the size of a graph on it.
const COLUMNS: usize = 24;
const WIDTH: usize = 8;
const HEIGHT: usize = 6;
/// The height of the text at the top.
const TEXT_HEIGHT: usize = 2;

/// The body of the dashboard, as CloudWatch reads it.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html>
pub fn body() -> Value {
    let text = "# Event Stream: ${StackName}\\nWhat each metric means, and what to do when an alarm rings: `docs/operations.md`. Tenants and integrations: the saved queries of Logs Insights.";
    let mut widgets = vec![json!({
        "type": "text", "x": 0, "y": 0, "width": COLUMNS, "height": TEXT_HEIGHT,
        "properties": { "markdown": text.replace("\\n", "\n") },
    })];
    for (index, graph) in graphs().into_iter().enumerate() {
        let per_row = COLUMNS / WIDTH;
        widgets.push(json!({
            "type": "metric",
            "x": index % per_row * WIDTH,
            "y": TEXT_HEIGHT + index / per_row * HEIGHT,
            "width": WIDTH,
            "height": HEIGHT,
            "properties": {
                "title": graph.title,
                "region": "${AWS::Region}",
                "view": "timeSeries",
                "period": 60,
                "yAxis": { "left": { "label": graph.axis, "showUnits": false, "min": 0 } },
                "metrics": graph.lines.iter().map(line).collect::<Vec<Value>>(),
            },
        }));
    }
    json!({ "widgets": widgets })
}

/// The names of our metrics that are on the dashboard.
pub fn names() -> Vec<String> {
    let lines = graphs().into_iter().flat_map(|graph| graph.lines);
    let ours = lines.filter(|(source, ..)| source.namespace.starts_with("EventStream/"));
    ours.map(|(source, ..)| source.metric).collect()
}

fn line((source, statistic, label): &(Source, &'static str, String)) -> Value {
    let mut line = vec![json!(source.namespace), json!(source.metric)];
    for (name, value) in &source.dimensions {
        line.extend([json!(name), json!(value)]);
    }
    line.push(json!({ "stat": statistic, "label": label }));
    Value::Array(line)
}

fn graphs() -> Vec<Graph> {
    let mut graphs = flow();
    graphs.extend(lateness());
    graphs.extend(trouble());
    graphs.extend(services());
    graphs
}

fn graph(
    title: &'static str,
    axis: &'static str,
    lines: impl IntoIterator<Item = (Source, &'static str, String)>,
) -> Graph {
    Graph {
        title,
        axis,
        lines: lines.into_iter().collect(),
    }
}

fn of(
    metric: Metric,
    function: &'static str,
    statistic: &'static str,
    label: &str,
) -> (Source, &'static str, String) {
    (source::ours(metric, function), statistic, label.to_owned())
}

fn flow() -> Vec<Graph> {
    use Metric::{
        EventsAccepted, EventsAppended, EventsRepeated, FileBytes, FileLines, Latency,
        ReceiverLatency, SegmentBytes,
    };
    vec![
        graph(
            "Events",
            "a minute",
            [
                of(EventsAccepted, "api", "Sum", "accepted by the API"),
                (
                    source::rule("MatchedEvents"),
                    "Sum",
                    "from the bus".to_owned(),
                ),
                of(EventsAppended, "ingest", "Sum", "appended"),
                of(EventsRepeated, "ingest", "Sum", "appended again"),
                of(Latency, "delivery", "SampleCount", "delivered live"),
                of(Latency, "replay", "SampleCount", "delivered by replay"),
                of(FileLines, "export", "Sum", "exported"),
            ],
        ),
        graph(
            "Runs and attempts",
            "a minute",
            [
                (
                    source::queue("NumberOfMessagesDeleted", "Delivery"),
                    "Sum",
                    "runs".to_owned(),
                ),
                of(ReceiverLatency, "delivery", "SampleCount", "live attempts"),
                of(
                    ReceiverLatency,
                    "replay",
                    "SampleCount",
                    "replay's attempts",
                ),
            ],
        ),
        graph(
            "Segments and files",
            "bytes",
            [
                of(SegmentBytes, "ingest", "Average", "a segment"),
                of(SegmentBytes, "ingest", "Maximum", "the largest segment"),
                of(FileBytes, "export", "Average", "a file"),
                of(FileBytes, "export", "Sum", "all files"),
            ],
        ),
    ]
}

fn lateness() -> Vec<Graph> {
    use Metric::{BacklogAge, EventsParked, ExportLag, Latency, ReceiverLatency, RetriesWaiting};
    let ages = QUEUES.map(|queue| {
        let source = source::queue("ApproximateAgeOfOldestMessage", queue);
        (source, "Maximum", queue.to_lowercase())
    });
    vec![
        graph(
            "Publication to delivery, live",
            "milliseconds",
            [
                of(Latency, "delivery", "p50", "p50"),
                of(Latency, "delivery", "p99", "p99"),
            ],
        ),
        graph(
            "Receivers",
            "milliseconds",
            [
                of(ReceiverLatency, "delivery", "p50", "p50, live"),
                of(ReceiverLatency, "delivery", "p99", "p99, live"),
                of(ReceiverLatency, "replay", "p50", "p50, replay"),
                of(ReceiverLatency, "replay", "p99", "p99, replay"),
            ],
        ),
        graph("Oldest message", "seconds", ages),
        graph(
            "Backlog and lag",
            "milliseconds",
            [
                of(
                    BacklogAge,
                    "replay",
                    "Maximum",
                    "age of the oldest owed event",
                ),
                of(ExportLag, "export", "Maximum", "files behind the present"),
            ],
        ),
        graph(
            "Waiting events",
            "events",
            [
                of(EventsParked, "delivery", "Sum", "put aside by delivery"),
                of(EventsParked, "replay", "Sum", "put aside by replay"),
                of(
                    RetriesWaiting,
                    "replay",
                    "Maximum",
                    "the most of one stream",
                ),
            ],
        ),
    ]
}

/// The classes of attempts that were not taken.
const FAILURES: [(Metric, &str); 12] = [
    (Metric::Failed3xx, "3xx"),
    (Metric::Failed4xx, "4xx"),
    (Metric::Failed5xx, "5xx"),
    (Metric::FailedTimeout, "no answer in time"),
    (Metric::FailedConnection, "no connection"),
    (Metric::FailedDns, "name not resolved"),
    (Metric::FailedTls, "TLS"),
    (Metric::FailedProtocol, "not HTTP"),
    (Metric::FailedBlocked, "address not allowed"),
    (Metric::FailedSocket, "no socket left here"),
    (Metric::EventsRejected, "rejected (400)"),
    (Metric::ReceiversGone, "gone (410)"),
];

fn trouble() -> Vec<Graph> {
    use Metric::{
        EventsUnreadable, ExportsFailed, Interruptions, NotificationsFailed, Notified,
        PlansMismatched, Resumptions, Sweeps, TasksHandedBack, TasksUnreadable, Ticks,
    };
    let classes = |function| FAILURES.map(|(metric, label)| of(metric, function, "Sum", label));
    let mut ours: Vec<_> = ["ingest", "delivery", "replay", "export"]
        .map(|function| {
            let label = format!("handed back by {function}");
            of(TasksHandedBack, function, "Sum", &label)
        })
        .into();
    ours.extend(["delivery", "replay", "export"].map(|function| {
        let label = format!("{function}: cannot be read");
        of(TasksUnreadable, function, "Sum", &label)
    }));
    ours.push(of(
        EventsUnreadable,
        "ingest",
        "Sum",
        "events that cannot be read",
    ));
    let dead = QUEUES.map(|queue| {
        let name = format!("{queue}DeadLetter");
        let source = source::queue("ApproximateNumberOfMessagesVisible", &name);
        (source, "Maximum", queue.to_lowercase())
    });
    vec![
        graph("Live attempts that failed", "a minute", classes("delivery")),
        graph(
            "Replay's attempts that failed",
            "a minute",
            classes("replay"),
        ),
        graph(
            "Integrations",
            "a minute",
            [
                of(Interruptions, "delivery", "Sum", "interrupted by delivery"),
                of(Interruptions, "replay", "Sum", "interrupted by replay"),
                of(Resumptions, "delivery", "Sum", "resumed by delivery"),
                of(Resumptions, "replay", "Sum", "resumed by replay"),
                of(ExportsFailed, "export", "Sum", "uploads failed"),
                of(Notified, "notify", "Sum", "notifications"),
                of(NotificationsFailed, "notify", "Sum", "notifications failed"),
            ],
        ),
        graph("Failures of our own", "a minute", ours),
        graph(
            "Schedules and plans",
            "a minute",
            [
                of(Sweeps, "replay", "Sum", "sweeps"),
                of(Ticks, "export", "Sum", "ticks"),
                of(
                    PlansMismatched,
                    "export",
                    "Sum",
                    "plans that cannot be finished",
                ),
            ],
        ),
        graph("In dead-letter queues", "messages", dead),
    ]
}

fn services() -> Vec<Graph> {
    let each = |metric: &'static str, statistic| {
        FUNCTIONS.map(|name| (source::lambda(metric, name), statistic, name.to_owned()))
    };
    let tables = |metrics: [&'static str; 2]| {
        TABLES.into_iter().flat_map(move |table| {
            metrics.map(|metric| {
                let label = format!("{table}: {metric}");
                (source::table(metric, table), "Sum", label)
            })
        })
    };
    let mut throttles: Vec<_> = each("Throttles", "Sum").into();
    throttles.extend(tables(["ReadThrottleEvents", "WriteThrottleEvents"]));
    let mut api = vec![
        (source::api("Count"), "Sum", "requests".to_owned()),
        (source::api("4xx"), "Sum", "4xx".to_owned()),
        (source::api("5xx"), "Sum", "5xx".to_owned()),
    ];
    api.push((
        source::api("Latency"),
        "p99",
        "p99, milliseconds".to_owned(),
    ));
    let sent = QUEUES.map(|queue| {
        let label = format!("messages to {}", queue.to_lowercase());
        (source::queue("NumberOfMessagesSent", queue), "Sum", label)
    });
    let logs = FUNCTIONS.map(|name| {
        let label = format!("log of {name}");
        (source::log_group("IncomingBytes", name), "Sum", label)
    });
    vec![
        graph("API", "a minute", api),
        graph("Errors of functions", "a minute", each("Errors", "Sum")),
        graph("Throttles", "a minute", throttles),
        graph("Duration, p99", "milliseconds", each("Duration", "p99")),
        graph("Cost: invocations", "a minute", each("Invocations", "Sum")),
        graph("Cost: messages", "a minute", sent),
        graph(
            "Cost: read and write units",
            "a minute",
            tables(["ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"]),
        ),
        graph("Cost: log bytes", "a minute", logs),
        graph(
            "Concurrency",
            "invocations",
            FUNCTIONS.map(|name| {
                let source = source::lambda("ConcurrentExecutions", name);
                (source, "Maximum", capital(name))
            }),
        ),
    ]
}
