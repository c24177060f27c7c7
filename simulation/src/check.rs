//! Checks at the end of a history that every promise was kept.

use std::collections::BTreeMap;

use domain::integration::Integration;
use domain::time::Millis;

use crate::Broken;
use crate::history::URLS;
use crate::ledger::Promise;
use crate::work::Body;
use crate::world::World;

/// Checks a history that has come to its end.
///
/// # Errors
/// The first promise that was broken.
pub fn promises(world: &World) -> Result<(), Broken> {
    if let Some(broken) = &world.ledger.broken {
        return Err(broken.clone());
    }
    let end = |text: String| Err(Broken(text));
    let is_work = |body: &&Body| match body {
        // One that is limited is always served: a sender looks for what is new from time to time.
        Body::Step((who, _), _) => !is_limited(world, *who),
        Body::Events(_) | Body::Run(..) => true,
    };
    if let Some(body) = world.messages.values().find(is_work) {
        return end(format!("work has not ended: {body:?}"));
    }
    // A repeat of an event is the same event: it is the filters since its first append that decide.
    let mut first = BTreeMap::new();
    for (segment, events) in &world.log {
        for event in events {
            first
                .entry(*event)
                .or_insert(Millis(segment.timestamp_ms()));
        }
    }
    if world.history.is_busy && world.history.is_sound() {
        world.ledger.lateness()?;
    }
    for (generation, promise) in &world.ledger.promises {
        let Promise { who, .. } = promise;
        if !promise.is_deleted {
            let wanted = world.ledger.ingested.iter().filter(|(event, segment)| {
                let published_at = Millis(segment.timestamp_ms());
                let first = first.get(event).copied().unwrap_or(published_at);
                promise.wants(*event, first)
                    && published_at >= promise.floor
                    && promise.ends_at.is_none_or(|end| published_at < end)
            });
            for (event, segment) in wanted {
                let mut receivers = world.history.receivers[who * URLS..][..URLS].iter();
                let is_poison = receivers.any(|it| it.is_never_taken(*event));
                if promise.is_given_up && is_poison {
                    continue;
                }
                if !promise.is_done(*event) {
                    let at = Millis(segment.timestamp_ms());
                    return end(format!("event {event} of {at} was never sent to {who}"));
                }
            }
            rest(world, *who, promise)?;
            if let Some(integration) = &world.integrations[*who]
                && integration.generation == *generation
            {
                world.compare(integration, true)?;
            }
        }
        if world.history.is_calm() {
            for (event, times) in &promise.accepted {
                if *times > 1 {
                    return end(format!("event {event} was sent {times} times to {who}"));
                }
            }
        }
        let ours = world.waiting.iter().filter(|((of, _), _)| of == generation);
        let left = ours.flat_map(|(_, waiting)| waiting.events());
        let left = left
            .filter(|event| !promise.is_done(world.id_of(event)))
            .count();
        if left > 0 && !promise.is_given_up {
            return end(format!("{left} waiting events are left for {who}"));
        }
    }
    Ok(())
}

/// Whether an integration has a limit of requests at a time.
fn is_limited(world: &World, who: usize) -> bool {
    let integration = world.integrations[who].as_ref();
    integration.is_some_and(|it| it.max_in_flight().is_some())
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
        None if is_limited(world, who) => promise.was_running && !stream.is_interrupted(),
        None => promise.was_running && stream.owed.is_empty() && !stream.is_interrupted(),
    };
    let is_awake = stream.schedule.wake_at.is_some() && !is_limited(world, who);
    if is_awake || !is_over {
        return Err(Broken(format!("{who} has not come to rest: {stream:?}")));
    }
    Ok(())
}
