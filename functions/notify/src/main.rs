//! The notify function: see the library.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use shared::clock::Clock;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    shared::telemetry::init();
    let app = &notify::App::from_env();
    let handle = |event: LambdaEvent<notify::Records>| async move {
        let handled = notify::handle(app, event.payload).await;
        app.metrics.flush("notify", Clock::system().now());
        handled.map_err(Error::from)
    };
    lambda_runtime::run(service_fn(handle)).await
}
