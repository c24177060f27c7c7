//! The promises of a history, and what happened, as callers and receivers see it.

use std::collections::{BTreeMap, BTreeSet};

use domain::filter::Filter;
use domain::integration::{CATCH_UP, Integration};
use domain::log::position::EventRef;
use domain::receiver::outcome::Outcome;
use domain::time::Millis;
use ulid::Ulid;

use crate::Broken;
use crate::history::{GIVE_UP, MINUTE, SEAL, name};
use crate::work::IntegrationRef;

/// What happened, as callers and receivers see it.
#[derive(Debug, Default)]
pub struct Ledger {
    pub promises: BTreeMap<Ulid, Promise>,
    /// Events that were taken in: each segment at which they were appended.
    pub ingested: Vec<(u32, Ulid)>,
    pub broken: Option<Broken>,
    /// When events were published that are to arrive at once.
    pub published: BTreeMap<u32, u64>,
}

/// What one generation of an integration was promised, and what it got.
#[derive(Debug)]
pub struct Promise {
    pub who: usize,
    pub floor: Millis,
    pub ends_at: Option<Millis>,
    pub is_deleted: bool,
    /// Whether the response said that it is stopped.
    pub is_stopped: bool,
    /// When it was stopped last, by the clock of the worker that decided it.
    pub last_stop: Option<Millis>,
    pub was_running: bool,
    pub interrupted_since: Option<u64>,
    pub is_given_up: bool,
    /// The times for which it was running, and with which filter.
    pub periods: Vec<Period>,
    /// When it was started, or its last interruption ended.
    pub resumed_at: u64,
    /// When it was started last, by the clock of the process that wrote it.
    pub started_at: u64,
    /// When the last attempt began.
    pub last_attempt: u64,
    /// When attempts ended whose events were taken, or refused for good.
    pub taken: BTreeSet<u64>,
    /// The waiting event for which nothing was due when it was looked last.
    pub unheard: Option<EventRef>,
    /// The requests under way, by worker: how many, and whether the worker is a sender.
    pub under_way: BTreeMap<u64, (usize, bool)>,
    /// When each event failed first.
    pub failed: BTreeMap<u32, u64>,
    /// When the first attempt of each event began, and whether it was taken.
    pub first: BTreeMap<u32, (u64, bool)>,
    /// How often the receiver has taken each event.
    pub accepted: BTreeMap<u32, u32>,
    pub rejected: BTreeSet<u32>,
}

/// A time for which an integration was running.
#[derive(Debug)]
pub struct Period {
    pub filter: Option<Filter>,
    pub until: Option<u64>,
}

impl Promise {
    /// Whether the receiver has taken an event, or it is among the rejected ones.
    pub fn is_done(&self, event: u32) -> bool {
        self.accepted.contains_key(&event) || self.rejected.contains(&event)
    }

    /// Whether an event that was published at this instant has to arrive: every filter lets it pass with which the integration
    /// was running from then on. One that was published right after a stop is the next filter's alone.
    pub fn wants(&self, event: u32, published_at: Millis) -> bool {
        let is_in_force = |period: &&Period| {
            let until = |until| until + SEAL / 4 > published_at.0;
            period.until.is_none_or(until)
        };
        let name = name(event);
        let mut filters = self
            .periods
            .iter()
            .filter(is_in_force)
            .filter_map(|period| period.filter.as_ref());
        filters.all(|filter| filter.passes(name))
    }
}

impl Ledger {
    pub fn register(
        &mut self,
        who: usize,
        generation: Ulid,
        floor: Millis,
        ends_at: Option<Millis>,
        now: u64,
        filter: Option<Filter>,
    ) {
        let promise = Promise {
            who,
            floor,
            ends_at,
            is_deleted: false,
            is_stopped: false,
            last_stop: None,
            was_running: true,
            interrupted_since: None,
            is_given_up: false,
            periods: vec![Period {
                filter,
                until: None,
            }],
            resumed_at: now,
            started_at: now,
            last_attempt: 0,
            taken: BTreeSet::new(),
            unheard: None,
            under_way: BTreeMap::new(),
            failed: BTreeMap::new(),
            first: BTreeMap::new(),
            accepted: BTreeMap::new(),
            rejected: BTreeSet::new(),
        };
        self.promises.insert(generation, promise);
    }

    pub fn delete(&mut self, generation: Ulid) {
        if let Some(promise) = self.promises.get_mut(&generation) {
            promise.is_deleted = true;
        }
    }

    pub fn ingest(&mut self, ids: &[u32], segment: Ulid) {
        self.ingested.extend(ids.iter().map(|id| (*id, segment)));
    }

    /// An event was rejected: by the receiver, or because it `is_given_up`.
    pub fn reject(&mut self, generation: Ulid, event: u32, is_given_up: bool, now: u64) {
        let Some(promise) = self.promises.get_mut(&generation) else {
            return;
        };
        promise.rejected.insert(event);
        let failed = promise.failed.get(&event).copied().unwrap_or(now);
        // A success may be written down by a worker that was held up.
        let is_alone = promise.taken.range(failed - 2 * MINUTE..).next().is_some();
        let is_long = |since: u64| now + 2 * SEAL >= since + GIVE_UP;
        // Where the receiver came back three times, some time apart, it is the event that is not taken.
        let began = failed.max(promise.started_at);
        let mut proofs = 0;
        let mut after = began.saturating_sub(2 * MINUTE);
        while let Some(taken) = promise.taken.range(after..).next() {
            (proofs, after) = (proofs + 1, taken + GIVE_UP / 50 - SEAL);
        }
        let is_long = is_long(failed.max(promise.resumed_at)) || proofs >= 3 && is_long(began);
        if is_given_up && !(is_alone && is_long) {
            let text = format!("event {event} was given up too early for {}", promise.who);
            self.broken.get_or_insert(Broken(text));
        }
    }

    /// An event was rejected since too many wait: that many have failed and were never taken.
    pub fn full(&mut self, generation: Ulid, limit: usize) {
        let Some(promise) = self.promises.get(&generation) else {
            return;
        };
        // An event may stand in the event log more than once.
        if promise.failed.len() < limit / 3 {
            let text = format!("an event was rejected for {}, though few wait", promise.who);
            self.broken.get_or_insert(Broken(text));
        }
    }

    /// Of the events that the receiver has taken at first sight, all but one in a hundred were posted within two seconds, besides the
    /// time that a dozen requests of ours take.
    ///
    /// # Errors
    /// When it was not so.
    pub fn lateness(&self) -> Result<(), Broken> {
        let Some(promise) = self.promises.values().find(|it| it.who == 0) else {
            return Ok(());
        };
        let Some(begun) = self.published.values().min() else {
            return Ok(());
        };
        let (mut all, mut late) = (0, 0);
        for (event, published_at) in self.published.range(..) {
            let at = promise.first.get(event);
            let at = at.filter(|(_, is_taken)| *is_taken).map(|(at, _)| *at);
            // A new stream catches up first.
            if let Some(at) = at.filter(|_| *published_at > begun + 2 * MINUTE) {
                all += 1;
                late += usize::from(at > published_at + 2_600);
            }
        }
        if late * 100 > all {
            let text = format!("{late} of {all} events came late that were taken at first sight");
            return Err(Broken(text));
        }
        Ok(())
    }

    /// An event waits: whatever a receiver asks for, it is sent something every quarter of an hour.
    pub fn is_silent(&mut self, generation: Ulid, who: usize, now: u64) {
        let Some(promise) = self.promises.get(&generation) else {
            return;
        };
        let since = promise.last_attempt.max(promise.started_at);
        if now > since + 19 * MINUTE {
            let text = format!("nothing was sent to {who} for 19 minutes, though an event waits");
            self.broken.get_or_insert(Broken(text));
        }
    }

    /// A probe was to be sent before `due`.
    pub fn probe_due(&mut self, generation: Ulid, who: usize, due: u64, now: u64) {
        let last_attempt = self
            .promises
            .get(&generation)
            .map_or(0, |it| it.last_attempt);
        if now > due && now > last_attempt + 2 * MINUTE {
            let text = format!("no probe was sent to {who} two minutes after it was due");
            self.broken.get_or_insert(Broken(text));
        }
    }

    /// Whether the receiver has an event of a generation, or it is among the rejected ones.
    pub fn is_done(&self, generation: Ulid, event: u32) -> bool {
        self.promises
            .get(&generation)
            .is_none_or(|promise| promise.is_done(event))
    }

    /// Whether an event waits for a step though none is due, and has for a minute.
    pub fn waits_unheard(
        &mut self,
        who: usize,
        generation: Ulid,
        waiting: Option<(EventRef, u32)>,
    ) {
        let Some(promise) = self.promises.get_mut(&generation) else {
            return;
        };
        let event = waiting.map(|(event, _)| event);
        if event.is_some() && std::mem::replace(&mut promise.unheard, event) == event {
            let text = format!("an event of {who} waits, and no step is due: {event:?}");
            self.broken.get_or_insert(Broken(text));
        }
        promise.unheard = event;
    }

    /// A worker posts: within the limit of requests at a time, and no two senders at once.
    pub fn posts(&mut self, generation: Ulid, process: u64, is_sender: bool, limit: Option<u32>) {
        let Some(promise) = self.promises.get_mut(&generation) else {
            return;
        };
        promise.under_way.entry(process).or_insert((0, is_sender)).0 += 1;
        let total: usize = promise.under_way.values().map(|(count, _)| *count).sum();
        let others = promise
            .under_way
            .iter()
            .filter(|(id, (_, is_sender))| **id != process && *is_sender);
        let text = match limit {
            Some(limit) if total > limit as usize => {
                format!(
                    "{total} requests at a time to {}, which takes {limit}",
                    promise.who
                )
            }
            _ if is_sender && others.count() > 0 => {
                format!("two senders post to {}", promise.who)
            }
            _ => return,
        };
        self.broken.get_or_insert(Broken(text));
    }

    /// A request of a worker has ended.
    pub fn ends(&mut self, generation: Ulid, process: u64) {
        let Some(promise) = self.promises.get_mut(&generation) else {
            return;
        };
        if let Some((count, _)) = promise.under_way.get_mut(&process) {
            *count -= 1;
            if *count == 0 {
                promise.under_way.remove(&process);
            }
        }
    }

    /// A state was written: no stream is interrupted right behind a success, as far as every worker hears what becomes of its orders
    /// (`is_heard`), and none is resumed without one while events wait.
    pub fn note_interruption(
        &mut self,
        integration: &Integration,
        now: u64,
        is_heard: bool,
        waits: bool,
    ) {
        let Some(promise) = self.promises.get_mut(&integration.generation) else {
            return;
        };
        let since = integration
            .stream()
            .and_then(|it| it.health.interruption)
            .map(|it| it.since.0);
        let before = std::mem::replace(&mut promise.interrupted_since, since);
        // A success takes some requests to be written down.
        let just_before = now.saturating_sub(1_000)..now.saturating_sub(300);
        let is_right_behind = promise.taken.range(just_before).next().is_some();
        if since.is_some() && before.is_none() && is_heard && is_right_behind {
            let text = format!("{} is interrupted right behind a success", promise.who);
            self.broken.get_or_insert(Broken(text));
        }
        let began = before.unwrap_or_default().saturating_sub(2 * SEAL);
        let is_proven = promise.taken.range(began..).next().is_some();
        let is_resumed = before.is_some() && since.is_none() && integration.is_running();
        if is_resumed && !is_proven && waits && promise.was_running {
            let text = format!("{} is resumed without a success", promise.who);
            self.broken.get_or_insert(Broken(text));
        }
    }

    /// A state was written; `is_good` when receivers are up and the API is not called any more.
    pub fn note_status(
        &mut self,
        integration: &Integration,
        decided_at: Millis,
        now: u64,
        is_good: bool,
    ) {
        let Some(promise) = self.promises.get_mut(&integration.generation) else {
            return;
        };
        let running = integration.is_running();
        let health = integration.stream().map(|stream| &stream.health);
        if health.is_some_and(|health| health.resumed_at == Some(decided_at)) {
            promise.resumed_at = decided_at.0;
        }
        if promise.was_running && !running {
            promise.last_stop = Some(decided_at);
            if let Some(period) = promise.periods.last_mut() {
                period.until = Some(now);
            }
            // A temporary one may be left with nothing but events that its receiver never takes.
            promise.is_given_up = is_good && !integration.is_finished;
            if promise.is_given_up && promise.ends_at.is_none() {
                let text = format!("{} was given up, though its receiver is up", promise.who);
                self.broken.get_or_insert(Broken(text));
            }
        }
        if !promise.was_running && running {
            promise.is_stopped = false;
            promise.resumed_at = decided_at.0;
            promise.started_at = decided_at.0;
            promise.periods.push(Period {
                filter: integration.filter.clone(),
                until: None,
            });
            let is_late = promise
                .last_stop
                .is_some_and(|stop| decided_at.since(stop) > CATCH_UP);
            if is_late && promise.ends_at.is_none() {
                promise.floor = decided_at;
            }
        }
        promise.was_running = running;
    }

    /// The response said that an integration is stopped.
    pub fn answer_stop(&mut self, stored: &[Option<Integration>], integration_ref: IntegrationRef) {
        let is_stopped = stored[integration_ref.0]
            .as_ref()
            .is_some_and(|stored| stored.generation == integration_ref.1 && !stored.is_running());
        if let Some(promise) = self
            .promises
            .get_mut(&integration_ref.1)
            .filter(|_| is_stopped)
        {
            promise.is_stopped = true;
        }
    }

    /// An attempt begins, and ends at the second of the `times`.
    pub fn attempt(
        &mut self,
        generation: Ulid,
        event: u32,
        segment: Ulid,
        outcome: &Outcome,
        times: (u64, u64),
    ) {
        let Some(promise) = self.promises.get_mut(&generation) else {
            return;
        };
        let published_at = Millis(segment.timestamp_ms());
        let mut break_it = |text: &str| {
            let text = format!(
                "event {event} of {published_at} for {}: {text}",
                promise.who
            );
            self.broken.get_or_insert(Broken(text));
        };
        if promise.is_stopped {
            break_it("sent while stopped");
        }
        if promise.is_deleted {
            break_it("sent after deletion");
        }
        if published_at < promise.floor || promise.ends_at.is_some_and(|end| published_at >= end) {
            break_it("sent from outside of what was promised");
        }
        let (began, ends) = times;
        promise.last_attempt = began;
        let is_taken = *outcome == Outcome::Delivered;
        promise.first.entry(event).or_insert((began, is_taken));
        match outcome {
            Outcome::Delivered => {
                *promise.accepted.entry(event).or_default() += 1;
                promise.taken.insert(ends);
            }
            Outcome::Rejected(_) => {
                promise.taken.insert(ends);
            }
            Outcome::Gone => {}
            Outcome::Failed(_) => {
                promise.failed.entry(event).or_insert(began);
            }
        }
    }
}
