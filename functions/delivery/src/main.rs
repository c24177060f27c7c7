//! The delivery function: see the library.

use delivery::Invocation;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use shared::services::Services;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    shared::telemetry::init();
    let app = &delivery::App::new(&Services::from_env().await);
    lambda_runtime::run(service_fn(|event: LambdaEvent<Invocation>| async move {
        Ok::<_, Error>(delivery::handle(app, event.payload).await?)
    }))
    .await
}
