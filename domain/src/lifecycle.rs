//! The life of an integration: what each thing that happens to it changes, and what has to be done then.
//!
//! [`apply`] is pure. Whoever learns of something (the API, replay, delivery) reads the integration, applies the [`Input`],
//! writes the result on condition that nobody wrote in between, and then carries out the [`Effect`]s in their order. The
//! simulation does the same with the same function.

mod step;

use std::time::Duration;

use ulid::Ulid;

use crate::backoff;
use crate::integration::{CATCH_UP, Integration};
use crate::integration_log::{Action, started};
use crate::log::SEALS_BEHIND;
use crate::log::position::{EventRef, Position};
use crate::stream::Stream;
use crate::stream::health::Interruption;
use crate::stream::schedule::Asked;
use crate::time::Millis;

/// What a deployment decides.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The seal of the event log.
    pub seal: Duration,
    /// For how long all attempts have to fail before an integration is stopped, or one event's before it is rejected.
    pub give_up: Duration,
    /// For how long events are kept.
    pub retention: Duration,
}

impl Rules {
    /// The end of what is sealed at `now`.
    pub fn horizon(&self, now: Millis) -> Millis {
        now.before(self.seal * SEALS_BEHIND)
    }

    /// The first instant of which events are kept at `now`.
    pub fn oldest(&self, now: Millis) -> Millis {
        now.before(self.retention)
    }
}

/// Something that happened to an integration.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The API was told to start it.
    Start,
    /// The API was asked to stop it.
    Stop {
        /// For the integration log.
        reason: String,
    },
    /// The receiver wants nothing any more (410).
    Gone {
        /// The start for which the attempt was made ([`Stream::epoch`]).
        epoch: u64,
        /// For the integration log.
        reason: String,
    },
    /// Delivery has parked an event.
    Parked,
    /// Delivery has settled the last event of a chunk.
    ChunkDone,
    /// The receiver has taken an event, or rejected it.
    Succeeded {
        /// The start for which the attempt was made.
        epoch: u64,
    },
    /// An attempt has failed.
    Failed {
        /// The start for which the attempt was made.
        epoch: u64,
        /// The event.
        event_id: String,
        /// For the integration log.
        reason: String,
        /// After which pause the event is sent again.
        pause: Duration,
    },
    /// The receiver has taken a probe, or rejected its event.
    ProbeSucceeded {
        /// When the interruption began.
        since: Millis,
    },
    /// A probe has failed.
    ProbeFailed {
        /// When the interruption began.
        since: Millis,
        /// For the integration log.
        reason: String,
        /// What the receiver asked for.
        retry_after: Option<Duration>,
        /// In `0.0..1.0`.
        jitter: f64,
    },
    /// A step of replay.
    Step {
        /// The turn that the step holds; at its beginning, the one of its task.
        turn: u64,
        /// What the step does.
        step: Step,
    },
}

/// What a step of replay does to a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It begins.
    Begin {
        /// A ULID of its own.
        holder: Ulid,
        /// When it will be over for certain.
        until: Millis,
    },
    /// It ends the gap of a permanent stream, or moves an end that was confirmed too late.
    Open,
    /// It takes a chunk of events upon itself, or moves on over some that nobody wants.
    Take {
        /// The chunk; its item is written together with the state.
        chunk: Option<Ulid>,
        /// The position behind what was owed of it; none when it comes from the parked events.
        to: Option<Position>,
        /// Whether the end of the gap is known to have been confirmed in time.
        confirmed: bool,
    },
    /// It sends a probe, and leaves.
    Probe {
        /// The parked event.
        event: EventRef,
        /// The position behind the event, when it had been owed.
        to: Option<Position>,
    },
    /// It has found nothing to probe with.
    NothingToProbe,
    /// It leaves.
    Leave {
        /// Whether the end of the gap is known to have been confirmed in time.
        confirmed: bool,
        /// The chunk that it sent last.
        sent: Option<Ulid>,
        /// What it leaves behind.
        rest: Rest,
    },
}

/// What a step leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// There is more to send, at once.
    More,
    /// What was sent has to be settled first: there is too much of it to send more.
    Outstanding,
    /// All that could be read was sent, and not all of it is settled.
    Unsettled,
    /// All that could be read was sent and settled, and nothing is parked.
    Nothing,
    /// Something of ours failed.
    Failed,
}

/// What is to be done after a state was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// An entry of the integration log. It is written in one transaction with the state.
    Log(Action, String),
    /// Replay is to be sent a step. A short cut: the sweep finds what was never sent.
    SendStep {
        /// The turn of the task.
        turn: u64,
        /// When it is to be received.
        delay: Duration,
    },
}

/// What an input does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The state is as it should be; nothing is written.
    Keep,
    /// The state is to be written.
    Write,
    /// A step may not do this: it is not its turn any more, or nothing may be sent now.
    Refuse,
}

/// What comes of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whether the state is to be written.
    pub verdict: Verdict,
    /// What is to be done then.
    pub effects: Vec<Effect>,
}

impl Change {
    fn keep() -> Change {
        Change {
            verdict: Verdict::Keep,
            effects: Vec::new(),
        }
    }

    fn refuse() -> Change {
        Change {
            verdict: Verdict::Refuse,
            effects: Vec::new(),
        }
    }

    fn write(effects: Vec<Effect>) -> Change {
        Change {
            verdict: Verdict::Write,
            effects,
        }
    }
}

/// Applies an input at `now`. Where the verdict is not [`Verdict::Write`], the integration is not to be written.
pub fn apply(integration: &mut Integration, input: &Input, now: Millis, rules: &Rules) -> Change {
    match input {
        Input::Start => return start(integration, now, rules),
        Input::Stop { reason } => return stop(integration, reason.clone(), now, rules),
        Input::Step { turn, step } => return step::apply(integration, *turn, step, now, rules),
        _ => {}
    }
    let (running, interruption) = (
        integration.is_running(),
        integration
            .stream()
            .and_then(|stream| stream.health.interruption),
    );
    let Some(stream) = integration.stream_mut().filter(|_| running) else {
        return Change::keep();
    };
    match input {
        Input::Parked if interruption.is_none() => ask(stream, now, Vec::new()),
        Input::ChunkDone if interruption.is_none() && stream.waits => ask(stream, now, Vec::new()),
        Input::Gone { epoch, reason } if stream.epoch == *epoch => {
            let reason = reason.clone();
            stop(integration, reason, now, rules)
        }
        Input::Succeeded { epoch }
            if stream.epoch == *epoch
                && interruption.is_none()
                && stream.health.notes_success(now) =>
        {
            stream.health.succeed(now);
            Change::write(Vec::new())
        }
        Input::ProbeSucceeded { since } if interruption.is_some_and(|it| it.since == *since) => {
            stream.health.succeed(now);
            stream.health.resume(now);
            let reason = "The receiver takes events again: what has been waiting is sent.";
            ask(stream, now, vec![resumed(reason)]).written()
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
            failed(integration, reason.clone(), *pause, now, rules)
        }
        Input::ProbeFailed {
            since,
            reason,
            retry_after,
            jitter,
        } => {
            let Some(it) = stream
                .health
                .interruption
                .as_mut()
                .filter(|it| it.since == *since)
            else {
                return Change::keep();
            };
            // The first probe comes 5 seconds after the interruption, the second 10 after the first, and so on.
            let pause = backoff::pause(it.probes + 1, *retry_after, *jitter);
            it.next_probe_at = now.after(pause);
            stream.health.last_failure_at = Some(now);
            stream.health.next_attempt_at = Some(now.after(pause));
            failed(integration, reason.clone(), pause, now, rules)
        }
        _ => Change::keep(),
    }
}

impl Change {
    /// A request for a step changes nothing when there was one already; what else was changed is to be written all the same.
    fn written(self) -> Change {
        Change::write(self.effects)
    }
}

fn start(integration: &mut Integration, now: Millis, rules: &Rules) -> Change {
    let reason = match integration.is_start_afresh(now) {
        true => format!(
            "Started via API. It had been stopped for more than {} days: only events from now on are sent.",
            CATCH_UP.as_secs() / (24 * 3600)
        ),
        false => started(integration.owes_from(now), rules.oldest(now)),
    };
    if !integration.start(now) {
        return Change::keep();
    }
    let entries = vec![Effect::Log(Action::IntegrationStarted, reason)];
    match integration.stream_mut() {
        Some(stream) => ask(stream, now, entries).written(),
        None => Change::write(entries),
    }
}

fn stop(integration: &mut Integration, reason: String, now: Millis, rules: &Rules) -> Change {
    if !integration.stop(now, rules.seal) {
        return Change::keep();
    }
    Change::write(vec![Effect::Log(Action::IntegrationStopped, reason)])
}

fn resumed(reason: &str) -> Effect {
    Effect::Log(Action::DeliveryResumed, reason.to_owned())
}

/// Asks for a step of replay.
fn ask(stream: &mut Stream, now: Millis, effects: Vec<Effect>) -> Change {
    let asked = stream.duty.ask(now);
    request(stream, asked, Duration::ZERO, effects)
}

fn request(stream: &Stream, asked: Asked, delay: Duration, mut effects: Vec<Effect>) -> Change {
    if asked == Asked::Send {
        let turn = stream.duty.turn;
        effects.push(Effect::SendStep { turn, delay });
    }
    match asked {
        Asked::Already => Change {
            verdict: Verdict::Keep,
            effects,
        },
        Asked::Nudged | Asked::Send => Change::write(effects),
    }
}

/// Goes on after a failure was counted: gives up, interrupts, or sees to the next probe.
fn failed(
    integration: &mut Integration,
    reason: String,
    pause: Duration,
    now: Millis,
    rules: &Rules,
) -> Change {
    let mut effects = vec![Effect::Log(Action::RetryTriggered, reason)];
    let Some(stream) = integration.stream_mut() else {
        return Change::keep();
    };
    if stream.health.is_hopeless(now, rules.give_up) {
        let since = stream.health.failing_since.unwrap_or(now);
        let reason = format!(
            "Stopped automatically: every request since {since} has failed. Nothing is lost: what has been missed is sent when it is started again within {} days.",
            CATCH_UP.as_secs() / (24 * 3600)
        );
        effects.extend(stop(integration, reason, now, rules).effects);
        return Change::write(effects);
    }
    if stream.health.interruption.is_none() {
        if !stream.health.is_down(now) {
            return Change::write(effects);
        }
        stream.health.interruption = Some(Interruption {
            since: now,
            probes: 0,
            cursor: None,
            next_probe_at: now.after(pause),
        });
        stream.pause(now, rules.seal);
        let failures = stream.health.failures;
        effects.push(Effect::Log(
            Action::DeliveryInterrupted,
            format!("The last {failures} requests have failed: events wait, and the receiver is tried again from time to time."),
        ));
    }
    let asked = stream.duty.postpone(now, now.after(pause));
    request(stream, asked, pause, effects).written()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integration::tests::webhook;

    const RULES: Rules = Rules {
        seal: Duration::from_secs(10),
        give_up: Duration::from_secs(5 * 24 * 3600),
        retention: Duration::from_secs(90 * 24 * 3600),
    };

    fn at(seconds: u64) -> Millis {
        Millis(1_000_000_000).after(Duration::from_secs(seconds))
    }

    /// A webhook whose first step has come and gone.
    fn settled() -> Integration {
        let mut integration = webhook(at(0));
        let stream = integration.stream_mut().unwrap();
        stream.resume(at(0), RULES.seal);
        stream.confirm();
        stream.owed.clear();
        stream.duty.leave(None);
        integration
    }

    fn failed(integration: &mut Integration, event: &str, now: Millis) -> Change {
        let input = Input::Failed {
            epoch: integration.stream().unwrap().epoch,
            event_id: event.to_owned(),
            reason: "no".to_owned(),
            pause: Duration::from_secs(5),
        };
        apply(integration, &input, now, &RULES)
    }

    fn actions(change: &Change) -> Vec<Action> {
        let action = |effect: &Effect| match effect {
            Effect::Log(action, _) => Some(*action),
            Effect::SendStep { .. } => None,
        };
        change.effects.iter().filter_map(action).collect()
    }

    #[test]
    fn what_is_so_already_is_not_written_again() {
        let mut integration = settled();
        let stop = Input::Stop {
            reason: "Stopped via API.".to_owned(),
        };
        for (input, verdict) in [
            (&Input::Start, Verdict::Keep),
            (&stop, Verdict::Write),
            (&stop, Verdict::Keep),
            (&Input::Parked, Verdict::Keep),
            (&Input::Succeeded { epoch: 0 }, Verdict::Keep),
            (&Input::Start, Verdict::Write),
            (&Input::Start, Verdict::Keep),
            // A step was asked for by the start already.
            (&Input::Parked, Verdict::Keep),
        ] {
            let change = apply(&mut integration, input, at(100), &RULES);
            assert_eq!(change.verdict, verdict, "{input:?}");
        }
    }

    #[test]
    fn an_outage_opens_a_gap_and_the_first_success_asks_for_a_step() {
        let mut integration = settled();
        for n in 0..4 {
            let change = failed(&mut integration, &n.to_string(), at(97));
            assert_eq!(actions(&change), [Action::RetryTriggered]);
        }
        let change = failed(&mut integration, "4", at(100));
        let told = [Action::RetryTriggered, Action::DeliveryInterrupted];
        assert_eq!(actions(&change), told);
        let stream = integration.stream().unwrap();
        assert!(stream.is_interrupted() && stream.is_live(at(109)) && !stream.is_live(at(110)));
        assert_eq!(stream.duty.wake_at, Some(at(105)));
        // What is under way still counts for nothing now.
        assert_eq!(
            failed(&mut integration, "5", at(101)).verdict,
            Verdict::Keep
        );
        let other = Input::ProbeSucceeded { since: at(99) };
        assert_eq!(
            apply(&mut integration, &other, at(120), &RULES).verdict,
            Verdict::Keep
        );
        let success = Input::ProbeSucceeded { since: at(100) };
        let change = apply(&mut integration, &success, at(130), &RULES);
        assert_eq!(actions(&change), [Action::DeliveryResumed]);
        assert!(matches!(
            change.effects[1],
            Effect::SendStep {
                delay: Duration::ZERO,
                ..
            }
        ));
    }

    #[test]
    fn a_result_counts_for_the_start_that_its_attempt_was_made_for() {
        let mut integration = settled();
        let stop = Input::Stop {
            reason: "Stopped via API.".to_owned(),
        };
        let gone = |epoch| Input::Gone {
            epoch,
            reason: "gone".to_owned(),
        };
        let failed = |epoch| Input::Failed {
            epoch,
            event_id: "1".to_owned(),
            reason: "no".to_owned(),
            pause: Duration::from_secs(5),
        };
        apply(&mut integration, &stop, at(100), &RULES);
        apply(&mut integration, &Input::Start, at(101), &RULES);
        for (input, verdict) in [
            (gone(0), Verdict::Keep),
            (failed(0), Verdict::Keep),
            (Input::Succeeded { epoch: 0 }, Verdict::Keep),
            (Input::Succeeded { epoch: 1 }, Verdict::Write),
            (failed(1), Verdict::Write),
            // The first start's success clears no failure of the second one's.
            (Input::Succeeded { epoch: 0 }, Verdict::Keep),
            (gone(1), Verdict::Write),
        ] {
            let change = apply(&mut integration, &input, at(102), &RULES);
            assert_eq!(change.verdict, verdict, "{input:?}");
        }
        assert!(!integration.is_running());
    }

    #[test]
    fn probes_are_sent_after_longer_and_longer_pauses() {
        let mut integration = settled();
        for n in 96..101 {
            failed(&mut integration, &n.to_string(), at(n));
        }
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let stream = integration.stream_mut().unwrap();
            stream.health.interruption.as_mut().unwrap().probes += 1;
            let failure = Input::ProbeFailed {
                since: at(100),
                reason: "no".to_owned(),
                retry_after: None,
                jitter: 0.0,
            };
            apply(&mut integration, &failure, at(200), &RULES);
            let next = integration.stream().unwrap().duty.wake_at.unwrap();
            pauses.push(next.since(at(200)).as_secs());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 900, 900]);
    }
}
