//! What becomes of an event before and after an attempt. Pure: the handler and the simulation carry out the effects.

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
    /// Forget a parked event, unless it was parked anew.
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
        /// The start of the receiver's answer.
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
/// outstanding or parked, and that whoever opens the stream either finds it or is told.
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
mod tests {
    use super::*;
    use crate::integration::{Callback, IntegrationType, Status, Target};
    use crate::receiver::outcome::Failure;
    use crate::stream::Stream;

    const GIVE_UP: Duration = Duration::from_secs(5 * 24 * 3600);
    const RULES: Rules = Rules {
        seal: Duration::from_secs(10),
        give_up: GIVE_UP,
        retention: Duration::from_secs(90 * 24 * 3600),
    };

    fn at(hours: u64) -> Millis {
        Millis(1_700_000_000_000).after(Duration::from_secs(hours * 3600))
    }

    fn webhook() -> Integration {
        Integration {
            tenant: "acme".into(),
            id: "erp-1".into(),
            generation: Ulid(1),
            version: 1,
            integration_type: IntegrationType::Permanent,
            target: Target::Webhook {
                callback: Callback {
                    callback_url: "https://erp.example/".into(),
                    api_key: None,
                },
                stream: Box::new(Stream::registered(at(0), at(0), None)),
            },
            starts_at: at(0),
            ends_at: None,
            filter: None,
            status: Status::Running,
            stopped_at: None,
            is_finished: false,
        }
    }

    /// Whether an event that has failed since `failing_since`, and fails at hour 200, is given up.
    fn is_rejected(integration: &Integration, failing_since: Millis) -> bool {
        let dispatch = Dispatch {
            event: EventRef {
                segment: at(0).first_id(),
                index: 0,
                shard: 0,
            },
            event_id: "e".into(),
            name: "order.created".into(),
            attempt: 7,
            failing_since: Some(failing_since),
            origin: Origin::Live,
        };
        let attempt = Attempt {
            integration,
            dispatch: &dispatch,
            url: "https://erp.example/",
            body: "{}",
            now: at(200),
            rules: &RULES,
            jitter: 0.0,
            token: Ulid(2),
        };
        let failed = Outcome::Failed(Failure {
            reason: "no".into(),
            retry_after: None,
        });
        let effects = judge(&attempt, &failed);
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Reject { .. }))
    }

    #[test]
    fn an_event_is_given_up_after_days_of_its_own_in_which_another_one_was_taken() {
        // The hours of the last success and of the last start or resumption; whether it is given up that has failed since 50.
        for (last_success, resumed, expected) in [
            (Some(60), None, true),
            (Some(60), Some(40), true),
            (Some(190), Some(79), true),
            // Less than five days since it was started, or since an outage ended.
            (Some(190), Some(81), false),
            (Some(199), Some(150), false),
            // Nothing was taken since: the receiver is down, or was given up and has just been started again.
            (Some(50), None, false),
            (Some(49), Some(40), false),
            (None, None, false),
            (None, Some(60), false),
        ] {
            let mut integration = webhook();
            let health = &mut integration.stream_mut().unwrap().health;
            health.last_success_at = last_success.map(at);
            health.resumed_at = resumed.map(at);
            let case = format!("{last_success:?} {resumed:?}");
            assert_eq!(is_rejected(&integration, at(50)), expected, "{case}");
        }
        let mut integration = webhook();
        integration.stream_mut().unwrap().health.last_success_at = Some(at(190));
        assert!(!is_rejected(&integration, at(81)), "not five days yet");
    }
}
