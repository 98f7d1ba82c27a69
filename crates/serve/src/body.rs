//! Request bodies: read whole within limits of bytes and time, then taken apart as JSON, multipart or an image file.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Multipart, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use tokio::time::{Duration, timeout};

use crate::format::Format;
use crate::options::Limits;
use crate::refusal::Refusal;
use crate::request::{Asked, flag};

/// How long a body beyond the limit is read on, so that its sender hears the answer.
const DRAIN: Duration = Duration::from_secs(5);

/// The head and the whole body of a request.
///
/// # Errors
/// A body that is too large, too slow or breaks off.
pub(crate) async fn read(request: Request, limits: &Limits) -> Result<(Parts, Bytes), Refusal> {
    let (parts, body) = request.into_parts();
    let body = timeout(limits.body_timeout, collect(body, limits.body_bytes)).await.map_err(|_| {
        let seconds = limits.body_timeout.as_secs_f64();
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "slow", format!("the body did not arrive within {seconds:.0} s"))
    })??;
    Ok((parts, body))
}

async fn collect(mut body: Body, most: usize) -> Result<Bytes, Refusal> {
    let refusal =
        || Refusal::too_large(format!("the body is larger than {most} bytes; send a smaller image, or raise --max-body"));
    let mut whole = Vec::with_capacity(body_hint(&body).min(most));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::malformed(format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > most {
            drop(whole);
            let _ = timeout(DRAIN, async { while let Some(Ok(_)) = body.frame().await {} }).await;
            return Err(refusal());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

/// Bytes that the head of the request promises; nothing is reserved beyond what may come.
fn body_hint(body: &Body) -> usize {
    use axum::body::HttpBody as _;
    body.size_hint().exact().and_then(|n| usize::try_from(n).ok()).unwrap_or(0).min(1 << 20)
}

/// What a body says, with what the address adds.
///
/// # Errors
/// Another kind of content, or content that is not what it says.
pub(crate) async fn asked(request: Request, limits: &Limits) -> Result<Asked, Refusal> {
    let (parts, body) = read(request, limits).await?;
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let uri = parts.uri.clone();
    let mut asked = if kind.starts_with("multipart/form-data") {
        multipart(parts, body).await?
    } else if is_json(&kind) {
        Asked::from_json(&body)?
    } else if kind.starts_with("image/") || kind.starts_with("application/octet-stream") {
        Asked { image: Some(body), ..Asked::default() }
    } else {
        return Err(unsupported(&kind));
    };
    add_query(&mut asked, &uri)?;
    Ok(asked)
}

/// A JSON body of a kind.
///
/// # Errors
/// Another kind of content, or JSON of another shape.
pub(crate) async fn json<T: serde::de::DeserializeOwned>(request: Request, limits: &Limits) -> Result<T, Refusal> {
    let (parts, body) = read(request, limits).await?;
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !is_json(&kind.to_ascii_lowercase()) {
        return Err(unsupported(kind));
    }
    crate::request::json(&body, "the body")
}

fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind == "application/json" || kind.ends_with("+json")
}

fn unsupported(kind: &str) -> Refusal {
    let shown: String = kind.chars().take(60).collect();
    let message = format!("Content-Type \"{shown}\": send application/json or multipart/form-data");
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message)
}

async fn multipart(parts: Parts, body: Bytes) -> Result<Asked, Refusal> {
    let wrong = |error: &dyn std::fmt::Display| Refusal::malformed(format!("multipart: {error}"));
    let request = Request::from_parts(parts, Body::from(body));
    let mut multipart = Multipart::from_request(request, &()).await.map_err(|error| wrong(&error))?;
    let mut asked = Asked::default();
    while let Some(field) = multipart.next_field().await.map_err(|error| wrong(&error.body_text()))? {
        let name = field.name().unwrap_or_default().to_owned();
        let value = field.bytes().await.map_err(|error| wrong(&error.body_text()))?;
        asked.add_field(&name, value)?;
    }
    Ok(asked)
}

/// `format`, `instances` and `polygons` behind the question mark.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InQuery {
    format: Option<String>,
    instances: Option<String>,
    polygons: Option<String>,
}

fn add_query(asked: &mut Asked, uri: &Uri) -> Result<(), Refusal> {
    let Query(query): Query<InQuery> =
        Query::try_from_uri(uri).map_err(|error| Refusal::malformed(format!("the address: {}", error.body_text())))?;
    if let Some(format) = &query.format {
        asked.fields.format = Format::parse(format)?;
    }
    if let Some(text) = &query.instances {
        asked.fields.instances = flag("instances", text)?;
    }
    if let Some(text) = &query.polygons {
        asked.fields.polygons = flag("polygons", text)?;
    }
    Ok(())
}
