//! Errors of the API: rendered, and logged, in one place.

use std::error::Error;

use http::Response;
use http::StatusCode;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use shared::queue::SendError;
use shared::secrets::SecretError;
use shared::store::StoreError;
use shared::telemetry::chain;

use crate::functions::InvokeError;

/// Why a request was refused, or failed.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: Code,
    message: String,
    /// The events of a batch that are bad.
    errors: Vec<EventError>,
    allow: Option<String>,
    /// What went wrong on our side; for our eyes only.
    cause: Option<Box<dyn Error + Send + Sync>>,
}

/// `error_code` of a response: what callers branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum Code {
    BadRequest,
    Unauthorized,
    Forbidden,
    ResourceNotFound,
    Conflict,
    LimitExceeded,
    IntegrationRunning,
    MethodNotAllowed,
    PreconditionFailed,
    PayloadTooLarge,
    UnsupportedMediaType,
    DeliveryFailed,
    InternalServerError,
}

/// What is wrong with one event of a batch.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EventError {
    /// The event's position, from 0.
    pub index: usize,
    /// The field, and how to mend it.
    pub message: String,
}

/// Why a request was refused, or failed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Error"))]
pub(crate) struct Body<'a> {
    /// For programs. New codes may come.
    error_code: Code,
    /// For people: names the field, and says how to mend it.
    message: &'a str,
    /// Also in the header `x-request-id`.
    request_id: &'a str,
    /// Of a batch of events: the bad ones.
    #[serde(skip_serializing_if = "<[EventError]>::is_empty")]
    #[cfg_attr(test, schemars(default))]
    errors: &'a [EventError],
}

impl ApiError {
    fn new(status: StatusCode, code: Code, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            code,
            message: message.into(),
            errors: Vec::new(),
            allow: None,
            cause: None,
        }
    }

    /// 400: `field` has a value that `reason` explains.
    pub fn bad_field(field: &str, reason: impl AsRef<str>) -> ApiError {
        ApiError::bad_request(format!("{field} {}", reason.as_ref()))
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, Code::BadRequest, message)
    }

    /// 400: these events of a batch are bad, and none was accepted.
    pub fn bad_events(message: String, errors: Vec<EventError>) -> ApiError {
        ApiError {
            errors,
            ..ApiError::bad_request(message)
        }
    }

    /// 400: the integration has to be stopped first.
    pub fn integration_running() -> ApiError {
        let message =
            "The integration is running. Stop it with POST …/_stop, update it, and start it again.";
        ApiError::new(StatusCode::BAD_REQUEST, Code::IntegrationRunning, message)
    }

    /// 401: API Gateway let no token through.
    pub fn unauthorized() -> ApiError {
        ApiError::new(
            StatusCode::UNAUTHORIZED,
            Code::Unauthorized,
            "An access token is required: Authorization: Bearer <token>.",
        )
    }

    /// 403: the token names no tenant.
    pub fn forbidden() -> ApiError {
        ApiError::new(
            StatusCode::FORBIDDEN,
            Code::Forbidden,
            "The access token names no tenant.",
        )
    }

    /// 404: no such integration, or not of this tenant.
    pub fn no_such_integration(id: &str) -> ApiError {
        ApiError::not_found(format!(
            "There is no integration \"{}\".",
            id.chars().take(50).collect::<String>()
        ))
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, Code::ResourceNotFound, message)
    }

    /// 404: nothing is served at this path.
    pub fn no_such_path() -> ApiError {
        ApiError::not_found("Nothing is served at this path.")
    }

    /// 405: the path takes the methods `allow` only.
    pub fn method_not_allowed(allow: String) -> ApiError {
        let message = format!("This path takes {allow}.");
        ApiError {
            allow: Some(allow),
            ..ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                Code::MethodNotAllowed,
                message,
            )
        }
    }

    /// 409: the id is taken.
    pub fn conflict(id: &str) -> ApiError {
        let message = format!(
            "id \"{id}\" is taken by another integration; choose another one, or delete that one first."
        );
        ApiError::new(StatusCode::CONFLICT, Code::Conflict, message)
    }

    /// 409: as many integrations run that send what is long past as may.
    pub fn too_many_replays(limit: usize) -> ApiError {
        let message = format!(
            "{limit} integrations that send events of the past are running already: temporary ones, and permanent ones that are more than a day behind. Wait until one is done, or stop or delete one."
        );
        ApiError::new(StatusCode::CONFLICT, Code::LimitExceeded, message)
    }

    /// 409: as many integrations as there can be.
    pub fn limit_exceeded(limit: usize) -> ApiError {
        let message = format!(
            "There are {limit} integrations already, stopped and temporary ones included. Delete one first."
        );
        ApiError::new(StatusCode::CONFLICT, Code::LimitExceeded, message)
    }

    /// 429: as many tests in this minute as there may be.
    pub fn too_many_tests(limit: u64) -> ApiError {
        let message =
            format!("There were {limit} tests in this minute already. Try again in the next one.");
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, Code::LimitExceeded, message)
    }

    /// 412: the settings are others than those that the caller has seen.
    pub fn precondition_failed() -> ApiError {
        let message = "The integration has been changed since you read it: its ETag is not the one in If-Match. Read it again, and update that.";
        ApiError::new(
            StatusCode::PRECONDITION_FAILED,
            Code::PreconditionFailed,
            message,
        )
    }

    /// 413.
    pub fn payload_too_large(limit_bytes: usize) -> ApiError {
        let message =
            format!("The body is larger than {limit_bytes} bytes; send it in several requests.");
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Code::PayloadTooLarge,
            message,
        )
    }

    /// 415.
    pub fn unsupported_media_type(accepted: &str) -> ApiError {
        let message = format!("The body must be JSON: send the header content-type: {accepted}.");
        ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::UnsupportedMediaType,
            message,
        )
    }

    /// 415: the body is compressed in a way that is not read.
    pub fn unsupported_encoding() -> ApiError {
        let message = "The body's content-encoding must be gzip or absent.";
        ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::UnsupportedMediaType,
            message,
        )
    }

    /// 409: other calls changed the integration every time that this one had decided.
    pub fn busy() -> ApiError {
        let message =
            "Other calls are changing this integration at the same time. Try again in a moment.";
        ApiError::new(StatusCode::CONFLICT, Code::Conflict, message)
    }

    /// 502: the event was sent to the receiver again, and was not accepted.
    pub fn delivery_failed(reason: &str) -> ApiError {
        let message = format!(
            "The receiver has not accepted the event: {reason}. It stays among the rejected events."
        );
        ApiError::new(StatusCode::BAD_GATEWAY, Code::DeliveryFailed, message)
    }

    /// 500: one fixed sentence for the caller, the cause for us.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> ApiError {
        let message =
            "Something went wrong on our side. Try again; report the request_id if it persists.";
        ApiError {
            cause: Some(cause.into()),
            ..ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::InternalServerError,
                message,
            )
        }
    }

    /// The response; an error of ours is logged with all its causes.
    pub fn render(&self, request_id: &str) -> Response<String> {
        if let Some(cause) = &self.cause {
            tracing::error!(
                request_id,
                error = chain(cause.as_ref()),
                "a request failed"
            );
        }
        let body = Body {
            error_code: self.code,
            message: &self.message,
            request_id,
            errors: &self.errors,
        };
        let mut response = Response::new(serde_json::to_string(&body).unwrap_or_default());
        *response.status_mut() = self.status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(Ok(allow)) = self.allow.as_deref().map(HeaderValue::from_str) {
            response.headers_mut().insert(ALLOW, allow);
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        match error {
            StoreError::NotFound => ApiError::not_found("There is no such integration."),
            StoreError::Changed => ApiError::busy(),
            error => ApiError::internal(error),
        }
    }
}

impl From<SecretError> for ApiError {
    fn from(error: SecretError) -> ApiError {
        ApiError::internal(error)
    }
}

impl From<SendError> for ApiError {
    fn from(error: SendError) -> ApiError {
        ApiError::internal(error)
    }
}

impl From<InvokeError> for ApiError {
    fn from(error: InvokeError) -> ApiError {
        ApiError::internal(error)
    }
}

impl From<serde_json::Error> for ApiError {
    fn from(error: serde_json::Error) -> ApiError {
        ApiError::internal(error)
    }
}
