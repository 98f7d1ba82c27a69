//! What every request passes: host, origin, token; and the headers that every answer carries.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::refusal::Refusal;

/// The page asks its own server alone, and nobody puts it into a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Lets a request through or refuses it, and counts the answer.
pub(crate) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("other".to_owned(), |path| path.as_str().to_owned());
    let origin = allowed_origin(&app, request.headers());
    let mut response = if let (Some(_), &Method::OPTIONS) = (&origin, request.method()) {
        preflight()
    } else {
        match check(&app, &request) {
            Ok(()) => next.run(request).await,
            Err(refusal) => refusal.into_response(),
        }
    };
    let headers = response.headers_mut();
    add_headers(headers);
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    if !app.options.cors.is_empty() {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    app.service.metrics().request(&route, response.status().as_u16());
    app.service.metrics().time("request", begun.elapsed());
    response
}

fn check(app: &App, request: &Request) -> Result<(), Refusal> {
    let headers = request.headers();
    if let Some(token) = &app.options.token {
        let open = is_open(request.uri().path());
        return if open || shows(headers, token) { Ok(()) } else { Err(unauthorized()) };
    }
    check_host(headers)?;
    check_origin(app, headers)
}

/// What needs no token: that somebody is there, and the page, which asks for it.
fn is_open(path: &str) -> bool {
    path == "/" || path.starts_with("/page/") || path.starts_with("/health/") || path.starts_with("/v2/health/")
}

/// Whether a request shows the token, as a bearer or as the password of basic authentication.
fn shows(headers: &HeaderMap, token: &str) -> bool {
    let Some(value) = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()) else { return false };
    let Some((scheme, shown)) = value.split_once(' ') else { return false };
    if scheme.eq_ignore_ascii_case("bearer") {
        return same(shown.trim().as_bytes(), token.as_bytes());
    }
    let decoded =
        if scheme.eq_ignore_ascii_case("basic") { STANDARD.decode(shown.trim()).unwrap_or_default() } else { Vec::new() };
    let password = decoded.iter().position(|b| *b == b':').map(|colon| &decoded[colon + 1..]);
    password.is_some_and(|password| same(password, token.as_bytes()))
}

/// Equality in a time that depends on neither: of digests, every byte.
fn same(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (Sha256::digest(a), Sha256::digest(b));
    let difference = a.iter().zip(b.iter()).fold(0u8, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}

fn unauthorized() -> Refusal {
    let message =
        "this server wants its token: send `Authorization: Bearer TOKEN`, or the token as the password of basic authentication";
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
}

/// Without a token only names of this machine are answered, so that no page of the internet reaches a server on loopback by a
/// name that points there.
fn check_host(headers: &HeaderMap) -> Result<(), Refusal> {
    let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_loopback = name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if is_loopback || name.eq_ignore_ascii_case("localhost") {
        return Ok(());
    }
    let shown: String = name.chars().take(60).collect();
    let message = format!("host \"{shown}\": without --token only localhost and loopback addresses are answered");
    Err(Refusal::new(StatusCode::FORBIDDEN, "host", message))
}

/// Pages of other servers may not ask, unless they are named.
fn check_origin(app: &App, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let own = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let text = origin.to_str().unwrap_or_default();
    let from_own = text.split_once("://").is_some_and(|(_, host)| host.eq_ignore_ascii_case(own));
    if from_own || allowed_origin(app, headers).is_some() {
        return Ok(());
    }
    let message = "pages of other servers may not ask; start with --cors ORIGIN to allow one";
    Err(Refusal::new(StatusCode::FORBIDDEN, "origin", message))
}

fn allowed_origin(app: &App, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    app.options.cors.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

fn add_headers(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn tokens_are_bearers_or_passwords() {
        let shown = |value: &str| shows(&with(header::AUTHORIZATION, value), "s3cret:x");
        assert!(shown("Bearer s3cret:x") && shown("bearer  s3cret:x"));
        assert!(shown(&format!("Basic {}", STANDARD.encode("anybody:s3cret:x"))));
        for wrong in ["Bearer s3cret", "Bearer ", "s3cret:x", "Basic s3cret:x", "Basic %%", "Digest s3cret:x"] {
            assert!(!shown(wrong), "{wrong}");
        }
        assert!(!shows(&HeaderMap::new(), "") && same(b"", b"") && !same(b"a", b"b"));
    }

    #[test]
    fn only_names_of_this_machine_are_answered_without_a_token() {
        for host in ["localhost:8000", "LOCALHOST", "127.0.0.1:1", "[::1]:8000", "127.8.9.1"] {
            assert!(check_host(&with(header::HOST, host)).is_ok(), "{host}");
        }
        for host in ["evil.example:8000", "localhost.evil.example", "10.0.0.1", "", "[::2]:1"] {
            assert!(check_host(&with(header::HOST, host)).is_err(), "{host}");
        }
    }
}
