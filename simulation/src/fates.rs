//! Looks at the fate of events at random moments, as a caller would, and compares it with what receivers got.

use domain::fate::{Event, EventStatus, Fate, View};
use domain::integration::{Integration, Status};
use domain::log::position::EventRef;
use domain::time::Millis;
use rand::rngs::Xoshiro256PlusPlus as Random;
use rand::{RngExt, SeedableRng};
use ulid::Ulid;

use crate::Broken;
use crate::history::{MINUTE, SEAL, name};
use crate::ledger::Promise;
use crate::mutant::Mutant;
use crate::work::{Body, Happening};
use crate::world::World;

impl World {
    /// Draws the moments at which is looked: soon after something was published or changed.
    pub fn draw_views(&mut self) {
        // Random numbers of its own, so that a history is the same whether or not it is looked at.
        let mut random = Random::seed_from_u64(self.history.seed ^ 0xfa7e);
        let published = self.history.publications.iter().map(|(at, _)| *at);
        let called = self.history.calls.iter().map(|(at, _)| *at);
        let around = published.chain(called);
        let moments: Vec<u64> = around.filter(|_| random.random_bool(0.3)).collect();
        let moments: Vec<u64> = moments
            .into_iter()
            .map(|at| at + random.random_range(0..2 * MINUTE))
            .collect();
        for at in moments {
            self.at(at, Happening::View);
        }
    }

    /// Looks at the fate of all events, of every integration.
    pub fn view(&mut self) {
        let integrations = self.integrations.iter().flatten();
        let broken = integrations
            .filter_map(|integration| self.compare(integration, false).err())
            .next();
        if let Some(broken) = broken {
            self.ledger.broken.get_or_insert(broken);
        }
    }

    /// Compares what is said of each event with what became of it; of a history `at_rest` it is all known.
    ///
    /// # Errors
    /// The first event of which something wrong is said.
    pub fn compare(&self, integration: &Integration, at_rest: bool) -> Result<(), Broken> {
        let Some(promise) = self.ledger.promises.get(&integration.generation) else {
            return Ok(());
        };
        let texts: Vec<(EventRef, u32, String)> = self
            .log
            .iter()
            .flat_map(|(segment, ids)| {
                (0..).zip(ids).map(|(index, id)| {
                    let segment = *segment;
                    let event = EventRef {
                        segment,
                        index,
                        shard: 0,
                    };
                    (event, *id, id.to_string())
                })
            })
            .collect();
        let events: Vec<Event<'_>> = texts
            .iter()
            .map(|(event, id, text)| Event {
                event: *event,
                id: text,
                name: name(*id),
            })
            .collect();
        let view = self.look_at(integration);
        for ((event, id, _), fate) in texts.iter().zip(view.fates(&events)) {
            let wrong = match at_rest {
                true => wrong_at_rest(&fate, promise, *id, integration, self.history.is_sound()),
                false => wrong(&fate, promise, *id),
            };
            if let Some(wrong) = wrong {
                let (who, at) = (promise.who, Millis(event.segment.timestamp_ms()));
                let text =
                    format!("event {id} of {at} for {who} {wrong}, and is said to be {fate:?}");
                return Err(Broken(text));
            }
        }
        Ok(())
    }

    fn look_at(&self, integration: &Integration) -> View {
        let generation = integration.generation;
        let in_queues = |body: &Body| matches!(body, Body::Events(_) | Body::Run(..));
        let is_settled =
            self.mutant == Some(Mutant::QueuesUnread) || !self.messages.values().any(in_queues);
        let ours = |of: &Ulid| *of == generation;
        let waiting = self.waiting.iter().filter(|((of, _), _)| ours(of));
        let refused = self.refused.iter().filter(|(of, _)| ours(of));
        let past = self.past_filters.iter().filter(|(of, _)| ours(of));
        View {
            integration: integration.clone(),
            past_filters: past.map(|(_, past)| past.clone()).collect(),
            waiting: waiting.map(|(_, waiting)| waiting.clone()).collect(),
            refused: refused.map(|(_, note)| note.clone()).collect(),
            files: Vec::new(),
            settled_at: is_settled.then_some(Millis(self.now)),
            seal: std::time::Duration::from_millis(SEAL),
            now: Millis(self.now),
        }
    }
}

/// What is wrong about a fate that is said to be certain.
fn wrong(fate: &Fate, promise: &Promise, event: u32) -> Option<&'static str> {
    let is_accepted = promise.accepted.contains_key(&event);
    let is_rejected = promise.rejected.contains(&event);
    if !fate.is_certain {
        return None;
    }
    match fate.status {
        EventStatus::Delivered if !is_accepted => Some("was never taken"),
        EventStatus::Rejected if !is_rejected => Some("was not rejected"),
        EventStatus::Skipped if is_accepted || is_rejected => Some("was sent"),
        EventStatus::Sending | EventStatus::Exported => Some("cannot be that"),
        _ => None,
    }
}

/// What is wrong about a fate once nothing is under way any more.
fn wrong_at_rest(
    fate: &Fate,
    promise: &Promise,
    event: u32,
    integration: &Integration,
    is_sound: bool,
) -> Option<&'static str> {
    let is_accepted = promise.accepted.contains_key(&event);
    let is_rejected = promise.rejected.contains(&event);
    let is_open = matches!(
        fate.status,
        EventStatus::Sending | EventStatus::Waiting | EventStatus::Retrying
    );
    // What an integration that was given up was not sent still waits, and one that is limited looks for what is new.
    // A waiting item may be left behind of an event that was taken, where something went wrong on our side: the next sender sends it.
    let may_wait = integration.status == Status::Stopped
        || integration.max_in_flight().is_some()
        || (!is_sound && (is_accepted || is_rejected));
    wrong(fate, promise, event).or(match (is_accepted, is_rejected) {
        _ if is_open && !may_wait => Some("has come to rest"),
        (true, false) if fate.status == EventStatus::Rejected => Some("was taken"),
        (true, false) if fate.status == EventStatus::Skipped && fate.is_certain => {
            Some("was taken")
        }
        (false, true) if fate.status == EventStatus::Delivered => Some("was rejected"),
        _ => None,
    })
}
