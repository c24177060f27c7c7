//! An integration as it is stored: its settings, and the state of its stream or export.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::export::Export;
use crate::filter::Filter;
use crate::secret::StoredSecret;
use crate::signing::Signing;
use crate::stream::Stream;
use crate::time::Millis;

/// How many integrations a tenant can have, temporary and stopped ones included (docs/api.md).
pub const MAX_INTEGRATIONS: usize = 25;

/// A restart within this time catches up on the gap; a later one starts afresh (docs/api.md).
pub const CATCH_UP: Duration = Duration::from_secs(30 * 24 * 3600);

/// How far behind a permanent integration is that counts as one that sends the past.
const REPLAY: Duration = Duration::from_secs(24 * 3600);

/// How long a request may be under way, and a little more (docs/api.md, Webhooks).
const EXCHANGE: Duration = Duration::from_millis(15_500);

/// Whether an integration registered at `now` sends what is long past: a temporary one, or one that begins more than a day ago.
pub fn is_replay(integration_type: IntegrationType, starts_at: Millis, now: Millis) -> bool {
    integration_type == IntegrationType::Temporary || now.since(starts_at) > REPLAY
}

/// An integration and the state of its stream or export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Integration {
    /// The tenant that owns it.
    pub tenant: String,
    /// The tenant's name for it: 1 to 50 characters of `[a-z0-9-]`.
    pub id: String,
    /// Made at registration. Tasks and child items carry it, so that nothing of a deleted integration touches a later one
    /// of the same id.
    pub generation: Ulid,
    /// Counts the writes of this item: each is made on condition that no other writer came in between.
    pub version: u64,
    /// Permanent or temporary.
    pub integration_type: IntegrationType,
    /// Where the events go.
    pub target: Target,
    /// The first instant from which events are sent.
    pub starts_at: Millis,
    /// The end of a temporary integration's range, itself excluded.
    pub ends_at: Option<Millis>,
    /// Which events are sent.
    pub filter: Option<Filter>,
    /// What the API was last asked for, or what the service decided.
    pub status: Status,
    /// When it was last stopped.
    pub stopped_at: Option<Millis>,
    /// Whether it is temporary, and all of its range has been sent: there is nothing left to start.
    #[serde(default)]
    pub is_finished: bool,
}

/// Whether the integration stays or ends with its range of dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntegrationType {
    /// Continues until it is stopped or deleted.
    Permanent,
    /// Replays one range of dates and stops by itself.
    Temporary,
}

/// Whether events are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Events are sent.
    Running,
    /// Nothing is sent; the event log keeps what is missed.
    Stopped,
}

/// Where events go, with the progress of that way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One POST per event.
    Webhook {
        /// The receiver.
        callback: Callback,
        /// What is live, what is owed.
        stream: Box<Stream>,
    },
    /// Files in the customer's bucket.
    S3 {
        /// Where files go.
        bucket: Bucket,
        /// How far files have been written.
        export: Box<Export>,
    },
}

/// `callback_parameters`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Callback {
    /// The receiver's address.
    pub callback_url: String,
    /// Sent as `Authorization: Bearer <api_key>`.
    pub api_key: Option<StoredSecret>,
    /// The most requests at a time, 1 to 1,000 (docs/api.md, Integrations).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// What webhooks are signed with; none where the integration is older than signatures, and has not been given a secret since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<Signing>,
    /// Headers of its own: values by names in lower case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, StoredSecret>,
}

/// `s3_parameters`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// What lets us write into it.
    #[serde(flatten)]
    pub access: Access,
    /// The bucket's region.
    pub aws_region: String,
    /// The bucket's name.
    pub bucket: String,
    /// The first part of every key, without slashes at its ends.
    pub key_prefix: Option<String>,
}

/// What lets us write into a customer's bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Access {
    /// An access key of the customer.
    Key {
        /// The access key.
        aws_access_key_id: String,
        /// Its secret key.
        aws_secret_access_key: StoredSecret,
    },
    /// A role of the customer's account.
    Role {
        /// The role.
        role_arn: String,
        /// With what it is assumed: made by us, one for each tenant, so that no one can have us assume a role that trusts
        /// us on behalf of another tenant (AWS calls that the confused deputy).
        external_id: String,
    },
}

impl Integration {
    /// Whether it may be sent anything at all.
    pub fn is_running(&self) -> bool {
        self.status == Status::Running
    }

    /// Whether its filter lets an event of this name pass.
    pub fn passes(&self, event_name: &str) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| filter.passes(event_name))
    }

    /// The state of a webhook's stream; none for an S3 integration.
    pub fn stream(&self) -> Option<&Stream> {
        match &self.target {
            Target::Webhook { stream, .. } => Some(stream),
            Target::S3 { .. } => None,
        }
    }

    /// As [`Integration::stream`], to change it.
    pub fn stream_mut(&mut self) -> Option<&mut Stream> {
        match &mut self.target {
            Target::Webhook { stream, .. } => Some(stream),
            Target::S3 { .. } => None,
        }
    }

    /// The state of an S3 export; none for a webhook.
    pub fn export_mut(&mut self) -> Option<&mut Export> {
        match &mut self.target {
            Target::S3 { export, .. } => Some(export),
            Target::Webhook { .. } => None,
        }
    }

    /// Whether ingest sends it an event at once, if it is a webhook. It goes by gaps, not by the status: a stopped
    /// integration is sent what lies before its gap, too, and delivery parks it. Its filter may change before it is started
    /// again, and that holds for everything not sent yet (docs/api.md, Integrations), so no filter leaves anything out then: a stop
    /// costs a task for each event of a seal.
    pub fn takes_live(&self, published_at: Millis, event_name: &str) -> bool {
        self.stream()
            .is_some_and(|stream| stream.is_live(published_at))
            && (!self.is_running() || self.passes(event_name))
    }

    /// The most requests at a time that its receiver is sent.
    pub fn max_in_flight(&self) -> Option<u32> {
        match &self.target {
            Target::Webhook { callback, .. } => callback.max_in_flight,
            Target::S3 { .. } => None,
        }
    }

    /// Whether its events may be sent as they arrive, once its stream has caught up: not those of a temporary one, and not while
    /// its receiver is down. Where requests at a time are limited, one sender has to send them all.
    pub fn may_go_live(&self) -> bool {
        self.is_running()
            && self.integration_type == IntegrationType::Permanent
            && self.max_in_flight().is_none()
            && self.stream().is_some_and(|stream| !stream.is_interrupted())
    }

    /// Starts it at `now`. `false` when it runs already, or has finished: nothing changes then.
    ///
    /// Within [`CATCH_UP`] of the stop it continues where it was; later, with what comes from now on.
    pub fn start(&mut self, now: Millis) -> bool {
        if self.is_running() || self.is_finished {
            return false;
        }
        let afresh = self.is_start_afresh(now);
        self.status = Status::Running;
        let stopped_at = self.stopped_at.take();
        match &mut self.target {
            Target::Webhook { stream, .. } if afresh => stream.restart(now),
            Target::Webhook { stream, .. } => stream.start(now),
            Target::S3 { export, .. } if afresh => export.restart(now),
            Target::S3 { export, .. } => export.resume(),
        }
        // What was sent as it arrived, before the limit was set, may be under way for that long.
        if let Target::Webhook { callback, stream } = &mut self.target
            && callback.max_in_flight.is_some()
        {
            stream.pace.hold_until = stopped_at.map(|at| at.after(EXCHANGE));
        }
        true
    }

    /// Whether it sends what is long past when it runs: it is temporary and not done, or more than a day of the event log waits
    /// for it. One that starts afresh leaves the past behind.
    pub fn would_replay(&self, now: Millis) -> bool {
        if self.is_finished || self.is_start_afresh(now) {
            return false;
        }
        let behind = match &self.target {
            Target::Webhook { stream, .. } => stream.backlog(now),
            Target::S3 { export, .. } => now.since(Millis(export.position.timestamp_ms())),
        };
        self.integration_type == IntegrationType::Temporary || behind > REPLAY
    }

    /// The first instant of which it has not been sent everything: `now` where nothing waits.
    pub fn owes_from(&self, now: Millis) -> Millis {
        let first = match &self.target {
            Target::Webhook { stream, .. } => stream.owed.first().map(|owed| owed.from.segment),
            Target::S3 { export, .. } => Some(export.position),
        };
        first.map_or(now, |place| Millis(place.timestamp_ms()))
    }

    /// Whether a start at `now` comes too late to catch up. A temporary integration's range is fixed: it always does.
    pub fn is_start_afresh(&self, now: Millis) -> bool {
        self.integration_type == IntegrationType::Permanent
            && self
                .stopped_at
                .is_some_and(|stopped_at| now.since(stopped_at) > CATCH_UP)
    }

    /// Stops it at `now`. `false` when it is stopped already: nothing changes then.
    pub fn stop(&mut self, now: Millis, seal: Duration) -> bool {
        if !self.is_running() {
            return false;
        }
        self.status = Status::Stopped;
        self.stopped_at = Some(now);
        if let Target::Webhook { stream, .. } = &mut self.target {
            stream.pause(now, seal);
            stream.health.stop();
        }
        true
    }
}

/// One generation of an integration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IntegrationRef {
    /// The tenant.
    pub tenant: String,
    /// The integration's id.
    pub integration_id: String,
    /// The integration's generation.
    pub generation: Ulid,
}

impl From<&Integration> for IntegrationRef {
    fn from(integration: &Integration) -> IntegrationRef {
        IntegrationRef {
            tenant: integration.tenant.clone(),
            integration_id: integration.id.clone(),
            generation: integration.generation,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn webhook(now: Millis) -> Integration {
        Integration {
            tenant: "acme".into(),
            id: "erp-1".into(),
            generation: Ulid::from_parts(now.0, 7),
            version: 1,
            integration_type: IntegrationType::Permanent,
            target: Target::Webhook {
                callback: Callback {
                    callback_url: "https://erp.example/".into(),
                    ..Callback::default()
                },
                stream: Box::new(Stream::registered(now, now, None)),
            },
            starts_at: now,
            ends_at: None,
            filter: None,
            status: Status::Running,
            stopped_at: None,
            is_finished: false,
        }
    }

    #[test]
    fn a_bucket_is_stored_with_a_key_or_a_role_in_the_same_fields_as_the_rest() {
        let key = r#"{"aws_access_key_id":"AKIA","aws_secret_access_key":{"cipher":"c","mask":"*"},"aws_region":"eu-west-1","bucket":"b","key_prefix":null}"#;
        let role = r#"{"role_arn":"arn:aws:iam::123456789012:role/r","external_id":"e","aws_region":"eu-west-1","bucket":"b","key_prefix":"p"}"#;
        for stored in [key, role] {
            let bucket: Bucket = serde_json::from_str(stored).unwrap();
            assert_eq!(serde_json::to_string(&bucket).unwrap(), stored);
        }
    }

    #[test]
    fn more_than_a_day_behind_is_a_replay() {
        let now = Millis(1_700_000_000_000);
        let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(24 * 3600));
        for (kind, starts_at, expected) in [
            (IntegrationType::Permanent, now, false),
            (IntegrationType::Permanent, now.before(day), false),
            (IntegrationType::Permanent, now.before(day + hour), true),
            (IntegrationType::Temporary, now.before(hour), true),
        ] {
            assert_eq!(is_replay(kind, starts_at, now), expected);
            let mut integration = webhook(starts_at);
            integration.integration_type = kind;
            assert_eq!(integration.would_replay(now), expected, "{kind:?}");
            integration.target = Target::S3 {
                bucket: Bucket {
                    access: Access::Role {
                        role_arn: "r".into(),
                        external_id: "e".into(),
                    },
                    aws_region: "eu-west-1".into(),
                    bucket: "b".into(),
                    key_prefix: None,
                },
                export: Box::new(Export::registered(starts_at)),
            };
            assert_eq!(integration.would_replay(now), expected, "{kind:?}, S3");
        }
        // Stopped for two days, of which all is owed; for more than 30, of which nothing is; and a replay that is done.
        let mut integration = webhook(now.before(day * 40));
        let stream = integration.stream_mut().unwrap();
        stream.owed.clear();
        stream.gaps.clear();
        integration.stop(now.before(day * 2), hour);
        assert!(integration.would_replay(now));
        assert!(!integration.would_replay(now.after(day * 29)));
        integration.integration_type = IntegrationType::Temporary;
        assert!(integration.would_replay(now.after(day * 29)));
        integration.is_finished = true;
        assert!(!integration.would_replay(now.after(day * 29)));
    }

    #[test]
    fn start_and_stop_are_idempotent() {
        let seal = Duration::from_secs(10);
        let mut integration = webhook(Millis(1_000_000));
        assert!(!integration.start(Millis(1_000_001)));
        assert!(integration.stop(Millis(1_000_002), seal));
        let stopped = integration.clone();
        assert!(!integration.stop(Millis(1_000_003), seal));
        assert_eq!(integration, stopped);
        assert!(integration.start(Millis(1_000_004)));
        assert!(integration.is_running());
    }

    #[test]
    fn a_restart_after_more_than_30_days_starts_afresh() {
        let seal = Duration::from_secs(10);
        let stop = Millis(1_000_000);
        let mut integration = webhook(stop);
        integration.stop(stop, seal);
        let in_time = stop.after(CATCH_UP);
        assert!(!integration.is_start_afresh(in_time));
        let late = Millis(in_time.0 + 1);
        assert!(integration.is_start_afresh(late));
        integration.start(late);
        assert_eq!(
            integration.stream().unwrap().owed[0].from.segment,
            late.first_id()
        );
    }
}
