//! Carries out what a step wants, on the stores and the queues.

use std::collections::HashMap;
use std::time::Duration;

use domain::integration::{Integration, IntegrationRef};
use domain::lifecycle::Input;
use domain::log::position::{EventRef, Position};
use domain::log::segment::Segment;
use domain::replay::selection::Selection;
use domain::replay::step::{Do, Seen, Step};
use domain::stream::chunk::{Chunk, ChunkEvent, Parked};
use domain::tasks::{DeliveryTask, Dispatch, Message, Origin};
use domain::time::Millis;
use serde_json::value::RawValue;
use shared::store::StoreError;
use shared::store::event_log::Reader;
use shared::telemetry::chain;
use ulid::Ulid;

use crate::{App, ReplayError};

/// Carries out the step of the task of `turn`.
pub async fn step(
    app: &App,
    integration_ref: &IntegrationRef,
    turn: u64,
) -> Result<(), ReplayError> {
    let now = app.clock.now();
    let over = now.after(app.time_limit);
    let mut step = Step::new(turn, app.clock.ulid(), now, over, app.rules);
    let mut at_work = AtWork {
        app,
        integration_ref,
        integration: None,
        reading: None,
        segments: HashMap::new(),
        envelopes: None,
    };
    let mut seen = Seen::Nothing;
    loop {
        let next = step.next(seen, app.clock.now(), app.clock.ulid());
        let done = match next {
            Do::End => return Ok(()),
            next => at_work.carry_out(next).await,
        };
        seen = match done {
            Ok(seen) => seen,
            // Its message cannot begin this turn again, so the step leaves, and another one is due soon.
            Err(error) => {
                let Some(leave) = step.fail() else {
                    return Err(error);
                };
                tracing::error!(
                    tenant = integration_ref.tenant,
                    integration = integration_ref.integration_id,
                    error = chain(&error),
                    "a step failed, and leaves"
                );
                return at_work.carry_out(leave).await.map(drop);
            }
        };
    }
}

/// What a step needs while it is at work.
struct AtWork<'a> {
    app: &'a App,
    integration_ref: &'a IntegrationRef,
    integration: Option<Integration>,
    /// Where the last read ended, to continue there.
    reading: Option<Reading>,
    /// The segments of what was read last, to send from.
    segments: HashMap<Ulid, Segment>,
    /// The envelopes of the segment from which an event was sent last.
    envelopes: Option<(Ulid, String)>,
}

/// A read under way.
struct Reading {
    start: Millis,
    until: Ulid,
    reader: Reader,
    selection: Selection,
    /// The segment that was not used up, and its shard.
    rest: Option<(Segment, u32)>,
}

impl AtWork<'_> {
    async fn carry_out(&mut self, what: Do) -> Result<Seen, ReplayError> {
        let (app, integration_ref) = (self.app, self.integration_ref);
        match what {
            Do::Apply(input, chunk) => return self.apply(&input, chunk.as_ref()).await,
            Do::CountOutstanding => {
                let count = app.chunks.count_outstanding(integration_ref).await?;
                return Ok(Seen::Outstanding(count));
            }
            Do::ListParked { after, limit } => {
                let parked = app
                    .parked_events
                    .list(integration_ref, after.as_ref(), limit);
                return Ok(Seen::Parked(parked.await?));
            }
            Do::Read {
                start,
                from,
                until,
                limit,
                deadline,
            } => return self.read(start, from, until, limit, deadline).await,
            Do::Send(chunk) => self.send(&chunk).await?,
            Do::SendAgain(id) => {
                if let Some(chunk) = app.chunks.get(integration_ref, id).await? {
                    self.send(&chunk).await?;
                }
            }
            Do::Probe { parked, since } => {
                let token = parked.token;
                let origin = Origin::Probe { since, token };
                match self.message(&ChunkEvent::from(parked), origin).await? {
                    Some(message) => app.delivery_queue.send(vec![message]).await?,
                    // The event log has forgotten it: there is nothing to be sent.
                    None => {
                        app.parked_events
                            .delete(integration_ref, &parked.event, token)
                            .await?
                    }
                }
            }
            Do::Park(parked) => {
                app.parked_events
                    .park(integration_ref, &parked, app.clock.now())
                    .await?
            }
            Do::Unpark(page) => {
                for Parked { event, token, .. } in page {
                    app.parked_events
                        .delete(integration_ref, &event, token)
                        .await?;
                }
            }
            Do::End => {}
        }
        Ok(Seen::Done)
    }

    async fn apply(&mut self, input: &Input, chunk: Option<&Chunk>) -> Result<Seen, ReplayError> {
        let applied = self
            .app
            .lifecycle
            .apply(self.integration_ref, input, chunk)
            .await?;
        if let Some(applied) = &applied {
            self.integration = Some(applied.integration.clone());
        }
        Ok(Seen::Applied(applied.map(Box::new)))
    }

    /// Reads on, from where the last read ended if that is where to continue. At the deadline it returns what it has found, having
    /// moved on by a segment at least.
    async fn read(
        &mut self,
        start: Millis,
        from: Position,
        until: Ulid,
        limit: usize,
        deadline: Millis,
    ) -> Result<Seen, ReplayError> {
        let now = self.app.clock.now();
        // Repeats are looked for in what comes before; where that alone takes half of the time, they are not.
        let mut look_back_until = Some(now.after(deadline.since(now) / 2));
        let goes_on = |reading: &Reading| {
            (reading.start, reading.selection.next(), reading.until) == (start, from, until)
        };
        let mut reading = match self.reading.take().filter(goes_on) {
            Some(reading) => reading,
            None => self.begin_reading(start, from, until),
        };
        self.segments.clear();
        let mut events = Vec::new();
        while events.len() < limit {
            let (now, has_moved) = (self.app.clock.now(), reading.selection.next() > from);
            if has_moved && now >= deadline {
                break;
            }
            if !has_moved && look_back_until.take_if(|until| now >= *until).is_some() {
                let at = Millis(from.segment.timestamp_ms());
                reading = Reading {
                    start,
                    ..self.begin_reading(at, from, until)
                };
            }
            let next = match reading.rest.take() {
                Some(rest) => Some(rest),
                None => reading.reader.next().await?,
            };
            let Some((segment, shard)) = next else {
                reading.selection.end(until);
                break;
            };
            let passes = |name: &str| {
                let integration = self.integration.as_ref();
                integration.is_some_and(|integration| integration.passes(name))
            };
            let room = limit - events.len();
            let id = segment.id;
            let taken = reading.selection.take(id, segment.events(), passes, room);
            if !taken.is_used_up {
                reading.rest = Some((segment.clone(), shard));
            }
            if !taken.indices.is_empty() {
                self.segments.insert(id, segment);
            }
            events.extend(taken.indices.into_iter().map(|index| EventRef {
                segment: id,
                index,
                shard,
            }));
        }
        let next = reading.selection.next();
        self.reading = Some(reading);
        Ok(Seen::Read { events, next })
    }

    /// What the event log has forgotten is not read.
    fn begin_reading(&self, start: Millis, from: Position, until: Ulid) -> Reading {
        let log = &self.app.event_log;
        let first = Selection::reads_from(start, from).max(log.oldest());
        Reading {
            start,
            until,
            reader: log.read(&self.integration_ref.tenant, first.first_id(), until),
            selection: Selection::new(from),
            rest: None,
        }
    }

    /// Sends tasks for what is outstanding of a chunk. What the event log has forgotten is settled instead.
    async fn send(&mut self, chunk: &Chunk) -> Result<(), ReplayError> {
        let mut messages = Vec::new();
        for index in &chunk.outstanding {
            let Some(event) = chunk.events.get(*index as usize) else {
                continue;
            };
            let origin = Origin::Chunk {
                chunk: chunk.id,
                index: *index,
            };
            match self.message(event, origin).await? {
                Some(message) => messages.push(message),
                None => {
                    let settled = self
                        .app
                        .chunks
                        .settle(self.integration_ref, chunk.id, *index);
                    settled.await?;
                }
            }
        }
        Ok(self.app.delivery_queue.send(messages).await?)
    }

    /// The message that brings an event to delivery; none when the event log has forgotten it.
    async fn message(
        &mut self,
        event: &ChunkEvent,
        origin: Origin,
    ) -> Result<Option<Message>, ReplayError> {
        let EventRef {
            segment: id, index, ..
        } = event.event;
        if !self.segments.contains_key(&id) {
            let found = self
                .app
                .event_log
                .get(&self.integration_ref.tenant, &event.event);
            match found.await {
                Ok(found) => {
                    self.segments.clear();
                    self.segments.insert(id, found);
                }
                Err(StoreError::NotFound) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        let missing = || std::io::Error::other("a segment has fewer events than references");
        let segment = self.segments.get(&id).ok_or_else(missing)?;
        let (event_id, name) = segment.events().nth(index as usize).ok_or_else(missing)?;
        let dispatch = Dispatch {
            event: event.event,
            event_id: event_id.to_owned(),
            name: name.to_owned(),
            attempt: event.attempt,
            failing_since: event.failing_since,
            origin,
        };
        let envelopes = match self.envelopes.take().filter(|(opened, _)| *opened == id) {
            Some((_, envelopes)) => envelopes,
            None => String::from_utf8(segment.decompress()?).map_err(std::io::Error::other)?,
        };
        let (_, envelopes) = self.envelopes.insert((id, envelopes));
        let line = envelopes.lines().nth(index as usize).ok_or_else(missing)?;
        let task = DeliveryTask {
            tenant: self.integration_ref.tenant.clone(),
            integration_id: self.integration_ref.integration_id.clone(),
            generation: self.integration_ref.generation,
            dispatch,
            body: RawValue::from_string(line.to_owned())?,
        };
        Ok(Some(task.message(Duration::ZERO)?))
    }
}
