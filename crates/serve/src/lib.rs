//! A page, an HTTP API, KServe v2 and a Label Studio backend for text-prompted Segment Anything models.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod engine;
pub mod format;
pub mod kept;
pub mod metrics;
pub mod options;
pub mod polygons;
pub mod refusal;
pub mod request;
pub mod sam_engine;
pub mod service;
