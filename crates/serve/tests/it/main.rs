//! A server on a free port, asked as clients ask.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod api;
mod bad_input;
mod common;
mod kserve;
mod label_studio;
mod openapi;
mod queue;
mod security;
