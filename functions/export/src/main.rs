//! The export function: see the library.

use export::Invocation;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use shared::services::Services;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    shared::telemetry::init();
    let app = &export::App::new(&Services::from_env());
    lambda_runtime::run(service_fn(|event: LambdaEvent<Invocation>| async move {
        let handled = export::handle(app, event.payload).await;
        app.metrics.flush("export", app.clock.now());
        Ok::<_, Error>(handled?)
    }))
    .await
}
