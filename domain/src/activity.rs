//! What an integration's receiver has been sent lately, counted: how many events were taken, failed and were rejected, and how long
//! they took from their publication. For a chart, and for nothing that is decided.

use std::time::Duration;

use crate::receiver::outcome::Outcome;
use crate::time::Millis;

/// For how long events are counted together.
pub const STRETCH: Duration = Duration::from_secs(300);
/// The upper ends of latencies that are counted together, in milliseconds; what is longer is in one more.
pub const BOUNDS: [u64; 13] = [
    20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000, 3_600_000,
];

/// What was counted of a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Events that were taken.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Events that were rejected.
    pub rejected: u64,
    /// How many were taken within each of [`BOUNDS`] of their publication, and above the last.
    pub latencies: [u64; BOUNDS.len() + 1],
}

/// The first instant of the stretch in which `now` lies.
pub fn stretch(now: Millis) -> Millis {
    let length = STRETCH.as_millis() as u64;
    Millis(now.0 / length * length)
}

impl Activity {
    /// Counts an attempt, which ended so long after the publication of its event.
    pub fn count(&mut self, outcome: &Outcome, latency: Duration) {
        match outcome {
            Outcome::Delivered => {
                let latency = latency.as_millis() as u64;
                let within = BOUNDS.iter().position(|bound| latency <= *bound);
                self.latencies[within.unwrap_or(BOUNDS.len())] += 1;
                self.delivered += 1;
            }
            Outcome::Rejected(_) => self.rejected += 1,
            Outcome::Gone | Outcome::Failed(_) => self.failed += 1,
        }
    }

    /// Counts what another one has counted, too.
    pub fn add(&mut self, other: &Activity) {
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.rejected += other.rejected;
        for (count, more) in self.latencies.iter_mut().zip(other.latencies) {
            *count += more;
        }
    }

    /// How long so many of a hundred events took at the most, as the upper end of those that are counted together; none where none
    /// was taken, or where it is above the last end.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let total: u64 = self.latencies.iter().sum();
        let wanted = (total * percent).div_ceil(100).max(1);
        let mut sum = 0;
        let reached = self.latencies.iter().position(|count| {
            sum += count;
            sum >= wanted
        });
        reached.and_then(|at| BOUNDS.get(at)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_and_latencies_summed_up() {
        let mut activity = Activity::default();
        assert_eq!(activity.percentile(50), None);
        for latency in [10, 20, 21, 900] {
            activity.count(&Outcome::Delivered, Duration::from_millis(latency));
        }
        activity.count(&Outcome::Rejected(String::new()), Duration::ZERO);
        activity.count(&Outcome::Gone, Duration::ZERO);
        let Activity {
            delivered,
            failed,
            rejected,
            ..
        } = activity;
        assert_eq!((delivered, failed, rejected), (4, 1, 1));
        let percentiles = [1, 50, 51, 75, 99].map(|percent| activity.percentile(percent));
        assert_eq!(
            percentiles,
            [Some(20), Some(20), Some(50), Some(50), Some(1_000)]
        );
        activity.count(&Outcome::Delivered, Duration::from_secs(86_400));
        assert_eq!(activity.percentile(99), None, "longer than the last end");
        let mut twice = activity.clone();
        twice.add(&activity);
        let once = [activity.delivered, activity.failed, activity.rejected];
        let sums = [twice.delivered, twice.failed, twice.rejected];
        assert_eq!(sums, once.map(|count| 2 * count));
        assert_eq!(twice.latencies, activity.latencies.map(|count| 2 * count));
    }

    #[test]
    fn a_stretch_is_five_minutes() {
        assert_eq!(
            stretch(Millis(1_700_000_123_456)),
            Millis(1_700_000_100_000)
        );
    }
}
