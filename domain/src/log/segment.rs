//! Segments of the event log: the events of one tenant in one ingest batch, compressed.

use std::fmt;
use std::io::{self, Cursor};

use serde_json::value::RawValue;
use ulid::Ulid;

use crate::event::envelope;
use crate::time::Millis;

/// The largest segment, compressed events and names and ids together. DynamoDB's items end at 400 KB (409,600 bytes); the
/// rest is for keys and attribute names.
pub const MAX_SEGMENT_BYTES: usize = 400_000;

/// The most that one segment holds uncompressed, so that a reader's memory is bounded.
pub const MAX_ENVELOPES_BYTES: usize = 2 * 1024 * 1024;

/// zstd's level: 3 is its default, fast and within a tenth of what slower ones reach on such events.
const LEVEL: i32 = 3;

/// Events of one tenant that were accepted in the same millisecond, in the form in which they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its ULID, by which the event log is ordered; the millisecond is `published_at` of its events.
    pub id: Ulid,
    /// The ids of its events, a line each.
    pub ids: String,
    /// The names of its events, a line each.
    pub names: String,
    /// The envelopes of its events, a line each, compressed with zstd.
    pub envelopes: Vec<u8>,
}

/// An event on its way into the event log.
#[derive(Clone, Debug)]
pub struct NewEvent<'a> {
    /// The event's id.
    pub id: &'a str,
    /// The event's name.
    pub name: &'a str,
    /// The event's payload.
    pub payload: &'a RawValue,
}

/// A segment with the lines that were compressed into it.
pub struct Built<'a> {
    /// What is stored.
    pub segment: Segment,
    /// The events, with their envelopes.
    pub events: Vec<(NewEvent<'a>, Box<RawValue>)>,
}

impl Segment {
    /// When its events were accepted.
    pub fn published_at(&self) -> Millis {
        Millis(self.id.timestamp_ms())
    }

    /// Id and name of each event.
    pub fn events(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ids.lines().zip(self.names.lines())
    }

    /// What DynamoDB counts of it, keys and attribute names aside.
    pub fn stored_bytes(&self) -> usize {
        self.ids.len() + self.names.len() + self.envelopes.len()
    }

    /// The envelopes, each with a newline behind it.
    ///
    /// # Errors
    /// When the bytes are not what was stored.
    pub fn decompress(&self) -> io::Result<Vec<u8>> {
        zstd::bulk::decompress(&self.envelopes, MAX_ENVELOPES_BYTES)
    }
}

/// Decompresses segments, one after another, into the buffer in which their lines are wanted.
pub struct Unpacker(zstd::bulk::Decompressor<'static>);

impl Unpacker {
    /// A new one; it keeps zstd's state of about 130 KiB from segment to segment.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new() -> io::Result<Unpacker> {
        Ok(Unpacker(zstd::bulk::Decompressor::new()?))
    }

    /// Appends the envelopes of a segment to `lines`, each with a newline behind it. They are written where they stay: no copy
    /// is made in between.
    ///
    /// # Errors
    /// When the bytes are not what was stored; `lines` is as it was then.
    pub fn append(&mut self, segment: &Segment, lines: &mut Vec<u8>) -> io::Result<()> {
        let start = lines.len();
        lines.reserve(MAX_ENVELOPES_BYTES);
        let mut tail = Cursor::new(&mut *lines);
        tail.set_position(start as u64);
        let appended = self.0.decompress_to_buffer(&segment.envelopes, &mut tail);
        if appended.is_err() {
            lines.truncate(start);
        }
        appended.map(drop)
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Unpacker")
    }
}

/// Makes segments of one tenant's events, each within [`MAX_SEGMENT_BYTES`] and [`MAX_ENVELOPES_BYTES`].
///
/// `next_id` gives every segment its own ULID. An id that occurs twice among the events is taken once.
///
/// # Errors
/// When zstd cannot compress, which only a lack of memory explains; writing JSON may fail by its signature alone.
pub fn build<'a>(
    tenant: &str,
    events: Vec<NewEvent<'a>>,
    mut next_id: impl FnMut() -> Ulid,
) -> io::Result<Vec<Built<'a>>> {
    let mut seen = std::collections::HashSet::new();
    let events: Vec<NewEvent<'a>> = events
        .into_iter()
        .filter(|event| seen.insert(event.id))
        .collect();
    let mut built = Vec::new();
    // A stack of runs still to be made into segments, the next on top: a run that is too large is halved.
    let mut runs = vec![events];
    while let Some(mut run) = runs.pop() {
        if run.is_empty() {
            continue;
        }
        let estimate: usize = run
            .iter()
            .map(|event| event.payload.get().len() + 300)
            .sum();
        if estimate > MAX_ENVELOPES_BYTES && run.len() > 1 {
            let rest = run.split_off(run.len() / 2);
            runs.extend([rest, run]);
            continue;
        }
        let id = next_id();
        let (segment, envelopes) = compress(tenant, &run, id)?;
        if segment.stored_bytes() > MAX_SEGMENT_BYTES && run.len() > 1 {
            let rest = run.split_off(run.len() / 2);
            runs.extend([rest, run]);
            continue;
        }
        built.push(Built {
            segment,
            events: run.into_iter().zip(envelopes).collect(),
        });
    }
    Ok(built)
}

fn compress(
    tenant: &str,
    events: &[NewEvent<'_>],
    id: Ulid,
) -> io::Result<(Segment, Vec<Box<RawValue>>)> {
    let published_at = Millis(id.timestamp_ms());
    let (mut lines, mut ids, mut names) = (Vec::new(), String::new(), String::new());
    let mut envelopes = Vec::with_capacity(events.len());
    for event in events {
        let line = envelope(tenant, event.name, published_at, event.payload)?;
        lines.extend_from_slice(line.get().as_bytes());
        lines.push(b'\n');
        envelopes.push(line);
        for (list, value) in [(&mut ids, event.id), (&mut names, event.name)] {
            list.push_str(value);
            list.push('\n');
        }
    }
    let compressed = zstd::bulk::compress(&lines, LEVEL)?;
    Ok((
        Segment {
            id,
            ids,
            names,
            envelopes: compressed,
        },
        envelopes,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(count: usize, bytes: usize) -> Vec<(String, Box<RawValue>)> {
        // Pseudo-random letters: what zstd cannot shrink much.
        let mut state = 1_u64;
        (0..count)
            .map(|index| {
                let text: String = (0..bytes)
                    .map(|_| {
                        state = state
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        char::from(b'0' + ((state >> 33) % 64) as u8)
                            .to_string()
                            .replace(['\\', '"'], "z")
                    })
                    .collect();
                (
                    format!("id-{index}"),
                    RawValue::from_string(format!("{{\"t\":\"{text}\"}}")).unwrap(),
                )
            })
            .collect()
    }

    fn build_all(payloads: &[(String, Box<RawValue>)]) -> Vec<Built<'_>> {
        let events = payloads
            .iter()
            .map(|(id, payload)| NewEvent {
                id,
                name: "order.created",
                payload,
            })
            .collect();
        let mut next = 0;
        build("acme", events, || {
            next += 1;
            Ulid::from_parts(1_000, next)
        })
        .unwrap()
    }

    #[test]
    fn a_segment_gives_back_what_was_put_in() {
        let payloads = payloads(3, 10);
        let built = build_all(&payloads);
        assert_eq!(built.len(), 1);
        let segment = &built[0].segment;
        assert_eq!(
            segment.events().collect::<Vec<_>>(),
            [
                ("id-0", "order.created"),
                ("id-1", "order.created"),
                ("id-2", "order.created")
            ]
        );
        let lines: String = built[0]
            .events
            .iter()
            .map(|(_, envelope)| format!("{envelope}\n"))
            .collect();
        assert_eq!(
            String::from_utf8(segment.decompress().unwrap()).unwrap(),
            lines
        );
        assert_eq!(segment.published_at(), Millis(1_000));
    }

    #[test]
    fn segments_are_unpacked_one_behind_another() {
        let payloads = payloads(40, 100_000);
        let built = build_all(&payloads);
        let (mut unpacker, mut lines, mut expected) = (
            Unpacker::new().unwrap(),
            b"before\n".to_vec(),
            b"before\n".to_vec(),
        );
        for built in &built {
            unpacker.append(&built.segment, &mut lines).unwrap();
            expected.extend(built.segment.decompress().unwrap());
        }
        assert!(lines == expected);
        let mut broken = built[0].segment.clone();
        broken.envelopes.truncate(1_000);
        assert!(unpacker.append(&broken, &mut lines).is_err());
        assert!(lines == expected);
        unpacker.append(&built[1].segment, &mut lines).unwrap();
        assert!(
            lines.len() > expected.len(),
            "an error leaves nothing behind"
        );
    }

    #[test]
    fn segments_stay_within_dynamodbs_limit_and_in_order() {
        let payloads = payloads(40, 100_000);
        let built = build_all(&payloads);
        assert!(built.len() > 5);
        let ids: Vec<String> = built
            .iter()
            .flat_map(|built| built.segment.events().map(|(id, _)| id.to_owned()))
            .collect();
        assert_eq!(
            ids,
            payloads
                .iter()
                .map(|(id, _)| id.clone())
                .collect::<Vec<_>>()
        );
        assert!(
            built
                .windows(2)
                .all(|pair| pair[0].segment.id < pair[1].segment.id)
        );
        for built in &built {
            assert!(built.segment.stored_bytes() <= MAX_SEGMENT_BYTES);
            assert!(built.segment.decompress().unwrap().len() <= MAX_ENVELOPES_BYTES);
        }
    }

    #[test]
    fn the_largest_event_fits_one_segment() {
        let payloads = payloads(1, crate::event::MAX_PAYLOAD_BYTES - 8);
        let built = build_all(&payloads);
        assert_eq!(built.len(), 1);
        assert!(built[0].segment.stored_bytes() <= MAX_SEGMENT_BYTES);
    }

    #[test]
    fn an_id_that_stands_twice_is_taken_once() {
        let mut payloads = payloads(2, 10);
        payloads.push(payloads[0].clone());
        assert_eq!(build_all(&payloads)[0].segment.events().count(), 2);
    }
}
