//! Roles of customers: assumed through STS for the upload of one file, and for nothing else.

use std::collections::HashSet;
use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sts::config::Credentials;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::error::ProvideErrorMetadata;
use aws_sdk_sts::{Client, types};
use domain::export::Plan;
use domain::exporting::Refusal;
use serde_json::json;
use uuid::Uuid;

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
    /// Roles, with the external id that they take, that have been seen to refuse another one.
    asking: Mutex<HashSet<(String, String)>>,
}

/// What a file is uploaded with.
#[derive(Debug)]
pub enum Granted {
    /// These credentials.
    Credentials(Credentials),
    /// Nothing: the customer has to mend this first.
    Refused(Refusal),
}

/// What STS said.
enum Assumed {
    Credentials(types::Credentials),
    /// Why not, where that is the customer's to mend.
    Refused(&'static str),
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

    /// Credentials of a role that can do nothing but put objects next to that of a plan. A role that does not trust us is the
    /// customer's to mend, and so is one that would trust us with any external id: anyone who knows its name could have us
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
    ) -> Result<Granted, RoleError> {
        let assume = |external_id| self.ask(role_arn, external_id, integration_id, plan);
        let assumed = match assume(external_id.to_owned()).await? {
            Assumed::Credentials(assumed) => assumed,
            Assumed::Refused(reason) => {
                tracing::warn!(reason, "a customer's role cannot be assumed");
                return Ok(Granted::Refused(refusal(reason)));
            }
        };
        // For this external id: another tenant's would not have been let in where this one was.
        let pair = (role_arn.to_owned(), external_id.to_owned());
        if !self.asking().contains(&pair) {
            let without = assume(Uuid::new_v4().to_string()).await?;
            if matches!(without, Assumed::Credentials(_)) {
                return Ok(Granted::Refused(refusal(
                    "the role can be assumed without the external_id: its trust policy must compare sts:ExternalId with it, \
                     or others could have files written with this role",
                )));
            }
            let mut asking = self.asking();
            if asking.len() >= MAX_KNOWN {
                asking.clear();
            }
            asking.insert(pair);
        }
        Ok(Granted::Credentials(Credentials::new(
            assumed.access_key_id,
            assumed.secret_access_key,
            Some(assumed.session_token),
            None,
            "customer's role",
        )))
    }

    /// Credentials, or why there are none, where that is the customer's to mend.
    async fn ask(
        &self,
        role_arn: &str,
        external_id: String,
        integration_id: &str,
        plan: &Plan,
    ) -> Result<Assumed, RoleError> {
        let answer = self
            .client
            .assume_role()
            .role_arn(role_arn)
            .external_id(external_id)
            .role_session_name(session_name(integration_id))
            .duration_seconds(VALID_SECONDS)
            .policy(session_policy(role_arn, plan))
            .send()
            .await;
        let error = match answer {
            Ok(answer) => {
                let missing = || RoleError("the response has no credentials".into());
                let credentials = answer.credentials.ok_or_else(missing);
                return credentials.map(Assumed::Credentials);
            }
            Err(error) => error,
        };
        match error.code().and_then(refused) {
            Some(reason) => Ok(Assumed::Refused(reason)),
            None => Err(RoleError(Box::new(error))),
        }
    }

    /// What the lock guards is whole after every statement: a panic elsewhere does not spoil it.
    fn asking(&self) -> MutexGuard<'_, HashSet<(String, String)>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a code of STS's means to the customer; none where it is for us to mend, or passes.
fn refused(code: &str) -> Option<&'static str> {
    match code {
        "AccessDenied" => Some(
            "the role cannot be assumed: it must exist, and its trust policy must let the principal of role_trust assume it \
             with the external_id there",
        ),
        // It is the role's account that must have activated STS in our region.
        "RegionDisabledException" => Some(
            "the role cannot be assumed: its account has not activated STS for the region of this service",
        ),
        "ValidationError" | "MalformedPolicyDocument" | "PackedPolicyTooLarge" => Some(
            "the role cannot be assumed: STS does not accept this role_arn, or a session policy with this bucket and key_prefix",
        ),
        _ => None,
    }
}

fn refusal(reason: &str) -> Refusal {
    Refusal {
        reason: reason.to_owned(),
        // Nothing was asked of S3.
        is_certain: true,
    }
}

/// The name of a session, by which a key policy may know it: `event-stream-<integration_id>`, at most 64 characters.
fn session_name(integration_id: &str) -> String {
    format!("event-stream-{integration_id}")
}

/// What a session may do, whatever the role may: put objects where those of the plan's bucket and prefix lie. The plan may be
/// one of before there was a role, with any prefix: what would be a wildcard or a variable is written so that it is none, and
/// STS takes no characters beyond Latin-1 but in JSON's spelling.
fn session_policy(role_arn: &str, plan: &Plan) -> String {
    let partition = role_arn.split(':').nth(1).unwrap_or("aws");
    let folder = plan.key.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut literal = String::new();
    for character in folder.chars() {
        match character {
            '*' | '?' | '$' => literal.extend(["${", character.encode_utf8(&mut [0; 4]), "}"]),
            character => literal.push(character),
        }
    }
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Action": "s3:PutObject",
            "Resource": format!("arn:{partition}:s3:::{}/{literal}/*", plan.bucket),
        }],
    });
    let mut text = String::new();
    for character in policy.to_string().chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            let units = character.encode_utf16(&mut [0; 2]).to_vec();
            text.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use domain::export::file_key;
    use domain::time::Millis;
    use ulid::Ulid;

    use super::*;

    fn plan(prefix: Option<&str>) -> Plan {
        let place = Millis(0).first_id();
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
    fn what_means_something_in_a_policy_is_written_so_that_it_does_not() {
        let role = "arn:aws:iam::123456789012:role/r";
        let policy = session_policy(role, &plan(Some("a*/${b}?/\u{65e5}\u{1f600}\"")));
        assert!(
            policy.contains(r#"sap-export/a${*}/${$}{b}${?}/\u65e5\ud83d\ude00\"/acme/*""#),
            "{policy}"
        );
    }

    #[test]
    fn the_longest_policy_of_a_role_is_one_that_sts_takes() {
        let mut plan = plan(None);
        plan.bucket = "b".repeat(63);
        plan.key = file_key(
            Some(&"p".repeat(512)),
            &"t".repeat(63),
            Ulid::from_parts(1, 2),
        );
        let role = "arn:aws-us-gov:iam::123456789012:role/r";
        // AWS: at most 2,048 characters, and a packed size that it does not publish.
        assert!(session_policy(role, &plan).len() < 1_024);
        assert!(session_name(&"i".repeat(50)).len() <= 64);
    }

    #[test]
    fn only_what_the_customer_can_mend_is_told_to_the_customer() {
        for code in [
            "AccessDenied",
            "RegionDisabledException",
            "MalformedPolicyDocument",
        ] {
            assert!(refused(code).is_some(), "{code}");
        }
        for code in [
            "ThrottlingException",
            "ServiceUnavailable",
            "ExpiredToken",
            "InvalidClientTokenId",
        ] {
            assert_eq!(refused(code), None, "{code}");
        }
    }
}
