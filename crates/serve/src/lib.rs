//! A page, an HTTP API, KServe v2 and a Label Studio backend for text-prompted Segment Anything models.
//!
//! Use it to put a model behind an address: `saymask serve` is this crate with the command line's options. One thread owns the
//! model; requests wait for it in a bounded queue, encoded images are kept within a bound of bytes, and every refusal is JSON with
//! a sentence. It fetches nothing, writes nothing to the disk and prints nothing.
//!
//! ```no_run
//! use std::net::TcpListener;
//!
//! use burn::tensor::Device;
//! use models::Source;
//! use serve::{Options, Server, TextEngine};
//!
//! let found = Source::Weights { weights: "hf:YxZhang/evf-sam".into(), config: None }.find::<&str>(&[])?;
//! let engine = TextEngine::new(found.model(&Device::flex())?, "evf-sam", &found.label);
//! let server = Server::start(TcpListener::bind("127.0.0.1:8000")?, engine, Options::default())?;
//! // curl -F image=@photo.jpg -F sentence="the zebra on the left" http://127.0.0.1:8000/v1/segment
//! server.stop()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is where
//! | for | see |
//! |---|---|
//! | starting and stopping | [`Server`], [`run`], [`Options`], [`Limits`] |
//! | the model behind it | [`Engine`], [`TextEngine`], [`SamEngine`] |
//! | the queue and the kept images, without HTTP | [`service`], [`kept`] |
//! | the API's description | [`OPENAPI`] |
//! | Label Studio's masks | [`label_studio::brush`] |
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod app;
mod body;
pub mod engine;
pub mod format;
mod guard;
pub mod kept;
mod kserve;
pub mod label_studio;
mod media;
pub mod metrics;
mod options;
mod page;
pub mod polygons;
mod refusal;
pub mod request;
mod sam_engine;
mod server;
pub mod service;
mod v1;

pub use app::OPENAPI;
pub use engine::{Engine, ModelInfo, TextEngine};
pub use options::{Limits, Options};
pub use refusal::Refusal;
pub use sam_engine::{Promptable, SamEngine};
pub use server::{ServeError, Server, run};
