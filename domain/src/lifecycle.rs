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
pub use input::{
    Checkpoint, ExportInput, ExportRead, Input, Ran, RanFailed, Rest, Rules, StepInput,
};

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
mod tests;
