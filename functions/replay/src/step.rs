//! One step of a stream's replay.

use std::time::Duration;

use serde_json::value::RawValue;
use shared::clock::Millis;
use shared::export::REPEAT_WINDOW;
use shared::integration::{Integration, IntegrationType};
use shared::queue::Message;
use shared::repeats::Repeats;
use shared::segment::Segment;
use shared::store::event_log::SEALS_BEHIND;
use shared::store::integrations::Decision;
use shared::store::{Owner, StoreError};
use shared::stream::{Readable, Stream};
use shared::tasks::{self, DeliveryTask, EventRef, Lane, ReplayTask};
use ulid::Ulid;

use crate::{App, ReplayError};

/// How many events are sent before the place is moved: what a crash sends twice at the most, a segment aside.
const CHUNK: usize = 100;
/// How many parked events are read at a time.
const PARKED_PAGE: i32 = 100;
/// How often a temporary integration whose range is not over yet is looked at.
const FOLLOW_EVERY: Duration = Duration::from_secs(60);
/// The longest delay of an SQS message; what is due later is left to the sweep.
const LONGEST_DELAY: Duration = Duration::from_secs(900);

/// Goes on with a stream: opens it if it is paused, sends what is parked, sends what is owed and sealed, and sees to it that
/// replay comes back for the rest.
///
/// A step of an older turn, or of another generation, does nothing.
pub async fn step(app: &App, owner: &Owner, turn: u64) -> Result<(), ReplayError> {
    let busy_until = app.clock.now().after(app.time_limit);
    let begun = change(app, owner, turn, |stream, running| {
        // The sweep keeps off while this step is at work.
        stream.wake_at = Some(busy_until);
        running
    });
    let Some(mut integration) = begun.await? else {
        return Ok(());
    };
    let mut all_unparked = true;
    if integration.is_running() {
        if integration.integration_type == IntegrationType::Permanent {
            let Some(open) = open(app, owner, turn).await? else {
                return Ok(());
            };
            integration = open;
        }
        // Half of the time limit: the rest is for the chunk that is under way.
        let deadline = app.clock.now().after(app.time_limit / 2);
        all_unparked = send_parked(app, owner, &integration, deadline).await?;
        if !send_owed(app, owner, turn, &mut integration, deadline).await? {
            return Ok(());
        }
    }
    leave(app, owner, turn, all_unparked).await
}

fn is_turn(integration: &Integration, owner: &Owner, turn: u64) -> bool {
    integration.generation == owner.generation
        && integration
            .stream()
            .is_some_and(|stream| stream.turn == turn)
}

/// Changes the stream if it is still this turn's; `None` when it is not.
async fn change(
    app: &App,
    owner: &Owner,
    turn: u64,
    mut decide: impl FnMut(&mut Stream, bool) -> bool,
) -> Result<Option<Integration>, ReplayError> {
    let mut ours = false;
    let changed = app
        .integrations
        .change(&owner.tenant, &owner.integration_id, |integration| {
            ours = is_turn(integration, owner, turn);
            let running = integration.is_running();
            let write = ours
                && integration
                    .stream_mut()
                    .is_some_and(|stream| decide(stream, running));
            Ok::<_, StoreError>(if write {
                Decision::Write
            } else {
                Decision::Keep
            })
        })
        .await;
    match changed {
        Ok((integration, _)) => Ok(ours.then_some(integration)),
        Err(StoreError::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Ends the gap of a permanent stream that is paused. The end counts only when the write was confirmed within half a seal:
/// otherwise an ingest may have missed it, and the end is moved.
async fn open(app: &App, owner: &Owner, turn: u64) -> Result<Option<Integration>, ReplayError> {
    loop {
        let (mut begun, mut ended) = (app.clock.now(), false);
        let integration = change(app, owner, turn, |stream, running| {
            begun = app.clock.now();
            ended = running && (stream.is_paused() || stream.unconfirmed);
            match stream.is_paused() {
                _ if !ended => {}
                true => stream.resume(begun, app.seal),
                false => stream.resume_later(begun, app.seal),
            }
            ended
        })
        .await?;
        if !ended || app.clock.now() < begun.after(app.seal / 2) {
            return Ok(integration);
        }
    }
}

/// Sends parked events, each through the filter as it is now, and deletes what was sent. `false` when time ran out before
/// all were sent.
async fn send_parked(
    app: &App,
    owner: &Owner,
    integration: &Integration,
    deadline: Millis,
) -> Result<bool, ReplayError> {
    while app.clock.now() < deadline {
        let page = app.parked_events.list(owner, PARKED_PAGE).await?;
        if page.is_empty() {
            return Ok(true);
        }
        let mut messages = Vec::new();
        let mut read: Option<Segment> = None;
        for parked in &page {
            // From before a restart after more than 30 days: not to be sent any more.
            if integration
                .stream()
                .is_some_and(|stream| parked.event.segment < stream.floor.place())
            {
                continue;
            }
            if read
                .as_ref()
                .is_none_or(|segment| segment.place != parked.event.segment)
            {
                read = match app.event_log.get(&owner.tenant, &parked.event).await {
                    Ok(segment) => Some(segment),
                    // Older than the retention: there is nothing left to send.
                    Err(StoreError::NotFound) => None,
                    Err(error) => return Err(error.into()),
                };
            }
            if let Some(segment) = &read {
                let wanted = |index: u32| index == parked.event.index;
                messages.extend(tasks_of(
                    owner,
                    integration,
                    segment,
                    parked.event.shard,
                    wanted,
                )?);
            }
        }
        app.delivery_queue.send(messages).await?;
        for parked in &page {
            app.parked_events.delete(owner, parked).await?;
        }
    }
    Ok(false)
}

/// Sends what is owed and sealed, and moves the place behind it. `false` when the stream is not this turn's any more.
async fn send_owed(
    app: &App,
    owner: &Owner,
    turn: u64,
    integration: &mut Integration,
    deadline: Millis,
) -> Result<bool, ReplayError> {
    while app.clock.now() < deadline && integration.is_running() {
        let Some(range) = integration
            .stream()
            .and_then(|stream| stream.readable(app.event_log.horizon()))
        else {
            return Ok(true);
        };
        let mut reader = app
            .event_log
            .read(&owner.tenant, repeats_from(&range), range.until);
        let (mut repeats, mut messages) = (Repeats::default(), Vec::new());
        loop {
            let next = reader.next().await?;
            if let Some((segment, shard)) = &next {
                let published_at = segment.published_at();
                let repeated: Vec<bool> = segment
                    .events()
                    .map(|(id, _)| repeats.note(id, published_at))
                    .collect();
                if segment.place < range.from {
                    continue;
                }
                messages.extend(tasks_of(owner, integration, segment, *shard, |index| {
                    !repeated[index as usize]
                })?);
            }
            let place = next
                .as_ref()
                .map_or(range.until, |(segment, _)| Ulid(segment.place.0 + 1));
            let out_of_time = app.clock.now() >= deadline;
            if messages.len() >= CHUNK || next.is_none() || out_of_time {
                app.delivery_queue
                    .send(std::mem::take(&mut messages))
                    .await?;
                let moved = change(app, owner, turn, |stream, _| {
                    stream.advance(place);
                    true
                });
                let Some(moved) = moved.await? else {
                    return Ok(false);
                };
                *integration = moved;
                if out_of_time || !integration.is_running() {
                    return Ok(true);
                }
            }
            if next.is_none() {
                break;
            }
        }
    }
    Ok(true)
}

/// Repeats are looked for in the 20 minutes before a place, but not before the range: what stands there is not sent by this
/// replay, so that nothing may be dropped because of it.
fn repeats_from(range: &Readable) -> Ulid {
    Millis(range.from.timestamp_ms())
        .before(REPEAT_WINDOW)
        .max(range.start)
        .place()
}

/// The tasks for those events of a segment that are wanted and pass the filter.
fn tasks_of(
    owner: &Owner,
    integration: &Integration,
    segment: &Segment,
    shard: u32,
    wanted: impl Fn(u32) -> bool,
) -> Result<Vec<Message>, ReplayError> {
    let chosen: Vec<(u32, &str, &str)> = (0..)
        .zip(segment.events())
        .filter(|(index, (_, name))| wanted(*index) && integration.passes(name))
        .map(|(index, (id, name))| (index, id, name))
        .collect();
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let envelopes = String::from_utf8(segment.decompress()?).map_err(std::io::Error::other)?;
    let lines: Vec<&str> = envelopes.lines().collect();
    let message = |(index, id, name): (u32, &str, &str)| {
        let line = lines
            .get(index as usize)
            .ok_or_else(|| std::io::Error::other("a segment has fewer lines than ids"))?;
        let task = DeliveryTask {
            tenant: owner.tenant.clone(),
            integration_id: owner.integration_id.clone(),
            generation: owner.generation,
            event: EventRef {
                segment: segment.place,
                shard,
                index,
            },
            event_id: id.to_owned(),
            name: name.to_owned(),
            attempt: 1,
            lane: Lane::Backfill,
            body: RawValue::from_string((*line).to_owned())?,
        };
        Ok(task.message(0)?)
    };
    chosen.into_iter().map(message).collect()
}

/// Ends the step: decides when replay has to come back, writes it down, and then sends the task as a short cut.
async fn leave(app: &App, owner: &Owner, turn: u64, all_unparked: bool) -> Result<(), ReplayError> {
    let now = app.clock.now();
    let integration = change(app, owner, turn, |stream, running| {
        if running {
            stream.confirm();
        }
        stream.forget_old_gaps(now, app.seal);
        match next_look(stream, running, now, app.seal * SEALS_BEHIND) {
            _ if running && !all_unparked => stream.wake(now),
            Some(at) => stream.wake(at),
            None => stream.sleep(),
        }
        true
    });
    let Some(integration) = integration.await? else {
        return Ok(());
    };
    let Some(stream) = integration.stream() else {
        return Ok(());
    };
    let Some(delay) = stream
        .wake_at
        .map(|wake_at| wake_at.since(now))
        .filter(|delay| *delay <= LONGEST_DELAY)
    else {
        return Ok(());
    };
    let Owner {
        tenant,
        integration_id,
        generation,
    } = owner.clone();
    let task = ReplayTask::Step {
        tenant,
        integration_id,
        generation,
        turn: stream.turn,
    };
    let delay_seconds = delay.as_secs_f64().ceil() as u32;
    Ok(app
        .replay_queue
        .send(vec![tasks::message(&task, delay_seconds)?])
        .await?)
}

/// When replay has to look at a stream again: at once while there is something to read, when the rest of what is owed is
/// sealed, every minute while a temporary range goes on, or never. Readers stay `behind` the clock.
fn next_look(stream: &Stream, running: bool, now: Millis, behind: Duration) -> Option<Millis> {
    if !running {
        return None;
    }
    if stream.readable(now.before(behind)).is_some() {
        return Some(now);
    }
    let owed = stream.owed.first()?;
    let sealed = owed.until.map_or(now.after(FOLLOW_EVERY), |until| {
        Millis(until.after(behind).0 + 1)
    });
    Some(sealed.min(now.after(FOLLOW_EVERY)).max(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replay_comes_back_when_what_is_owed_is_sealed() {
        let seal = Duration::from_secs(3);
        let now = Millis(1_000_000);
        let mut stream = Stream::registered(now, now, None);
        stream.resume(now, seal);
        assert_eq!(next_look(&stream, true, now, seal), Some(Millis(1_006_001)));
        assert_eq!(
            next_look(&stream, true, Millis(1_006_001), seal),
            Some(Millis(1_006_001))
        );
        assert_eq!(next_look(&stream, false, now, seal), None);
        stream.advance(Millis(1_003_000).place());
        assert_eq!(next_look(&stream, true, now, seal), None);
    }

    #[test]
    fn a_temporary_range_that_goes_on_is_looked_at_every_minute() {
        let seal = Duration::from_secs(3);
        let now = Millis(1_000_000);
        let mut stream = Stream::registered(now, now, Some(Millis(9_000_000)));
        assert_eq!(next_look(&stream, true, now, seal), Some(Millis(1_060_000)));
        stream.advance(Millis(8_970_000).place());
        assert_eq!(
            next_look(&stream, true, Millis(8_973_000), seal),
            Some(Millis(9_003_001))
        );
    }
}
