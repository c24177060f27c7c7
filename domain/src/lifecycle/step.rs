//! What a step of replay does to a stream.

use std::time::Duration;

use ulid::Ulid;

use super::attempt::{given_up, judge, log_interruption, paced};
use super::change::Decided;
use super::input::{Checkpoint, Rest, Rules, StepInput};
use super::switch::stop;
use crate::integration::{Integration, IntegrationType};
use crate::integration_log::{Action, delivered};
use crate::log::SEALS_BEHIND;
use crate::stream::schedule::Asked;
use crate::stream::{Because, Stream};
use crate::time::Millis;

/// How often a stream is looked at for which nothing has been published for a while.
const FOLLOW_EVERY: Duration = Duration::from_secs(60);
/// When replay tries again after something of ours failed.
const FAILED_PAUSE: Duration = Duration::from_secs(10);

/// Applies what a step of `turn` does at `now`.
pub(super) fn apply(
    integration: &mut Integration,
    turn: u64,
    step: &StepInput,
    now: Millis,
    rules: &Rules,
) -> Decided {
    let may_open = integration.may_go_live();
    let Some(stream) = integration.stream_mut() else {
        return Decided::refuse();
    };
    match step {
        StepInput::Begin { holder, until } => begin(stream, turn, *holder, *until, now),
        _ if stream.schedule.turn != turn => Decided::refuse(),
        StepInput::Open if may_open => open(stream, now, rules),
        StepInput::Open => Decided::keep(),
        StepInput::Checkpoint(checkpoint) => save(integration, checkpoint, now, rules),
        StepInput::Leave { confirmed, rest } => {
            if *confirmed && may_open {
                stream.confirm();
            }
            leave(integration, *rest, now, rules)
        }
    }
}

fn begin(stream: &mut Stream, turn: u64, holder: Ulid, until: Millis, now: Millis) -> Decided {
    match stream.schedule.begin(turn, holder, now, until) {
        true => Decided::write(),
        false => Decided::refuse(),
    }
}

/// Ends the gap, or moves an end that is not known to have been confirmed in time.
fn open(stream: &mut Stream, now: Millis, rules: &Rules) -> Decided {
    if let Some(served) = stream.served() {
        stream.resume(now, rules.seal);
        let opened = Decided::write();
        return match served.because {
            Because::Start | Because::Down => opened,
            Because::Refused | Because::Slow | Because::Full => opened.log(
                Action::DeliveryLive,
                "The receiver keeps up: events are sent as they arrive again.",
            ),
        };
    }
    if stream.unconfirmed {
        stream.resume_later(now, rules.seal);
        return Decided::write();
    }
    Decided::keep()
}

/// Moves the position, in any status: what was sent before a stop is not sent again. What was seen of the receiver counts only for
/// the start for which it was seen.
fn save(
    integration: &mut Integration,
    checkpoint: &Checkpoint,
    now: Millis,
    rules: &Rules,
) -> Decided {
    let is_running = integration.is_running();
    let Some(stream) = integration.stream_mut() else {
        return Decided::refuse();
    };
    let is_same = is_running && stream.epoch == checkpoint.epoch;
    if let Some(from) = checkpoint.from {
        if stream.owed.first().is_none_or(|owed| owed.from != from) {
            return Decided::refuse();
        }
        let to = match is_same {
            true => checkpoint.to,
            false => checkpoint.to.min(checkpoint.sent),
        };
        stream.advance(to.max(from));
    }
    stream.waiting = checkpoint.waiting;
    if !is_same {
        return Decided::write();
    }
    if checkpoint.hears {
        stream.schedule.nudged = false;
    }
    if checkpoint.confirmed && integration.may_go_live() {
        integration.stream_mut().map(Stream::confirm);
    }
    seen(integration, checkpoint, now, rules)
}

/// Takes over what a sender has seen of the receiver.
fn seen(
    integration: &mut Integration,
    checkpoint: &Checkpoint,
    now: Millis,
    rules: &Rules,
) -> Decided {
    let Some(stream) = integration.stream_mut() else {
        return Decided::refuse();
    };
    let mut decided = Decided::write();
    let was_interrupted = stream.is_interrupted();
    let hold_until = stream.pace.hold_until.max(checkpoint.pace.hold_until);
    stream.pace = checkpoint.pace;
    // Delivery may have been asked for a pause meanwhile.
    stream.pace.hold_until = hold_until.filter(|until| *until > now);
    if stream.served().is_none() {
        // Delivery judges: what the sender has seen counts as what a run has.
        let judged = judge(stream, &checkpoint.ran, now, rules);
        decided.entries.extend(judged.entries);
        let has_failed = checkpoint.ran.failed.is_some();
        if has_failed && stream.health.is_hopeless(now, rules.give_up) {
            return given_up(integration, decided, now, rules);
        }
        return serve(stream, checkpoint.serve, decided, now, rules);
    }
    let retrying_until = stream
        .health
        .retrying_until
        .max(checkpoint.health.retrying_until);
    if !checkpoint.is_judge {
        // Delivery has found something meanwhile: that stays, and the sender takes it over.
        stream.health.retrying_until = retrying_until;
        return decided;
    }
    stream.health = checkpoint.health.clone();
    stream.health.retrying_until = retrying_until;
    if let Some(failure) = &checkpoint.failure {
        decided = decided.log(Action::RetryTriggered, failure.clone());
    }
    if stream.health.is_hopeless(now, rules.give_up) && checkpoint.failure.is_some() {
        return given_up(integration, decided, now, rules);
    }
    match (was_interrupted, stream.is_interrupted()) {
        (false, true) => decided = log_interruption(stream, decided),
        (true, false) => {
            let reason = match stream.health.last_success_at == stream.health.resumed_at {
                true => "The receiver accepts events again: what has been waiting is sent.",
                false => {
                    "Nothing is left to probe the receiver with: events are sent as they arrive."
                }
            };
            decided = decided.log(Action::DeliveryResumed, reason);
        }
        _ => {}
    }
    decided
}

/// Has a sender serve the stream, if it is live.
fn serve(
    stream: &mut Stream,
    because: Option<Because>,
    decided: Decided,
    now: Millis,
    rules: &Rules,
) -> Decided {
    match because {
        Some(because) if stream.serve(because, now, rules.seal) => paced(decided, because),
        _ => decided,
    }
}

fn leave(integration: &mut Integration, rest: Rest, now: Millis, rules: &Rules) -> Decided {
    let running = integration.is_running();
    let is_permanent = integration.integration_type == IntegrationType::Permanent;
    let end = integration.ends_at.unwrap_or(now);
    let may_open = integration.may_go_live();
    let Some(stream) = integration.stream_mut() else {
        return Decided::refuse();
    };
    stream.forget_old_gaps(now, rules.seal);
    let is_over = !is_permanent && stream.owed.is_empty() && !rest.waits;
    let at = match rest {
        _ if !running => None,
        Rest {
            has_failed: true, ..
        } => Some(now.after(FAILED_PAUSE)),
        _ if stream.schedule.nudged || stream.unconfirmed => Some(now),
        Rest {
            next, has_moved, ..
        } => {
            let next = earliest(next, next_look(stream, has_moved, may_open, now, rules));
            let least = match has_moved {
                true => now,
                // Whatever the clock does, a step that had nothing to do is not followed by one that has nothing to do at once.
                false => now.after(rules.seal / 2),
            };
            next.map(|next| next.max(least))
        }
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

fn earliest(one: Option<Millis>, other: Option<Millis>) -> Option<Millis> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// When a sender has to look again at a stream of which it has sent all that was sealed when it began: when the rest of what is
/// owed is sealed; while the stream is served, a seal later, and more seldom the longer nothing was published, up to a minute; or
/// never. Not because the clock has moved since: there would always be some milliseconds more to read, and step would follow step
/// without end.
fn next_look(
    stream: &Stream,
    has_moved: bool,
    may_open: bool,
    now: Millis,
    rules: &Rules,
) -> Option<Millis> {
    if let Some(it) = stream.health.interruption {
        return Some(it.next_probe_at.max(now));
    }
    let owed = stream.owed.first()?;
    let Some(until) = owed.until else {
        let quiet = now.since(stream.health.last_success_at.unwrap_or(stream.floor));
        let pause = match has_moved {
            true => rules.seal,
            false => quiet.clamp(rules.seal, FOLLOW_EVERY),
        };
        let look = now.after(pause);
        return match stream.live_again_at().filter(|_| may_open) {
            Some(again) if again > now => Some(look.min(again)),
            _ => Some(look),
        };
    };
    let sealed = Millis(until.after(rules.seal * SEALS_BEHIND).0 + 1);
    Some(sealed.min(now.after(FOLLOW_EVERY)).max(now))
}
