//! The life of an integration: what each thing that happens to it changes, and what is to be done then.
//!
//! [`apply`] is pure. A function that learns of something reads the integration, applies the [`Input`], writes the [`Change`]
//! on condition that no other writer came in between, and sends replay the step that comes of it. The simulation does the
//! same with the same function.

mod attempt;
mod change;
mod export;
mod input;
mod step;
mod switch;

pub use change::{Applied, Change, StepRequest, Verdict};
pub use export::ended;
pub use input::{ExportInput, ExportRead, Input, Rest, Rules, StepInput};

use crate::integration::Integration;
use crate::time::Millis;

/// What comes of an input that arrives at `now`.
pub fn apply(integration: &Integration, input: &Input, now: Millis, rules: &Rules) -> Change {
    let mut next = integration.clone();
    let decided = match input {
        Input::Start => switch::start(&mut next, now, rules),
        Input::Stop { reason } => switch::stop(&mut next, reason.clone(), now, rules),
        Input::Step { turn, step } => step::apply(&mut next, *turn, step, now, rules),
        Input::Export { holder, run } => export::apply(&mut next, *holder, run, now, rules),
        _ => attempt::apply(&mut next, input, now, rules),
    };
    decided.into_change(next)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::integration::tests::webhook;
    use crate::integration_log::Action;

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
        stream.schedule.leave(None);
        integration
    }

    fn failed(integration: &mut Integration, event: &str, now: Millis) -> Change {
        let input = Input::Failed {
            epoch: integration.stream().unwrap().epoch,
            event_id: event.to_owned(),
            reason: "no".to_owned(),
            pause: Duration::from_secs(5),
        };
        carry_out(integration, &input, now)
    }

    /// Applies an input, and writes what comes of it.
    fn carry_out(integration: &mut Integration, input: &Input, now: Millis) -> Change {
        let change = apply(integration, input, now, &RULES);
        if let Some(next) = &change.next {
            *integration = next.clone();
        }
        change
    }

    fn actions(change: &Change) -> Vec<Action> {
        change.entries.iter().map(|(action, _)| *action).collect()
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
            let change = carry_out(&mut integration, input, at(100));
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
        let logged = [Action::RetryTriggered, Action::DeliveryInterrupted];
        assert_eq!(actions(&change), logged);
        let stream = integration.stream().unwrap();
        assert!(stream.is_interrupted() && stream.is_live(at(109)) && !stream.is_live(at(110)));
        assert_eq!(stream.schedule.wake_at, Some(at(105)));
        // What is under way still counts for nothing now.
        assert_eq!(
            failed(&mut integration, "5", at(101)).verdict,
            Verdict::Keep
        );
        let other = Input::ProbeSucceeded { since: at(99) };
        assert_eq!(
            carry_out(&mut integration, &other, at(120)).verdict,
            Verdict::Keep
        );
        let success = Input::ProbeSucceeded { since: at(100) };
        let change = carry_out(&mut integration, &success, at(130));
        assert_eq!(actions(&change), [Action::DeliveryResumed]);
        assert_eq!(change.step.unwrap().delay, Duration::ZERO);
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
        carry_out(&mut integration, &stop, at(100));
        carry_out(&mut integration, &Input::Start, at(101));
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
            let change = carry_out(&mut integration, &input, at(102));
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
            carry_out(&mut integration, &failure, at(200));
            let next = integration.stream().unwrap().schedule.wake_at.unwrap();
            pauses.push(next.since(at(200)).as_secs());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 900, 900]);
    }
}
