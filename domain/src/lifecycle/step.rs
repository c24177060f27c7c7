//! What a step of replay does to a stream.

use std::time::Duration;

use crate::integration::{Integration, IntegrationType};
use crate::integration_log::delivered;
use crate::lifecycle::{Change, Effect, Rest, Rules, Step, resumed, stop};
use crate::log::SEALS_BEHIND;
use crate::stream::Stream;
use crate::time::Millis;

/// How often a temporary integration whose range is not over yet is looked at.
const FOLLOW_EVERY: Duration = Duration::from_secs(60);
/// When replay looks again at what is outstanding, should nobody wake it.
const WAIT_AT_MOST: Duration = Duration::from_secs(30);
/// When replay tries again after something of ours failed.
const FAILED_PAUSE: Duration = Duration::from_secs(10);
/// When the next probe is sent, should nobody learn what became of this one.
const PROBE_LOST: Duration = Duration::from_secs(120);

/// Applies what a step of `turn` does at `now`.
pub(super) fn apply(
    integration: &mut Integration,
    turn: u64,
    step: &Step,
    now: Millis,
    rules: &Rules,
) -> Change {
    let running = integration.is_running();
    let is_permanent = integration.integration_type == IntegrationType::Permanent;
    let Some(stream) = integration.stream_mut() else {
        return Change::refuse();
    };
    if let Step::Begin { holder, until } = step {
        if !stream.duty.begin(turn, *holder, now, *until) {
            return Change::refuse();
        }
        stream.waits = false;
        return Change::write(Vec::new());
    }
    if stream.duty.turn != turn {
        return Change::refuse();
    }
    let is_open = running && !stream.is_interrupted();
    match step {
        Step::Begin { .. } => Change::refuse(),
        Step::Open if is_open && is_permanent && stream.is_paused() => {
            stream.resume(now, rules.seal);
            Change::write(Vec::new())
        }
        Step::Open if is_open && is_permanent && stream.unconfirmed => {
            stream.resume_later(now, rules.seal);
            Change::write(Vec::new())
        }
        Step::Open => Change::keep(),
        Step::Take { chunk: Some(_), .. } if !is_open => Change::refuse(),
        // Written already, and reported as failed.
        Step::Take {
            chunk: Some(chunk), ..
        } if stream.unsent == Some(*chunk) => Change::keep(),
        // An interrupted stream takes nothing upon itself, but looks for an event to probe with.
        Step::Take { .. } if !running => Change::refuse(),
        Step::Take {
            chunk,
            to,
            confirmed,
        } => {
            if *confirmed {
                stream.confirm();
            }
            if let Some(to) = to {
                stream.advance(*to);
            }
            if chunk.is_some() {
                stream.unsent = *chunk;
            }
            Change::write(Vec::new())
        }
        Step::Probe { event, to } => {
            let Some(it) = stream.health.interruption.as_mut().filter(|_| running) else {
                return Change::refuse();
            };
            it.probes += 1;
            it.cursor = Some(*event);
            it.next_probe_at = now.after(PROBE_LOST);
            let next_probe_at = it.next_probe_at;
            stream.health.next_attempt_at = Some(now);
            if let Some(to) = to {
                stream.advance(*to);
            }
            stream.duty.leave(Some(next_probe_at));
            Change::write(Vec::new())
        }
        Step::NothingToProbe => {
            if !running || stream.health.interruption.is_none() {
                return Change::refuse();
            }
            stream.health.resume(now);
            Change::write(vec![resumed(
                "Nothing is left to try the receiver with: events are sent as they come.",
            )])
        }
        Step::Leave {
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

fn leave(integration: &mut Integration, rest: Rest, now: Millis, rules: &Rules) -> Change {
    let running = integration.is_running();
    let is_permanent = integration.integration_type == IntegrationType::Permanent;
    let end = integration.ends_at.unwrap_or(now);
    let Some(stream) = integration.stream_mut() else {
        return Change::refuse();
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
        _ if stream.duty.nudged || is_unopened || rest == Rest::More => Some(now),
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
    stream.duty.leave(at);
    let Some(at) = at else {
        if !running || !is_over {
            return Change::write(Vec::new());
        }
        integration.is_finished = true;
        let reason = delivered(end, integration.starts_at, rules.oldest(now));
        return stop(integration, reason, now, rules);
    };
    Change::write(vec![Effect::SendStep {
        turn: stream.duty.turn,
        delay: at.since(now),
    }])
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
