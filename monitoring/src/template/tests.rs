//! What is described, against the committed template, the code that counts, and the documents.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use domain::metric::Metric;

use super::*;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

/// `make monitoring` writes the file; anything else compares it.
#[test]
fn the_committed_template_is_what_the_code_says() {
    if std::env::var_os("WRITE_MONITORING").is_some() {
        std::fs::write(file("monitoring.json"), text()).unwrap();
    }
    let committed = read("monitoring.json");
    assert!(
        committed == text(),
        "monitoring.json is out of date: make monitoring"
    );
}

#[test]
fn every_metric_is_on_the_dashboard_and_in_the_document() {
    let shown: BTreeSet<String> = dashboard::names().into_iter().collect();
    let counted: BTreeSet<String> = Metric::ALL.iter().map(|it| it.name().to_owned()).collect();
    assert_eq!(shown, counted);
    let document = read("docs/operations.md");
    for metric in counted {
        assert!(
            document.contains(&format!("| `{metric}` |")),
            "{metric} is not in docs/operations.md"
        );
    }
}

#[test]
fn every_alarm_has_a_paragraph_of_its_own_heading() {
    let document = read("docs/operations.md");
    let anchors: Vec<String> = document
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(anchor)
        .collect();
    for alarm in alarms::all() {
        assert!(
            anchors.contains(&anchor(alarm.heading)),
            "{}",
            alarm.heading
        );
    }
    assert!(anchors.contains(&"events-are-late".to_owned()));
}

#[test]
fn names_are_unique_and_every_parameter_is_given_and_used() {
    let alarms = alarms::all();
    let names: BTreeSet<&str> = alarms.iter().map(|alarm| alarm.name.as_str()).collect();
    assert_eq!(names.len(), alarms.len());
    let (parent, text) = (read("template.yaml"), text());
    let nested = parent.split("TemplateURL: monitoring.json").nth(1).unwrap();
    for name in parameter_names() {
        assert!(
            nested.contains(&format!("        {name}: ")),
            "template.yaml does not give {name}"
        );
        let is_used = text.contains(&format!("\"Ref\": \"{name}\""))
            || text.contains(&format!("${{{name}}}"));
        assert!(is_used, "{name} is not used");
    }
}

/// CloudWatch's limits: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_limits.html>.
#[test]
fn an_alarm_looks_back_a_day_at_most() {
    for alarm in alarms::all() {
        assert!(alarm.period * alarm.periods <= 86_400, "{}", alarm.name);
        assert!([60, 300, 3600].contains(&alarm.period), "{}", alarm.name);
    }
}
