//! Token ids with explicit length, padding and truncation: what every tokenizer puts out and every encoder takes.

use std::ops::Range;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::TextError;

/// How long the rows of a batch become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// As long as the longest row.
    #[default]
    Longest,
    /// Always the limit itself (DIT: 20; one shape for every batch).
    Max,
}

/// One text as ids, special tokens included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// Ids in order, without padding.
    pub ids: Vec<u32>,
    /// Whether pieces were cut to respect the limit.
    pub truncated: bool,
}

/// What a limit leaves of a text: [`TextTokenizer::truncation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncation {
    /// Pieces that are read, special tokens not counted.
    pub kept: usize,
    /// Pieces of the whole text.
    pub pieces: usize,
    /// What is not read, from the first word that is not whole.
    pub dropped: String,
}

impl std::fmt::Display for Truncation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} tokens are read; not read: \"{}\"", self.kept, self.pieces, self.dropped)
    }
}

/// Q rows of T token ids, right-padded.
///
/// It lives on the host: encoders check ids against their tables before a device sees them, and tables that do not fit
/// on a device are gathered here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextBatch {
    ids: Vec<u32>,
    width: usize,
    lengths: Vec<usize>,
    truncated: Vec<bool>,
}

impl TextBatch {
    /// Pads `rows` with `pad_id` to the longest row, or to `max_len` with [`Padding::Max`].
    ///
    /// # Errors
    /// Without rows, with an empty row, or with a row longer than `max_len`.
    pub fn new(rows: Vec<Encoding>, pad_id: u32, max_len: usize, padding: Padding) -> Result<Self, TextError> {
        if rows.is_empty() {
            return Err(TextError::EmptyBatch { row: 0 });
        }
        if let Some(row) = rows.iter().position(|row| row.ids.is_empty()) {
            return Err(TextError::EmptyBatch { row });
        }
        let lengths: Vec<usize> = rows.iter().map(|row| row.ids.len()).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if longest > max_len {
            return Err(TextError::TooLong { len: longest, limit: max_len });
        }
        let width = match padding {
            Padding::Longest => longest,
            Padding::Max => max_len,
        };
        let mut ids = Vec::with_capacity(rows.len() * width);
        for row in &rows {
            ids.extend_from_slice(&row.ids);
            ids.resize(ids.len() + width - row.ids.len(), pad_id);
        }
        Ok(Self { ids, width, lengths, truncated: rows.into_iter().map(|row| row.truncated).collect() })
    }

    /// Rows of ids that are already padded, with the number of real tokens of each.
    ///
    /// # Errors
    /// When rows differ in length, or a length is 0 or larger than its row.
    pub fn from_padded(rows: &[Vec<u32>], lengths: &[usize]) -> Result<Self, TextError> {
        let width = rows.first().map_or(0, Vec::len);
        let fits = |(row, &length): (&Vec<u32>, &usize)| row.len() == width && (1..=width).contains(&length);
        if width == 0 || rows.len() != lengths.len() {
            return Err(TextError::EmptyBatch { row: 0 });
        }
        if let Some(row) = rows.iter().zip(lengths).position(|pair| !fits(pair)) {
            return Err(TextError::Shape {
                what: "a row of token ids",
                found: vec![rows[row].len(), lengths[row]],
                expected: format!("{width} ids of which 1 to {width} are real"),
            });
        }
        Ok(Self { ids: rows.concat(), width, lengths: lengths.to_vec(), truncated: vec![false; rows.len()] })
    }

    /// Number of rows Q.
    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens a row T, padding included.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Real tokens of each row; the rest is padding.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// For each row, whether its text was cut.
    pub fn truncated(&self) -> &[bool] {
        &self.truncated
    }

    /// All ids, row-major.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The ids of one row, padding included.
    ///
    /// # Panics
    /// When `row` is not below [`Self::rows`].
    pub fn row(&self, row: usize) -> &[u32] {
        &self.ids[row * self.width..(row + 1) * self.width]
    }

    /// Fails on the first id that is not below `rows`.
    pub fn check_ids(&self, rows: usize) -> Result<(), TextError> {
        match self.ids.iter().position(|&id| id as usize >= rows) {
            None => Ok(()),
            Some(at) => Err(TextError::IdOutOfRange { id: self.ids[at], row: at / self.width, place: at % self.width, rows }),
        }
    }

    /// Ids on a device.
    ///
    /// # Shapes
    /// [Q, T]
    pub fn ids_tensor(&self, device: &Device) -> Tensor<2, Int> {
        let ids: Vec<i32> = self.ids.iter().map(|&id| id as i32).collect();
        Tensor::from_data(TensorData::new(ids, [self.rows(), self.width]), device)
    }

    /// `true` where a token is real.
    ///
    /// # Shapes
    /// [Q, T]
    pub fn mask_tensor(&self, device: &Device) -> Tensor<2, Bool> {
        self.places(device, |place, length| place < length)
    }

    /// `true` where a token is padding.
    ///
    /// # Shapes
    /// [Q, T]
    pub fn padding_tensor(&self, device: &Device) -> Tensor<2, Bool> {
        self.places(device, |place, length| place >= length)
    }

    /// Whether any row holds padding.
    pub fn is_padded(&self) -> bool {
        self.lengths.iter().any(|&length| length < self.width)
    }

    fn places(&self, device: &Device, at: impl Fn(usize, usize) -> bool) -> Tensor<2, Bool> {
        let values: Vec<bool> = self
            .lengths
            .iter()
            .flat_map(|&length| (0..self.width).map(move |place| (place, length)))
            .map(|(p, l)| at(p, l))
            .collect();
        Tensor::from_data(TensorData::new(values, [self.rows(), self.width]), device)
    }
}

/// A sentence in, token ids out.
pub trait TextTokenizer: Send + Sync {
    /// One more than the largest id this tokenizer can put out. It must not exceed the rows of an encoder's table.
    fn vocab_size(&self) -> usize;

    /// The id that fills a row.
    fn pad_id(&self) -> u32;

    /// Whether texts such as `[semantic]` may have been made tokens beside the vocabulary's pieces.
    fn may_have_added_tokens(&self) -> bool {
        false
    }

    /// Special tokens around a text; a limit must be larger.
    fn special_tokens(&self) -> usize {
        2
    }

    /// The pieces of a text, without the special tokens around it.
    ///
    /// # Errors
    /// When the underlying library fails. A text without pieces gives an empty list.
    fn pieces(&self, text: &str) -> Result<Vec<u32>, TextError>;

    /// Puts the special tokens around pieces.
    fn wrap(&self, pieces: &[u32]) -> Vec<u32>;

    /// The words of a text, cut at spaces, each with the places of its tokens in what [`Self::encode`] puts out. Words
    /// beyond `max_len`, and those without a piece, are left out.
    ///
    /// # Errors
    /// As [`Self::encode`].
    fn words(&self, text: &str, max_len: usize) -> Result<Vec<(String, Range<usize>)>, TextError> {
        let encoding = self.encode(text, max_len)?;
        let pieces = self.pieces(text)?;
        // Special tokens in front of the first piece.
        let mut at = self.wrap(&pieces).windows(pieces.len()).position(|w| w == pieces).unwrap_or(0);
        let end = at + pieces.len().min(encoding.ids.len().saturating_sub(self.special_tokens()));
        let mut words = Vec::new();
        for word in text.split_whitespace() {
            let from = at;
            at += self.pieces(word)?.len();
            if from < at && at <= end {
                words.push((word.to_owned(), from..at));
            }
        }
        Ok(words)
    }

    /// What is lost of a text under the limit of [`Self::encode`]; nothing if all of it is read.
    ///
    /// # Errors
    /// As [`Self::pieces`].
    fn truncation(&self, text: &str, max_len: usize) -> Result<Option<Truncation>, TextError> {
        let room = max_len.saturating_sub(self.special_tokens());
        let pieces = self.pieces(text)?.len();
        if pieces <= room {
            return Ok(None);
        }
        let (mut read, mut dropped) = (0, "");
        let words = text.split_whitespace().map(|word| (word, word.as_ptr().addr() - text.as_ptr().addr()));
        for (word, at) in words {
            read += self.pieces(word)?.len();
            if read > room {
                dropped = text[at..].trim_end();
                break;
            }
        }
        Ok(Some(Truncation { kept: room, pieces, dropped: dropped.to_owned() }))
    }

    /// One text, cut to `max_len` ids in all; [`Encoding::truncated`] says whether anything was lost.
    ///
    /// # Errors
    /// On an empty text, or when `max_len` leaves no place for a word.
    fn encode(&self, text: &str, max_len: usize) -> Result<Encoding, TextError> {
        let room = max_len.saturating_sub(self.special_tokens());
        if room == 0 {
            return Err(TextError::LimitTooSmall { max_len, least: self.special_tokens() + 1 });
        }
        let pieces = self.pieces(text)?;
        if pieces.is_empty() {
            return Err(TextError::EmptyText { index: 0, text: text.to_owned() });
        }
        Ok(Encoding { ids: self.wrap(&pieces[..pieces.len().min(room)]), truncated: pieces.len() > room })
    }

    /// Several texts as one padded batch.
    ///
    /// # Errors
    /// As [`Self::encode`]; the error names the text.
    fn encode_batch(&self, texts: &[&str], max_len: usize, padding: Padding) -> Result<TextBatch, TextError> {
        let mut rows = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            rows.push(self.encode(text, max_len).map_err(|error| match error {
                TextError::EmptyText { text, .. } => TextError::EmptyText { index, text },
                other => other,
            })?);
        }
        TextBatch::new(rows, self.pad_id(), max_len, padding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ids: &[u32]) -> Encoding {
        Encoding { ids: ids.to_vec(), truncated: false }
    }

    #[test]
    fn pads_to_the_longest_or_to_the_limit() {
        let rows = vec![row(&[7, 8, 9]), row(&[5])];
        let batch = TextBatch::new(rows.clone(), 1, 6, Padding::Longest).unwrap();
        assert_eq!((batch.rows(), batch.width(), batch.ids()), (2, 3, &[7, 8, 9, 5, 1, 1][..]));
        let batch = TextBatch::new(rows, 0, 5, Padding::Max).unwrap();
        assert_eq!((batch.width(), batch.row(1), batch.lengths()), (5, &[5, 0, 0, 0, 0][..], &[3, 1][..]));
    }

    #[test]
    fn tensors_carry_ids_and_both_masks() {
        let device = Device::flex();
        let batch = TextBatch::new(vec![row(&[7, 8]), row(&[5])], 3, 6, Padding::Longest).unwrap();
        let ids = batch.ids_tensor(&device).into_data().iter::<i64>().collect::<Vec<_>>();
        assert_eq!(ids, [7, 8, 5, 3]);
        let real = batch.mask_tensor(&device).into_data().iter::<bool>().collect::<Vec<_>>();
        assert_eq!(real, [true, true, true, false]);
        let padding = batch.padding_tensor(&device).into_data().iter::<bool>().collect::<Vec<_>>();
        assert_eq!(padding, [false, false, false, true]);
    }

    #[test]
    fn refuses_what_no_encoder_can_take() {
        assert!(matches!(TextBatch::new(vec![], 0, 4, Padding::Max), Err(TextError::EmptyBatch { .. })));
        assert!(matches!(TextBatch::new(vec![row(&[1]), row(&[])], 0, 4, Padding::Max), Err(TextError::EmptyBatch { row: 1 })));
        assert!(matches!(TextBatch::new(vec![row(&[1, 2])], 0, 1, Padding::Max), Err(TextError::TooLong { len: 2, limit: 1 })));
        assert!(TextBatch::from_padded(&[vec![1, 2], vec![1]], &[2, 1]).is_err());
        assert!(TextBatch::from_padded(&[vec![1, 2]], &[3]).is_err());
        let batch = TextBatch::new(vec![row(&[1, 2]), row(&[3, 9])], 0, 4, Padding::Longest).unwrap();
        assert!(matches!(batch.check_ids(9), Err(TextError::IdOutOfRange { id: 9, row: 1, place: 1, rows: 9 })));
        assert!(batch.check_ids(10).is_ok());
    }
}
