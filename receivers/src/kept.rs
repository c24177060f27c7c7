//! Which connections are kept for the next request, how long, and for whom: rules without I/O.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::time::Millis;
use tokio::sync::Notify;

use crate::target::Origin;

/// How many unused connections to one origin are kept. Those of a busy stream return together, so it is only the next sweep that
/// closes more.
const MAX_OF_ORIGIN: usize = 10;
/// How many unused connections are kept in all.
const MAX_KEPT: usize = 256;
/// How old a connection becomes. A receiver that has moved, by DNS or behind a balancer, is found again after this time.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(120);
/// How long an unused connection is kept while the process runs. A receiver that serves one connection at a time serves nobody else
/// meanwhile, and another process of ours may be waiting.
pub(crate) const MAX_IDLE: Duration = Duration::from_secs(1);
/// How long an unused connection is kept by the wall clock. Lambda freezes a process between two invocations, and the monotonic clock
/// stands still then.
const MAX_FROZEN: Duration = Duration::from_secs(5);

/// An instant by the clock that only moves forward, and by the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// By the clock that only moves forward.
    pub tick: Instant,
    /// By the wall clock.
    pub wall: Millis,
}

impl Moment {
    /// This moment, which is `wall` by the wall clock.
    pub(crate) fn now(wall: Millis) -> Moment {
        let tick = Instant::now();
        Moment { tick, wall }
    }

    /// The present moment, as seen from an earlier one.
    pub(crate) fn later(self) -> Moment {
        let tick = Instant::now();
        let wall = self.wall.after(tick.saturating_duration_since(self.tick));
        Moment { tick, wall }
    }
}

/// The connections of a process, by their origins.
#[derive(Debug)]
pub(crate) struct Kept<C> {
    lines: HashMap<Origin, Line<C>>,
    count: usize,
    is_swept: bool,
}

/// The connections to one origin.
#[derive(Debug)]
struct Line<C> {
    /// Those that are unused, the one that was used last at the end.
    idle: Vec<Idle<C>>,
    /// How many are being made or used.
    busy: usize,
    /// How many requests have waited for long on a connection that was made for them.
    late: usize,
    /// Notified when one that was busy is not so any more.
    returned: Arc<Notify>,
}

#[derive(Debug)]
struct Idle<C> {
    connection: C,
    made: Moment,
    since: Moment,
}

impl<C> Idle<C> {
    fn is_fresh(&self, at: Moment) -> bool {
        at.tick.saturating_duration_since(self.since.tick) < MAX_IDLE
            && at.wall.since(self.since.wall) < MAX_FROZEN
            && is_young(self.made, at)
    }
}

/// Whether a connection may still be used.
fn is_young(made: Moment, at: Moment) -> bool {
    at.tick.saturating_duration_since(made.tick) < MAX_AGE && at.wall.since(made.wall) < MAX_AGE
}

impl<C> Line<C> {
    fn new() -> Line<C> {
        Line {
            idle: Vec::new(),
            busy: 0,
            late: 0,
            returned: Arc::default(),
        }
    }

    fn is_needed(&self) -> bool {
        !self.idle.is_empty() || self.busy > 0 || self.late > 0
    }
}

impl<C> Kept<C> {
    /// None yet.
    pub(crate) fn new() -> Kept<C> {
        Kept {
            lines: HashMap::new(),
            count: 0,
            is_swept: false,
        }
    }

    /// The connection that was used last, and when it was made. It is busy from now on.
    pub(crate) fn take(
        &mut self,
        origin: &Origin,
        at: Moment,
        is_open: impl Fn(&C) -> bool,
    ) -> Option<(C, Moment)> {
        let line = self.lines.get_mut(origin)?;
        while let Some(idle) = line.idle.pop() {
            self.count -= 1;
            if idle.is_fresh(at) && is_open(&idle.connection) {
                line.busy += 1;
                return Some((idle.connection, idle.made));
            }
        }
        None
    }

    /// A connection is about to be made. It is busy from now on.
    pub(crate) fn begin(&mut self, origin: &Origin) {
        match self.lines.get_mut(origin) {
            Some(line) => line.busy += 1,
            None => {
                let mut line = Line::new();
                line.busy = 1;
                self.lines.insert(origin.clone(), line);
            }
        }
    }

    /// A connection is not busy any more.
    pub(crate) fn end(&mut self, origin: &Origin) {
        let Some(line) = self.lines.get_mut(origin) else {
            debug_assert!(false, "a busy connection has a line");
            return;
        };
        debug_assert!(line.busy > 0, "what ends has begun");
        line.busy = line.busy.saturating_sub(1);
        line.returned.notify_one();
        self.forget(origin);
    }

    /// What is notified when a busy connection returns; none where there is none that could.
    pub(crate) fn returned(&self, origin: &Origin) -> Option<Arc<Notify>> {
        let line = self.lines.get(origin)?;
        (line.busy > 0 && line.late == 0).then(|| line.returned.clone())
    }

    /// Keeps a connection that has answered, unless it is too old, or requests are late on others to this origin: a receiver that
    /// serves some connections at a time comes to them when this one is closed. Returns whether somebody has to begin to sweep.
    pub(crate) fn keep(
        &mut self,
        origin: &Origin,
        connection: C,
        made: Moment,
        at: Moment,
    ) -> bool {
        let Some(line) = self.lines.get_mut(origin) else {
            return false;
        };
        if line.late > 0 || !is_young(made, at) {
            return false;
        }
        line.idle.push(Idle {
            connection,
            made,
            since: at,
        });
        self.count += 1;
        if self.count > MAX_KEPT {
            self.drop_oldest();
        }
        !std::mem::replace(&mut self.is_swept, true)
    }

    /// A request has waited for long on a connection that was made for it: what is unused of this origin is closed, and nothing is
    /// kept until [`Kept::end_late`].
    pub(crate) fn late(&mut self, origin: &Origin) {
        let Some(line) = self.lines.get_mut(origin) else {
            debug_assert!(false, "a late request has a busy connection");
            return;
        };
        line.late += 1;
        self.count -= line.idle.len();
        line.idle.clear();
    }

    /// The wait of a late request is over.
    pub(crate) fn end_late(&mut self, origin: &Origin) {
        if let Some(line) = self.lines.get_mut(origin) {
            line.late = line.late.saturating_sub(1);
        }
        self.forget(origin);
    }

    /// Closes the connection that has been unused for the longest time.
    pub(crate) fn drop_oldest(&mut self) {
        let oldest = self
            .lines
            .iter_mut()
            .filter(|(_, line)| !line.idle.is_empty())
            .min_by_key(|(_, line)| line.idle[0].since.tick);
        if let Some((_, line)) = oldest {
            line.idle.remove(0);
            self.count -= 1;
        }
    }

    /// Closes what has been unused for too long, or is too much; whether anything is left to be swept later.
    pub(crate) fn sweep(&mut self, tick: Instant) -> bool {
        self.lines.retain(|_, line| {
            let beyond = line.idle.len().saturating_sub(MAX_OF_ORIGIN);
            line.idle.drain(..beyond);
            line.idle
                .retain(|idle| tick.saturating_duration_since(idle.since.tick) < MAX_IDLE);
            line.is_needed()
        });
        self.count = self.lines.values().map(|line| line.idle.len()).sum();
        self.is_swept = self.count > 0;
        self.is_swept
    }

    fn forget(&mut self, origin: &Origin) {
        if self.lines.get(origin).is_some_and(|line| !line.is_needed()) {
            self.lines.remove(origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::target::Host;

    fn origin(port: u16) -> Origin {
        Origin {
            is_encrypted: false,
            host: Host::Address(Ipv4Addr::LOCALHOST.into()),
            port,
        }
    }

    /// Moments at so many milliseconds by the clock that only moves forward, and by the wall clock.
    fn moments() -> impl Fn(u64, u64) -> Moment {
        let start = Instant::now();
        move |tick, wall| Moment {
            tick: start + Duration::from_millis(tick),
            wall: Millis(1_000_000 + wall),
        }
    }

    /// Keeps a connection that was made and used at these moments.
    fn keep(kept: &mut Kept<usize>, origin: &Origin, connection: usize, made: Moment, at: Moment) {
        kept.begin(origin);
        kept.keep(origin, connection, made, at);
        kept.end(origin);
    }

    #[test]
    fn a_connection_is_kept_for_a_second_and_for_five_of_the_wall_clock_and_becomes_two_minutes_old()
     {
        let at = moments();
        for (made, since, now, is_kept) in [
            (at(0, 0), at(0, 0), at(999, 999), true),
            (at(0, 0), at(0, 0), at(1_000, 1_000), false),
            // The process was frozen: one clock stood still.
            (at(0, 0), at(0, 0), at(0, 4_999), true),
            (at(0, 0), at(0, 0), at(0, 5_000), false),
            // The wall clock was set back.
            (at(0, 9_000), at(0, 9_000), at(999, 0), true),
            (at(0, 9_000), at(0, 9_000), at(1_000, 0), false),
            // It was in use for two minutes, by either clock.
            (at(0, 0), at(119_500, 119_500), at(119_999, 119_999), true),
            (at(0, 0), at(119_500, 119_500), at(120_000, 120_000), false),
            (at(0, 0), at(10, 119_500), at(20, 120_000), false),
            (at(0, 0), at(120_000, 0), at(120_001, 0), false),
        ] {
            let (mut kept, origin) = (Kept::new(), origin(1));
            keep(&mut kept, &origin, 7, made, since);
            let taken = kept.take(&origin, now, |_| true).map(|(it, _)| it);
            assert_eq!(taken, is_kept.then_some(7), "{now:?} {since:?}");
        }
    }

    #[test]
    fn ten_are_kept_for_an_origin_and_256_in_all_and_the_last_one_used_is_the_next() {
        let at = moments();
        let mut kept = Kept::new();
        for n in 0..12 {
            keep(&mut kept, &origin(1), n, at(0, 0), at(n as u64, 0));
        }
        assert_eq!(kept.count, 12);
        kept.sweep(at(12, 0).tick);
        assert_eq!(kept.count, MAX_OF_ORIGIN);
        let taken: Vec<usize> = std::iter::from_fn(|| kept.take(&origin(1), at(12, 0), |_| true))
            .map(|(connection, _)| connection)
            .collect();
        assert_eq!(taken, [11, 10, 9, 8, 7, 6, 5, 4, 3, 2]);
        let mut kept = Kept::new();
        for n in 0..300 {
            keep(&mut kept, &origin(n), n.into(), at(0, 0), at(n.into(), 0));
        }
        assert_eq!(kept.count, MAX_KEPT);
        assert!(kept.take(&origin(43), at(300, 0), |_| true).is_none());
        assert!(kept.take(&origin(44), at(300, 0), |_| true).is_some());
    }

    #[test]
    fn a_closed_connection_is_not_taken() {
        let at = moments();
        let (mut kept, origin) = (Kept::new(), origin(1));
        keep(&mut kept, &origin, 1, at(0, 0), at(0, 0));
        keep(&mut kept, &origin, 2, at(0, 0), at(0, 0));
        let taken = kept.take(&origin, at(0, 0), |connection| *connection == 1);
        assert_eq!(taken.map(|(it, _)| it), Some(1));
        assert_eq!(kept.count, 0);
    }

    #[test]
    fn nothing_is_kept_while_a_request_is_late_on_a_connection_of_its_own() {
        let at = moments();
        let (mut kept, late, other) = (Kept::new(), origin(1), origin(2));
        kept.begin(&late);
        keep(&mut kept, &late, 1, at(0, 0), at(0, 0));
        keep(&mut kept, &other, 2, at(0, 0), at(0, 0));
        kept.late(&late);
        assert!(kept.take(&late, at(0, 0), |_| true).is_none());
        keep(&mut kept, &late, 3, at(0, 0), at(0, 0));
        assert!(kept.take(&late, at(0, 0), |_| true).is_none());
        assert!(kept.take(&other, at(0, 0), |_| true).is_some());
        kept.end_late(&late);
        keep(&mut kept, &late, 4, at(0, 0), at(0, 0));
        assert!(kept.take(&late, at(0, 0), |_| true).is_some());
    }

    #[test]
    fn what_is_neither_kept_nor_busy_is_forgotten() {
        let at = moments();
        let (mut kept, origin) = (Kept::new(), origin(1));
        assert!(kept.returned(&origin).is_none());
        kept.begin(&origin);
        assert!(kept.returned(&origin).is_some());
        assert!(kept.keep(&origin, 1, at(0, 0), at(0, 0)), "a sweep begins");
        assert!(!kept.keep(&origin, 2, at(0, 0), at(1, 1)), "one is enough");
        kept.end(&origin);
        assert!(kept.returned(&origin).is_none());
        assert!(kept.sweep(at(1_000, 0).tick));
        assert_eq!(kept.count, 1);
        assert!(!kept.sweep(at(1_001, 0).tick));
        assert!(kept.lines.is_empty());
        kept.begin(&origin);
        kept.end(&origin);
        assert!(kept.lines.is_empty());
    }
}
