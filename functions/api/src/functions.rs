//! The functions that the API calls and waits for: only they may decrypt what receivers and buckets ask for.

use std::error::Error;
use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::Builder;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::primitives::Blob;
use domain::calls::{Retried, RetriedAll, RetryRejected, TestBucket, TestReceiver, Verdict};
use domain::integration::IntegrationRef;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How long a connection to Lambda may take to be made.
const CONNECT: Duration = Duration::from_secs(2);
/// How long the function may take to answer: 15 s for the receiver, some for what is around it, and within the 29 s of a request.
const ANSWER: Duration = Duration::from_secs(25);

/// The delivery function.
#[derive(Clone, Debug)]
pub struct DeliveryFunction(Function);

/// The export function.
#[derive(Clone, Debug)]
pub struct ExportFunction(Function);

#[derive(Clone, Debug)]
struct Function {
    client: Client,
    name: String,
}

/// A function could not be called, or failed.
#[derive(Debug, thiserror::Error)]
#[error("the function failed")]
pub struct InvokeError(#[source] Box<dyn Error + Send + Sync>);

impl DeliveryFunction {
    /// The function of this name or ARN.
    pub fn new(config: Builder, name: String) -> DeliveryFunction {
        DeliveryFunction(Function::new(config, name))
    }

    /// Has a rejected event tried again.
    ///
    /// # Errors
    /// [`InvokeError`]: whether the receiver has been sent the event is not known then.
    pub async fn retry(&self, retry: &RetryRejected) -> Result<Retried, InvokeError> {
        self.0.invoke(&json!({ "retry": retry })).await
    }

    /// Has all rejected events of an integration tried again.
    ///
    /// # Errors
    /// [`InvokeError`]: which events the receiver has been sent is not known then.
    pub async fn retry_all(&self, of: &IntegrationRef) -> Result<RetriedAll, InvokeError> {
        self.0.invoke(&json!({ "retry_all": of })).await
    }

    /// Has a sample event sent to a receiver.
    ///
    /// # Errors
    /// [`InvokeError`].
    pub async fn test(&self, test: &TestReceiver) -> Result<Verdict, InvokeError> {
        self.0.invoke(&json!({ "test": test })).await
    }
}

impl ExportFunction {
    /// The function of this name or ARN.
    pub fn new(config: Builder, name: String) -> ExportFunction {
        ExportFunction(Function::new(config, name))
    }

    /// Has an object put into a bucket.
    ///
    /// # Errors
    /// [`InvokeError`].
    pub async fn test(&self, test: &TestBucket) -> Result<Verdict, InvokeError> {
        self.0.invoke(&json!({ "test": test })).await
    }
}

impl Function {
    fn new(config: Builder, name: String) -> Function {
        let config = config
            .timeout_config(shared::aws::timeouts(CONNECT, ANSWER, ANSWER))
            // An attempt that is not answered may have sent the event: the caller decides whether it is sent once more.
            .retry_config(RetryConfig::disabled());
        let client = Client::from_conf(config.build());
        Function { client, name }
    }

    async fn invoke<T: DeserializeOwned>(&self, asked: &Value) -> Result<T, InvokeError> {
        let answer = self
            .client
            .invoke()
            .function_name(&self.name)
            .payload(Blob::new(asked.to_string()))
            .send()
            .await
            .map_err(|error| InvokeError(Box::new(error)))?;
        let payload = answer.payload.unwrap_or_default().into_inner();
        if let Some(kind) = answer.function_error {
            let text = String::from_utf8_lossy(&payload);
            return Err(InvokeError(format!("{kind}: {text}").into()));
        }
        serde_json::from_slice(&payload).map_err(|error| InvokeError(Box::new(error)))
    }
}
