//! The calls of Event Stream's REST API that the demo makes.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::options::Environment;

const INTEGRATIONS: &str = "/api/v1/org/integrations/eventstream";
const EVENTS: &str = "/api/v1/org/events";

/// How often, and how long apart, a call is made again that failed on the service's side: a killed function is back
/// within moments.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_secs(1);

/// The service, as the tenant of the token sees it.
pub struct Service {
    client: reqwest::Client,
    url: String,
    token: String,
}

#[derive(Deserialize)]
struct Accepted {
    accepted: Vec<AcceptedEvent>,
}

#[derive(Deserialize)]
struct AcceptedEvent {
    id: String,
}

impl Service {
    pub fn new(environment: &Environment) -> Result<Service, Failure> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(40))
            .build()
            .map_err(|error| Failure::new(format!("No HTTP client: {error}")))?;
        Ok(Service {
            client,
            url: environment.url.clone(),
            token: environment.token.clone(),
        })
    }

    /// Whether it is up; tried once.
    pub async fn check_health(&self) -> Result<(), Failure> {
        let (status, body) = self
            .attempt(Method::GET, "/health", None)
            .await
            .map_err(|error| {
                Failure::new(format!(
                    "Nothing responds at {} ({error}). Is the stack up? `make up`",
                    self.url
                ))
            })?;
        if status == StatusCode::OK {
            return Ok(());
        }
        Err(Failure::new(format!(
            "GET {}/health answers {status}, so the stack is not well: {body}\nTry `make down up`.",
            self.url
        )))
    }

    /// Registers an integration.
    pub async fn register(&self, id: &str, integration: &Value) -> Result<(), Failure> {
        let path = format!("{INTEGRATIONS}/");
        let (status, body, attempts) = self
            .call(Method::POST, &path, Some(&integration.to_string()))
            .await?;
        // An attempt that failed on its way back has registered it: its id is ours alone.
        let is_ours =
            status == StatusCode::CONFLICT && attempts > 1 && !body.contains("limit_exceeded");
        if status == StatusCode::OK || is_ours {
            return Ok(());
        }
        Err(refused(&format!("registering {id}"), status, &body))
    }

    /// Whether an integration still gets its events from the event log, and not at once.
    pub async fn is_catching_up(&self, id: &str) -> Result<bool, Failure> {
        let integration = self.get(&format!("{INTEGRATIONS}/{id}")).await?;
        Ok(integration["pending"]["catching_up"] == Value::Bool(true))
    }

    /// The newest entries of an integration's log, a line each.
    pub async fn log(&self, id: &str, limit: usize) -> Result<Vec<String>, Failure> {
        let log = self.get(&format!("{INTEGRATIONS}/{id}/log")).await?;
        let entries = log["entries"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let text =
            |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        Ok(entries
            .iter()
            .take(limit)
            .map(|entry| {
                format!(
                    "{} {}: {}",
                    text(entry, "created_at"),
                    text(entry, "action"),
                    text(entry, "reason")
                )
            })
            .collect())
    }

    /// Deletes an integration; one that is not there is fine too.
    pub async fn delete(&self, id: &str) -> Result<(), Failure> {
        let (status, body, _) = self
            .call(Method::DELETE, &format!("{INTEGRATIONS}/{id}"), None)
            .await?;
        if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(refused(&format!("deleting {id}"), status, &body))
    }

    /// Publishes a batch, a JSON array; gives the accepted ids. Made again with the same ids when it fails, which is safe.
    pub async fn publish(&self, batch: &str) -> Result<Vec<String>, Failure> {
        let (status, body, _) = self.call(Method::POST, EVENTS, Some(batch)).await?;
        if status != StatusCode::ACCEPTED {
            return Err(refused("publishing", status, &body));
        }
        let accepted: Accepted = serde_json::from_str(&body).map_err(|error| {
            Failure::new(format!(
                "The answer to publishing cannot be read: {error}: {body}"
            ))
        })?;
        Ok(accepted
            .accepted
            .into_iter()
            .map(|event| event.id)
            .collect())
    }

    async fn get(&self, path: &str) -> Result<Value, Failure> {
        let (status, body, _) = self.call(Method::GET, path, None).await?;
        if status != StatusCode::OK {
            return Err(refused(&format!("GET {path}"), status, &body));
        }
        serde_json::from_str(&body).map_err(|error| {
            Failure::new(format!("GET {path} does not respond JSON: {error}: {body}"))
        })
    }

    /// A call, made again while the service fails: the last response, and how many attempts it took.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&str>,
    ) -> Result<(StatusCode, String, u32), Failure> {
        let mut attempts = 1;
        loop {
            let result = self.attempt(method.clone(), path, body).await;
            match result {
                Ok((status, body)) if !status.is_server_error() || attempts == ATTEMPTS => {
                    return Ok((status, body, attempts));
                }
                Err(error) if attempts == ATTEMPTS => {
                    return Err(Failure::new(format!(
                        "{method} {}{path} failed {ATTEMPTS} times, at last: {error}",
                        self.url
                    )));
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
            attempts += 1;
        }
    }

    async fn attempt(
        &self,
        method: Method,
        path: &str,
        body: Option<&str>,
    ) -> Result<(StatusCode, String), reqwest::Error> {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_owned());
        }
        let response = request.send().await?;
        Ok((response.status(), response.text().await?))
    }
}

fn refused(what: &str, status: StatusCode, body: &str) -> Failure {
    let advice = match status {
        StatusCode::UNAUTHORIZED => {
            "\nThe token may be too old: `make up` writes a new one to target/local/env."
        }
        _ if body.contains("limit_exceeded") => {
            "\nDelete integrations that are no longer needed, or start afresh: `make down up`."
        }
        _ => "",
    };
    Failure::new(format!(
        "The service responds with {status} to {what}: {body}{advice}"
    ))
}
