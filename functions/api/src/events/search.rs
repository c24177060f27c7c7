//! Reads the event log from its end, within bounds, for the events that a caller asks for.

use domain::event::payload_of;
use domain::fate::Event;
use domain::log::position::{EventRef, Position};
use domain::log::segment::Segment;
use serde::Deserialize;
use serde_json::value::RawValue;
use ulid::Ulid;

use super::asked::Asked;
use crate::App;
use crate::error::ApiError;

/// How much of the event log a page reads, in bytes as it is stored: 250 read units.
const MOST_BYTES: usize = 1_000_000;
/// How often it reads: at the least once for each day.
const MOST_PIECES: usize = 200;
/// How many segments it reads at first, and at the most: it does not know how large they are.
const FIRST_SEGMENTS: usize = 8;
const MOST_SEGMENTS: usize = 64;
/// How many events it looks at for those of one status.
const MOST_LOOKED_AT: usize = 1_000;

/// An event that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it is.
    pub event: EventRef,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its envelope, where it was looked into.
    pub envelope: Option<String>,
}

/// What was found.
#[derive(Debug)]
pub struct Page {
    /// The events, newest first.
    pub found: Vec<Found>,
    /// Where the event log was read from.
    pub from: Ulid,
    /// Where to continue; none where all was read that was asked for.
    pub rest: Option<Position>,
}

/// Looks for what was asked for, among the events that `is_listed`.
///
/// # Errors
/// When the event log cannot be read.
pub async fn search(
    app: &App,
    tenant: &str,
    asked: &Asked,
    is_listed: impl Fn(&Event<'_>) -> bool,
) -> Result<Page, ApiError> {
    let enough = match asked.status {
        Some(_) => MOST_LOOKED_AT,
        None => asked.limit,
    };
    let (mut found, mut reached) = (Vec::new(), asked.before);
    let (mut bytes, mut segments, mut most) = (0, 0, FIRST_SEGMENTS);
    for _ in 0..MOST_PIECES {
        // The segment in whose middle the page before ended is read again.
        let until = Ulid(reached.segment.0 + u128::from(reached.index > 0));
        let is_enough = found.len() >= enough || bytes >= MOST_BYTES;
        if asked.from >= until || is_enough {
            break;
        }
        let most_now = i32::try_from(most).unwrap_or(i32::MAX);
        let piece = app.event_log.latest(tenant, asked.from, until, most_now);
        let piece = piece.await?;
        for (segment, shard) in &piece.segments {
            let listed = listed(segment, *shard, reached, asked, &is_listed)?;
            found.extend(listed);
        }
        reached = Position::at(piece.from);
        bytes += piece.bytes;
        segments += piece.segments.len();
        let mean = bytes / segments.max(1) + 1;
        most = (MOST_BYTES.saturating_sub(bytes) / mean).clamp(1, MOST_SEGMENTS);
    }
    Ok(Page {
        found,
        from: reached.segment.max(asked.from),
        rest: (reached.segment > asked.from).then_some(reached),
    })
}

/// The events of a segment before a position that were asked for, newest first.
fn listed(
    segment: &Segment,
    shard: u32,
    before: Position,
    asked: &Asked,
    is_listed: impl Fn(&Event<'_>) -> bool,
) -> Result<Vec<Found>, ApiError> {
    let is_named = |id: &str, name: &str| {
        asked.name.as_ref().is_none_or(|it| it == name)
            && asked.id.as_ref().is_none_or(|it| it == id)
    };
    let events = (0..)
        .zip(segment.events())
        .filter_map(|(index, (id, name))| {
            let segment = segment.id;
            let event = EventRef {
                segment,
                index,
                shard,
            };
            let is_before = Position { segment, index } < before;
            let is_wanted = is_before && is_named(id, name);
            (is_wanted && is_listed(&Event { event, id, name })).then(|| Found {
                event,
                id: id.to_owned(),
                name: name.to_owned(),
                envelope: None,
            })
        });
    let mut found: Vec<Found> = events.collect();
    found.reverse();
    if found.is_empty() || (asked.id.is_none() && asked.payload_id.is_none()) {
        return Ok(found);
    }
    let lines = segment.decompress().map_err(ApiError::internal)?;
    let lines = String::from_utf8(lines).map_err(ApiError::internal)?;
    let lines: Vec<&str> = lines.lines().collect();
    for event in &mut found {
        let line = lines.get(event.event.index as usize).copied();
        event.envelope = line.map(str::to_owned);
    }
    if let Some(wanted) = &asked.payload_id {
        found.retain(|event| {
            let envelope = event.envelope.as_deref().unwrap_or_default();
            has_payload_id(envelope, wanted)
        });
    }
    Ok(found)
}

/// Whether the payload of an envelope has this `id`, as a text or as a number.
fn has_payload_id(envelope: &str, wanted: &str) -> bool {
    #[derive(Deserialize)]
    struct Payload {
        id: Box<RawValue>,
    }
    // Most payloads do not have it anywhere.
    if !envelope.contains(wanted) && !envelope.contains('\\') {
        return false;
    }
    let payload = payload_of(envelope).ok();
    let payload = payload.and_then(|it| serde_json::from_str::<Payload>(it.get()).ok());
    payload.is_some_and(|payload| {
        let id = payload.id.get();
        id == wanted || serde_json::from_str::<String>(id).is_ok_and(|id| id == wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_found_by_its_id() {
        let envelope = |payload: &str| {
            format!(r#"{{"tenant":"acme","name":"a.b","published_at":"x","payload":{payload}}}"#)
        };
        for (payload, wanted, expected) in [
            (r#"{"id":"R1"}"#, "R1", true),
            (r#"{"id":"R1"}"#, "R", false),
            (r#"{"id":17}"#, "17", true),
            (r#"{"id":"R\u0031"}"#, "R1", true),
            (r#"{"other":"R1"}"#, "R1", false),
            (r#"{"order":{"id":"R1"}}"#, "R1", false),
        ] {
            let envelope = envelope(payload);
            assert_eq!(has_payload_id(&envelope, wanted), expected, "{payload}");
        }
    }
}
