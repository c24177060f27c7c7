//! Attempts: what is looked at before one, and what comes of it.

use domain::integration::{Integration, Target};
use domain::lifecycle::Input;
use domain::log::position::EventRef;
use domain::receiver::outcome::Outcome;
use domain::replay::sender::{Do, Posted, Seen};
use domain::run::{Admission, admit};
use domain::time::Millis;
use rand::RngExt;

use crate::history::{FRESH, MINUTE, URLS, name};
use crate::mutant::Mutant;
use crate::requests::of;
use crate::work::{DeliveryAt, Happening, Op, Process, Role};
use crate::world::{World, url_index};

impl World {
    pub fn is_fresh(&self, process: &Process) -> bool {
        let for_so_long = match self.mutant {
            Some(Mutant::StaleStatus) => 10 * MINUTE,
            _ => FRESH,
        };
        let asked_at = process.fresh.as_ref().map(|(_, asked_at)| *asked_at);
        asked_at.is_some_and(|asked_at| self.now < asked_at + for_so_long)
    }

    /// Reads the integration of a run, and decides what becomes of it.
    pub fn admit(&mut self, process: &mut Process, id: u64, local: Millis) {
        let found = self.find(of(process));
        let asked_at = self.now;
        let mutant = self.mutant;
        let Role::Deliver(it) = &mut process.role else {
            return;
        };
        it.busy = 0;
        let admission = match &found {
            None => Admission::Drop,
            Some(found) => {
                it.epoch = found.stream().map_or(0, |stream| stream.epoch);
                match admit(found, &it.run) {
                    Admission::Wait
                        if mutant == Some(Mutant::ServedPosted) && found.is_running() =>
                    {
                        Admission::Post
                    }
                    other => other,
                }
            }
        };
        process.fresh = found.map(|found| (Box::new(found), asked_at));
        match admission {
            Admission::Post => it.at = DeliveryAt::Posting,
            Admission::Wait => {
                self.file(process, local);
                self.next_of(process, id);
            }
            Admission::Drop => it.at = DeliveryAt::Writing,
        }
    }

    /// Looks once more whether the event may be sent, and sends it.
    pub fn attempt(
        &mut self,
        process: &mut Process,
        id: u64,
        attempt: u64,
        event: EventRef,
        read: Option<Box<Integration>>,
    ) {
        let event_id = self.id_of(&event);
        let integration = match read {
            Some(read) => read,
            None if !self.is_fresh(process) && process.fresh.is_some() => {
                return self.at(self.now, Happening::Work(id, Op::Attempt(attempt, event)));
            }
            None => {
                let found = process.fresh.as_ref().map(|(found, _)| found.clone());
                let is_over = match (&found, &process.role) {
                    (None, _) => true,
                    (Some(found), Role::Replay(_, sender)) => {
                        let stream = found.stream();
                        !found.is_running()
                            || stream.is_none_or(|stream| {
                                stream.epoch != sender.epoch()
                                    || stream.schedule.turn != sender.turn()
                            })
                    }
                    (Some(found), Role::Deliver(it)) => {
                        let epoch = found.stream().map_or(0, |stream| stream.epoch);
                        let is_posted = match self.mutant {
                            Some(Mutant::ServedPosted) => found.is_running(),
                            _ => admit(found, &it.run) == Admission::Post,
                        };
                        epoch != it.epoch || !is_posted
                    }
                    _ => true,
                };
                let Some(found) = found.filter(|_| !is_over) else {
                    return self.at(
                        self.now,
                        Happening::Work(id, Op::Ended(attempt, event, None, true)),
                    );
                };
                if !found.passes(name(event_id)) {
                    return self.at(
                        self.now,
                        Happening::Work(id, Op::Ended(attempt, event, None, false)),
                    );
                }
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
        let (who, generation) = of(process);
        let receiver = who * URLS + url_index(&callback.callback_url);
        let flip = self.random.random_bool(0.5);
        let busy = self.busy.entry(receiver).or_default();
        let (outcome, took) =
            self.history.receivers[receiver].answer(self.now, event_id, flip, busy.len());
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
        let ended = Op::Ended(attempt, event, Some((outcome, reason)), false);
        self.at(self.now + took, Happening::Work(id, ended));
    }

    /// An attempt has ended, or was not made.
    pub fn ended(
        &mut self,
        process: &mut Process,
        attempt: u64,
        event: EventRef,
        made: Option<(Outcome, String)>,
        is_over: bool,
        local: Millis,
    ) {
        let tick = self.now - process.began;
        let jitter = self.random.random();
        if let Some((Outcome::Delivered, _)) = made {
            self.highest.insert(of(process).1, event);
        }
        match &mut process.role {
            Role::Replay(..) => {
                let posted = match made {
                    Some((outcome, reason)) => Posted::Made(outcome, reason),
                    None if is_over => Posted::Over,
                    None => Posted::Unwanted,
                };
                let seen = Seen::Posted {
                    id: attempt,
                    posted,
                    jitter,
                };
                self.seen(process, seen, local);
            }
            Role::Deliver(it) => {
                it.busy = it.busy.saturating_sub(1);
                let number = attempt as usize;
                match made {
                    Some((outcome, reason)) => {
                        it.posting.ended(number, &outcome, reason.clone(), tick);
                        match outcome {
                            Outcome::Rejected(answer) => {
                                let todo = Do::Reject {
                                    id: attempt,
                                    event,
                                    reason,
                                    answer,
                                };
                                process.ops.push_back(Op::Carry(todo));
                            }
                            Outcome::Gone => {
                                let epoch = it.epoch;
                                let gone = Input::Gone { epoch, reason };
                                process.ops.push_back(Op::Apply(it.integration_ref, gone));
                            }
                            _ => {}
                        }
                    }
                    None if is_over => it.posting.halted(number),
                    None => it.posting.skipped(number),
                }
            }
            _ => {}
        }
    }
}
