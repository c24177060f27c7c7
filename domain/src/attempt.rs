//! Decides whether an event is sent to its receiver, and what follows the attempt. The handler and the simulation carry it out.

use std::time::Duration;

use ulid::Ulid;

use crate::backoff;
use crate::integration::Integration;
use crate::integration_log::request_failed;
use crate::lifecycle::{Input, Rules};
use crate::log::position::EventRef;
use crate::receiver::outcome::Outcome;
use crate::stream::chunk::Parked;
use crate::tasks::{Dispatch, Origin};
use crate::time::Millis;

/// Something to be carried out. Effects are carried out in their order; one that fails leaves those behind it undone, and the
/// message is handed out again.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Keep the event until replay sends it again.
    Park(Parked),
    /// Forget a parked event, unless it was parked again.
    Unpark {
        /// The event.
        event: EventRef,
        /// The token that was read.
        token: Ulid,
    },
    /// Take note that an event of a chunk is done with. When it was the last one, [`Input::ChunkDone`] is to be applied.
    Settle {
        /// The chunk.
        chunk: Ulid,
        /// The event's number in it.
        index: u32,
    },
    /// Send the event again, later.
    Retry {
        /// The next attempt.
        dispatch: Dispatch,
        /// The pause before it.
        delay: Duration,
    },
    /// Keep the event among the rejected ones, with an entry of the integration log.
    Reject {
        /// For the integration log.
        reason: String,
        /// The start of the receiver's response.
        answer: String,
    },
    /// Apply an input to the integration, and carry out what comes of it.
    Apply(Input),
}

/// Whether an event is to be sent to the receiver now.
#[derive(Clone, Debug, PartialEq)]
pub enum Admission {
    /// It is.
    Post,
    /// It is not: this is to be done instead.
    Instead(Vec<Effect>),
}

/// Decides before an attempt, on the integration as it was read right now. `token` is a new ULID.
pub fn admit(integration: &Integration, dispatch: &Dispatch, token: Ulid) -> Admission {
    let Some(stream) = integration.stream() else {
        return Admission::Instead(Vec::new());
    };
    let (running, interruption) = (integration.is_running(), stream.health.interruption);
    if let Origin::Probe { since, .. } = dispatch.origin {
        // A probe's event is parked: nothing is lost where a late probe is dropped.
        return match running && interruption.is_some_and(|it| it.since == since) {
            true => Admission::Post,
            false => Admission::Instead(Vec::new()),
        };
    }
    // From before a restart that came too late to catch up, or a repeat of what a finished integration has been sent.
    if dispatch.event.segment < stream.floor.first_id() || integration.is_finished {
        return Admission::Instead(settle(dispatch));
    }
    // Parked first, filtered when it is sent: the filter may change again while the integration is stopped.
    if !running || interruption.is_some() {
        return Admission::Instead(park(dispatch, token, running));
    }
    if !integration.passes(&dispatch.name) {
        return Admission::Instead(settle(dispatch));
    }
    Admission::Post
}

/// What an attempt is judged with.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The integration as it was read before the attempt.
    pub integration: &'a Integration,
    /// Which event, and which attempt.
    pub dispatch: &'a Dispatch,
    /// The receiver's address.
    pub url: &'a str,
    /// The envelope.
    pub body: &'a str,
    /// When the attempt has ended.
    pub now: Millis,
    /// What the deployment decides.
    pub rules: &'a Rules,
    /// In `0.0..1.0`.
    pub jitter: f64,
    /// A new ULID.
    pub token: Ulid,
}

/// Decides after an attempt.
pub fn judge(attempt: &Attempt<'_>, outcome: &Outcome) -> Vec<Effect> {
    let Attempt {
        integration,
        dispatch,
        ..
    } = *attempt;
    let probe = match dispatch.origin {
        Origin::Probe { since, token } => Some((since, token)),
        Origin::Live | Origin::Chunk { .. } => None,
    };
    match outcome {
        Outcome::Delivered => accepted(attempt),
        Outcome::Rejected(answer) => {
            let mut effects = vec![Effect::Reject {
                reason: failure(attempt, "bad request (HTTP status code 400)"),
                answer: answer.clone(),
            }];
            effects.extend(accepted(attempt));
            effects
        }
        Outcome::Gone => {
            let reason = "gone (HTTP status code 410), so the integration was stopped";
            let mut effects = vec![Effect::Apply(Input::Gone {
                epoch: epoch(integration),
                reason: failure(attempt, reason),
            })];
            if probe.is_none() {
                effects.extend(park(dispatch, attempt.token, false));
            }
            effects
        }
        Outcome::Failed(failed) => {
            if let Some((since, _)) = probe {
                return vec![Effect::Apply(Input::ProbeFailed {
                    since,
                    reason: failure(attempt, &failed.reason),
                    retry_after: failed.retry_after,
                    jitter: attempt.jitter,
                })];
            }
            let failing_since = dispatch.failing_since.unwrap_or(attempt.now);
            let pause = backoff::pause(dispatch.attempt, failed.retry_after, attempt.jitter);
            if is_given_up(attempt, failing_since) {
                let reason = format!(
                    "{}, after {} attempts since {failing_since}",
                    failed.reason, dispatch.attempt
                );
                let mut effects = vec![Effect::Reject {
                    reason: failure(attempt, &reason),
                    answer: failed.reason.clone(),
                }];
                effects.extend(settle(dispatch));
                return effects;
            }
            let next = Dispatch {
                attempt: dispatch.attempt.saturating_add(1),
                failing_since: Some(failing_since),
                ..dispatch.clone()
            };
            vec![
                Effect::Retry {
                    dispatch: next,
                    delay: pause,
                },
                Effect::Apply(Input::Failed {
                    epoch: epoch(integration),
                    event_id: dispatch.event_id.clone(),
                    reason: failure(attempt, &failed.reason),
                    pause,
                }),
            ]
        }
    }
}

/// The receiver has taken the event, or will never take it.
fn accepted(attempt: &Attempt<'_>) -> Vec<Effect> {
    let dispatch = attempt.dispatch;
    if let Origin::Probe { since, token } = dispatch.origin {
        let event = dispatch.event;
        return vec![
            Effect::Unpark { event, token },
            Effect::Apply(Input::ProbeSucceeded { since }),
        ];
    }
    let mut effects = settle(dispatch);
    let is_noted = attempt
        .integration
        .stream()
        .is_some_and(|stream| stream.health.notes_success(attempt.now));
    if is_noted {
        let epoch = epoch(attempt.integration);
        effects.push(Effect::Apply(Input::Succeeded { epoch }));
    }
    effects
}

/// The start for which an attempt was made.
fn epoch(integration: &Integration) -> u64 {
    integration.stream().map_or(0, |stream| stream.epoch)
}

/// Whether it is this event that the receiver does not take, for too long by now: it has taken another one since this one
/// began to fail. Time before the last start, or before the end of the last interruption, is not the event's.
fn is_given_up(attempt: &Attempt<'_>, failing_since: Millis) -> bool {
    attempt.integration.stream().is_some_and(|stream| {
        let since = stream.health.resumed_at.max(Some(failing_since));
        stream.health.last_success_at > Some(failing_since)
            && since.is_some_and(|since| attempt.now.since(since) >= attempt.rules.give_up)
    })
}

fn settle(dispatch: &Dispatch) -> Vec<Effect> {
    match dispatch.origin {
        Origin::Chunk { chunk, index } => vec![Effect::Settle { chunk, index }],
        Origin::Live | Origin::Probe { .. } => Vec::new(),
    }
}

/// Parks an event, then settles it, then looks whether it may be sent by now: in this order, so that it is always either
/// outstanding or parked, and that a caller that opens the stream either finds it or is asked for a step.
fn park(dispatch: &Dispatch, token: Ulid, running: bool) -> Vec<Effect> {
    let parked = Parked {
        event: dispatch.event,
        token,
        // Time that the integration is stopped does not count as time that the event failed.
        attempt: if running { dispatch.attempt } else { 1 },
        failing_since: dispatch.failing_since.filter(|_| running),
    };
    let mut effects = vec![Effect::Park(parked)];
    effects.extend(settle(dispatch));
    effects.push(Effect::Apply(Input::Parked));
    effects
}

fn failure(attempt: &Attempt<'_>, reason: &str) -> String {
    request_failed(attempt.url, reason, attempt.body)
}

#[cfg(test)]
mod tests;
