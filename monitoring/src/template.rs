//! CloudFormation's form of what is watched.

use serde_json::{Map, Value, json};

use crate::alarms::{self, ALARMS, Alarm, TICKS, Threshold};
use crate::source::{FUNCTIONS, QUEUES, TABLES, capital, log_group_name};
use crate::{dashboard, queries};

/// The text of `monitoring.json`.
pub fn text() -> String {
    format!("{:#}\n", template())
}

/// The template of the nested stack.
pub fn template() -> Value {
    let mut resources = Map::new();
    for alarm in alarms::all() {
        resources.insert(format!("{}Alarm", alarm.name), resource(&alarm));
    }
    resources.insert("EventsAreLateAlarm".to_owned(), late());
    resources.insert(
        "Dashboard".to_owned(),
        json!({
            "Type": "AWS::CloudWatch::Dashboard",
            "Properties": {
                "DashboardName": sub("${StackName}"),
                "DashboardBody": { "Fn::Sub": dashboard::body().to_string() },
            },
        }),
    );
    for query in queries::ALL {
        let groups = query
            .functions
            .iter()
            .map(|name| sub(&log_group_name(name)));
        resources.insert(
            format!("{}Query", query.id),
            json!({
                "Type": "AWS::Logs::QueryDefinition",
                "Properties": {
                    "Name": sub(&format!("${{StackName}}/{}", query.name)),
                    "QueryString": query.text,
                    "LogGroupNames": groups.collect::<Vec<Value>>(),
                },
            }),
        );
    }
    json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Event Stream - what is watched. Made by `make monitoring` from the crate monitoring.",
        "Parameters": parameters(),
        "Conditions": {
            ALARMS: { "Fn::Equals": [{ "Ref": "Alarms" }, "true"] },
            TICKS: { "Fn::And": [
                { "Condition": ALARMS },
                { "Fn::Equals": [{ "Ref": "ExportRate" }, "rate(5 minutes)"] },
            ] },
            "HasAlarmTopic": { "Fn::Not": [{ "Fn::Equals": [{ "Ref": "AlarmTopicArn" }, ""] }] },
        },
        "Resources": resources,
    })
}

/// The names of the template's parameters.
pub fn parameter_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "StackName",
        "Alarms",
        "AlarmTopicArn",
        "ExportRate",
        "ApiId",
        "BusName",
        "RuleName",
    ]
    .map(str::to_owned)
    .into();
    for function in FUNCTIONS {
        names.push(format!("{}FunctionName", capital(function)));
    }
    for function in &FUNCTIONS[..5] {
        names.push(format!("{}SlowMillis", capital(function)));
    }
    for queue in QUEUES {
        names.push(format!("{queue}QueueName"));
        names.push(format!("{queue}DeadLetterQueueName"));
    }
    for table in TABLES {
        names.push(format!("{table}TableName"));
    }
    names
}

fn parameters() -> Value {
    let parameter = |name: String| {
        let kind = if name.ends_with("Millis") {
            "Number"
        } else {
            "String"
        };
        (name, json!({ "Type": kind }))
    };
    Value::Object(parameter_names().into_iter().map(parameter).collect())
}

fn resource(alarm: &Alarm) -> Value {
    let dimensions = alarm.source.dimensions.iter();
    let dimensions = dimensions.map(|(name, value)| json!({ "Name": name, "Value": sub(value) }));
    let mut properties = json!({
        "AlarmDescription": format!("{} What to do: docs/operations.md#{}", alarm.says, anchor(alarm.heading)),
        "Namespace": sub(&alarm.source.namespace),
        "MetricName": alarm.source.metric,
        "Dimensions": dimensions.collect::<Vec<Value>>(),
        "Period": alarm.period,
        "EvaluationPeriods": alarm.periods,
        "Threshold": match &alarm.threshold {
            Threshold::Is(number) => json!(number),
            Threshold::Parameter(name) => json!({ "Ref": name }),
        },
        "ComparisonOperator": if alarm.rings_below { "LessThanThreshold" } else { "GreaterThanThreshold" },
        "TreatMissingData": if alarm.rings_below { "breaching" } else { "notBreaching" },
        "AlarmActions": actions(),
    });
    let is_percentile = alarm.statistic.starts_with('p');
    let statistic = if is_percentile {
        "ExtendedStatistic"
    } else {
        "Statistic"
    };
    properties[statistic] = json!(alarm.statistic);
    json!({ "Type": "AWS::CloudWatch::Alarm", "Condition": alarm.condition, "Properties": properties })
}

/// The alarm that rings when any of those does that mean that events are late. It names those that exist in any case.
fn late() -> Value {
    let of = alarms::all()
        .into_iter()
        .filter(|alarm| alarm.is_late && alarm.condition == ALARMS);
    let rule: Vec<String> = of
        .map(|alarm| format!("ALARM(${{{}Alarm}})", alarm.name))
        .collect();
    json!({
        "Type": "AWS::CloudWatch::CompositeAlarm",
        "Condition": ALARMS,
        "Properties": {
            "AlarmDescription": "Events are late. Which of the alarms behind it rings says why. What to do: docs/operations.md#events-are-late",
            "AlarmRule": { "Fn::Sub": rule.join(" OR ") },
            "AlarmActions": actions(),
        },
    })
}

fn actions() -> Value {
    json!({ "Fn::If": ["HasAlarmTopic", [{ "Ref": "AlarmTopicArn" }], { "Ref": "AWS::NoValue" }] })
}

/// A text with parameters in it, as briefly as CloudFormation can say it.
fn sub(text: &str) -> Value {
    let whole = text
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'));
    match (text.contains("${"), whole) {
        (false, _) => json!(text),
        (true, Some(name)) if !name.contains('$') => json!({ "Ref": name }),
        _ => json!({ "Fn::Sub": text }),
    }
}

/// The anchor of a heading in a document.
pub fn anchor(heading: &str) -> String {
    heading.to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests;
