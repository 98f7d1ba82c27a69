//! `Refusal`: why a request is not answered, as JSON with a sentence for people.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pil_ops::DecodeError;
use serde_json::json;

/// A request that is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// A word for programs.
    pub code: &'static str,
    /// A sentence for people: what is wrong, and what would be right.
    pub message: String,
    /// Seconds after which asking again makes sense.
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// With a status, a word for programs and a sentence for people.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    /// The body is not what it should be: no JSON, no image, a field of another kind.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    /// The body can be read, but asks for what makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    /// More than a limit allows.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// Something that is not here.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// As many requests wait as may wait.
    pub fn busy(waiting: usize, seconds: u64) -> Self {
        let message = format!("{waiting} requests wait for the model already; try again in {seconds} s");
        let busy = Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", message);
        Self { retry_after: Some(seconds), ..busy }
    }

    /// The answer came too late.
    pub fn late(seconds: f64) -> Self {
        let message =
            format!("no answer within {seconds:.0} s; ask about a smaller image or fewer sentences, or raise --deadline");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "late", message)
    }

    /// The server ends.
    pub fn stopping() -> Self {
        let message = "the server is stopping; start it again, or ask another one";
        Self { retry_after: Some(5), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message) }
    }

    /// Nobody's fault but ours or the device's.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message)
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLarge { .. } => Self::too_large(format!("image: {error}")),
            error => Self::malformed(format!("image: {error}; JPEG, PNG and WebP are read")),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code, "message": self.message } });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer, Basic realm=\"saymask\""));
        }
        response
    }
}
