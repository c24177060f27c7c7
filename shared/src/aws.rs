//! The AWS SDK's configuration, from the environment: on one machine `AWS_ENDPOINT_URL` points it at an emulator.

use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use crate::env::Environment;

/// How long a connection to a service may take to be made.
const CONNECT: Duration = Duration::from_secs(2);
/// How long one attempt of a call may take, and how long its response may stay out: a kept connection whose other side has gone
/// says nothing. The slowest call that is no upload sends 1 MiB to SQS.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long a call may take with all its attempts.
const CALL: Duration = Duration::from_secs(15);

/// The configuration of a process that Lambda or the local stack has started; made once, at start-up. Without time-outs a call would
/// hang until Lambda ends the invocation, and what was done before it in the same batch would be done again. Uploads, calls of
/// functions and readers of the event log have time-outs of their own.
///
/// Read from the few variables that Lambda sets, not by the SDK's chain of providers, which looks for files and other sources that are
/// never there: <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>. All clients share one HTTP client, which
/// reads the root certificates once.
///
/// # Panics
/// When region or credentials are not set: a function without them must not start.
pub fn config() -> SdkConfig {
    of(&Environment::of_process())
}

/// As [`config`], from these variables.
fn of(environment: &Environment) -> SdkConfig {
    let text = |name: &str| {
        let value = environment.optional(name);
        (!value.is_empty()).then(|| value.to_owned())
    };
    // A process of Lambda's ends before its credentials do.
    let credentials = Credentials::new(
        environment.required("AWS_ACCESS_KEY_ID"),
        environment.required("AWS_SECRET_ACCESS_KEY"),
        text("AWS_SESSION_TOKEN"),
        None,
        "environment",
    );
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(environment.required("AWS_REGION").to_owned()))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .identity_cache(IdentityCache::no_cache())
        .retry_config(RetryConfig::standard())
        .timeout_config(timeouts(CONNECT, ATTEMPT, CALL))
        // Every call has a time-out: what is measured of its speed besides would end none.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .use_fips(environment.optional("AWS_USE_FIPS_ENDPOINT") == "true")
        .use_dual_stack(environment.optional("AWS_USE_DUALSTACK_ENDPOINT") == "true")
        .http_client(http_client());
    config.set_endpoint_url(text("AWS_ENDPOINT_URL"));
    config.build()
}

/// An HTTP client without any connection yet, for a client of the SDK.
pub fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .build_https()
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

    /// What Lambda always sets, and more.
    fn environment(more: &[(&str, &str)]) -> Environment {
        let always = [
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "key"),
            ("AWS_REGION", "eu-central-1"),
        ];
        always.iter().chain(more).copied().collect()
    }

    #[tokio::test]
    async fn the_configuration_is_what_lambda_sets() {
        use aws_sdk_dynamodb::config::ProvideCredentials;

        let session = [
            ("AWS_SESSION_TOKEN", "token"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:4566"),
            ("AWS_USE_FIPS_ENDPOINT", "true"),
        ];
        let config = of(&environment(&session));
        let credentials = config.credentials_provider().unwrap();
        let credentials = credentials.provide_credentials().await.unwrap();
        assert_eq!(credentials.access_key_id(), "id");
        assert_eq!(credentials.secret_access_key(), "key");
        assert_eq!(credentials.session_token(), Some("token"));
        assert_eq!(config.region().map(Region::as_ref), Some("eu-central-1"));
        assert_eq!(config.endpoint_url(), Some("http://127.0.0.1:4566"));
        assert_eq!(
            (config.use_fips(), config.use_dual_stack()),
            (Some(true), Some(false))
        );
        let plain = of(&environment(&[]));
        assert_eq!(
            (plain.endpoint_url(), plain.use_fips()),
            (None, Some(false))
        );
        assert_eq!(plain.retry_config().map(RetryConfig::max_attempts), Some(3));
    }

    #[test]
    #[should_panic(expected = "AWS_REGION is not set")]
    fn without_a_region_nothing_starts() {
        of(&environment(&[("AWS_REGION", "")]));
    }

    #[test]
    fn the_configuration_has_time_outs() {
        let config = of(&environment(&[]));
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
