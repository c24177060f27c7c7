//! What a sender posts next.

use super::held::Tried;
use super::machine::Sender;
use super::under_way::Sending;
use crate::log::position::EventRef;
use crate::sending::{Do, Now};
use crate::time::Millis;

/// What is sent next.
#[derive(Clone, Copy, Debug)]
enum Chosen {
    /// An event that waits.
    Waiting(EventRef),
    /// The next event of the owed range.
    Owed,
}

impl Sender {
    /// Begins the next attempt, if the pace allows one and there is something to send.
    pub(super) fn post(&mut self, now: Now) -> Option<Do> {
        if now.tick < self.rests_until {
            return None;
        }
        let chosen = self.choose(now)?;
        if self
            .pacer
            .may_begin_at(now.tick)
            .is_none_or(|at| at > now.tick)
        {
            self.pacer.waits(now.tick);
            return None;
        }
        let (event, tried) = match chosen {
            Chosen::Waiting(event) => (event, self.held.take(event)?),
            Chosen::Owed => {
                let event = self.next_owed()?;
                // It may have been stored by others meanwhile.
                let tried = self.held.take(event);
                let mut tried = tried.unwrap_or_else(|| Tried::new(1, None, now.wall));
                tried.is_open = true;
                (event, tried)
            }
        };
        self.takes_waiting = matches!(chosen, Chosen::Owed);
        let is_probe = self.is_probing();
        if let Some(it) = &mut self.health.interruption
            && matches!(chosen, Chosen::Waiting(_))
        {
            it.cursor = Some(event);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.pacer.begin(id, now.tick);
        let attempt = tried.attempt;
        let sending = Sending {
            event,
            tried,
            began: now.tick,
            is_probe,
        };
        self.under_way.insert(id, sending);
        Some(Do::Post { id, event, attempt })
    }

    /// The next event that was read, unless it was listed meanwhile, and is under way or done with as one that waits.
    fn next_owed(&mut self) -> Option<EventRef> {
        while let Some(event) = self.ahead.pop_front() {
            if self.held.is_open(event) && !self.under_way.has(event) {
                return Some(event);
            }
            self.skipped.push(event);
        }
        None
    }

    /// What is sent next: a waiting event that is due and the next owed one in turn. Those that failed before get a quarter of the
    /// time at the most, as long as there is anything else.
    fn choose(&self, now: Now) -> Option<Chosen> {
        let owed = self.has_owed().then_some(Chosen::Owed);
        if let Some(it) = self.health.interruption {
            let waiting = self.held.behind(it.cursor).map(Chosen::Waiting);
            if it.probes % 2 == 1 && owed.is_none() && (self.is_reading || self.can_read()) {
                return None;
            }
            // What was never tried shows whether it is the events that fail.
            let untried = || self.held.untried().map(Chosen::Waiting);
            if !it.is_refused && (owed.is_some() || !self.is_reading && !self.can_read()) {
                let first = owed.or_else(untried);
                if first.is_some() {
                    return first;
                }
            } else if !it.is_refused {
                return None;
            }
            // In turn: either kind alone might be of those that the receiver never takes.
            return match it.probes % 2 {
                0 => waiting.or(owed),
                _ => owed.or(waiting),
            };
        }
        let fresh = self.held.due(now.wall, false).map(Chosen::Waiting);
        let tired = self.held.due(now.wall, true).map(Chosen::Waiting);
        let may_tire = self.may_tire(now);
        if may_tire && self.takes_waiting && tired.is_some() {
            return tired;
        }
        let others = match self.takes_waiting {
            true => fresh.or(owed),
            false => owed.or(fresh),
        };
        others.or(tired.filter(|_| may_tire || !self.has_others()))
    }

    /// Whether one more of those that failed before may be sent beside the others.
    fn may_tire(&self, now: Now) -> bool {
        let window = u64::from(self.pacer.window());
        u64::from(self.under_way.tired) < (window / 4).max(1)
            && self.under_way.tired_for * 4 <= now.tick * window
    }

    /// Whether there is anything else to send.
    fn has_others(&self) -> bool {
        !self.ahead.is_empty() || self.is_reading || !self.held.is_all_tired()
    }

    /// When the first waiting event is due that may be sent then: one that has to give way to the others wakes no one.
    pub(super) fn first_due(&self, now: Now) -> Option<Millis> {
        let may_go = self.is_probing() || self.may_tire(now) || !self.has_others();
        let tired = self.held.first_due_of(true).filter(|_| may_go);
        self.held.first_due_of(false).into_iter().chain(tired).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ulid::Ulid;

    use super::super::types::LIMITS;
    use super::*;
    use crate::lifecycle::Rules;
    use crate::sending::Machine;

    #[test]
    fn an_event_that_has_to_give_way_wakes_no_one() {
        let rules = Rules {
            seal: Duration::from_secs(10),
            give_up: Duration::from_secs(5 * 24 * 3600),
            retention: Duration::from_secs(90 * 24 * 3600),
        };
        let wall = Millis(1_700_000_000_000);
        let now = Now { wall, tick: 1_000 };
        let over = wall.after(Duration::from_secs(90));
        let mut sender = Sender::new(0, Ulid(7), now, over, rules, LIMITS);
        let event = |number: u128| EventRef {
            segment: Ulid(number << 80),
            index: 0,
            shard: 0,
        };
        let long_due = Tried::new(5, Some(Millis(0)), wall.before(Duration::from_secs(60)));
        sender.held.wait(event(1), long_due, Ulid(0));
        assert_eq!(sender.wake(now), now.tick + 1, "there is nothing else");
        let soon = Tried::new(2, Some(Millis(0)), wall.after(Duration::from_millis(200)));
        sender.held.wait(event(2), soon, Ulid(0));
        assert_eq!(sender.wake(now), now.tick + 1, "it may go beside the other");
        // All those of the window that may be of its kind are under way.
        sender.under_way.tired = sender.pacer.window();
        assert_eq!(sender.wake(now), now.tick + 200);
    }
}
