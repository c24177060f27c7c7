//! Applies what happens to an integration: reads, decides, writes, and sends replay the step that is due. The only place that
//! does all of this.

use std::time::Duration;

use domain::integration::IntegrationRef;
use domain::integration_log::Action;
use domain::lifecycle::{Applied, Input, Rules};
use domain::metric::Metric;
use domain::tasks::{self, ReplayTask};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::store::StoreError;
use crate::store::integrations::Integrations;
use crate::telemetry::chain;

/// Applies inputs to integrations.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    /// The integrations.
    pub integrations: Integrations,
    /// Where steps of replay are sent.
    pub replay_queue: Queue,
    /// The current time.
    pub clock: Clock,
    /// What the deployment decides.
    pub rules: Rules,
    /// Where interruptions are counted.
    pub metrics: Metrics,
}

impl Lifecycle {
    /// Applies an input, writes what comes of it, and sends replay the step that is due. None when the integration
    /// is gone, or is one of another generation.
    ///
    /// # Errors
    /// Those of [`Integrations::apply`].
    pub async fn apply(
        &self,
        integration_ref: &IntegrationRef,
        input: &Input,
    ) -> Result<Option<Applied>, StoreError> {
        let Lifecycle {
            integrations,
            clock,
            rules,
            ..
        } = self;
        let applied = integrations.apply(integration_ref, input, clock, rules);
        let Some((applied, step)) = applied.await? else {
            return Ok(None);
        };
        for action in &applied.actions {
            match action {
                Action::DeliveryInterrupted => self.metrics.count(Metric::Interruptions, 1),
                Action::DeliveryResumed => self.metrics.count(Metric::Resumptions, 1),
                _ => {}
            }
        }
        if let Some(step) = step {
            let task = ReplayTask::Step {
                integration_ref: integration_ref.clone(),
                turn: step.turn,
            };
            self.send(&task, step.delay).await;
        }
        Ok(Some(applied))
    }

    /// Sends replay a task, to be received after `delay`. That it is due has been written down, and the sweep finds what was not
    /// sent a little later: a message that cannot be sent fails nothing, and one that is due later than SQS delays is not sent.
    pub async fn send(&self, task: &ReplayTask, delay: Duration) {
        if delay > tasks::LONGEST_DELAY {
            return;
        }
        let Ok(message) = tasks::message(task, delay) else {
            return;
        };
        if let Err(error) = self.replay_queue.send(vec![message]).await {
            tracing::warn!(error = chain(&error), "the sweep will send this task");
        }
    }
}
