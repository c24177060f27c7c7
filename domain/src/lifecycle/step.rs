//! What a step of replay does to a stream.

use std::time::Duration;

use ulid::Ulid;

use super::change::Decided;
use super::input::{Rest, Rules, StepInput};
use super::switch::stop;
use crate::integration::{Integration, IntegrationType};
use crate::integration_log::{Action, delivered};
use crate::log::SEALS_BEHIND;
use crate::log::position::{EventRef, Position};
use crate::stream::Stream;
use crate::stream::schedule::Asked;
use crate::time::Millis;

/// How often a temporary integration whose range is not over yet is looked at.
const FOLLOW_EVERY: Duration = Duration::from_secs(60);
/// When replay looks again at what is outstanding, if nothing wakes it.
const WAIT_AT_MOST: Duration = Duration::from_secs(30);
/// When replay tries again after something of ours failed.
const FAILED_PAUSE: Duration = Duration::from_secs(10);
/// When the next probe is sent, if the result of this one is lost.
const PROBE_LOST: Duration = Duration::from_secs(120);

/// Applies what a step of `turn` does at `now`.
pub(super) fn apply(
    integration: &mut Integration,
    turn: u64,
    step: &StepInput,
    now: Millis,
    rules: &Rules,
) -> Decided {
    let is_running = integration.is_running();
    let is_permanent = integration.integration_type == IntegrationType::Permanent;
    let Some(stream) = integration.stream_mut() else {
        return Decided::refuse();
    };
    let is_open = is_running && !stream.is_interrupted();
    match step {
        StepInput::Begin { holder, until } => begin(stream, turn, *holder, *until, now),
        _ if stream.schedule.turn != turn => Decided::refuse(),
        StepInput::Open if is_open && is_permanent => open(stream, now, rules),
        StepInput::Open => Decided::keep(),
        StepInput::Take {
            chunk,
            to,
            confirmed,
        } => match chunk {
            Some(_) if !is_open => Decided::refuse(),
            // It was written already, though that was reported as failed.
            Some(_) if stream.unsent == *chunk => Decided::keep(),
            // An interrupted stream takes nothing, but moves on to look for an event to probe with.
            None if !is_running => Decided::refuse(),
            _ => take(stream, *chunk, *to, *confirmed),
        },
        StepInput::Probe { event, to } => probe(stream, *event, *to, is_running, now),
        StepInput::NothingToProbe => {
            if !is_running || stream.health.interruption.is_none() {
                return Decided::refuse();
            }
            stream.health.resume(now);
            let reason =
                "Nothing is left to probe the receiver with: events are sent as they arrive.";
            Decided::write().log(Action::DeliveryResumed, reason)
        }
        StepInput::Leave {
            confirmed,
            sent,
            rest,
        } => {
            if *confirmed && is_open {
                stream.confirm();
            }
            if sent.is_some() && stream.unsent == *sent {
                stream.unsent = None;
            }
            leave(integration, *rest, now, rules)
        }
    }
}

fn begin(stream: &mut Stream, turn: u64, holder: Ulid, until: Millis, now: Millis) -> Decided {
    if !stream.schedule.begin(turn, holder, now, until) {
        return Decided::refuse();
    }
    stream.waits = false;
    Decided::write()
}

/// Ends the gap, or moves an end that is not known to have been confirmed in time.
fn open(stream: &mut Stream, now: Millis, rules: &Rules) -> Decided {
    if stream.is_paused() {
        stream.resume(now, rules.seal);
        return Decided::write();
    }
    if stream.unconfirmed {
        stream.resume_later(now, rules.seal);
        return Decided::write();
    }
    Decided::keep()
}

fn take(
    stream: &mut Stream,
    chunk: Option<Ulid>,
    to: Option<Position>,
    confirmed: bool,
) -> Decided {
    if confirmed {
        stream.confirm();
    }
    if let Some(to) = to {
        stream.advance(to);
    }
    if chunk.is_some() {
        stream.unsent = chunk;
    }
    Decided::write()
}

fn probe(
    stream: &mut Stream,
    event: EventRef,
    to: Option<Position>,
    is_running: bool,
    now: Millis,
) -> Decided {
    let interruption = stream.health.interruption.as_mut();
    let Some(it) = interruption.filter(|_| is_running) else {
        return Decided::refuse();
    };
    it.probes += 1;
    it.cursor = Some(event);
    it.next_probe_at = now.after(PROBE_LOST);
    let next_probe_at = it.next_probe_at;
    stream.health.next_attempt_at = Some(now);
    if let Some(to) = to {
        stream.advance(to);
    }
    stream.schedule.leave(Some(next_probe_at));
    Decided::write()
}

fn leave(integration: &mut Integration, rest: Rest, now: Millis, rules: &Rules) -> Decided {
    let running = integration.is_running();
    let is_permanent = integration.integration_type == IntegrationType::Permanent;
    let end = integration.ends_at.unwrap_or(now);
    let Some(stream) = integration.stream_mut() else {
        return Decided::refuse();
    };
    stream.forget_old_gaps(now, rules.seal);
    stream.waits = false;
    let is_over = !is_permanent && stream.owed.is_empty();
    let is_unopened = is_permanent && (stream.is_paused() || stream.unconfirmed);
    let interruption = stream.health.interruption;
    let at = match (interruption, rest) {
        _ if !running => None,
        (_, Rest::Failed) => Some(now.after(FAILED_PAUSE)),
        (Some(it), _) => Some(it.next_probe_at.max(now)),
        _ if stream.schedule.nudged || is_unopened || rest == Rest::More => Some(now),
        (None, Rest::Outstanding) => {
            stream.waits = true;
            Some(now.after(WAIT_AT_MOST))
        }
        (None, Rest::Unsettled) if is_over => {
            stream.waits = true;
            Some(now.after(WAIT_AT_MOST))
        }
        (None, _) => next_look(stream, now, rules),
    };
    stream.schedule.leave(at);
    let Some(at) = at else {
        if !running || !is_over {
            return Decided::write();
        }
        integration.is_finished = true;
        let reason = delivered(end, integration.starts_at, rules.oldest(now));
        return stop(integration, reason, now, rules);
    };
    Decided::write().ask(stream, Asked::Send, at.since(now))
}

/// When replay has to look again at a stream of which it has sent all that was sealed when its step began: when the rest of
/// what is owed is sealed, every minute while a range continues, or never. Not because the clock has moved since: there would
/// always be some milliseconds more to read, and step would follow step without end.
fn next_look(stream: &Stream, now: Millis, rules: &Rules) -> Option<Millis> {
    let owed = stream.owed.first()?;
    let sealed = owed.until.map_or(now.after(FOLLOW_EVERY), |until| {
        Millis(until.after(rules.seal * SEALS_BEHIND).0 + 1)
    });
    Some(sealed.min(now.after(FOLLOW_EVERY)).max(now))
}
