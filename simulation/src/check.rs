//! What was promised, and whether it was kept.

use std::collections::{BTreeMap, BTreeSet};

use shared::clock::Millis;
use shared::integration::{CATCH_UP, Integration};
use shared::webhook::Outcome;
use ulid::Ulid;

use crate::Broken;
use crate::receiver::Bad;
use crate::world::{Owner, World};

/// What happened, as callers and receivers see it.
#[derive(Debug, Default)]
pub struct Ledger {
    promises: BTreeMap<Ulid, Promise>,
    /// Events that were taken in: each place at which they were appended.
    ingested: Vec<(u32, Ulid)>,
    pub broken: Option<Broken>,
}

/// What one generation of an integration was promised, and what it got.
#[derive(Debug)]
struct Promise {
    who: usize,
    floor: Millis,
    ends_at: Option<Millis>,
    is_deleted: bool,
    /// Whether it was answered that it is stopped.
    is_stopped: bool,
    /// When it was stopped last, by the clock of who decided it.
    last_stop: Option<Millis>,
    was_running: bool,
    is_given_up: bool,
    /// How often the receiver has taken each event.
    accepted: BTreeMap<u32, u32>,
    rejected: BTreeSet<u32>,
}

impl Ledger {
    pub fn register(
        &mut self,
        who: usize,
        generation: Ulid,
        floor: Millis,
        ends_at: Option<Millis>,
    ) {
        let promise = Promise {
            who,
            floor,
            ends_at,
            is_deleted: false,
            is_stopped: false,
            last_stop: None,
            was_running: true,
            is_given_up: false,
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

    pub fn ingest(&mut self, ids: &[u32], place: Ulid) {
        self.ingested.extend(ids.iter().map(|id| (*id, place)));
    }

    pub fn reject(&mut self, generation: Ulid, event: u32) {
        if let Some(promise) = self.promises.get_mut(&generation) {
            promise.rejected.insert(event);
        }
    }

    /// A state was written; `is_good` when receivers are up and nobody calls the API any more.
    pub fn note_status(&mut self, integration: &Integration, decided_at: Millis, is_good: bool) {
        let Some(promise) = self.promises.get_mut(&integration.generation) else {
            return;
        };
        let running = integration.is_running();
        if promise.was_running && !running {
            promise.last_stop = Some(decided_at);
            // A temporary one may be left with nothing but events that its receiver never takes.
            promise.is_given_up = is_good && !integration.is_finished;
            if promise.is_given_up && promise.ends_at.is_none() {
                let text = format!("{} was given up, though its receiver is up", promise.who);
                self.broken.get_or_insert(Broken(text));
            }
        }
        if !promise.was_running && running {
            promise.is_stopped = false;
            let is_late = promise
                .last_stop
                .is_some_and(|stop| decided_at.since(stop) > CATCH_UP);
            if is_late && promise.ends_at.is_none() {
                promise.floor = decided_at;
            }
        }
        promise.was_running = running;
    }

    /// It was answered that an integration is stopped.
    pub fn answer_stop(&mut self, stored: &[Option<Integration>], owner: Owner) {
        let is_stopped = stored[owner.0]
            .as_ref()
            .is_some_and(|stored| stored.generation == owner.1 && !stored.is_running());
        if let Some(promise) = self.promises.get_mut(&owner.1).filter(|_| is_stopped) {
            promise.is_stopped = true;
        }
    }

    /// An attempt begins.
    pub fn attempt(&mut self, generation: Ulid, event: u32, place: Ulid, outcome: &Outcome) {
        let Some(promise) = self.promises.get_mut(&generation) else {
            return;
        };
        let published_at = Millis(place.timestamp_ms());
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
        if *outcome == Outcome::Delivered {
            *promise.accepted.entry(event).or_default() += 1;
        }
    }
}

/// Checks a history that has come to its end.
///
/// # Errors
/// The first promise that was broken.
pub fn promises(world: &World) -> Result<(), Broken> {
    if let Some(broken) = &world.ledger.broken {
        return Err(broken.clone());
    }
    let end = |text: String| Err(Broken(text));
    if let Some((_, body)) = world.messages.first_key_value() {
        return end(format!("work has not ended: {body:?}"));
    }
    for (generation, promise) in &world.ledger.promises {
        let Promise { who, .. } = promise;
        if !promise.is_deleted {
            let wanted = world.ledger.ingested.iter().filter(|(event, place)| {
                let published_at = Millis(place.timestamp_ms());
                let passes = *who != 1 || World::name(*event).starts_with("order.");
                passes
                    && published_at >= promise.floor
                    && promise.ends_at.is_none_or(|end| published_at < end)
            });
            for (event, place) in wanted {
                let is_poison = world.history.receivers[*who].bad.get(event) == Some(&Bad::Poison);
                if promise.is_given_up && is_poison {
                    continue;
                }
                if !promise.accepted.contains_key(event) && !promise.rejected.contains(event) {
                    let at = Millis(place.timestamp_ms());
                    return end(format!("event {event} of {at} was never sent to {who}"));
                }
            }
            rest(world, *who, promise)?;
        }
        if world.history.is_calm() {
            for (event, times) in &promise.accepted {
                if *times > 1 {
                    return end(format!("event {event} was sent {times} times to {who}"));
                }
            }
        }
        let left = world.parked.keys().filter(|(owner, _)| owner == generation);
        let left = left.count()
            + world
                .chunks
                .keys()
                .filter(|(owner, _)| owner == generation)
                .count();
        if left > 0 && !promise.is_given_up {
            return end(format!(
                "{left} parked events and chunks are left for {who}"
            ));
        }
    }
    Ok(())
}

/// Checks that an integration has come to rest.
fn rest(world: &World, who: usize, promise: &Promise) -> Result<(), Broken> {
    let Some(stream) = world.integrations[who]
        .as_ref()
        .and_then(Integration::stream)
    else {
        return Ok(());
    };
    let is_over = match promise.ends_at {
        Some(_) => !promise.was_running,
        None => promise.was_running && stream.owed.is_empty() && !stream.is_interrupted(),
    };
    if stream.duty.wake_at.is_some() || !is_over {
        return Err(Broken(format!("{who} has not come to rest: {stream:?}")));
    }
    Ok(())
}
