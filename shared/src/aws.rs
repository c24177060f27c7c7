//! The AWS SDK's configuration, from the environment: on one machine `AWS_ENDPOINT_URL` points it at an emulator.

use aws_config::{BehaviorVersion, SdkConfig};

/// Loads the configuration; done once, at start-up.
pub async fn config() -> SdkConfig {
    aws_config::load_defaults(BehaviorVersion::latest()).await
}
