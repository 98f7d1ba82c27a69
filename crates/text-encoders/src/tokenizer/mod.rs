//! Tokenizers: a vocabulary file in, ids out. Ids equal those of the reference libraries.

mod beit3;
mod clean;
mod clip;
mod kind;
mod merges;
mod spm;
mod wordpiece;

pub use beit3::Beit3Tokenizer;
pub use clip::{ClipCleaning, ClipTokenizer};
pub use kind::TokenizerKind;
pub use wordpiece::{NewWords, WordPiece};
