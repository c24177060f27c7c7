//! An integration whose lease this run holds. All its changes go through [`domain::lifecycle::apply`].

use std::time::Duration;

use domain::export::{Export, Range};
use domain::integration::{Bucket, Integration, IntegrationRef, Target};
use domain::lifecycle::{ExportInput, Input, Verdict};
use domain::time::Millis;
use ulid::Ulid;

use crate::{App, ExportError};

/// A position at which nothing is new moves only when it is this old: an idle integration costs two reads a tick, and no write.
const IDLE: Duration = Duration::from_secs(3600);

/// An integration, as it was last read or written, and the run that changes it.
pub struct Held<'a> {
    pub app: &'a App,
    /// The name under which the run holds the lease.
    pub holder: Ulid,
    pub integration: Integration,
}

impl Held<'_> {
    /// Applies what the run does. `false` when nothing was written: the run does not hold the lease, or the integration is gone
    /// or not as the run has read it.
    pub async fn apply(&mut self, run: ExportInput) -> Result<bool, ExportError> {
        let App {
            integrations,
            clock,
            rules,
            ..
        } = self.app;
        let integration_ref = IntegrationRef::from(&self.integration);
        let holder = self.holder;
        let run = Box::new(run);
        let input = Input::Export { holder, run };
        // An export needs no step of replay.
        let applied = integrations.apply(&integration_ref, &input, clock, rules);
        let Some((applied, _)) = applied.await? else {
            return Ok(false);
        };
        self.integration = applied.integration;
        Ok(applied.verdict == Verdict::Write)
    }

    /// The bucket, and how far files have been written to it; none of a webhook integration.
    pub fn target(&self) -> Option<(&Bucket, &Export)> {
        target(&self.integration)
    }
}

/// The bucket of an integration, and how far files have been written to it; none of a webhook integration.
pub fn target(integration: &Integration) -> Option<(&Bucket, &Export)> {
    match &integration.target {
        Target::S3 { bucket, export } => Some((bucket, export)),
        Target::Webhook { .. } => None,
    }
}

/// What the next file of an integration is made of.
pub fn next_range(
    app: &App,
    integration: &Integration,
    export: &Export,
    horizon: Millis,
) -> Option<Range> {
    export.next_range(integration.ends_at, horizon, app.event_log.oldest())
}

/// Whether a position at which nothing is new is to be moved on.
pub fn is_old(app: &App, position: Ulid) -> bool {
    app.clock.now().since(Millis(position.timestamp_ms())) > IDLE
}
