//! What a caller asks for of the events of an integration.

use std::str::FromStr;

use domain::fate::EventStatus;
use domain::log::position::Position;
use domain::time::Millis;
use strum::VariantArray;
use ulid::Ulid;

use crate::App;
use crate::error::ApiError;
use crate::request::Request;

/// How many events a page has, unless the caller says so.
const LIMIT: usize = 50;
/// The most that a page has (docs/api.md).
const MAX_LIMIT: usize = 100;
/// The longest `name`, `payload_id` and id that is looked for: longer ones cannot have been published, or are not looked for.
const MAX_TEXT_CHARS: usize = 200;

/// A part of the event log, and which events of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The first segment that is looked at.
    pub from: Ulid,
    /// The position that is not looked at any more.
    pub before: Position,
    /// Of this id alone.
    pub id: Option<String>,
    /// Of this name alone.
    pub name: Option<String>,
    /// Of this `id` in the payload alone.
    pub payload_id: Option<String>,
    /// What has become of it.
    pub status: Option<EventStatus>,
    /// How many at the most.
    pub limit: usize,
}

impl Asked {
    /// A page of the list.
    ///
    /// # Errors
    /// 400 where a parameter is none that can be.
    pub fn of(app: &App, request: &Request) -> Result<Asked, ApiError> {
        let now = app.clock.now();
        let time = |name: &'static str| {
            let text = request.parameter(name);
            let time = text.as_deref().map(Millis::parse).transpose();
            time.map_err(|reason| ApiError::bad_field(name, reason))
        };
        let (from, to) = (time("from")?, time("to")?);
        if let (Some(from), Some(to)) = (from, to)
            && to <= from
        {
            return Err(ApiError::bad_field(
                "to",
                format!("must be after from ({from})"),
            ));
        }
        let from = from.unwrap_or_default().max(app.event_log.oldest());
        // What is published within the second is shown, whatever clock it was published by.
        let to = to.unwrap_or(Millis(u64::MAX)).min(Millis(now.0 + 1_000));
        let before = match request.parameter("cursor") {
            Some(cursor) => read_cursor(&cursor)?.min(Position::at(to.first_id())),
            None => Position::at(to.first_id()),
        };
        Ok(Asked {
            from: from.first_id(),
            before,
            id: None,
            name: text(request, "name")?,
            payload_id: text(request, "payload_id")?,
            status: status(request)?,
            limit: limit(request)?,
        })
    }

    /// One event: where `published_at` says, or among the last ones.
    ///
    /// # Errors
    /// 400 where `published_at` is no time.
    pub fn for_one(app: &App, event_id: &str, request: &Request) -> Result<Asked, ApiError> {
        let text = request.parameter("published_at");
        let at = text.as_deref().map(Millis::parse).transpose();
        let at = at.map_err(|reason| ApiError::bad_field("published_at", reason))?;
        let (from, to) = match at {
            Some(at) => (at.max(app.event_log.oldest()), Millis(at.0 + 1)),
            None => (app.event_log.oldest(), Millis(app.clock.now().0 + 1_000)),
        };
        Ok(Asked {
            from: from.first_id(),
            before: Position::at(to.first_id()),
            id: Some(event_id.to_owned()),
            name: None,
            payload_id: None,
            status: None,
            limit: 1,
        })
    }
}

/// A position as a cursor.
pub fn cursor(position: Position) -> String {
    match position.index {
        0 => position.segment.to_string(),
        index => format!("{}-{index}", position.segment),
    }
}

fn read_cursor(text: &str) -> Result<Position, ApiError> {
    let position = || {
        let (segment, index) = match text.split_once('-') {
            Some((segment, index)) => (segment, index.parse().ok()?),
            None => (text, 0),
        };
        let segment = Ulid::from_string(segment).ok()?;
        Some(Position { segment, index })
    };
    position()
        .filter(|position| cursor(*position) == text)
        .ok_or_else(|| ApiError::bad_field("cursor", "must be the cursor of an earlier response"))
}

fn text(request: &Request, name: &str) -> Result<Option<String>, ApiError> {
    let text = request.parameter(name);
    let is_good = |text: &String| (1..=MAX_TEXT_CHARS).contains(&text.chars().count());
    match text.as_ref().is_none_or(is_good) {
        true => Ok(text),
        false => Err(ApiError::bad_field(
            name,
            format!("must have 1 to {MAX_TEXT_CHARS} characters"),
        )),
    }
}

fn status(request: &Request) -> Result<Option<EventStatus>, ApiError> {
    let Some(text) = request.parameter("status") else {
        return Ok(None);
    };
    let names: Vec<&str> = EventStatus::VARIANTS.iter().map(AsRef::as_ref).collect();
    let status = EventStatus::from_str(&text);
    let status = status
        .map_err(|_| ApiError::bad_field("status", format!("must be one of {}", names.join(", "))));
    Ok(Some(status?))
}

fn limit(request: &Request) -> Result<usize, ApiError> {
    let Some(text) = request.parameter("limit") else {
        return Ok(LIMIT);
    };
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = text.parse().ok().filter(|_| is_number);
    limit
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| {
            ApiError::bad_field("limit", format!("must be a number from 1 to {MAX_LIMIT}"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let segment = Ulid::from_parts(1_700_000_000_001, 5);
        for index in [0, 7, 10_000] {
            let position = Position { segment, index };
            assert_eq!(read_cursor(&cursor(position)).unwrap(), position);
        }
        for text in [
            "",
            "-",
            "x",
            "01HF7YAT01000000000000000",
            "01HF7YAT010000000000000005-x",
            "01hf7yat010000000000000005",
        ] {
            assert!(read_cursor(text).is_err(), "{text}");
        }
    }
}
