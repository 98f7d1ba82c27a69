//! BERT, CLIP, BEiT-3 and ViLT on Burn, with their tokenizers.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod batch;
pub mod beit3;
pub mod bert;
pub mod check;
pub mod clip;
mod encoder;
mod error;
mod layers;
pub mod table;
pub mod tokenizer;
pub mod vilt;

pub use batch::{Encoding, Padding, TextBatch, TextTokenizer};
pub use encoder::{TextEncoder, TextFeatures};
pub use error::TextError;
