//! The upload of a file, with the customer's own credentials and no others.

use aws_config::{Region, SdkConfig};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumAlgorithm;
use shared::export::Plan;
use shared::secrets::Secret;

/// Why a file is not in the bucket, or not known to be.
#[derive(Debug)]
pub struct Refusal {
    /// A sentence for the integration log.
    pub reason: String,
    /// Whether S3 refused it (status 4xx), so that it is not there; where S3 failed or did not answer, it may be.
    pub is_certain: bool,
}

/// Uploads a plan's file, in a single attempt: what comes after one that is in doubt would not be certain either.
///
/// The credentials are a static provider that replaces the function's own: a key that S3 refuses is refused, and nothing
/// falls back to what the function may do.
pub async fn put(
    config: &SdkConfig,
    access_key_id: &str,
    secret_key: &Secret,
    plan: &Plan,
    body: Vec<u8>,
) -> Result<(), Refusal> {
    let credentials = Credentials::new(access_key_id, secret_key.expose(), None, None, "customer");
    let config = aws_sdk_s3::config::Builder::from(config)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .region(Region::new(plan.region.clone()))
        .retry_config(RetryConfig::disabled())
        .build();
    let result = aws_sdk_s3::Client::from_conf(config)
        .put_object()
        .bucket(&plan.bucket)
        .key(&plan.key)
        .content_type("application/x-ndjson")
        .checksum_algorithm(ChecksumAlgorithm::Crc32)
        .body(ByteStream::from(body))
        .send()
        .await;
    result.map(drop).map_err(|error| {
        let status = error
            .raw_response()
            .map_or(0, |response| response.status().as_u16());
        let reason = format!(
            "Upload to s3://{}/{} failed. Reason: {}.",
            plan.bucket,
            plan.key,
            reason(&error)
        );
        Refusal {
            reason,
            is_certain: error.as_service_error().is_some() && (400..500).contains(&status),
        }
    })
}

fn reason<E: ProvideErrorMetadata>(error: &SdkError<E>) -> String {
    let Some(refusal) = error.as_service_error() else {
        let timed_out = matches!(error, SdkError::TimeoutError(_));
        return if timed_out {
            "S3 did not answer in time".to_owned()
        } else {
            "S3 could not be reached".to_owned()
        };
    };
    let status = error
        .raw_response()
        .map_or(0, |response| response.status().as_u16());
    match refusal.code().unwrap_or_default() {
        "AccessDenied" => {
            "access denied: the key needs the permission s3:PutObject for this object".to_owned()
        }
        "NoSuchBucket" => "there is no such bucket".to_owned(),
        "InvalidAccessKeyId" => "the aws_access_key_id does not exist".to_owned(),
        "SignatureDoesNotMatch" => {
            "the aws_secret_access_key does not belong to the aws_access_key_id".to_owned()
        }
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => {
            "the bucket is not in the given aws_region".to_owned()
        }
        "SlowDown" | "ServiceUnavailable" | "RequestLimitExceeded" => {
            "S3 asks to slow down".to_owned()
        }
        "" => format!("S3 answered with status {status}"),
        code => format!("S3 answered {code} (HTTP status code {status})"),
    }
}
