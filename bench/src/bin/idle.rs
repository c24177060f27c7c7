//! The floor of a cold start: Lambda's runtime and the clients that most functions have, with nothing that has to be found out.

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let credentials = Credentials::new("id", "key", None, None, "bench");
    let region = Region::from_static("eu-central-1");
    let dynamodb = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(credentials.clone())
        .region(region.clone());
    let sqs = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(credentials)
        .region(region);
    let clients = &(
        aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
        aws_sdk_sqs::Client::from_conf(sqs.build()),
    );
    let handle =
        |_: LambdaEvent<Value>| async move { Ok::<_, Error>(format!("{clients:?}").len()) };
    lambda_runtime::run(service_fn(handle)).await
}
