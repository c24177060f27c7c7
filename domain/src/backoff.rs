//! The pauses between the attempts of a delivery.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_secs(5);

/// The pause before the first probe of a receiver that is down: failures have gone on for 3 seconds by then.
const FIRST_PROBE: Duration = Duration::from_secs(3);

/// The longest pause: 15 minutes, which is also the longest delay of an SQS message.
pub const LONGEST: Duration = Duration::from_secs(15 * 60);

/// The pause before attempt `attempt + 1`, after `attempt` attempts (at least 1) have failed.
///
/// A receiver's own `Retry-After` counts, within 1 second and 15 minutes. Otherwise the pause doubles from 5 seconds to 15
/// minutes; `jitter` in `0.0..1.0` takes up to half of it away, so that many failures do not come back at once.
pub fn pause(attempt: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    if let Some(asked) = retry_after {
        return asked.clamp(Duration::from_secs(1), LONGEST);
    }
    let doubled = FIRST
        .saturating_mul(1 << attempt.saturating_sub(1).min(16))
        .min(LONGEST);
    doubled.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

/// The pause before probe `probe` (from 1) of a receiver that is down: doubled from 3 seconds to 15 minutes, and no shorter than it
/// asks for. `jitter` in `0.0..1.0` takes up to a quarter of it away.
pub fn probe_pause(probe: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    let doubled = FIRST_PROBE
        .saturating_mul(1 << probe.saturating_sub(1).min(16))
        .min(LONGEST);
    let pause = doubled.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0);
    pause.max(retry_after.unwrap_or_default().min(LONGEST))
}

/// The longest pause before a probe where the failures may be the events' own.
pub const LONGEST_OF_EVENTS: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_5_seconds_to_15_minutes() {
        for (attempt, seconds) in [
            (1, 5),
            (2, 10),
            (3, 20),
            (8, 640),
            (9, 900),
            (10, 900),
            (u32::MAX, 900),
        ] {
            assert_eq!(
                pause(attempt, None, 0.0),
                Duration::from_secs(seconds),
                "{attempt}"
            );
        }
        assert_eq!(pause(1, None, 1.0), Duration::from_millis(2_500));
    }

    #[test]
    fn probes_come_after_longer_and_longer_pauses() {
        let pauses = (1..=10).map(|probe| probe_pause(probe, None, 0.0).as_secs());
        let expected = [3, 6, 12, 24, 48, 96, 192, 384, 768, 900];
        assert!(pauses.eq(expected));
        let asked = Some(Duration::from_secs(7));
        assert_eq!(probe_pause(1, asked, 0.0), Duration::from_secs(7));
        assert_eq!(probe_pause(4, asked, 0.0), Duration::from_secs(24));
        assert_eq!(probe_pause(1, Some(LONGEST * 9), 0.0), LONGEST);
        assert_eq!(probe_pause(10, None, 1.0), Duration::from_secs(675));
    }

    #[test]
    fn a_receivers_wish_counts_within_bounds() {
        for (asked, seconds) in [(0, 1), (7, 7), (100_000, 900)] {
            assert_eq!(
                pause(5, Some(Duration::from_secs(asked)), 0.5),
                Duration::from_secs(seconds)
            );
        }
    }
}
