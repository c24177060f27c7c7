//! AWS's JSON protocol, as far as canned services speak it.

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, request::Parts};
use axum::response::Response;

const MAX_BODY: usize = 64 * 1024 * 1024;

/// The head and the body of a request.
pub async fn read(request: Request) -> (Parts, Bytes) {
    let (head, body) = request.into_parts();
    (head, to_bytes(body, MAX_BODY).await.unwrap_or_default())
}

/// The operation that a request asks for; none where it is no request of this protocol.
pub fn operation(head: &Parts) -> Option<&str> {
    let target = head.headers.get("x-amz-target")?;
    target.to_str().ok()?.rsplit('.').next()
}

/// 200 with this text.
pub fn response(json: String) -> Response {
    let mut response = Response::new(Body::from(json));
    response.headers_mut().insert(
        "content-type",
        HeaderValue::from_static("application/x-amz-json-1.0"),
    );
    response
}
