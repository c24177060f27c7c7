//! How window, ceiling and rate follow what a receiver takes and refuses.

use super::{CALM, FIRST_RATE, PAUSE, Pacer, RAMP_ENDS, SECOND, Second};

impl Pacer {
    /// The receiver does not answer, or refuses: nothing is begun for a while, and once a second window or rate shrinks.
    pub(super) fn refuse(&mut self, now: u64, pause: Option<u64>, calm: u64, beside: u32) {
        let is_first = self.refused_at.is_none_or(|at| now >= at + SECOND) || self.refusals == 0;
        self.refusals = self.refusals.saturating_add(1);
        self.second.refused += 1;
        let pause = pause.unwrap_or_else(|| {
            let doubled = PAUSE.0 << self.refusals.saturating_sub(1).min(6);
            doubled.min(PAUSE.1)
        });
        let until = now + pause;
        if until > self.hold_until {
            self.second.held += until - self.hold_until.max(now);
            self.hold_until = until;
        }
        if !is_first || self.is_probing {
            return;
        }
        self.refused_at = Some(now);
        let good = self.good();
        if good == 0 {
            // An outage is no overload: what it takes then is not known, and no ceiling is left.
            self.window = (self.window / 2).max(1);
            self.ramp = Some(self.last_rate.max(FIRST_RATE));
            return;
        }
        self.ramp = None;
        // Refused beside no more than it has taken: it is requests a second that it counts.
        let measured = self.measure();
        if beside <= good && measured > 0.0 {
            self.measured = measured;
            let rate = self.rate.map_or(f64::INFINITY, |rate| rate * 0.95);
            self.rate = Some((measured * 0.9).min(rate).max(0.1));
            self.credit = self.credit.min(1.0);
            self.calm_until = now + CALM.0;
            return;
        }
        let refused = self.window.min(good + 1);
        self.window = good.min(self.window.saturating_sub(1)).max(1);
        // Twice as long each time that the same is refused.
        self.calm = match self
            .ceiling
            .is_some_and(|ceiling| ceiling.abs_diff(refused) <= 1)
        {
            true => (self.calm * 2).min(CALM.1),
            false => CALM.0,
        };
        self.calm = self.calm.max(calm);
        self.calm_until = now + self.calm;
        self.ceiling = Some(refused.max(1));
    }

    /// The most that were under way at the start of a request that was taken, in the last ten seconds.
    fn good(&self) -> u32 {
        let past = self.past.iter().rev().take(10).map(|second| second.good);
        past.max().unwrap_or(0).max(self.second.good)
    }

    /// How many requests a second were taken lately, in the time in which they were allowed to begin.
    fn measure(&self) -> f64 {
        let (mut taken, mut millis) = (0, 0);
        let now = self.refused_at.unwrap_or_default();
        let this = Second {
            held: 0,
            ..self.second
        };
        let lasted = now.saturating_sub(this.began_at);
        for (second, lasted) in std::iter::once((&this, lasted))
            .chain(self.past.iter().rev().take(2).map(|it| (it, SECOND)))
        {
            taken += second.taken;
            millis += lasted.saturating_sub(second.held.min(lasted));
        }
        f64::from(taken) * 1_000.0 / (millis.max(200) as f64)
    }

    pub(super) fn end_second(&mut self, now: u64) {
        let mut second = self.second;
        let ends_at = second.began_at + SECOND;
        let carried = self.hold_until.saturating_sub(ends_at);
        second.held = second.held.saturating_sub(carried);
        self.second = Second {
            began_at: ends_at,
            held: carried,
            ..Second::default()
        };
        if self.past.len() >= 10 {
            self.past.remove(0);
        }
        self.past.push(second);
        let is_good = second.refused == 0 && !second.is_unanswered && second.taken > 0;
        if !is_good || self.is_probing {
            return;
        }
        let mean = second.latency as f64 / f64::from(second.taken);
        self.last_rate = f64::from(second.taken);
        if second.taken >= 3 {
            self.least = self.least.min(mean);
            if mean > 2.0 * self.least + 5.0 && self.window > 1 && second.good > 1 {
                // It queues: what comes faster only waits longer.
                let busy = second.good.min(self.window);
                self.window = (busy * 3 / 4).max(1);
                self.ceiling = Some(busy);
                self.calm_until = now + CALM.0;
                self.least *= 1.05;
                return;
            }
        }
        let long = 500.max(4 * self.usual as u64);
        let mut under_way = self.under_way.values();
        let is_stuck = under_way.any(|begun| begun.at.is_some_and(|at| now > at + long));
        if let Some(ramp) = self.ramp {
            self.ramp = Some(ramp * 2.0).filter(|ramp| *ramp < RAMP_ENDS);
        }
        if second.was_rate_full {
            self.grow_rate(now);
        }
        if second.was_window_full && !is_stuck {
            self.grow_window(now, second.good);
        }
    }

    fn grow_rate(&mut self, now: u64) {
        let Some(rate) = self.rate else { return };
        if rate < self.measured * 0.95 {
            self.rate = Some((rate * 1.05).min(self.measured * 0.951));
        } else if now >= self.calm_until {
            self.rate = Some(rate * 1.01);
            self.measured = self.measured.max(rate);
        }
    }

    fn grow_window(&mut self, now: u64, good: u32) {
        let window = self.window;
        let next = match self.ceiling {
            None => (2 * window).min(2 * good.max(1)),
            Some(ceiling) if window + 1 < ceiling => window + ((ceiling - window) / 4).max(1),
            Some(_) if now >= self.calm_until => {
                let step = (window / 16).max(1);
                self.ceiling = Some(window + step + 1);
                window + step
            }
            Some(_) => window,
        };
        self.window = next.max(window).min(self.most);
    }
}
