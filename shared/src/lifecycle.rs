//! The life of an integration: what each thing that happens to it changes, and what has to be done then.
//!
//! [`apply`] is pure. Whoever learns of something (the API, replay, delivery) reads the integration, applies the [`Input`],
//! writes the result on condition that nobody wrote in between, and then carries out the [`Effect`]s in their order. The
//! simulation does the same with the same function.

use std::time::Duration;

use ulid::Ulid;

use crate::clock::Millis;
use crate::duty::Asked;
use crate::health::Interruption;
use crate::history::Action;
use crate::integration::{CATCH_UP, Integration, IntegrationType};
use crate::retry;
use crate::stream::{Position, SEALS_BEHIND, Stream};
use crate::tasks::EventRef;

/// How often a temporary integration whose range is not over yet is looked at.
const FOLLOW_EVERY: Duration = Duration::from_secs(60);
/// When replay looks again at what is outstanding, should nobody wake it.
const WAIT_AT_MOST: Duration = Duration::from_secs(30);
/// When the next probe is sent, should nobody learn what became of this one.
const PROBE_LOST: Duration = Duration::from_secs(120);

/// What a deployment decides.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The seal of the event log.
    pub seal: Duration,
    /// For how long all attempts have to fail before an integration is stopped, or one event's before it is rejected.
    pub give_up: Duration,
}

impl Rules {
    /// The end of what is sealed at `now`.
    pub fn horizon(&self, now: Millis) -> Millis {
        now.before(self.seal * SEALS_BEHIND)
    }
}

/// Something that happened to an integration.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The API was told to start it.
    Start,
    /// The API was told to stop it, or the receiver said so.
    Stop {
        /// For the integration log.
        reason: String,
    },
    /// Delivery has parked an event.
    Parked,
    /// Delivery has settled the last event of a chunk.
    ChunkDone,
    /// The receiver has taken an event, or rejected it.
    Succeeded,
    /// An attempt has failed.
    Failed {
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
        Input::Start => return start(integration, now),
        Input::Stop { reason } => return stop(integration, reason.clone(), now, rules),
        Input::Step { turn, step } => return apply_step(integration, *turn, step, now, rules),
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
        Input::Succeeded if interruption.is_none() && stream.health.notes_success(now) => {
            stream.health.succeed(now);
            Change::write(Vec::new())
        }
        Input::ProbeSucceeded { since } if interruption.is_some_and(|it| it.since == *since) => {
            stream.health.succeed(now);
            let reason = "The receiver takes events again: what has been waiting is sent.";
            ask(stream, now, vec![resumed(reason)]).written()
        }
        Input::Failed {
            event_id,
            reason,
            pause,
        } if interruption.is_none() && stream.health.notes_failure(now) => {
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
            let pause = retry::pause(it.probes + 1, *retry_after, *jitter);
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

fn start(integration: &mut Integration, now: Millis) -> Change {
    let reason = match integration.is_start_afresh(now) {
        true => format!(
            "Started via API. It had been stopped for more than {} days: only events from now on are sent.",
            CATCH_UP.as_secs() / (24 * 3600)
        ),
        false => "Started via API.".to_owned(),
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
        if !stream.health.is_down() {
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

fn apply_step(
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
            if !running || stream.health.interruption.take().is_none() {
                return Change::refuse();
            }
            stream.health.failures = 0;
            stream.health.first_failed = None;
            stream.health.is_several = false;
            stream.health.next_attempt_at = None;
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
        let reason = format!(
            "Stopped automatically: every event before {end} has been delivered or rejected."
        );
        return stop(integration, reason, now, rules);
    };
    Change::write(vec![Effect::SendStep {
        turn: stream.duty.turn,
        delay: at.since(now),
    }])
}

/// When replay has to look at a stream again: at once while there is something to read, when the rest of what is owed is
/// sealed, every minute while a range goes on, or never.
fn next_look(stream: &Stream, now: Millis, rules: &Rules) -> Option<Millis> {
    if stream.readable(rules.horizon(now)).is_some() {
        return Some(now);
    }
    let owed = stream.owed.first()?;
    let sealed = owed.until.map_or(now.after(FOLLOW_EVERY), |until| {
        Millis(until.after(rules.seal * SEALS_BEHIND).0 + 1)
    });
    Some(sealed.min(now.after(FOLLOW_EVERY)).max(now))
}
