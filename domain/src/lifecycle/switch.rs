//! Starting and stopping.

use std::time::Duration;

use super::change::Decided;
use super::input::Rules;
use crate::integration::{CATCH_UP, Integration};
use crate::integration_log::{Action, started};
use crate::time::Millis;

/// Starts an integration because the API was asked to.
pub(super) fn start(integration: &mut Integration, now: Millis, rules: &Rules) -> Decided {
    let reason = match integration.is_start_afresh(now) {
        true => format!(
            "Started via API. It had been stopped for more than {} days: only events from now on are sent.",
            CATCH_UP.as_secs() / (24 * 3600)
        ),
        false => started(integration.owes_from(now), rules.oldest(now)),
    };
    if !integration.start(now) {
        return Decided::keep();
    }
    let started = Decided::write().log(Action::IntegrationStarted, reason);
    match integration.stream_mut() {
        Some(stream) => {
            let asked = stream.schedule.ask(now, now);
            started.ask(stream, asked, Duration::ZERO)
        }
        None => started,
    }
}

/// Stops an integration; `reason` is for its log.
pub(super) fn stop(
    integration: &mut Integration,
    reason: String,
    now: Millis,
    rules: &Rules,
) -> Decided {
    match integration.stop(now, rules.seal) {
        true => Decided::write().log(Action::IntegrationStopped, reason),
        false => Decided::keep(),
    }
}
