//! Attempts: what is looked at before one, and what comes of it.

use domain::integration::{Integration, Target};
use domain::log::position::EventRef;
use domain::receiver::outcome::Outcome;
use domain::sending::{Holder, Look, Posted, Seen, look};
use domain::time::Millis;
use rand::RngExt;

use crate::history::{FRESH, MINUTE, URLS, name};
use crate::mutant::Mutant;
use crate::requests::of;
use crate::work::{Happening, Op, Process, Role};
use crate::world::{World, url_index};

/// How long a request waits for a socket, in milliseconds.
const NO_SOCKET: u64 = 500;

impl World {
    pub fn is_fresh(&self, process: &Process) -> bool {
        let for_so_long = match self.mutant {
            Some(Mutant::StaleStatus) => 10 * MINUTE,
            _ => FRESH,
        };
        let asked_at = process.fresh.as_ref().map(|(_, asked_at)| *asked_at);
        asked_at.is_some_and(|asked_at| self.now < asked_at + for_so_long)
    }

    /// Looks once more whether the event may be sent, and sends it.
    pub fn attempt(
        &mut self,
        process: &mut Process,
        id: u64,
        attempt: u64,
        event: EventRef,
        read: Option<Box<Integration>>,
        local: Millis,
    ) {
        let event_id = self.id_of(&event);
        let integration = match read {
            Some(read) => read,
            None if !self.is_fresh(process) && process.fresh.is_some() => {
                return self.at(self.now, Happening::Work(id, Op::Attempt(attempt, event)));
            }
            None => {
                let found = process.fresh.as_ref().map(|(found, _)| found.clone());
                let Some(holder) = process.role.machine().map(|it| it.holder()) else {
                    return;
                };
                let looked = found
                    .as_ref()
                    .map_or(Look::Over, |it| self.looks(it, holder, name(event_id)));
                let posted = match (found, looked) {
                    (Some(found), Look::Send) => Ok(found),
                    (_, Look::Unwanted) => Err(Posted::Unwanted),
                    _ => Err(Posted::Over),
                };
                let found = match posted {
                    Ok(found) => found,
                    Err(posted) => return self.answer_post(id, attempt, posted, self.now),
                };
                // Held up between the look and the request, but not for long.
                let freezes = self.history.freezes;
                if self.unlucky(freezes) {
                    let at = self.now + self.random.random_range(0..150);
                    return self.at(
                        at,
                        Happening::Work(id, Op::Request(attempt, event, Some(found))),
                    );
                }
                found
            }
        };
        let Target::Webhook { callback, .. } = &integration.target else {
            return;
        };
        // No socket becomes free in time.
        let failures = self.history.failures;
        if self.unlucky(failures) {
            return self.answer_post(id, attempt, Posted::Unmade, self.now + NO_SOCKET);
        }
        let (who, generation) = of(process);
        let receiver = who * URLS + url_index(&callback.callback_url);
        let luck = self.random.random();
        let busy = self.busy.entry(receiver).or_default();
        let (outcome, took) =
            self.history.receivers[receiver].answer(self.now, event_id, luck, busy.len());
        busy.insert((id, attempt));
        self.report.attempts += 1;
        let took = took + self.latency();
        let times = (self.now, self.now + took);
        self.ledger
            .attempt(generation, event_id, event.segment, &outcome, times);
        let is_sender = matches!(process.role, Role::Replay(..));
        self.ledger
            .posts(generation, id, is_sender, callback.max_in_flight);
        self.at(
            self.now + took,
            Happening::Free(receiver, generation, id, attempt),
        );
        let reason = domain::integration_log::request_failed(&callback.callback_url, "no", "");
        if outcome == Outcome::Delivered {
            self.highest.insert(generation, event);
        }
        let at = self.now - process.began;
        let begun = Seen::Begun { id: attempt, at };
        self.seen(process, begun, local);
        let posted = Posted::Made(outcome, reason);
        let at = self.now + took;
        let stream = integration.stream();
        let is_failing = stream.is_some_and(|it| it.health.failing_since.is_some());
        self.answer_made(id, attempt, posted, (took, is_failing), at);
    }

    fn answer_post(&mut self, id: u64, attempt: u64, posted: Posted, at: u64) {
        self.answer_made(id, attempt, posted, (0, false), at);
    }

    fn answer_made(
        &mut self,
        id: u64,
        attempt: u64,
        posted: Posted,
        (took, is_failing): (u64, bool),
        at: u64,
    ) {
        let seen = Seen::Posted {
            id: attempt,
            posted,
            took,
            is_failing,
            jitter: self.random.random(),
        };
        self.at(at, Happening::Work(id, Op::Answer(Box::new(seen))));
    }

    /// What a worker makes of the integration before an attempt, with a bug put in or not.
    fn looks(&self, integration: &Integration, holder: Holder, name: &str) -> Look {
        let looked = look(integration, holder, name);
        let is_run = matches!(holder, Holder::Run { .. });
        match self.mutant {
            Some(Mutant::ServedPosted)
                if looked == Look::Over && is_run && integration.is_running() =>
            {
                Look::Send
            }
            _ => looked,
        }
    }
}
