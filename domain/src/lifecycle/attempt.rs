//! What an attempt of delivery means for its stream.

use std::time::Duration;

use super::change::Decided;
use super::input::{Input, Rules};
use super::switch::stop;
use crate::backoff;
use crate::integration::{CATCH_UP, Integration};
use crate::integration_log::Action;
use crate::stream::Stream;
use crate::stream::health::Interruption;
use crate::stream::schedule::Asked;
use crate::time::Millis;

/// Applies what delivery has found out. Of a stopped integration nothing counts.
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
    let interruption = stream.health.interruption;
    match input {
        Input::Parked if interruption.is_none() => ask(stream, now),
        Input::ChunkDone if interruption.is_none() && stream.waits => ask(stream, now),
        Input::Gone { epoch, reason } if stream.epoch == *epoch => {
            stop(integration, reason.clone(), now, rules)
        }
        Input::Succeeded { epoch }
            if stream.epoch == *epoch
                && interruption.is_none()
                && stream.health.notes_success(now) =>
        {
            stream.health.succeed(now);
            Decided::write()
        }
        Input::ProbeSucceeded { since } if interruption.is_some_and(|it| it.since == *since) => {
            stream.health.succeed(now);
            stream.health.resume(now);
            let reason = "The receiver accepts events again: what has been waiting is sent.";
            let resumed = Decided::write().log(Action::DeliveryResumed, reason);
            let asked = stream.schedule.ask(now);
            resumed.ask(stream, asked, Duration::ZERO)
        }
        Input::Failed {
            epoch,
            event_id,
            reason,
            pause,
        } if stream.epoch == *epoch
            && interruption.is_none()
            && stream.health.notes_failure(now, now.after(*pause)) =>
        {
            stream.health.fail(now, event_id, now.after(*pause));
            failed(integration, reason, *pause, now, rules)
        }
        Input::ProbeFailed {
            since,
            reason,
            retry_after,
            jitter,
        } => {
            let interruption = stream.health.interruption.as_mut();
            let Some(it) = interruption.filter(|it| it.since == *since) else {
                return Decided::keep();
            };
            // The first probe comes 5 seconds after the interruption, the second 10 after the first, and so on.
            let pause = backoff::pause(it.probes + 1, *retry_after, *jitter);
            it.next_probe_at = now.after(pause);
            stream.health.last_failure_at = Some(now);
            stream.health.next_attempt_at = Some(now.after(pause));
            failed(integration, reason, pause, now, rules)
        }
        _ => Decided::keep(),
    }
}

/// Asks for a step of replay. Where one is on its way already, nothing has changed.
fn ask(stream: &mut Stream, now: Millis) -> Decided {
    match stream.schedule.ask(now) {
        Asked::Already => Decided::keep(),
        asked => Decided::write().ask(stream, asked, Duration::ZERO),
    }
}

/// Decides what a failure that was counted leads to: giving up, an interruption, or the next probe.
fn failed(
    integration: &mut Integration,
    reason: &str,
    pause: Duration,
    now: Millis,
    rules: &Rules,
) -> Decided {
    let mut counted = Decided::write().log(Action::RetryTriggered, reason);
    let Some(stream) = integration.stream_mut() else {
        return Decided::keep();
    };
    if stream.health.is_hopeless(now, rules.give_up) {
        let since = stream.health.failing_since.unwrap_or(now);
        let reason = format!(
            "Stopped automatically: every request since {since} has failed. Nothing is lost: what has been missed is sent when it is started again within {} days.",
            CATCH_UP.as_secs() / (24 * 3600)
        );
        let stopped = stop(integration, reason, now, rules);
        counted.entries.extend(stopped.entries);
        return counted;
    }
    if stream.health.interruption.is_none() {
        if !stream.health.is_down(now) {
            return counted;
        }
        stream.health.interruption = Some(Interruption {
            since: now,
            probes: 0,
            cursor: None,
            next_probe_at: now.after(pause),
        });
        stream.pause(now, rules.seal);
        let failures = stream.health.failures;
        counted = counted.log(
            Action::DeliveryInterrupted,
            format!("The last {failures} requests have failed. Events wait, and the receiver is probed from time to time."),
        );
    }
    let asked = stream.schedule.postpone(now, now.after(pause));
    counted.ask(stream, asked, pause)
}
