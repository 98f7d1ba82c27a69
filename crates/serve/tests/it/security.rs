//! Token, hosts, origins, headers; nothing of a request reaches the disk.

use std::net::TcpListener;

use serve::{Options, Server};
use test_support::http::{get, request};

use crate::common::*;

#[test]
fn a_token_is_wanted_where_one_is_set() {
    let server = start(text_engine(), Options { token: Some("s3cret".into()), ..Options::default() });
    let ask = |path: &str, headers: &[(&str, &str)]| request(server.addr(), "GET", path, headers, b"");
    for path in ["/v1/models", "/metrics", "/openapi.json", "/v2", "/label-studio/health", "/nowhere"] {
        let reply = ask(path, &[]);
        assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (401, Some("unauthorized")), "{path}");
        assert!(reply.header("www-authenticate").is_some());
        assert_eq!(ask(path, &[("Authorization", "Bearer wrong")]).status, 401);
        assert_ne!(ask(path, &[("Authorization", "Bearer s3cret")]).status, 401, "{path}");
    }
    // dXNlcjpzM2NyZXQ= is user:s3cret.
    assert_eq!(ask("/v1/models", &[("Authorization", "Basic dXNlcjpzM2NyZXQ=")]).status, 200);
    for path in ["/", "/page/app.js", "/health/live", "/v2/health/ready"] {
        assert_eq!(ask(path, &[]).status, 200, "{path}");
    }
    // With a token any name of the server is fine.
    assert_eq!(ask("/v1/models", &[("Authorization", "Bearer s3cret"), ("Host", "gpu.example")]).status, 200);
}

#[test]
fn without_a_token_only_this_machine_is_served() {
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let error = Server::start(open, text_engine(), Options::default()).unwrap_err().to_string();
    assert!(error.contains("--token"), "{error}");
    let empty = Options { token: Some("  ".into()), ..Options::default() };
    let error = Server::start(TcpListener::bind("127.0.0.1:0").unwrap(), text_engine(), empty).unwrap_err().to_string();
    assert!(error.contains("empty"), "{error}");
    let server = server();
    let ask = |headers: &[(&str, &str)]| request(server.addr(), "GET", "/v1/models", headers, b"").status;
    assert_eq!(ask(&[("Host", "evil.example")]), 403);
    assert_eq!(ask(&[("Host", "localhost:8000")]), 200);
    assert_eq!(ask(&[("Origin", "https://evil.example")]), 403);
    let own = format!("http://{}", server.addr());
    assert_eq!(ask(&[("Origin", &own)]), 200);
}

#[test]
fn other_origins_read_nothing_unless_named() {
    let server = start(text_engine(), Options { cors: vec!["https://good.example".into()], ..Options::default() });
    let ask = |method: &str, origin: &str| request(server.addr(), method, "/v1/models", &[("Origin", origin)], b"");
    let good = ask("GET", "https://good.example");
    assert_eq!((good.status, good.header("access-control-allow-origin")), (200, Some("https://good.example")));
    let asked = ask("OPTIONS", "https://good.example");
    assert_eq!(asked.status, 204);
    assert!(asked.header("access-control-allow-headers").unwrap().contains("authorization"));
    for method in ["GET", "OPTIONS"] {
        let evil = ask(method, "https://evil.example");
        assert_eq!((evil.status, evil.header("access-control-allow-origin")), (403, None));
    }
    assert!(get(self::server().addr(), "/v1/models").header("access-control-allow-origin").is_none());
}

#[test]
fn every_answer_forbids_frames_and_guessing() {
    let server = server();
    for path in ["/", "/v1/models", "/nowhere", "/page/style.css", "/metrics"] {
        let reply = get(server.addr(), path);
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(reply.header("x-frame-options"), Some("DENY"), "{path}");
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}");
    }
}
