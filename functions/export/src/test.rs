//! Tests of buckets, on request.

use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::calls::{TestBucket, Verdict};
use domain::event::sample;
use domain::export::{Plan, test_key};
use domain::exporting::crc64;
use uuid::Uuid;

use crate::grant::granted;
use crate::roles::Granted;
use crate::{App, ExportError, upload};

/// How long the upload may take: the API waits for 25 s, of which STS may take some.
const TIME_LIMIT: Duration = Duration::from_secs(8);

/// Puts an object with a sample event into a bucket, and says what came of it. Nothing else is written.
///
/// # Errors
/// When a secret cannot be decrypted, or STS fails.
pub async fn test(app: &App, asked: &TestBucket) -> Result<Verdict, ExportError> {
    let TestBucket {
        tenant,
        integration_id,
        bucket,
        name,
    } = asked;
    let (now, id) = (app.clock.now(), app.clock.ulid());
    let line = sample(tenant, name, now) + "\n";
    let plan = Plan {
        repeats_from: id,
        from: id,
        until: id,
        bucket: bucket.bucket.clone(),
        region: bucket.aws_region.clone(),
        key: test_key(bucket.key_prefix.as_deref(), tenant, id),
        filter: None,
        size_bytes: line.len() as u64,
        lines: 1,
        crc64: crc64(line.as_bytes()),
    };
    let began = Instant::now();
    let uploaded = match granted(app, tenant, integration_id, bucket, &plan).await? {
        Granted::Credentials(credentials) => {
            let body = Bytes::from(line);
            upload::put(&app.sdk_config, credentials, &plan, body, TIME_LIMIT).await
        }
        Granted::Refused(refusal) => Err(refusal),
    };
    let latency_ms = began.elapsed().as_millis() as u64;
    let reason = uploaded.err().map(|refusal| refusal.reason);
    tracing::info!(
        tenant,
        integration = integration_id,
        key = plan.key,
        reason,
        latency_ms,
        "tested"
    );
    Ok(Verdict {
        event_id: Uuid::new_v4().to_string(),
        reason,
        status_code: None,
        latency_ms,
        response: None,
        tls_version: None,
        certificate_expires_at: None,
        key: Some(plan.key),
    })
}
