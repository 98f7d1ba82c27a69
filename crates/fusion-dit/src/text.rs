//! `TextTower`: the text encoder, BERT or CLIP.

use burn::module::Module;
use burn::tensor::Device;
use nn_ops::weights::KeyMap;
use text_encoders::bert::Bert;
use text_encoders::clip::ClipText;
use text_encoders::{TextBatch, TextEncoder, TextError, TextFeatures};

use crate::config::{DitConfig, TextKind};

/// The text encoder (Tab. 5).
#[derive(Module, Debug)]
pub enum TextTower {
    /// BERT.
    Bert(Bert),
    /// CLIP's text tower.
    Clip(ClipText),
}

impl TextTower {
    pub(crate) fn new(config: &DitConfig, device: &Device) -> Self {
        match config.text_encoder {
            TextKind::Bert => Self::Bert(config.bert.init(device)),
            TextKind::Clip => Self::Clip(config.clip.init(device)),
        }
    }

    /// From module paths below `lang_encoder` to names of the Hugging Face files, with `lang_encoder.bert.` or
    /// `lang_encoder.clip.` in front.
    pub(crate) fn names(kind: TextKind) -> KeyMap {
        match kind {
            TextKind::Bert => Bert::names().then(&[("^lang_encoder.Bert.", "lang_encoder.bert.")]),
            TextKind::Clip => ClipText::names().then(&[("^lang_encoder.Clip.", "lang_encoder.clip.")]),
        }
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
