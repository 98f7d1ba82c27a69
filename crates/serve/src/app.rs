//! `App`: what handlers share; and the routes.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde_json::{Value, json};

use crate::guard::guard;
use crate::label_studio;
use crate::media::Media;
use crate::options::Options;
use crate::refusal::Refusal;
use crate::service::Service;
use crate::{kserve, page, v1};

/// The API in OpenAPI 3.1.
pub const OPENAPI: &str = include_str!("openapi.json");

/// What handlers share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) service: Service,
    pub(crate) options: Options,
    pub(crate) media: Option<Media>,
}

/// A handler's answer.
pub(crate) type Answered = Result<Response, Refusal>;

/// All routes.
pub(crate) fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/page/{file}", get(page::file))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi))
        .route("/v1/models", get(v1::models))
        .route("/v1/segment", post(v1::segment))
        .route("/v1/attention", post(v1::attention))
        .route("/v1/images", post(v1::encode))
        .route("/v1/images/{id}", delete(v1::forget))
        .route("/v1/images/{id}/segment", post(v1::segment_kept))
        .route("/v2", get(kserve::server))
        .route("/v2/health/live", get(kserve::live))
        .route("/v2/health/ready", get(kserve::ready))
        .route("/v2/models/{name}", get(kserve::model))
        .route("/v2/models/{name}/ready", get(kserve::model_ready))
        .route("/v2/models/{name}/infer", post(kserve::infer))
        .route("/label-studio", get(label_studio::health))
        .route("/label-studio/", get(label_studio::health))
        .route("/label-studio/health", get(label_studio::health))
        .route("/label-studio/setup", post(label_studio::setup))
        .route("/label-studio/predict", post(label_studio::predict))
        .route("/label-studio/webhook", post(label_studio::webhook))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        // Bodies are read in one place, with the limit that the options give.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(Arc::clone(app), guard))
        .with_state(Arc::clone(app))
}

/// JSON with a status.
pub(crate) fn reply(status: StatusCode, value: &Value) -> Response {
    text(status, "application/json", value.to_string())
}

/// A body of some type.
pub(crate) fn text(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Runs what computes for a while beside the requests.
///
/// # Errors
/// Those of `work`, or a panic in it.
pub(crate) async fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Refusal::failed("the answer could not be written; others are still answered")))
}

async fn live() -> Response {
    reply(StatusCode::OK, &json!({ "live": true }))
}

async fn ready(State(app): State<Arc<App>>) -> Answered {
    if app.service.is_ready() { Ok(reply(StatusCode::OK, &json!({ "ready": true }))) } else { Err(Refusal::stopping()) }
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let body = app.service.metrics().text(app.service.occupancy(), app.service.limits().queue);
    text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body)
}

async fn openapi() -> Response {
    text(StatusCode::OK, "application/json", OPENAPI)
}

async fn unknown(request: Request) -> Response {
    let path: String = request.uri().path().chars().take(80).collect();
    Refusal::not_found(format!("{path}: no such address; /openapi.json lists them")).into_response()
}

async fn wrong_method(request: Request) -> Response {
    let path: String = request.uri().path().chars().take(80).collect();
    let message = format!("{} {path}: this address takes another method; /openapi.json lists them", request.method());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method", message).into_response()
}
