//! What attempts of delivery mean for their stream.

use std::time::Duration;

use super::change::{Decided, Verdict};
use super::input::{Input, Ran, Rules};
use super::switch::stop;
use crate::backoff;
use crate::integration::{CATCH_UP, Integration};
use crate::integration_log::Action;
use crate::stream::health::Interruption;
use crate::stream::schedule::Asked;
use crate::stream::{Because, Stream};
use crate::time::Millis;

/// How soon a receiver has to be found slow again before its stream is served.
const SLOW_AGAIN: Duration = Duration::from_secs(30);
/// How many runs have to see refusals in a row before their stream is served, and within which time.
const STRIKES: (usize, Duration) = (3, Duration::from_secs(2));

/// Applies what delivery has found out. Of a stopped integration, only that events wait is of interest, and that only when it is
/// started.
pub(super) fn apply(
    integration: &mut Integration,
    input: &Input,
    now: Millis,
    rules: &Rules,
) -> Decided {
    let is_running = integration.is_running();
    let Some(stream) = integration.stream_mut().filter(|_| is_running) else {
        return Decided::keep();
    };
    match input {
        Input::Gone { epoch, reason } if stream.epoch == *epoch => {
            stop(integration, reason.clone(), now, rules)
        }
        Input::Ran(ran) => ran_off(integration, ran, now, rules),
        _ => Decided::keep(),
    }
}

/// Applies what came of a run.
fn ran_off(integration: &mut Integration, ran: &Ran, now: Millis, rules: &Rules) -> Decided {
    let Some(stream) = integration.stream_mut() else {
        return Decided::keep();
    };
    let mut decided = Decided::keep();
    // The results of an earlier start are those of another receiver, perhaps; that events wait is so all the same.
    if stream.epoch == ran.epoch && stream.served().is_none() {
        decided = judge(stream, ran, now, rules);
        if ran.failed.is_some()
            && stream.health.is_hopeless(now, rules.give_up)
            && decided.is_written()
        {
            return given_up(integration, decided, now, rules);
        }
    } else if stream.epoch == ran.epoch && !stream.is_interrupted() {
        // A sender judges: of this run it hears which events wait, and what the receiver asks for.
        decided = retried(stream, ran, now);
        decided = held(stream, ran, decided, now);
    }
    let Some(stream) = integration.stream_mut() else {
        return Decided::keep();
    };
    let due_at = match decided.is_written() && stream.served().is_some() {
        true => Some(ran.due_at.unwrap_or(now).min(now)),
        false => ran.due_at,
    };
    let Some(due_at) = due_at else { return decided };
    // Not before the receiver may be sent anything.
    let due_at = due_at.max(stream.pace.hold_until.unwrap_or_default()).max(
        stream
            .health
            .interruption
            .map_or(now, |it| it.next_probe_at),
    );
    match stream.schedule.ask(due_at, now) {
        Asked::Already => decided,
        asked => decided.written().ask(stream, asked, due_at.since(now)),
    }
}

/// What attempts that were made while a stream was live say about the receiver: those of a run, or of a sender since its last
/// checkpoint.
pub(super) fn judge(stream: &mut Stream, ran: &Ran, now: Millis, rules: &Rules) -> Decided {
    let mut decided = Decided::keep();
    let taken_before = stream.health.last_success_at;
    if ran.is_taken && stream.health.notes_success(now) {
        stream.health.succeed(now);
        decided = decided.written();
    }
    let next = ran.due_at.unwrap_or(now);
    if let Some(failed) = &ran.failed {
        // What failed before something was taken says nothing about now.
        let counts = taken_before.is_none_or(|at| at < failed.since) && !failed.events.is_empty();
        if !counts {
            let retried = retried(stream, ran, now);
            decided.entries.extend(retried.entries);
            if retried.verdict == Verdict::Write {
                decided = decided.written();
            }
        } else if stream.health.notes_failure(now, next) {
            for event in &failed.events {
                stream.health.fail(now, event, next);
            }
            decided = decided
                .written()
                .log(Action::RetryTriggered, failed.reason.clone());
            if stream.health.is_down(now) {
                return interrupted(stream, decided, ran, now, rules);
            }
        }
    }
    if ran.is_strike {
        let recent = |at: &Millis| now.since(*at) <= STRIKES.1;
        stream.strikes.retain(recent);
        stream.strikes.push(now);
        decided = decided.written();
    }
    if ran.is_refused || stream.strikes.len() >= STRIKES.0 {
        if stream.serve(Because::Refused, now, rules.seal) {
            stream.pace.refused_at = Some(now);
            decided = paced(decided.written(), Because::Refused);
        }
        return held(stream, ran, decided, now);
    }
    if ran.is_slow {
        let is_again = stream
            .slow_at
            .is_some_and(|at| now.since(at) < SLOW_AGAIN && at < now);
        stream.slow_at = Some(now);
        decided = decided.written();
        if is_again && stream.serve(Because::Slow, now, rules.seal) {
            decided = paced(decided, Because::Slow);
        }
    }
    decided
}

/// Takes note until when events wait, without counting that they failed.
fn retried(stream: &mut Stream, ran: &Ran, now: Millis) -> Decided {
    let next = ran.due_at.unwrap_or(now);
    match &ran.failed {
        Some(failed) if stream.health.retrying_until < Some(next) => {
            stream.health.retry(next);
            Decided::write().log(Action::RetryTriggered, failed.reason.clone())
        }
        _ => Decided::keep(),
    }
}

/// Takes note of the pause that the receiver asks for. The first one decides; what others have seen at the same moment is the same.
fn held(stream: &mut Stream, ran: &Ran, decided: Decided, now: Millis) -> Decided {
    let hold = ran.hold.map(|hold| now.after(hold.min(backoff::LONGEST)));
    let is_held = stream.pace.hold_until.is_some_and(|until| until > now);
    if hold > stream.pace.hold_until && !is_held {
        stream.pace.hold_until = hold;
        return decided.written();
    }
    decided
}

/// The entry that says that a stream is paced from now on.
pub(super) fn paced(decided: Decided, because: Because) -> Decided {
    let why = match because {
        Because::Refused => "The receiver asked for fewer requests, or did not respond",
        Because::Slow => "The receiver is slow",
        Because::Full => "Too many events wait for another attempt",
        Because::Start | Because::Down => return decided,
    };
    decided.log(
        Action::DeliveryPaced,
        format!("{why}: events are sent from the event log, as many at a time as it takes."),
    )
}

/// The receiver is considered down.
fn interrupted(
    stream: &mut Stream,
    decided: Decided,
    ran: &Ran,
    now: Millis,
    rules: &Rules,
) -> Decided {
    stream.health.interruption = Some(Interruption {
        since: now,
        probes: 0,
        cursor: None,
        next_probe_at: now.after(backoff::probe_pause(1, ran.hold, 0.0)),
        is_refused: ran.is_refused,
    });
    stream.serve(Because::Down, now, rules.seal);
    log_interruption(stream, decided)
}

/// The entry that says that a stream is interrupted.
pub(super) fn log_interruption(stream: &Stream, decided: Decided) -> Decided {
    let failures = stream.health.failures;
    decided.log(
        Action::DeliveryInterrupted,
        format!("The last {failures} requests have failed. Events wait, and the receiver is probed from time to time."),
    )
}

/// Stops an integration all of whose attempts have failed for days.
pub(super) fn given_up(
    integration: &mut Integration,
    mut decided: Decided,
    now: Millis,
    rules: &Rules,
) -> Decided {
    let since = integration
        .stream()
        .and_then(|stream| stream.health.failing_since)
        .unwrap_or(now);
    let reason = format!(
        "Stopped automatically: every request since {since} has failed. Nothing is lost: what has been missed is sent when it is started again within {} days.",
        CATCH_UP.as_secs() / (24 * 3600)
    );
    let stopped = stop(integration, reason, now, rules);
    decided.entries.extend(stopped.entries);
    decided.written()
}
