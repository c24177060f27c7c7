//! The upload of a file, with the customer's own credentials and no others.

use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_sdk_s3::config::StalledStreamProtectionConfig;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumAlgorithm;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use domain::export::Plan;
use domain::exporting::Refusal;
use shared::telemetry::chain;

/// How long a connection to S3 may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Uploads a plan's file, in a single attempt: what comes after one that is in doubt would not be certain either.
///
/// The object is created, never overwritten: where an earlier attempt of the same plan has stored it, that is a success, and
/// the bucket's owner sees no second version and no second notification.
///
/// The credentials are a static provider that replaces the function's own: a key that S3 refuses is refused, and nothing
/// falls back to what the function may do. It has a connection of its own: a kept one that S3 has closed would end the only attempt.
pub async fn put(
    config: &SdkConfig,
    credentials: Credentials,
    plan: &Plan,
    body: Bytes,
    time_limit: Duration,
) -> Result<(), Refusal> {
    // Only an emulator has an endpoint of its own, and only such a one may be reached without TLS.
    let is_encrypted = config
        .endpoint_url()
        .is_none_or(|endpoint| endpoint.starts_with("https:"));
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_timeout(time_limit);
    let config = aws_sdk_s3::config::Builder::from(config)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .region(Region::new(plan.region.clone()))
        .http_client(shared::aws::http_client())
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().build())
        .timeout_config(timeouts.build())
        .build();
    let put = aws_sdk_s3::Client::from_conf(config)
        .put_object()
        .bucket(&plan.bucket)
        .key(&plan.key)
        .if_none_match("*")
        .content_type("application/x-ndjson")
        // Named as well: a bucket with Object Lock asks for it.
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .set_checksum_crc64_nvme(checksum(&plan.crc64))
        .body(ByteStream::from(body))
        .customize();
    // Over TLS the body is not hashed for the signature, which would cost more than all the rest of the upload. Its CRC
    // is in a header that is signed, and S3 compares it: the one of the plan, so that no other is computed, and so that what has
    // changed in memory since is refused.
    let put = if is_encrypted {
        put.disable_payload_signing()
    } else {
        put
    };
    let Err(error) = put.send().await else {
        return Ok(());
    };
    let status = error
        .raw_response()
        .map_or(0, |response| response.status().as_u16());
    let refused = error.as_service_error().map(|refusal| {
        let (code, message) = (refusal.code(), refusal.message());
        (code.unwrap_or_default(), message.unwrap_or_default())
    });
    if status == 412 {
        return Ok(());
    }
    tracing::debug!(error = chain(&error), "an upload failed");
    Err(match refused {
        Some((code, message)) => refusal(code, message, status),
        None => Refusal {
            reason: unanswered(&error).to_owned(),
            is_certain: false,
        },
    })
}

/// The CRC-64/NVME of a plan as S3 takes it: base64 of its bytes, the highest first
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>). None of what is not hexadecimal:
/// the SDK computes one then.
fn checksum(crc64: &str) -> Option<String> {
    let crc64 = u64::from_str_radix(crc64, 16).ok()?;
    Some(BASE64_STANDARD.encode(crc64.to_be_bytes()))
}

fn unanswered<E>(error: &SdkError<E>) -> &'static str {
    match error {
        SdkError::TimeoutError(_) => "S3 did not respond in time",
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            "S3 could not be reached in time"
        }
        SdkError::ResponseError(_) => "S3 sent a response that cannot be read",
        _ => "S3 could not be reached",
    }
}

/// What S3's error code and HTTP status mean to the customer.
fn refusal(code: &str, message: &str, status: u16) -> Refusal {
    let reason = match (code, status) {
        // Since 2021, S3 says which kind of policy denies.
        ("AccessDenied", _) if message.contains("explicit deny in a resource-based policy") => {
            "access denied by the bucket's policy: does it demand headers, such as those of encryption? Use the bucket's default encryption instead"
                .to_owned()
        }
        // Of a bucket that is encrypted with a key of the customer's, the refusal is the key's.
        ("AccessDenied", _) if message.contains("kms:") => {
            "access denied by the KMS key of the bucket's encryption: key or role needs kms:GenerateDataKey on it, and the key's policy has to allow that"
                .to_owned()
        }
        ("AccessDenied", _) if message.contains("explicit deny") => {
            "access denied: a policy of your account denies s3:PutObject for this object".to_owned()
        }
        ("AccessDenied" | "AllAccessDisabled", _) => {
            "access denied: key or role needs the permission s3:PutObject for this object, and no policy of the bucket may deny it, such as one that demands headers of encryption"
                .to_owned()
        }
        (code, _) if code.starts_with("KMS.") => {
            "the KMS key of the bucket's encryption is disabled, deleted or in another region"
                .to_owned()
        }
        ("InvalidToken" | "ExpiredToken", _) => {
            "the session of the role has ended; the next attempt has a new one".to_owned()
        }
        ("NoSuchBucket", _) => "there is no such bucket".to_owned(),
        ("InvalidBucketName", _) => "S3 does not accept the name of the bucket".to_owned(),
        ("InvalidAccessKeyId", _) => "the aws_access_key_id does not exist".to_owned(),
        ("SignatureDoesNotMatch", _) => {
            "the aws_secret_access_key does not belong to the aws_access_key_id".to_owned()
        }
        ("BadDigest" | "XAmzContentSHA256Mismatch", _) => {
            "other bytes than those of the file reached S3; it is made again".to_owned()
        }
        ("RequestTimeTooSkewed", _) => "S3's clock and the service's differ too much".to_owned(),
        (
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException",
            _,
        )
        | (_, 300..400) => "the bucket is not in the given aws_region".to_owned(),
        ("SlowDown" | "ServiceUnavailable" | "RequestLimitExceeded" | "ThrottlingException", _)
        | (_, 429 | 503) => "S3 asks to slow down".to_owned(),
        ("RequestTimeout", _) => "S3 did not receive the file in time".to_owned(),
        ("", 403) => "access denied (HTTP status code 403)".to_owned(),
        ("", 404) => "there is no such bucket (HTTP status code 404)".to_owned(),
        ("", status) => format!("S3 responded with HTTP status code {status}"),
        (code, status) => format!("S3 responded {code} (HTTP status code {status})"),
    };
    Refusal {
        reason,
        // 409: another attempt to write the same object is under way.
        is_certain: (300..500).contains(&status) && status != 409,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        for (code, status, part, is_certain) in [
            ("AccessDenied", 403, "access denied", true),
            ("", 403, "access denied", true),
            ("NoSuchBucket", 404, "no such bucket", true),
            ("InvalidAccessKeyId", 403, "aws_access_key_id", true),
            ("SignatureDoesNotMatch", 403, "aws_secret_access_key", true),
            ("PermanentRedirect", 301, "aws_region", true),
            ("", 307, "aws_region", true),
            ("AuthorizationHeaderMalformed", 400, "aws_region", true),
            ("RequestTimeTooSkewed", 403, "clock", true),
            ("BadDigest", 400, "other bytes", true),
            (
                "QuotaExceeded",
                403,
                "QuotaExceeded (HTTP status code 403)",
                true,
            ),
            ("KMS.DisabledException", 400, "KMS key", true),
            ("KMS.NotFoundException", 400, "KMS key", true),
            ("ExpiredToken", 400, "session of the role", true),
            ("RequestTimeout", 400, "in time", true),
            ("SlowDown", 503, "slow down", false),
            ("", 429, "slow down", true),
            (
                "InternalError",
                500,
                "InternalError (HTTP status code 500)",
                false,
            ),
            ("", 502, "HTTP status code 502", false),
            ("ConditionalRequestConflict", 409, "Conflict", false),
        ] {
            let refusal = refusal(code, "", status);
            assert!(
                refusal.reason.contains(part),
                "{code} {status}: {refusal:?}"
            );
            assert_eq!(refusal.is_certain, is_certain, "{code} {status}");
        }
    }

    #[test]
    fn a_checksum_is_the_base64_of_eight_bytes() {
        // Of "123456789", as the catalogue of CRCs has it (<https://reveng.sourceforge.io/crc-catalogue/all.htm>).
        let stated = |crc64| checksum(crc64).unwrap();
        assert_eq!(stated("ae8b14860a799888"), "rosUhgp5mIg=");
        assert_eq!(stated("00000000000000ff"), "AAAAAAAAAP8=");
        assert_eq!(checksum(""), None);
    }

    #[test]
    fn what_s3_says_of_a_denial_names_the_policy() {
        for (message, part) in [
            (
                "User: u is not authorized to perform: kms:GenerateDataKey on resource: k because no identity-based policy allows the kms:GenerateDataKey action",
                "kms:GenerateDataKey",
            ),
            (
                "User: u is not authorized to perform: s3:PutObject on resource: r with an explicit deny in a resource-based policy",
                "bucket's policy",
            ),
            (
                "User: u is not authorized to perform: s3:PutObject on resource: r with an explicit deny in an identity-based policy",
                "policy of your account",
            ),
            ("Access Denied", "s3:PutObject"),
        ] {
            let refusal = refusal("AccessDenied", message, 403);
            assert!(refusal.reason.contains(part), "{message}: {refusal:?}");
        }
    }

    #[test]
    fn a_policy_of_the_bucket_that_denies_is_named() {
        let denied = "User: arn:aws:iam::1:user/u is not authorized to perform: s3:PutObject on resource: \"arn:aws:s3:::b/k\"";
        for (message, part) in [
            (
                format!("{denied} with an explicit deny in a resource-based policy"),
                "access denied by the bucket's policy",
            ),
            (
                format!("{denied} with an explicit deny in an identity-based policy"),
                "a policy of your account denies",
            ),
            (
                format!("{denied} because no identity-based policy allows the action"),
                "needs the permission s3:PutObject",
            ),
            (
                "Access Denied".to_owned(),
                "no policy of the bucket may deny it",
            ),
        ] {
            let refusal = refusal("AccessDenied", &message, 403);
            assert!(refusal.reason.contains(part), "{message}: {refusal:?}");
            assert!(refusal.is_certain);
        }
    }
}
