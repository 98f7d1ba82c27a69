//! The `TextEncoder` trait: token ids and a mask in, token features and a mask out.

use burn::tensor::{Bool, Tensor};

use crate::{TextBatch, TextError, TextTokenizer};

/// What an encoder makes of a batch.
#[derive(Debug, Clone)]
pub struct TextFeatures {
    /// One vector per token, padding included, [Q, T, C].
    pub tokens: Tensor<3>,
    /// `true` where a token is real, [Q, T].
    pub mask: Tensor<2, Bool>,
    /// One vector per text, [Q, P]; each encoder says which.
    pub pooled: Tensor<2>,
}

/// A text encoder with frozen sizes.
///
/// Features of real tokens and the pooled vector do not depend on how much padding follows.
pub trait TextEncoder {
    /// Rows of the embedding table: ids must be below.
    fn vocab_size(&self) -> usize;

    /// Width C of a token feature.
    fn width(&self) -> usize;

    /// Width P of the pooled vector.
    fn pooled_width(&self) -> usize {
        self.width()
    }

    /// Longest sequence, special tokens included.
    fn max_len(&self) -> usize;

    /// Encodes a batch.
    ///
    /// # Shapes
    /// [Q, T] -> tokens [Q, T, C], mask [Q, T], pooled [Q, P]
    ///
    /// # Errors
    /// When an id has no row in the table, or T exceeds [`Self::max_len`].
    fn encode(&self, batch: &TextBatch) -> Result<TextFeatures, TextError>;

    /// Fails if `tokenizer` can put out ids that the table lacks.
    fn check_tokenizer(&self, tokenizer: &dyn TextTokenizer) -> Result<(), TextError> {
        let (tokenizer, table) = (tokenizer.vocab_size(), self.vocab_size());
        if tokenizer > table { Err(TextError::Mismatch { tokenizer, table }) } else { Ok(()) }
    }
}

/// Fails if a batch is wider than `limit`.
pub(crate) fn check_width(batch: &TextBatch, limit: usize) -> Result<(), TextError> {
    if batch.width() > limit { Err(TextError::TooLong { len: batch.width(), limit }) } else { Ok(()) }
}
