//! The route table: every endpoint on one screen.

use lambda_http::http::Method;
use lambda_http::{Request, RequestExt, Response};

use crate::error::ApiError;
use crate::{App, answers, integrations, publish, rejected_events, tenant};

const BASE: &str = "/api/v1/org/integrations/eventstream";
const EVENTS: &str = "/api/v1/org/events";

/// Finds the endpoint of a request and calls it.
pub async fn dispatch(app: &App, request: &Request) -> Result<Response<String>, ApiError> {
    let path = request.raw_http_path();
    if path == "/health" {
        return only(request, "GET")
            .and_then(|()| answers::ok(&serde_json::json!({"status": "ok"})));
    }
    let tenant = &tenant::of(request, &app.tenant_claim)?;
    if matches!(path.trim_end_matches('/'), EVENTS) {
        only(request, "POST")?;
        return publish::publish(app, tenant, request).await;
    }
    let rest = path
        .strip_prefix(BASE)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
        .ok_or_else(ApiError::no_such_path)?;
    let segments: Vec<&str> = rest
        .trim_matches('/')
        .split('/')
        .filter(|_| !rest.trim_matches('/').is_empty())
        .collect();
    let (get, post, patch, put, delete) = (
        Method::GET,
        Method::POST,
        Method::PATCH,
        Method::PUT,
        Method::DELETE,
    );
    let method = request.method();
    match segments.as_slice() {
        [] if method == get => integrations::list(app, tenant).await,
        [] if method == post => integrations::register(app, tenant, request).await,
        [id] if method == get => integrations::get(app, tenant, id).await,
        [id] if method == patch || method == put => {
            integrations::update(app, tenant, id, request).await
        }
        [id] if method == delete => integrations::delete(app, tenant, id).await,
        [id, "_start"] if method == post => integrations::start(app, tenant, id, request).await,
        [id, "_stop"] if method == post => integrations::stop(app, tenant, id, request).await,
        [id, "log"] if method == get => integrations::log(app, tenant, id).await,
        [id, "rejected_events"] if method == get => rejected_events::list(app, tenant, id).await,
        [id, "rejected_events", event] if method == get => {
            rejected_events::get(app, tenant, id, event).await
        }
        [id, "rejected_events", event] if method == delete => {
            rejected_events::delete(app, tenant, id, event).await
        }
        [id, "rejected_events", event, "_retry"] if method == post => {
            rejected_events::retry(app, tenant, id, event, request).await
        }
        [] => Err(ApiError::method_not_allowed("GET, POST")),
        [_] => Err(ApiError::method_not_allowed("GET, PATCH, PUT, DELETE")),
        [_, "_start" | "_stop"] | [_, "rejected_events", _, "_retry"] => {
            Err(ApiError::method_not_allowed("POST"))
        }
        [_, "log" | "rejected_events"] => Err(ApiError::method_not_allowed("GET")),
        [_, "rejected_events", _] => Err(ApiError::method_not_allowed("GET, DELETE")),
        _ => Err(ApiError::no_such_path()),
    }
}

fn only(request: &Request, method: &'static str) -> Result<(), ApiError> {
    if request.method() == method {
        Ok(())
    } else {
        Err(ApiError::method_not_allowed(method))
    }
}
