//! The queues through which live events go. What is in none of them has been carried out.

use shared::queue::{Queue, SendError};
use shared::services::Services;
use shared::telemetry::chain;

/// The queues of live events.
#[derive(Clone, Debug)]
pub struct LiveQueues {
    /// In the order in which an event goes through them.
    queues: [Queue; 4],
}

impl LiveQueues {
    /// Those that template.yaml names.
    pub fn new(services: &Services) -> LiveQueues {
        let names = [
            "INGEST_QUEUE_URL",
            "DELIVERY_QUEUE_URL",
            "INGEST_DEAD_LETTER_QUEUE_URL",
            "DELIVERY_DEAD_LETTER_QUEUE_URL",
        ];
        LiveQueues {
            queues: names.map(|name| services.queue(name)),
        }
    }

    /// Whether all of them are empty: one after another, so that an event that moves on in between is seen in the next one. `false`
    /// where that cannot be said.
    pub async fn are_empty(&self) -> bool {
        match self.look().await {
            Ok(are_empty) => are_empty,
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(error, "it is not known whether the queues are empty");
                false
            }
        }
    }

    async fn look(&self) -> Result<bool, SendError> {
        for queue in &self.queues {
            if !queue.is_empty().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
