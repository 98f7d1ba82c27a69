//! The text encoder, of either kind.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use nn_ops::weights::KeyMap;
use text_encoders::bert::Bert;
use text_encoders::clip::ClipText;
use text_encoders::{Encoding, Padding, TextBatch, TextEncoder, TextError, TextFeatures, TextTokenizer};

use crate::config::{DitConfig, TextKind};
use crate::error::DitError;

/// What reads the sentence (Tab. 5).
#[derive(Module, Debug)]
pub enum TextTower {
    /// BERT.
    Bert(Bert),
    /// CLIP's text tower.
    Clip(ClipText),
}

impl TextTower {
    pub(crate) fn new(config: &DitConfig, device: &Device) -> Result<Self, DitError> {
        let (width, positions) = config.text_sizes();
        if width != config.text_dim {
            let what = format!("text_dim {} differs from the text encoder's width {width}", config.text_dim);
            return Err(DitError::Config(what));
        }
        if config.text_tokens > positions {
            let what = format!("text_tokens {} exceeds the text encoder's {positions} positions", config.text_tokens);
            return Err(DitError::Config(what));
        }
        Ok(match config.text_encoder {
            TextKind::Bert => {
                config.bert.validate()?;
                Self::Bert(config.bert.init(device))
            }
            TextKind::Clip => {
                config.clip.validate()?;
                Self::Clip(config.clip.init(device))
            }
        })
    }

    /// From module paths below `lang_encoder` to names of the Hugging Face files, with `lang_encoder.bert.` or
    /// `lang_encoder.clip.` in front.
    pub(crate) fn names(kind: TextKind) -> KeyMap {
        match kind {
            TextKind::Bert => Bert::names().then(&[("^lang_encoder.Bert.", "lang_encoder.bert.")]),
            TextKind::Clip => ClipText::names().then(&[("^lang_encoder.Clip.", "lang_encoder.clip.")]),
        }
    }

    /// Features of sentences, padding included.
    ///
    /// # Shapes
    /// output: [B, `length`, C]
    ///
    /// # Errors
    /// A sentence without words, or a tokenizer that does not fit.
    pub fn read(&self, tokenizer: &dyn TextTokenizer, sentences: &[&str], length: usize) -> Result<Tensor<3>, TextError> {
        Ok(self.encode(&tokenizer.encode_batch(sentences, length, Padding::Max)?)?.tokens)
    }

    /// Features of `count` empty sentences: start, end and padding.
    ///
    /// # Shapes
    /// output: [`count`, `length`, C]
    ///
    /// # Errors
    /// A length without room, or a tokenizer that does not fit.
    pub fn read_nothing(&self, tokenizer: &dyn TextTokenizer, count: usize, length: usize) -> Result<Tensor<3>, TextError> {
        let empty = Encoding { ids: tokenizer.wrap(&[]), truncated: false };
        let batch = TextBatch::new(vec![empty; count], tokenizer.pad_id(), length, Padding::Max)?;
        Ok(self.encode(&batch)?.tokens)
    }
}

impl TextEncoder for TextTower {
    fn vocab_size(&self) -> usize {
        match self {
            Self::Bert(bert) => bert.vocab_size(),
            Self::Clip(clip) => clip.vocab_size(),
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::Bert(bert) => bert.width(),
            Self::Clip(clip) => clip.width(),
        }
    }

    fn max_len(&self) -> usize {
        match self {
            Self::Bert(bert) => bert.max_len(),
            Self::Clip(clip) => clip.max_len(),
        }
    }

    fn encode(&self, batch: &TextBatch) -> Result<TextFeatures, TextError> {
        match self {
            Self::Bert(bert) => bert.encode(batch),
            Self::Clip(clip) => clip.encode(batch),
        }
    }
}
