//! Checks at the end of a history that every matching event is in exactly one file.

use std::collections::BTreeMap;

use domain::log::REPEAT_WINDOW;
use domain::time::Millis;
use ulid::Ulid;

use super::ledger::{Move, Promise, Reason, events, export};
use super::world::World;
use crate::Broken;

/// Checks a history that has come to its end.
///
/// # Errors
/// The first promise that was broken.
pub fn promises(world: &World) -> Result<(), Broken> {
    if let Some(broken) = &world.ledger.broken {
        return Err(broken.clone());
    }
    for (generation, promise) in &world.ledger.promises {
        let mut position = promise.starts_at.first_id();
        for moved in &promise.moves {
            if moved.from != position {
                return broken(format!("{} does not follow on {position}", moved.from));
            }
            position = moved.until;
            compare(world, moved)?;
        }
        if !promise.is_deleted {
            is_complete(world, *generation, promise, position)?;
        }
    }
    Ok(())
}

/// Whether a file has exactly the lines of the range that it stands for.
fn compare(world: &World, moved: &Move) -> Result<(), Broken> {
    let (filter, found) = match &moved.reason {
        Reason::LeftBehind => return Ok(()),
        Reason::Nothing(filter) => (filter, Vec::new()),
        Reason::File(plan) => {
            let object = &world.ledger.objects[&(plan.bucket.clone(), plan.key.clone())];
            (&plan.filter, events(&object.body))
        }
    };
    let wanted = |oldest| -> Vec<u32> {
        let fresh = fresh(world, moved, oldest).into_iter();
        let passes = |event: &u32| {
            let name = World::name(*event);
            filter.as_ref().is_none_or(|filter| filter.passes(name))
        };
        fresh.filter(passes).collect()
    };
    // What is no longer kept may be read for a while, and be in a file that was planned before.
    let (kept, all) = (wanted(moved.oldest), wanted(Millis(0)));
    if found == kept || found == all {
        return Ok(());
    }
    let Move { from, until, .. } = moved;
    broken(format!(
        "from {from} until {until} there is {found:?} instead of {kept:?}"
    ))
}

/// The events of a range since `oldest` that are no repeats, in the order of the log.
fn fresh(world: &World, moved: &Move, oldest: Millis) -> Vec<u32> {
    let mut seen: BTreeMap<u32, Millis> = BTreeMap::new();
    let mut found = Vec::new();
    let first = moved.floor.max(oldest).first_id().min(moved.until);
    for (id, (_, events)) in world.log.range(first..moved.until) {
        let at = Millis(id.timestamp_ms());
        for event in events {
            let before = seen.insert(*event, at);
            let is_repeat = before.is_some_and(|before| at.since(before) <= REPEAT_WINDOW);
            if *id >= moved.from && !is_repeat {
                found.push(*event);
            }
        }
    }
    found
}

/// Whether everything that was published before the end is behind the position.
fn is_complete(
    world: &World,
    generation: Ulid,
    promise: &Promise,
    position: Ulid,
) -> Result<(), Broken> {
    let stored = world
        .integration
        .as_ref()
        .filter(|it| it.generation == generation);
    let Some(export) = stored.and_then(export) else {
        return broken("an integration is gone that was not deleted".to_owned());
    };
    if export.position != position {
        return broken("the position moved without a write".to_owned());
    }
    let end = Millis(world.history.end).first_id();
    let end = promise
        .ends_at
        .map_or(end, |ends_at| end.min(ends_at.first_id()));
    let last = world.log.range(..end).next_back().map(|(id, _)| *id);
    let first = promise.floor.max(world.rules.oldest(Millis(world.now)));
    match last.is_some_and(|last| last >= position && last >= first.first_id()) {
        true => broken(format!(
            "files end at {position}, and the log at {last:?}: {export:?}"
        )),
        false => Ok(()),
    }
}

fn broken<T>(text: String) -> Result<T, Broken> {
    Err(Broken(text))
}
