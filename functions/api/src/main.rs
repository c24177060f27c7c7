//! The api function: see the library.

use api::request::{Answer, Request};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use shared::services::Services;

/// Faster than the system's: a call of the SDK allocates hundreds of times (docs/decisions/022-fast-and-small.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    shared::telemetry::init();
    let app = &api::App::new(&Services::from_env());
    lambda_runtime::run(service_fn(|event: LambdaEvent<Request>| async move {
        let mut request = event.payload;
        request.trace_header = event.context.xray_trace_id;
        let response = Box::pin(api::handle(app, request)).await;
        app.metrics.flush("api", app.clock.now());
        Ok::<_, Error>(Answer::from(response))
    }))
    .await
}
