//! The description of the API names every address that there is, and no other.

use std::collections::BTreeSet;

use serde_json::Value;
use test_support::http::request;

use crate::common::*;

#[test]
fn every_address_is_described_and_answers() {
    let description: Value = serde_json::from_str(serve::OPENAPI).unwrap();
    let server = server();
    for (path, methods) in description["paths"].as_object().unwrap() {
        let address = path.replace("{id}", &"0".repeat(64)).replace("{name}", "toy");
        for method in ["get", "post", "delete"] {
            let status =
                request(server.addr(), &method.to_uppercase(), &address, &[("Content-Type", "application/json")], b"{}").status;
            let described = methods.get(method).is_some();
            assert_eq!(status != 405, described, "{method} {path}: {status}");
        }
    }
    let routes = include_str!("../../src/app.rs");
    let routed: BTreeSet<&str> = routes.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    // The page is no part of the API, and one address has a slash more.
    let described: BTreeSet<&str> = description["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let missing: Vec<_> =
        routed.difference(&described).filter(|r| !["/", "/page/{file}", "/label-studio/"].contains(r)).collect();
    assert!(missing.is_empty() && described.is_subset(&routed), "{missing:?}");
}

/// Each reference leads somewhere, and the limits are those of the code.
#[test]
fn references_and_limits_hold() {
    let description: Value = serde_json::from_str(serve::OPENAPI).unwrap();
    for reference in serve::OPENAPI.split("\"$ref\": \"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(description.pointer(reference).is_some(), "{reference}");
    }
    let limits = serve::Limits::default();
    let asked = &description["components"]["schemas"]["SegmentRequest"]["properties"];
    assert_eq!(asked["questions"]["maxItems"].as_u64(), Some(limits.questions as u64));
    assert_eq!(asked["points"]["maxItems"].as_u64(), Some(limits.points as u64));
    assert_eq!(asked["sentences"]["items"]["maxLength"].as_u64(), Some(limits.sentence_chars as u64));
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
}
