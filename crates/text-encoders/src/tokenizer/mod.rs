//! Tokenizers: a vocabulary file in, ids out. Ids equal those of the reference libraries.

mod merges;
mod wordpiece;

pub use wordpiece::WordPiece;
