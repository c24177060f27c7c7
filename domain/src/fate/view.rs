//! What is known of the events of an integration, put together from what was read of it.

use std::collections::HashMap;
use std::time::Duration;

use ulid::Ulid;

use super::filters::{PastFilter, is_in};
use super::noted::{Event, EventStatus, Fate, Refused};
use crate::export::Export;
use crate::exported::ExportedFile;
use crate::integration::{Integration, IntegrationType, Target};
use crate::log::REPEAT_WINDOW;
use crate::stream::Stream;
use crate::stream::waiting::Waiting;
use crate::time::Millis;

/// For how long an event is likely to be on its way, where the queues are never empty.
const ON_ITS_WAY: Duration = Duration::from_secs(60);

/// How long after it was decided a stop may take effect, by the clock of who decided it: longer than any function that stops an
/// integration has, and a seal.
const WRITTEN_WITHIN: Duration = Duration::from_secs(120);

/// What was read, in this order: that the queues are empty, the integration, its waiting events, its notes of rejected ones. An event
/// only ever moves on in this order, so that none is missed in between.
#[derive(Debug)]
pub struct View {
    /// The integration.
    pub integration: Integration,
    /// Its earlier filters, oldest first.
    pub past_filters: Vec<PastFilter>,
    /// The waiting events of the segments that are looked at, and of the 20 minutes before.
    pub waiting: Vec<Waiting>,
    /// The notes of rejected events, of the same segments.
    pub refused: Vec<Refused>,
    /// The files that cover the segments that are looked at.
    pub files: Vec<ExportedFile>,
    /// When the queues were seen empty; none where they were not.
    pub settled_at: Option<Millis>,
    /// The seal: how far clocks and late writes may be off.
    pub seal: Duration,
    /// When all of it was read.
    pub now: Millis,
}

impl View {
    /// What is known of each of these events. Copies of an event have one fate.
    pub fn fates(&self, events: &[Event<'_>]) -> Vec<Fate> {
        let mut waiting: HashMap<(Ulid, u32), &Waiting> = HashMap::new();
        for item in &self.waiting {
            for event in item.events() {
                waiting.insert((event.segment, event.index), item);
            }
        }
        let refused = self.refused.iter();
        let refused: HashMap<(Ulid, u32), &Refused> = refused
            .map(|it| ((it.event.segment, it.event.index), it))
            .collect();
        let mut fates: Vec<Fate> = events
            .iter()
            .map(|event| {
                let key = (event.event.segment, event.event.index);
                match (waiting.get(&key), refused.get(&key)) {
                    (Some(item), _) => self.waits(item),
                    (None, Some(note)) => rejected(note, true),
                    (None, None) => self.unnoted(event),
                }
            })
            .collect();
        self.agree(events, &mut fates);
        fates
    }

    /// Whether an event is shown: it passes the filter, or passed the one that decided on it.
    pub fn is_listed(&self, event: &Event<'_>) -> bool {
        self.integration.passes(event.name) || self.decided(event).0
    }

    fn waits(&self, item: &Waiting) -> Fate {
        let attempts = item.attempt.saturating_sub(1);
        let is_retried = attempts > 0 && self.integration.is_running();
        Fate {
            status: match is_retried {
                true => EventStatus::Retrying,
                false => EventStatus::Waiting,
            },
            attempts,
            next_attempt_at: is_retried.then_some(item.due_at),
            reason: item.reason.clone(),
            ..certain(EventStatus::Waiting)
        }
    }

    /// The fate of an event of which nothing is noted.
    fn unnoted(&self, event: &Event<'_>) -> Fate {
        let at = event.published_at();
        if at < self.integration.starts_at {
            return skipped("It was published before the integration begins.");
        }
        if self.integration.ends_at.is_some_and(|end| at >= end) {
            return skipped("It was published after the integration ends.");
        }
        match &self.integration.target {
            Target::Webhook { stream, .. } => self.of_stream(event, stream),
            Target::S3 { export, .. } => self.of_export(event, export),
        }
    }

    fn of_stream(&self, event: &Event<'_>, stream: &Stream) -> Fate {
        let at = event.published_at();
        let owed: Vec<_> = stream.owed.iter().map(|it| (it.from, it.until)).collect();
        let (passes, is_decided) = self.decided(event);
        let unfiltered = || Fate {
            is_certain: is_decided,
            ..skipped("It did not pass the filter.")
        };
        if is_in(&owed, event) {
            return match passes {
                true => certain(EventStatus::Waiting),
                false => unfiltered(),
            };
        }
        if is_in(&stream.skipped, event) {
            // A sender may have sent it that could not write down how far it had come.
            return Fate {
                is_certain: false,
                ..skipped("The integration was started again more than 30 days after its stop.")
            };
        }
        if !passes {
            return unfiltered();
        }
        // Nothing of a temporary one has ever been in the queue of live events.
        let is_by_position = self.integration.integration_type == IntegrationType::Temporary;
        let is_settled = is_by_position || self.is_settled(at, stream);
        if !is_settled && self.now.since(at) < ON_ITS_WAY {
            return Fate {
                is_certain: false,
                ..certain(EventStatus::Sending)
            };
        }
        // What waited when it was started afresh is not noted; and a copy of an event that is owed may have been sent to no one.
        let is_known = at >= stream.floor;
        let is_alone = !owed
            .iter()
            .any(|(from, until)| is_near(Millis(from.segment.timestamp_ms()), *until, at));
        Fate {
            is_certain: is_settled && is_decided && is_known && (is_by_position || is_alone),
            ..certain(EventStatus::Delivered)
        }
    }

    /// Whether what was live of this instant has been carried out: the queues were empty later.
    fn is_settled(&self, at: Millis, stream: &Stream) -> bool {
        let ended = stream.gaps.last().and_then(|gap| gap.until);
        let is_in_doubt = stream.unconfirmed && ended.is_some_and(|ended| at >= ended);
        let settled = self.settled_at.map(|settled| settled.before(self.seal));
        !is_in_doubt && settled.is_some_and(|settled| at < settled)
    }

    fn of_export(&self, event: &Event<'_>, export: &Export) -> Fate {
        let segment = event.event.segment;
        let (passes, is_decided) = self.decided(event);
        if !passes {
            return Fate {
                is_certain: is_decided,
                ..skipped("It did not pass the filter.")
            };
        }
        if segment >= export.position {
            return certain(EventStatus::Waiting);
        }
        let covers = |file: &&ExportedFile| file.from <= segment && segment < file.until;
        let file = self.files.iter().find(covers);
        Fate {
            is_certain: is_decided && file.is_some(),
            file: file.map(|file| file.key.clone()),
            ..certain(EventStatus::Exported)
        }
    }

    /// Whether the filter that decided on an event let it pass, and whether it is certain which one that was. An attempt that is
    /// made late goes by the filter of then.
    fn decided(&self, event: &Event<'_>) -> (bool, bool) {
        let now = self.integration.passes(event.name);
        let deciding = self.past_filters.iter().position(|it| it.decides(event));
        let passes = deciding.map_or(now, |at| self.past_filters[at].passes(event.name));
        // It is in doubt where another filter may have decided that says otherwise: around the time of a change, and where a sender had
        // sent it without having written that down when the filter was changed.
        let at = event.published_at();
        let past = self.past_filters.iter().enumerate();
        let is_in_doubt = past.into_iter().any(|(number, past)| {
            let next = self.past_filters.get(number + 1);
            let next = next.map_or(now, |next| next.passes(event.name));
            let before = past.passes(event.name);
            let is_near =
                past.until.before(self.seal) <= at && at < past.until.after(WRITTEN_WITHIN);
            (is_near && (before != passes || next != passes))
                || (at < past.until && is_in(&past.unsent, event) && before != passes)
        });
        // What passed an earlier filter may have been tried late, and then a later one decided.
        let is_late = passes
            && deciding.is_some_and(|first| {
                let mut later = self.past_filters[first..].iter();
                !now || later.any(|past| !past.passes(event.name))
            });
        (passes, !is_in_doubt && !is_late)
    }

    /// Gives the copies of an event one fate: what is still to be sent counts before what is done, since a copy may have been taken
    /// for a repeat of another one.
    fn agree(&self, events: &[Event<'_>], fates: &mut [Fate]) {
        let mut copies: HashMap<&str, Vec<usize>> = HashMap::new();
        for (number, event) in events.iter().enumerate() {
            copies.entry(event.id).or_default().push(number);
        }
        // Copies that are not among these events, but may be noted.
        for note in &self.refused {
            let known = copies.get(note.id.as_str()).map(Vec::as_slice);
            for number in known.unwrap_or_default() {
                let fate = &mut fates[*number];
                if fate.status == EventStatus::Delivered {
                    *fate = rejected(note, false);
                }
            }
        }
        for numbers in copies.values().filter(|numbers| numbers.len() > 1) {
            let all: Vec<&Fate> = numbers.iter().map(|number| &fates[*number]).collect();
            let Some(first) = all.iter().max_by_key(|fate| rank(fate.status)) else {
                continue;
            };
            let is_one = all.iter().all(|fate| fate.status == first.status);
            let all_certain = all.iter().all(|fate| fate.is_certain);
            let is_certain = first.is_certain && (rank(first.status) > 2 || is_one && all_certain);
            let agreed = Fate {
                is_certain,
                ..(*first).clone()
            };
            for number in numbers {
                fates[*number] = agreed.clone();
            }
        }
    }
}

/// Whether an instant lies in a range, or within the time behind it in which an event may be taken for a repeat.
fn is_near(from: Millis, until: Option<Millis>, at: Millis) -> bool {
    from <= at && until.is_none_or(|until| at < until.after(REPEAT_WINDOW))
}

/// What is still to be done counts most.
fn rank(status: EventStatus) -> u8 {
    match status {
        EventStatus::Skipped => 0,
        EventStatus::Delivered | EventStatus::Exported => 1,
        EventStatus::Rejected => 2,
        EventStatus::Sending => 3,
        EventStatus::Waiting => 4,
        EventStatus::Retrying => 5,
    }
}

fn certain(status: EventStatus) -> Fate {
    Fate {
        status,
        is_certain: true,
        attempts: 0,
        next_attempt_at: None,
        reason: None,
        file: None,
    }
}

fn skipped(reason: &str) -> Fate {
    Fate {
        reason: Some(reason.to_owned()),
        ..certain(EventStatus::Skipped)
    }
}

fn rejected(note: &Refused, is_certain: bool) -> Fate {
    Fate {
        reason: Some(note.reason.clone()),
        is_certain,
        ..certain(EventStatus::Rejected)
    }
}

#[cfg(test)]
mod tests;
