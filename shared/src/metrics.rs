//! What an invocation counts, and the line of CloudWatch's embedded metric format that says it.
//!
//! Counting is an addition in memory; one line leaves when the invocation ends, and none where nothing was counted. The format:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use domain::metric::Metric;
use domain::receiver::outcome::Exchange;
use domain::time::Millis;
use metrique_writer_core::format::Format;
use metrique_writer_core::{
    Entry, EntryWriter, MetricFlags, Observation, Unit, Value, ValueWriter,
};
use metrique_writer_format_emf::Emf;

use crate::env::Environment;

/// How many values a metric can have in a line (CloudWatch).
const MAX_VALUES: usize = 100;
/// With how many binary digits a value is kept at first: it is off by 3 % at the most.
const DIGITS: u32 = 5;

/// What an invocation has counted so far. A process of Lambda has one invocation at a time.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    namespace: Arc<str>,
    tally: Arc<Mutex<Tally>>,
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Tally {
    counts: BTreeMap<Metric, u64>,
    values: BTreeMap<Metric, Distribution>,
    subject: Subject,
}

/// What an invocation was about: its properties in the log, which are no dimensions.
#[derive(Debug, Default, PartialEq, Eq)]
enum Subject {
    #[default]
    Nothing,
    One(String, String),
    /// Several: the log lines of each say more.
    Several,
}

/// Values and how often each occurred, as exactly as a line can hold them.
#[derive(Debug)]
struct Distribution {
    digits: u32,
    counts: BTreeMap<u64, u64>,
}

impl Metrics {
    /// Those of a process, under the namespace in `METRICS_NAMESPACE`.
    pub fn of(environment: &Environment) -> Metrics {
        Metrics {
            namespace: environment.optional("METRICS_NAMESPACE").into(),
            tally: Arc::default(),
        }
    }

    /// Counts `count` more.
    pub fn count(&self, metric: Metric, count: usize) {
        if count > 0 {
            *self.lock().counts.entry(metric).or_default() += count as u64;
        }
    }

    /// Notes a value, of the metric's unit.
    pub fn measure(&self, metric: Metric, value: u64) {
        self.lock().values.entry(metric).or_default().add(value);
    }

    /// Notes a time, in milliseconds.
    pub fn time(&self, metric: Metric, time: Duration) {
        self.measure(metric, time.as_millis().try_into().unwrap_or(u64::MAX));
    }

    /// Counts an attempt: how long it took, unless nothing was sent, and its class where it was not taken. Returns whether it was.
    pub fn exchange(&self, exchange: &Exchange) -> bool {
        let class = Metric::of_failure(exchange);
        if !matches!(class, Some(Metric::FailedBlocked | Metric::FailedSocket)) {
            self.time(Metric::ReceiverLatency, exchange.took);
        }
        if let Some(class) = class {
            self.count(class, 1);
        }
        class.is_none()
    }

    /// Notes whom the invocation is about; `integration` is empty where it is about the tenant alone.
    pub fn concern(&self, tenant: &str, integration: &str) {
        let subject = &mut self.lock().subject;
        *subject = match std::mem::take(subject) {
            Subject::Nothing => Subject::One(tenant.to_owned(), integration.to_owned()),
            Subject::One(before, its) if before == tenant && its == integration => {
                Subject::One(before, its)
            }
            _ => Subject::Several,
        };
    }

    /// What was counted since the last call.
    pub fn take(&self) -> Tally {
        std::mem::take(&mut *self.lock())
    }

    /// Ends an invocation of `function`, at `now`: what it counted leaves on standard output, from where CloudWatch takes it.
    pub fn flush(&self, function: &str, now: Millis) {
        if let Some(line) = self.take().line(function, &self.namespace, now) {
            // A function whose output is gone has nowhere to say so.
            let _ = std::io::stdout().lock().write_all(&line);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    /// How often something was counted, or measured.
    pub fn count(&self, metric: Metric) -> u64 {
        let measured = self.values.get(&metric);
        let measured = measured.map_or(0, |it| it.counts.values().sum());
        self.counts.get(&metric).copied().unwrap_or_default() + measured
    }

    /// The line, with its end; none where nothing was counted.
    pub fn line(&self, function: &str, namespace: &str, now: Millis) -> Option<Vec<u8>> {
        if self.counts.is_empty() && self.values.is_empty() {
            return None;
        }
        let dimensions = vec![vec!["Function".to_owned()]];
        let mut line = Vec::new();
        let said = Said {
            tally: self,
            function,
            now,
        };
        Emf::no_validations(namespace.to_owned(), dimensions)
            .format(&said, &mut line)
            .ok()?;
        Some(line)
    }
}

impl Default for Distribution {
    fn default() -> Distribution {
        Distribution {
            digits: DIGITS,
            counts: BTreeMap::new(),
        }
    }
}

impl Distribution {
    fn add(&mut self, value: u64) {
        *self.counts.entry(rounded(value, self.digits)).or_default() += 1;
        while self.counts.len() > MAX_VALUES && self.digits > 1 {
            self.digits -= 1;
            for (value, count) in std::mem::take(&mut self.counts) {
                *self.counts.entry(rounded(value, self.digits)).or_default() += count;
            }
        }
    }
}

/// The nearest number of so many binary digits.
fn rounded(value: u64, digits: u32) -> u64 {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(digits);
    let half = (1 << shift) >> 1;
    value.saturating_add(half) >> shift << shift
}

/// A tally as it is said.
struct Said<'t> {
    tally: &'t Tally,
    function: &'t str,
    now: Millis,
}

impl Entry for Said<'_> {
    fn write<'a>(&'a self, writer: &mut impl EntryWriter<'a>) {
        writer.timestamp(UNIX_EPOCH + Duration::from_millis(self.now.0));
        writer.value("Function", self.function);
        for (metric, count) in &self.tally.counts {
            writer.value(metric.name(), count);
        }
        for (metric, distribution) in &self.tally.values {
            writer.value(metric.name(), distribution);
        }
        if let Subject::One(tenant, integration) = &self.tally.subject {
            writer.value("tenant", tenant.as_str());
            if !integration.is_empty() {
                writer.value("integration", integration.as_str());
            }
        }
    }
}

impl Value for Distribution {
    fn write(&self, writer: impl ValueWriter) {
        let observation = |(value, count): (&u64, &u64)| match count {
            1 => Observation::Unsigned(*value),
            count => Observation::Repeated {
                total: *value as f64 * *count as f64,
                occurrences: *count,
            },
        };
        let observations = self.counts.iter().map(observation);
        // Without units: a line has to stay below 300 bytes, and docs/operations.md names them.
        writer.metric(observations, Unit::None, [], MetricFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_764_305_572_000);

    fn line(metrics: &Metrics) -> String {
        let line = metrics
            .take()
            .line("delivery", "EventStream/event-stream", NOW);
        String::from_utf8(line.unwrap()).unwrap()
    }

    #[test]
    fn a_line_is_of_the_embedded_metric_format_and_short() {
        let metrics = Metrics::default();
        metrics.concern("acme", "erp-orders");
        metrics.time(Metric::Latency, Duration::from_micros(23_900));
        metrics.time(Metric::ReceiverLatency, Duration::from_millis(7));
        let line = line(&metrics);
        assert_eq!(
            line,
            concat!(
                r#"{"_aws":{"CloudWatchMetrics":[{"Namespace":"EventStream/event-stream","Dimensions":[["Function"]],"#,
                r#""Metrics":[{"Name":"Latency"},{"Name":"ReceiverLatency"}]}],"Timestamp":1764305572000},"#,
                r#""Latency":23,"ReceiverLatency":7,"Function":"delivery","tenant":"acme","integration":"erp-orders"}"#,
                "\n"
            )
        );
        assert!(line.len() <= 300, "{} bytes", line.len());
    }

    #[test]
    fn counts_add_up_and_an_invocation_that_counted_nothing_says_nothing() {
        let metrics = Metrics::default();
        assert!(metrics.take().line("delivery", "n", NOW).is_none());
        metrics.count(Metric::EventsParked, 3);
        metrics.count(Metric::EventsParked, 2);
        metrics.count(Metric::EventsRejected, 0);
        metrics.measure(Metric::FileBytes, 9);
        metrics.measure(Metric::FileBytes, 9);
        let said = line(&metrics);
        assert!(said.contains(r#""EventsParked":5"#), "{said}");
        assert!(
            said.contains(r#""FileBytes":{"Values":[9],"Counts":[2]}"#),
            "{said}"
        );
        assert!(!said.contains("EventsRejected"));
        assert!(metrics.take().line("delivery", "n", NOW).is_none());
    }

    #[test]
    fn an_invocation_about_several_names_none_of_them() {
        let metrics = Metrics::default();
        metrics.count(Metric::Ticks, 1);
        for (tenant, integration) in [("a", "1"), ("a", "1"), ("a", "2"), ("a", "1")] {
            metrics.concern(tenant, integration);
        }
        assert!(!line(&metrics).contains("tenant"));
    }

    #[test]
    fn every_value_counts_however_many_there_are() {
        let metrics = Metrics::default();
        for value in 0..20_000u64 {
            metrics.measure(Metric::Latency, value * value);
        }
        let tally = metrics.take();
        assert_eq!(tally.count(Metric::Latency), 20_000);
        let distribution = &tally.values[&Metric::Latency];
        assert!(distribution.counts.len() <= MAX_VALUES);
        let total: f64 = (0..20_000u64).map(|value| (value * value) as f64).sum();
        let kept = distribution.counts.iter();
        let kept: f64 = kept.map(|(value, count)| (value * count) as f64).sum();
        assert!((kept / total - 1.0).abs() < 0.05, "{}", kept / total);
    }

    #[test]
    fn values_are_rounded_to_binary_digits() {
        for (value, digits, expected) in [
            (0, 5, 0),
            (31, 5, 31),
            (33, 5, 34),
            (1000, 5, 992),
            (1000, 2, 1024),
            (u64::MAX, 5, 0xf800_0000_0000_0000),
        ] {
            assert_eq!(rounded(value, digits), expected, "{value}");
        }
    }
}
