//! The notify function: see the library.

use lambda_runtime::{Error, LambdaEvent, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    shared::telemetry::init();
    let app = &notify::App::from_env().await;
    let handle = |event: LambdaEvent<notify::Records>| async move {
        notify::handle(app, event.payload)
            .await
            .map_err(Error::from)
    };
    lambda_runtime::run(service_fn(handle)).await
}
