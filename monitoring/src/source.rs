//! Metrics by name, with the dimensions that they have.

use domain::metric::Metric;

/// The functions, by the names that their metrics and log groups have.
pub const FUNCTIONS: [&str; 6] = ["api", "ingest", "delivery", "replay", "export", "notify"];
/// The queues.
pub const QUEUES: [&str; 4] = ["Ingest", "Delivery", "Replay", "Export"];
/// The tables.
pub const TABLES: [&str; 2] = ["Integrations", "Events"];

/// A metric of one thing. What is in `${…}` is a parameter of the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// `AWS/SQS`, for example.
    pub namespace: String,
    /// The metric's name.
    pub metric: String,
    /// The names of its dimensions, and what they have to be.
    pub dimensions: Vec<(&'static str, String)>,
}

fn aws(namespace: &str, metric: &str, dimensions: &[(&'static str, String)]) -> Source {
    Source {
        namespace: namespace.to_owned(),
        metric: metric.to_owned(),
        dimensions: dimensions.to_vec(),
    }
}

/// A metric that `function` counts (docs/operations.md, Metrics).
pub fn ours(metric: Metric, function: &'static str) -> Source {
    aws(
        "EventStream/${StackName}",
        metric.name(),
        &[("Function", function.to_owned())],
    )
}

/// Of a queue, such as `Ingest` or `IngestDeadLetter`.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html>
pub fn queue(metric: &str, queue: &str) -> Source {
    aws(
        "AWS/SQS",
        metric,
        &[("QueueName", format!("${{{queue}QueueName}}"))],
    )
}

/// Of a function, such as `ingest`.
/// <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html>
pub fn lambda(metric: &str, function: &str) -> Source {
    let name = format!("${{{}FunctionName}}", capital(function));
    aws("AWS/Lambda", metric, &[("FunctionName", name)])
}

/// Of a table, such as `Events`.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/metrics-dimensions.html>
pub fn table(metric: &str, table: &str) -> Source {
    aws(
        "AWS/DynamoDB",
        metric,
        &[("TableName", format!("${{{table}TableName}}"))],
    )
}

/// Of the rule that takes events from the bus.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html>
pub fn rule(metric: &str) -> Source {
    let dimensions = [
        ("EventBusName", "${BusName}".to_owned()),
        ("RuleName", "${RuleName}".to_owned()),
    ];
    aws("AWS/Events", metric, &dimensions)
}

/// Of the API.
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-metrics.html>
pub fn api(metric: &str) -> Source {
    aws(
        "AWS/ApiGateway",
        metric,
        &[("ApiId", "${ApiId}".to_owned())],
    )
}

/// Of a function's log group.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CloudWatch-Logs-Monitoring-CloudWatch-Metrics.html>
pub fn log_group(metric: &str, function: &str) -> Source {
    aws(
        "AWS/Logs",
        metric,
        &[("LogGroupName", log_group_name(function))],
    )
}

/// The name of a function's log group.
pub fn log_group_name(function: &str) -> String {
    format!("/aws/lambda/${{StackName}}/{function}")
}

/// `ingest` as part of a name: `Ingest`.
pub fn capital(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    first.to_uppercase() + rest
}
