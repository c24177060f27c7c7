//! The replay function: see the library.

use domain::time::Millis;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use replay::Invocation;
use shared::services::Services;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    shared::telemetry::init();
    let app = &replay::App::new(&Services::from_env());
    lambda_runtime::run(service_fn(|event: LambdaEvent<Invocation>| async move {
        let left = Millis(event.context.deadline).since(app.clock.now());
        let handled = replay::handle(app, event.payload, left).await;
        app.metrics.flush("replay", app.clock.now());
        Ok::<_, Error>(handled?)
    }))
    .await
}
