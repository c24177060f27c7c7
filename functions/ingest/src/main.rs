//! The ingest function: see the library.

use aws_lambda_events::sqs::SqsEvent;
use domain::time::Millis;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use shared::services::Services;

/// Faster than the system's: a call of the SDK allocates hundreds of times (docs/decisions/022-fast-and-small.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    shared::telemetry::init();
    let app = &ingest::App::new(&Services::from_env());
    lambda_runtime::run(service_fn(|event: LambdaEvent<SqsEvent>| async move {
        let deadline = Millis(event.context.deadline);
        let handled = ingest::handle(app, event.payload, deadline).await;
        app.metrics.flush("ingest", app.clock.now());
        Ok::<_, Error>(handled)
    }))
    .await
}
