//! BERT, CLIP, BEiT-3 and ViLT on Burn, with their tokenizers.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod batch;
mod error;
pub mod tokenizer;

pub use batch::{Encoding, Padding, TextBatch, TextTokenizer};
pub use error::TextError;
