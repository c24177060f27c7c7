//! Clients, stores, queues and secrets, by the names that template.yaml gives.
//!
//! A function asks for what it needs and no more, since it only has the variables and the permissions for that.

use std::time::Duration;

use aws_config::SdkConfig;
use domain::integration::CATCH_UP;
use domain::lifecycle::Rules;

use crate::clock::Clock;
use crate::env::Environment;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::recent::Recent;
use crate::secrets::Secrets;
use crate::store::Table;
use crate::store::activities::Activities;
use crate::store::event_log::{EventLog, Settings};
use crate::store::exported_files::ExportedFiles;
use crate::store::fates::Fates;
use crate::store::integration_log::IntegrationLog;
use crate::store::integrations::Integrations;
use crate::store::rejected_events::RejectedEvents;
use crate::store::waiting_events::WaitingEvents;
use crate::trace::Tracer;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Makes stores, queues and secrets. Each panics where the variable that names it is not set: a function that is not
/// configured must not start.
#[derive(Debug)]
pub struct Services {
    /// The SDK's configuration, for the clients that one function alone needs.
    pub config: SdkConfig,
    /// The current time.
    pub clock: Clock,
    /// The function's variables.
    pub environment: Environment,
    /// What this process counts.
    pub metrics: Metrics,
    dynamodb: aws_sdk_dynamodb::Client,
    sqs: aws_sdk_sqs::Client,
}

impl Services {
    /// Those of this process, by the system's clock.
    pub fn from_env() -> Services {
        let config = crate::aws::config();
        Services::new(config, Environment::of_process(), Clock::system())
    }

    /// Those of an environment.
    pub fn new(config: SdkConfig, environment: Environment, clock: Clock) -> Services {
        Services {
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            sqs: aws_sdk_sqs::Client::new(&config),
            config,
            clock,
            metrics: Metrics::of(&environment),
            environment,
        }
    }

    /// The seal, from `SEAL_MILLIS`: how long after its millisecond a segment can still appear in the event log.
    pub fn seal(&self) -> Duration {
        Duration::from_millis(self.environment.parsed("SEAL_MILLIS"))
    }

    /// The time limit of one invocation, from `TIME_LIMIT_SECONDS`: what runs for long leaves the rest to the next invocation.
    pub fn time_limit(&self) -> Duration {
        Duration::from_secs(self.environment.parsed("TIME_LIMIT_SECONDS"))
    }

    /// What the deployment decides: `SEAL_MILLIS`; `GIVE_UP_DAYS`, after which a receiver that has only failed is given up;
    /// `RETENTION_DAYS`, for which events are kept.
    ///
    /// # Panics
    /// Where events are not kept for as long as an integration can need them.
    pub fn rules(&self) -> Rules {
        let rules = Rules {
            seal: self.seal(),
            give_up: DAY * self.environment.parsed::<u32>("GIVE_UP_DAYS"),
            retention: self.retention(),
        };
        if let Err(reason) = check(&rules) {
            panic!("{reason}");
        }
        rules
    }

    /// The event log: `EVENTS_TABLE`, `SEAL_MILLIS`, `RETENTION_DAYS`, `EVENT_LOG_SHARDS`.
    pub fn event_log(&self) -> EventLog {
        let settings = Settings {
            seal: self.seal(),
            retention: self.retention(),
            shards: self.environment.parsed("EVENT_LOG_SHARDS"),
        };
        EventLog::new(self.table("EVENTS_TABLE"), self.clock.clone(), settings)
    }

    /// The integrations, in `INTEGRATIONS_TABLE`.
    pub fn integrations(&self) -> Integrations {
        Integrations::new(self.table("INTEGRATIONS_TABLE"))
    }

    /// Their logs, in the same table.
    pub fn integration_log(&self) -> IntegrationLog {
        IntegrationLog::new(self.table("INTEGRATIONS_TABLE"))
    }

    /// Their rejected events, in the same table.
    pub fn rejected_events(&self) -> RejectedEvents {
        RejectedEvents::new(self.table("INTEGRATIONS_TABLE"))
    }

    /// The files of S3 integrations, in the same table.
    pub fn exported_files(&self) -> ExportedFiles {
        ExportedFiles::new(self.table("INTEGRATIONS_TABLE"))
    }

    /// What their receivers have been sent lately, in the same table.
    pub fn activities(&self) -> Activities {
        Activities::new(self.table("INTEGRATIONS_TABLE"))
    }

    /// What is noted of their events, in the same table: `RETENTION_DAYS`.
    pub fn fates(&self) -> Fates {
        Fates::new(self.table("INTEGRATIONS_TABLE"), self.retention())
    }

    /// Their waiting events, in the same table: `RETENTION_DAYS`.
    pub fn waiting_events(&self) -> WaitingEvents {
        WaitingEvents::new(self.table("INTEGRATIONS_TABLE"), self.retention())
    }

    /// Every change of an integration that may need a step of replay: `INTEGRATIONS_TABLE`, `REPLAY_QUEUE_URL`.
    pub fn lifecycle(&self) -> Lifecycle {
        Lifecycle {
            integrations: self.integrations(),
            replay_queue: self.queue("REPLAY_QUEUE_URL"),
            clock: self.clock.clone(),
            rules: self.rules(),
            metrics: self.metrics.clone(),
        }
    }

    /// Where segments of traces go.
    pub fn tracer(&self) -> Tracer {
        Tracer::new(&self.environment, self.clock.clone())
    }

    /// The integrations as they are read right before a request to a receiver.
    pub fn recent(&self) -> Recent {
        Recent::new(self.integrations(), self.secrets())
    }

    /// The secrets that callers have entrusted to us, under the key `SECRETS_KEY_ID`.
    pub fn secrets(&self) -> Secrets {
        let key = self.environment.required("SECRETS_KEY_ID").to_owned();
        let client = aws_sdk_kms::Client::new(&self.config);
        Secrets::new(client, key, self.clock.clone())
    }

    /// The queue whose URL is in this variable.
    pub fn queue(&self, variable: &str) -> Queue {
        let url = self.environment.required(variable).to_owned();
        Queue::new(self.sqs.clone(), url)
    }

    fn table(&self, variable: &str) -> Table {
        let name = self.environment.required(variable).to_owned();
        Table::new(self.dynamodb.clone(), name)
    }

    fn retention(&self) -> Duration {
        DAY * self.environment.parsed::<u32>("RETENTION_DAYS")
    }
}

/// Whether events are kept for as long as an integration can need them: its receiver may fail until it is given up, and it may be
/// started again until it would start afresh. What is gone by then would be left out without a word.
fn check(rules: &Rules) -> Result<(), String> {
    let needed = rules.give_up + CATCH_UP + DAY;
    if rules.retention >= needed {
        return Ok(());
    }
    let days = needed.as_secs() / DAY.as_secs();
    Err(format!(
        "RETENTION_DAYS is less than {days}: GIVE_UP_DAYS, and 31 more in which a stopped integration can catch up"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_kept_as_long_as_an_integration_can_need_them() {
        for (give_up, retention, is_accepted) in [
            (5, 90, true),
            (14, 45, true),
            (15, 45, false),
            (30, 61, true),
            (30, 60, false),
        ] {
            let rules = Rules {
                seal: Duration::from_secs(10),
                give_up: DAY * give_up,
                retention: DAY * retention,
            };
            assert_eq!(check(&rules).is_ok(), is_accepted, "{give_up} {retention}");
        }
    }
}
