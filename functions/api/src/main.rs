//! The API function: see the library.

use lambda_http::{Error, Request, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    shared::telemetry::init();
    let app = &api::App::from_env().await;
    run(service_fn(|request: Request| async move {
        Ok::<_, Error>(api::handle(app, request).await)
    }))
    .await
}
