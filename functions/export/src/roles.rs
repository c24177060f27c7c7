//! Roles of customers: assumed through STS for the upload of one file, and for nothing else.

use std::collections::HashSet;
use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sts::Client;
use aws_sdk_sts::config::Credentials;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::error::ProvideErrorMetadata;
use aws_sdk_sts::types;
use serde_json::json;
use shared::export::Plan;
use shared::telemetry::chain;
use uuid::Uuid;

use crate::upload::Refusal;

/// How long STS may take, its retries included.
const TIME_LIMIT: Duration = Duration::from_secs(15);
/// For how many seconds the credentials hold: as short as STS makes them, as long as the longest run of a function.
const VALID_SECONDS: i32 = 900;
/// How many roles are remembered that ask for the external id.
const MAX_KNOWN: usize = 10_000;

/// STS failed; or it refused for a reason that is none of the customer's.
#[derive(Debug, thiserror::Error)]
#[error("STS failed")]
pub struct RoleError(#[source] Box<dyn Error + Send + Sync>);

/// Assumes roles with the function's own credentials.
#[derive(Debug)]
pub struct Roles {
    client: Client,
    /// Roles that have been seen to refuse another external id.
    asking: Mutex<HashSet<String>>,
}

impl Roles {
    /// Roles through the STS of this configuration.
    pub fn new(config: &SdkConfig) -> Roles {
        let timeouts = TimeoutConfig::builder().operation_timeout(TIME_LIMIT);
        let config = aws_sdk_sts::config::Builder::from(config).timeout_config(timeouts.build());
        Roles {
            client: Client::from_conf(config.build()),
            asking: Mutex::default(),
        }
    }

    /// Credentials of a role that can do nothing but put objects beside that of a plan. A role that does not trust us is the
    /// customer's to mend, and so is one that would trust us with any external id: whoever knows its name could have us
    /// write into that bucket.
    ///
    /// # Errors
    /// [`RoleError`], where STS could not be asked.
    pub async fn assume(
        &self,
        role_arn: &str,
        external_id: &str,
        integration_id: &str,
        plan: &Plan,
    ) -> Result<Result<Credentials, Refusal>, RoleError> {
        let assume = |external_id| self.ask(role_arn, external_id, integration_id, plan);
        let Some(assumed) = assume(external_id.to_owned()).await? else {
            return Ok(Err(refusal(
                "the role cannot be assumed: it must exist, and its trust policy must let the principal of role_trust \
                 assume it with the external_id there",
            )));
        };
        if !self.asking().contains(role_arn) {
            if assume(Uuid::new_v4().to_string()).await?.is_some() {
                return Ok(Err(refusal(
                    "the role can be assumed without the external_id: its trust policy must compare sts:ExternalId with it, \
                     or others could have files written with this role",
                )));
            }
            let mut asking = self.asking();
            if asking.len() >= MAX_KNOWN {
                asking.clear();
            }
            asking.insert(role_arn.to_owned());
        }
        Ok(Ok(Credentials::new(
            assumed.access_key_id,
            assumed.secret_access_key,
            Some(assumed.session_token),
            None,
            "customer's role",
        )))
    }

    /// `None` where the role's account refuses.
    async fn ask(
        &self,
        role_arn: &str,
        external_id: String,
        integration_id: &str,
        plan: &Plan,
    ) -> Result<Option<types::Credentials>, RoleError> {
        let answer = self
            .client
            .assume_role()
            .role_arn(role_arn)
            .external_id(external_id)
            // At most 64 characters; shown in the CloudTrail of the role's account.
            .role_session_name(format!("event-stream-{integration_id}"))
            .duration_seconds(VALID_SECONDS)
            .policy(session_policy(role_arn, plan))
            .send()
            .await;
        let error = match answer {
            Ok(answer) => {
                let missing = || RoleError("the answer has no credentials".into());
                return answer.credentials.ok_or_else(missing).map(Some);
            }
            Err(error) => error,
        };
        if error.code() == Some("AccessDenied") {
            tracing::info!(error = chain(&error), "a role cannot be assumed");
            return Ok(None);
        }
        Err(RoleError(Box::new(error)))
    }

    /// What the lock guards is whole after every statement: a panic elsewhere does not spoil it.
    fn asking(&self) -> MutexGuard<'_, HashSet<String>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(reason: &str) -> Refusal {
    Refusal {
        reason: reason.to_owned(),
        // Nothing was asked of S3.
        is_certain: true,
    }
}

/// What a session may do, whatever the role may: put objects where those of the plan's bucket and prefix lie. At most 2,048
/// characters (AWS); characters that would mean something else in a policy are refused at registration.
fn session_policy(role_arn: &str, plan: &Plan) -> String {
    let partition = role_arn.split(':').nth(1).unwrap_or("aws");
    let folder = plan.key.rsplit_once('/').map_or("", |(folder, _)| folder);
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Action": "s3:PutObject",
            "Resource": format!("arn:{partition}:s3:::{}/{folder}/*", plan.bucket),
        }],
    });
    policy.to_string()
}

#[cfg(test)]
mod tests {
    use shared::clock::Millis;
    use shared::export::file_key;
    use ulid::Ulid;

    use super::*;

    fn plan(prefix: Option<&str>) -> Plan {
        let place = Millis(0).place();
        Plan {
            repeats_from: place,
            from: place,
            until: place,
            bucket: "sap-export".into(),
            region: "eu-west-1".into(),
            key: file_key(prefix, "acme", Ulid::from_parts(1, 2)),
            filter: None,
            size_bytes: 1,
            lines: 1,
            crc64: String::new(),
        }
    }

    #[test]
    fn a_session_may_put_objects_beside_the_plans_and_nothing_else() {
        let policy = |role: &str, prefix| session_policy(role, &plan(prefix));
        assert_eq!(
            policy("arn:aws:iam::123456789012:role/r", Some("exports/erp")),
            r#"{"Statement":[{"Action":"s3:PutObject","Effect":"Allow","Resource":"arn:aws:s3:::sap-export/exports/erp/acme/*"}],"Version":"2012-10-17"}"#
        );
        assert!(
            policy("arn:aws-cn:iam::123456789012:role/r", None)
                .contains(r#""arn:aws-cn:s3:::sap-export/acme/*""#)
        );
    }

    #[test]
    fn the_longest_policy_is_one_that_sts_takes() {
        let prefix = "p".repeat(512);
        assert!(session_policy("arn:aws-us-gov:iam::1:role/r", &plan(Some(&prefix))).len() < 1_000);
    }
}
