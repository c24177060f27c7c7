//! The delivery function: see the library.

use delivery::Invocation;
use domain::time::Millis;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use shared::services::Services;

/// Faster than the system's: a call of the SDK allocates hundreds of times (docs/decisions/022-fast-and-small.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    shared::telemetry::init();
    let app = &delivery::App::new(&Services::from_env());
    lambda_runtime::run(service_fn(|event: LambdaEvent<Invocation>| async move {
        let left = Millis(event.context.deadline).since(app.clock.now());
        let handled = delivery::handle(app, event.payload, left).await;
        app.metrics.flush("delivery", app.clock.now());
        Ok::<_, Error>(handled?)
    }))
    .await
}
