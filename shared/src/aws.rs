//! The AWS SDK's configuration, from the environment: on one machine `AWS_ENDPOINT_URL` points it at an emulator.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};

/// How long a connection to a service may take to be made.
const CONNECT: Duration = Duration::from_secs(2);
/// How long one attempt of a call may take, and how long its response may stay out: a kept connection whose other side has gone
/// says nothing. The slowest call that is no upload sends 1 MiB to SQS.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long a call may take with all its attempts.
const CALL: Duration = Duration::from_secs(15);

/// Loads the configuration; done once, at start-up. Without time-outs a call would hang until Lambda ends the invocation, and
/// what was done before it in the same batch would be done again. Uploads, calls of functions and readers of the event log
/// have time-outs of their own.
pub async fn config() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts(CONNECT, ATTEMPT, CALL))
        .load()
        .await
}

/// The time-outs of a client: for a connection, for an attempt, and for a call with all its attempts.
pub fn timeouts(connect: Duration, attempt: Duration, call: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(connect)
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt)
        .operation_timeout(call)
        .build()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use aws_sdk_dynamodb::config::{Credentials, Region};

    use super::*;

    #[tokio::test]
    async fn the_configuration_has_time_outs() {
        let config = config().await;
        let timeouts = config.timeout_config().unwrap();
        assert_eq!(timeouts.connect_timeout(), Some(CONNECT));
        assert_eq!(timeouts.read_timeout(), Some(ATTEMPT));
        assert_eq!(timeouts.operation_attempt_timeout(), Some(ATTEMPT));
        assert_eq!(timeouts.operation_timeout(), Some(CALL));
    }

    #[tokio::test]
    async fn a_service_that_never_answers_holds_up_no_call() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let short = Duration::from_millis(200);
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version_latest()
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("a", "b", None, None, "test"))
            .endpoint_url(endpoint)
            .timeout_config(timeouts(short, short, short * 2))
            .build();
        let client = aws_sdk_dynamodb::Client::from_conf(config);
        let began = Instant::now();
        let call = client.describe_table().table_name("t").send();
        let ended = tokio::time::timeout(Duration::from_secs(10), call).await;
        assert!(ended.expect("it ends by itself").is_err());
        assert!(began.elapsed() >= short * 2, "a second attempt is made");
    }
}
