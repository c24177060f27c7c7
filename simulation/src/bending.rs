//! Bugs that change what is written or seen.

use std::time::Duration;

use domain::integration::Integration;
use domain::lifecycle::{Applied, Change, Checkpoint, Input, StepInput};
use domain::log::position::{EventRef, Position};
use domain::stream::Because;
use domain::stream::health::Interruption;
use domain::stream::waiting::StoredWaiting;
use domain::time::Millis;

use crate::mutant::Mutant;
use crate::requests::of;
use crate::work::{IntegrationRef, Process};
use crate::world::World;

impl World {
    /// Deletes what is stored of the events of these items.
    pub fn forget(&mut self, integration_ref: IntegrationRef, items: &[StoredWaiting]) {
        let events: Vec<EventRef> = items.iter().flat_map(|it| it.waiting.events()).collect();
        self.waiting.retain(|(generation, _), waiting| {
            *generation != integration_ref.1 || !waiting.events().any(|it| events.contains(&it))
        });
    }

    /// An input as it is applied, with a bug put in or not.
    pub fn bent_input(&mut self, process: &Process, mut input: Input) -> Input {
        if let Input::Step {
            step: StepInput::Begin { until, .. },
            ..
        } = &mut input
            && self.mutant == Some(Mutant::LateAttempts)
        {
            *until = self.local(process).after(Duration::from_secs(10));
        }
        let highest = self.highest.get(&of(process).1).copied();
        if let Input::Step {
            step: StepInput::Checkpoint(checkpoint),
            ..
        } = &mut input
        {
            let Checkpoint { from, to, sent, .. } = &mut **checkpoint;
            match self.mutant {
                Some(Mutant::HighestPosition) if from.is_some() => {
                    let highest = highest.map_or(*to, |event| Position {
                        segment: event.segment,
                        index: event.index + 1,
                    });
                    *to = highest.max(*to);
                    *sent = *to;
                }
                _ => {}
            }
        }
        input
    }

    /// What is written of a checkpoint, with a bug put in or not.
    pub fn bend_change(
        &self,
        before: &Integration,
        input: &Input,
        change: &mut Change,
        local: Millis,
    ) {
        let Input::Step {
            step: StepInput::Checkpoint(checkpoint),
            ..
        } = input
        else {
            return;
        };
        let was_live = before.stream().is_some_and(|it| it.served().is_none());
        let next = change.next.as_mut().filter(|it| it.is_running());
        let Some(stream) = next.and_then(Integration::stream_mut) else {
            return;
        };
        match self.mutant {
            Some(Mutant::HealthOverwritten) => stream.health = checkpoint.health.clone(),
            // As though nobody else had sent anything.
            Some(Mutant::OwnAttemptsJudged) if was_live => {
                let Some(failed) = &checkpoint.ran.failed else {
                    return;
                };
                stream.health.failures += 1;
                let since = *stream.health.several_since.get_or_insert(local);
                if stream.health.failures >= 3 && local.since(since) >= Duration::from_secs(3) {
                    stream.health.interruption = Some(Interruption {
                        since: local,
                        probes: 0,
                        cursor: None,
                        next_probe_at: failed.since.after(Duration::from_secs(3)).max(local),
                        is_refused: false,
                    });
                    stream.serve(Because::Down, local, self.rules.seal);
                }
            }
            _ => {}
        }
    }

    /// What a run gets to see, with a bug put in or not.
    pub fn bent_look(&self, mut integration: Integration) -> Integration {
        if self.mutant == Some(Mutant::ServedPosted)
            && let Some(stream) = integration.stream_mut()
        {
            stream.gaps.retain(|gap| gap.until.is_some());
        }
        integration
    }

    /// What a step gets to see, with a bug put in or not.
    pub fn bent(&self, mut applied: Applied, local: Millis) -> Applied {
        if self.mutant == Some(Mutant::UnconfirmedEnds) {
            applied.decided_at = local;
        }
        let Some(stream) = applied.integration.stream_mut() else {
            return applied;
        };
        match self.mutant {
            Some(Mutant::ProbesWaitingOnly) => {
                if let Some(it) = &mut stream.health.interruption {
                    it.probes &= !1;
                    it.is_refused = true;
                }
            }
            Some(Mutant::AloneUnproven) if stream.health.failing_since.is_some() => {
                stream.health.last_success_at = Some(local);
                (stream.health.started_at, stream.health.resumed_at) = (None, None);
            }
            Some(Mutant::HoldForgotten) => stream.pace.hold_until = None,
            Some(Mutant::PauseUnbounded) if stream.pace.hold_until > Some(local) => {
                stream.pace.hold_until = Some(local.after(Duration::from_secs(24 * 3600)));
            }
            Some(Mutant::PauseUnbounded) => {
                if let Some(it) = &mut stream.health.interruption {
                    it.next_probe_at = local.after(Duration::from_secs(24 * 3600));
                }
            }
            _ => {}
        }
        applied
    }
}
