//! The floor of what is built on AWS's own crates: Lambda's runtime and the clients that most functions have, with our configuration of
//! them. Its start is the floor of a cold start. With `BENCH_QUEUE` it sends what it is invoked with to that queue: what the
//! runtime and one call of the SDK take.

use std::env;

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::value::RawValue;

/// As the functions on an event's way.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = &shared::aws::config();
    let clients = &(
        aws_sdk_dynamodb::Client::new(config),
        aws_sdk_sqs::Client::new(config),
    );
    let queue = &env::var("BENCH_QUEUE").ok();
    let handle = |event: LambdaEvent<Box<RawValue>>| async move {
        let Some(queue) = queue else {
            return Ok::<_, Error>(format!("{clients:?}").len());
        };
        let entry = SendMessageBatchRequestEntry::builder().id("0");
        let entry = entry.message_body(event.payload.get()).build()?;
        let batch = clients.1.send_message_batch().queue_url(queue);
        batch.entries(entry).send().await?;
        Ok(0)
    };
    lambda_runtime::run(service_fn(handle)).await
}
